//! The shape that every runtime answers in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::observed::certificate::Profile;
use crate::observed::data::Place;

/// What a file contains. Only text is ever part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// This text.
    Text(String),
    /// The certificate of the authority.
    Authority,
    /// A certificate that is issued when it is needed.
    Certificate(Profile),
    /// The private key of that certificate.
    Key(Profile),
}

/// A file to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileWrite {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
    /// Contents.
    pub content: Content,
}

/// A directory to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
}

/// The drop-in that lifts the WAL assertion for one start (Q11). Both files live in `/run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartDropIn {
    /// Path of the drop-in.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Path of the environment file with the `initial-*` of that start.
    pub environment_path: String,
}

/// What keeps Debian's packages from starting anything, while there are some to install (Q19).
pub const POLICY_PATH: &str = "/usr/sbin/policy-rc.d";

/// What we write there.
pub const POLICY: &str = "#!/bin/sh\n# quorate\nexit 101\n";

/// What a node looks like on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The unit.
    pub unit: String,
    /// Service user.
    pub user: String,
    /// Service group.
    pub group: String,
    /// Directory of the binaries.
    pub bin_dir: String,
    /// The server binary.
    pub etcd: String,
    /// Data directory.
    pub data_dir: String,
    /// Separate directory for the WAL, which is in `wal/` there.
    pub wal_dir: Option<String>,
    /// Directories, parents first.
    pub directories: Vec<Directory>,
    /// Files, in the order in which they are written.
    pub files: Vec<FileWrite>,
    /// The drop-in of a start on an empty data directory.
    pub start_drop_in: StartDropIn,
    /// Options as the running process sees them: `ETCD_*` variables, without `initial-*`.
    pub environment: BTreeMap<String, String>,
    /// Advertised client URL.
    pub client_url: String,
    /// Advertised peer URL.
    pub peer_url: String,
    /// Client port.
    pub client_port: u16,
    /// Peer port.
    pub peer_port: u16,
}

/// Where a process with these variables keeps its data.
pub fn place_in(environment: &BTreeMap<String, String>) -> Option<Place> {
    let data_dir = environment.get("ETCD_DATA_DIR")?.clone();
    let wal = environment.get("ETCD_WAL_DIR");
    let wal_dir = wal.map(|wal| wal.strip_suffix("/wal").unwrap_or(wal).to_owned());
    Some(Place { data_dir, wal_dir })
}

impl Layout {
    /// Where the data belongs.
    pub fn place(&self) -> Place {
        Place {
            data_dir: self.data_dir.clone(),
            wal_dir: self.wal_dir.clone(),
        }
    }

    /// Directory that holds `*.wal`.
    pub fn wal_files_dir(&self) -> String {
        self.place().wal()
    }

    /// The `member/` directory.
    pub fn member_dir(&self) -> String {
        self.place().member()
    }

    /// Whether a process with these variables listens for its peers where this layout has it.
    pub fn listens_for_its_peers(&self, environment: &BTreeMap<String, String>) -> bool {
        self.agrees(environment, "ETCD_LISTEN_PEER_URLS")
    }

    /// Whether a process with these variables listens for peers and clients where this layout has it.
    pub fn listens_where_it_should(&self, environment: &BTreeMap<String, String>) -> bool {
        self.listens_for_its_peers(environment)
            && self.agrees(environment, "ETCD_LISTEN_CLIENT_URLS")
    }

    fn agrees(&self, environment: &BTreeMap<String, String>, variable: &str) -> bool {
        environment.get(variable) == self.environment.get(variable)
    }

    /// Variables that only a bootstrap reads; they differ from start to start and never cost a restart (Q11).
    pub fn is_bootstrap_only(variable: &str) -> bool {
        // Every start reads how far its first election is put forward, in spite of the name.
        variable.starts_with("ETCD_INITIAL_") && variable != "ETCD_INITIAL_ELECTION_TICK_ADVANCE"
    }
}
