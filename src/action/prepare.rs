//! Service user, directories, data of a former life of the host, and packages that must stay as they are.

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, RunFacts, Verb};
use crate::observed::host::PackageManager;
use crate::runtime::Directory;

/// Creates the service user and the directories that differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// User to create, if it is missing.
    pub user: Option<String>,
    /// Directories to make or to correct, parents first.
    pub directories: Vec<Directory>,
    /// Data that was found and belongs to somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// Packages to hold.
    pub hold: Option<Hold>,
}

/// Trees of data that the member could not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// The service user.
    pub user: String,
    /// Its group.
    pub group: String,
    /// The trees.
    pub trees: Vec<String>,
}

/// Installed packages whose upgrades are held back (Q19).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What holds them.
    pub manager: PackageManager,
    /// Their names.
    pub names: Vec<String>,
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
        let mut steps = Vec::new();
        if !parts.is_empty() {
            steps.push(format!("prepare {}", parts.join(" and ")));
        }
        if let Some(data) = &self.data {
            steps.push(format!(
                "give {} to {}",
                data.trees.join(" and "),
                data.user
            ));
        }
        if let Some(hold) = &self.hold {
            steps.push(format!("hold {}", hold.names.join(" and ")));
        }
        steps.join(", ")
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
            .chain(self.data.iter().flat_map(|data| {
                data.trees.iter().map(|path| Operation::GiveToUser {
                    user: data.user.clone(),
                    group: data.group.clone(),
                    path: path.clone(),
                })
            }))
            .chain(self.hold.iter().map(|hold| Operation::HoldPackages {
                manager: hold.manager,
                names: hold.names.clone(),
            }))
            .collect()
    }
}
