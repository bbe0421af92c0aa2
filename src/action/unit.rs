//! Unmasking and enabling the unit.

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, RunFacts, UnitVerb, Verb};

/// Makes the unit start at boot again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enable {
    /// The unit.
    pub unit: String,
    /// Whether it is masked.
    pub unmask: bool,
}

impl Kind for Enable {
    fn verb(&self) -> Verb {
        Verb::Update
    }
    fn progress(&self) -> &'static str {
        "Enabling"
    }
    fn summary(&self) -> String {
        let how = if self.unmask {
            "unmask and enable"
        } else {
            "enable"
        };
        format!("{how} {}", self.unit)
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        let mut operations = Vec::new();
        if self.unmask {
            operations.push(Operation::Unit(UnitVerb::Unmask, self.unit.clone()));
        }
        operations.push(Operation::Unit(UnitVerb::Enable, self.unit.clone()));
        operations.push(Operation::Unit(UnitVerb::DaemonReload, self.unit.clone()));
        operations
    }
}
