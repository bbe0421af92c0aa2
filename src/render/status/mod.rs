//! The state of a cluster: its members, the fault tolerance that is left, and what does not match the file.

mod build;
mod table;

use schemars::JsonSchema;
use serde::Serialize;

use super::health::Health;

pub use table::text;

/// Version of the JSON form.
pub const FORMAT_VERSION: &str = "1.0";

/// The state of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StatusReport {
    /// Version of the form: a new minor adds, a new major changes.
    pub format_version: String,
    /// Version of quorate.
    pub tool_version: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Whether every member of the file is healthy and the membership is the file's.
    pub healthy: bool,
    /// Voters, quorum, leader, and how many more may fail.
    pub health: Health,
    /// The members of the file by name, then those that only etcd knows.
    pub members: Vec<MemberRow>,
    /// What does not match the file, in words.
    pub problems: Vec<String>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MemberRow {
    /// The node of the file; null for a member that only etcd knows.
    pub node: Option<String>,
    /// The member's own name; null where it has none, or could not be asked.
    pub name: Option<String>,
    /// Its ID, as etcdctl writes it.
    pub id: Option<String>,
    /// What it is in the membership.
    pub role: Role,
    /// The version that answered.
    pub version: Option<String>,
    /// Whether it is healthy.
    pub health: MemberHealth,
    /// What is wrong.
    pub error: Option<String>,
    /// Entries between what the leader committed and what it has applied.
    pub raft_lag: Option<u64>,
    /// Size of its database in bytes.
    pub db_size: Option<u64>,
    /// Bytes of it in use.
    pub db_in_use: Option<u64>,
    /// `quota-backend-bytes`; null where there is none.
    pub db_quota: Option<u64>,
    /// Per cent of the quota that the database takes.
    pub db_quota_used: Option<f64>,
    /// Its alarms: `NOSPACE`, `CORRUPT`.
    pub alarms: Vec<String>,
    /// Days until the first of its certificates expires, rounded down; negative when it has.
    pub certificate_days_left: Option<i64>,
}

/// What a member is in the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The voter that leads.
    Leader,
    /// Has a vote.
    Voter,
    /// Has none.
    Learner,
    /// Not in the membership.
    None,
    /// Nobody could say.
    Unknown,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::None => "none",
            Self::Unknown => "-",
        }
    }
}

/// Whether a member is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberHealth {
    /// It answers, follows the common leader, has caught up, and reports no error.
    Healthy,
    /// It answers, and something is wrong.
    Unhealthy,
    /// Its host was reached, and nothing answers on the client port.
    Silent,
    /// Its host was reached, and etcd could not be asked.
    Unknown,
    /// Its host could not be reached, or not be used.
    Unreachable,
}

impl MemberHealth {
    fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Silent => "silent",
            Self::Unknown => "unknown",
            Self::Unreachable => "unreachable",
        }
    }
}

impl StatusReport {
    /// Whether every member of the file is healthy and the membership is the file's: what the exit code says.
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }
}
