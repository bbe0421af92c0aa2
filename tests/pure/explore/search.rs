//! What a state is, and what may happen in it.
//!
//! A state is the world, the run that holds the lock, one that has lost it, and what may still go wrong. Operations that
//! touch no member are taken together with the next that does: `crashes.rs` cuts between all of them.

mod planning;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use quorate::plan::{self, Goal, Intent};
use stateright::{Model, Property};
use time::OffsetDateTime;

use super::rules::{self, Broken};
use super::session::{Move, Planned, Session};
use super::truth;
use crate::model::Event;
use crate::model::host::Run;
use crate::model::membership::Entry;
use crate::model::start::Exit;
use crate::world::World;

/// Counts by name, shared by all threads of a search.
#[derive(Clone, Default)]
pub struct Reached(Arc<Mutex<BTreeMap<String, u64>>>);

impl Reached {
    pub fn note(&self, what: impl Into<String>) {
        let mut counts = self.0.lock().expect("no panic");
        *counts.entry(what.into()).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().expect("no panic").clone()
    }
}

/// What etcd does by itself between two steps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pace {
    /// Anything, one event at a time.
    Events,
    /// It comes to rest, in every way in which it can.
    Rests,
    /// It comes to rest in one of these ways.
    RestsOneWay,
}

/// What may still happen to us.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    /// Deaths of the operator.
    pub crashes: u8,
    /// Deaths of a member, or a host.
    pub faults: u8,
    /// Gates and rechecks that are waited for in vain.
    pub delays: u8,
    /// Operations that fail.
    pub failures: u8,
    /// Hosts that boot without the disk of their data.
    pub mounts: u8,
    /// Locks that are lost, to another operator.
    pub locks: u8,
}

impl Budget {
    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self {
            crashes: self.crashes + other.crashes,
            faults: self.faults + other.faults,
            delays: self.delays + other.delays,
            failures: self.failures + other.failures,
            mounts: self.mounts + other.mounts,
            locks: self.locks + other.locks,
        }
    }

    /// Whether it goes on beside everything that we do.
    pub fn is_wide(&self) -> bool {
        self.faults + self.mounts + self.locks > 0
    }

    /// How much goes wrong.
    pub fn all(&self) -> u8 {
        self.crashes + self.faults + self.delays + self.failures + self.mounts + self.locks
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// Nothing runs. Whether the last run did all that there was to do, undisturbed.
    Idle(bool),
    Running(Box<Session>),
    /// The last plan was empty.
    Converged,
    /// Nothing is left to do but what is blocked, for true reasons.
    Blocked,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub world: World,
    pub phase: Phase,
    /// A run that has lost the lock to another.
    pub ghost: Option<Box<Session>>,
    pub runs: u8,
    /// How often they were counted anew, since something befell hosts.
    pub recounts: u8,
    pub budget: Budget,
    pub broken: Option<Broken>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Plans, on what there is, and starts the plan.
    Plan,
    /// The same, after everything that failed has come back.
    Heal,
    Run(Move),
    /// What the run without the lock does.
    Ghost(Move),
    /// The operator dies.
    Crash,
    /// The hosts end the lock.
    LoseLock,
    /// Whoever lost it hears of that.
    Tell,
    /// Something happens in etcd by itself; the number chooses between outcomes.
    Etcd(Event, usize),
    /// It comes to rest; the number chooses between ways.
    Rest(usize),
    /// systemd starts what died.
    Revive(String),
    Write(Entry),
    Kill(String),
    PowerOff(String),
    PowerOn(String),
    /// It boots, and a disk is missing.
    LoseMount(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What is searched.
pub struct Search {
    pub name: &'static str,
    /// What may go wrong, in words.
    pub anomaly: String,
    pub world: World,
    pub goal: Goal,
    pub budget: Budget,
    /// Hosts that never come back.
    pub gone: BTreeSet<String>,
    pub pace: Pace,
    /// Whether there may be something that cannot be done at all.
    pub may_block: bool,
    pub reached: Reached,
    /// What was planned for a world: most runs that were cut come back to few of them.
    pub plans: Mutex<HashMap<(World, String), Planned>>,
    /// What was planned for facts of one fingerprint.
    pub steered: Mutex<HashMap<(String, String), Planned>>,
    /// A deliberate bug of the library.
    #[cfg(feature = "sabotage")]
    pub bug: Option<quorate::sabotage::Bug>,
}

impl Model for Search {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            world: self.world.clone().canonical(),
            phase: Phase::Idle(false),
            ghost: None,
            runs: 0,
            recounts: 0,
            budget: self.budget,
            broken: None,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.sabotage();
        if state.broken.is_some() {
            return;
        }
        if self.pace != Pace::Events && !state.rests() {
            let ways = state.world.etcd.quiescent().len();
            steps.extend((0..ways).map(Step::Rest));
            return;
        }
        let free = match &state.phase {
            Phase::Converged | Phase::Blocked => return,
            Phase::Running(session) => {
                steps.extend(session.moves(self, state).into_iter().map(Step::Run));
                if state.budget.crashes > 0 {
                    steps.push(Step::Crash);
                }
                if state.budget.locks > 0 && state.ghost.is_none() {
                    steps.push(Step::LoseLock);
                }
                false
            }
            Phase::Idle(_) => true,
        };
        if let Some(ghost) = &state.ghost {
            steps.extend(ghost.moves(self, state).into_iter().map(Step::Ghost));
            if !ghost.told {
                steps.push(Step::Tell);
            }
        }
        // Who takes the lock waits for the script of another run.
        if free
            && !state
                .ghost
                .as_ref()
                .is_some_and(|ghost| ghost.is_amid_script())
        {
            steps.push(Step::Heal);
            if state.ghost.is_some() || state.is_hurt(self) {
                steps.push(Step::Plan);
            }
        }
        self.elsewhere(state, steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        self.sabotage();
        let mut next = state.clone();
        match step {
            Step::Plan => self.plan(&mut next, false),
            Step::Heal => {
                if next.is_hurt(self) {
                    next.phase = Phase::Idle(false);
                    // As often as somebody tries before: once for what there was, and for all that befalls hosts since.
                    let befallen = |budget: Budget| budget.faults + budget.mounts;
                    if next.recounts <= befallen(self.budget) - befallen(next.budget) {
                        next.recounts += 1;
                        next.runs = 0;
                    }
                }
                next.heal(self);
                self.plan(&mut next, true);
            }
            Step::Run(what) => {
                let Phase::Running(session) =
                    std::mem::replace(&mut next.phase, Phase::Idle(false))
                else {
                    return None;
                };
                let after = session.take(self, &mut next, what)?;
                next.resume(after);
            }
            Step::Ghost(what) => {
                let phase = next.phase.clone();
                let after = next.ghost.take()?.take(self, &mut next, what)?;
                next.phase = phase;
                next.ghost = after;
            }
            Step::Tell => {
                let phase = next.phase.clone();
                let after = next.ghost.take()?.tell(self, &mut next);
                next.phase = phase;
                next.ghost = after;
                self.reached.note("lock: its loss is told");
            }
            Step::LoseLock => {
                next.budget.locks -= 1;
                let Phase::Running(mut session) =
                    std::mem::replace(&mut next.phase, Phase::Idle(false))
                else {
                    return None;
                };
                session.lost = true;
                next.ghost = Some(session);
                self.reached.note("lock: lost");
            }
            Step::Crash => {
                next.budget.crashes -= 1;
                next.phase = Phase::Idle(false);
                self.reached.note("operator: dies");
            }
            Step::Etcd(event, choice) => {
                next.world.etcd = next.world.etcd.after(&event).swap_remove(choice);
            }
            Step::Rest(way) => {
                next.world.etcd = next.world.etcd.quiescent().swap_remove(way);
            }
            Step::Revive(host) => {
                next.world.start_unit(&host);
            }
            Step::Write(entry) => {
                for raft in next.world.etcd.rafts.values_mut() {
                    if raft.is_quorate() {
                        raft.commit(entry.clone(), None);
                    }
                }
            }
            Step::Kill(host) => {
                self.reached.note("member: killed");
                next.budget.faults -= 1;
                next.disturb(&host);
                next.world.etcd.stop(&host, false);
                next.world.etcd.host(&host).run = Run::Failed(Exit::Killed);
            }
            Step::PowerOff(host) => {
                self.reached.note("host: powered off");
                next.budget.faults -= 1;
                next.power_off(&host);
            }
            Step::LoseMount(host) => {
                self.reached.note("disk: not mounted");
                next.budget.mounts -= 1;
                next.power_off(&host);
                next.world.etcd.host(&host).mounted = false;
                next.world.power_on(&host);
            }
            Step::PowerOn(host) => {
                next.world.power_on(&host);
            }
        }
        next.publish(self.pace);
        next.link(&state.world);
        next.world = next.world.canonical();
        let broken = rules::always(&next.world);
        next.broken = next.broken.take().or(broken);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no rule is broken", |_, state: &State| {
                state.broken.is_none()
            }),
            Property::sometimes("it comes to an end", |_, state: &State| {
                matches!(state.phase, Phase::Converged | Phase::Blocked)
            }),
        ]
    }
}

impl Search {
    /// The threads of a search know its bug.
    fn sabotage(&self) {
        #[cfg(feature = "sabotage")]
        quorate::sabotage::set(self.bug);
    }

    /// What happens by itself, and what goes wrong.
    fn elsewhere(&self, state: &State, steps: &mut Vec<Step>) {
        let world = &state.world;
        for event in world.etcd.events() {
            if self.pace != Pace::Events && !matches!(event, Event::Settle(_)) {
                continue;
            }
            for choice in 0..world.etcd.after(&event).len() {
                steps.push(Step::Etcd(event.clone(), choice));
            }
        }
        for (name, host) in &world.etcd.hosts {
            if self.gone.contains(name) {
                continue;
            }
            if host.on && matches!(host.run, Run::Failed(Exit::Killed | Exit::Panic)) {
                steps.push(Step::Revive(name.clone()));
            }
            if !host.on {
                steps.push(Step::PowerOn(name.clone()));
                continue;
            }
            if state.budget.faults > 0 && world.etcd.member_on(name).is_some() {
                steps.push(Step::PowerOff(name.clone()));
                if host.run == Run::Up {
                    steps.push(Step::Kill(name.clone()));
                }
            }
            if state.budget.mounts > 0 && host.mounted && world.etcd.member_on(name).is_some() {
                steps.push(Step::LoseMount(name.clone()));
            }
        }
        if self.pace == Pace::Events && world.etcd.rafts.values().any(|raft| raft.is_quorate()) {
            steps.push(Step::Write(Entry::Write));
            steps.push(Step::Write(Entry::Burst));
        }
    }
}
