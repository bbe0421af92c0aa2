//! What a run tells its onlookers: the terminal, the JSON stream and the run log.

use crate::action::ActionId;
use crate::apply::lock::Holder;
use crate::schedule::Outcome;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody else holds the lock, and we wait.
    LockWaiting {
        /// Host on which it was found.
        node: String,
        /// Who, as far as the host could say.
        holder: Option<Holder>,
    },
    /// The lock is held on these hosts.
    Locked {
        /// Nodes.
        nodes: Vec<String>,
    },
    /// An action begins.
    Started {
        /// The action.
        id: ActionId,
        /// `Installing`.
        progress: &'static str,
        /// One line that says what it does.
        summary: String,
    },
    /// An action waits for something to come true.
    Waiting {
        /// The action.
        id: ActionId,
        /// For what.
        why: String,
    },
    /// Bytes of an upload.
    Bytes {
        /// The action.
        id: ActionId,
        /// Sent so far.
        done: u64,
        /// All.
        total: u64,
    },
    /// What an action did is taken back.
    Undoing {
        /// The action.
        id: ActionId,
    },
    /// An action ended.
    Ended {
        /// The action.
        id: ActionId,
        /// How.
        outcome: Outcome,
        /// Milliseconds since it began.
        millis: u64,
    },
    /// The operator interrupted the run.
    Interrupted,
    /// The lock is lost; nothing new begins.
    LockLost {
        /// Why.
        reason: String,
    },
}

/// Where events go.
pub type Sink = std::sync::Arc<dyn Fn(&Event) + Send + Sync>;
