//! A pure model of etcd on hosts, for the real planner and scheduler to be driven against.
//!
//! - `release`: what differs between releases.
//! - `membership`, `raft`, `calls`: one logical cluster; what is committed and who holds it, and etcd's own calls.
//! - `start`: what becomes of a process that starts.
//! - `host`: power, network, disk.
//! - `facts`: what of it the observation of Quorate would find.
//! - `shared`: what most states have in common.
//!
//! Here they are put together. Every transition takes a state and gives all states that it may lead to. What happens
//! by itself, such as an election, is an [`Event`].

// Each user of the model needs another part of it.
#![allow(dead_code)]

pub mod calls;
pub mod facts;
pub mod host;
pub mod membership;
pub mod raft;
pub mod release;
pub mod shared;
pub mod start;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use quorate::etcd::id::{ClusterId, MemberId};

use self::calls::{Outcomes, Refusal};
use self::host::{Data, Host, Reach, Run};
use self::raft::{Fault, Link, Raft};
use self::shared::Shared;
use self::start::Exit;

/// Hosts and the clusters whose data they hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Model {
    pub hosts: Shared<BTreeMap<String, Host>>,
    pub rafts: BTreeMap<ClusterId, Raft>,
    /// Members that were ever added, for their IDs.
    pub added: u8,
}

/// What happens by itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    /// The members notice that nobody leads.
    LoseLeader(ClusterId),
    Elect(ClusterId, MemberId),
    /// The leader's messages reach a member.
    CatchUp(ClusterId, MemberId),
    /// What the leader had alone is confirmed after all.
    Deliver(ClusterId),
    /// A member that has started tells its name, and answers clients from then on.
    Publish(ClusterId, MemberId),
    /// A member learns that it was removed, and ends.
    Evict(ClusterId, MemberId),
    /// Five seconds pass.
    Settle(ClusterId),
}

impl Model {
    pub fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(name).expect("a host")
    }

    pub fn raft(&mut self, cluster: ClusterId) -> &mut Raft {
        self.rafts.get_mut(&cluster).expect("a cluster")
    }

    /// The cluster and member whose data a host has.
    pub fn member_on(&self, host: &str) -> Option<(ClusterId, MemberId)> {
        match self.hosts[host].seen() {
            Data::Wal { cluster, member } => Some((cluster, member)),
            _ => None,
        }
    }

    pub fn host_of(&self, cluster: ClusterId, member: MemberId) -> Option<&str> {
        let wanted = Data::Wal { cluster, member };
        let mut hosts = self.hosts.iter();
        let found = hosts.find(|(_, host)| host.seen() == wanted);
        found.map(|(name, _)| name.as_str())
    }

    /// Everything that must never have happened, and has.
    pub fn faults(&self) -> BTreeSet<Fault> {
        let faults = self.rafts.values().flat_map(|raft| &raft.faults);
        faults.cloned().collect()
    }

    /// Links that etcd does not count yet.
    pub fn fresh(&self) -> BTreeSet<(ClusterId, MemberId)> {
        let of_raft = |(cluster, raft): (&ClusterId, &Raft)| {
            let fresh = raft
                .peers
                .iter()
                .filter(|(_, peer)| peer.link == Link::Fresh);
            fresh.map(|(id, _)| (*cluster, *id)).collect::<Vec<_>>()
        };
        self.rafts.iter().flat_map(of_raft).collect()
    }

    // Hosts.

    /// The process ends: killed, or stopped in order, when the leadership goes first.
    pub fn stop(&mut self, host: &str, in_order: bool) {
        let member = self.member_on(host);
        let was = std::mem::replace(&mut self.host(host).run, Run::Off);
        if let (Run::Up, Some((cluster, member))) = (was, member) {
            let raft = self.raft(cluster);
            raft.peers.get_mut(&member).expect("a disk").stop();
            if in_order && raft.leader == Some(member) {
                raft.leader = None;
            }
        }
    }

    pub fn power_off(&mut self, host: &str) {
        self.stop(host, false);
        self.host(host).on = false;
    }

    /// Cuts a host off or joins it again.
    pub fn reach(&mut self, host: &str, reach: Reach) {
        self.host(host).reach = reach;
        let (Run::Up, Some((cluster, member))) = (self.hosts[host].run, self.member_on(host))
        else {
            return;
        };
        let connected = self.hosts[host].is_connected();
        let raft = self.raft(cluster);
        let peer = raft.peers.get_mut(&member).expect("a disk");
        if !connected {
            peer.link = Link::Off;
        } else if !peer.is_linked() {
            let serving = peer.serving;
            raft.link(member);
            raft.peers.get_mut(&member).expect("a disk").serving = serving;
        }
    }

    /// Links follow the addresses of the membership: a member that nobody can dial keeps those that it opens itself, and
    /// two such members have none between them. Which of two is without is then a question of luck; here both are.
    pub fn reconnect(&mut self) {
        for cluster in self.rafts.keys().copied().collect::<Vec<_>>() {
            let tip = self.rafts[&cluster].tip();
            let up = self.hosts.values().filter(|host| host.run == Run::Up);
            let here = up
                .filter(|host| host.is_connected())
                .filter_map(|host| match host.seen() {
                    Data::Wal {
                        cluster: own,
                        member,
                    } if own == cluster => {
                        let line = tip.members.get(&member);
                        Some((member, line.is_none_or(|line| host.is_at(&line.url))))
                    }
                    _ => None,
                });
            let here: Vec<(MemberId, bool)> = here.collect();
            let alone = here.iter().filter(|(_, dialable)| !dialable).count() > 1;
            for (member, dialable) in here {
                let raft = self.raft(cluster);
                let linked = raft.peers[&member].is_linked();
                if alone && !dialable {
                    raft.peers.get_mut(&member).expect("a disk").link = Link::Off;
                } else if !linked {
                    raft.link(member);
                }
            }
        }
    }

    /// The data is deleted, or moved aside.
    pub fn clear(&mut self, host: &str, aside: bool) {
        let host = self.host(host);
        let data = std::mem::replace(host.seen_mut(), Data::Absent);
        if aside && data != Data::Absent {
            host.aside.push(data);
            host.aside.sort();
        }
    }

    // Calls.

    /// A call through the member of a host.
    pub fn call<T>(
        &self,
        host: &str,
        call: impl Fn(&Raft, MemberId) -> Outcomes<T>,
    ) -> Vec<(Result<T, Refusal>, Self)> {
        let running = self.hosts[host].run == Run::Up;
        let Some((cluster, member)) = self.member_on(host).filter(|_| running) else {
            return vec![(Err(Refusal::Silent), self.clone())];
        };
        call(&self.rafts[&cluster], member)
            .into_iter()
            .map(|(result, raft)| {
                let mut next = self.clone();
                next.rafts.insert(cluster, raft);
                (result, next)
            })
            .collect()
    }

    /// `member add` through the member of a host.
    pub fn member_add(
        &self,
        host: &str,
        url: &str,
        learner: bool,
    ) -> Vec<(Result<MemberId, Refusal>, Self)> {
        let id = MemberId(0xadd0 + u64::from(self.added));
        let mut next = self.clone();
        next.added += 1;
        next.call(host, |raft, through| {
            raft.member_add(through, id, url, learner)
        })
    }

    // What happens by itself.

    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (cluster, raft) in &self.rafts {
            let cluster = *cluster;
            let quorate = raft.is_quorate();
            if !quorate && raft.leader.is_some() {
                events.push(Event::LoseLeader(cluster));
            }
            if raft.leader.is_none() {
                let elect = |id| Event::Elect(cluster, id);
                events.extend(raft.candidates().into_iter().map(elect));
            }
            if quorate && raft.pending.is_some() {
                events.push(Event::Deliver(cluster));
            }
            let tip = raft.tip();
            for id in raft.linked() {
                let peer = &raft.peers[&id];
                if !tip.members.contains_key(&id) {
                    let told = |other: MemberId| raft.applied(other).removed.contains(&id);
                    if raft.linked().any(told) {
                        events.push(Event::Evict(cluster, id));
                    }
                } else if raft.is_behind(id) {
                    events.push(Event::CatchUp(cluster, id));
                } else if quorate && !peer.serving {
                    events.push(Event::Publish(cluster, id));
                }
            }
            if raft.peers.values().any(|peer| peer.link == Link::Fresh) {
                events.push(Event::Settle(cluster));
            }
        }
        events
    }

    pub fn after(&self, event: &Event) -> Vec<Self> {
        let mut next = self.clone();
        match event {
            Event::LoseLeader(cluster) => next.raft(*cluster).leader = None,
            Event::Elect(cluster, id) => {
                return self.rafts[cluster]
                    .elect(*id)
                    .into_iter()
                    .map(|raft| {
                        let mut next = self.clone();
                        next.rafts.insert(*cluster, raft);
                        next
                    })
                    .collect();
            }
            Event::CatchUp(cluster, id) => {
                if !next.raft(*cluster).catch_up(*id) {
                    next.fail(*cluster, *id, Exit::Panic);
                }
            }
            Event::Deliver(cluster) => {
                let raft = next.raft(*cluster);
                if let Some(entry) = raft.pending.take() {
                    raft.commit(entry, None);
                }
            }
            Event::Publish(cluster, id) => {
                let name = self.host_of(*cluster, *id).unwrap_or_default().to_owned();
                let raft = next.raft(*cluster);
                if !raft.tip().members[id].published {
                    raft.commit(membership::Entry::Publish(*id, name), None);
                }
                raft.peers.get_mut(id).expect("a peer").serving = true;
            }
            Event::Evict(cluster, id) => next.fail(*cluster, *id, Exit::Removed),
            Event::Settle(cluster) => {
                for peer in next.raft(*cluster).peers.values_mut() {
                    if peer.is_linked() {
                        peer.link = Link::Settled;
                    }
                }
            }
        }
        vec![next]
    }

    fn fail(&mut self, cluster: ClusterId, id: MemberId, exit: Exit) {
        let host = self.host_of(cluster, id).map(str::to_owned);
        let raft = self.raft(cluster);
        raft.peers.get_mut(&id).expect("a peer").stop();
        if raft.leader == Some(id) {
            raft.leader = None;
        }
        if let Some(host) = host {
            self.host(&host).run = Run::Failed(exit);
        }
    }

    /// Every state in which nothing more happens by itself, except that time passes.
    #[allow(
        clippy::mutable_key_type,
        reason = "a digest that is worked out late makes nothing differ"
    )]
    pub fn quiescent(&self) -> Vec<Self> {
        let mut seen: HashSet<Self> = HashSet::new();
        let mut open = vec![self.clone().canonical()];
        let mut ends = Vec::new();
        while let Some(state) = open.pop() {
            let events = state.pressing();
            if events.is_empty() {
                if seen.insert(state.clone()) {
                    ends.push(state);
                }
                continue;
            }
            if events.len() > 1 && !seen.insert(state.clone()) {
                continue;
            }
            for event in &events {
                open.extend(state.after(event).into_iter().map(Self::canonical));
            }
        }
        ends
    }

    /// Those events that decide what comes. Under a leader with a quorum it does not matter who is told first.
    fn pressing(&self) -> Vec<Event> {
        let mut events = self.events();
        events.retain(|event| !matches!(event, Event::Settle(_)));
        if self.rafts.values().all(Raft::is_quorate) {
            events.truncate(1);
        }
        events
    }

    /// One state for all that differ in nothing that matters.
    pub fn canonical(mut self) -> Self {
        let mut kept: BTreeMap<ClusterId, BTreeSet<MemberId>> = BTreeMap::new();
        for host in self.hosts.values() {
            for data in [host.data, host.beneath].iter().chain(&host.aside) {
                if let Data::Wal { cluster, member } = data {
                    kept.entry(*cluster).or_default().insert(*member);
                }
            }
        }
        let none = BTreeSet::new();
        self.rafts = self
            .rafts
            .into_iter()
            .map(|(id, raft)| (id, raft.canonical(kept.get(&id).unwrap_or(&none))))
            .collect();
        self
    }
}
