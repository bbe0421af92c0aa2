//! Calls that change the membership, as `apply` makes them: through the leader or another healthy voter, read before and
//! after, and made again when the answer is that of a moment. To ask and to read back are two attempts here: whatever the
//! answer was, only the membership says what has become of it, and something may happen in between.

use super::*;
use crate::model::calls::{Outcomes, Refusal};
use crate::model::membership::Membership;
use quorate::action::add::Add;
use quorate::observed::etcd::Member;
use quorate::safety;

/// What one attempt comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// The membership shows its effect.
    Done,
    /// It may come true later, or when it is tried again.
    Again,
    /// It will not.
    Refused(String),
}

/// Whether an operation is such a call.
pub fn is_call(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::AddLearner(_)
            | Operation::Promote(_)
            | Operation::RemoveMember(_)
            | Operation::UpdateMember(..)
            | Operation::SaveSnapshot
    )
}

impl World {
    /// Everything that one attempt may come to.
    pub fn attempts(&self, operation: &Operation) -> Vec<(Attempt, Self)> {
        let avoid = match operation {
            Operation::RemoveMember(id) | Operation::UpdateMember(id, _) => Some(*id),
            _ => None,
        };
        let again = || vec![(Attempt::Again, self.clone())];
        let Some((cluster, voter)) = self.healthy_voter(avoid) else {
            return again();
        };
        let raft = &self.etcd.rafts[&cluster];
        let Ok(before) = raft.member_list(voter, true) else {
            return again();
        };
        if is_done(operation, &before) {
            return vec![(Attempt::Done, self.clone())];
        }
        let mut next = self.clone();
        let by_url = |url: &String| {
            let mut members = before.members.iter();
            members
                .find(|(_, line)| line.url == *url)
                .map(|(id, _)| *id)
        };
        let refused = |why: String| vec![(Attempt::Refused(why), self.clone())];
        let outcomes: Outcomes<()> = match operation {
            Operation::AddLearner(url) if by_url(url).is_some() => {
                return refused(format!("somebody is at {url}"));
            }
            Operation::AddLearner(url) => {
                let id = MemberId(0xadd0 + u64::from(self.etcd.added));
                next.etcd.added += 1;
                let added = raft.member_add(voter, id, url, Add::as_learner());
                let forget = |(result, raft): (Result<_, _>, _)| (result.map(drop), raft);
                added.into_iter().map(forget).collect()
            }
            Operation::Promote(url) => match by_url(url) {
                Some(id) => raft.member_promote(voter, id),
                None => return refused(format!("nobody is at {url}")),
            },
            Operation::RemoveMember(id) => raft.member_remove(voter, *id),
            Operation::UpdateMember(id, urls) => raft.member_update_peer_urls(voter, *id, &urls[0]),
            _ => return vec![(Attempt::Done, next)],
        };
        let attempt = |(result, raft): (Result<(), Refusal>, _)| {
            let mut next = if raft == self.etcd.rafts[&cluster] {
                self.clone()
            } else {
                next.clone()
            };
            next.etcd.rafts.insert(cluster, raft);
            let attempt = match result {
                // It passes by itself, or is read back.
                Ok(())
                | Err(
                    Refusal::Unhealthy
                    | Refusal::TimedOut
                    | Refusal::Silent
                    | Refusal::LearnerNotReady,
                ) => Attempt::Again,
                Err(why) => Attempt::Refused(format!("{why:?}")),
            };
            (attempt, next)
        };
        outcomes.into_iter().map(attempt).collect()
    }

    /// The membership, read linearizably through a healthy voter.
    pub fn members_now(&self) -> Option<Vec<Member>> {
        let (cluster, voter) = self.healthy_voter(None)?;
        let list = self.etcd.rafts[&cluster].member_list(voter, true).ok()?;
        Some(crate::model::facts::lines(&list, "http://somewhere"))
    }

    /// The leader, or another healthy voter; the one to avoid only where there is no other.
    fn healthy_voter(&self, avoid: Option<MemberId>) -> Option<(ClusterId, MemberId)> {
        let view = self.view();
        let leader = view.leader();
        let healthy = |id: &MemberId| safety::unhealthy(&view, *id).is_none();
        let voters = view.voters().map(|voter| voter.id);
        let voter = voters
            .filter(healthy)
            .min_by_key(|id| (Some(*id) == avoid, Some(*id) != leader, *id))?;
        Some((view.statuses[&voter].1.cluster_id, voter))
    }
}

fn is_done(operation: &Operation, members: &Membership) -> bool {
    let by_url = |url: &String| members.members.values().find(|line| line.url == *url);
    match operation {
        Operation::AddLearner(url) => {
            by_url(url).is_some_and(|line| line.learner && line.name.is_empty())
        }
        Operation::Promote(url) => by_url(url).is_some_and(|line| !line.learner),
        Operation::RemoveMember(id) => !members.members.contains_key(id),
        Operation::UpdateMember(id, urls) => {
            let line = members.members.get(id);
            line.is_some_and(|line| urls.contains(&line.url))
        }
        _ => false,
    }
}
