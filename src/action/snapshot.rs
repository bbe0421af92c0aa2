//! A verified snapshot before a risky step (Q13).

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, RunFacts, Verb};

/// Saves a snapshot of a healthy member on the operator's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {}

impl Kind for Snapshot {
    fn verb(&self) -> Verb {
        Verb::Create
    }
    fn progress(&self) -> &'static str {
        "Saving"
    }
    fn summary(&self) -> String {
        "save and verify a snapshot on this machine".into()
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        vec![Operation::SaveSnapshot]
    }
}
