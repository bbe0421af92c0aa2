//! What the probe learns of a host.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::certificate::FoundCertificate;
use super::data::Whereabouts;
use super::etcd::EtcdState;
use super::marker::MarkerState;
use crate::etcd::wal::WalIdentity;

/// Why nothing is known of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
pub enum HostUnknown {
    /// No route, no answer, or a time-out.
    Unreachable(String),
    /// Something answered and refused the connection.
    Refused(String),
    /// The host key is unknown, changed or revoked.
    HostKey(String),
    /// No way to log in.
    Authentication(String),
    /// Logged in, but not root and no sudo.
    Privilege(String),
    /// Not a Linux host with systemd and the tools that are needed.
    Unsupported(String),
    /// The probe's answer made no sense.
    Probe(String),
}

impl HostUnknown {
    /// One word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::HostKey(_) => "host key",
            Self::Authentication(_) => "no login",
            Self::Privilege(_) => "no root",
            Self::Unsupported(_) => "unsupported",
            Self::Probe(_) => "probe failed",
        }
    }

    /// The whole story, with its remedy.
    pub fn detail(&self) -> &str {
        match self {
            Self::Unreachable(text)
            | Self::Refused(text)
            | Self::HostKey(text)
            | Self::Authentication(text)
            | Self::Privilege(text)
            | Self::Unsupported(text)
            | Self::Probe(text) => text,
        }
    }
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    /// Operating system.
    pub os: Os,
    /// `amd64`, `arm64`, or what the kernel calls it.
    pub arch: String,
    /// Commands that an action may need and that are there.
    pub tools: BTreeSet<String>,
    /// Whether the service user exists.
    pub user: bool,
    /// Files and directories that the plan is about, by path.
    pub files: BTreeMap<String, FileFact>,
    /// The member's unit.
    pub unit: UnitFact,
    /// The etcd binary that the unit runs.
    pub binary: Option<BinaryFact>,
    /// Package versions installed, by name.
    pub packages: BTreeMap<String, String>,
    /// Those of them that the package manager is told not to upgrade.
    pub held: BTreeSet<String>,
    /// The member's data directory.
    pub data: DataDir,
    /// Where that was found: it may be half-way to another place.
    pub whereabouts: Whereabouts,
    /// The marker.
    pub marker: MarkerState,
    /// The file system of the data directory, or of its nearest existing parent.
    pub filesystem: FilesystemFact,
    /// What tells one boot of one machine from all others, also where a machine was copied.
    pub boot: String,
    /// Host's clock minus the operator's, in milliseconds (± the round trip).
    pub clock_offset_ms: i64,
    /// Listeners on the ports of the member.
    pub listeners: Vec<Listener>,
    /// What etcd says.
    pub etcd: EtcdState,
}

/// What installs packages on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageManager {
    /// Of Debian and its like.
    Apt,
    /// Of Fedora, RHEL and their like.
    Dnf,
    /// Of those that are older.
    Yum,
}

impl PackageManager {
    /// The one that an operating system lives by: others may be installed beside it. It need not be there.
    fn of(os: &Os, tools: &BTreeSet<String>) -> Self {
        if os.id == "debian" || os.id_like.iter().any(|like| like == "debian") {
            Self::Apt
        } else if tools.contains("yum") && !tools.contains("dnf") {
            Self::Yum
        } else {
            Self::Dnf
        }
    }

    /// The command that is run.
    pub fn command(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Dnf => "dnf",
            Self::Yum => "yum",
        }
    }
}

impl HostFacts {
    /// The one that the host lives by.
    pub fn package_manager(&self) -> PackageManager {
        PackageManager::of(&self.os, &self.tools)
    }
}

/// Operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Os {
    /// `ID` of os-release.
    pub id: String,
    /// `VERSION_ID` of os-release.
    pub version_id: String,
    /// `ID_LIKE` of os-release.
    pub id_like: Vec<String>,
}

/// A path that the plan is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFact {
    /// Nothing is there.
    Absent,
    /// A regular file.
    File(FileStat),
    /// A directory.
    Directory(FileStat),
    /// Something else, named as `stat` does.
    Other(String),
}

impl FileFact {
    /// The stat of a regular file.
    pub fn file(&self) -> Option<&FileStat> {
        match self {
            Self::File(stat) => Some(stat),
            _ => None,
        }
    }
}

/// Mode, owner and contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileStat {
    /// Permission bits.
    pub mode: u32,
    /// Owner's name, or number where it has none.
    pub owner: String,
    /// Group's name, or number where it has none.
    pub group: String,
    /// Bytes.
    pub size: u64,
    /// Unix seconds of the last change of the file or its attributes (`ctime`).
    pub changed_at: i64,
    /// Hex digest; `None` for directories.
    pub sha256: Option<String>,
    /// Contents, where the probe was asked for them: never those of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// For a certificate file, what it says and who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Result<FoundCertificate, String>>,
}

/// State of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UnitFact {
    /// `LoadState`.
    pub load: String,
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `UnitFileState`.
    pub file_state: String,
    /// `FragmentPath`.
    pub fragment: String,
    /// `DropInPaths`.
    pub drop_ins: Vec<String>,
    /// `NRestarts`: how often systemd has restarted it by itself since somebody started it.
    pub restarts: u32,
    /// `NeedDaemonReload`.
    pub need_reload: bool,
    /// `ETCD_*` variables of the running process; `None` where none runs.
    pub environment: Option<BTreeMap<String, String>>,
    /// Digest of the binary that the running process was started from; `None` where none runs.
    pub running_sha256: Option<String>,
    /// Unix seconds at which the process was started; `None` where none runs.
    pub started_at: Option<i64>,
}

impl UnitFact {
    /// Whether a process of the unit runs or is being started.
    pub fn is_up(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading")
    }

    /// Whether its process has ended, and systemd lets `RestartSec=` go by before it starts another.
    pub fn is_between_attempts(&self) -> bool {
        self.active == "activating" && self.sub.starts_with("auto-restart")
    }
}

/// The etcd binary on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BinaryFact {
    /// Where it is.
    pub path: String,
    /// `etcd --version`, if it could be run.
    pub version: Option<String>,
    /// Hex digest.
    pub sha256: String,
}

/// The member's data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataDir {
    /// No data directory, or no `member/` and nothing else of etcd's in it.
    Empty,
    /// `member/` exists, but has no WAL.
    NoWal,
    /// A WAL with a readable identity.
    Wal(WalIdentity),
    /// A WAL that could not be read.
    Unreadable(String),
}

/// The file system under the data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FilesystemFact {
    /// Mount point.
    pub mount: String,
    /// Type.
    pub fstype: String,
    /// UUID, where it has one.
    pub uuid: Option<String>,
    /// Bytes free for root-less users.
    pub free: u64,
}

/// A TCP listener on a port of interest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Listener {
    /// Port.
    pub port: u16,
    /// Whether the member's own unit has it.
    pub ours: bool,
    /// Process that has it, as far as it could be told.
    pub owner: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_decides_which_package_manager_counts() {
        let manager = |id: &str, like: &[&str], tools: &[&str]| {
            let os = Os {
                id: id.into(),
                id_like: like.iter().map(|like| (*like).into()).collect(),
                ..Os::default()
            };
            let tools = tools.iter().map(|tool| (*tool).into()).collect();
            PackageManager::of(&os, &tools).command()
        };
        assert_eq!(manager("debian", &[], &["apt-get", "dnf"]), "apt-get");
        assert_eq!(manager("ubuntu", &["debian"], &["dnf"]), "apt-get");
        assert_eq!(manager("fedora", &[], &["apt-get", "dnf", "yum"]), "dnf");
        assert_eq!(manager("centos", &["rhel", "fedora"], &["yum"]), "yum");
    }
}
