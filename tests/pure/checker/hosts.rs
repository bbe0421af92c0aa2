//! What is broken about the order on hosts, and about data.

use quorate::action::ActionKind;
use quorate::etcd::id::MemberId;

use super::{Actions, Break, drop, each_is_found, free, get, id, plans};

#[test]
fn a_bootstrap_waits_until_its_facts_are_frozen_everywhere() {
    fn bootstrap<'a>(
        plan: &'a mut Actions,
        short: &str,
    ) -> &'a mut quorate::action::bootstrap::Bootstrap {
        match &mut get(plan, short).kind {
            ActionKind::Bootstrap(bootstrap) => bootstrap,
            other => panic!("{other:?}"),
        }
    }
    each_is_found(
        &plans::bootstrap().actions,
        &[
            (
                "node.etcd-1.bootstrap does not wait for node.etcd-2.claim",
                |plan| {
                    free(plan, "etcd-1.bootstrap", "etcd-2.claim");
                },
            ),
            (
                "node.etcd-1.bootstrap does not wait for node.etcd-2.install",
                |plan| {
                    free(plan, "etcd-1.bootstrap", "etcd-2.install");
                },
            ),
            (
                "node.etcd-1.bootstrap does not wait for node.etcd-2.prepare",
                |plan| {
                    free(plan, "etcd-1.bootstrap", "etcd-2.prepare");
                },
            ),
            (
                "node.etcd-1.bootstrap does not wait for node.etcd-2.configure",
                |plan| {
                    free(plan, "etcd-1.bootstrap", "etcd-2.configure");
                },
            ),
            (
                "members of one bootstrap start from different facts",
                |plan| {
                    bootstrap(plan, "etcd-2.bootstrap").token = "demo-n9".into();
                },
            ),
            (
                "members of one bootstrap start from different facts",
                |plan| {
                    bootstrap(plan, "etcd-2.bootstrap")
                        .initial_cluster
                        .push('0');
                },
            ),
            (
                "cluster.form does not wait for node.etcd-3.bootstrap",
                |plan| {
                    free(plan, "cluster.form", "etcd-3.bootstrap");
                },
            ),
            (
                "node.etcd-1.record does not wait for cluster.form",
                |plan| {
                    free(plan, "etcd-1.record", "cluster.form");
                },
            ),
        ],
    );
}

#[test]
fn what_is_done_on_a_host_has_its_order() {
    each_is_found(
        &plans::growth().actions,
        &[
            (
                "node.etcd-4.install does not wait for node.etcd-4.claim",
                |plan| {
                    free(plan, "etcd-4.install", "etcd-4.claim");
                },
            ),
            (
                "node.etcd-4.add does not wait for node.etcd-4.install",
                |plan| {
                    free(plan, "etcd-4.add", "etcd-4.install");
                },
            ),
            (
                "node.etcd-4.join does not wait for node.etcd-4.configure",
                |plan| {
                    free(plan, "etcd-4.join", "etcd-4.configure");
                },
            ),
            (
                "node.etcd-4.record does not wait for node.etcd-4.join",
                |plan| {
                    free(plan, "etcd-4.record", "etcd-4.join");
                },
            ),
        ],
    );
    each_is_found(
        &plans::roll().actions,
        &[
            (
                "node.etcd-1.restart does not wait for node.etcd-1.claim",
                |plan| {
                    free(plan, "etcd-1.restart", "etcd-1.claim");
                },
            ),
            (
                "node.etcd-1.restart does not wait for node.etcd-1.install",
                |plan| {
                    free(plan, "etcd-1.restart", "etcd-1.install");
                },
            ),
            (
                "node.etcd-1.restart does not wait for node.etcd-1.enable",
                |plan| {
                    free(plan, "etcd-1.restart", "etcd-1.enable");
                },
            ),
            (
                "node.etcd-1.record does not wait for node.etcd-1.restart",
                |plan| {
                    free(plan, "etcd-1.record", "etcd-1.restart");
                },
            ),
            (
                "node.etcd-1.install does not leave it to node.etcd-1.restart",
                |plan| {
                    if let ActionKind::Install(install) = &mut get(plan, "etcd-1.install").kind {
                        install.staged = false;
                    }
                },
            ),
            (
                "node.etcd-1.configure does not leave /etc/etcd/etcd.conf to node.etcd-1.restart",
                |plan| {
                    let ActionKind::Restart(restart) = &get(plan, "etcd-1.restart").kind else {
                        panic!("a restart");
                    };
                    let files = restart.files.clone();
                    let mut configure = get(plan, "etcd-1.enable").clone();
                    configure.id = id("etcd-1.configure");
                    configure.kind = ActionKind::Configure(quorate::action::configure::Configure {
                        files,
                        remove: vec![],
                        reload: None,
                        fresh: false,
                    });
                    plan.insert(1, configure);
                },
            ),
        ],
    );
    each_is_found(
        &plans::repair().actions,
        &[
            (
                "node.etcd-3.start does not wait for node.etcd-3.enable",
                |plan| {
                    free(plan, "etcd-3.start", "etcd-3.enable");
                },
            ),
            (
                "node.etcd-3.record does not wait for node.etcd-3.start",
                |plan| {
                    free(plan, "etcd-3.record", "etcd-3.start");
                },
            ),
        ],
    );
}

#[test]
fn data_moves_only_when_nobody_uses_it_and_its_member_has_gone() {
    use quorate::action::destroy::{SetAside, Stop};
    fn aside<'a>(plan: &'a mut Actions, short: &str) -> &'a mut SetAside {
        match &mut get(plan, short).kind {
            ActionKind::SetAside(aside) => aside,
            other => panic!("{other:?}"),
        }
    }
    fn stop<'a>(plan: &'a mut Actions, short: &str) -> &'a mut Stop {
        match &mut get(plan, short).kind {
            ActionKind::Stop(stop) => stop,
            other => panic!("{other:?}"),
        }
    }
    let of_every_host: [Break; 3] = [
        (
            "node.etcd-3.set-aside does not wait for node.etcd-3.stop",
            |plan| {
                free(plan, "etcd-3.set-aside", "etcd-3.stop");
            },
        ),
        (
            "node.etcd-3.clean does not wait for node.etcd-3.stop",
            |plan| {
                free(plan, "etcd-3.clean", "etcd-3.stop");
            },
        ),
        (
            "node.etcd-3.clean does not wait for node.etcd-3.set-aside",
            |plan| {
                free(plan, "etcd-3.clean", "etcd-3.set-aside");
            },
        ),
    ];
    each_is_found(&plans::destroy().actions, &of_every_host);
    each_is_found(&plans::shrink().actions, &of_every_host);
    each_is_found(
        &plans::shrink().actions,
        &[
            (
                "node.etcd-3.stop does not wait for node.etcd-3.remove",
                |plan| {
                    free(plan, "etcd-3.stop", "etcd-3.remove");
                },
            ),
            (
                "node.etcd-3.set-aside does not wait for node.etcd-3.remove",
                |plan| {
                    free(plan, "etcd-3.set-aside", "etcd-3.remove");
                },
            ),
            (
                "node.etcd-3.set-aside does not say whose data it is",
                |plan| {
                    aside(plan, "etcd-3.set-aside").member = None;
                },
            ),
            (
                "node.etcd-3.stop and node.etcd-3.set-aside speak of different members",
                |plan| {
                    stop(plan, "etcd-3.stop").member = None;
                },
            ),
            (
                "node.etcd-3.stop and node.etcd-3.set-aside speak of different members",
                |plan| {
                    aside(plan, "etcd-3.set-aside").member = Some(MemberId(9));
                },
            ),
            (
                "node.etcd-3.set-aside deletes data while the cluster lives",
                |plan| {
                    let aside = aside(plan, "etcd-3.set-aside");
                    aside.purge = aside.moves.drain(..).map(|(from, _)| from).collect();
                },
            ),
            // Without anything else it is still no destroy plan.
            (
                "node.etcd-3.set-aside does not say whose data it is",
                |plan| {
                    aside(plan, "etcd-3.set-aside").member = None;
                    plan.retain(|action| action.node.as_deref() == Some("etcd-3"));
                    drop(plan, "etcd-3.remove");
                },
            ),
            (
                "node.etcd-1.record does not wait for node.etcd-3.remove",
                |plan| {
                    free(plan, "etcd-1.record", "etcd-3.remove");
                },
            ),
            (
                "node.etcd-1.record does not wait for node.etcd-3.clean",
                |plan| {
                    free(plan, "etcd-1.record", "etcd-3.clean");
                },
            ),
        ],
    );
    each_is_found(
        &plans::same_host().actions,
        &[
            (
                "node.etcd-2.stop does not wait for node.etcd-2.claim",
                |plan| {
                    free(plan, "etcd-2.stop", "etcd-2.claim");
                },
            ),
            (
                "node.etcd-2.add does not wait for node.etcd-2.set-aside",
                |plan| {
                    free(plan, "etcd-2.add", "etcd-2.set-aside");
                },
            ),
        ],
    );
}
