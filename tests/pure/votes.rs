//! Members of whom nobody can say whether they have a vote.

use quorate::observed::HostState;
use quorate::observed::marker::Phase;

use crate::comings::{ids, reasons};
use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::world::World;

/// A run was cut off before a learner got its vote, and the only voter is down: the plan does not pass for all that there
/// is to do, and the marker does not forget.
#[test]
fn nobody_can_say_whether_a_learner_got_its_vote() {
    let mut world = World::new(desired(2));
    world.name_first(1);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world.name_first(2);
    let plan = plan_for(&world, CONVERGE, "n1");
    let is_learner = |world: &World| {
        let view = world.observe().cluster();
        let mut members = view.members.iter();
        members.any(|member| member.is_learner && !member.name.is_empty())
    };
    let phase = |world: &World| match &world.observe().hosts["etcd-2"] {
        HostState::Known(facts) => facts.marker.get().map(|marker| marker.generation.phase),
        HostState::Unknown(_) => None,
    };
    let cut = (0..1_000).find_map(|operations| {
        let mut cut = world.clone();
        run(&mut cut, &plan, &mut |_| 0, operations);
        let is_cut = is_learner(&cut) && phase(&cut) == Some(Phase::Started);
        is_cut.then_some(cut)
    });
    let mut world = cut.expect("a learner");
    world.kill("etcd-1");
    world.kill("etcd-2");
    world.start_unit("etcd-2");
    world.settle();
    assert_eq!(phase(&world), Some(Phase::Started));
    let plan = plan_for(&world, CONVERGE, "n2");
    assert!(reasons(&plan).contains("it may lack its vote"), "{plan:?}");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    assert_eq!(phase(&world), Some(Phase::Started));
    let plan = plan_for(&world, CONVERGE, "n3");
    assert!(ids(&plan).contains(&"node.etcd-2.promote"), "{plan:?}");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    let plan = plan_for(&world, CONVERGE, "n4");
    assert!(plan.is_empty() && plan.blocked.is_empty(), "{plan:?}");
}
