//! First start of a member that was added to a living cluster (Q11).

use serde::{Deserialize, Serialize};

use super::bootstrap::{FirstStart, first_start};
use super::{Gate, Kind, Operation, RunFacts, Verb};
use crate::observed::etcd::Member;
use crate::observed::marker::Marker;
use crate::runtime::StartDropIn;

/// Starts an added member with the membership of that moment as its initial cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The unit.
    pub unit: String,
    /// Its name.
    pub name: String,
    /// Its peer URL, by which the membership knows it.
    pub peer_url: String,
    /// `--initial-cluster-token`.
    pub token: String,
    /// Lifts the WAL assertion for this one start.
    pub drop_in: StartDropIn,
    /// Directory in which the WAL appears.
    pub wal_dir: String,
    /// What an interrupted start may have left, and where it goes.
    pub leftover: (String, String),
    /// The marker once the member has its WAL.
    pub marker: Marker,
}

impl Join {
    /// `--initial-cluster`: only URLs are compared, so the others go by their IDs, for two members of one name would be
    /// read as one with two URLs, and one that has never started has none.
    fn initial_cluster(&self, members: &[Member]) -> String {
        members
            .iter()
            .flat_map(|member| {
                member.peer_urls.iter().map(|url| {
                    if *url == self.peer_url {
                        format!("{}={url}", self.name)
                    } else {
                        format!("{}={url}", member.id)
                    }
                })
            })
            .collect::<Vec<_>>()
            .join(",")
    }
}

impl Kind for Join {
    fn verb(&self) -> Verb {
        Verb::Create
    }
    fn progress(&self) -> &'static str {
        "Joining"
    }
    fn summary(&self) -> String {
        format!("start {} as a learner and let it catch up", self.unit)
    }
    fn gate(&self) -> Gate {
        Gate::Joined {
            peer_url: self.peer_url.clone(),
            voter: false,
        }
    }
    fn watched_unit(&self) -> Option<&str> {
        Some(&self.unit)
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn reads_membership(&self) -> bool {
        true
    }
    fn refuses(&self, run: &RunFacts) -> Option<String> {
        let has_url = |member: &&Member| member.peer_urls.contains(&self.peer_url);
        match run.members.iter().find(has_url) {
            // Whoever has voted must not come back without memory (Q11).
            Some(member) if !member.is_learner || !member.name.is_empty() => Some(format!(
                "member {} at {} has been started before: it is not started on an empty directory; plan again",
                member.id, self.peer_url
            )),
            Some(_) => None,
            None => Some(format!(
                "no member has the peer URL {}: plan again",
                self.peer_url
            )),
        }
    }
    fn operations(&self, run: &RunFacts) -> Vec<Operation> {
        let environment = crate::runtime::start_environment(
            &self.initial_cluster(&run.members),
            &self.token,
            "existing",
        );
        first_start(
            &FirstStart {
                unit: &self.unit,
                environment,
                drop_in: &self.drop_in,
                wal_dir: &self.wal_dir,
                leftover: &self.leftover,
                marker: &self.marker,
            },
            run,
        )
    }
}
