//! What becomes of a member's process when it starts: what it finds on disk, what it was told, and what its peers say.

use std::collections::BTreeMap;

use quorate::etcd::id::{ClusterId, MemberId, bootstrap_cluster_id, bootstrap_member_id};

use super::Model;
use super::host::{Data, Host, Run};
use super::membership::{Line, Membership};
use super::raft::{Blank, Peer, Raft};

/// `--initial-cluster-state`, `--initial-cluster` and `--initial-cluster-token`: read on an empty directory only.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Initial {
    pub existing: bool,
    /// Peer URLs by name.
    pub cluster: BTreeMap<String, String>,
    pub token: String,
}

impl Initial {
    pub fn member_id(&self, name: &str) -> Option<MemberId> {
        let url = self.cluster.get(name)?;
        Some(bootstrap_member_id([url.as_str()], &self.token))
    }

    pub fn cluster_id(&self) -> ClusterId {
        bootstrap_cluster_id(self.cluster.keys().filter_map(|name| self.member_id(name)))
    }

    fn membership(&self) -> Membership {
        let line = |(name, url): (&String, &String)| {
            let line = Line {
                url: url.clone(),
                name: name.clone(),
                published: false,
                learner: false,
            };
            Some((self.member_id(name)?, line))
        };
        let members: BTreeMap<_, _> = self.cluster.iter().filter_map(line).collect();
        Membership {
            members: members.into(),
            ..Membership::default()
        }
    }
}

/// Why a process ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Exit {
    /// `member … has already been bootstrapped`.
    AlreadyBootstrapped,
    /// `error validating peerURLs`, or its own name is not among them.
    WrongInitialCluster,
    /// `cannot fetch cluster info from peer urls`.
    NoPeerAnswers,
    /// `the member has been permanently removed from the cluster`, often with status 0.
    Removed,
    /// A log that cannot be read.
    Corrupt,
    /// `tocommit(N) is out of range`: the leader counts on what it has lost.
    Panic,
    /// Somebody or something killed it.
    Killed,
    /// The unit asserts that a WAL exists, and none does.
    NoWal,
}

/// What a start comes to.
pub type Begun = Result<(), Exit>;

impl Model {
    /// Starts the process of a host. `initial` is `None` under a unit that asserts a WAL.
    pub fn start(&self, host: &str, name: &str, initial: Option<&Initial>) -> Vec<(Begun, Self)> {
        match (self.hosts[host].seen(), initial) {
            (Data::Corrupt, _) => vec![self.ends(host, Exit::Corrupt)],
            (Data::Wal { cluster, member }, _) => vec![self.goes_on(host, cluster, member)],
            (Data::Absent | Data::NoWal, None) => vec![self.ends(host, Exit::NoWal)],
            (Data::Absent | Data::NoWal, Some(initial)) => {
                let own = initial.cluster.get(name);
                if own != Some(&self.hosts[host].url) {
                    vec![self.ends(host, Exit::WrongInitialCluster)]
                } else if initial.existing {
                    self.joins(host, initial)
                } else {
                    vec![self.bootstraps(host, name, initial)]
                }
            }
        }
    }

    fn ends(&self, host: &str, exit: Exit) -> (Begun, Self) {
        let mut next = self.clone();
        next.host(host).run = match exit {
            Exit::NoWal => Run::Off,
            _ => Run::Failed(exit),
        };
        (Err(exit), next)
    }

    /// A process that has its log.
    fn goes_on(&self, host: &str, cluster: ClusterId, member: MemberId) -> (Begun, Self) {
        let raft = &self.rafts[&cluster];
        let gone = |id: MemberId| raft.applied(id).removed.contains(&member);
        let told = self.hosts[host].is_connected() && raft.linked().any(gone);
        if told || gone(member) {
            return self.ends(host, Exit::Removed);
        }
        let mut next = self.clone();
        next.host(host).run = Run::Up;
        let release = next.hosts[host].release;
        let connected = next.hosts[host].is_connected();
        let raft = next.raft(cluster);
        raft.peers.get_mut(&member).expect("a disk").release = release;
        if connected {
            raft.link(member);
        }
        (Ok(()), next)
    }

    /// `initial-cluster-state=new` on an empty directory: refused only if a peer knows better.
    fn bootstraps(&self, host: &str, name: &str, initial: &Initial) -> (Begun, Self) {
        let member = initial.member_id(name).expect("its own name");
        let cluster = initial.cluster_id();
        let knows = |(_, membership): (&Host, Membership)| {
            let line = membership.members.get(&member);
            line.is_some_and(|line| line.published)
        };
        if self.peers_of(host, initial).into_iter().any(knows) {
            return self.ends(host, Exit::AlreadyBootstrapped);
        }
        let mut next = self.clone();
        let raft = next.rafts.entry(cluster);
        raft.or_insert_with(|| Raft::new(initial.membership()));
        next.writes_log(host, cluster, member, Blank::New);
        next.goes_on(host, cluster, member)
    }

    /// `initial-cluster-state=existing` on an empty directory: the peers' own list has to be the one it was given.
    fn joins(&self, host: &str, initial: &Initial) -> Vec<(Begun, Self)> {
        let mut outcomes = Vec::new();
        for (peer, membership) in self.peers_of(host, initial) {
            let mut there: Vec<&String> =
                membership.members.values().map(|line| &line.url).collect();
            let mut given: Vec<&String> = initial.cluster.values().collect();
            there.sort();
            given.sort();
            let url = &self.hosts[host].url;
            let own = membership.members.iter().find(|(_, line)| line.url == *url);
            let (true, Some((member, _)), Data::Wal { cluster, .. }) =
                (there == given, own, peer.seen())
            else {
                outcomes.push(self.ends(host, Exit::WrongInitialCluster));
                continue;
            };
            let mut next = self.clone();
            next.writes_log(host, cluster, *member, Blank::Existing);
            outcomes.push(next.goes_on(host, cluster, *member));
        }
        if outcomes.is_empty() {
            outcomes.push(self.ends(host, Exit::NoPeerAnswers));
        }
        outcomes.dedup();
        outcomes
    }

    /// The hosts at the other URLs that answer, with the membership as each knows it.
    fn peers_of(&self, host: &str, initial: &Initial) -> Vec<(&Host, Membership)> {
        let own = &self.hosts[host];
        let answer = |other: &'_ &Host| {
            other.url != own.url
                && initial.cluster.values().any(|url| *url == other.url)
                && other.run == Run::Up
                && other.is_connected()
                && own.is_connected()
        };
        let member = |other| match Host::seen(other) {
            Data::Wal { cluster, member } => Some((other, self.rafts[&cluster].applied(member))),
            _ => None,
        };
        self.hosts
            .values()
            .filter(answer)
            .filter_map(member)
            .collect()
    }

    fn writes_log(&mut self, host: &str, cluster: ClusterId, member: MemberId, blank: Blank) {
        *self.host(host).seen_mut() = Data::Wal { cluster, member };
        let release = self.hosts[host].release;
        let peers = &mut self.raft(cluster).peers;
        match peers.get_mut(&member) {
            Some(peer) => peer.wipe(blank),
            None => drop(peers.insert(member, Peer::new(release, blank))),
        }
    }
}
