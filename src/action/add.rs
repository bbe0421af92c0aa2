//! Adding a member to the membership: always as a learner, which takes no vote and no quorum (Q3).

use serde::{Deserialize, Serialize};

use super::{Kind, Margin, MembershipChange, Operation, Precondition, RunFacts, Stall, Verb};

/// Adds a learner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// Its peer URL, by which it is known until it has started.
    pub peer_url: String,
}

impl Add {
    /// Whether members are added as learners, always.
    pub fn as_learner() -> bool {
        !crate::sabotage::on(crate::sabotage::Bug::VoterInsteadOfLearner)
    }
}

impl Kind for Add {
    fn verb(&self) -> Verb {
        Verb::Create
    }
    fn progress(&self) -> &'static str {
        "Adding"
    }
    fn summary(&self) -> String {
        format!("add learner {}", self.peer_url)
    }
    fn precondition(&self) -> Precondition {
        Precondition::MayChange(MembershipChange::Add(self.peer_url.clone()))
    }
    fn stall(&self, _: Option<&Margin>) -> Option<Stall> {
        Some(Stall::None)
    }
    fn way_back(&self) -> Option<&'static str> {
        Some("take the node out of the cluster file: a learner can always be removed")
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        vec![Operation::AddLearner(self.peer_url.clone())]
    }
}
