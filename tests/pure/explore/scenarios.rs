//! What is searched: a world to begin with, a file, and what may go wrong.

mod unusual;
mod usual;
mod worlds;

use std::collections::BTreeSet;
use std::sync::Mutex;

use quorate::etcd::id::MemberId;
use quorate::plan::Goal;

use self::worlds::*;
use super::search::{Budget, Pace, Reached, Search};
use crate::drive::CONVERGE;
use crate::model::membership::Entry;
use crate::world::World;

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
            let is_pair = budget.all() > 1;
            let is_slow = budget.is_wide() && (search.pace == Pace::Rests || is_pair);
            if !is_deep() && (budget.locks > 0 || is_slow) {
                search.pace = Pace::RestsOneWay;
            } else if !is_deep() && is_pair {
                search.pace = search.pace.max(Pace::Rests);
            }
            // A disk that comes back to a host on which another member has begun hides that one's data.
            let replaces =
                matches!(&search.goal, Goal::Converge { replace, .. } if !replace.is_empty());
            // The same goes for one that was removed while its host was away, and of which its host knows nothing.
            search.may_block |= budget.mounts > 0 && (replaces || budget.faults > 0);
            search
        })
    };
    let all = [usual::SCENARIOS, unusual::SCENARIOS];
    all.into_iter().flatten().flat_map(with).collect()
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
            // With five, two that befall hosts at any point take half a million states each, and one beside five
            // restarts takes a minute; so does another run beside anything.
            let takes_long = |other: &Budget| {
                let both = budget.and(*other);
                let is_wide = budget.is_wide() && other.is_wide();
                let is_wide = is_wide || (both.is_wide() && self.restarts_all);
                both.locks > 0 || (is_wide && self.pace == Pace::RestsOneWay)
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
