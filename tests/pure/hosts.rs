//! What a plan makes of what is on a host.

use quorate::desired::model::Install;
use quorate::plan::Plan;

use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::world::World;

fn packages(package_version: Option<&str>) -> Install {
    Install::Package {
        names: vec![],
        package_version: package_version.map(str::to_owned),
    }
}

/// A living cluster whose etcd was installed like this.
fn living(install: Install) -> World {
    let mut desired = desired(3);
    desired.etcd.install = install;
    let mut world = World::new(desired);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(plan.is_empty() && plan.blocked.is_empty(), "{plan:?}");
    world
}

fn reasons(plan: &Plan) -> Vec<(&str, &str)> {
    plan.blocked
        .iter()
        .map(|blocked| {
            (
                blocked.node.as_deref().unwrap_or_default(),
                blocked.reason.as_str(),
            )
        })
        .collect()
}

/// Packages are replaced in place: on a member that lives that would be outside its restart, on all at once.
#[test]
fn packages_of_living_members_are_not_replaced() {
    let mut world = living(packages(Some("3.5.16-1")));
    world.desired_mut().etcd.install = packages(Some("3.5.16-2"));
    world.kill("etcd-3");
    let plan = plan_for(&world, CONVERGE, "n2");
    let reasons = reasons(&plan);
    assert!(plan.is_empty(), "{:?}", plan.actions);
    for node in ["etcd-1", "etcd-2", "etcd-3"] {
        assert!(
            reasons.iter().any(|(blocked, reason)| *blocked == node
                && reason.contains("etcd-server than the 3.5.16-1")),
            "{node}: {reasons:?}"
        );
    }
}
