//! What is searched: a world to begin with, a file, and what may go wrong.

use std::collections::BTreeSet;
use std::sync::Mutex;

use quorate::etcd::id::MemberId;
use quorate::plan::Goal;

use super::search::{Budget, Pace, Reached, Search};
use crate::drive::{CONVERGE, desired_at, plan_for, run};
use crate::model::host::Data;
use crate::model::membership::Entry;
use crate::world::World;

/// The release where it makes no difference.
const RELEASE: &str = "3.5.16";

/// Hosts with nothing on them.
fn blank(hosts: usize) -> World {
    World::new(desired_at(RELEASE, hosts))
}

/// A cluster of the first so many of some hosts, under a file that names only them.
fn living(hosts: usize, nodes: usize) -> World {
    living_at(RELEASE, hosts, nodes)
}

fn living_at(release: &str, hosts: usize, nodes: usize) -> World {
    let mut world = World::new(desired_at(release, hosts));
    world.name_first(nodes);
    let plan = plan_for(&world, CONVERGE, "n");
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world
}

/// The same, and then the file names another number of them.
fn edited(hosts: usize, nodes: usize, wanted: usize) -> World {
    edited_at(RELEASE, hosts, nodes, wanted)
}

fn edited_at(release: &str, hosts: usize, nodes: usize, wanted: usize) -> World {
    let mut world = living_at(release, hosts, nodes);
    world.name_first(wanted);
    world
}

/// Another port for the peers of each.
fn readdressed(mut world: World) -> World {
    for node in &mut world.desired_mut().nodes {
        node.peer_port = 2390;
    }
    world
}

/// Another data directory for each.
fn moved(mut world: World) -> World {
    for node in &mut world.desired_mut().nodes {
        node.data_dir = "/srv/etcd".into();
    }
    world
}

/// A directory of its own for each WAL.
fn wal_apart(mut world: World) -> World {
    for node in &mut world.desired_mut().nodes {
        node.wal_dir = Some("/srv/wal".into());
    }
    world
}

fn changed(mut world: World) -> World {
    for node in &mut world.desired_mut().nodes {
        node.settings.insert("snapshot-count".into(), "5000".into());
    }
    world
}

fn damaged() -> World {
    let mut world = living(3, 3);
    world.kill("etcd-2");
    world.etcd.host("etcd-2").data = Data::Corrupt;
    world
}

/// Of the members by ID, the second leaves, and the first has got its name.
fn namesakes() -> World {
    let mut world = living(4, 4);
    let mut members: Vec<(MemberId, String)> = world
        .hosts
        .keys()
        .map(|name| (world.etcd.member_on(name).expect("data").1, name.clone()))
        .collect();
    members.sort();
    let (first, leaver) = (members[0].0, members[1].1.clone());
    world.by_hand(Entry::Publish(first, leaver.clone()));
    let stay: Vec<&str> = members.iter().map(|(_, name)| name.as_str()).collect();
    let stay: Vec<&str> = stay.into_iter().filter(|name| *name != leaver).collect();
    world.name_only(&stay);
    world
}

/// Somebody removes a member by hand; its host keeps its data.
fn removed_by_hand() -> World {
    let mut world = living(3, 3);
    let (_, member) = world.etcd.member_on("etcd-3").expect("data");
    world.by_hand(Entry::Remove(member));
    world
}

fn replace(name: &str) -> Goal {
    Goal::Converge {
        allow_downtime: false,
        replace: vec![name.into()],
    }
}

fn downtime() -> Goal {
    Goal::Converge {
        allow_downtime: true,
        replace: vec![],
    }
}

const NONE: Budget = Budget {
    crashes: 0,
    faults: 0,
    delays: 0,
    failures: 0,
    mounts: 0,
    locks: 0,
};
const CRASH: Budget = Budget { crashes: 1, ..NONE };
const FAULT: Budget = Budget { faults: 1, ..NONE };
const DELAY: Budget = Budget { delays: 1, ..NONE };
const FAILURE: Budget = Budget {
    failures: 1,
    ..NONE
};
const MOUNT: Budget = Budget { mounts: 1, ..NONE };
const LOCK: Budget = Budget { locks: 1, ..NONE };

/// One world, one file and one goal.
struct Scenario {
    name: &'static str,
    world: fn() -> World,
    goal: fn() -> Goal,
    gone: &'static [&'static str],
    pace: Pace,
    /// Whether any two anomalies come together.
    pairs: bool,
    /// Whether every member of five is restarted, so that whatever befalls hosts does at five times as many points.
    restarts_all: bool,
    may_block: bool,
    budgets: &'static [(&'static str, Budget)],
}

fn converge() -> Goal {
    CONVERGE
}

/// All but the lock, which takes minutes.
const EACH_ALONE: &[(&str, Budget)] = &[
    ("operator dies", CRASH),
    ("member or host dies", FAULT),
    ("waited for in vain", DELAY),
    ("operation fails", FAILURE),
    ("disk is missing", MOUNT),
];

const EACH: &[(&str, Budget)] = &[
    ("operator dies", CRASH),
    ("member or host dies", FAULT),
    ("waited for in vain", DELAY),
    ("operation fails", FAILURE),
    ("disk is missing", MOUNT),
    ("lock is lost", LOCK),
];

const DEFAULT: Scenario = Scenario {
    name: "",
    world: || living(3, 3),
    goal: converge,
    gone: &[],
    pace: Pace::Events,
    pairs: false,
    restarts_all: false,
    may_block: false,
    budgets: EACH,
};

const SCENARIOS: &[Scenario] = &[
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
        name: "change of settings of 3",
        world: || changed(living(3, 3)),
        ..DEFAULT
    },
    Scenario {
        name: "growth from 1 to 2",
        world: || edited(2, 1, 2),
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

/// Whether more is searched than every test run has time for.
pub fn is_deep() -> bool {
    std::env::var_os("QUORATE_EXPLORE_DEPTH").is_some()
}

/// Everything that is searched, by scenario and what may go wrong.
pub fn all(reached: &Reached) -> Vec<Search> {
    let with = |scenario: &'static Scenario| {
        let budgets = scenario.budgets().into_iter();
        budgets.map(|(anomaly, budget)| {
            let mut search = scenario.search(budget, reached);
            search.anomaly = anomaly;
            // Two runs beside each other and every election beside them take minutes, and so does what befalls hosts at
            // any point together with every way in which etcd comes to rest.
            if !is_deep() && (budget.locks > 0 || (budget.is_wide() && search.pace == Pace::Rests))
            {
                search.pace = Pace::RestsOneWay;
            }
            // A disk that comes back to a host on which another member has begun hides that one's data.
            let replaces =
                matches!(&search.goal, Goal::Converge { replace, .. } if !replace.is_empty());
            // The same goes for one that was removed while its host was away, and of which its host knows nothing.
            search.may_block |= budget.mounts > 0 && (replaces || budget.faults > 0);
            search
        })
    };
    SCENARIOS.iter().flat_map(with).collect()
}

impl Scenario {
    /// What may go wrong, in words.
    fn budgets(&self) -> Vec<(String, Budget)> {
        let each = if self.pairs && is_deep() {
            EACH
        } else {
            self.budgets
        };
        let mut all: Vec<(String, Budget)> = each
            .iter()
            .map(|(name, budget)| ((*name).to_owned(), *budget))
            .collect();
        for (at, (first, budget)) in each.iter().enumerate().filter(|_| self.pairs) {
            let pairs = each[at..].iter();
            // Two that befall hosts at any point take half a million states each, and so does another run beside; a host
            // that dies beside what fails or is waited for takes a minute, and so does one beside five restarts.
            let takes_long = |other: &Budget| {
                let both = budget.and(*other);
                let is_slow = both.faults > 0 && both.delays + both.failures > 0;
                let is_wide = both.is_wide() && self.restarts_all;
                both.locks > 0 || is_slow || is_wide || (budget.is_wide() && other.is_wide())
            };
            let pairs = pairs.filter(|(_, other)| is_deep() || !takes_long(other));
            all.extend(
                pairs.map(|(second, other)| (format!("{first} and {second}"), budget.and(*other))),
            );
        }
        all
    }

    fn search(&self, budget: Budget, reached: &Reached) -> Search {
        Search {
            name: self.name,
            anomaly: String::new(),
            world: (self.world)(),
            goal: (self.goal)(),
            budget,
            gone: self
                .gone
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<BTreeSet<_>>(),
            pace: self.pace,
            may_block: self.may_block,
            reached: reached.clone(),
            plans: Mutex::default(),
            steered: Mutex::default(),
            #[cfg(feature = "sabotage")]
            bug: None,
        }
    }
}
