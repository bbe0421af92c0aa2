//! What a run that was cut off in the restart of a member has left, the next one goes on from and can take back.

use quorate::action::restart::Restart;
use quorate::action::{Action, ActionId, ActionKind, Operation, UnitVerb};
use quorate::plan::Plan;

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
