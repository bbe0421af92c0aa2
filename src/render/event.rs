//! What happens during an apply, as every face of the progress and the run log hear it.

use std::time::Duration;

use crate::action::{Action, ActionId, Verb};
use crate::observed::etcd::ClusterView;
use crate::plan::{Plan, Summary};
use crate::schedule::{Outcome, Report};

/// Something that happened. Durations are since the step, or the wait, began.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The plan that is about to be applied.
    Planned(Box<Plan>),
    /// Another operator holds the lock.
    LockWait {
        /// Who.
        holder: LockHolder,
        /// How long we have been waiting.
        waited: Duration,
    },
    /// The lock is ours.
    LockTaken,
    /// The lock is no longer ours.
    LockLost {
        /// Why.
        reason: String,
    },
    /// An action starts.
    Started(Step),
    /// An action waits for the cluster.
    Waiting {
        /// The action.
        id: ActionId,
        /// What for.
        why: String,
    },
    /// An upload moves on.
    Bytes {
        /// The action.
        id: ActionId,
        /// Bytes sent.
        done: u64,
        /// Bytes to send.
        total: u64,
    },
    /// An action failed, and is put back as it was.
    Undoing {
        /// The action.
        id: ActionId,
        /// Why it failed.
        why: String,
    },
    /// An action ended.
    Ended {
        /// The action.
        id: ActionId,
        /// How.
        outcome: Outcome,
        /// How long it took.
        took: Duration,
    },
    /// The operator wants to stop: what is under way ends, nothing else starts.
    Interrupted,
    /// Something to know that is not about one action.
    Message {
        /// How bad it is.
        severity: Severity,
        /// One line, always the same for the same thing.
        summary: String,
        /// The rest; may be empty.
        detail: String,
    },
    /// The run is over.
    Finished(Box<Finish>),
}

/// An action that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub id: ActionId,
    /// The node whose host it works on.
    pub node: Option<String>,
    /// What it does to its object.
    pub verb: Verb,
    /// What it does, in one line.
    pub summary: String,
    /// `Installing`.
    pub doing: String,
}

impl From<&Action> for Step {
    fn from(action: &Action) -> Self {
        let kind = action.kind.as_kind();
        Self {
            id: action.id.clone(),
            node: action.node.clone(),
            verb: kind.verb(),
            summary: kind.summary(),
            doing: kind.progress().into(),
        }
    }
}

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// The host on which the lock was refused.
    pub node: String,
    /// ID of the run.
    pub run: String,
    /// `user@host`.
    pub who: String,
    /// The command.
    pub command: String,
    /// Version of the program.
    pub version: String,
    /// How long it has been held.
    pub age: Duration,
}

/// How bad a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// To know.
    Info,
    /// To look into.
    Warning,
    /// What keeps the run from its goal.
    Error,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// The plan.
    pub plan: Plan,
    /// How every action ended.
    pub report: Report,
    /// The cluster as last seen.
    pub view: Option<ClusterView>,
    /// What to run next.
    pub next: Option<String>,
}

impl Finish {
    /// What was done.
    pub fn done(&self) -> Summary {
        super::report::done(&self.plan, &self.report)
    }
}
