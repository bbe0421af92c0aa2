//! The executor's core, without I/O: events in, commands out. It decides what is ready, rechecks safety on fresh facts,
//! waits for gates, undoes, and knows what a failure, an interrupt or a lost lock stops.

mod failing;
mod outcome;
mod spare;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use outcome::{Outcome, Report};
pub use spare::Spare;
#[cfg(test)]
pub(crate) use spare::tests as spare_tests;

use crate::action::{Action, ActionId, ActionKind, Gate, MembershipChange, Precondition};
use crate::etcd::id::MemberId;
use crate::observed::etcd::{Alarm, ClusterView};
use crate::sabotage::{self, Bug};
use crate::safety::{self, Unsafe};

/// Milliseconds that a gate may take before its action counts as failed, unless its member is catching up.
pub const GATE_DEADLINE_MS: u64 = 120_000;
/// Milliseconds that a new member may take to catch up, as long as its unit runs: it gets the whole database, and does not
/// serve before it has it.
pub const JOIN_DEADLINE_MS: u64 = 1_800_000;
/// Milliseconds that a precondition may fail to hold before its action counts as failed.
pub const RECHECK_DEADLINE_MS: u64 = 60_000;
/// Milliseconds between two looks at the cluster.
const LOOK_AGAIN_MS: u64 = 100;
/// Milliseconds for which the cluster may seem unable to spare a member before its failed restart is left as it is.
const SPARE_DEADLINE_MS: u64 = 10_000;
/// Milliseconds without a look after which nothing is known of the time in between.
const BLIND_MS: u64 = 2_000;

/// What happened. Times are milliseconds of one monotonic clock.
#[derive(Debug, Clone)]
pub enum Event {
    /// The lock is held and the facts of the plan still hold.
    Started {
        /// Now.
        at: u64,
    },
    /// The operations of an action, or of its undo, ended.
    Ran {
        /// Now.
        at: u64,
        /// The action.
        id: ActionId,
        /// How it went.
        result: Result<(), String>,
    },
    /// The operations of an action, or of its undo, ended early, before those that would have stopped its member.
    Balked {
        /// Now.
        at: u64,
        /// The action.
        id: ActionId,
        /// Why.
        why: String,
        /// Whether they went well and it was not safe to go on.
        refused: bool,
        /// Whether nothing at all was done, so that nothing is to be taken back.
        untouched: bool,
    },
    /// The cluster was looked at on behalf of an action.
    Looked {
        /// Now.
        at: u64,
        /// The action.
        id: ActionId,
        /// What etcd said.
        view: ClusterView,
        /// Why waiting for a gate is in vain, such as a unit that crashes again and again.
        hopeless: Option<String>,
    },
    /// The operator wants to stop.
    Interrupted {
        /// Now.
        at: u64,
    },
    /// The lock is no longer ours.
    LockLost {
        /// Now.
        at: u64,
        /// Why.
        reason: String,
    },
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Perform the action's operations and report `Ran`.
    Run(ActionId),
    /// Perform its undo and report `Ran`.
    Undo(ActionId),
    /// Look at every member after this many milliseconds and report `Looked`.
    Look(ActionId, u64),
    /// For people: an action waits, and for what.
    Waiting(ActionId, String),
    /// Nothing is under way and nothing more will be.
    Finish,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum State {
    Waiting,
    Checking {
        since: u64,
    },
    Running,
    Gating {
        since: u64,
    },
    /// It failed; whether it can be taken back is for a look to say.
    Failing {
        why: String,
        since: u64,
        what: What,
    },
    Undoing {
        why: String,
        refused: bool,
        /// Whether its member may have been stopped, so that it is stopped once more.
        has_stopped: bool,
    },
    UndoGating {
        why: String,
        refused: bool,
        since: u64,
    },
    Ended(Outcome),
}

/// What of an action failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Operations,
    /// The unit that its gate waits for.
    Unit,
    /// Its gate, which was waited for since.
    Gate(u64),
}

/// The scheduler of one plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduler {
    actions: Arc<BTreeMap<ActionId, Action>>,
    /// In the plan's own order.
    order: Arc<[ActionId]>,
    state: BTreeMap<ActionId, State>,
    parallelism: usize,
    /// Whether members may serve meanwhile.
    is_living: bool,
    stop: Option<String>,
    lock_lost: bool,
    member_failed: bool,
    finished: bool,
    /// Since when each voter has answered healthy, without a gap between two looks.
    healthy_since: BTreeMap<MemberId, u64>,
    last_look: u64,
    /// Alarms that were there when the last exclusive step began.
    alarms: Option<BTreeSet<Alarm>>,
}

/// Of one plan's schedulers, what tells them apart.
impl Hash for Scheduler {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.state.hash(hasher);
        self.stop.hash(hasher);
        (self.lock_lost, self.member_failed, self.finished).hash(hasher);
        (&self.healthy_since, self.last_look).hash(hasher);
    }
}

impl Scheduler {
    /// A scheduler that runs at most `parallelism` actions at a time.
    pub fn new(actions: &[Action], parallelism: usize) -> Self {
        Self {
            order: actions.iter().map(|action| action.id.clone()).collect(),
            state: actions
                .iter()
                .map(|action| (action.id.clone(), State::Waiting))
                .collect(),
            actions: Arc::new(
                actions
                    .iter()
                    .map(|action| (action.id.clone(), action.clone()))
                    .collect(),
            ),
            parallelism: parallelism.max(1),
            is_living: !actions
                .iter()
                .any(|action| matches!(action.kind, ActionKind::Bootstrap(_))),
            stop: None,
            lock_lost: false,
            member_failed: false,
            finished: false,
            healthy_since: BTreeMap::new(),
            last_look: 0,
            alarms: None,
        }
    }

    /// Takes in what happened and says what to do.
    pub fn on(&mut self, event: Event) -> Vec<Command> {
        let mut commands = Vec::new();
        let now = match event {
            Event::Started { at } => at,
            Event::Ran { at, id, result } => {
                self.ran(at, &id, result, &mut commands);
                at
            }
            Event::Balked {
                at,
                id,
                why,
                refused,
                untouched,
            } => {
                let running = self.state.get(&id) == Some(&State::Running);
                if running && untouched {
                    self.end(&id, Outcome::Failed(why));
                } else if running {
                    self.fail(&id, (why, refused), false, &mut commands);
                } else if let Some(State::Undoing { why: first, .. }) = self.state.get(&id) {
                    let why = format!("{first}; it is left as it is: {why}");
                    self.end(&id, Outcome::Failed(why));
                }
                at
            }
            Event::Looked {
                at,
                id,
                view,
                hopeless,
            } => {
                self.remember(at, &view);
                self.looked(at, &id, &view, hopeless, &mut commands);
                at
            }
            Event::Interrupted { at } => {
                self.stop.get_or_insert_with(|| "interrupted".into());
                at
            }
            Event::LockLost { at, .. } if sabotage::on(Bug::LockLossIgnored) => at,
            Event::LockLost { at, reason } => {
                self.stop
                    .get_or_insert(format!("the lock was lost: {reason}"));
                self.lock_lost = true;
                at
            }
        };
        self.start_ready(now, &mut commands);
        if !self.finished && !self.busy() {
            self.finished = true;
            commands.push(Command::Finish);
        }
        commands
    }

    /// Why an action is being taken back, if it is.
    pub fn undoing(&self, id: &ActionId) -> Option<String> {
        match self.state.get(id) {
            Some(State::Undoing { why, .. } | State::UndoGating { why, .. }) => Some(why.clone()),
            _ => None,
        }
    }

    /// Whether what is being taken back stops its member once more.
    pub fn stops_again(&self, id: &ActionId) -> bool {
        let has =
            |state: &State| matches!(state, State::Undoing { has_stopped, .. } if *has_stopped);
        self.state.get(id).is_some_and(has)
    }

    /// The actions that have ended, in the plan's order.
    pub fn ended(&self) -> Vec<(ActionId, Outcome)> {
        self.order
            .iter()
            .filter_map(|id| match &self.state[id] {
                State::Ended(outcome) => Some((id.clone(), outcome.clone())),
                _ => None,
            })
            .collect()
    }

    /// How every action ended so far.
    pub fn report(&self) -> Report {
        Report {
            outcomes: self
                .order
                .iter()
                .map(|id| {
                    let outcome = match &self.state[id] {
                        State::Ended(outcome) => outcome.clone(),
                        _ => Outcome::NotStarted(self.why_not(id)),
                    };
                    (id.clone(), outcome)
                })
                .collect(),
            stopped: self.stop.clone(),
        }
    }

    /// Keeps account of who has answered healthy since when.
    fn remember(&mut self, now: u64, view: &ClusterView) {
        if now.saturating_sub(self.last_look) > BLIND_MS {
            self.healthy_since.clear();
        }
        self.last_look = now;
        let diagnosis = safety::Diagnosis::of(view);
        let healthy: BTreeSet<MemberId> = view
            .voters()
            .map(|voter| voter.id)
            .filter(|id| diagnosis.unhealthy(*id).is_none())
            .collect();
        self.healthy_since.retain(|id, _| healthy.contains(id));
        for id in healthy {
            self.healthy_since.entry(id).or_insert(now);
        }
    }

    fn why_not(&self, id: &ActionId) -> String {
        if let Some(reason) = &self.stop {
            return reason.clone();
        }
        let failed = self.actions[id]
            .needs
            .iter()
            .find(|need| !matches!(self.state.get(need), Some(State::Ended(Outcome::Done))));
        match failed {
            Some(need) => format!("{need} is not done"),
            None => "another member's action failed".into(),
        }
    }

    fn busy(&self) -> bool {
        self.state
            .values()
            .any(|state| !matches!(state, State::Waiting | State::Ended(_)))
    }

    fn under_way(&self) -> usize {
        self.state
            .values()
            // What waits for a gate takes no place: members that are down come back only together.
            .filter(|state| matches!(state, State::Running | State::Undoing { .. }))
            .count()
    }

    fn end(&mut self, id: &ActionId, outcome: Outcome) {
        if matches!(
            outcome,
            Outcome::Failed(_) | Outcome::Undone(_) | Outcome::Refused(_)
        ) && self.actions[id].kind.as_kind().is_member_action()
            && !sabotage::on(Bug::FailureFreezesNothing)
        {
            self.member_failed = true;
        }
        self.state.insert(id.clone(), State::Ended(outcome));
    }

    fn ran(
        &mut self,
        now: u64,
        id: &ActionId,
        result: Result<(), String>,
        commands: &mut Vec<Command>,
    ) {
        let Some(action) = self.actions.get(id) else {
            return;
        };
        let kind = action.kind.as_kind();
        if let Precondition::MayStop { member, .. } = kind.precondition() {
            // It may have been away between two looks.
            self.healthy_since.remove(&member);
        }
        match (self.state[id].clone(), result) {
            (State::Running, Ok(())) => {
                if kind.gate() == Gate::None {
                    self.end(id, Outcome::Done);
                } else {
                    self.state.insert(id.clone(), State::Gating { since: now });
                    commands.push(Command::Look(id.clone(), 0));
                }
            }
            // What takes it back would stop the member again; one that was down may be what the quorum hangs on by now.
            (State::Running, Err(why)) if Spare::of(action).is_some() && self.can_undo(id) => {
                let (since, what) = (now, What::Operations);
                let failing = State::Failing { why, since, what };
                self.state.insert(id.clone(), failing);
                commands.push(Command::Look(id.clone(), 0));
            }
            (State::Running, Err(why)) => self.fail(id, (why, false), false, commands),
            (State::Undoing { why, refused, .. }, Ok(())) => {
                let since = now;
                self.state.insert(
                    id.clone(),
                    State::UndoGating {
                        why,
                        refused,
                        since,
                    },
                );
                commands.push(Command::Look(id.clone(), LOOK_AGAIN_MS));
            }
            (State::Undoing { why, .. }, Err(undo)) => {
                self.end(
                    id,
                    Outcome::Failed(format!("{why}; putting it back failed too: {undo}")),
                );
            }
            _ => {}
        }
    }

    fn looked(
        &mut self,
        now: u64,
        id: &ActionId,
        view: &ClusterView,
        hopeless: Option<String>,
        commands: &mut Vec<Command>,
    ) {
        let Some(action) = self.actions.get(id) else {
            return;
        };
        let gate = action.kind.as_kind().gate();
        match self.state[id].clone() {
            State::Checking { since } => self.recheck((now, since), id, view, hopeless, commands),
            State::Gating { since } => match self.gate(view, &gate) {
                Ok(()) => self.end(id, Outcome::Done),
                // What waits for this can go on in the next run.
                Err(_)
                    if self.stop.is_some()
                        && matches!(
                            gate,
                            Gate::Formed { .. } | Gate::Joined { voter: false, .. }
                        ) =>
                {
                    self.end(
                        id,
                        Outcome::NotStarted(self.stop.clone().unwrap_or_default()),
                    );
                }
                Err(why) if hopeless.is_some() => {
                    let why = format!("{why}: {}", hopeless.unwrap_or_default());
                    self.failing((now, now), id, (What::Unit, why), view, commands);
                }
                Err(why)
                    if self.lock_lost || now.saturating_sub(since) > deadline(action, view) =>
                {
                    let waited = now.saturating_sub(since) / 1000;
                    let failed = (What::Gate(since), format!("after {waited} s: {why}"));
                    self.failing((now, now), id, failed, view, commands);
                }
                Err(why) => self.look_again(id, why, commands),
            },
            // It was about to come true.
            State::Failing { what, .. }
                if what != What::Operations && self.gate(view, &gate).is_ok() =>
            {
                self.end(id, Outcome::Done);
            }
            State::Failing {
                what: What::Gate(since),
                why,
                ..
            } if now.saturating_sub(since) <= deadline(action, view)
                && !self.is_doubtful(id, view) =>
            {
                self.state.insert(id.clone(), State::Gating { since });
                self.look_again(id, why, commands);
            }
            State::Failing { why, since, what } => {
                self.failing((now, since), id, (what, why), view, commands);
            }
            State::UndoGating {
                why,
                refused,
                since,
            } => match safety::gate(view, &gate) {
                Ok(()) if refused => self.end(id, Outcome::Refused(why)),
                Ok(()) => self.end(id, Outcome::Undone(why)),
                Err(still) if hopeless.is_some() => {
                    let unit = hopeless.unwrap_or_default();
                    let why = format!("{why}; it was put back, but {still}: {unit}");
                    self.end(id, Outcome::Failed(why));
                }
                Err(_)
                    if now.saturating_sub(since) <= deadline(action, view) && !self.lock_lost =>
                {
                    commands.push(Command::Look(id.clone(), LOOK_AGAIN_MS));
                }
                Err(still) => {
                    self.end(
                        id,
                        Outcome::Failed(format!("{why}; it was put back, but {still}")),
                    );
                }
            },
            _ => {}
        }
    }

    fn gate(&self, view: &ClusterView, gate: &Gate) -> Result<(), String> {
        safety::gate(view, gate)?;
        let known = self.alarms.as_ref();
        let alarm = known.and_then(|known| safety::new_alarm(view, known));
        alarm.map_or(Ok(()), Err)
    }

    fn look_again(&self, id: &ActionId, why: String, commands: &mut Vec<Command>) {
        commands.push(Command::Waiting(id.clone(), why));
        commands.push(Command::Look(id.clone(), LOOK_AGAIN_MS));
    }

    /// Decides on fresh facts which of the ready exclusive steps goes first, and whether it may.
    fn recheck(
        &mut self,
        (now, since): (u64, u64),
        id: &ActionId,
        view: &ClusterView,
        hopeless: Option<String>,
        commands: &mut Vec<Command>,
    ) {
        if self.stop.is_some() {
            self.state.insert(id.clone(), State::Waiting);
            return;
        }
        // Followers first, the leader last; who leads is never part of a plan (Q5).
        let leader = view.leader();
        let chosen = self
            .ready()
            .into_iter()
            .chain([id.clone()])
            .filter_map(|other| {
                let member = exclusive(&self.actions[&other])?;
                Some((member.is_some() && member == leader, other))
            })
            .min()
            .map_or_else(|| id.clone(), |(_, other)| other);
        if chosen != *id {
            self.state.insert(id.clone(), State::Waiting);
        }
        let settled = |member: MemberId| {
            self.healthy_since
                .get(&member)
                .is_some_and(|since| now.saturating_sub(*since) >= safety::SETTLED_MS)
        };
        let verdict = match self.actions[&chosen].kind.as_kind().precondition() {
            Precondition::None => Ok(()),
            Precondition::MayStop {
                member,
                allow_downtime,
            } => safety::may_stop(view, member, &[], allow_downtime).map(drop),
            Precondition::MayChange(change) => {
                safety::may_change(view, &change, &settled).map(drop)
            }
            Precondition::NotAMember(member) => safety::may_set_aside(view, member),
        };
        match verdict {
            Ok(()) => {
                self.alarms = Some(view.alarms.iter().cloned().collect());
                self.state.insert(chosen.clone(), State::Running);
                commands.push(Command::Run(chosen));
            }
            Err(refusal)
                if chosen == *id
                    && hopeless.is_some()
                    && self.waits_for_its_own(id, view, &refusal) =>
            {
                let hopeless = hopeless.unwrap_or_default();
                self.end(
                    id,
                    Outcome::Failed(format!("not safe: {refusal}: {hopeless}")),
                );
            }
            Err(refusal) if now.saturating_sub(since) > patience(view, &refusal) => {
                self.state.insert(chosen.clone(), State::Waiting);
                self.end(&chosen, Outcome::Refused(format!("not safe: {refusal}")));
            }
            Err(refusal) => {
                self.state.insert(chosen.clone(), State::Checking { since });
                self.look_again(&chosen, refusal.to_string(), commands);
            }
        }
    }

    /// Whether what an action waits for is the member whose unit is watched for it: what becomes of others, or of the time
    /// for which they have to be healthy, that unit does not tell.
    fn waits_for_its_own(&self, id: &ActionId, view: &ClusterView, refusal: &Unsafe) -> bool {
        match (self.actions[id].kind.as_kind().precondition(), refusal) {
            (
                Precondition::MayChange(MembershipChange::Promote(url)),
                Unsafe::Unhealthy(member, _),
            ) => view
                .member(*member)
                .is_some_and(|found| found.peer_urls.contains(&url)),
            _ => false,
        }
    }

    fn ready(&self) -> Vec<ActionId> {
        self.order
            .iter()
            .filter(|id| {
                let action = &self.actions[*id];
                self.state[*id] == State::Waiting
                    && !(self.member_failed && action.kind.as_kind().is_member_action())
                    && action.needs.iter().all(|need| {
                        matches!(self.state.get(need), Some(State::Ended(Outcome::Done)))
                    })
            })
            .cloned()
            .collect()
    }

    fn start_ready(&mut self, now: u64, commands: &mut Vec<Command>) {
        if self.stop.is_some() {
            return;
        }
        for id in self.ready() {
            if self.under_way() >= self.parallelism {
                return;
            }
            if exclusive(&self.actions[&id]).is_some() {
                // One disruptive step, one change of the membership at a time (Q2).
                let another = self.state.iter().any(|(other, state)| {
                    !matches!(state, State::Waiting | State::Ended(_))
                        && exclusive(&self.actions[other]).is_some()
                });
                if !another || sabotage::on(Bug::TwoStepsAtOnce) {
                    self.state
                        .insert(id.clone(), State::Checking { since: now });
                    commands.push(Command::Look(id, 0));
                }
            } else if !self.burdens_another(&id) {
                self.state.insert(id.clone(), State::Running);
                commands.push(Command::Run(id));
            }
        }
    }

    /// Whether members would have two hosts at hard work beside them: never as many as a quorum are slowed down at once.
    fn burdens_another(&self, id: &ActionId) -> bool {
        let is_heavy = |id: &ActionId| self.actions[id].kind.as_kind().is_heavy();
        let mut running = self.state.iter();
        self.is_living
            && is_heavy(id)
            && running.any(|(other, state)| *state == State::Running && is_heavy(other))
    }
}

fn deadline(action: &Action, view: &ClusterView) -> u64 {
    match (&action.kind, action.kind.as_kind().gate()) {
        (_, Gate::Joined { voter: false, .. }) => JOIN_DEADLINE_MS,
        // While its data was copied the others may have compacted what it needs: then it gets all of it.
        (ActionKind::Restart(restart), _) if !restart.moves.is_empty() => JOIN_DEADLINE_MS,
        // It serves, and is catching up.
        (_, Gate::Member(id)) if safety::is_behind(view, id) => JOIN_DEADLINE_MS,
        _ => GATE_DEADLINE_MS,
    }
}

/// How long a refusal may last: a learner that catches up takes its time.
fn patience(view: &ClusterView, refusal: &Unsafe) -> u64 {
    match refusal {
        Unsafe::Unhealthy(id, _) if view.member(*id).is_some_and(|found| found.is_learner) => {
            JOIN_DEADLINE_MS
        }
        _ => RECHECK_DEADLINE_MS,
    }
}

/// Whether an action runs alone among its like; with the member that it stops, if it stops one.
fn exclusive(action: &Action) -> Option<Option<MemberId>> {
    match action.kind.as_kind().precondition() {
        Precondition::None => None,
        Precondition::MayStop { member, .. } => Some(Some(member)),
        Precondition::MayChange(_) | Precondition::NotAMember(_) => Some(None),
    }
}
