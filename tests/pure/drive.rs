//! Drives the real planner and scheduler against the model, one choice after the other.

// Each user needs another part of it.
#![allow(dead_code)]

use std::path::Path;

use quorate::action::{ActionId, Operation};
use quorate::desired::{self, Desired};
use quorate::plan::{self, Goal, Intent, Plan};
use quorate::schedule::{Command, Event, Scheduler};
use time::OffsetDateTime;

use crate::world::World;

pub fn desired(nodes: usize) -> Desired {
    desired_at("3.5.16", nodes)
}

/// A file for a release and that many nodes.
pub fn desired_at(release: &str, nodes: usize) -> Desired {
    let mut text = format!(
        "schema = 1\n[cluster]\nname = \"demo\"\ntoken = \"demo\"\n[etcd]\nversion = \"{release}\"\n[etcd.install]\nmethod = \"archive\"\narchive = \"etcd.tar.gz\"\n",
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
        world.desired(),
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
pub fn run(world: &mut World, plan: &Plan, choose: Choose<'_>, budget: usize) -> bool {
    run_with(world, plan, choose, budget, &|_| None)
}

/// The same, with what is told of the units that actions wait for.
pub fn run_with(
    world: &mut World,
    plan: &Plan,
    choose: Choose<'_>,
    mut budget: usize,
    hopeless: &dyn Fn(&ActionId) -> Option<String>,
) -> bool {
    let mut scheduler = Scheduler::new(&plan.actions, 32);
    let mut commands = scheduler.on(Event::Started { at: 0 });
    let mut running: Vec<(ActionId, Vec<Operation>)> = Vec::new();
    let mut looks: Vec<ActionId> = Vec::new();
    for at in (1..10_000).map(|look| look * 1_000) {
        for command in commands.drain(..) {
            match command {
                Command::Finish => return scheduler.report().is_complete(),
                Command::Run(id) => {
                    let action = plan
                        .actions
                        .iter()
                        .find(|action| action.id == id)
                        .expect("a planned action");
                    let mut operations = world.operations_now(action);
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
                .unwrap_or_default();
            if let Err(why) = world.perform(&node, &operation) {
                panic!("{id}: {operation:?}: {why}");
            }
        } else {
            let id = looks.remove(choice - running.len());
            let hopeless = hopeless(&id);
            commands = scheduler.on(Event::Looked {
                at,
                id,
                view: world.view(),
                hopeless,
            });
        }
    }
    panic!("no end: {:?}", scheduler.report());
}
