//! Telling the cluster where a member is that listens at its new address already.

use serde::{Deserialize, Serialize};

use super::restart::Readdress;
use super::{Gate, Kind, Margin, Operation, Precondition, RunFacts, Stall, Verb};
use crate::etcd::id::MemberId;

/// Changes the peer URLs of a member in the membership, and nothing on its host.
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
        format!(
            "tell the cluster that member {} is at {}",
            self.member,
            self.readdress.to.join(",")
        )
    }
    fn precondition(&self) -> Precondition {
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
        vec![
            Operation::UpdateMember(self.member, to.clone()),
            Operation::AwaitDialable(self.member, to.clone()),
        ]
    }
    fn undo(&self) -> Vec<Operation> {
        vec![Operation::UpdateMember(
            self.member,
            self.readdress.from.clone(),
        )]
    }
}
