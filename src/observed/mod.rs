//! What is there: hosts, data directories, markers and what etcd says. What could not be learnt is a value, not a gap.

pub mod certificate;
pub mod etcd;
pub mod host;
pub mod marker;
pub mod table;

use std::collections::BTreeMap;

use serde::Serialize;

pub use etcd::{ClusterView, EtcdState};
pub use host::{HostFacts, HostUnknown};
pub use marker::{Marker, MarkerState};
pub use table::Table;

/// Everything that was observed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// Hosts by node name: those of the file, and those that only markers know.
    pub hosts: BTreeMap<String, HostState>,
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

    /// What etcd says, gathered from every member that answered.
    pub fn cluster(&self) -> ClusterView {
        ClusterView::gather(self.known().map(|(name, facts)| (name, &facts.etcd)))
    }
}
