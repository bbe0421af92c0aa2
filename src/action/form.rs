//! Waiting until the members of a bootstrap are one healthy cluster.

use serde::{Deserialize, Serialize};

use super::{Gate, Kind, Operation, RunFacts, Verb};
use crate::etcd::id::ClusterId;

/// Passes when every member answers in the cluster that the frozen facts define.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// The cluster ID that etcd derives from the frozen facts.
    pub cluster_id: ClusterId,
    /// Number of members.
    pub members: usize,
    /// The unit that runs each.
    pub unit: String,
}

impl Kind for Form {
    fn verb(&self) -> Verb {
        Verb::Create
    }
    fn progress(&self) -> &'static str {
        "Forming"
    }
    fn summary(&self) -> String {
        format!("{} members form cluster {}", self.members, self.cluster_id)
    }
    fn watched_unit(&self) -> Option<&str> {
        Some(&self.unit)
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn gate(&self) -> Gate {
        Gate::Formed {
            cluster_id: self.cluster_id,
            members: self.members,
        }
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        Vec::new()
    }
}
