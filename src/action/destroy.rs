//! Taking a host back to what it was: the member stops, its data is set aside, what is ours goes, the marker last.

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, Precondition, RunFacts, UnitVerb, Verb};
use crate::etcd::id::MemberId;
use crate::observed::host::PackageManager;
use crate::observed::marker;

/// Stops and disables the unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The unit.
    pub unit: String,
    /// Its member, where the cluster lives on: it must not be one any more.
    #[serde(default)]
    pub member: Option<MemberId>,
}

/// Moves data aside, or deletes it under `--purge-data` (Q7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// From and to, each within one directory.
    pub moves: Vec<(String, String)>,
    /// Trees to delete instead.
    pub purge: Vec<String>,
    /// The member whose data it is, where the cluster lives on: it must not be one any more.
    #[serde(default)]
    pub member: Option<MemberId>,
}

/// Removes files, binaries, unit, directories, user and, last, the marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clean {
    /// The unit.
    pub unit: String,
    /// Files to remove.
    pub files: Vec<String>,
    /// Directories to remove where they are empty, children first.
    pub directories: Vec<String>,
    /// Directories of the data, which were there before us or not.
    pub data: Vec<String>,
    /// Moved-aside data, which must not stay with a user that goes.
    pub aside: Vec<String>,
    /// The service user, if we made it.
    pub user: Option<String>,
    /// Packages that we installed.
    pub packages: Vec<String>,
    /// Packages that stay, and that we held.
    pub held: Vec<String>,
    /// What removes them.
    pub manager: PackageManager,
}

/// What one member says of the membership may be old; this was read linearizably (Q6, Q7).
fn still_a_member(member: Option<MemberId>, run: &RunFacts) -> Option<String> {
    let listed = |id: &MemberId| run.members.iter().any(|found| found.id == *id);
    let id = member.filter(listed)?;
    Some(format!(
        "member {id} is still in the membership: plan again"
    ))
}

impl Kind for Stop {
    fn verb(&self) -> Verb {
        Verb::Destroy
    }
    fn progress(&self) -> &'static str {
        "Stopping"
    }
    fn summary(&self) -> String {
        format!("stop and disable {}", self.unit)
    }
    fn precondition(&self) -> Precondition {
        self.member
            .map_or(Precondition::None, Precondition::NotAMember)
    }
    fn reads_membership(&self) -> bool {
        self.member.is_some()
    }
    fn refuses(&self, run: &RunFacts) -> Option<String> {
        still_a_member(self.member, run)
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        vec![
            Operation::Unit(UnitVerb::Disable, self.unit.clone()),
            Operation::Unit(UnitVerb::Stop, self.unit.clone()),
        ]
    }
}

impl Kind for SetAside {
    fn verb(&self) -> Verb {
        Verb::Destroy
    }
    fn progress(&self) -> &'static str {
        if self.purge.is_empty() {
            "Setting data aside"
        } else {
            "Deleting data"
        }
    }
    fn summary(&self) -> String {
        if self.purge.is_empty() {
            self.moves
                .iter()
                .map(|(from, to)| format!("move {from} to {to}"))
                .collect::<Vec<_>>()
                .join(", ")
        } else {
            format!("DELETE {}", self.purge.join(", "))
        }
    }
    fn precondition(&self) -> Precondition {
        self.member
            .map_or(Precondition::None, Precondition::NotAMember)
    }
    fn reads_membership(&self) -> bool {
        self.member.is_some()
    }
    fn refuses(&self, run: &RunFacts) -> Option<String> {
        still_a_member(self.member, run)
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        self.moves
            .iter()
            .map(|(from, to)| Operation::MoveAside {
                from: from.clone(),
                to: to.clone(),
            })
            .chain(self.purge.iter().cloned().map(Operation::PurgeData))
            .collect()
    }
}

impl Kind for Clean {
    fn verb(&self) -> Verb {
        Verb::Destroy
    }
    fn progress(&self) -> &'static str {
        "Cleaning"
    }
    fn summary(&self) -> String {
        format!("remove {} files, the unit and the marker", self.files.len())
    }
    fn operations(&self, run: &RunFacts) -> Vec<Operation> {
        let mut operations: Vec<Operation> = Vec::new();
        if !self.packages.is_empty() {
            let unit = format!("/{}", self.unit);
            let configured = || self.files.iter().filter(|file| !file.ends_with(&unit));
            // rpm would keep what it takes for its own and finds changed as .rpmsave. dpkg leaves such files alone, and
            // would mask a unit that is gone before its package.
            if self.manager != PackageManager::Apt {
                operations.extend(configured().cloned().map(Operation::RemoveFile));
            }
            operations.push(Operation::RemovePackages {
                manager: self.manager,
                names: self.packages.clone(),
            });
            // What the package would have had in the place of ours.
            let theirs = match self.manager {
                PackageManager::Apt => "dpkg-dist",
                PackageManager::Dnf | PackageManager::Yum => "rpmnew",
            };
            let pristine = configured().map(|file| format!("{file}.{theirs}"));
            operations.extend(pristine.map(Operation::RemoveFile));
        }
        if !self.held.is_empty() {
            operations.push(Operation::ReleasePackages {
                manager: self.manager,
                names: self.held.clone(),
            });
        }
        operations.push(Operation::DropPrevious(self.files.clone()));
        let parents: std::collections::BTreeSet<String> = self
            .files
            .iter()
            .filter_map(|file| file.rsplit_once('/'))
            .map(|(directory, _)| directory.to_owned())
            .collect();
        let made = parents.into_iter().chain(self.directories.iter().cloned());
        operations.push(Operation::Sweep(made.collect()));
        operations.extend(self.files.iter().cloned().map(Operation::RemoveFile));
        operations.push(Operation::Unit(UnitVerb::DaemonReload, self.unit.clone()));
        operations.push(Operation::Unit(UnitVerb::ResetFailed, self.unit.clone()));
        operations.extend(self.aside.iter().cloned().map(Operation::GiveToRoot));
        operations.extend(
            self.directories
                .iter()
                .cloned()
                .map(Operation::RemoveDirectory),
        );
        // Also what an earlier run has set aside, a move or a replacement.
        operations.extend(self.user.iter().flat_map(|user| {
            let all: std::collections::BTreeSet<&String> =
                self.directories.iter().chain(&self.data).collect();
            all.into_iter().map(|path| Operation::Disown {
                user: user.clone(),
                path: path.clone(),
            })
        }));
        operations.extend(self.user.iter().cloned().map(Operation::RemoveUser));
        operations.push(Operation::RemoveFile(marker::PATH.into()));
        operations.push(Operation::RemoveDirectory(marker::DIR.into()));
        operations.push(super::marker::journal("cleaned by", run));
        operations
    }
}
