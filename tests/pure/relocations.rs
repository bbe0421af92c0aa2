//! Data that moves while the run is cut off anywhere, and a cluster file that says something else by then.

use quorate::action::restart::Restart;
use quorate::action::{Action, ActionKind, Operation};
use quorate::desired::model::Node;
use quorate::etcd::id::{ClusterId, MemberId};
use quorate::etcd::wal::WalIdentity;
use quorate::observed::data::moving;
use quorate::observed::{HostFacts, HostState};
use quorate::plan::{Goal, Intent, Plan, plan};
use time::OffsetDateTime;

use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::model::host::Run;
use crate::world::World;

const HOST: &str = "etcd-1";

/// What the file says of the directories of one node.
type Edit = fn(&mut Node);

fn home(node: &mut Node) {
    node.data_dir = "/var/lib/etcd".into();
    node.wal_dir = None;
}

fn away(node: &mut Node) {
    node.data_dir = "/srv/etcd".into();
    node.wal_dir = Some("/wal".into());
}

fn elsewhere(node: &mut Node) {
    node.data_dir = "/data/etcd".into();
    node.wal_dir = None;
}

/// What happens to the host after a run was cut off.
type Fault = fn(&mut World);

fn nothing(_: &mut World) {}

fn reboot(world: &mut World) {
    world.reboot(HOST);
}

fn killed(world: &mut World) {
    world.kill(HOST);
}

/// A cut in the middle of a copy to another file system.
fn half_way(world: &mut World) {
    let (member, wal) = world.data_at(HOST);
    if world.is_running(HOST) {
        return;
    }
    let (copied, inside) = (moving(&member), wal.strip_prefix(&member));
    let wal = inside.map_or(wal.clone(), |inside| format!("{copied}{inside}"));
    world.put_data(HOST, (copied, wal));
}

/// The same of the WAL, which goes last.
fn half_way_of_the_wal(world: &mut World) {
    let (member, wal) = world.data_at(HOST);
    if !world.is_running(HOST) {
        world.put_data(HOST, (member, moving(&wal)));
    }
}

/// A cluster, and a file that wants the data of one member elsewhere.
fn moved() -> World {
    let mut world = World::new(desired(3));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    edit(&mut world, away);
    world
}

fn edit(world: &mut World, edit: Edit) {
    edit(&mut world.desired_mut().nodes[0]);
}

/// Moves the data, as far as so many operations go; whether these were all.
fn cut(world: &mut World, operations: usize) -> bool {
    let plan = plan_for(world, CONVERGE, "n1");
    run(world, &plan, &mut |_| 0, operations)
}

/// The next run does everything, with the data that there was.
fn converges(world: &mut World, what: &str) {
    let plan = plan_for(world, CONVERGE, "n2");
    assert!(plan.blocked.is_empty(), "{what}: {:?}", plan.blocked);
    assert!(run(world, &plan, &mut |_| 0, usize::MAX), "{what}");
    // What has failed on half of its files is started again by systemd.
    if matches!(world.etcd.hosts[HOST].run, Run::Failed(_)) {
        world.start_unit(HOST);
        world.settle();
    }
    let again = plan_for(world, CONVERGE, "n3");
    assert!(again.blocked.is_empty(), "{what}: {:?}", again.blocked);
    assert!(again.is_empty(), "{what}: {:?}", again.actions);
    assert!(
        world.etcd.faults().is_empty(),
        "{what}: {:?}",
        world.etcd.faults()
    );
    let place = world.layout(HOST).place();
    assert_eq!(world.data_at(HOST), (place.member(), place.wal()), "{what}");
    for (name, host) in &world.hosts {
        assert!(world.is_running(name), "{what}: {name}");
        let first = host.starts.iter().filter(|start| **start == "bootstrap");
        assert_eq!(first.count(), 1, "{what}: {name} starts empty once");
    }
}

#[test]
fn a_move_that_is_cut_off_anywhere_goes_on_or_is_taken_back() {
    let edits: [(&str, Edit); 3] = [("on", away), ("back", home), ("elsewhere", elsewhere)];
    let faults: [(&str, Fault); 5] = [
        ("", nothing),
        ("booted", reboot),
        ("killed", killed),
        ("copied", half_way),
        ("WAL copied", half_way_of_the_wal),
    ];
    let mut cuts = 0;
    for operations in 0.. {
        let mut complete = false;
        for (to, now) in edits {
            for (how, fault) in faults {
                let mut world = moved();
                complete = cut(&mut world, operations);
                fault(&mut world);
                edit(&mut world, now);
                converges(&mut world, &format!("{to} after {operations}, {how}"));
            }
        }
        if complete {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 15, "only {cuts} operations were cut");
}

/// One edit after the other, each run cut off.
#[test]
fn edits_may_follow_each_other_while_nothing_comes_to_an_end() {
    for first in (0..36).step_by(4) {
        for second in (1..36).step_by(3) {
            let mut world = moved();
            cut(&mut world, first);
            edit(&mut world, if second % 2 == 0 { home } else { elsewhere });
            cut(&mut world, second);
            killed(&mut world);
            edit(&mut world, [home, away, elsewhere][(first + second) % 3]);
            converges(&mut world, &format!("{first}, {second}"));
        }
    }
}

/// The first of the operations after which the data has this WAL.
fn cut_when(wal: &str) -> World {
    for operations in 0.. {
        let mut world = moved();
        let complete = cut(&mut world, operations);
        if world.data_at(HOST).1 == wal && !world.is_running(HOST) {
            return world;
        }
        assert!(!complete, "its WAL is never in {wal}");
    }
    unreachable!()
}

fn restart_of(plan: &Plan) -> Restart {
    let mut restarts = plan.actions.iter().filter_map(|action| match &action.kind {
        ActionKind::Restart(restart) => Some(restart.clone()),
        _ => None,
    });
    restarts.next().expect("a restart")
}

#[test]
fn what_arrived_before_the_edit_was_taken_back_comes_back() {
    let mut world = cut_when("/wal/wal");
    edit(&mut world, home);
    let restart = restart_of(&plan_for(&world, CONVERGE, "n2"));
    let moves = restart.moves.iter();
    let moves: Vec<_> = moves.map(|moved| (&*moved.from, &*moved.to)).collect();
    assert_eq!(
        moves,
        [
            ("/srv/etcd/member", "/var/lib/etcd/member"),
            ("/wal/wal", "/var/lib/etcd/member/wal"),
        ]
    );
    assert!(restart.back.is_empty(), "{:?}", restart.back);
    converges(&mut world, "back");
}

#[test]
fn half_a_copy_is_put_back_and_the_rest_of_it_swept() {
    let mut world = cut_when("/srv/etcd/member/wal");
    let member = "/var/lib/etcd/member.quorate-moving".to_owned();
    let wal = format!("{member}/wal");
    world.put_data(HOST, (member.clone(), wal));
    edit(&mut world, home);
    let plan = plan_for(&world, CONVERGE, "n2");
    let restart = restart_of(&plan);
    let [moved] = restart.moves.as_slice() else {
        panic!("{:?}", restart.moves)
    };
    assert_eq!((&moved.from, &*moved.to), (&member, "/var/lib/etcd/member"));
    let swept = plan.actions.iter().any(|action| match &action.kind {
        ActionKind::Record(record) => record.abandoned.contains(&"/srv/etcd".to_owned()),
        _ => false,
    });
    assert!(swept, "{:?}", plan.actions);
    converges(&mut world, "back");
}

/// A restart that fails in any way takes data and files back together, also what an earlier run had begun.
#[test]
fn data_and_files_are_taken_back_together() {
    let mut undone = 0;
    for operations in 0.. {
        for fault in [nothing as Fault, half_way] {
            let mut world = moved();
            if cut(&mut world, operations) {
                assert!(undone > 20, "{undone}");
                return;
            }
            fault(&mut world);
            let plan = plan_for(&world, CONVERGE, "n2");
            let of_host = |action: &&Action| action.node.as_deref() == Some(HOST);
            let actions: Vec<&Action> = plan.actions.iter().filter(of_host).collect();
            let is_restart = |action: &&Action| matches!(action.kind, ActionKind::Restart(_));
            let Some(at) = actions.iter().position(is_restart) else {
                continue;
            };
            for action in &actions[..at] {
                for operation in World::operations(action) {
                    world.perform(HOST, &operation).expect("it works");
                }
            }
            // It fails before or after the data has moved.
            let all = World::operations(actions[at]);
            let stop = all.len() - 1 - operations % 2;
            for operation in &all[..stop] {
                world.perform(HOST, operation).expect("it works");
            }
            for operation in actions[at].kind.as_kind().undo() {
                let what = format!("{operations}: {operation:?}");
                world.perform(HOST, &operation).expect(&what);
            }
            let running = world.hosts[HOST]
                .process
                .as_ref()
                .filter(|_| world.is_running(HOST));
            let environment = &running
                .unwrap_or_else(|| panic!("{operations}: down"))
                .environment;
            assert_eq!(
                environment["ETCD_DATA_DIR"], "/var/lib/etcd",
                "{operations}"
            );
            undone += 1;
        }
    }
}

/// A plan on what a probe would find, but for what is changed.
fn plan_but(world: &World, change: impl FnOnce(&mut HostFacts)) -> Plan {
    let mut observed = world.observe();
    let Some(HostState::Known(facts)) = observed.hosts.get_mut(HOST) else {
        panic!("not known")
    };
    change(facts);
    let intent = Intent {
        goal: CONVERGE,
        nonce: "n2".into(),
    };
    plan(
        world.desired(),
        &observed,
        &intent,
        OffsetDateTime::UNIX_EPOCH,
    )
}

/// Blocked for this reason, and nothing is done on the host.
fn is_left_alone(plan: &Plan, reason: &str) {
    let why = format!("{:?}", plan.blocked);
    assert!(why.contains(reason), "{why}");
    let touched = plan
        .actions
        .iter()
        .any(|action| action.node.as_deref() == Some(HOST));
    assert!(!touched, "{:?}", plan.actions);
}

/// Q10: what is in none of the places is on a disk that is not mounted.
#[test]
fn data_that_is_nowhere_is_not_given_up_while_it_moves() {
    for now in [home as Edit, away, elsewhere] {
        let mut world = cut_when("/wal/wal");
        world.lose_data(HOST);
        edit(&mut world, now);
        is_left_alone(&plan_for(&world, CONVERGE, "n2"), "may not be mounted");
    }
    // Only its WAL is there: without the rest it would come up empty.
    let mut world = cut_when("/wal/wal");
    edit(&mut world, home);
    let plan = plan_but(&world, |facts| facts.whereabouts.member = None);
    is_left_alone(&plan, "may not be mounted");
}

/// Q10: nothing is put beneath the mount point of a disk that is not there.
#[test]
fn data_does_not_come_back_to_another_disk() {
    let mut world = cut_when("/wal/wal");
    edit(&mut world, home);
    let plan = plan_but(&world, |facts| facts.filesystem.uuid = Some("other".into()));
    is_left_alone(&plan, "another file system is mounted there");
}

/// Q8, Q10: data that somebody has put where ours is to go is not touched. A copy of ours would be started without memory
/// if the disk of the data were gone once the marker names both places.
#[test]
fn data_where_ours_is_to_go_is_not_moved_away() {
    let theirs = WalIdentity {
        cluster_id: ClusterId(7),
        member_id: MemberId(8),
    };
    let plan = plan_but(&moved(), |facts| facts.whereabouts.taken = Some(theirs));
    is_left_alone(&plan, "where other data is");
}

/// A destroy takes along what was on its way.
#[test]
fn what_is_on_its_way_is_set_aside_by_a_destroy() {
    for purge_data in [false, true] {
        let world = cut_when("/wal/wal");
        let plan = plan_for(&world, Goal::Destroy { purge_data }, "n2");
        let mut operations = plan
            .actions
            .iter()
            .filter(|action| action.node.as_deref() == Some(HOST))
            .flat_map(World::operations);
        let wanted = |operation: Operation| match operation {
            Operation::MoveAside { from, to } => {
                from == "/srv/etcd/member" && to.starts_with("/srv/etcd/member.quorate-destroyed-")
            }
            Operation::PurgeData(path) => path == "/srv/etcd/member",
            _ => false,
        };
        assert!(operations.any(wanted), "{:?}", plan.actions);
    }
}

/// A copy that somebody made long ago lies where the file wants the data, and the disk of the data is gone: whoever
/// started on the copy would vote without memory.
#[test]
fn an_old_copy_is_no_member() {
    let mut world = moved();
    world.kill(HOST);
    let elsewhere = ("/srv/etcd/member".to_owned(), "/wal/wal".to_owned());
    world.put_data(HOST, elsewhere);
    let plan = plan_for(&world, CONVERGE, "n1");
    let touches = |action: &&Action| action.node.as_deref() == Some(HOST);
    assert_eq!(plan.actions.iter().filter(touches).count(), 0);
    let blocked = plan.blocked.iter().map(|blocked| blocked.reason.as_str());
    let reasons: Vec<&str> = blocked.collect();
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("has run there")),
        "{reasons:?}"
    );
    // When it is given up, nothing of the copy meets its successor.
    let goal = Goal::Converge {
        allow_downtime: false,
        replace: vec![HOST.into()],
    };
    let plan = plan_for(&world, goal, "n2");
    let moves = plan.actions.iter().find_map(|action| match &action.kind {
        ActionKind::SetAside(set_aside) => Some(&set_aside.moves),
        _ => None,
    });
    let moves = moves.unwrap_or_else(|| panic!("{:?}", plan.blocked));
    let from = moves.iter().map(|(from, _)| from.as_str());
    assert!(from.clone().any(|from| from == "/srv/etcd/member"));
    assert!(from.clone().any(|from| from == "/wal/wal"));
}

/// A unit that is not up does not say that the data is not in use.
#[test]
fn a_member_that_runs_without_its_unit_is_not_moved() {
    use quorate::observed::HostState;
    use quorate::observed::etcd::EtcdState;
    use quorate::observed::host::Listener;
    let mut file = crate::crashes::desired(3);
    file.nodes[1].data_dir = "/data/etcd".into();
    for answers in [true, false] {
        let mut observed = crate::comings::living();
        let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-2") else {
            panic!("known")
        };
        facts.unit.active = "inactive".into();
        facts.unit.environment = None;
        if !answers {
            facts.etcd = EtcdState::Unknown("it does not answer".into());
            facts.listeners = vec![Listener {
                port: 2380,
                ours: false,
                owner: "etcd (process 7)".into(),
            }];
        }
        let plan = crate::seats::plan_with(&file, &observed);
        let touched = |id: &&str| id.starts_with("node.etcd-2.");
        let ids = crate::comings::ids(&plan);
        assert!(!ids.iter().any(touched), "{ids:?}");
        let mut blocked = plan.blocked.iter();
        let reason = if answers {
            "answers, though"
        } else {
            "is taken by"
        };
        assert!(
            blocked.any(|blocked| blocked.reason.contains(reason)),
            "{:?}",
            plan.blocked
        );
    }
}
