//! How a run ended.

use serde::Serialize;

use crate::action::ActionId;

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// It is done, and its gate has passed.
    Done,
    /// It failed, and was put back as it was.
    Undone(String),
    /// It failed.
    Failed(String),
    /// It was not safe, for as long as could be waited, and nothing was done.
    Refused(String),
    /// It was not started, or was left while waiting.
    NotStarted(String),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every action in the plan's order.
    pub outcomes: Vec<(ActionId, Outcome)>,
    /// Why the run stopped before its end, if it did.
    pub stopped: Option<String>,
}

impl Report {
    /// Whether everything is done.
    pub fn is_complete(&self) -> bool {
        self.outcomes
            .iter()
            .all(|(_, outcome)| *outcome == Outcome::Done)
    }

    /// How many actions ended in a way.
    pub fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.outcomes
            .iter()
            .filter(|(_, outcome)| wanted(outcome))
            .count()
    }
}
