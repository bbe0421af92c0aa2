//! What is there: hosts, data directories, markers and what etcd says. What could not be learnt is a value, not a gap.

pub mod certificate;
pub mod data;
pub mod etcd;
pub mod host;
pub mod marker;
pub mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::desired::model::Desired;
use crate::etcd::id::MemberId;

pub use data::{Place, Whereabouts};
pub use etcd::{ClusterView, EtcdState};
pub use host::{HostFacts, HostUnknown};
pub use marker::{Marker, MarkerState};
pub use table::Table;

/// Everything that was observed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// Hosts by node name: those of the file, and those that only markers know.
    pub hosts: BTreeMap<String, HostState>,
    /// Names by which markers know hosts that are among `hosts` under another one.
    pub aliases: BTreeSet<String>,
    /// Names by which markers know hosts that are none of this cluster's any more.
    pub others: BTreeSet<String>,
    /// Facts of the operator's own side.
    pub operator: OperatorFacts,
}

/// A host, or why it is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// The probe ran.
    Known(Box<HostFacts>),
    /// Nothing is known of it.
    Unknown(HostUnknown),
}

impl HostState {
    /// The facts, if the host is known.
    pub fn facts(&self) -> Option<&HostFacts> {
        match self {
            Self::Known(facts) => Some(facts),
            Self::Unknown(_) => None,
        }
    }
}

/// Facts of the operator's side that steer a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OperatorFacts {
    /// The release archive by architecture (`amd64`, `arm64`), or why it cannot be had.
    pub archives: BTreeMap<String, Result<ArchiveFact, String>>,
    /// The managed authority, when it exists here.
    pub authority: Option<certificate::CaFacts>,
}

/// A release archive that was fetched and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveFact {
    /// Hex digest of the archive.
    pub sha256: String,
    /// Hex digests of the binaries in it, by file name.
    pub binaries: BTreeMap<String, String>,
}

/// Name of the host on which a node was before the cluster file gave it another address.
pub fn former(node: &str, address: &str) -> String {
    format!("{node}@{address}")
}

impl Observed {
    /// The facts of a node's host, if it is known.
    pub fn facts(&self, node: &str) -> Option<&HostFacts> {
        self.hosts.get(node).and_then(HostState::facts)
    }

    /// All known hosts, by name.
    pub fn known(&self) -> impl Iterator<Item = (&str, &HostFacts)> {
        self.hosts
            .iter()
            .filter_map(|(name, state)| Some((name.as_str(), state.facts()?)))
    }

    /// The generation of a cluster that most of these hosts bear: a name alone is no identity (Q8). `None` where none
    /// bears one, or two are borne by equally many.
    pub fn generation(&self, cluster: &str, token: &str) -> Option<&marker::Generation> {
        let prefix = format!("{token}-");
        let mut counts: BTreeMap<&str, (usize, &marker::Generation)> = BTreeMap::new();
        for (_, facts) in self.known() {
            let Some(marker) = facts.marker.get() else {
                continue;
            };
            if marker.cluster == cluster && marker.generation.token.starts_with(&prefix) {
                counts
                    .entry(&marker.generation.nonce)
                    .or_insert((0, &marker.generation))
                    .0 += 1;
            }
        }
        let most = counts.values().map(|(count, _)| *count).max()?;
        let mut leading = counts.values().filter(|(count, _)| *count == most);
        match (leading.next(), leading.next()) {
            (Some((_, generation)), None) => Some(generation),
            _ => None,
        }
    }

    /// Takes in hosts that only markers know. Those that turn out to be others under a second name, or to be none of this
    /// cluster's any more, stay out; their names are returned.
    pub fn take_in(
        &mut self,
        desired: &Desired,
        strangers: BTreeMap<String, HostState>,
    ) -> Vec<String> {
        let cluster = &desired.cluster;
        let ours = self.generation(&cluster.name, &cluster.token).cloned();
        let mut out = Vec::new();
        for (name, state) in strangers {
            let is_ours = ours.as_ref().is_none_or(|ours| self.is_ours(ours, &state));
            if self.is_alias(&name, &state) {
                self.aliases.insert(name.clone());
            } else if !is_ours {
                self.others.insert(name.clone());
            } else {
                self.hosts.insert(name, state);
                continue;
            }
            out.push(name);
        }
        out
    }

    /// Whether a host that only markers know bears anything of this generation, as far as can be told: it may have been
    /// cleaned since, and serve another cluster.
    fn is_ours(&self, ours: &marker::Generation, state: &HostState) -> bool {
        let Some(facts) = state.facts() else {
            return true;
        };
        match (&facts.marker, &facts.data) {
            (MarkerState::Present(marker), _) => marker.generation.nonce == ours.nonce,
            (MarkerState::Absent, host::DataDir::Wal(wal)) => self.known().any(|(_, other)| {
                other.marker.get().is_some_and(|marker| {
                    marker.generation.nonce == ours.nonce
                        && marker.cluster_id == Some(wal.cluster_id)
                })
            }),
            (MarkerState::Absent, host::DataDir::Empty | host::DataDir::NoWal) => false,
            _ => true,
        }
    }

    /// Whether a host that only markers know is one of the others, under a former name or address.
    fn is_alias(&self, name: &str, state: &HostState) -> bool {
        match state {
            // No two hosts bear the same marker, for it names its node, unless one is a copy of the other. Before there is
            // a marker, the data tells.
            HostState::Known(facts) => self.known().any(|(_, other)| {
                let is_marked = facts.marker.get().is_some() || other.data == facts.data;
                other.boot == facts.boot && other.marker == facts.marker && is_marked
            }),
            // Nobody is at the former address any more, and the member is at the new one with its data.
            HostState::Unknown(_) => name
                .split_once('@')
                .and_then(|(node, _)| self.facts(node))
                .is_some_and(|facts| match (&facts.data, facts.marker.get()) {
                    (host::DataDir::Wal(wal), Some(marker)) => {
                        marker.member_id == Some(wal.member_id)
                    }
                    _ => false,
                }),
        }
    }

    /// How many voters are on these hosts, and how many there are. Where nobody could say who has a vote, all nodes of
    /// the file count.
    pub fn voters_on(&self, desired: &Desired, hosts: &[String]) -> (usize, usize) {
        let view = self.cluster();
        if view.members.is_empty() {
            let named = desired.nodes.iter();
            let ours = named.filter(|node| hosts.contains(&node.name)).count();
            return (ours, desired.nodes.len());
        }
        let here: BTreeSet<MemberId> = hosts
            .iter()
            .filter_map(|host| match &self.facts(host)?.data {
                host::DataDir::Wal(wal) => Some(wal.member_id),
                _ => None,
            })
            .collect();
        let voters: Vec<_> = view.voters().collect();
        let ours = voters.iter().filter(|voter| here.contains(&voter.id));
        (ours.count(), voters.len())
    }

    /// What etcd says, gathered from every member that answered.
    pub fn cluster(&self) -> ClusterView {
        ClusterView::gather(self.known().map(|(name, facts)| (name, &facts.etcd)))
    }
}
