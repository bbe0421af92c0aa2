//! Whether the cluster still spares a member, asked again right before something is done to it: what the scheduler found
//! may be as old as all that came in between (Q1).

use crate::action::{Action, Operation, Precondition};
use crate::etcd::id::MemberId;
use crate::observed::etcd::ClusterView;
use crate::sabotage::{self, Bug};
use crate::safety::{self, Unsafe};

/// What an action asks while it is performed, until it has stopped its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spare {
    member: MemberId,
    allow_downtime: bool,
}

impl Spare {
    /// Of an action that has not stopped its member; `None` where it never does. What takes an action back asks nobody.
    pub fn of(action: &Action) -> Option<Self> {
        match action.kind.as_kind().precondition() {
            Precondition::MayStop {
                member,
                allow_downtime,
            } => Some(Self {
                member,
                allow_downtime,
            }),
            _ => None,
        }
    }

    /// The same, when some of its operations are done.
    pub fn after(action: &Action, done: &[Operation]) -> Option<Self> {
        Self::of(action).filter(|_| !done.iter().any(Operation::stops))
    }

    /// Whether an operation is preceded by the question: one that stops the member, or has the others look for it
    /// elsewhere.
    pub fn precedes(operation: &Operation) -> bool {
        operation.stops() || matches!(operation, Operation::UpdateMember(..))
    }

    /// Whether the member can be spared, as the cluster is now.
    pub fn ask(&self, view: &ClusterView) -> Result<(), Unsafe> {
        if sabotage::on(Bug::StopUnasked) {
            return Ok(());
        }
        safety::may_stop(view, self.member, &[], self.allow_downtime).map(drop)
    }
}
