//! Actions: what a plan is made of. Each kind is data in a file of its own that answers: what does it do, what does
//! it disturb, which operations is it made of, how is it undone.

pub mod add;
pub mod bootstrap;
pub mod configure;
pub mod destroy;
pub mod form;
pub mod install;
pub mod join;
pub mod marker;
pub mod operation;
pub mod prepare;
pub mod promote;
pub mod readdress;
pub mod remove;
pub mod restart;
pub mod snapshot;
pub mod start;
pub mod unit;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use operation::{Operation, UnitVerb};

/// Name of an action, such as `node.etcd-1.start`. Names order ties.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionId(pub String);

impl ActionId {
    /// Name of an action on a node.
    pub fn of_node(node: &str, verb: &str) -> Self {
        Self(format!("node.{node}.{verb}"))
    }

    /// Name of an action on the cluster.
    pub fn of_cluster(verb: &str) -> Self {
        Self(format!("cluster.{verb}"))
    }
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its name.
    pub id: ActionId,
    /// The node whose host it works on; `None` for steps that only talk to etcd.
    pub node: Option<String>,
    /// What it is.
    pub kind: ActionKind,
    /// Why it is there.
    pub because: Vec<String>,
    /// Actions that must be done before.
    pub needs: BTreeSet<ActionId>,
    /// Attributes that change, for people.
    pub changes: Vec<Change>,
    /// Voters that answer healthy before and during, and how many the cluster needs; only for steps that stop one.
    pub margin: Option<Margin>,
}

/// An attribute that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name, or the path of a file.
    pub name: String,
    /// What it is; `None` where it does not exist or must not be shown.
    pub before: Option<String>,
    /// What it will be; `None` where it goes or must not be shown.
    pub after: Option<String>,
    /// Whether somebody changed it behind our back.
    pub drift: bool,
    /// Whether both are texts of several lines, shown as a diff.
    pub text: bool,
}

/// Fault tolerance around a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Margin {
    /// Voters of the membership.
    pub voters: usize,
    /// Healthy voters before.
    pub before: usize,
    /// Healthy voters while the step runs.
    pub during: usize,
    /// Quorum while the step runs, of the membership that it makes.
    pub needs: usize,
}

impl fmt::Display for Margin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            voters,
            before,
            during,
            needs,
        } = *self;
        let quorum = voters / 2 + 1;
        write!(f, "{before} of {voters} healthy, needs {quorum}")?;
        // A change of the membership may change the quorum, too.
        if needs != quorum {
            write!(f, ", then {needs}")?;
        }
        let tolerated = |healthy: usize, needs: usize| match healthy.checked_sub(needs) {
            Some(tolerated) => tolerated.to_string(),
            None => "no quorum".into(),
        };
        let (now, then) = (tolerated(before, quorum), tolerated(during, needs));
        write!(f, ": tolerates {now} → {then} during")
    }
}

/// What a step does to its object, in Terraform's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Something new.
    Create,
    /// Something changes in place.
    Update,
    /// Something goes.
    Destroy,
}

/// What clients that write notice of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stall {
    /// Nothing.
    None,
    /// Nothing beyond a handover of the leadership, should the member lead: some hundredths of a second (playbook
    /// section 9).
    Handover,
    /// No write is accepted until the member is back.
    Outage,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "writes go on",
            Self::Handover => "writes go on, leadership is handed over before",
            Self::Outage => "WRITES STOP until the member is back",
        })
    }
}

/// What has to hold, on fresh facts, before a step may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing beyond what was planned.
    None,
    /// The member may be stopped: the quorum stays without it (Q1).
    MayStop {
        /// The member that stops.
        member: crate::etcd::id::MemberId,
        /// Whether the operator accepted an interruption.
        allow_downtime: bool,
    },
    /// The membership may change in this way: every voter has answered healthy for long enough (Q1, Q14).
    MayChange(MembershipChange),
    /// The member whose data is moved has no place in the membership any more (Q7).
    NotAMember(crate::etcd::id::MemberId),
}

/// A change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipChange {
    /// A learner with this peer URL joins.
    Add(String),
    /// The learner with this peer URL becomes a voter.
    Promote(String),
    /// This member goes.
    Remove(crate::etcd::id::MemberId),
}

/// What has to come true, after a step, before anything else may go on (Q2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Nothing.
    None,
    /// Every member of a bootstrap answers, in one cluster with this ID, with a leader.
    Formed {
        /// The cluster ID that etcd derives from the frozen facts.
        cluster_id: crate::etcd::id::ClusterId,
        /// Number of members.
        members: usize,
    },
    /// This member is back: same cluster, has a leader, has caught up, reports no error.
    Member(crate::etcd::id::MemberId),
    /// The member with this peer URL answers and has caught up, with or without a vote.
    Joined {
        /// Its peer URL.
        peer_url: String,
        /// Whether it has to have a vote.
        voter: bool,
    },
    /// This member is gone from the membership, and the voters that are left have a quorum.
    Removed(crate::etcd::id::MemberId),
}

/// Run-time facts that operations may write down; never a choice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunFacts {
    /// Fingerprint of the plan.
    pub fingerprint: String,
    /// `user@host` of the operator.
    pub operator: String,
    /// RFC 3339 time of the run.
    pub at: String,
    /// sha256 of the certificate of the managed authority, which may be younger than the plan.
    pub authority: Option<String>,
    /// The membership, read linearizably just before; empty for actions that do not ask for it.
    pub members: Vec<crate::observed::etcd::Member>,
}

/// The kinds of action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ActionKind {
    /// Writes the marker before anything is changed: what we will own, and the frozen facts of a bootstrap.
    Claim(marker::Claim),
    /// Writes the marker after everything has been changed.
    Record(marker::Record),
    /// Service user and directories.
    Prepare(prepare::Prepare),
    /// Binaries.
    Install(install::Install),
    /// Files whose change costs no restart.
    Configure(configure::Configure),
    /// First start of a member, on an empty data directory.
    Bootstrap(bootstrap::Bootstrap),
    /// Waits until the bootstrap is a cluster.
    Form(form::Form),
    /// Saves and verifies a snapshot before a risky step.
    Snapshot(snapshot::Snapshot),
    /// Adds a member to the membership, as a learner.
    Add(add::Add),
    /// First start of a member that was added.
    Join(join::Join),
    /// Gives a learner its vote.
    Promote(promote::Promote),
    /// Removes a member from the membership.
    Remove(remove::Remove),
    /// Changes the peer URLs of a member that listens there already.
    Tell(readdress::Tell),
    /// Unmasks and enables the unit.
    Enable(unit::Enable),
    /// Starts a member that has its data.
    Start(start::Start),
    /// Switches binary, configuration and unit of a running member and restarts it.
    Restart(restart::Restart),
    /// Stops and disables a member for good.
    Stop(destroy::Stop),
    /// Moves its data aside, or deletes it.
    SetAside(destroy::SetAside),
    /// Removes everything else that is ours.
    Clean(destroy::Clean),
}

/// What every kind of action answers.
pub trait Kind {
    /// What it does to its object.
    fn verb(&self) -> Verb;
    /// `Installing`, for progress.
    fn progress(&self) -> &'static str;
    /// One line for the plan: `install etcd 3.5.16 from …`.
    fn summary(&self) -> String;
    /// What has to hold before.
    fn precondition(&self) -> Precondition {
        Precondition::None
    }
    /// What has to come true after.
    fn gate(&self) -> Gate {
        Gate::None
    }
    /// The unit whose crashes end the wait for the gate.
    fn watched_unit(&self) -> Option<&str> {
        None
    }
    /// What clients that write notice; `None` for steps that do not touch members that serve them.
    fn stall(&self, _: Option<&Margin>) -> Option<Stall> {
        None
    }
    /// How it can be taken back; `None` for steps where nobody would ask.
    fn way_back(&self) -> Option<&'static str> {
        None
    }
    /// Whether it touches a member of a living cluster, so that a failure freezes every other such action (Q15).
    fn is_member_action(&self) -> bool {
        false
    }
    /// Whether it keeps processor and disk of its host so busy that members on the same hardware notice.
    fn is_heavy(&self) -> bool {
        false
    }
    /// Whether [`RunFacts::members`] has to be read before its operations are derived.
    fn reads_membership(&self) -> bool {
        false
    }
    /// Why it must not be done, in the light of what was read just before.
    fn refuses(&self, _: &RunFacts) -> Option<String> {
        None
    }
    /// What it is made of.
    fn operations(&self, run: &RunFacts) -> Vec<Operation>;
    /// How it is taken back when its gate does not pass.
    fn undo(&self) -> Vec<Operation> {
        Vec::new()
    }
}

impl ActionKind {
    /// The kind's own answers.
    pub fn as_kind(&self) -> &dyn Kind {
        match self {
            Self::Claim(kind) => kind,
            Self::Record(kind) => kind,
            Self::Prepare(kind) => kind,
            Self::Install(kind) => kind,
            Self::Configure(kind) => kind,
            Self::Bootstrap(kind) => kind,
            Self::Form(kind) => kind,
            Self::Snapshot(kind) => kind,
            Self::Add(kind) => kind,
            Self::Join(kind) => kind,
            Self::Promote(kind) => kind,
            Self::Remove(kind) => kind,
            Self::Tell(kind) => kind,
            Self::Enable(kind) => kind,
            Self::Start(kind) => kind,
            Self::Restart(kind) => kind,
            Self::Stop(kind) => kind,
            Self::SetAside(kind) => kind,
            Self::Clean(kind) => kind,
        }
    }
}
