//! What becomes of an action that failed: it is taken back if that costs nobody the quorum.

use super::{Command, LOOK_AGAIN_MS, Outcome, SPARE_DEADLINE_MS, Scheduler, Spare, State, What};
use crate::action::ActionId;
use crate::observed::etcd::ClusterView;
use crate::sabotage::{self, Bug};

impl Scheduler {
    /// Takes back what has stopped its member, unless that would stop one which the cluster cannot spare now.
    pub(super) fn fail_if_spared(
        &mut self,
        id: &ActionId,
        why: String,
        view: &ClusterView,
        commands: &mut Vec<Command>,
    ) {
        let spare = Spare::of_undo(&self.actions[id]);
        if let Some(Err(refusal)) = spare.map(|spare| spare.ask(view)) {
            self.end(
                id,
                Outcome::Failed(format!("{why}; it is left as it is, since {refusal}")),
            );
            return;
        }
        self.fail(id, (why, false), true, commands);
    }

    /// Takes back what has failed once it is clear whether the cluster can spare its member: one look may miss a member,
    /// or find an election.
    pub(super) fn failing(
        &mut self,
        (now, since): (u64, u64),
        id: &ActionId,
        (what, why): (What, String),
        view: &ClusterView,
        commands: &mut Vec<Command>,
    ) {
        let in_time = now.saturating_sub(since) < SPARE_DEADLINE_MS && !self.lock_lost;
        if in_time && self.can_undo(id) && self.is_doubtful(id, view) {
            let failing = State::Failing { why, since, what };
            self.state.insert(id.clone(), failing);
            commands.push(Command::Look(id.clone(), LOOK_AGAIN_MS));
        } else {
            self.fail_if_spared(id, why, view, commands);
        }
    }

    /// Whether the member of an action does not answer, or the cluster cannot spare it.
    pub(super) fn is_doubtful(&self, id: &ActionId, view: &ClusterView) -> bool {
        Spare::of(&self.actions[id]).is_some_and(|spare| {
            !view.statuses.contains_key(&spare.member()) || spare.ask(view).is_err()
        })
    }

    /// Whether there is something to take back, and nobody else who may be at work.
    pub(super) fn can_undo(&self, id: &ActionId) -> bool {
        let without_lock = self.lock_lost && !sabotage::on(Bug::UndoWithoutLock);
        !without_lock && !self.actions[id].kind.as_kind().undo().is_empty()
    }

    /// Takes the action back if it can be, else records the failure.
    pub(super) fn fail(
        &mut self,
        id: &ActionId,
        (why, refused): (String, bool),
        has_stopped: bool,
        commands: &mut Vec<Command>,
    ) {
        if self.can_undo(id) {
            let undoing = State::Undoing {
                why,
                refused,
                has_stopped,
            };
            self.state.insert(id.clone(), undoing);
            commands.push(Command::Undo(id.clone()));
        } else {
            self.end(id, Outcome::Failed(why));
        }
    }
}
