//! A rolling change: one member at a time, followers first, what fails is put back and stops the rest.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate::action::{ActionId, ActionKind};
use quorate::observed::HostState;
use quorate::plan::{Goal, Plan};
use quorate::schedule::{Command, Event, GATE_DEADLINE_MS, Outcome, Scheduler};

use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::world::World;

/// A living cluster whose file asks for another setting now.
pub fn changed(nodes: usize) -> World {
    let mut world = World::new(desired(nodes));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    for node in &mut world.desired_mut().nodes {
        node.settings.insert("snapshot-count".into(), "5000".into());
    }
    world
}

fn restarts(plan: &Plan) -> usize {
    plan.actions
        .iter()
        .filter(|action| matches!(action.kind, ActionKind::Restart(_)))
        .count()
}

#[test]
fn every_member_restarts_once_and_the_leader_last() {
    let mut world = changed(3);
    let plan = plan_for(&world, CONVERGE, "n1");
    assert_eq!(restarts(&plan), 3);
    let leader = world.view().leader().expect("a leader");
    let mut scheduler = Scheduler::new(&plan.actions, 32);
    let mut commands = scheduler.on(Event::Started { at: 0 });
    let mut order = Vec::new();
    let mut at = 0;
    while let Some(command) = (!commands.is_empty()).then(|| commands.remove(0)) {
        at += 1;
        match command {
            Command::Finish => break,
            Command::Look(id, _) => commands.extend(scheduler.on(Event::Looked {
                at,
                id,
                view: world.view(),
                hopeless: None,
            })),
            Command::Run(id) => {
                let action = plan
                    .actions
                    .iter()
                    .find(|action| action.id == id)
                    .expect("planned");
                if let ActionKind::Restart(restart) = &action.kind {
                    order.push(restart.member);
                }
                for operation in World::operations(action) {
                    let node = action.node.clone().expect("a node");
                    world.perform(&node, &operation).expect("it works");
                }
                commands.extend(scheduler.on(Event::Ran {
                    at,
                    id,
                    result: Ok(()),
                }));
            }
            Command::Undo(_) | Command::Waiting(..) => {}
        }
    }
    assert_eq!(order.len(), 3);
    assert_eq!(order.last(), Some(&leader));
    assert!(plan_for(&world, CONVERGE, "n2").is_empty());
}

/// Hosts that get binaries at the same time, at most.
fn installs_at_once(plan: &Plan) -> usize {
    let mut scheduler = Scheduler::new(&plan.actions, 32);
    let mut commands = scheduler.on(Event::Started { at: 0 });
    let mut under_way = std::collections::BTreeSet::new();
    let mut most = 0;
    loop {
        let running = commands.drain(..).filter_map(|command| match command {
            Command::Run(id) => Some(id),
            _ => None,
        });
        under_way.extend(running);
        let is_install = |id: &&ActionId| id.0.ends_with(".install");
        most = most.max(under_way.iter().filter(is_install).count());
        // Everything that can begin has begun before an installation ends.
        let others = |id: &&ActionId| !is_install(id);
        let next = under_way.iter().find(others).or(under_way.first());
        let Some(id) = next.cloned() else {
            return most;
        };
        under_way.remove(&id);
        let (at, result) = (0, Ok(()));
        commands = scheduler.on(Event::Ran { at, id, result });
    }
}

#[test]
fn one_host_at_a_time_gets_binaries_beside_members_that_serve() {
    let mut world = World::new(desired(5));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert_eq!(
        installs_at_once(&plan),
        5,
        "nobody serves before a bootstrap"
    );
    world.name_first(3);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world.name_first(5);
    let plan = plan_for(&world, CONVERGE, "n1");
    let installs = plan.actions.iter();
    let installs = installs.filter(|action| matches!(action.kind, ActionKind::Install(_)));
    assert_eq!(installs.count(), 2);
    assert_eq!(installs_at_once(&plan), 1);
}

#[test]
fn a_member_that_does_not_come_back_is_put_back_and_stops_the_roll() {
    let world = changed(3);
    let plan = plan_for(&world, CONVERGE, "n1");
    let mut scheduler = Scheduler::new(&plan.actions, 32);
    let mut commands = scheduler.on(Event::Started { at: 0 });
    let mut down: Option<ActionId> = None;
    let mut undone = Vec::new();
    let mut at = 0;
    while let Some(command) = (!commands.is_empty()).then(|| commands.remove(0)) {
        at += 1000;
        match command {
            Command::Finish => break,
            Command::Look(id, _) => {
                let mut view = world.view();
                if let Some(action) = down
                    .as_ref()
                    .and_then(|id| plan.actions.iter().find(|action| action.id == *id))
                {
                    let node = action.node.as_deref();
                    view.statuses
                        .retain(|_, (asked, _)| Some(asked.as_str()) != node);
                }
                commands.extend(scheduler.on(Event::Looked {
                    at,
                    id,
                    view,
                    hopeless: None,
                }));
            }
            Command::Run(id) => {
                if id.0.ends_with(".restart") {
                    down = Some(id.clone());
                }
                commands.extend(scheduler.on(Event::Ran {
                    at,
                    id,
                    result: Ok(()),
                }));
            }
            Command::Undo(id) => {
                undone.push(id.clone());
                down = None;
                commands.extend(scheduler.on(Event::Ran {
                    at,
                    id,
                    result: Ok(()),
                }));
            }
            Command::Waiting(..) => {}
        }
    }
    assert!(at > GATE_DEADLINE_MS, "it waited");
    assert_eq!(undone.len(), 1, "only the one that failed is put back");
    let report = scheduler.report();
    let restarts: BTreeMap<_, _> = report
        .outcomes
        .iter()
        .filter(|(id, _)| id.0.ends_with(".restart"))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(id, outcome)| (id, outcome))
        .collect();
    assert_eq!(
        restarts
            .values()
            .filter(|outcome| matches!(outcome, Outcome::Undone(_)))
            .count(),
        1
    );
    assert_eq!(
        restarts
            .values()
            .filter(|outcome| matches!(outcome, Outcome::NotStarted(_)))
            .count(),
        2
    );
}

#[test]
fn with_one_of_three_down_nothing_is_restarted() {
    let mut world = changed(3);
    world.kill("etcd-3");
    world.cut_off("etcd-3");
    let plan = plan_for(&world, CONVERGE, "n1");
    assert_eq!(restarts(&plan), 0);
    assert_eq!(
        plan.blocked
            .iter()
            .filter(|blocked| blocked.reason.contains("cannot be restarted"))
            .count(),
        2,
        "{:?}",
        plan.blocked
    );
}

#[test]
fn a_member_that_is_only_down_is_started_before_others_restart() {
    let mut world = changed(3);
    world.kill("etcd-3");
    let plan = plan_for(&world, CONVERGE, "n1");
    assert_eq!(restarts(&plan), 2, "{:?}", plan.blocked);
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    assert!(plan_for(&world, CONVERGE, "n2").is_empty());
}

#[test]
fn a_single_member_is_restarted_only_when_the_operator_accepts_it() {
    let mut world = changed(1);
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(plan.is_empty() && plan.blocked.len() == 1);
    assert!(plan.blocked[0].remedy.contains("--allow-downtime"));
    let plan = plan_for(
        &world,
        Goal::Converge {
            allow_downtime: true,
            replace: vec![],
        },
        "n1",
    );
    assert_eq!(restarts(&plan), 1);
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
}

/// What is not safe is waited for, then refused: nothing was done, and nothing failed.
#[test]
fn a_restart_that_does_not_become_safe_is_refused() {
    let mut world = changed(3);
    let plan = plan_for(&world, CONVERGE, "n1");
    world.kill("etcd-2");
    world.kill("etcd-3");
    let mut scheduler = Scheduler::new(&plan.actions, 32);
    let mut commands = scheduler.on(Event::Started { at: 0 });
    let mut at = 0;
    while let Some(command) = (!commands.is_empty()).then(|| commands.remove(0)) {
        at += 1000;
        match command {
            Command::Finish => break,
            Command::Look(id, _) => commands.extend(scheduler.on(Event::Looked {
                at,
                id,
                view: world.view(),
                hopeless: None,
            })),
            Command::Run(id) if id.0.ends_with(".restart") => {
                panic!("{id} is not safe")
            }
            Command::Run(id) => commands.extend(scheduler.on(Event::Ran {
                at,
                id,
                result: Ok(()),
            })),
            Command::Undo(_) | Command::Waiting(..) => {}
        }
    }
    let report = scheduler.report();
    let refused = report
        .count(|outcome| matches!(outcome, Outcome::Refused(why) if why.starts_with("not safe: ")));
    assert!(refused > 0, "{report:?}");
    let failed = report.count(|outcome| matches!(outcome, Outcome::Failed(_)));
    assert_eq!(failed, 0, "{report:?}");
}

#[test]
fn an_interrupt_lets_what_runs_end_and_starts_nothing() {
    let world = changed(3);
    let plan = plan_for(&world, CONVERGE, "n1");
    let mut scheduler = Scheduler::new(&plan.actions, 32);
    let running: Vec<ActionId> = scheduler
        .on(Event::Started { at: 0 })
        .into_iter()
        .filter_map(|command| match command {
            Command::Run(id) => Some(id),
            _ => None,
        })
        .collect();
    assert!(!running.is_empty());
    assert!(scheduler.on(Event::Interrupted { at: 1 }).is_empty());
    let mut finished = false;
    for id in running {
        for command in scheduler.on(Event::Ran {
            at: 2,
            id,
            result: Ok(()),
        }) {
            assert_eq!(command, Command::Finish);
            finished = true;
        }
    }
    assert!(finished);
    assert_eq!(scheduler.report().stopped.as_deref(), Some("interrupted"));
}

#[test]
fn without_the_lock_nothing_is_taken_back() {
    let world = changed(3);
    let plan = plan_for(&world, CONVERGE, "n1");
    let mut scheduler = Scheduler::new(&plan.actions, 32);
    let mut commands = scheduler.on(Event::Started { at: 0 });
    let mut at = 0;
    while let Some(command) = (!commands.is_empty()).then(|| commands.remove(0)) {
        at += 1;
        match command {
            Command::Finish => break,
            Command::Run(id) if id.0.ends_with(".restart") => {
                commands.extend(scheduler.on(Event::LockLost {
                    at,
                    reason: "gone".into(),
                }));
                commands.extend(scheduler.on(Event::Ran {
                    at,
                    id,
                    result: Err("it failed".into()),
                }));
            }
            Command::Run(id) => commands.extend(scheduler.on(Event::Ran {
                at,
                id,
                result: Ok(()),
            })),
            Command::Look(id, _) => commands.extend(scheduler.on(Event::Looked {
                at,
                id,
                view: world.view(),
                hopeless: None,
            })),
            Command::Undo(id) => panic!("{id} is taken back without the lock"),
            Command::Waiting(..) => {}
        }
    }
    assert_eq!(
        scheduler
            .report()
            .count(|outcome| matches!(outcome, Outcome::Failed(_))),
        1
    );
}

#[test]
fn a_host_of_another_cluster_blocks() {
    let mut world = changed(3);
    world.swap_cluster("etcd-2");
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(
        plan.actions
            .iter()
            .all(|action| action.node.as_deref() != Some("etcd-2")),
        "nothing is done on it"
    );
    assert!(!plan.blocked.is_empty());
    let HostState::Known(_) = &world.observe().hosts["etcd-2"] else {
        panic!("known")
    };
}

#[test]
fn a_member_without_its_data_blocks_and_is_not_started() {
    let mut world = changed(3);
    world.lose_data("etcd-2");
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(
        plan.actions
            .iter()
            .all(|action| action.node.as_deref() != Some("etcd-2"))
    );
    assert!(
        plan.blocked
            .iter()
            .any(|blocked| blocked.node.as_deref() == Some("etcd-2")
                && blocked.reason.contains("mounted")),
        "{:?}",
        plan.blocked
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Crashes of the operator in a roll: no more than one member is ever away.
    #[test]
    fn a_roll_may_be_cut_anywhere(
        choices in proptest::collection::vec(0usize..1000, 200),
        cuts in proptest::collection::vec(0usize..40, 0..4),
    ) {
        let mut world = changed(3);
        let mut at = 0;
        let mut choose = |count: usize| { at += 1; choices[at % choices.len()] % count.max(1) };
        for (round, cut) in cuts.iter().enumerate() {
            let plan = plan_for(&world, CONVERGE, &format!("n{round}"));
            prop_assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
            run(&mut world, &plan, &mut choose, *cut);
            let away = world.hosts.keys().filter(|host| !world.is_running(host)).count();
            prop_assert!(away <= 1);
        }
        let plan = plan_for(&world, CONVERGE, "last");
        prop_assert!(run(&mut world, &plan, &mut choose, usize::MAX));
        prop_assert!(plan_for(&world, CONVERGE, "empty").is_empty());
        for host in world.hosts.values() {
            prop_assert_eq!(&host.process.as_ref().expect("runs").environment["ETCD_SNAPSHOT_COUNT"], "5000");
        }
    }
}

/// What the file may not change in a living cluster is refused, and the members are left alone.
#[test]
fn transport_security_and_token_of_a_living_cluster_are_not_changed() {
    use quorate::desired::Desired;
    use quorate::desired::model::TlsMode;
    type Edit = fn(&mut Desired);
    let edits: [(&str, Edit); 3] = [
        ("ETCD_CERT_FILE", |desired| {
            desired.tls.client = TlsMode::Managed
        }),
        ("peer URL", |desired| desired.tls.peer = TlsMode::Managed),
        ("token", |desired| desired.cluster.token = "other".into()),
    ];
    for (reason, edit) in edits {
        let plan = edited(edit);
        let touched: Vec<_> = plan
            .actions
            .iter()
            .filter(|action| !matches!(action.kind, ActionKind::Record(_)))
            .map(|action| &action.id.0)
            .collect();
        assert!(
            plan.blocked
                .iter()
                .any(|blocked| blocked.reason.contains(reason)),
            "{reason}: {:?}",
            plan.blocked
        );
        assert!(
            touched.is_empty(),
            "{reason}: {touched:?} {:?}",
            plan.blocked
        );
    }
}

fn edited(edit: fn(&mut quorate::desired::Desired)) -> Plan {
    let mut world = World::new(desired(3));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    edit(world.desired_mut());
    let intent = quorate::plan::Intent {
        goal: CONVERGE,
        nonce: "n1".into(),
    };
    quorate::plan::plan(
        world.desired(),
        &world.observe(),
        &intent,
        time::OffsetDateTime::UNIX_EPOCH,
    )
}

fn restart_of<'a>(plan: &'a Plan, node: &str) -> &'a quorate::action::restart::Restart {
    let mut restarts = plan.actions.iter().filter_map(|action| match &action.kind {
        ActionKind::Restart(restart) if action.node.as_deref() == Some(node) => Some(restart),
        _ => None,
    });
    restarts.next().expect("a restart")
}

/// Names, ports, addresses and directories change in the one restart of their member.
#[test]
fn what_moves_a_member_in_place_is_one_restart() {
    let moved = |plan: &Plan| {
        assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
        assert_eq!(restarts(plan), 1);
        restart_of(plan, "etcd-1").clone()
    };
    let restart = moved(&edited(|desired| desired.nodes[0].client_port = 3379));
    assert!(restart.readdress.is_none() && restart.moves.is_empty());
    let restart = moved(&edited(|desired| desired.nodes[0].peer_port = 3380));
    let readdress = restart.readdress.expect("another peer URL");
    assert_eq!(readdress.to, ["http://10.0.0.1:3380"]);
    let restart = moved(&edited(|desired| {
        desired.nodes[0].data_dir = "/srv/etcd".into();
        desired.nodes[0].wal_dir = Some("/wal".into());
    }));
    let moves: Vec<_> = restart
        .moves
        .iter()
        .map(|moved| (moved.from.as_str(), moved.to.as_str()))
        .collect();
    // The WAL last: without it no member starts on half of its data.
    assert_eq!(
        moves,
        [
            ("/var/lib/etcd/member", "/srv/etcd/member"),
            ("/srv/etcd/member/wal", "/wal/wal"),
        ]
    );
}

/// Two nodes that hold the data of one member: one of them is a copy, and neither is touched.
#[test]
fn a_copied_host_is_no_member_that_moves() {
    for goal in [
        CONVERGE,
        Goal::Converge {
            allow_downtime: false,
            replace: vec!["etcd-4".into()],
        },
    ] {
        let mut world = World::new(desired(3));
        let plan = plan_for(&world, CONVERGE, "n0");
        assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
        let mut observed = world.observe();
        let copy = observed.hosts["etcd-1"].clone();
        observed.hosts.insert("etcd-4".into(), copy);
        let intent = quorate::plan::Intent {
            goal: goal.clone(),
            nonce: "n1".into(),
        };
        let plan = quorate::plan::plan(
            &desired(4),
            &observed,
            &intent,
            time::OffsetDateTime::UNIX_EPOCH,
        );
        let of_node = |node: &str| {
            let mut blocked = plan.blocked.iter();
            let found = blocked.find(|blocked| blocked.node.as_deref() == Some(node));
            found.unwrap_or_else(|| panic!("{node} in {:?}", plan.blocked))
        };
        let (original, copy) = (of_node("etcd-1"), of_node("etcd-4"));
        assert!(copy.reason.contains("which is etcd-1's"), "{copy:?}");
        assert!(
            original.reason.contains("on etcd-4's host as well"),
            "{original:?}"
        );
        assert!(
            original.remedy.contains("stop etcd on etcd-4"),
            "{original:?}"
        );
        assert!(
            plan.actions
                .iter()
                .all(|action| matches!(action.kind, ActionKind::Record(_))),
            "{:?}",
            plan.actions
        );
    }
}

/// A member that is half-way to another address comes first; the others wait for it.
#[test]
fn a_member_that_is_half_way_to_another_address_is_mended_first() {
    let mut world = changed(3);
    world.update_peer_url("etcd-2", "http://10.0.0.2:12380");
    let plan = plan_for(&world, CONVERGE, "n1");
    assert_eq!(restarts(&plan), 3, "{:?}", plan.blocked);
    let readdress = restart_of(&plan, "etcd-2").readdress.clone();
    assert_eq!(readdress.expect("set back").to, ["http://10.0.0.2:2380"]);
    for action in &plan.actions {
        if action.id.0.ends_with(".restart") && action.node.as_deref() != Some("etcd-2") {
            let first = ActionId::of_node("etcd-2", "restart");
            assert!(action.needs.contains(&first), "{:?}", action.needs);
        }
    }
}

/// A member that listens where the file says needs no restart for the membership to learn it.
#[test]
fn a_member_that_is_where_it_should_be_is_only_told_of() {
    let mut world = World::new(desired(3));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world.update_peer_url("etcd-2", "http://10.0.0.2:12380");
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    assert_eq!(restarts(&plan), 0);
    let told = plan.actions.iter().any(|action| {
        matches!(&action.kind, ActionKind::Tell(tell) if tell.readdress.to == ["http://10.0.0.2:2380"])
    });
    assert!(told, "{:?}", plan.actions);
}

/// Down or not, a member is not taken to another version by a plan for drift.
#[test]
fn a_member_that_is_down_is_not_upgraded() {
    let mut world = changed(3);
    world.kill("etcd-3");
    world.desired_mut().etcd.version =
        quorate::desired::model::VersionSpec::Exact("3.6.16".parse().expect("a version"));
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(plan.is_empty(), "{:?}", plan.actions);
    assert_eq!(plan.blocked.len(), 3, "{:?}", plan.blocked);
}

/// A restart that mends a voter and a node that joins, or leaves, do not wait for each other.
#[test]
fn a_member_whose_restart_mends_it_comes_before_the_membership() {
    use quorate::observed::etcd::EtcdState;
    for nodes in [2, 4] {
        let mut world = World::new(desired(4));
        world.name_first(3);
        let plan = plan_for(&world, CONVERGE, "n0");
        assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
        world.name_first(nodes);
        let mut observed = world.observe();
        let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-2") else {
            panic!("known")
        };
        facts.etcd = EtcdState::Unknown("it does not answer".into());
        let environment = facts.unit.environment.as_mut().expect("a process");
        let local = "http://127.0.0.1:2379".to_owned();
        environment.insert("ETCD_LISTEN_CLIENT_URLS".into(), local);
        let unit = facts.unit.started_at.as_mut().expect("a process");
        *unit = 0;
        let intent = quorate::plan::Intent {
            goal: CONVERGE,
            nonce: "n1".into(),
        };
        let now = time::OffsetDateTime::UNIX_EPOCH;
        let plan = quorate::plan::plan(world.desired(), &observed, &intent, now);
        assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
        let at = |id: &str| plan.actions.iter().position(|action| action.id.0 == id);
        let step = ["node.etcd-4.add", "node.etcd-3.remove"];
        let step = step.iter().find_map(|id| at(id)).expect("a step");
        assert!(at("node.etcd-2.restart").expect("a restart") < step);
    }
}
