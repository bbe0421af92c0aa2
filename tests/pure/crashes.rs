//! The real planner and scheduler against the model of hosts: every interleaving that chance finds, and a crash of the
//! operator after every single operation.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate::observed::marker;
use quorate::plan::Goal;

pub use crate::drive::{CONVERGE, desired, plan_for, run};
use crate::world::World;

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
