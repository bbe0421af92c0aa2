//! Telling the cluster where a member is that listens at its new address already, and seeing that the others reach it.

use serde::{Deserialize, Serialize};

use super::restart::Readdress;
use super::{Gate, Kind, Margin, Operation, Precondition, RunFacts, Stall, Verb};
use crate::etcd::id::MemberId;

/// Changes the peer URLs of a member in the membership, where it does not know them yet, and nothing on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tell {
    /// The member.
    pub member: MemberId,
    /// Its unit.
    pub unit: String,
    /// From and to.
    pub readdress: Readdress,
}

impl Kind for Tell {
    fn verb(&self) -> Verb {
        Verb::Update
    }
    fn progress(&self) -> &'static str {
        "Updating"
    }
    fn summary(&self) -> String {
        let urls = self.readdress.to.join(",");
        if self.readdress.is_known() {
            return format!("see that the others reach member {} at {urls}", self.member);
        }
        format!("tell the cluster that member {} is at {urls}", self.member)
    }
    fn precondition(&self) -> Precondition {
        if self.readdress.is_known() {
            return Precondition::None;
        }
        // It disturbs nobody if it is right, and as much as a restart if the address is not.
        Precondition::MayStop {
            member: self.member,
            allow_downtime: true,
        }
    }
    fn gate(&self) -> Gate {
        Gate::Member(self.member)
    }
    fn watched_unit(&self) -> Option<&str> {
        Some(&self.unit)
    }
    fn stall(&self, _: Option<&Margin>) -> Option<Stall> {
        Some(Stall::None)
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        let to = &self.readdress.to;
        let mut operations = vec![Operation::AwaitDialable(self.member, to.clone())];
        if !self.readdress.is_known() {
            operations.insert(0, Operation::UpdateMember(self.member, to.clone()));
        }
        operations
    }
    fn undo(&self) -> Vec<Operation> {
        if self.readdress.is_known() {
            return vec![];
        }
        vec![Operation::UpdateMember(
            self.member,
            self.readdress.from.clone(),
        )]
    }
}
