//! Members that are down while the file gives them other addresses, and no quorum is there to learn them.

use quorate::action::ActionKind;
use quorate::plan::Plan;
use quorate::runtime::Content;

use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::world::World;

fn living(nodes: usize) -> World {
    let mut world = World::new(desired(nodes));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world
}

fn nodes_of(plan: &Plan, wanted: fn(&ActionKind) -> bool) -> Vec<&str> {
    let actions = plan.actions.iter().filter(|action| wanted(&action.kind));
    let mut nodes: Vec<&str> = actions
        .filter_map(|action| action.node.as_deref())
        .collect();
    nodes.sort_unstable();
    nodes
}

fn is_start(kind: &ActionKind) -> bool {
    matches!(kind, ActionKind::Start(_))
}

fn is_restart(kind: &ActionKind) -> bool {
    matches!(kind, ActionKind::Restart(_))
}

/// They come back where the others look for them, and move when there is a quorum.
#[test]
fn a_quorum_comes_back_before_addresses_change() {
    for (down, edited) in [(&[1, 2, 3][..], &[1, 2, 3][..]), (&[2, 3], &[2, 3])] {
        let mut world = living(3);
        for node in down {
            world.kill(&format!("etcd-{node}"));
        }
        for node in edited {
            world.desired_mut().nodes[*node - 1].peer_port = 2381;
        }
        let plan = plan_for(&world, CONVERGE, "n1");
        assert_eq!(nodes_of(&plan, is_start).len(), down.len());
        let is_harmless =
            |kind: &ActionKind| matches!(kind, ActionKind::Start(_) | ActionKind::Record(_));
        let ids = plan.actions.iter().map(|action| &action.id);
        assert!(
            plan.actions.iter().all(|action| is_harmless(&action.kind)),
            "{:?}",
            ids.collect::<Vec<_>>()
        );
        assert_eq!(plan.blocked.len(), down.len(), "{:?}", plan.blocked);
        assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
        let plan = plan_for(&world, CONVERGE, "n2");
        assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
        assert_eq!(nodes_of(&plan, is_restart).len(), edited.len());
    }
}

/// What a run has switched already is where the member was last: the membership has most likely learnt it.
#[test]
fn what_was_switched_is_started_as_it_is() {
    const CONFIG: &str = "/etc/etcd/etcd.conf";
    let mut world = living(3);
    for node in &mut world.desired_mut().nodes {
        node.peer_port = 2381;
    }
    for node in ["etcd-1", "etcd-2", "etcd-3"] {
        world.kill(node);
        let mut files = world.layout(node).files.iter();
        let text = files.find_map(|file| match &file.content {
            Content::Text(text) if file.path == CONFIG => Some(text.clone()),
            _ => None,
        });
        world.put(node, CONFIG, 0o644, &text.expect("a configuration"));
    }
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    assert_eq!(nodes_of(&plan, is_start).len(), 3);
}

/// Nothing on the disk says where it was: the file has to.
#[test]
fn without_its_configuration_the_address_is_set_back() {
    let mut world = living(3);
    for node in ["etcd-1", "etcd-2", "etcd-3"] {
        world.kill(node);
        let host = world.hosts.get_mut(node).expect("a host");
        host.files.remove("/etc/etcd/etcd.conf");
    }
    for node in &mut world.desired_mut().nodes {
        node.peer_port = 2381;
    }
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(plan.is_empty(), "{:?}", plan.actions);
    for blocked in &plan.blocked {
        assert!(blocked.remedy.starts_with("set its address back"));
    }
    for node in &mut world.desired_mut().nodes {
        node.peer_port = 2380;
    }
    let plan = plan_for(&world, CONVERGE, "n2");
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    assert!(plan_for(&world, CONVERGE, "n3").is_empty());
}
