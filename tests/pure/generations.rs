//! A name is no identity: clusters of one name, and hosts of another.

use quorate::plan::Goal;

use crate::crashes::{CONVERGE, plan_for};
use crate::rolls::changed;

/// A name is no identity: hosts of another generation are left alone.
#[test]
fn a_destroy_touches_only_the_generation_that_most_hosts_bear() {
    use quorate::observed::marker;
    let mut world = changed(3);
    let entry = world
        .hosts
        .get_mut("etcd-3")
        .expect("a host")
        .files
        .get_mut(marker::PATH)
        .expect("a marker");
    let text = entry.text.as_mut().expect("text");
    let mut other: marker::Marker = serde_json::from_str(text).expect("a marker");
    other.generation.nonce = "another".into();
    *text = other.render().into();
    let plan = plan_for(&world, Goal::Destroy { purge_data: false }, "n1");
    assert!(
        plan.actions
            .iter()
            .all(|action| action.node.as_deref() != Some("etcd-3"))
    );
    assert!(
        plan.actions
            .iter()
            .any(|action| action.node.as_deref() == Some("etcd-1"))
    );
    assert!(
        plan.blocked
            .iter()
            .any(|blocked| blocked.reason.contains("another generation")),
        "{:?}",
        plan.blocked
    );
}

/// A host of another cluster is not taken over by a bootstrap.
#[test]
fn a_bootstrap_takes_no_host_of_another_cluster() {
    let mut world = changed(3);
    world.desired_mut().cluster.name = "other".into();
    for host in world.hosts.values_mut() {
        let entry = host
            .files
            .get_mut(quorate::observed::marker::PATH)
            .expect("a marker");
        entry.text = entry
            .text
            .as_ref()
            .map(|text| text.replace("\"complete\"", "\"frozen\"").into());
    }
    for host in ["etcd-1", "etcd-2", "etcd-3"] {
        world.lose_data(host);
    }
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(plan.is_empty());
    assert!(
        plan.blocked
            .iter()
            .any(|blocked| blocked.reason.contains("belongs to cluster demo")),
        "{:?}",
        plan.blocked
    );
}
