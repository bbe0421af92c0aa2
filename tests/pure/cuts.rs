//! What a run that was cut off in the restart of a member has left, the next one goes on from and can take back.

use quorate::action::restart::Restart;
use quorate::action::{Action, ActionId, ActionKind, Operation, UnitVerb};
use quorate::observed::HostState;
use quorate::observed::marker::{self, Marker};
use quorate::plan::{self, Intent, Plan};
use time::OffsetDateTime;

use crate::drive::{CONVERGE, desired, plan_for, run};
use crate::world::World;

const CONF: &str = "/etc/etcd/etcd.conf";

fn living(nodes: usize) -> World {
    let mut world = World::new(desired(nodes));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world
}

/// The file asks for another setting.
fn edit(world: &mut World, value: &str) {
    for node in &mut world.desired_mut().nodes {
        node.settings.insert("snapshot-count".into(), value.into());
    }
}

fn action<'a>(plan: &'a Plan, id: &str) -> Option<&'a Action> {
    plan.actions.iter().find(|action| action.id.0 == id)
}

fn restart_of<'a>(plan: &'a Plan, node: &str) -> &'a Restart {
    let id = format!("node.{node}.restart");
    match action(plan, &id).map(|action| &action.kind) {
        Some(ActionKind::Restart(restart)) => restart,
        _ => panic!("no {id}: {:?}", plan.blocked),
    }
}

/// Performs an action of a node up to an operation.
fn cut(world: &mut World, plan: &Plan, node: &str, verb: &str, end: fn(&Operation) -> bool) {
    let Some(action) = action(plan, &format!("node.{node}.{verb}")) else {
        return;
    };
    let operations = World::operations(action);
    for operation in operations.iter().take_while(|operation| !end(operation)) {
        world.perform(node, operation).expect("it works");
    }
}

fn take_back(world: &mut World, plan: &Plan, node: &str) {
    let action = action(plan, &format!("node.{node}.restart")).expect("a restart");
    for operation in action.kind.as_kind().undo() {
        world.perform(node, &operation).expect("it works");
    }
}

fn is_restart(operation: &Operation) -> bool {
    matches!(operation, Operation::Unit(UnitVerb::Restart, _))
}

fn configured(world: &World, node: &str) -> String {
    let text = world.hosts[node].files[CONF].text.as_ref().expect("text");
    let line = text.lines().find(|line| line.contains("SNAPSHOT_COUNT"));
    line.unwrap_or_default().to_owned()
}

fn marker_of(world: &World, node: &str) -> Marker {
    let text = world.hosts[node].files[marker::PATH].text.as_ref();
    serde_json::from_str(text.expect("text")).expect("a marker")
}

/// The others were last seen to reach the member elsewhere.
fn last_heard_at(world: &mut World, node: &str, url: &str) {
    let mut marker = marker_of(world, node);
    marker.peer_url = Some(url.into());
    world.put(node, marker::PATH, 0o600, &marker.render());
}

/// Written and never started: what was there before comes back if it does not do, however often runs are cut off.
#[test]
fn what_a_cut_run_has_written_is_taken_back_by_the_next() {
    let mut world = living(3);
    edit(&mut world, "5000");
    for round in ["n1", "n2"] {
        let plan = plan_for(&world, CONVERGE, round);
        cut(&mut world, &plan, "etcd-2", "claim", |_| false);
        cut(&mut world, &plan, "etcd-2", "restart", is_restart);
        assert!(configured(&world, "etcd-2").contains("5000"));
    }
    let plan = plan_for(&world, CONVERGE, "n3");
    assert_eq!(restart_of(&plan, "etcd-2").pending, [CONF]);
    cut(&mut world, &plan, "etcd-2", "restart", |_| false);
    take_back(&mut world, &plan, "etcd-2");
    assert!(!configured(&world, "etcd-2").contains("5000"));
    let process = world.hosts["etcd-2"].process.as_ref().expect("it runs");
    assert!(!process.environment.contains_key("ETCD_SNAPSHOT_COUNT"));
}

/// Once the member runs with it, what was there before is of the past, and a step that fails early does not bring it back.
#[test]
fn what_an_earlier_run_kept_goes_before_anything_can_fail() {
    let mut world = living(3);
    edit(&mut world, "5000");
    let plan = plan_for(&world, CONVERGE, "n1");
    cut(&mut world, &plan, "etcd-2", "claim", |_| false);
    cut(&mut world, &plan, "etcd-2", "restart", |_| false);
    edit(&mut world, "7000");
    let plan = plan_for(&world, CONVERGE, "n2");
    assert!(restart_of(&plan, "etcd-2").is_settled);
    cut(&mut world, &plan, "etcd-2", "claim", |_| false);
    cut(&mut world, &plan, "etcd-2", "restart", |operation| {
        matches!(operation, Operation::MoveLeader(_))
    });
    take_back(&mut world, &plan, "etcd-2");
    assert!(configured(&world, "etcd-2").contains("5000"));
}

fn is_update(operation: &Operation) -> bool {
    matches!(operation, Operation::UpdateMember(..))
}

/// However long the others take to learn the new address, systemd brings a member that crashes meanwhile up where it was.
#[test]
fn a_crash_brings_no_address_to_life_that_the_membership_does_not_know() {
    let mut world = living(3);
    world.desired_mut().nodes[0].peer_port = 3380;
    world.desired_mut().nodes[0].data_dir = "/srv/etcd".into();
    let plan = plan_for(&world, CONVERGE, "n1");
    cut(&mut world, &plan, "etcd-1", "claim", |_| false);
    let restart = action(&plan, "node.etcd-1.restart").expect("a restart");
    let operations = World::operations(restart);
    let is_told = operations.iter().position(is_update).expect("an update");
    let files = world.hosts["etcd-1"].files.clone();
    for end in 0..=is_told {
        let mut world = world.clone();
        for operation in &operations[..end] {
            world.perform("etcd-1", operation).expect("it works");
        }
        assert_eq!(world.hosts["etcd-1"].files, files, "after {end}");
        world.kill("etcd-1");
        world.start_unit("etcd-1");
        world.settle();
        let process = world.hosts["etcd-1"].process.as_ref().expect("it runs");
        let listens = &process.environment["ETCD_LISTEN_PEER_URLS"];
        assert!(listens.ends_with(":2380"), "after {end}: {listens}");
    }
}

/// An update that the others refuse leaves a member that runs on what lies there.
#[test]
fn nothing_is_put_back_where_nothing_was_kept() {
    let mut world = living(3);
    world.desired_mut().nodes[0].peer_port = 3380;
    let plan = plan_for(&world, CONVERGE, "n1");
    cut(&mut world, &plan, "etcd-1", "claim", |_| false);
    let before = world.hosts["etcd-1"].clone();
    for may_be_told in [false, true] {
        let mut world = world.clone();
        let end = if may_be_told { is_keep } else { is_update };
        cut(&mut world, &plan, "etcd-1", "restart", end);
        take_back(&mut world, &plan, "etcd-1");
        let after = &world.hosts["etcd-1"];
        assert_eq!(
            (&after.files, &after.process),
            (&before.files, &before.process)
        );
        let view = world.view();
        let listed = view.members.iter().find(|found| found.name == "etcd-1");
        assert_eq!(
            listed.expect("a member").peer_urls,
            ["http://10.0.0.1:2380"]
        );
    }
}

fn is_keep(operation: &Operation) -> bool {
    matches!(operation, Operation::KeepPrevious(_))
}

/// Cut off when the others had learnt it and nothing was written: the next run goes on, or the file's author takes it back.
#[test]
fn a_run_goes_on_where_only_the_membership_has_changed() {
    for port in [3380, 2380] {
        let mut world = living(3);
        world.desired_mut().nodes[0].peer_port = 3380;
        let plan = plan_for(&world, CONVERGE, "n1");
        cut(&mut world, &plan, "etcd-1", "claim", |_| false);
        cut(&mut world, &plan, "etcd-1", "restart", is_keep);
        world.desired_mut().nodes[0].peer_port = port;
        let plan = plan_for(&world, CONVERGE, "n2");
        assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
        assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
        assert!(plan_for(&world, CONVERGE, "n3").is_empty(), "to {port}");
    }
}

/// The marker says where the others were last seen to reach the member, until they have been seen to reach it elsewhere.
#[test]
fn an_address_is_written_down_when_it_has_been_dialed() {
    let mut world = living(3);
    world.desired_mut().nodes[0].peer_port = 3380;
    let plan = plan_for(&world, CONVERGE, "n1");
    let url = |verb: &str| {
        let action = action(&plan, &format!("node.etcd-1.{verb}")).expect("planned");
        match &action.kind {
            ActionKind::Claim(claim) => claim.marker.peer_url.clone(),
            ActionKind::Record(record) => record.marker.peer_url.clone(),
            _ => None,
        }
    };
    assert_eq!(url("claim").as_deref(), Some("http://10.0.0.1:2380"));
    assert_eq!(url("record").as_deref(), Some("http://10.0.0.1:3380"));
}

/// Cut off while the others tried to dial it: they are asked again, before anybody else is restarted.
#[test]
fn a_member_that_nobody_has_dialed_comes_first() {
    let mut world = living(3);
    last_heard_at(&mut world, "etcd-1", "http://10.0.0.1:2390");
    let dial = Operation::AwaitDialable(
        marker_of(&world, "etcd-1").member_id.expect("an ID"),
        vec!["http://10.0.0.1:2380".into()],
    );
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    let told = action(&plan, "node.etcd-1.tell").expect("a look");
    assert_eq!(World::operations(told), std::slice::from_ref(&dial));
    assert!(told.kind.as_kind().undo().is_empty());

    // One restart where it has to be restarted anyway.
    let mut changed = world.clone();
    edit(&mut changed, "5000");
    let plan = plan_for(&changed, CONVERGE, "n1");
    let first = ActionId::of_node("etcd-1", "restart");
    let restart = action(&plan, &first.0).expect("a restart");
    assert_eq!(World::operations(restart).last(), Some(&dial));
    for node in ["etcd-2", "etcd-3"] {
        let other = action(&plan, &format!("node.{node}.restart")).expect("a restart");
        assert!(other.needs.contains(&first), "{:?}", other.needs);
    }

    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    assert!(plan_for(&world, CONVERGE, "n2").is_empty());
    let heard = marker_of(&world, "etcd-1").peer_url;
    assert_eq!(heard.as_deref(), Some("http://10.0.0.1:2380"));
}

/// Nor is anybody where it cannot be dialed now, for another reason.
#[test]
fn nobody_is_restarted_while_one_cannot_be_dialed() {
    let mut world = living(3);
    last_heard_at(&mut world, "etcd-1", "http://10.0.0.1:2390");
    edit(&mut world, "5000");
    let mut observed = world.observe();
    let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-1") else {
        panic!("a host");
    };
    facts.arch = "s390x".into();
    let intent = Intent {
        goal: CONVERGE,
        nonce: "n1".into(),
    };
    let now = OffsetDateTime::UNIX_EPOCH;
    let plan = plan::plan(world.desired(), &observed, &intent, now);
    let restarts = |action: &&Action| matches!(action.kind, ActionKind::Restart(_));
    assert_eq!(plan.actions.iter().filter(restarts).count(), 0);
    let reasons: Vec<_> = plan.blocked.iter().map(|one| &one.reason).collect();
    assert!(
        reasons.iter().any(|reason| reason.contains("waits")),
        "{reasons:?}"
    );
}

/// Also where the member is down by now, or the membership knew of it before it was restarted.
#[test]
fn a_member_that_is_restarted_at_its_new_address_is_dialed() {
    let mut world = living(3);
    last_heard_at(&mut world, "etcd-1", "http://10.0.0.1:2390");
    world.kill("etcd-1");
    let mut half_way = living(3);
    half_way.desired_mut().nodes[0].peer_port = 3380;
    half_way.update_peer_url("etcd-1", "http://10.0.0.1:3380");
    for (world, port, before) in [(world, 2380, 2390), (half_way, 3380, 2380)] {
        let plan = plan_for(&world, CONVERGE, "n1");
        assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
        let restart = action(&plan, "node.etcd-1.restart").expect("a restart");
        let to = vec![format!("http://10.0.0.1:{port}")];
        let from = vec![format!("http://10.0.0.1:{before}")];
        let is_dial = |operation: &Operation| matches!(operation, Operation::AwaitDialable(_, urls) if *urls == to);
        assert!(World::operations(restart).last().is_some_and(is_dial));
        let is_back = |operation: &Operation| matches!(operation, Operation::UpdateMember(_, urls) if *urls == from);
        assert!(restart.kind.as_kind().undo().iter().any(is_back));
    }
}

/// Members that are down come back only together.
#[test]
fn what_is_down_and_moves_does_not_wait_for_what_only_starts() {
    let mut world = living(3);
    for node in ["etcd-1", "etcd-2", "etcd-3"] {
        world.kill(node);
    }
    for node in &mut world.desired_mut().nodes[..2] {
        node.data_dir = "/srv/etcd".into();
    }
    let plan = plan_for(&world, CONVERGE, "n1");
    let start = ActionId::of_node("etcd-3", "start");
    assert!(action(&plan, &start.0).is_some(), "{:?}", plan.blocked);
    for node in ["etcd-1", "etcd-2"] {
        let restart = action(&plan, &format!("node.{node}.restart")).expect("a restart");
        assert!(!restart.needs.contains(&start), "{:?}", restart.needs);
    }
}

/// A host that has lost marker and data may have voted in the bootstrap that goes on.
#[test]
fn a_bootstrap_goes_on_only_with_hosts_that_have_forgotten_nothing() {
    let has_data = |world: &World, node: &str| world.etcd.member_on(node).is_some();
    let (mut lost, mut new) = (0, 0);
    for cut in 0.. {
        let mut world = World::new(desired(3));
        let plan = plan_for(&world, CONVERGE, "n0");
        let complete = run(&mut world, &plan, &mut |_| 0, cut);
        let others = has_data(&world, "etcd-1") && has_data(&world, "etcd-2");
        let had_data = has_data(&world, "etcd-3");
        let mut markers = world.hosts.values().filter_map(|host| {
            let entry = host.files.get(marker::PATH)?;
            entry.text.as_ref()
        });
        let is_living = markers.any(|text| text.contains("\"complete\""));
        if complete || is_living {
            break;
        }
        if !others {
            continue;
        }
        world.rebuild("etcd-3");
        let plan = plan_for(&world, CONVERGE, "n1");
        if had_data {
            let reasons = format!("{:?}", plan.blocked);
            assert!(plan.is_empty(), "after {cut}: {:?}", plan.actions);
            assert!(reasons.contains("neither marker nor data"), "{reasons}");
            lost += 1;
        } else {
            assert!(plan.blocked.is_empty(), "after {cut}: {:?}", plan.blocked);
            assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
            new += 1;
        }
    }
    assert!(lost > 0 && new > 0, "{lost} {new}");
}
