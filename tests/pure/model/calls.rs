//! The calls of etcd that an operator makes, with what they refuse and in which order they look.

use quorate::etcd::id::MemberId;

use super::membership::{Entry, Membership, quorum_of};
use super::raft::{Link, Raft};

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// Nobody answers there.
    Silent,
    /// Not all that have to be connected for 5 s are.
    Unhealthy,
    /// Too few voters have ever started.
    NotEnoughStarted,
    /// Or the ID, which is made of URL and second: adding the same URL twice in a second makes the same one.
    UrlExists,
    TooManyLearners,
    LearnerNotReady,
    NotALearner,
    NotFound,
    /// Learners answer only some calls.
    ForVotersOnly,
    /// Leadership is moved through the leader only.
    NotTheLeader,
    /// And only to a voter.
    BadSuccessor,
    /// No answer in time. A change may come true all the same.
    TimedOut,
}

/// What a call may come to.
pub type Outcomes<T> = Vec<(Result<T, Refusal>, Raft)>;

impl Raft {
    fn refused<T>(&self, why: Refusal) -> Outcomes<T> {
        vec![(Err(why), self.clone())]
    }

    /// Whether a member answers clients, and calls that learners refuse.
    fn answers(&self, through: MemberId) -> Result<(), Refusal> {
        match self.peers.get(&through) {
            Some(peer) if peer.serving && peer.is_linked() => {}
            _ => return Err(Refusal::Silent),
        }
        match self.applied(through).members.get(&through) {
            Some(line) if line.learner => Err(Refusal::ForVotersOnly),
            _ => Ok(()),
        }
    }

    /// Voters that a member has been connected with for 5 s, itself among them.
    fn connected(&self, through: MemberId, membership: &Membership) -> usize {
        let settled = |id: &MemberId| {
            let peer = self.peers.get(id);
            peer.is_some_and(|peer| peer.link == Link::Settled)
        };
        membership
            .voters()
            .filter(|id| *id == through || (settled(&through) && settled(id)))
            .count()
    }

    /// What goes through the log: done, refused when it is applied, or left in doubt.
    fn propose<T: Clone>(&self, entry: &Entry, answer: T) -> Outcomes<T> {
        if self.is_quorate() {
            let mut next = self.clone();
            if let Some(pending) = next.pending.take() {
                next.commit(pending, None);
            }
            let result = next.tip().check(entry, self.release()).map(|()| answer);
            if result.is_ok() {
                next.commit(entry.clone(), None);
            }
            return vec![(result, next)];
        }
        // Who waits long enough for an election is served by the new leader.
        let mut outcomes: Outcomes<T> = Vec::new();
        for candidate in self.candidates() {
            for elected in self.elect(candidate) {
                if elected.is_quorate() {
                    outcomes.extend(elected.propose(entry, answer.clone()));
                }
            }
        }
        outcomes.extend(self.refused(Refusal::TimedOut));
        if self.leader.is_some() {
            let mut doubtful = self.clone();
            doubtful.pending = Some(entry.clone());
            outcomes.push((Err(Refusal::TimedOut), doubtful));
        }
        outcomes
    }

    /// `member add`.
    pub fn member_add(
        &self,
        through: MemberId,
        id: MemberId,
        url: &str,
        learner: bool,
    ) -> Outcomes<MemberId> {
        if let Err(why) = self.answers(through) {
            return self.refused(why);
        }
        let seen = self.applied(through);
        let voters = seen.voters().count();
        let started = seen.started_without(None);
        let one_of_two = started == 1 && voters == 1;
        if !learner && started < quorum_of(voters + 1) && !one_of_two {
            return self.refused(Refusal::NotEnoughStarted);
        }
        let needed = if self.peers[&through].release.add_needs_every_voter() {
            voters
        } else {
            quorum_of(voters + 1).min(voters)
        };
        if self.connected(through, &seen) < needed {
            return self.refused(Refusal::Unhealthy);
        }
        let url = url.to_owned();
        self.propose(&Entry::Add { id, url, learner }, id)
    }

    /// `member add --learner`.
    pub fn member_add_learner(
        &self,
        through: MemberId,
        id: MemberId,
        url: &str,
    ) -> Outcomes<MemberId> {
        self.member_add(through, id, url, true)
    }

    /// `member promote`; a follower asks the leader.
    pub fn member_promote(&self, through: MemberId, id: MemberId) -> Outcomes<()> {
        if let Err(why) = self.answers(through) {
            return self.refused(why);
        }
        if !self.is_quorate() {
            return self.propose(&Entry::Promote(id), ());
        }
        let tip = self.tip();
        if !tip.members.contains_key(&id) {
            return self.refused(Refusal::NotFound);
        }
        let confirmed = self.peers.get(&id).filter(|peer| peer.matched);
        let lacks = confirmed.map(|peer| &self.log[usize::from(peer.position)..]);
        match lacks {
            // 90 % of the leader's index is enough, which nobody here knows.
            Some(some) if some.contains(&Entry::Burst) => self.refused(Refusal::LearnerNotReady),
            Some(some) => {
                let mut outcomes = if some.is_empty() {
                    vec![]
                } else {
                    self.refused(Refusal::LearnerNotReady)
                };
                let voters = tip.voters().count();
                if tip.started_without(None) < quorum_of(voters + 1) && tip.members[&id].learner {
                    // The learner itself does not count, though it will.
                    let alone = voters == 1 && tip.started_without(None) == 1;
                    if !alone {
                        return self.refused(Refusal::NotEnoughStarted);
                    }
                }
                outcomes.extend(self.propose(&Entry::Promote(id), ()));
                outcomes
            }
            // The changelog has releases that promote it all the same: 3.4.23 and 3.5.16 do not.
            None => self.refused(Refusal::LearnerNotReady),
        }
    }

    /// `member remove`.
    pub fn member_remove(&self, through: MemberId, id: MemberId) -> Outcomes<()> {
        if let Err(why) = self.answers(through) {
            return self.refused(why);
        }
        let seen = self.applied(through);
        if seen.members.get(&id).is_some_and(|line| line.learner) {
            return self.propose(&Entry::Remove(id), ());
        }
        let others = seen.voters().filter(|voter| *voter != id).count();
        if others == 0 || seen.started_without(Some(id)) < quorum_of(others) {
            return self.refused(Refusal::NotEnoughStarted);
        }
        let down = id != through && !self.peers.get(&id).is_some_and(|peer| peer.is_linked());
        let voters = seen.voters().count();
        if !down && self.connected(through, &seen) < 2 + (voters - 1) / 2 {
            return self.refused(Refusal::Unhealthy);
        }
        self.propose(&Entry::Remove(id), ())
    }

    /// `member update --peer-urls`.
    pub fn member_update_peer_urls(
        &self,
        through: MemberId,
        id: MemberId,
        url: &str,
    ) -> Outcomes<()> {
        if let Err(why) = self.answers(through) {
            return self.refused(why);
        }
        self.propose(&Entry::Update(id, url.to_owned()), ())
    }

    /// `move-leader`.
    pub fn move_leader(&self, through: MemberId, to: MemberId) -> Outcomes<()> {
        if let Err(why) = self.answers(through) {
            return self.refused(why);
        }
        if self.leader != Some(through) {
            return self.refused(Refusal::NotTheLeader);
        }
        if !self.applied(through).is_voter(to) {
            return self.refused(Refusal::BadSuccessor);
        }
        let able = |peer: &super::raft::Peer| peer.is_linked() && !peer.is_doomed();
        if !self.is_quorate() || !self.peers.get(&to).is_some_and(able) {
            return self.refused(Refusal::TimedOut);
        }
        let mut caught_up = self.clone();
        caught_up.catch_up(to);
        let moved = caught_up.elect(to);
        moved.into_iter().map(|next| (Ok(()), next)).collect()
    }

    /// `member list`: the answering member's own, or with a linearizable read before it, which takes a quorum. (The
    /// list itself is linearizable from 3.5 on where the client asks for it; the client here never does.)
    pub fn member_list(
        &self,
        through: MemberId,
        linearizable: bool,
    ) -> Result<Membership, Refusal> {
        self.answers(through)?;
        if !linearizable {
            Ok(self.applied(through))
        } else if self.is_quorate() {
            Ok(self.tip())
        } else {
            Err(Refusal::TimedOut)
        }
    }

    /// A write, acknowledged once a quorum has persisted it.
    pub fn put(&self, through: MemberId, lagging: Option<MemberId>) -> Outcomes<()> {
        if let Err(why) = self.answers(through) {
            return self.refused(why);
        }
        match lagging {
            Some(id) if !self.commits_without(id) => vec![],
            _ if !self.is_quorate() => self.refused(Refusal::TimedOut),
            lagging => {
                let mut next = self.clone();
                next.commit(Entry::Write, lagging);
                vec![(Ok(()), next)]
            }
        }
    }
}
