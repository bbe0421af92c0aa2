//! The event stream of an apply: JSON lines, the first of them a `version` line.

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::health::Health;
use super::plan::{Counts, Verb};
pub use super::stream::Stream;

/// Version of the stream.
pub const FORMAT_VERSION: &str = "1.0";

/// One line of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Line {
    /// How bad it is.
    #[serde(rename = "@level")]
    pub level: Level,
    /// For people.
    #[serde(rename = "@message")]
    pub message: String,
    /// Always `quorate`.
    #[serde(rename = "@module")]
    pub module: &'static str,
    /// RFC 3339.
    #[serde(rename = "@timestamp")]
    pub timestamp: String,
    /// For programs.
    #[serde(flatten)]
    pub body: Body,
}

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// To know.
    Info,
    /// To look into.
    Warn,
    /// A failure.
    Error,
}

/// What a line says to programs, by `type`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// The first line.
    Version {
        /// Version of quorate.
        quorate: String,
        /// Version of the stream.
        format: String,
    },
    /// An action of the plan.
    PlannedChange {
        /// The action.
        change: ActionRef,
    },
    /// How much the plan does, or how much was done.
    ChangeSummary {
        /// The numbers.
        changes: Changes,
    },
    /// A message.
    Diagnostic {
        /// The message.
        diagnostic: Diagnostic,
    },
    /// An action starts.
    ApplyStart {
        /// The action.
        hook: Hook,
    },
    /// An action is still under way.
    ApplyProgress {
        /// The action.
        hook: Hook,
    },
    /// An action is done.
    ApplyComplete {
        /// The action.
        hook: Hook,
    },
    /// An action failed, or is not started any more.
    ApplyErrored {
        /// The action.
        hook: Hook,
    },
    /// An action waits for the cluster.
    Waiting {
        /// The action's name.
        id: String,
        /// What it waits for.
        reason: String,
    },
    /// The lock is waited for, taken or lost.
    Lock {
        /// The lock.
        lock: Lock,
    },
    /// The end of the run.
    Report {
        /// The end.
        report: ReportBody,
    },
}

/// An action, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ActionRef {
    /// Its name.
    pub id: String,
    /// The node whose host it works on.
    pub node: Option<String>,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it does to its object.
    pub verb: Verb,
    /// What it does, in one line.
    pub summary: String,
}

/// The state of an action under way.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Hook {
    /// The action.
    pub action: ActionRef,
    /// Seconds since it started.
    pub elapsed_seconds: f64,
    /// `done`, `failed`, `undone` or `not_started`, once it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeName>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes of an upload that were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_done: Option<u64>,
    /// Bytes of the upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeName {
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// It failed, and was put back as it was.
    Undone,
    /// It was not started.
    NotStarted,
}

/// Numbers of a summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Changes {
    /// The numbers.
    #[serde(flatten)]
    pub counts: Counts,
    /// What they are of.
    pub operation: Operation,
}

/// What a summary is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// What is planned.
    Plan,
    /// What was applied.
    Apply,
    /// What was destroyed.
    Destroy,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: SeverityName,
    /// One line, always the same for the same thing.
    pub summary: String,
    /// The rest.
    pub detail: String,
}

/// How bad a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeverityName {
    /// To know.
    Info,
    /// To look into.
    Warning,
    /// What keeps the run from its goal.
    Error,
}

/// The lock.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Lock {
    /// Whether it is waited for, taken or lost.
    pub state: LockState,
    /// Who holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Seconds of waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_seconds: Option<f64>,
    /// Why it was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// State of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockState {
    /// Another operator holds it.
    Waiting,
    /// It is ours.
    Taken,
    /// It is no longer ours.
    Lost,
}

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Holder {
    /// The host on which the lock was refused.
    pub node: String,
    /// ID of the run.
    pub run: String,
    /// `user@host`.
    pub who: String,
    /// The command.
    pub command: String,
    /// Version of quorate.
    pub version: String,
    /// Seconds for which it has been held.
    pub age_seconds: f64,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReportBody {
    /// Whether everything is done.
    pub complete: bool,
    /// Why the run stopped before its end.
    pub stopped: Option<String>,
    /// How every action ended, in the plan's order.
    pub outcomes: Vec<OutcomeBody>,
    /// Health of the cluster as last seen.
    pub cluster: Option<Health>,
    /// What to run next.
    pub next: Option<String>,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutcomeBody {
    /// The action's name.
    pub id: String,
    /// How.
    pub outcome: OutcomeName,
    /// Why it is not done.
    pub reason: Option<String>,
}

/// An RFC 3339 time in UTC, to the millisecond.
pub(in super::super) fn rfc3339(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let millis = at.nanosecond() / 1_000_000 * 1_000_000;
    at.replace_nanosecond(millis)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}
