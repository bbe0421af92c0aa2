//! Members of whom nobody can say whether they have a vote.

use std::collections::BTreeSet;

use quorate::observed::HostState;
use quorate::observed::marker::{self, Phase};

use crate::comings::{ids, reasons};
use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::world::World;

/// What the marker of a host says of its member.
fn phase(world: &World, host: &str) -> Option<Phase> {
    match &world.observe().hosts[host] {
        HostState::Known(facts) => facts.marker.get().map(|marker| marker.generation.phase),
        HostState::Unknown(_) => None,
    }
}

/// A cluster that grows by one, cut off where the last is a learner that runs.
fn with_a_learner(nodes: usize) -> World {
    let last = format!("etcd-{nodes}");
    let mut world = World::new(desired(nodes));
    world.name_first(nodes - 1);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world.name_first(nodes);
    let plan = plan_for(&world, CONVERGE, "n1");
    let is_learner = |world: &World| {
        let view = world.observe().cluster();
        let mut members = view.members.iter();
        members.any(|member| member.is_learner && !member.name.is_empty())
    };
    let cut = (0..1_000).find_map(|operations| {
        let mut cut = world.clone();
        run(&mut cut, &plan, &mut |_| 0, operations);
        let is_cut = is_learner(&cut) && phase(&cut, &last) == Some(Phase::Started);
        is_cut.then_some(cut)
    });
    cut.expect("a learner")
}

/// However far the run gets that goes on, the marker calls the member complete only when it has its vote.
#[test]
fn a_learner_is_complete_once_it_has_its_vote() {
    let world = with_a_learner(2);
    let plan = plan_for(&world, CONVERGE, "n2");
    assert!(ids(&plan).contains(&"node.etcd-2.promote"), "{plan:?}");
    let votes = |world: &World| {
        let view = world.observe().cluster();
        view.voters().count() == 2
    };
    let mut was_cut = BTreeSet::new();
    for operations in 0.. {
        let mut cut = world.clone();
        let is_whole = run(&mut cut, &plan, &mut |_| 0, operations);
        let is_complete = phase(&cut, "etcd-2") == Some(Phase::Complete);
        assert!(votes(&cut) || !is_complete, "after {operations} operations");
        was_cut.insert((votes(&cut), is_complete));
        if is_whole {
            break;
        }
    }
    assert_eq!(was_cut.len(), 3, "{was_cut:?}");
}

/// The same where the host has lost its marker.
#[test]
fn a_learner_without_a_marker_is_complete_once_it_has_its_vote() {
    let mut world = with_a_learner(2);
    let host = world.hosts.get_mut("etcd-2").expect("a host");
    host.files.remove(marker::PATH);
    let plan = plan_for(&world, CONVERGE, "n2");
    assert!(ids(&plan).contains(&"node.etcd-2.promote"), "{plan:?}");
    for operations in 0.. {
        let mut cut = world.clone();
        let is_whole = run(&mut cut, &plan, &mut |_| 0, operations);
        let votes = cut.observe().cluster().voters().count() == 2;
        let is_complete = phase(&cut, "etcd-2") == Some(Phase::Complete);
        assert!(votes || !is_complete, "after {operations} operations");
        if is_whole {
            assert!(is_complete);
            break;
        }
    }
}

/// Nobody answers, and a marker is lost: of a founder it is known that it votes.
#[test]
fn who_has_lost_its_marker_may_lack_a_vote_unless_it_is_a_founder() {
    let mut world = World::new(desired(2));
    world.name_first(1);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world.name_first(2);
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    for (lost, founder) in [("etcd-1", true), ("etcd-2", false)] {
        let mut world = world.clone();
        world.kill("etcd-1");
        world.kill("etcd-2");
        let host = world.hosts.get_mut(lost).expect("a host");
        host.files.remove(marker::PATH);
        let plan = plan_for(&world, CONVERGE, "n2");
        let is_told = reasons(&plan).contains("its marker is lost");
        assert_eq!(is_told, !founder, "{plan:?}");
        run(&mut world, &plan, &mut |_| 0, usize::MAX);
        assert_eq!(phase(&world, lost) == Some(Phase::Complete), founder);
        let plan = plan_for(&world, CONVERGE, "n3");
        run(&mut world, &plan, &mut |_| 0, usize::MAX);
        assert_eq!(phase(&world, lost), Some(Phase::Complete));
        let plan = plan_for(&world, CONVERGE, "n4");
        assert!(plan.is_empty() && plan.blocked.is_empty(), "{plan:?}");
    }
}

/// The same where it gets none, since another voter is down for good, and an edit has the learner worked on all the same.
#[test]
fn a_learner_that_gets_no_vote_is_not_complete() {
    let mut world = with_a_learner(4);
    world.cut_off("etcd-3");
    for edited in [false, true] {
        if edited {
            let nodes = &mut world.desired_mut().nodes;
            nodes[3]
                .settings
                .insert("snapshot-count".into(), "5000".into());
        }
        let plan = plan_for(&world, CONVERGE, "n2");
        assert!(reasons(&plan).contains("etcd-4 cannot join"), "{plan:?}");
        run(&mut world, &plan, &mut |_| 0, usize::MAX);
        assert_eq!(phase(&world, "etcd-4"), Some(Phase::Started));
    }
}

/// A run was cut off before a learner got its vote, and the only voter is down: the plan does not pass for all that there
/// is to do, and the marker does not forget.
#[test]
fn nobody_can_say_whether_a_learner_got_its_vote() {
    let mut world = with_a_learner(2);
    world.kill("etcd-1");
    world.kill("etcd-2");
    world.start_unit("etcd-2");
    world.settle();
    assert_eq!(phase(&world, "etcd-2"), Some(Phase::Started));
    let plan = plan_for(&world, CONVERGE, "n2");
    assert!(reasons(&plan).contains("it may lack its vote"), "{plan:?}");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    assert_eq!(phase(&world, "etcd-2"), Some(Phase::Started));
    let plan = plan_for(&world, CONVERGE, "n3");
    assert!(ids(&plan).contains(&"node.etcd-2.promote"), "{plan:?}");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    let plan = plan_for(&world, CONVERGE, "n4");
    assert!(plan.is_empty() && plan.blocked.is_empty(), "{plan:?}");
}
