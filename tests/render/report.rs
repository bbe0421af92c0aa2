//! The end of an apply.

use quorate::action::ActionId;
use quorate::observed::etcd::ClusterView;
use quorate::plan::Plan;
use quorate::render::report::{headline, report};
use quorate::schedule::{Outcome, Report};

use crate::cluster;
use crate::golden::{WIDE, golden, in_every_style};

pub fn ended(plan: &Plan, of: impl Fn(usize, &ActionId) -> Outcome) -> Report {
    Report {
        outcomes: plan
            .actions
            .iter()
            .enumerate()
            .map(|(number, action)| (action.id.clone(), of(number, &action.id)))
            .collect(),
        stopped: None,
    }
}

#[test]
fn complete() {
    let mut plan = cluster::rolling();
    plan.blocked.clear();
    let view = cluster::living().cluster();
    let all = ended(&plan, |_, _| Outcome::Done);
    in_every_style("report/complete", |style| {
        report(&plan, &all, Some(&view), None, style)
    });
    assert_eq!(
        headline(&plan, &all),
        "Apply complete! Resources: 0 added, 8 changed, 0 destroyed."
    );
    let plan = cluster::destroy();
    let all = ended(&plan, |_, _| Outcome::Done);
    assert_eq!(
        headline(&plan, &all),
        "Destroy complete! Resources: 6 destroyed."
    );
}

#[test]
fn failed_undone_and_not_started_are_told_apart() {
    let plan = cluster::rolling();
    let some = ended(&plan, |number, _| {
        match number {
        0..=1 => Outcome::Done,
        2 => Outcome::Undone("after 120 s: member a101: it does not answer".into()),
        5 => Outcome::Failed(
            "exit status 1 of `write file`\nmv: cannot move: No space left on device\n\u{1b}]0;title\u{7}".into(),
        ),
        4 => Outcome::Done,
        _ => Outcome::NotStarted("node.etcd-1.restart is not done".into()),
    }
    });
    let view = cluster::living().cluster();
    in_every_style("report/failed", |style| {
        report(&plan, &some, Some(&view), Some("quorate apply"), style)
    });
}

#[test]
fn interrupted_and_without_an_answer_from_etcd() {
    let plan = cluster::bootstrap();
    let mut none = ended(&plan, |_, _| Outcome::NotStarted("interrupted".into()));
    none.stopped = Some("interrupted".into());
    let text = report(
        &plan,
        &none,
        Some(&ClusterView::default()),
        Some("quorate apply"),
        WIDE,
    );
    golden("report/interrupted.txt", &text);
}
