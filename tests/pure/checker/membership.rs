//! What is broken about quorum and membership.

use quorate::action::ActionKind;
use quorate::etcd::id::MemberId;

use super::{Actions, Break, drop, each_is_found, free, get, id, margin, plans};

fn consent(plan: &mut Actions, short: &str, given: bool) {
    match &mut get(plan, short).kind {
        ActionKind::Restart(restart) => restart.allow_downtime = given,
        other => panic!("{other:?}"),
    }
}

/// Swaps which of two comes first, and what they wait for.
fn swap(plan: &mut Actions, one: &str, other: &str) {
    let at = |short: &str| {
        plan.iter()
            .position(|action| action.id == id(short))
            .expect("planned")
    };
    let (first, second) = (at(one), at(other));
    let needs = std::mem::take(&mut plan[first].needs);
    plan[second].needs = needs;
    plan[first].needs = [id(other)].into();
    plan.swap(first, second);
}

#[test]
fn a_restart_leaves_a_quorum_or_the_operator_has_accepted_that_it_does_not() {
    each_is_found(
        &plans::roll().actions,
        &[
            ("node.etcd-2.restart has no margin", |plan| {
                get(plan, "etcd-2.restart").margin = None;
            }),
            ("node.etcd-2.restart takes the quorum away", |plan| {
                let margin = margin(plan, "etcd-2.restart");
                (margin.before, margin.during) = (2, 1);
            }),
            // What is accepted for one or two members is not for three.
            ("node.etcd-2.restart takes the quorum away", |plan| {
                consent(plan, "etcd-2.restart", true);
                margin(plan, "etcd-2.restart").during = 1;
            }),
        ],
    );
    each_is_found(
        &plans::single().actions,
        &[("node.etcd-1.restart takes the quorum away", |plan| {
            consent(plan, "etcd-1.restart", false);
        })],
    );
    each_is_found(
        &plans::repair().actions,
        &[(
            "node.etcd-1.restart comes before the dead member of node.etcd-3.start is started",
            |plan| free(plan, "etcd-1.restart", "etcd-3.start"),
        )],
    );
}

#[test]
fn a_margin_does_not_lie() {
    each_is_found(
        &plans::roll().actions,
        &[
            (
                "node.etcd-2.restart has an impossible margin: 3 of 3 healthy, needs 2, then 1: tolerates 1 → 1 during",
                |plan| margin(plan, "etcd-2.restart").needs = 1,
            ),
            (
                "node.etcd-2.restart has an impossible margin: 4 of 3 healthy, needs 2: tolerates 2 → 1 during",
                |plan| {
                    let margin = margin(plan, "etcd-2.restart");
                    (margin.before, margin.during) = (4, 3);
                },
            ),
            (
                "node.etcd-2.restart counts others than the rest of the plan: 5 of 5 healthy, needs 3: tolerates 2 → 1 during",
                |plan| {
                    let margin = margin(plan, "etcd-2.restart");
                    (margin.voters, margin.before, margin.during, margin.needs) = (5, 5, 4, 3);
                },
            ),
        ],
    );
    each_is_found(
        &plans::growth_by_two().actions,
        &[
            (
                "node.etcd-4.add has an impossible margin: 2 of 3 healthy, needs 2: tolerates 0 → 0 during",
                |plan| {
                    let margin = margin(plan, "etcd-4.add");
                    (margin.before, margin.during) = (2, 2);
                },
            ),
            (
                "node.etcd-4.promote has an impossible margin: 3 of 3 healthy, needs 2: tolerates 1 → 2 during",
                |plan| margin(plan, "etcd-4.promote").needs = 2,
            ),
            (
                "node.etcd-5.add does not count what node.etcd-4.promote leaves: 3 of 3 healthy, needs 2: tolerates 1 → 1 during",
                |plan| {
                    let earlier = *margin(plan, "etcd-4.add");
                    *margin(plan, "etcd-5.add") = earlier;
                },
            ),
            ("node.etcd-4.promote has no margin", |plan| {
                get(plan, "etcd-4.promote").margin = None;
            }),
        ],
    );
    each_is_found(
        &plans::shrink().actions,
        &[
            (
                "node.etcd-3.remove has an impossible margin: 3 of 3 healthy, needs 2: tolerates 1 → 1 during",
                |plan| margin(plan, "etcd-3.remove").during = 3,
            ),
            // One that lives goes only while all do.
            (
                "node.etcd-3.remove takes the quorum away: 2 of 3 healthy, needs 2: tolerates 0 → no quorum during",
                |plan| {
                    let margin = margin(plan, "etcd-3.remove");
                    (margin.before, margin.during) = (2, 1);
                },
            ),
            ("node.etcd-3.remove has no margin", |plan| {
                get(plan, "etcd-3.remove").margin = None;
            }),
        ],
    );
    each_is_found(
        &plans::repair_and_growth().actions,
        &[(
            "node.etcd-1.restart counts others than the rest of the plan: 3 of 3 healthy, needs 2: tolerates 1 → 0 during",
            |plan| {
                let margin = margin(plan, "etcd-1.restart");
                (margin.voters, margin.before, margin.during, margin.needs) = (3, 3, 2, 2);
            },
        )],
    );
}

#[test]
fn the_membership_changes_one_step_at_a_time() {
    let at_once: [Break; 3] = [
        (
            "node.etcd-4.add and node.etcd-4.join could change the membership at once",
            |plan| free(plan, "etcd-4.join", "etcd-4.add"),
        ),
        (
            "node.etcd-4.join and node.etcd-4.promote could change the membership at once",
            |plan| free(plan, "etcd-4.promote", "etcd-4.join"),
        ),
        (
            "node.etcd-4.join does not wait for node.etcd-4.add",
            |plan| {
                free(plan, "etcd-4.join", "etcd-4.add");
            },
        ),
    ];
    each_is_found(&plans::growth().actions, &at_once);
    each_is_found(&plans::growth_by_two().actions, &at_once);
    each_is_found(
        &plans::growth_by_two().actions,
        &[
            (
                "node.etcd-4.promote and node.etcd-5.add could change the membership at once",
                |plan| free(plan, "etcd-5.add", "etcd-4.promote"),
            ),
            (
                "node.etcd-4.join is not followed by the promotion of its member",
                |plan| {
                    drop(plan, "etcd-4.promote");
                },
            ),
            (
                "node.etcd-4.add is not followed by the first start of its member",
                |plan| {
                    drop(plan, "etcd-4.join");
                },
            ),
            (
                "node.etcd-4.join is not followed by the promotion of its member",
                |plan| {
                    swap(plan, "etcd-4.promote", "etcd-5.add");
                },
            ),
        ],
    );
    each_is_found(
        &plans::growth().actions,
        &[(
            "node.etcd-4.promote does not wait for node.etcd-4.join",
            |plan| {
                swap(plan, "etcd-4.join", "etcd-4.promote");
            },
        )],
    );
    each_is_found(
        &plans::half_way().actions,
        &[(
            "node.etcd-3.promote is of a learner that another joins before",
            |plan| swap(plan, "etcd-3.promote", "etcd-4.add"),
        )],
    );
    each_is_found(
        &plans::shrink().actions,
        &[(
            "node.etcd-9.remove removes a member a second time",
            |plan| {
                let mut again = get(plan, "etcd-3.remove").clone();
                again.id = id("etcd-9.remove");
                again.needs.insert(id("etcd-3.remove"));
                plan.push(again);
            },
        )],
    );
}

#[test]
fn a_member_is_removed_only_when_all_is_ready_for_it() {
    each_is_found(
        &plans::shrink().actions,
        &[
            ("node.etcd-3.remove comes without a snapshot", |plan| {
                free(plan, "etcd-3.remove", "cluster.snapshot");
            }),
            ("node.etcd-3.remove comes without a snapshot", |plan| {
                drop(plan, "cluster.snapshot")
            }),
            // A snapshot is not waited for where there is no vote; that nobody has one is not to be had by a wrong word.
            (
                "node.etcd-3.remove has an impossible margin: 3 of 3 healthy, needs 2: tolerates 1 → 0 during",
                |plan| {
                    if let ActionKind::Remove(remove) = &mut get(plan, "etcd-3.remove").kind {
                        remove.learner = true;
                    }
                },
            ),
            (
                "node.etcd-3.set-aside does not wait for node.etcd-3.remove",
                |plan| {
                    if let ActionKind::Stop(stop) = &mut get(plan, "etcd-3.stop").kind {
                        stop.member = Some(MemberId(9));
                    }
                    free(plan, "etcd-3.set-aside", "etcd-3.remove");
                },
            ),
        ],
    );
    each_is_found(
        &plans::exchange().actions,
        &[(
            "node.etcd-3.remove shrinks the cluster before node.etcd-4.promote lets it grow",
            |plan| free(plan, "etcd-3.remove", "etcd-4.promote"),
        )],
    );
    each_is_found(
        &plans::replacement().actions,
        &[
            (
                "node.etcd-3.remove does not wait for node.etcd-4.install",
                |plan| {
                    free(plan, "etcd-3.remove", "etcd-4.install");
                },
            ),
            (
                "node.etcd-3.remove does not wait for node.etcd-4.claim",
                |plan| {
                    free(plan, "etcd-3.remove", "etcd-4.claim");
                },
            ),
            (
                "node.etcd-4.add has an impossible margin: 2 of 3 healthy, needs 2: tolerates 0 → 0 during",
                |plan| {
                    let margin = margin(plan, "etcd-4.add");
                    (margin.voters, margin.before, margin.during) = (3, 2, 2);
                },
            ),
        ],
    );
}

#[test]
fn members_come_back_before_the_membership_changes_and_restart_after_it() {
    each_is_found(
        &plans::repair_and_growth().actions,
        &[
            (
                "node.etcd-4.add does not wait for node.etcd-3.start",
                |plan| {
                    free(plan, "etcd-4.add", "etcd-3.start");
                },
            ),
            (
                "node.etcd-1.restart could go while node.etcd-4.promote changes the membership",
                |plan| free(plan, "etcd-1.restart", "etcd-4.promote"),
            ),
        ],
    );
    each_is_found(
        &plans::told_and_growth().actions,
        &[(
            "node.etcd-2.tell could go while node.etcd-4.add changes the membership",
            |plan| free(plan, "etcd-4.add", "etcd-2.tell"),
        )],
    );
}
