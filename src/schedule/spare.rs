//! Whether the cluster still spares a member, asked again right before something is done to it: what the scheduler found
//! may be as old as all that came in between (Q1).

use crate::action::{Action, ActionKind, Operation, Precondition};
use crate::etcd::id::MemberId;
use crate::observed::etcd::ClusterView;
use crate::sabotage::{self, Bug};
use crate::safety::{self, Unsafe};

/// What an action asks while it is performed, until it has stopped its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spare {
    member: MemberId,
    allow_downtime: bool,
    /// Whether the member was down: then only one that has come up since can be missed.
    was_down: bool,
    /// Whether the action is taken back: then only a member that answers can be missed.
    back: bool,
}

impl Spare {
    /// Of an action that stops its member; `None` where it never does.
    pub fn of(action: &Action) -> Option<Self> {
        match (&action.kind, action.kind.as_kind().precondition()) {
            (
                _,
                Precondition::MayStop {
                    member,
                    allow_downtime,
                },
            ) => Some(Self {
                member,
                allow_downtime,
                was_down: false,
                back: false,
            }),
            (ActionKind::Restart(restart), Precondition::None) => Some(Self {
                member: restart.member,
                allow_downtime: restart.allow_downtime,
                was_down: true,
                back: false,
            }),
            _ => None,
        }
    }

    /// Of what takes an action back, which stops the member that the action has stopped.
    pub fn of_undo(action: &Action) -> Option<Self> {
        Self::of(action).map(|spare| Self {
            back: true,
            ..spare
        })
    }

    /// The same, when some of its operations are done.
    pub fn after(action: &Action, done: &[Operation]) -> Option<Self> {
        Self::of(action).filter(|_| !done.iter().any(Operation::stops))
    }

    /// Whom it is about.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Whether an operation is preceded by the question: one that stops the member, or has the others look for it
    /// elsewhere.
    pub fn precedes(operation: &Operation) -> bool {
        operation.stops() || matches!(operation, Operation::UpdateMember(..))
    }

    /// Whether the member can be spared, as the cluster is now.
    pub fn ask(&self, view: &ClusterView) -> Result<(), Unsafe> {
        let status = view.statuses.get(&self.member);
        let is_away = status.is_none_or(|(_, status)| status.leader == MemberId(0));
        let is_lost = (self.was_down && is_away) || (self.back && status.is_none());
        if sabotage::on(Bug::StopUnasked) || is_lost {
            return Ok(());
        }
        self.may_stop(view)
    }

    fn may_stop(&self, view: &ClusterView) -> Result<(), Unsafe> {
        safety::may_stop(view, self.member, &[], self.allow_downtime).map(drop)
    }

    /// The same right before the member is stopped.
    pub fn ask_again(&self, view: &ClusterView) -> Result<(), Unsafe> {
        if self.back && sabotage::on(Bug::UndoUnasked) {
            return Ok(());
        }
        self.ask(view)
    }

    /// Whether that does not hang on the member's not having answered or led, which may be this one look's fault.
    pub fn is_certain(&self, view: &ClusterView) -> bool {
        self.may_stop(view).is_ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::action::ActionId;
    use crate::action::restart::Restart;
    use crate::etcd::id::ClusterId;
    use crate::observed::etcd::{Member, MemberStatus};

    fn restart(is_down: bool) -> Action {
        restart_of(1, is_down)
    }

    /// What takes back the restart of a member that was up.
    pub(crate) fn undo(member: u64) -> Spare {
        Spare::of_undo(&restart_of(member, false)).expect("a restart")
    }

    fn restart_of(member: u64, is_down: bool) -> Action {
        let restart = Restart {
            unit: "etcd.service".into(),
            member: MemberId(member),
            files: vec![],
            binaries: vec![],
            pending: vec![],
            allow_downtime: false,
            is_down,
            is_settled: false,
            readdress: None,
            moves: vec![],
            back: vec![],
            reasons: vec![],
        };
        Action {
            id: ActionId::of_node("etcd-1", "restart"),
            node: Some("etcd-1".into()),
            kind: ActionKind::Restart(restart),
            because: vec![],
            needs: BTreeSet::new(),
            changes: vec![],
            margin: None,
        }
    }

    /// Three voters, of whom these answer.
    pub(crate) fn view(up: &[u64]) -> ClusterView {
        let status = |id: u64| MemberStatus {
            cluster_id: ClusterId(9),
            member_id: MemberId(id),
            leader: MemberId(up[0]),
            raft_term: 2,
            raft_index: 10,
            raft_applied_index: 10,
            version: "3.5.16".into(),
            db_size: 0,
            db_size_in_use: 0,
            is_learner: false,
            errors: vec![],
        };
        let member = |id: u64| Member {
            id: MemberId(id),
            name: format!("etcd-{id}"),
            peer_urls: vec![],
            client_urls: vec![],
            is_learner: false,
        };
        ClusterView {
            statuses: up
                .iter()
                .map(|id| (MemberId(*id), (format!("etcd-{id}"), status(*id))))
                .collect(),
            members: (1..=3).map(member).collect(),
            alarms: vec![],
            cluster_ids: vec![ClusterId(9)],
        }
    }

    #[test]
    fn a_member_that_was_down_and_has_come_up_is_spared_like_any_other() {
        let spare = Spare::of(&restart(true)).expect("a restart");
        assert_eq!(spare.ask(&view(&[2])), Ok(()), "it takes nothing away");
        assert!(spare.ask(&view(&[1, 2])).is_err(), "it is the quorum now");
        assert_eq!(spare.ask(&view(&[1, 2, 3])), Ok(()));
        let mut leaderless = view(&[1, 2]);
        for (_, status) in leaderless.statuses.values_mut() {
            status.leader = MemberId(0);
        }
        assert_eq!(spare.ask(&leaderless), Ok(()), "there is nothing to lose");
        assert!(!spare.is_certain(&leaderless), "or there is an election");
        assert!(spare.is_certain(&view(&[1, 2, 3])));
        let spare = Spare::of(&restart(false)).expect("a restart");
        assert!(spare.ask(&view(&[2])).is_err());
        let undo = Spare::of_undo(&restart(false)).expect("a restart");
        assert_eq!(undo.ask(&view(&[2])), Ok(()), "it does not answer");
        assert!(undo.ask(&view(&[1, 2])).is_err(), "it is the quorum");
    }
}
