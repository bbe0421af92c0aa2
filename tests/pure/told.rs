//! What an operator is told of steps that touch the quorum: golden files under `tests/pure/golden/told`.

use quorate::plan::Plan;
use quorate::render::explain::explain;
use quorate::render::plan::{Options, plan as text_of};

use crate::checker::plans;

#[path = "../render/golden.rs"]
#[allow(dead_code)]
mod golden;

use golden::{WIDE, golden};

fn text(name: &str, mut plan: Plan) {
    plan.tool_version = "1.2.3".into();
    let options = Options {
        style: WIDE,
        concise: false,
    };
    golden(&format!("told/{name}.txt"), &text_of(&plan, options));
}

fn explained(name: &str, plan: &Plan, ids: &[&str]) {
    let told = ids
        .iter()
        .map(|id| explain(plan, id, WIDE).expect("it is there"));
    golden(
        &format!("told/{name}.txt"),
        &told.collect::<Vec<_>>().join("\n"),
    );
}

#[test]
fn growth_says_what_it_costs() {
    text("growth", plans::growth());
    let ids = [
        "node.etcd-4.add",
        "node.etcd-4.join",
        "node.etcd-4.promote",
        "node.etcd-5.add",
        "node.etcd-5.promote",
    ];
    explained("growth-explained", &plans::growth_by_two(), &ids);
}

#[test]
fn shrinking_says_what_it_costs() {
    text("shrink", plans::shrink());
    let ids = [
        "cluster.snapshot",
        "node.etcd-3.remove",
        "node.etcd-3.set-aside",
    ];
    explained("shrink-explained", &plans::shrink(), &ids);
    explained(
        "exchange-explained",
        &plans::exchange(),
        &["node.etcd-3.remove"],
    );
    explained(
        "replacement-explained",
        &plans::replacement(),
        &["node.etcd-3.remove"],
    );
}

/// Whoever asks why one step comes after another is told more than that it does.
#[test]
fn every_place_in_a_plan_has_its_reason() {
    for (name, plan) in plans::all() {
        for action in &plan.actions {
            let told = explain(&plan, &action.id.0, WIDE).expect("it is there");
            assert!(!told.contains("it needs what that does"), "{name}: {told}");
        }
    }
}

#[test]
fn the_removal_of_a_learner_that_is_stuck_is_told() {
    let plan = plans::stuck_learner();
    let ids = ["node.etcd-3.remove", "node.etcd-3.add"];
    explained("learner-explained", &plan, &ids);
}

#[test]
fn the_restart_of_a_single_member_is_told_as_an_outage() {
    text("single", plans::single());
    explained(
        "single-explained",
        &plans::single(),
        &["node.etcd-1.restart"],
    );
}
