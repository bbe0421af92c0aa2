//! Service user and directories.

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, RunFacts, Verb};
use crate::runtime::Directory;

/// Creates the service user and the directories that differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// User to create, if it is missing.
    pub user: Option<String>,
    /// Directories to make or to correct, parents first.
    pub directories: Vec<Directory>,
}

impl Kind for Prepare {
    fn verb(&self) -> Verb {
        if self.user.is_some() {
            Verb::Create
        } else {
            Verb::Update
        }
    }
    fn progress(&self) -> &'static str {
        "Preparing"
    }
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        if let Some(user) = &self.user {
            parts.push(format!("user {user}"));
        }
        match self.directories.as_slice() {
            [] => {}
            [one] => parts.push(format!("directory {}", one.path)),
            many => parts.push(format!("{} directories", many.len())),
        }
        format!("prepare {}", parts.join(" and "))
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        self.user
            .iter()
            .cloned()
            .map(Operation::EnsureUser)
            .chain(
                self.directories
                    .iter()
                    .cloned()
                    .map(Operation::MakeDirectory),
            )
            .collect()
    }
}
