//! One run of a plan: the real scheduler, and how far the operations of each action are.

mod moves;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use quorate::action::{Action, ActionId, ActionKind, Operation, Precondition, RunFacts, UnitVerb};
use quorate::observed::etcd::Member;
use quorate::plan::Plan;
use quorate::schedule::{Command, Event, JOIN_DEADLINE_MS, Outcome, Scheduler};

use super::rules::{self, Broken, name_of};
use super::search::{Search, State};
use crate::world::{Attempt, World, is_call};

/// Longer than anything is waited for.
const LATE_MS: u64 = 2 * JOIN_DEADLINE_MS;
/// Looks, a second apart, after which everybody has been healthy for long enough.
const LOOKS: u64 = 8;

/// Milliseconds after which etcd takes a link for lasting.
const SETTLED_MS: u64 = 5_000;

/// A plan, told apart by what it says.
#[derive(Clone, Debug)]
pub struct Planned {
    pub plan: Arc<Plan>,
    pub actions: Arc<BTreeMap<ActionId, Action>>,
    digest: u64,
    /// Operations of each action, of its undo, on each membership.
    operations: Arc<Mutex<Rendered>>,
}

impl From<Plan> for Planned {
    fn from(plan: Plan) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        format!("{:?}", plan.actions).hash(&mut hasher);
        let actions = plan.actions.iter();
        let actions = actions.map(|action| (action.id.clone(), action.clone()));
        Self {
            actions: Arc::new(actions.collect()),
            plan: Arc::new(plan),
            digest: hasher.finish(),
            operations: Arc::default(),
        }
    }
}

type Rendered = HashMap<(ActionId, bool, u64), Arc<Vec<Operation>>>;

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Planned {}

impl Hash for Planned {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.digest.hash(hasher);
    }
}

/// How far an action is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    undo: bool,
    done: usize,
    /// The membership that was read for it.
    members: Option<Arc<Vec<Member>>>,
}

impl Hash for Progress {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.undo, self.done, digest_of(self.members.as_deref())).hash(hasher);
    }
}

fn digest_of(members: Option<&Vec<Member>>) -> u64 {
    let Some(members) = members else { return 0 };
    let mut hasher = std::hash::DefaultHasher::new();
    for member in members {
        (
            member.id,
            &member.name,
            &member.peer_urls,
            member.is_learner,
        )
            .hash(&mut hasher);
    }
    hasher.finish() | 1
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Session {
    pub planned: Planned,
    scheduler: Scheduler,
    pub running: BTreeMap<ActionId, Progress>,
    looks: BTreeSet<ActionId>,
    now: u64,
    /// When a link last came up.
    linked: u64,
    /// Something failed since a step was last found safe.
    pub stale: bool,
    /// Something failed since everybody was last waited for.
    pub young: bool,
    /// Nothing failed since it began.
    pub clean: bool,
    /// The hosts no longer know this run as the holder of the lock.
    pub lost: bool,
    /// And it has been told.
    pub told: bool,
    /// Actions that are done, and were looked at.
    passed: BTreeSet<ActionId>,
    /// Hosts whose members were away when it was planned, or were hit since.
    pub excused: BTreeSet<String>,
    /// Hosts that were booted since, and know nothing of a lock any more.
    unlocked: BTreeSet<String>,
    /// Actions that have stopped their member.
    stopped: BTreeSet<ActionId>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Move {
    /// The operations of an action go on to the next that touches a member; the number chooses between outcomes.
    Operate(ActionId, usize),
    /// A script or call fails before it does anything; those before it went well. One that was to be read back has taken
    /// its effect.
    Fail(ActionId),
    /// A script goes on to its end, or leadership moves, and nobody hears of it: it counts as failed.
    Unheard(ActionId, usize),
    /// Its member may not be stopped any more when that is what comes next.
    Balk(ActionId),
    /// A call to etcd is given up after a minute.
    GiveUp(ActionId),
    /// The cluster is looked at for an action.
    Look(ActionId),
    /// The same, once a second for so long that whoever is healthy is so for long enough.
    Wait(ActionId),
    /// For the last time.
    Late(ActionId),
}

/// Whether an operation can change what other members or an observer of them see.
fn touches_member(operation: &Operation) -> bool {
    match operation {
        Operation::Unit(verb, _) => matches!(
            verb,
            UnitVerb::Start
                | UnitVerb::Stop
                | UnitVerb::StopForRestart
                | UnitVerb::StopAgain
                | UnitVerb::Restart
                | UnitVerb::RestartAgain
        ),
        Operation::MoveLeader(_)
        | Operation::MoveAside { .. }
        | Operation::PurgeData(_)
        | Operation::Relocate(_)
        | Operation::AwaitDialable(..)
        | Operation::AwaitWal { .. } => true,
        other => is_call(other),
    }
}

/// Whether an operation is no part of a script.
fn is_apart(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::MoveLeader(_) | Operation::AwaitDialable(..)
    ) || is_call(operation)
}

/// A restart is the two things that it is.
fn split(operation: Operation) -> Vec<Operation> {
    match operation {
        Operation::Unit(UnitVerb::Restart, unit) => vec![
            Operation::Unit(UnitVerb::StopForRestart, unit.clone()),
            Operation::Unit(UnitVerb::Start, unit),
        ],
        Operation::Unit(UnitVerb::RestartAgain, unit) => vec![
            Operation::Unit(UnitVerb::StopAgain, unit.clone()),
            Operation::Unit(UnitVerb::RestartAgain, unit),
        ],
        operation => vec![operation],
    }
}

/// What comes next in an action.
enum Next {
    /// The membership is read.
    Read,
    /// An operation that touches a member, and its place.
    Operation(Operation, usize),
    /// Nothing.
    End,
}

impl Session {
    /// Begins a run, and feeds its start.
    pub fn begin(search: &Search, state: &mut State, planned: Planned) {
        let hosts = state.world.hosts.keys();
        let session = Self {
            scheduler: Scheduler::new(&planned.plan.actions, 32),
            clean: planned.plan.blocked.is_empty(),
            planned,
            running: BTreeMap::new(),
            looks: BTreeSet::new(),
            now: 0,
            linked: 0,
            stale: false,
            young: false,
            lost: false,
            told: false,
            passed: BTreeSet::new(),
            excused: hosts
                .filter(|host| !rules::is_well(&state.world, host))
                .cloned()
                .collect(),
            unlocked: BTreeSet::new(),
            stopped: BTreeSet::new(),
        };
        // What another run has begun to stop is none of this one's.
        for machine in state.world.hosts.values_mut() {
            machine.restarted = false;
        }
        let fed = session.feed(search, state, Event::Started { at: 0 });
        state.resume(fed);
    }

    pub fn is_complete(&self) -> bool {
        self.scheduler.report().is_complete()
    }

    /// Whether it waits for something that nobody does.
    pub fn is_stuck(&self) -> bool {
        self.running.is_empty() && self.looks.is_empty()
    }

    /// Something fails that we have not done: what was looked at may no longer be so.
    pub fn disturb(&mut self, host: &str) {
        self.stale = true;
        self.young = true;
        self.clean = false;
        self.excused.insert(host.to_owned());
    }

    /// A link comes up: etcd does not count it for some seconds.
    pub fn link(&mut self) {
        self.linked = self.now;
    }

    /// A host loses power, and with it the lock.
    pub fn unlock(&mut self, host: &str) {
        self.unlocked.insert(host.to_owned());
    }

    fn work(&self, id: &ActionId, progress: &Progress) -> Arc<Vec<Operation>> {
        let members = progress.members.as_deref();
        let key = (id.clone(), progress.undo, digest_of(members));
        let mut rendered = self.planned.operations.lock().expect("no panic");
        let render = || {
            let kind = self.planned.actions[id].kind.as_kind();
            let all = if progress.undo {
                kind.undo()
            } else {
                kind.operations(&RunFacts {
                    members: members.cloned().unwrap_or_default(),
                    ..RunFacts::default()
                })
            };
            Arc::new(all.into_iter().flat_map(split).collect())
        };
        rendered.entry(key).or_insert_with(render).clone()
    }

    /// The world just before the next operation that touches a member, and that operation.
    fn ahead(&self, world: &World, id: &ActionId, progress: &Progress) -> (World, Next) {
        let action = &self.planned.actions[id];
        let asks = action.kind.as_kind().reads_membership() && !progress.undo;
        if asks && progress.members.is_none() {
            return (world.clone(), Next::Read);
        }
        let operations = self.work(id, progress);
        let mut world = world.clone();
        let node = action.node.as_deref().unwrap_or_default();
        for (at, operation) in operations.iter().enumerate().skip(progress.done) {
            if touches_member(operation) {
                return (world, Next::Operation(operation.clone(), at));
            }
            let (result, after) = world.outcomes(node, operation).swap_remove(0);
            if result.is_err() {
                return (world, Next::Operation(operation.clone(), at));
            }
            world = after;
        }
        (world, Next::End)
    }

    /// Whether a script is at work: who takes the lock waits for its end.
    pub fn is_amid_script(&self) -> bool {
        self.running.iter().any(|(id, progress)| {
            let work = self.work(id, progress);
            progress.done > 0 && !begins(&work, progress.done)
        })
    }

    fn ran(
        self,
        search: &Search,
        state: &mut State,
        id: ActionId,
        result: Result<(), String>,
    ) -> Option<Box<Self>> {
        let at = self.now;
        self.feed(search, state, Event::Ran { at, id, result })
    }

    fn look(self, search: &Search, state: &mut State, id: ActionId) -> Option<Box<Self>> {
        let (at, view, hopeless) = (self.now, state.world.view(), None);
        self.feed(
            search,
            state,
            Event::Looked {
                at,
                id,
                view,
                hopeless,
            },
        )
    }

    /// The scheduler learns that the lock is gone.
    pub fn tell(mut self, search: &Search, state: &mut State) -> Option<Box<Self>> {
        self.told = true;
        let (at, reason) = (self.now, "it is gone".into());
        self.feed(search, state, Event::LockLost { at, reason })
    }

    /// Tells the scheduler what happened, and takes its commands. Actions that touch no member are done at once.
    fn feed(self, search: &Search, state: &mut State, event: Event) -> Option<Box<Self>> {
        let mut events = vec![event];
        let mut session = Box::new(self);
        while let Some(event) = events.pop() {
            let failed = session.failed();
            let before = session.scheduler.ended().len();
            let commands = session.scheduler.on(event);
            if session.scheduler.ended().len() > before && !session.lost {
                let done = session.scheduler.ended().into_iter();
                let done = done.filter(|(_, outcome)| *outcome == Outcome::Done);
                for (id, _) in done {
                    if !session.passed.insert(id.clone()) {
                        continue;
                    }
                    let action = &session.planned.actions[&id];
                    let broken = rules::done(&state.world, action);
                    state.broken = state.broken.take().or(broken);
                }
            }
            for command in commands {
                let (id, undo) = match command {
                    Command::Finish => {
                        state.over(search, &session);
                        return None;
                    }
                    Command::Waiting(_, why) => {
                        search
                            .reached
                            .note(format!("wait: {}", super::truth::gist(&why)));
                        continue;
                    }
                    Command::Look(id, _) => {
                        session.looks.insert(id);
                        continue;
                    }
                    Command::Run(id) => (id, false),
                    Command::Undo(id) => (id, true),
                };
                let action = &session.planned.actions[&id];
                let what = if undo { "undo" } else { "run" };
                search
                    .reached
                    .note(format!("{what}: {}", name_of(&action.kind)));
                let broken = rules::command(search, &state.world, &session, action, undo, failed);
                state.broken = state.broken.take().or(broken);
                // A step is only begun on a look that has just found it safe.
                session.stale = false;
                let progress = Progress {
                    undo,
                    done: 0,
                    members: None,
                };
                let (world, next) = session.ahead(&state.world, &id, &progress);
                let node = session.planned.actions[&id].node.as_deref();
                let locked =
                    !session.lost && node.is_none_or(|node| !session.unlocked.contains(node));
                if matches!(next, Next::End) && locked {
                    state.world = world;
                    let (at, result) = (session.now, Ok(()));
                    events.push(Event::Ran { at, id, result });
                } else {
                    session.running.insert(id, progress);
                }
            }
        }
        if session.is_stuck() {
            let what = "the scheduler waits for nothing".to_owned();
            state.broken = state
                .broken
                .take()
                .or(Some(Broken::new(rules::CONVERGES, what)));
        }
        Some(session)
    }

    /// Whether a snapshot was saved in this run.
    pub fn has_snapshot(&self) -> bool {
        let is_snapshot =
            |id: &ActionId| matches!(self.planned.actions[id].kind, ActionKind::Snapshot(_));
        self.passed.iter().any(is_snapshot)
    }

    /// Whether an action on a member has failed so far.
    fn failed(&self) -> bool {
        self.scheduler.ended().iter().any(|(id, outcome)| {
            matches!(
                outcome,
                Outcome::Failed(_) | Outcome::Undone(_) | Outcome::Refused(_)
            ) && self.planned.actions[id].kind.as_kind().is_member_action()
        })
    }

    /// How each action ended.
    pub fn ended(&self) -> Vec<(ActionId, Outcome)> {
        self.scheduler.report().outcomes
    }
}

/// The script, or call, that an operation is a part of.
fn step_of(operations: &[Operation], at: usize) -> std::ops::Range<usize> {
    let mut first = at;
    while !begins(operations, first) {
        first -= 1;
    }
    let mut after = (at + 1).min(operations.len());
    while !begins(operations, after) {
        after += 1;
    }
    first..after
}

/// Whether a script, or a call, begins with this operation.
fn begins(operations: &[Operation], at: usize) -> bool {
    let Some(operation) = operations.get(at) else {
        return true;
    };
    at == 0 || is_apart(operation) || is_apart(&operations[at - 1])
}
