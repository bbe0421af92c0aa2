//! The text of plans.

use quorate::plan::Goal;
use quorate::render::plan::{Options, plan};

use crate::cluster::{self, CONVERGE};
use crate::golden::{WIDE, golden, in_every_style};

fn wide(of: &quorate::plan::Plan, concise: bool) -> String {
    plan(
        of,
        Options {
            style: WIDE,
            concise,
        },
    )
}

#[test]
fn a_rolling_change_with_drift_and_a_blocked_host() {
    let rolling = cluster::rolling();
    in_every_style("plan/rolling", |style| {
        plan(
            &rolling,
            Options {
                style,
                concise: false,
            },
        )
    });
}

#[test]
fn one_line_per_action_when_asked() {
    let rolling = cluster::rolling();
    in_every_style("plan/rolling-concise", |style| {
        plan(
            &rolling,
            Options {
                style,
                concise: true,
            },
        )
    });
}

#[test]
fn a_bootstrap_as_the_planner_makes_it() {
    golden("plan/bootstrap.txt", &wide(&cluster::bootstrap(), false));
    golden(
        "plan/bootstrap-concise.txt",
        &wide(&cluster::bootstrap(), true),
    );
}

#[test]
fn a_destroy_says_what_data_stays_and_what_goes() {
    let destroy = cluster::destroy();
    in_every_style("plan/destroy", |style| {
        plan(
            &destroy,
            Options {
                style,
                concise: false,
            },
        )
    });
}

#[test]
fn nothing_to_do() {
    let text = wide(&cluster::nothing(CONVERGE), false);
    assert_eq!(
        text,
        "No changes. The hosts and the cluster match the cluster file.\n"
    );
    let text = wide(
        &cluster::nothing(Goal::Destroy { purge_data: false }),
        false,
    );
    assert_eq!(
        text,
        "No changes. There is nothing of this cluster left to destroy.\n"
    );
}

#[test]
fn blocked_and_nothing_else_is_not_called_no_changes() {
    let mut plan = cluster::nothing(CONVERGE);
    plan.blocked.push(cluster::blocked());
    let text = wide(&plan, false);
    assert!(!text.contains("No changes"), "{text}");
    assert_eq!(
        text,
        "Blocked: etcd-3: 10.0.0.3 port 22 does not answer within 10 s\n         nothing was compared on it; make it \
         reachable and plan again\n\nNothing can be done now: 1 change is blocked, for the reason above.\n"
    );
}

#[test]
fn the_legend_lists_only_the_symbols_used() {
    let mut plan = cluster::rolling();
    assert!(wide(&plan, false).contains("\n  ~ update in-place\n"));
    assert!(!wide(&plan, false).contains("\n  - destroy\n"));
    plan.actions.clear();
    assert!(!wide(&plan, false).contains("symbols"));
}

#[test]
fn what_a_host_says_does_not_reach_the_terminal_raw() {
    let text = wide(&cluster::rolling(), false);
    assert!(text.contains("\\u{1b}[31m"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn issued_files_show_nothing_but_that_they_are_issued() {
    let text = wide(&cluster::rolling(), false);
    assert!(
        text.contains("server.crt    (issued at apply)")
            || text.contains("server.crt  (issued at apply)")
    );
    assert!(text.contains("# it expires in 12 days"));
}

#[test]
fn an_action_is_explained_with_its_place_and_its_price() {
    use quorate::action::ActionKind;
    use quorate::render::explain::explain;
    let rolling = cluster::rolling();
    let restart = rolling
        .actions
        .iter()
        .find(|action| matches!(action.kind, ActionKind::Restart(_)))
        .expect("a restart");
    let text = explain(&rolling, &restart.id.0, WIDE).expect("it is there");
    golden("plan/explain-restart.txt", &text);
    let refused = explain(&rolling, "node.etcd-2.restar", WIDE).expect_err("it is not there");
    let remedy = &refused.remedy;
    assert!(
        remedy.contains("did you mean node.etcd-2.restart?"),
        "{remedy}"
    );
}
