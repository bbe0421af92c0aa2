//! Starting a member that has its data.

use serde::{Deserialize, Serialize};

use super::{Gate, Kind, Operation, RunFacts, UnitVerb, Verb};
use crate::etcd::id::MemberId;

/// Starts a stopped member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The unit.
    pub unit: String,
    /// The member whose WAL is on the host.
    pub member: MemberId,
}

impl Kind for Start {
    fn verb(&self) -> Verb {
        Verb::Update
    }
    fn progress(&self) -> &'static str {
        "Starting"
    }
    fn summary(&self) -> String {
        format!("start {} (member {})", self.unit, self.member)
    }
    fn watched_unit(&self) -> Option<&str> {
        Some(&self.unit)
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn gate(&self) -> Gate {
        Gate::Member(self.member)
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        vec![
            Operation::Unit(UnitVerb::ResetFailed, self.unit.clone()),
            Operation::Unit(UnitVerb::Start, self.unit.clone()),
        ]
    }
}
