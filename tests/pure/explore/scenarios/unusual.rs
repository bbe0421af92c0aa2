//! What goes beyond: hosts that are gone, move or cannot be asked, data and members of others' making, other addresses and
//! directories, older releases, destroy.

use super::*;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "--replace of one of 3",
        goal: || replace("etcd-2"),
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "removal of one of 3 whose host is gone",
        world: || {
            let mut world = living(3, 3);
            world.kill("etcd-3");
            world.cut_off("etcd-3");
            world.name_first(2);
            world
        },
        gone: &["etcd-3"],
        ..DEFAULT
    },
    Scenario {
        name: "a host of 3 is unreachable, and settings change",
        world: || {
            let mut world = changed(living(3, 3));
            world.cut_off("etcd-3");
            world
        },
        gone: &["etcd-3"],
        may_block: true,
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "a unit of 3 is disabled",
        world: || {
            let mut world = living(3, 3);
            world.hosts.get_mut("etcd-2").expect("a host").enabled = false;
            world
        },
        pace: Pace::Rests,
        budgets: &[("operator dies", CRASH)],
        ..DEFAULT
    },
    Scenario {
        name: "damaged data of one of 3",
        world: damaged,
        may_block: true,
        pace: Pace::Rests,
        budgets: &[("operator dies", CRASH)],
        ..DEFAULT
    },
    Scenario {
        name: "--replace of damaged data",
        world: damaged,
        goal: || replace("etcd-2"),
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "a failed member of 3 is replaced by a new node in one edit",
        world: || {
            let mut world = living(4, 3);
            world.kill("etcd-2");
            world.cut_off("etcd-2");
            world.name_only(&["etcd-1", "etcd-3", "etcd-4"]);
            world
        },
        gone: &["etcd-2"],
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "a node of 3 moves to a blank host",
        world: || {
            let mut world = living(3, 3);
            world.rehouse("etcd-2", "10.0.0.4");
            world
        },
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "a node of 3 moves, and the host that it was on is gone",
        world: || {
            let mut world = living(3, 3);
            world.kill("etcd-2");
            world.cut_off("etcd-2");
            world.rehouse("etcd-2", "10.0.0.4");
            world
        },
        gone: &["etcd-2@10.0.0.2"],
        goal: || replace("etcd-2"),
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "a member of 3 was removed by hand",
        world: removed_by_hand,
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "a member of 3 was removed by hand, and the file does not name it",
        world: || {
            let mut world = removed_by_hand();
            world.name_first(2);
            world
        },
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "growth from 2 to 3, and a change of settings",
        world: || changed(edited(3, 2, 3)),
        pace: Pace::Rests,
        budgets: EACH_ALONE,
        ..DEFAULT
    },
    Scenario {
        name: "growth from 1 to 3, one of whose hosts has data of another cluster",
        world: || {
            let mut world = edited(3, 1, 3);
            world.put_foreign("etcd-3");
            world
        },
        may_block: true,
        pace: Pace::Rests,
        budgets: &[("operator dies", CRASH), ("member or host dies", FAULT)],
        ..DEFAULT
    },
    Scenario {
        name: "SSH does not reach a living member of 5, and settings change",
        world: || {
            let mut world = changed(living(5, 5));
            world.shut_out("etcd-5");
            world
        },
        gone: &["etcd-5"],
        may_block: true,
        pace: Pace::RestsOneWay,
        restarts_all: true,
        budgets: EACH_ALONE,
        ..DEFAULT
    },
    Scenario {
        name: "SSH does not reach a living member of 3, and settings change",
        world: || {
            let mut world = changed(living(3, 3));
            world.shut_out("etcd-3");
            world
        },
        gone: &["etcd-3"],
        may_block: true,
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "SSH does not reach a living member of 3, and its node is deleted",
        world: || {
            let mut world = edited(3, 3, 2);
            world.shut_out("etcd-3");
            world
        },
        gone: &["etcd-3"],
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "2 of 3 replaced in one edit",
        world: || {
            let mut world = living(5, 3);
            world.name_only(&["etcd-1", "etcd-4", "etcd-5"]);
            world
        },
        may_block: true,
        pace: Pace::Rests,
        budgets: &[("operator dies", CRASH)],
        ..DEFAULT
    },
    Scenario {
        name: "somebody added a member by hand",
        world: || {
            let mut world = edited(3, 3, 2);
            world.by_hand(Entry::Add {
                id: MemberId(0xf0e1),
                url: "http://10.0.9.9:2380".into(),
                learner: true,
            });
            world
        },
        may_block: true,
        pace: Pace::Rests,
        budgets: &[("operator dies", CRASH)],
        ..DEFAULT
    },
    Scenario {
        name: "a member bears the name of one that leaves",
        world: namesakes,
        pace: Pace::Rests,
        budgets: &[("operator dies", CRASH)],
        ..DEFAULT
    },
    Scenario {
        name: "another peer port for 3",
        world: || readdressed(living(3, 3)),
        ..DEFAULT
    },
    Scenario {
        name: "another peer port for 2",
        world: || readdressed(living(2, 2)),
        goal: downtime,
        ..DEFAULT
    },
    Scenario {
        name: "another data directory for 3",
        world: || moved(living(3, 3)),
        ..DEFAULT
    },
    Scenario {
        name: "directories of their own for the WALs of 3",
        world: || wal_apart(living(3, 3)),
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "another peer port for 3, one of which a firewall closes",
        world: || {
            let mut world = readdressed(living(3, 3));
            let url = world.layout("etcd-2").peer_url.clone();
            world.etcd.host("etcd-2").closed = Some(url);
            world
        },
        pace: Pace::Rests,
        budgets: EACH_ALONE,
        ..DEFAULT
    },
    Scenario {
        name: "another peer port for 3, one of them half-way",
        world: || {
            let mut world = readdressed(living(3, 3));
            let url = world.layout("etcd-3").peer_url.clone();
            world.update_peer_url("etcd-3", &url);
            world
        },
        pace: Pace::Rests,
        budgets: EACH_ALONE,
        ..DEFAULT
    },
    Scenario {
        name: "another peer port for 3, which firewalls close",
        world: || {
            let mut world = readdressed(living(3, 3));
            for name in ["etcd-1", "etcd-2", "etcd-3"] {
                let url = world.layout(name).peer_url.clone();
                world.etcd.host(name).closed = Some(url);
            }
            world
        },
        pace: Pace::RestsOneWay,
        pairs: true,
        budgets: &[("operator dies", CRASH), ("operation fails", FAILURE)],
        ..DEFAULT
    },
    Scenario {
        name: "another port and directories for 3, one of them dead",
        world: || {
            let mut world = readdressed(wal_apart(moved(living(3, 3))));
            world.kill("etcd-2");
            world
        },
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "growth from 1 to 2, 3.4.23",
        world: || edited_at("3.4.23", 2, 1, 2),
        ..DEFAULT
    },
    Scenario {
        name: "growth from 1 to 3, 3.6.16",
        world: || edited_at("3.6.16", 3, 1, 3),
        pace: Pace::Rests,
        budgets: EACH_ALONE,
        ..DEFAULT
    },
    Scenario {
        name: "shrink from 3 to 2, 3.4.23",
        world: || edited_at("3.4.23", 3, 3, 2),
        ..DEFAULT
    },
    Scenario {
        name: "destroy of 3 with its data",
        goal: || Goal::Destroy { purge_data: true },
        budgets: &[("operator dies", CRASH), ("operation fails", FAILURE)],
        ..DEFAULT
    },
    Scenario {
        name: "destroy of 3",
        goal: || Goal::Destroy { purge_data: false },
        budgets: &[("operator dies", CRASH), ("operation fails", FAILURE)],
        ..DEFAULT
    },
    Scenario {
        name: "destroy of 2",
        world: || living(2, 2),
        goal: || Goal::Destroy { purge_data: false },
        budgets: &[("lock is lost", LOCK)],
        ..DEFAULT
    },
];
