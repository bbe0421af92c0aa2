//! Switching binary, configuration and unit of a running member, inside its own restart (Q1, Q5, Q15).

use serde::{Deserialize, Serialize};

use super::{Gate, Kind, Margin, Operation, Precondition, RunFacts, Stall, UnitVerb, Verb};
use crate::etcd::id::MemberId;
use crate::runtime::FileWrite;
use crate::sabotage::{self, Bug};

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
    /// Paths that a run which was cut off has switched, and the process has not been started with: what it kept comes back
    /// with the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// Whether the operator accepted that the cluster cannot be reached meanwhile.
    pub allow_downtime: bool,
    /// Whether no process runs that could lead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_down: bool,
    /// Whether what an earlier run kept is older than what runs now, and must not come back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_settled: bool,
    /// Another peer URL for the membership, or one at which nobody has reached the member yet: the update, the restart on
    /// it and the look whether the others can dial it belong together (Q14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readdress: Option<Readdress>,
    /// Directories of the data that move while the member is stopped, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// How they are taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub back: Vec<Move>,
    /// Why the running process is not what it should be.
    pub reasons: Vec<String>,
}

/// A change of a member's peer URLs in the membership. Where both are the same, they have not been dialed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readdress {
    /// What they are.
    pub from: Vec<String>,
    /// What they will be.
    pub to: Vec<String>,
    /// Whether the membership learns it only when the member is back, for without it there is no quorum to learn; or knows
    /// it already.
    pub afterwards: bool,
}

impl Readdress {
    /// Whether there is nothing to change any more.
    pub fn is_known(&self) -> bool {
        self.from == self.to
    }
}

/// A directory of data that goes elsewhere. Nothing is deleted: across file systems the original stays beside its
/// former place, under a name with this time stamp (Q7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Where it is, by whatever name; when this takes it back, where it belongs.
    pub from: String,
    /// Where it will be.
    pub to: String,
    /// Time stamp for names beside either.
    pub stamp: String,
    /// Whether this takes back what had been moved, as far as it had come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
}

impl Restart {
    /// The update of the membership, if it belongs before the restart, or after it.
    fn update(&self, afterwards: bool) -> Option<Operation> {
        let readdress = self.readdress.as_ref();
        let now = readdress.filter(|readdress| readdress.afterwards == afterwards)?;
        Some(Operation::UpdateMember(self.member, now.to.clone()))
    }

    /// Every path that is kept until the gate has passed.
    pub fn switched(&self) -> Vec<String> {
        self.files
            .iter()
            .map(|file| file.path.clone())
            .chain(self.binaries.iter().cloned())
            .chain(self.pending.iter().cloned())
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
        let mut summary = format!("restart {} (member {})", self.unit, self.member);
        if let Some(readdress) = &self.readdress {
            summary.push_str(&format!(" at {}", readdress.to.join(",")));
        }
        for moved in &self.moves {
            summary.push_str(&format!(", its data in {}", moved.to));
        }
        summary
    }
    fn precondition(&self) -> Precondition {
        // What is down takes nothing away when it comes back; only the membership's update needs the others.
        if self.is_down
            && self
                .readdress
                .as_ref()
                .is_none_or(|readdress| readdress.afterwards)
        {
            return Precondition::None;
        }
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
    fn stall(&self, margin: Option<&Margin>) -> Option<Stall> {
        Some(match margin {
            Some(margin) if margin.during < margin.needs => Stall::Outage,
            _ => Stall::Handover,
        })
    }
    fn way_back(&self) -> Option<&'static str> {
        Some("put back by itself if the member does not come back healthy")
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        let unit = |verb| Operation::Unit(verb, self.unit.clone());
        let mut operations = vec![unit(UnitVerb::ForgetRestart)];
        let switched = self.switched();
        // Before all that may fail: it must not be put back then.
        if self.is_settled && !switched.is_empty() {
            operations.push(Operation::DropKept(switched.clone()));
        }
        // What fails here costs nothing.
        operations.extend(self.moves.iter().cloned().map(Operation::AssertRoom));
        if !self.is_down {
            operations.push(Operation::MoveLeader(self.member));
        }
        // It may take a while: a crash meanwhile must not bring up what the membership does not know. From here on the
        // others look for the member where it is not yet, so that only what switches it comes between this and its restart.
        operations.extend(self.update(false));
        if !switched.is_empty() {
            operations.push(Operation::KeepPrevious(switched));
        }
        if !self.binaries.is_empty() {
            operations.push(Operation::SwitchStaged(self.binaries.clone()));
        }
        operations.extend(self.files.iter().cloned().map(Operation::WriteFile));
        operations.push(unit(UnitVerb::DaemonReload));
        if !self.moves.is_empty() {
            if !sabotage::on(Bug::MoveWhileRunning) {
                operations.push(unit(UnitVerb::StopForRestart));
            }
            operations.extend(self.moves.iter().cloned().map(Operation::Relocate));
        }
        // Crashes of before are none of what starts now.
        operations.push(unit(UnitVerb::ResetFailed));
        operations.push(unit(UnitVerb::Restart));
        operations.extend(self.update(true));
        // Status alone does not tell: a member that nobody can dial looks healthy over the links that it opens itself.
        let asked = self.readdress.as_ref();
        operations.extend(
            asked
                .filter(|_| !sabotage::on(Bug::AddressUnheard))
                .map(|readdress| Operation::AwaitDialable(self.member, readdress.to.clone())),
        );
        operations
    }
    fn undo(&self) -> Vec<Operation> {
        let unit = |verb| Operation::Unit(verb, self.unit.clone());
        // Where the data cannot go back, the configuration that has it where it is stays as well.
        let fits = self.back.iter().cloned().map(Operation::AssertRoom);
        let mut operations: Vec<Operation> = fits.collect();
        operations.extend([
            Operation::RestorePrevious(self.switched()),
            unit(UnitVerb::DaemonReload),
            unit(UnitVerb::ResetFailed),
        ]);
        if !self.back.is_empty() {
            // Where it was never stopped, nothing was moved either.
            operations.push(unit(UnitVerb::StopAgain));
            operations.extend(self.back.iter().cloned().map(Operation::Relocate));
        }
        // A restart that failed before it stopped the member leaves nothing to restart it for.
        operations.push(unit(UnitVerb::RestartAgain));
        // Without the member there may be no quorum to learn it, and it joins the others over the links that it opens.
        operations.extend(
            self.readdress
                .as_ref()
                .map(|readdress| Operation::UpdateMember(self.member, readdress.from.clone())),
        );
        operations
    }
}
