//! The real planner and scheduler against the model of hosts: every interleaving that chance finds, and a crash of the
//! operator after every single operation.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use quorate::action::{ActionId, Operation};
use quorate::desired::{self, Desired};
use quorate::observed::marker;
use quorate::plan::{self, Goal, Intent, Plan};
use quorate::schedule::{Command, Event, Scheduler};
use time::OffsetDateTime;

use crate::world::World;

pub fn desired(nodes: usize) -> Desired {
    let mut text = String::from(
        "schema = 1\n[cluster]\nname = \"demo\"\ntoken = \"demo\"\n[etcd]\nversion = \"3.5.16\"\n[etcd.install]\nmethod = \"archive\"\narchive = \"etcd.tar.gz\"\n",
    );
    for number in 1..=nodes {
        text.push_str(&format!(
            "[[node]]\nname = \"etcd-{number}\"\nip = \"10.0.0.{number}\"\n"
        ));
    }
    desired::parse(&text, "cluster.toml", Path::new("/"), None)
        .expect("a valid file")
        .0
}

pub fn plan_for(world: &World, goal: Goal, nonce: &str) -> Plan {
    let intent = Intent {
        goal,
        nonce: nonce.into(),
    };
    plan::plan(
        &world.desired,
        &world.observe(),
        &intent,
        OffsetDateTime::UNIX_EPOCH,
    )
}

pub const CONVERGE: Goal = Goal::Converge {
    allow_downtime: false,
    replace: vec![],
};

/// Chooses the next of several.
pub type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

/// Runs a plan; stops dead after `budget` operations. Returns whether it came to its end.
pub fn run(world: &mut World, plan: &Plan, choose: Choose<'_>, mut budget: usize) -> bool {
    let mut scheduler = Scheduler::new(&plan.actions, 32);
    let mut commands = scheduler.on(Event::Started { at: 0 });
    let mut running: Vec<(ActionId, Vec<Operation>)> = Vec::new();
    let mut looks: Vec<ActionId> = Vec::new();
    for at in 1..10_000 {
        for command in commands.drain(..) {
            match command {
                Command::Finish => return scheduler.report().is_complete(),
                Command::Run(id) => {
                    let action = plan
                        .actions
                        .iter()
                        .find(|action| action.id == id)
                        .expect("a planned action");
                    let mut operations = if action.node.is_some() {
                        World::operations(action)
                    } else {
                        vec![]
                    };
                    operations.reverse();
                    running.push((id, operations));
                }
                Command::Undo(id) => panic!("{id} is taken back"),
                Command::Look(id, _) => looks.push(id),
                Command::Waiting(..) => {}
            }
        }
        let choices = running.len() + looks.len();
        assert!(
            choices > 0,
            "the scheduler waits for nothing: {:?}",
            scheduler.report()
        );
        let choice = choose(choices) % choices;
        if choice < running.len() {
            let (id, operations) = &mut running[choice];
            let Some(operation) = operations.pop() else {
                let (id, _) = running.remove(choice);
                commands = scheduler.on(Event::Ran {
                    at,
                    id,
                    result: Ok(()),
                });
                continue;
            };
            if budget == 0 {
                return false;
            }
            budget -= 1;
            let node = plan
                .actions
                .iter()
                .find(|action| action.id == *id)
                .and_then(|action| action.node.clone())
                .expect("a node");
            if let Err(why) = world.perform(&node, &operation) {
                panic!("{id}: {operation:?}: {why}");
            }
        } else {
            let id = looks.remove(choice - running.len());
            commands = scheduler.on(Event::Looked {
                at,
                id,
                view: world.view(),
                hopeless: None,
            });
        }
    }
    panic!("no end: {:?}", scheduler.report());
}

fn assert_converged(world: &World) {
    let plan = plan_for(world, CONVERGE, "later");
    assert!(
        plan.is_empty(),
        "not empty: {:?}",
        plan.actions
            .iter()
            .map(|action| &action.id.0)
            .collect::<Vec<_>>()
    );
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    let clusters: BTreeSet<_> = world
        .hosts
        .keys()
        .map(|host| world.etcd.member_on(host).expect("data").0)
        .collect();
    assert_eq!(clusters.len(), 1, "one cluster");
    for (name, host) in &world.hosts {
        assert!(world.is_running(name) && host.enabled, "{name} runs");
        let bootstraps = host
            .starts
            .iter()
            .filter(|start| **start == "bootstrap")
            .count();
        assert_eq!(bootstraps, 1, "{name} starts empty once");
        assert!(
            host.files
                .iter()
                .all(|(path, entry)| entry.text.is_none() || !path.starts_with("/run/")),
            "{name} keeps no drop-in"
        );
    }
}

fn in_order() -> impl FnMut(usize) -> usize {
    |_| 0
}

#[test]
fn a_bootstrap_converges_and_a_second_plan_is_empty() {
    for nodes in [1, 3, 5] {
        let mut world = World::new(desired(nodes));
        let plan = plan_for(&world, CONVERGE, "n0");
        assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
        assert!(run(&mut world, &plan, &mut in_order(), usize::MAX));
        assert_converged(&world);
    }
}

#[test]
fn an_operator_may_die_after_every_operation_of_a_bootstrap() {
    let mut cuts = 0;
    for cut in 0.. {
        let mut world = World::new(desired(3));
        let plan = plan_for(&world, CONVERGE, "n0");
        let complete = run(&mut world, &plan, &mut in_order(), cut);
        let again = plan_for(&world, CONVERGE, "n1");
        assert!(
            again.blocked.is_empty(),
            "after {cut} operations: {:?}",
            again.blocked
        );
        assert!(
            run(&mut world, &again, &mut in_order(), usize::MAX),
            "after {cut} operations"
        );
        assert_converged(&world);
        if complete {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 60, "only {cuts} operations were cut");
}

#[test]
fn an_operator_may_die_after_every_operation_of_a_destroy() {
    for cut in 0.. {
        let mut world = World::new(desired(3));
        let plan = plan_for(&world, CONVERGE, "n0");
        assert!(run(&mut world, &plan, &mut in_order(), usize::MAX));
        let before = world.etcd.member_on("etcd-1");
        let destroy = Goal::Destroy { purge_data: false };
        let plan = plan_for(&world, destroy.clone(), "n1");
        let complete = run(&mut world, &plan, &mut in_order(), cut);
        let again = plan_for(&world, destroy.clone(), "n2");
        assert!(
            run(&mut world, &again, &mut in_order(), usize::MAX),
            "after {cut} operations"
        );
        for (name, host) in &world.hosts {
            assert!(
                !world.is_running(name) && world.etcd.member_on(name).is_none() && !host.user,
                "{name} is clean"
            );
            // Whoever dies between the removal of the marker and of its directory leaves that empty.
            let empty = |path: &String| path.starts_with("/run") || path == marker::DIR;
            let left: Vec<_> = host.files.keys().filter(|path| !empty(path)).collect();
            assert!(left.is_empty(), "{name} keeps {left:?}");
        }
        // The hosts can be used again, and the new cluster is another one.
        let plan = plan_for(&world, CONVERGE, "n3");
        for host in world.hosts.values_mut() {
            host.starts.clear();
        }
        assert!(run(&mut world, &plan, &mut in_order(), usize::MAX));
        assert_converged(&world);
        assert_ne!(before, world.etcd.member_on("etcd-1"));
        if complete {
            break;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any interleaving, several crashes of the operator, and a host that reboots in between.
    #[test]
    fn chance_finds_no_way_to_a_wrong_cluster(
        choices in proptest::collection::vec(0usize..1000, 400),
        cuts in proptest::collection::vec(0usize..120, 0..4),
        reboots in proptest::collection::vec(0usize..3, 0..3),
    ) {
        let mut world = World::new(desired(3));
        let mut at = 0;
        let mut choose = |count: usize| { at += 1; choices[at % choices.len()] % count.max(1) };
        for (round, cut) in cuts.iter().enumerate() {
            let plan = plan_for(&world, CONVERGE, &format!("n{round}"));
            prop_assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
            run(&mut world, &plan, &mut choose, *cut);
            if let Some(host) = reboots.get(round) {
                world.reboot(&format!("etcd-{}", host + 1));
            }
        }
        let plan = plan_for(&world, CONVERGE, "last");
        prop_assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
        prop_assert!(run(&mut world, &plan, &mut choose, usize::MAX));
        assert_converged(&world);
    }
}
