//! The marker: `/etc/quorate/marker.json` on every managed host.
//!
//! It says whose host this is. Identity is the generation's nonce and the cluster ID, never the name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::data::Place;
use super::table::Table;
use crate::etcd::id::{ClusterId, MemberId};

/// Where the marker lies.
pub const PATH: &str = "/etc/quorate/marker.json";
/// Directory of the marker.
pub const DIR: &str = "/etc/quorate";
/// Version of the format that this program writes.
pub const VERSION: u32 = 1;

/// Contents of a marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// Format version, [`VERSION`].
    pub version: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// The logical cluster that this host belongs to.
    pub generation: Generation,
    /// Cluster ID, once it is known.
    pub cluster_id: Option<ClusterId>,
    /// Member ID, once it is known.
    pub member_id: Option<MemberId>,
    /// Peer URL of the member: it is known by that until it has started.
    #[serde(default)]
    pub peer_url: Option<String>,
    /// systemd unit of the member.
    pub unit: String,
    /// Data directory.
    pub data_dir: String,
    /// WAL directory, if separate.
    pub wal_dir: Option<String>,
    /// Further places that the data may have gone to since, while it moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moving: Vec<Place>,
    /// UUID of the file system that holds the data directory.
    pub filesystem: Option<String>,
    /// Files that are ours, with their digests.
    pub files: BTreeMap<String, OwnedFile>,
    /// Directories that we made, parents first.
    pub directories: Vec<String>,
    /// Whether we made the service user.
    pub user: Option<String>,
    /// Packages that we installed.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Packages that were there before us, and whose upgrades we hold back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// sha256 of the archive that the binaries came from.
    pub archive: Option<String>,
    /// sha256 of the certificate of the authority that the member trusts.
    #[serde(default)]
    pub authority: Option<String>,
    /// How each node of the cluster was reached: hints for a run whose file no longer names a node.
    pub addresses: Table<SshAddress>,
    /// The last plan that changed this host.
    pub last_plan: Option<LastPlan>,
}

/// One logical cluster: a bootstrap or restore and everything since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Random part of the initial cluster token.
    pub nonce: String,
    /// The whole `--initial-cluster-token`.
    pub token: String,
    /// `--initial-cluster` of the bootstrap: peer URLs by name.
    pub initial_cluster: Table<String>,
    /// How far this host is in its bootstrap.
    pub phase: Phase,
}

/// How far a bootstrap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The facts of the bootstrap are frozen; this member has never been started.
    Frozen,
    /// This member has been started and has had a WAL since.
    Started,
    /// Every member was seen healthy.
    Complete,
}

/// A file that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnedFile {
    /// Hex sha256 of what we put there; `None` for private keys.
    pub sha256: Option<String>,
    /// What was there before, while a change is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// How a node was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshAddress {
    /// Name or address.
    pub host: String,
    /// Port, if it was given.
    pub port: Option<u16>,
    /// User, if it was given.
    pub user: Option<String>,
    /// Peer URL of its member, who may have no other name yet and whose own marker nobody may be able to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_url: Option<String>,
}

impl SshAddress {
    /// Where it is, whoever logs in.
    pub fn place(&self) -> (&str, Option<u16>) {
        (&self.host, self.port)
    }
}

/// Who changed the host last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastPlan {
    /// Fingerprint of the plan.
    pub fingerprint: String,
    /// `user@host` of the operator.
    pub by: String,
    /// RFC 3339 time.
    pub at: String,
}

/// What the host's marker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkerState {
    /// There is none.
    Absent,
    /// It was read.
    Present(Box<Marker>),
    /// There is one that this program cannot read.
    Unreadable(String),
    /// A newer program wrote it, in this format.
    Newer(u32),
}

impl MarkerState {
    /// The marker, if there is a readable one.
    pub fn get(&self) -> Option<&Marker> {
        match self {
            Self::Present(marker) => Some(marker),
            _ => None,
        }
    }

    /// Why there is one and nobody can tell what it says, in words.
    pub fn unreadable(&self) -> Option<String> {
        match self {
            Self::Unreadable(error) => Some(error.clone()),
            Self::Newer(version) => Some(format!(
                "it has format {version}, this program knows up to {VERSION}"
            )),
            Self::Absent | Self::Present(_) => None,
        }
    }

    /// Reads the text of a marker.
    pub fn parse(text: &str) -> Self {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        match serde_json::from_str::<Head>(text) {
            Ok(head) if head.version > VERSION => Self::Newer(head.version),
            _ => match serde_json::from_str(text) {
                Ok(marker) => Self::Present(Box::new(marker)),
                Err(error) => Self::Unreadable(error.to_string()),
            },
        }
    }
}

impl Marker {
    /// The text that is written to the host.
    pub fn render(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The same marker without what differs from run to run.
    pub fn canonical(&self) -> Self {
        Self {
            last_plan: None,
            ..self.clone()
        }
    }

    /// Where the data was when nothing moved.
    pub fn place(&self) -> Place {
        Place {
            data_dir: self.data_dir.clone(),
            wal_dir: self.wal_dir.clone(),
        }
    }

    /// That, and all places that it may have gone to since.
    pub fn places(&self) -> Vec<Place> {
        let mut places = vec![self.place()];
        places.extend(self.moving.iter().cloned());
        places
    }

    /// Digest of the canonical marker.
    pub fn digest(&self) -> String {
        // The tables are by far the most of it; their digests are known already.
        let rest = Self {
            generation: Generation {
                initial_cluster: Table::default(),
                ..self.generation.clone()
            },
            addresses: Table::default(),
            ..self.canonical()
        };
        let mut hash = Sha256::new();
        hash.update(self.generation.initial_cluster.digest());
        hash.update(self.addresses.digest());
        hash.update(serde_json::to_vec(&rest).unwrap_or_default());
        hex::encode(hash.finalize())
    }
}

impl Generation {
    /// `--initial-cluster` in etcd's own form.
    pub fn initial_cluster_flag(&self) -> String {
        self.initial_cluster
            .iter()
            .map(|(name, url)| format!("{name}={url}"))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// The cluster ID that a bootstrap with these facts has.
    pub fn cluster_id(&self) -> ClusterId {
        crate::etcd::id::bootstrap_cluster_id(
            self.initial_cluster
                .values()
                .map(|url| crate::etcd::id::bootstrap_member_id([url.as_str()], &self.token)),
        )
    }

    /// The member ID that a bootstrap with these facts gives this node.
    pub fn member_id(&self, node: &str) -> Option<MemberId> {
        self.initial_cluster
            .get(node)
            .map(|url| crate::etcd::id::bootstrap_member_id([url.as_str()], &self.token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".*") {
            prop_assert!(MarkerState::parse(&text).get().is_none());
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        assert_eq!(
            MarkerState::parse(r#"{"version": 99, "novelty": true}"#),
            MarkerState::Newer(99)
        );
    }
}
