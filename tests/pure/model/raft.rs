//! One logical cluster: what is committed, what each member's disk holds of it, and who leads.
//!
//! The log is the committed one, and a disk holds a beginning of it. That is enough to tell what matters: whether an
//! acknowledged write can be lost, and whether a voter has forgotten what it promised. What all disks hold is folded
//! into `base`, and terms and indexes are left out, so that a cluster that only writes returns to the same state.

use std::collections::{BTreeMap, BTreeSet};

use quorate::etcd::id::MemberId;

use super::membership::{Entry, Membership};
use super::release::Release;

/// How a member's process is connected with the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Link {
    /// It does not run, or nobody hears it.
    Off,
    /// For less than 5 s, which strict reconfiguration checks do not count.
    Fresh,
    /// For longer.
    Settled,
}

/// What a member without any log was started with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Blank {
    /// The membership of the bootstrap.
    New,
    /// Nothing: it waits for a leader to tell.
    Existing,
}

/// A member's disk and process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    pub release: Release,
    /// Set while its disk holds no entry.
    pub blank: Option<Blank>,
    /// How many entries of the log its disk holds.
    pub position: u8,
    /// What it once told to hold and does not any more: 0 for nothing, else the position and 1.
    pub promised: u8,
    pub link: Link,
    /// Whether the present leader has heard from it: it will not send again what it has seen confirmed.
    pub matched: bool,
    /// Whether it answers clients: not before a leader has committed its name since its start.
    pub serving: bool,
}

impl Peer {
    pub fn new(release: Release, blank: Blank) -> Self {
        Self {
            release,
            blank: Some(blank),
            position: 0,
            promised: 0,
            link: Link::Off,
            matched: false,
            serving: false,
        }
    }

    /// How much its log holds, comparable between members.
    pub fn rank(&self) -> u8 {
        self.blank.map_or(self.position + 1, |_| 0)
    }

    pub fn is_linked(&self) -> bool {
        self.link != Link::Off
    }

    /// Whether the leader's next message kills it: `tocommit(N) is out of range`.
    pub fn is_doomed(&self) -> bool {
        self.matched && self.rank() < self.promised
    }

    /// Its process ends, however.
    pub fn stop(&mut self) {
        self.link = Link::Off;
        self.serving = false;
    }

    /// Its log is gone.
    pub fn wipe(&mut self, blank: Blank) {
        self.promised = self.promised.max(self.rank());
        self.position = 0;
        self.blank = Some(blank);
    }
}

/// What must never happen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// A leader was elected that lacks what was acknowledged.
    Lost,
    /// A voter takes part that has forgotten what it promised to hold.
    Amnesia(MemberId),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Raft {
    /// The membership of the bootstrap.
    pub origin: Membership,
    /// What every disk holds.
    pub base: Membership,
    /// Whether `base` is more than `origin`.
    pub grown: bool,
    /// Committed entries after that.
    pub log: Vec<Entry>,
    pub peers: BTreeMap<MemberId, Peer>,
    /// Whom the members follow, which may be dead until somebody notices.
    pub leader: Option<MemberId>,
    /// A change that the leader has and nobody confirmed: it may come true yet.
    pub pending: Option<Entry>,
    pub faults: BTreeSet<Fault>,
}

impl Raft {
    pub fn new(origin: Membership) -> Self {
        Self {
            base: origin.clone(),
            origin,
            grown: false,
            log: vec![],
            peers: BTreeMap::new(),
            leader: None,
            pending: None,
            faults: BTreeSet::new(),
        }
    }

    fn end(&self) -> u8 {
        u8::try_from(self.log.len()).expect("a short log")
    }

    /// The committed membership.
    pub fn tip(&self) -> Membership {
        self.at(self.log.len())
    }

    fn at(&self, position: usize) -> Membership {
        let mut membership = self.base.clone();
        for entry in &self.log[..position] {
            membership.apply(entry, self.release());
        }
        membership
    }

    /// The membership that a member has applied.
    pub fn applied(&self, id: MemberId) -> Membership {
        let peer = &self.peers[&id];
        match peer.blank {
            Some(Blank::New) => self.origin.clone(),
            Some(Blank::Existing) => Membership::default(),
            None => self.at(peer.position.into()),
        }
    }

    /// The oldest release of its members: what the cluster applies is what that one does.
    pub fn release(&self) -> Release {
        self.peers
            .values()
            .map(|peer| peer.release)
            .min()
            .unwrap_or(Release(3, 5, 16))
    }

    pub fn linked(&self) -> impl Iterator<Item = MemberId> {
        self.peers
            .iter()
            .filter(|(_, peer)| peer.is_linked())
            .map(|(id, _)| *id)
    }

    /// Whether something can be committed.
    pub fn is_quorate(&self) -> bool {
        let Some(leader) = self.leader.filter(|id| self.peers[id].is_linked()) else {
            return false;
        };
        let tip = self.tip();
        let with = |id: &MemberId| {
            let peer = self.peers.get(id);
            *id == leader || peer.is_some_and(|peer| peer.is_linked() && !peer.is_doomed())
        };
        tip.voters().filter(with).count() >= tip.quorum()
    }

    /// Whether there is, or can be elected, a leader with a quorum that holds everything.
    pub fn has_quorum(&self) -> bool {
        self.is_quorate() || self.candidates().iter().any(|id| self.holds_all(*id))
    }

    fn holds_all(&self, id: MemberId) -> bool {
        let peer = &self.peers[&id];
        match peer.blank {
            None => peer.position == self.end(),
            Some(_) => !self.grown && self.log.is_empty(),
        }
    }

    /// Who can win an election among those that are connected, by its own idea of the membership.
    pub fn candidates(&self) -> Vec<MemberId> {
        self.linked()
            .filter(|candidate| {
                let own = self.applied(*candidate);
                let votes = |voter: &MemberId| {
                    self.peers.get(voter).is_some_and(|peer| {
                        peer.is_linked()
                            && peer.rank() <= self.peers[candidate].rank()
                            && !self.applied(*voter).removed.contains(candidate)
                    })
                };
                own.is_voter(*candidate) && own.voters().filter(votes).count() >= own.quorum()
            })
            .collect()
    }

    /// The outcomes of an election: an entry that nobody confirmed may come with the new leader or go.
    pub fn elect(&self, id: MemberId) -> Vec<Self> {
        let mut next = self.clone();
        let pending = next.pending.take();
        if !self.holds_all(id) {
            next.faults.insert(Fault::Lost);
            next.log.truncate(self.peers[&id].position.into());
            if self.peers[&id].blank.is_some() {
                next.base = next.origin.clone();
                next.grown = false;
            }
            let end = next.end();
            for peer in next.peers.values_mut() {
                peer.position = peer.position.min(end);
            }
        }
        let tip = next.tip();
        for (voter, peer) in &mut next.peers {
            peer.matched = false;
            if peer.is_linked() && tip.is_voter(*voter) && peer.rank() < peer.promised {
                next.faults.insert(Fault::Amnesia(*voter));
            }
        }
        let peer = next.peers.get_mut(&id).expect("a candidate");
        peer.blank = None;
        peer.position = next.log.len() as u8;
        peer.matched = true;
        next.leader = Some(id);
        let mut outcomes = vec![next.clone()];
        if let Some(entry) = pending {
            next.commit(entry, None);
            outcomes.push(next);
        }
        outcomes
    }

    /// The leader's messages reach a member. `false` if they kill it.
    pub fn catch_up(&mut self, id: MemberId) -> bool {
        let end = self.end();
        let peer = self.peers.get_mut(&id).expect("a peer");
        if peer.is_doomed() {
            peer.stop();
            return false;
        }
        peer.blank = None;
        peer.position = end;
        peer.promised = 0;
        peer.matched = true;
        true
    }

    /// Whether the leader has something for a member.
    pub fn is_behind(&self, id: MemberId) -> bool {
        let peer = &self.peers[&id];
        let leads = self.leader.is_some_and(|id| self.peers[&id].is_linked());
        leads
            && peer.is_linked()
            && self.tip().members.contains_key(&id)
            && (!peer.matched || peer.blank.is_some() || peer.position < self.end())
    }

    /// Appends an entry that a quorum persists: all that are connected, but for one that may lag.
    pub fn commit(&mut self, entry: Entry, lagging: Option<MemberId>) {
        if let Some(pending) = self.pending.take() {
            self.commit(pending, None);
        }
        let before = self.tip();
        self.log.push(entry);
        let takers: Vec<MemberId> = self
            .linked()
            .filter(|id| before.members.contains_key(id))
            .filter(|id| Some(*id) != lagging && !self.peers[id].is_doomed())
            .collect();
        for id in takers {
            self.catch_up(id);
        }
        let removed = |id: &MemberId| !self.tip().members.contains_key(id);
        if self.leader.as_ref().is_some_and(removed) {
            self.leader = None;
        }
    }

    /// Whether a quorum persists an entry although one member lags.
    pub fn commits_without(&self, lagging: MemberId) -> bool {
        let tip = self.tip();
        let with = |id: &MemberId| {
            let peer = self.peers.get(id);
            *id != lagging && peer.is_some_and(|peer| peer.is_linked() && !peer.is_doomed())
        };
        self.leader != Some(lagging) && tip.voters().filter(with).count() >= tip.quorum()
    }

    /// A member's process comes up and finds the others.
    pub fn link(&mut self, id: MemberId) {
        let voter = self.tip().is_voter(id);
        let peer = self.peers.get_mut(&id).expect("a peer");
        peer.link = Link::Fresh;
        peer.serving = false;
        // One that the leader's next message kills casts no vote.
        if voter && peer.rank() < peer.promised && !peer.matched {
            self.faults.insert(Fault::Amnesia(id));
        }
    }

    /// One state for all that differ in nothing that matters. `kept` are the members whose disks still exist.
    pub fn canonical(mut self, kept: &BTreeSet<MemberId>) -> Self {
        let tip = self.tip();
        self.peers
            .retain(|id, _| kept.contains(id) || tip.members.contains_key(id));
        if self.leader.is_some_and(|id| !self.peers.contains_key(&id)) {
            self.leader = None;
        }
        self.merge_writes();
        let held = |peer: &Peer| peer.blank.is_none().then_some(peer.position);
        let common = self.peers.values().filter_map(held).min().unwrap_or(0);
        if common > 0 {
            self.base = self.at(common.into());
            self.log.drain(..usize::from(common));
            self.grown = true;
            for peer in self.peers.values_mut() {
                peer.position = peer.position.saturating_sub(common);
                if peer.promised > 0 {
                    peer.promised = peer.promised.saturating_sub(common).max(1);
                }
            }
        }
        let known: BTreeSet<MemberId> = self.peers.keys().copied().collect();
        if !self.base.removed.is_subset(&known) {
            self.base.removed.retain(|id| known.contains(id));
        }
        self
    }

    /// Writes between which nobody stands are one.
    fn merge_writes(&mut self) {
        let mut at = 0;
        while at + 1 < self.log.len() {
            let write = |entry: &Entry| matches!(entry, Entry::Write | Entry::Burst);
            let border = at as u8 + 1;
            let stands = |peer: &Peer| {
                (peer.blank.is_none() && peer.position == border) || peer.promised == border + 1
            };
            if !write(&self.log[at]) || !write(&self.log[at + 1]) || self.peers.values().any(stands)
            {
                at += 1;
                continue;
            }
            let first = self.log.remove(at);
            if first == Entry::Burst {
                self.log[at] = Entry::Burst;
            }
            for peer in self.peers.values_mut() {
                if peer.blank.is_none() && peer.position > border {
                    peer.position -= 1;
                }
                if peer.promised > border + 1 {
                    peer.promised -= 1;
                }
            }
        }
    }
}
