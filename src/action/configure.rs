//! Files whose change costs no restart.

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, RunFacts, UnitVerb, Verb};
use crate::runtime::FileWrite;

/// Writes configuration, unit or certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configure {
    /// Files to write, in this order.
    pub files: Vec<FileWrite>,
    /// Leftovers to remove.
    pub remove: Vec<String>,
    /// The unit, when systemd has to read it again.
    pub reload: Option<String>,
    /// Whether none of the files was there.
    pub fresh: bool,
}

impl Kind for Configure {
    fn verb(&self) -> Verb {
        if self.fresh {
            Verb::Create
        } else {
            Verb::Update
        }
    }
    fn progress(&self) -> &'static str {
        "Configuring"
    }
    fn summary(&self) -> String {
        match (self.files.as_slice(), self.remove.as_slice()) {
            ([], [one]) => format!("remove {one}"),
            ([], []) => "let systemd read its units again".into(),
            ([one], []) => format!("write {}", one.path),
            (files, _) => format!("write {} files", files.len()),
        }
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        let mut operations: Vec<Operation> = self
            .files
            .iter()
            .cloned()
            .map(Operation::WriteFile)
            .chain(self.remove.iter().cloned().map(Operation::RemoveFile))
            .collect();
        if let Some(unit) = &self.reload {
            operations.push(Operation::Unit(UnitVerb::DaemonReload, unit.clone()));
        }
        operations
    }
}
