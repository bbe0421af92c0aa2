//! The invariants, restated on the model alone.

use std::collections::BTreeSet;

use quorate::action::{
    Action, ActionKind, Gate, MembershipChange, Operation, Precondition, UnitVerb,
};
use quorate::etcd::id::{ClusterId, MemberId};
use quorate::observed::marker;
use quorate::plan::Goal;

use super::search::Search;
use super::session::Session;
use crate::model::host::{Data, Run};
use crate::model::raft::{Link, Raft};
use crate::world::{Places, World};

pub const QUORUM: &str = "a cluster that has a quorum does not lose it by us";
pub const EMPTY_VOTER: &str = "no empty or amnesiac member comes up as a voter";
pub const ONE_CLUSTER: &str = "the hosts of one file never run two clusters";
pub const ONE_CHANGE: &str = "one disruptive step at a time, each on members that are back";
pub const SETTLED: &str =
    "the membership changes only among members that have been healthy for a while";
pub const GATE: &str = "a step is done only when it has taken effect";
pub const FREEZE: &str = "a failed action on a member freezes all others";
pub const DATA: &str = "the data of a current member is not moved";
pub const GIVEN_UP: &str = "nobody is removed whom the file names and whose data is there";
pub const LOCK: &str = "two operators never act at once";
pub const TRUE: &str = "what is blocked is blocked for a reason that is true";
pub const CONVERGES: &str = "every run converges";
pub const EMPTY: &str = "a plan after convergence is empty";
pub const SNAPSHOT: &str = "nobody is removed before a snapshot is saved";
pub const UNDO: &str = "what is taken back stops nobody that was not stopped";
pub const STALE: &str = "what steers a plan is in its fingerprint";

/// All of them.
pub const ALL: [&str; 16] = [
    QUORUM,
    EMPTY_VOTER,
    ONE_CLUSTER,
    ONE_CHANGE,
    SETTLED,
    GATE,
    FREEZE,
    DATA,
    GIVEN_UP,
    LOCK,
    TRUE,
    CONVERGES,
    EMPTY,
    SNAPSHOT,
    UNDO,
    STALE,
];

/// A rule, and how it was broken.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Broken {
    pub rule: &'static str,
    pub how: String,
}

impl Broken {
    pub fn new(rule: &'static str, how: String) -> Self {
        Self { rule, how }
    }
}

/// A kind's own name.
pub fn name_of(kind: &ActionKind) -> &'static str {
    match kind {
        ActionKind::Claim(_) => "claim",
        ActionKind::Record(_) => "record",
        ActionKind::Prepare(_) => "prepare",
        ActionKind::Install(_) => "install",
        ActionKind::Configure(_) => "configure",
        ActionKind::Bootstrap(_) => "bootstrap",
        ActionKind::Form(_) => "form",
        ActionKind::Snapshot(_) => "snapshot",
        ActionKind::Add(_) => "add",
        ActionKind::Join(_) => "join",
        ActionKind::Promote(_) => "promote",
        ActionKind::Remove(_) => "remove",
        ActionKind::Tell(_) => "tell",
        ActionKind::Enable(_) => "enable",
        ActionKind::Start(_) => "start",
        ActionKind::Restart(_) => "restart",
        ActionKind::Stop(_) => "stop",
        ActionKind::SetAside(_) => "setaside",
        ActionKind::Clean(_) => "clean",
    }
}

/// The cluster that the world is about, and what is in it.
fn main_raft(world: &World) -> Option<(ClusterId, &Raft)> {
    let rafts = world.etcd.rafts.iter().map(|(id, raft)| (*id, raft));
    rafts.max_by_key(|(_, raft)| raft.peers.values().filter(|peer| peer.is_linked()).count())
}

/// Whether a member answers and follows somebody, who may have died just now.
fn peer_is_well(raft: &Raft, id: MemberId) -> bool {
    let peer = raft.peers.get(&id);
    raft.leader.is_some() && peer.is_some_and(|peer| peer.is_linked() && peer.serving)
}

/// Whether the member of a host runs, follows a leader and answers.
pub fn is_well(world: &World, host: &str) -> bool {
    let Some((cluster, member)) = world.etcd.member_on(host) else {
        return false;
    };
    peer_is_well(&world.etcd.rafts[&cluster], member)
}

/// Voters that are well.
pub fn well_voters(raft: &Raft) -> BTreeSet<MemberId> {
    raft.tip()
        .voters()
        .filter(|id| peer_is_well(raft, *id))
        .collect()
}

/// What must hold in every state.
pub fn always(world: &World) -> Option<Broken> {
    if let Some(fault) = world.etcd.faults().first() {
        return Some(Broken::new(EMPTY_VOTER, format!("{fault:?}")));
    }
    let up = world
        .etcd
        .hosts
        .iter()
        .filter(|(_, host)| host.run == Run::Up);
    let clusters: BTreeSet<ClusterId> = up
        .filter_map(|(name, _)| Some(world.etcd.member_on(name)?.0))
        .collect();
    (clusters.len() > 1).then(|| Broken::new(ONE_CLUSTER, format!("{clusters:?} run")))
}

/// What an operation of ours must not do.
pub fn operation(
    search: &Search,
    before: &World,
    after: &World,
    action: &Action,
    operation: &Operation,
    stale: bool,
) -> Option<Broken> {
    let node = action.node.as_deref().unwrap_or_default();
    let what = || format!("{operation:?} of {}", action.id);
    let told = matches!(search.goal, Goal::Destroy { purge_data: true });
    if matches!(operation, Operation::PurgeData(_)) && !told {
        return Some(Broken::new(DATA, what()));
    }
    if let Operation::Relocate(_) = operation
        && before.is_running(node)
        && before.hosts[node].places != after.hosts[node].places
    {
        return Some(Broken::new(DATA, what()));
    }
    if let (Some(now), Some(then)) = (after.etcd.hosts.get(node), before.etcd.hosts.get(node)) {
        // Who comes up without data has been told to, by a bootstrap, or is a learner.
        let blank = matches!(then.seen(), Data::Absent | Data::NoWal);
        if matches!(operation, Operation::Unit(UnitVerb::Start, _)) && blank && now.run == Run::Up {
            let told = matches!(action.kind, ActionKind::Bootstrap(_) | ActionKind::Join(_));
            let votes = after.etcd.member_on(node).is_some_and(|(cluster, member)| {
                matches!(action.kind, ActionKind::Join(_))
                    && after.etcd.rafts[&cluster].tip().is_voter(member)
            });
            if !told || votes {
                return Some(Broken::new(EMPTY_VOTER, what()));
            }
        }
        let Data::Wal { cluster, member } = then.seen() else {
            return quorum(search, before, after, stale, what);
        };
        let moved = matches!(
            operation,
            Operation::MoveAside { .. } | Operation::PurgeData(_)
        );
        let is_member = before.etcd.rafts[&cluster]
            .tip()
            .members
            .contains_key(&member);
        if moved && !search.goal.is_destroy() && after.etcd.member_on(node).is_none() && is_member {
            return Some(Broken::new(DATA, what()));
        }
    }
    if let Operation::RemoveMember(id) = operation
        && let Some(broken) = given_up(search, before, *id)
    {
        return Some(broken);
    }
    quorum(search, before, after, stale, what)
}

fn quorum(
    search: &Search,
    before: &World,
    after: &World,
    stale: bool,
    what: impl Fn() -> String,
) -> Option<Broken> {
    let accepted = matches!(
        search.goal,
        Goal::Converge {
            allow_downtime: true,
            ..
        }
    );
    if search.goal.is_destroy() || accepted || stale {
        return None;
    }
    before.etcd.rafts.iter().find_map(|(cluster, raft)| {
        let kept = after.etcd.rafts.get(cluster).is_some_and(Raft::has_quorum);
        (raft.has_quorum() && !kept).then(|| Broken::new(QUORUM, what()))
    })
}

fn given_up(search: &Search, world: &World, member: MemberId) -> Option<Broken> {
    let (cluster, raft) = main_raft(world)?;
    let wanted = Data::Wal { cluster, member };
    let (name, _) = world
        .etcd
        .hosts
        .iter()
        .find(|(_, host)| host.data == wanted)?;
    let line = raft.tip().members.get(&member).cloned()?;
    let named = world.desired().nodes.iter().any(|node| node.name == *name);
    let replaced = match search.goal_for(world) {
        Goal::Converge { replace, .. } => replace.contains(name),
        _ => false,
    };
    (named && !replaced && !line.learner)
        .then(|| Broken::new(GIVEN_UP, format!("{member} on {name} is removed")))
}

/// What must not happen when something is taken back that has stopped nobody.
pub fn undo(before: &World, after: &World, action: &Action, unasked: bool) -> Option<Broken> {
    let node = action.node.as_deref()?;
    let stops = unasked && before.is_running(node) && !after.is_running(node);
    stops.then(|| Broken::new(UNDO, format!("{} was not stopped before", action.id)))
}

/// What a scheduler must not begin.
pub fn command(
    search: &Search,
    world: &World,
    session: &Session,
    action: &Action,
    undo: bool,
    failed: bool,
) -> Option<Broken> {
    let what = || format!("{} begins", action.id);
    if session.told {
        return Some(Broken::new(LOCK, what()));
    }
    // Whatever a run without the lock begins is refused by the hosts.
    if session.lost {
        return None;
    }
    let kind = action.kind.as_kind();
    if undo || search.goal.is_destroy() {
        return None;
    }
    if failed && kind.is_member_action() {
        return Some(Broken::new(FREEZE, what()));
    }
    let precondition = kind.precondition();
    if matches!(precondition, Precondition::None) {
        return None;
    }
    let other = session.running.keys().find(|id| {
        let precondition = session.planned.actions[*id].kind.as_kind().precondition();
        !matches!(precondition, Precondition::None)
    });
    if let Some(other) = other {
        return Some(Broken::new(
            ONE_CHANGE,
            format!("{} begins beside {other}", action.id),
        ));
    }
    let (cluster, raft) = main_raft(world)?;
    let tip = raft.tip();
    // Where an anomaly took the quorum, nobody is well, and none of that is ours.
    if !raft.has_quorum() && !session.excused.is_empty() {
        return None;
    }
    let excused = |id: MemberId| {
        let host = world.etcd.host_of(cluster, id);
        host.is_none_or(|host| session.excused.contains(host))
    };
    let is_away = |id: &MemberId| {
        let peer = raft.peers.get(id);
        !peer.is_some_and(|peer| peer.is_linked() && peer.serving)
    };
    if let Some(id) = tip.voters().find(|id| is_away(id) && !excused(*id)) {
        return Some(Broken::new(
            ONE_CHANGE,
            format!("{} begins while {id} is away", action.id),
        ));
    }
    let Precondition::MayChange(change) = precondition else {
        return None;
    };
    if let MembershipChange::Remove(id) = change
        && tip.is_voter(id)
        && !session.has_snapshot()
    {
        return Some(Broken::new(SNAPSHOT, what()));
    }
    changes(world, raft, session, &change)
        .map(|why| Broken::new(SETTLED, format!("{}: {why}", action.id)))
}

/// What has to be so when an action counts as done.
pub fn done(world: &World, action: &Action) -> Option<Broken> {
    let gate = action.kind.as_kind().gate();
    let (_, raft) = main_raft(world)?;
    let tip = raft.tip();
    let well = |id: &MemberId| peer_is_well(raft, *id);
    let passed = match gate {
        Gate::None => true,
        Gate::Formed { members, .. } => tip.voters().filter(well).count() == members,
        Gate::Member(id) => well(&id),
        Gate::Joined { peer_url, voter } => tip
            .members
            .iter()
            .any(|(id, line)| line.url == peer_url && !(voter && line.learner) && well(id)),
        Gate::Removed(id) => !tip.members.contains_key(&id),
    };
    // Whom nobody can dial looks well all the same.
    let told = match &action.kind {
        ActionKind::Restart(restart) => restart.readdress.as_ref().map(|_| restart.member),
        ActionKind::Tell(tell) => Some(tell.member),
        _ => None,
    };
    let reached = |id: MemberId| {
        let line = tip.members.get(&id);
        line.is_some_and(|line| world.is_dialable(id, std::slice::from_ref(&line.url)))
    };
    let passed = passed && told.is_none_or(reached);
    (!passed).then(|| Broken::new(GATE, format!("{} is not done", action.id)))
}

/// Why the membership must not change in a way now.
fn changes(
    world: &World,
    raft: &Raft,
    session: &Session,
    change: &MembershipChange,
) -> Option<String> {
    let tip = raft.tip();
    let at = |url: &String| tip.members.iter().find(|(_, line)| line.url == *url);
    let settled = |id: &MemberId| {
        session.young
            || raft
                .peers
                .get(id)
                .is_some_and(|peer| peer.link == Link::Settled)
    };
    let all = |except: Option<MemberId>| {
        tip.voters()
            .filter(|id| Some(*id) != except)
            .find(|id| !peer_is_well(raft, *id) || !settled(id))
            .map(|id| format!("{id} is not healthy, or not for long"))
    };
    match change {
        MembershipChange::Add(url) if at(url).is_some() => None,
        MembershipChange::Add(_) => {
            let learner = tip.members.iter().find(|(_, line)| line.learner);
            learner
                .map(|(id, _)| format!("{id} is a learner"))
                .or_else(|| all(None))
        }
        MembershipChange::Promote(url) => match at(url) {
            Some((id, line)) if line.learner && !peer_is_well(raft, *id) => {
                Some(format!("{id} is away"))
            }
            Some((_, line)) if line.learner => all(None),
            _ => None,
        },
        MembershipChange::Remove(id) => {
            let line = tip.members.get(id)?;
            let well = well_voters(raft);
            if line.learner {
                return None;
            }
            let left: Vec<MemberId> = well.iter().copied().filter(|other| other != id).collect();
            if left.len() < crate::model::membership::quorum_of(tip.voters().count() - 1) {
                return Some(format!(
                    "{} of {:?} would be left",
                    left.len(),
                    world.desired().nodes.len()
                ));
            }
            if well.contains(id) {
                all(Some(*id))
            } else {
                None
            }
        }
    }
}

/// What has to be so once nothing is left to do.
pub fn converged(search: &Search, world: &World) -> Option<Broken> {
    let broken = |how: String| Some(Broken::new(CONVERGES, how));
    let destroyed = search.goal.is_destroy();
    // A host that was away while it left is not cleaned, as the plan says.
    let disturbed = search.budget.faults + search.budget.mounts > 0;
    let named: BTreeSet<&String> = world
        .desired()
        .nodes
        .iter()
        .map(|node| &node.name)
        .collect();
    for (name, machine) in &world.hosts {
        if search.gone.contains(name) {
            continue;
        }
        if named.contains(name) && !destroyed {
            if !is_well(world, name) || !machine.enabled {
                return broken(format!("{name} does not run"));
            }
            let lifted =
                |path: &String| path.starts_with("/run/") && machine.files[path].text.is_some();
            if machine.files.keys().any(lifted) {
                return broken(format!("{name} keeps a drop-in"));
            }
            if world.hosts[name].places != Some(Places::wanted(world.layout(name))) {
                return broken(format!("the data of {name} is elsewhere"));
            }
        } else if world.is_running(name)
            || (!disturbed
                && (machine.files.contains_key(marker::PATH)
                    || world.etcd.member_on(name).is_some()))
        {
            return broken(format!("{name} is not clean"));
        }
    }
    if destroyed {
        return None;
    }
    let (_, raft) = main_raft(world)?;
    let tip = raft.tip();
    let lost = tip
        .members
        .iter()
        .find(|(id, line)| !world.is_dialable(**id, std::slice::from_ref(&line.url)));
    if let Some((id, line)) = lost {
        return broken(format!("{id} is not at {}", line.url));
    }
    let voters = tip.voters().count();
    if voters != named.len() || tip.members.len() != voters {
        return broken(format!(
            "{voters} voters of {} members, {} nodes",
            tip.members.len(),
            named.len()
        ));
    }
    None
}
