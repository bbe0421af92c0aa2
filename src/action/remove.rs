//! Removing a member from the membership, by ID (Q6).

use serde::{Deserialize, Serialize};

use super::{Gate, Kind, Margin, MembershipChange, Operation, Precondition, RunFacts, Stall, Verb};
use crate::etcd::id::MemberId;

/// Removes a member, after leadership has moved away from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remove {
    /// The member.
    pub member: MemberId,
    /// Its name, or peer URL where it has never started: for people.
    pub name: String,
    /// Whether it has no vote.
    pub learner: bool,
}

impl Kind for Remove {
    fn verb(&self) -> Verb {
        Verb::Destroy
    }
    fn progress(&self) -> &'static str {
        "Removing"
    }
    fn summary(&self) -> String {
        let what = if self.learner { "learner" } else { "member" };
        format!("remove {what} {} ({})", self.member, self.name)
    }
    fn precondition(&self) -> Precondition {
        Precondition::MayChange(MembershipChange::Remove(self.member))
    }
    fn gate(&self) -> Gate {
        Gate::Removed(self.member)
    }
    fn stall(&self, margin: Option<&Margin>) -> Option<Stall> {
        // Who does not count among the healthy leads nobody.
        let is_down = margin.is_some_and(|margin| margin.during == margin.before);
        Some(if self.learner || is_down {
            Stall::None
        } else {
            Stall::Handover
        })
    }
    fn way_back(&self) -> Option<&'static str> {
        Some("none: a removed member never comes back, a new one can join in its place")
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        let mut operations = Vec::new();
        if !self.learner {
            // Removing a leader stalls writes for an election (playbook section 9).
            operations.push(Operation::MoveLeader(self.member));
        }
        operations.push(Operation::RemoveMember(self.member));
        operations
    }
}
