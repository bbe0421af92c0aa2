//! Switching binary, configuration and unit of a running member, inside its own restart (Q1, Q5, Q15).

use serde::{Deserialize, Serialize};

use super::{Gate, Kind, Operation, Precondition, RunFacts, UnitVerb, Verb};
use crate::etcd::id::MemberId;
use crate::runtime::FileWrite;

/// Restarts a running member on what it should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The unit.
    pub unit: String,
    /// The member.
    pub member: MemberId,
    /// Files that switch with it.
    pub files: Vec<FileWrite>,
    /// Staged binaries that switch with it, by their final path.
    pub binaries: Vec<String>,
    /// Whether the operator accepted that the cluster cannot be reached meanwhile.
    pub allow_downtime: bool,
    /// Why the running process is not what it should be.
    pub reasons: Vec<String>,
}

impl Restart {
    /// Every path that is kept until the gate has passed.
    pub fn switched(&self) -> Vec<String> {
        self.files
            .iter()
            .map(|file| file.path.clone())
            .chain(self.binaries.iter().cloned())
            .collect()
    }
}

impl Kind for Restart {
    fn verb(&self) -> Verb {
        Verb::Update
    }
    fn progress(&self) -> &'static str {
        "Restarting"
    }
    fn summary(&self) -> String {
        format!("restart {} (member {})", self.unit, self.member)
    }
    fn precondition(&self) -> Precondition {
        Precondition::MayStop {
            member: self.member,
            allow_downtime: self.allow_downtime,
        }
    }
    fn gate(&self) -> Gate {
        Gate::Member(self.member)
    }
    fn watched_unit(&self) -> Option<&str> {
        Some(&self.unit)
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        let mut operations = vec![
            Operation::Unit(UnitVerb::ForgetRestart, self.unit.clone()),
            Operation::MoveLeader(self.member),
        ];
        let switched = self.switched();
        if !switched.is_empty() {
            operations.push(Operation::KeepPrevious(switched));
        }
        if !self.binaries.is_empty() {
            operations.push(Operation::SwitchStaged(self.binaries.clone()));
        }
        operations.extend(self.files.iter().cloned().map(Operation::WriteFile));
        operations.push(Operation::Unit(UnitVerb::DaemonReload, self.unit.clone()));
        operations.push(Operation::Unit(UnitVerb::Restart, self.unit.clone()));
        operations
    }
    fn undo(&self) -> Vec<Operation> {
        vec![
            Operation::RestorePrevious(self.switched()),
            Operation::Unit(UnitVerb::DaemonReload, self.unit.clone()),
            Operation::Unit(UnitVerb::ResetFailed, self.unit.clone()),
            // A restart that failed before it stopped the member leaves nothing to restart it for.
            Operation::Unit(UnitVerb::RestartAgain, self.unit.clone()),
        ]
    }
}
