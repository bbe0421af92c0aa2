//! What clusters go through: bootstrap, members that come and go, settings, dead members and rebuilt hosts.

use super::*;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bootstrap of 3",
        world: || blank(3),
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "start of 1 of 3",
        world: || {
            let mut world = living(3, 3);
            world.kill("etcd-3");
            world
        },
        ..DEFAULT
    },
    Scenario {
        name: "start of 2 of 3, and a change of settings",
        world: || {
            let mut world = changed(living(3, 3));
            world.kill("etcd-2");
            world.kill("etcd-3");
            world
        },
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "2 of 3 crash, and settings change",
        world: || {
            let mut world = changed(living(3, 3));
            world.crash("etcd-2");
            world.crash("etcd-3");
            world
        },
        pace: Pace::Rests,
        budgets: EACH_ALONE,
        ..DEFAULT
    },
    Scenario {
        name: "1 of 3 crashes, and settings change",
        world: || {
            let mut world = changed(living(3, 3));
            world.crash("etcd-3");
            world
        },
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "change of settings of 3",
        world: || changed(living(3, 3)),
        pairs: true,
        ..DEFAULT
    },
    Scenario {
        name: "growth from 1 to 2",
        world: || edited(2, 1, 2),
        pairs: true,
        ..DEFAULT
    },
    Scenario {
        name: "growth from 1 to 3",
        world: || edited(3, 1, 3),
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "growth from 3 to 5",
        world: || edited(5, 3, 5),
        pace: Pace::RestsOneWay,
        pairs: true,
        ..DEFAULT
    },
    Scenario {
        name: "shrink from 3 to 2",
        world: || edited(3, 3, 2),
        pairs: true,
        ..DEFAULT
    },
    Scenario {
        name: "shrink from 3 to 1",
        world: || edited(3, 3, 1),
        pace: Pace::Rests,
        ..DEFAULT
    },
    Scenario {
        name: "shrink from 5 to 3",
        world: || edited(5, 5, 3),
        pace: Pace::RestsOneWay,
        pairs: true,
        ..DEFAULT
    },
    Scenario {
        name: "replacement of a rebuilt host of 3",
        world: || {
            let mut world = living(3, 3);
            world.rebuild("etcd-2");
            world
        },
        pairs: true,
        ..DEFAULT
    },
    Scenario {
        name: "change of settings of 5",
        world: || changed(living(5, 5)),
        pace: Pace::RestsOneWay,
        pairs: true,
        restarts_all: true,
        budgets: EACH_ALONE,
        ..DEFAULT
    },
    Scenario {
        name: "replacement of a rebuilt host of 5",
        world: || {
            let mut world = living(5, 5);
            world.rebuild("etcd-2");
            world
        },
        pace: Pace::RestsOneWay,
        pairs: true,
        budgets: EACH_ALONE,
        ..DEFAULT
    },
    Scenario {
        name: "another peer port for 5",
        world: || readdressed(living(5, 5)),
        pace: Pace::RestsOneWay,
        pairs: true,
        restarts_all: true,
        budgets: EACH_ALONE,
        ..DEFAULT
    },
];
