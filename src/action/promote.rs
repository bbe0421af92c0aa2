//! Giving a learner its vote, once it has caught up (Q3).

use serde::{Deserialize, Serialize};

use super::{Gate, Kind, Margin, MembershipChange, Operation, Precondition, RunFacts, Stall, Verb};

/// Promotes a learner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promote {
    /// Its peer URL.
    pub peer_url: String,
    /// Its unit.
    pub unit: String,
}

impl Kind for Promote {
    fn verb(&self) -> Verb {
        Verb::Update
    }
    fn progress(&self) -> &'static str {
        "Promoting"
    }
    fn summary(&self) -> String {
        format!("promote learner {} to a voter", self.peer_url)
    }
    fn precondition(&self) -> Precondition {
        Precondition::MayChange(MembershipChange::Promote(self.peer_url.clone()))
    }
    fn gate(&self) -> Gate {
        Gate::Joined {
            peer_url: self.peer_url.clone(),
            voter: true,
        }
    }
    fn stall(&self, _: Option<&Margin>) -> Option<Stall> {
        Some(Stall::None)
    }
    fn way_back(&self) -> Option<&'static str> {
        Some("a vote is never taken back; the member can be removed")
    }
    fn watched_unit(&self) -> Option<&str> {
        Some(&self.unit)
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        vec![Operation::Promote(self.peer_url.clone())]
    }
}
