//! Good plans of every sort.

use quorate::action::ActionKind;
use quorate::observed::etcd::EtcdState;
use quorate::observed::{HostFacts, HostState, Observed};
use quorate::plan::{self, Goal, Intent, Plan};
use time::OffsetDateTime;

use crate::comings::{living, make_learner, plan_of, unreachable};
use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::rolls::changed;
use crate::world::World;

fn unblocked(plan: Plan) -> Plan {
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    plan
}

fn facts<'a>(observed: &'a mut Observed, node: &str) -> &'a mut HostFacts {
    match observed.hosts.get_mut(node) {
        Some(HostState::Known(facts)) => facts,
        other => panic!("{node}: {other:?}"),
    }
}

/// A living cluster of three and two blank hosts.
fn with_room() -> Observed {
    let mut observed = living();
    let blank = World::new(desired(5)).observe();
    for node in ["etcd-4", "etcd-5"] {
        observed
            .hosts
            .insert(node.into(), blank.hosts[node].clone());
    }
    observed
}

fn down(observed: &mut Observed, node: &str) {
    let facts = facts(observed, node);
    facts.etcd = EtcdState::Silent;
    facts.unit.active = "inactive".into();
    facts.unit.environment = None;
}

fn for_changed(world: &World, observed: &Observed) -> Plan {
    let intent = Intent {
        goal: CONVERGE,
        nonce: "n1".into(),
    };
    let now = OffsetDateTime::UNIX_EPOCH;
    unblocked(plan::plan(world.desired(), observed, &intent, now))
}

pub fn bootstrap() -> Plan {
    unblocked(plan_for(&World::new(desired(3)), CONVERGE, "n0"))
}

pub fn growth() -> Plan {
    unblocked(plan_of(&[1, 2, 3, 4], &with_room(), CONVERGE))
}

pub fn growth_by_two() -> Plan {
    unblocked(plan_of(&[1, 2, 3, 4, 5], &with_room(), CONVERGE))
}

/// A run was cut off when it had added the third; a fourth comes as well.
pub fn half_way() -> Plan {
    let mut observed = with_room();
    make_learner(&mut observed, "etcd-3");
    unblocked(plan_of(&[1, 2, 3, 4], &observed, CONVERGE))
}

/// A learner that crashes for ever joins anew.
pub fn stuck_learner() -> Plan {
    let mut observed = living();
    make_learner(&mut observed, "etcd-3");
    let facts = facts(&mut observed, "etcd-3");
    facts.etcd = EtcdState::Silent;
    facts.unit.active = "activating".into();
    facts.unit.restarts = 7;
    unblocked(plan_of(&[1, 2, 3], &observed, CONVERGE))
}

pub fn shrink() -> Plan {
    unblocked(plan_of(&[1, 2], &living(), CONVERGE))
}

/// A living member goes, and another comes.
pub fn exchange() -> Plan {
    unblocked(plan_of(&[1, 2, 4], &with_room(), CONVERGE))
}

/// A dead member goes, and another comes.
pub fn replacement() -> Plan {
    let mut observed = with_room();
    unreachable(&mut observed, "etcd-3");
    unblocked(plan_of(&[1, 2, 4], &observed, CONVERGE))
}

/// A new member on the host of one that is given up.
pub fn same_host() -> Plan {
    let goal = Goal::Converge {
        allow_downtime: false,
        replace: vec!["etcd-2".into()],
    };
    unblocked(plan_of(&[1, 2, 3], &living(), goal))
}

/// Other settings, a unit that is not enabled, and binaries that are staged.
pub fn roll() -> Plan {
    let world = changed(3);
    let mut observed = world.observe();
    facts(&mut observed, "etcd-1").unit.file_state = "disabled".into();
    let mut plan = for_changed(&world, &observed);
    let mut install = bootstrap()
        .actions
        .into_iter()
        .find(|action| action.id.0 == "node.etcd-1.install");
    if let Some(ActionKind::Install(install)) = install.as_mut().map(|action| &mut action.kind) {
        install.staged = true;
    }
    let install = install.expect("a bootstrap installs");
    let here = plan
        .actions
        .iter_mut()
        .filter(|action| action.node == install.node);
    for action in here.filter(|action| !matches!(action.kind, ActionKind::Claim(_))) {
        action.needs.insert(install.id.clone());
    }
    let claim = plan
        .actions
        .iter()
        .position(|action| install.needs.contains(&action.id));
    plan.actions.insert(claim.expect("a claim") + 1, install);
    plan
}

/// Settings, where the third is down and its unit not enabled.
pub fn repair() -> Plan {
    let world = changed(3);
    let mut observed = world.observe();
    down(&mut observed, "etcd-3");
    facts(&mut observed, "etcd-3").unit.file_state = "disabled".into();
    for_changed(&world, &observed)
}

/// Settings, a dead member that is started, and a fourth that joins.
pub fn repair_and_growth() -> Plan {
    let mut world = World::new(desired(4));
    world.name_first(3);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world.name_first(4);
    for node in &mut world.desired_mut().nodes {
        node.settings.insert("snapshot-count".into(), "5000".into());
    }
    let mut observed = world.observe();
    down(&mut observed, "etcd-3");
    for_changed(&world, &observed)
}

/// One that is told of, and a fourth that joins.
pub fn told_and_growth() -> Plan {
    let mut world = World::new(desired(4));
    world.name_first(3);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world.update_peer_url("etcd-2", "http://10.0.0.2:12380");
    world.name_first(4);
    for_changed(&world, &world.observe())
}

/// A single member's restart, which the operator accepts.
pub fn single() -> Plan {
    let goal = Goal::Converge {
        allow_downtime: true,
        replace: vec![],
    };
    unblocked(plan_for(&changed(1), goal, "n1"))
}

pub fn destroy() -> Plan {
    unblocked(plan_for(
        &changed(3),
        Goal::Destroy { purge_data: false },
        "n1",
    ))
}

pub fn purge() -> Plan {
    unblocked(plan_for(
        &changed(3),
        Goal::Destroy { purge_data: true },
        "n1",
    ))
}

/// All of them.
pub fn all() -> Vec<(&'static str, Plan)> {
    vec![
        ("bootstrap", bootstrap()),
        ("growth", growth()),
        ("growth by two", growth_by_two()),
        ("half-way", half_way()),
        ("stuck learner", stuck_learner()),
        ("shrink", shrink()),
        ("exchange", exchange()),
        ("replacement", replacement()),
        ("same host", same_host()),
        ("roll", roll()),
        ("repair", repair()),
        ("repair and growth", repair_and_growth()),
        ("told and growth", told_and_growth()),
        ("single", single()),
        ("destroy", destroy()),
        ("purge", purge()),
    ]
}
