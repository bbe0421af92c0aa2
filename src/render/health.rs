//! The health of a cluster in one sentence.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::observed::etcd::ClusterView;
use crate::safety;

/// How many voters answer healthy, and how many more may fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Health {
    /// The cluster's ID; absent when no member answered.
    pub cluster_id: Option<String>,
    /// Voters of the membership.
    pub voters: usize,
    /// Voters that answer healthy.
    pub healthy: usize,
    /// Voters that make a quorum.
    pub quorum: usize,
    /// Learners of the membership.
    pub learners: usize,
    /// Name of the leader, or its member ID where its name is not known.
    pub leader: Option<String>,
    /// How many more voters may fail before fewer than the quorum are healthy; absent when fewer are, or nobody
    /// answered.
    pub tolerates: Option<usize>,
}

impl Health {
    /// Reads it from what etcd said.
    pub fn of(view: &ClusterView) -> Self {
        let diagnosis = safety::Diagnosis::of(view);
        let voters: Vec<_> = view.voters().collect();
        let healthy = voters
            .iter()
            .filter(|member| diagnosis.unhealthy(member.id).is_none())
            .count();
        let quorum = safety::quorum(voters.len());
        Self {
            cluster_id: match view.cluster_ids.as_slice() {
                [one] => Some(one.to_string()),
                _ => None,
            },
            voters: voters.len(),
            healthy,
            quorum,
            learners: view.members.len() - voters.len(),
            leader: view.leader().map(|id| match view.member(id) {
                Some(member) if !member.name.is_empty() => member.name.clone(),
                _ => id.to_string(),
            }),
            tolerates: if voters.is_empty() {
                None
            } else {
                healthy.checked_sub(quorum)
            },
        }
    }

    /// `tolerates 1 more failure`, or that too few are healthy. An alarm makes members unhealthy that still vote, so
    /// this does not say that the quorum is lost.
    pub fn tolerance(&self) -> String {
        match self.tolerates {
            _ if self.voters == 0 => "no member could say who the voters are".into(),
            None => format!("fewer than the quorum of {}", self.quorum),
            Some(0) => "tolerates no more failure".into(),
            Some(1) => "tolerates 1 more failure".into(),
            Some(more) => format!("tolerates {more} more failures"),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.voters == 0 {
            return f.write_str("unknown, no member could say who the voters are");
        }
        write!(f, "{} of {} voters healthy, ", self.healthy, self.voters)?;
        if let Some(leader) = &self.leader {
            write!(f, "led by {leader}, ")?;
        }
        f.write_str(&self.tolerance())
    }
}
