//! What the observation of Quorate would find of the model: the answers of members, and whose data a host holds.

use quorate::etcd::id::MemberId;
use quorate::etcd::wal::WalIdentity;
use quorate::observed::EtcdState;
use quorate::observed::etcd::{EtcdAnswer, Member, MemberStatus};
use quorate::observed::host::DataDir;

use super::Model;
use super::host::{Data, Run};
use super::membership::{Entry, Membership};
use super::raft::Raft;

impl Model {
    /// What the head of the WAL says.
    pub fn data_dir(&self, host: &str) -> DataDir {
        match self.hosts[host].seen() {
            Data::Absent => DataDir::Empty,
            Data::NoWal => DataDir::NoWal,
            Data::Wal { cluster, member } => DataDir::Wal(WalIdentity {
                member_id: member,
                cluster_id: cluster,
            }),
            Data::Corrupt => DataDir::Unreadable("it is damaged".into()),
        }
    }

    /// What the member of a host answers the operator, who lists members as `list` says.
    pub fn etcd(&self, host: &str, linearizable: bool, client_url: &str) -> EtcdState {
        let running = self.hosts[host].is_reachable() && self.hosts[host].run == Run::Up;
        let Some((cluster, member)) = self.member_on(host).filter(|_| running) else {
            return EtcdState::Silent;
        };
        let raft = &self.rafts[&cluster];
        if !raft.peers[&member].serving {
            // Its port takes connections, and nobody ever answers them.
            return EtcdState::Unknown("no answer within 10 s".into());
        }
        let list = raft.member_list(member, linearizable).ok();
        EtcdState::Answered(Box::new(EtcdAnswer {
            status: MemberStatus {
                cluster_id: cluster,
                ..raft.status(member)
            },
            members: list.map(|list| lines(&list, client_url)),
        }))
    }
}

pub fn lines(membership: &Membership, client_url: &str) -> Vec<Member> {
    let line = |(id, line): (&MemberId, &super::membership::Line)| Member {
        id: *id,
        name: line.name.clone(),
        peer_urls: vec![line.url.clone()],
        client_urls: if line.published {
            vec![client_url.into()]
        } else {
            vec![]
        },
        is_learner: line.learner,
    };
    membership.members.iter().map(line).collect()
}

impl Raft {
    /// `status`, without the ID of the cluster. Indexes compare within one state only.
    pub fn status(&self, member: MemberId) -> MemberStatus {
        let peer = &self.peers[&member];
        let held = &self.log[..peer.position.into()];
        let index = held.iter().map(weight).sum::<u64>() + 10;
        let connected = peer.is_linked();
        MemberStatus {
            cluster_id: quorate::etcd::id::ClusterId(0),
            member_id: member,
            leader: self.leader.filter(|_| connected).unwrap_or(MemberId(0)),
            raft_term: 2,
            raft_index: index,
            raft_applied_index: index,
            version: peer.release.to_string(),
            db_size: 1,
            db_size_in_use: 1,
            is_learner: self
                .applied(member)
                .members
                .get(&member)
                .is_some_and(|line| line.learner),
            errors: vec![],
        }
    }
}

/// Raft indexes that an entry stands for.
fn weight(entry: &Entry) -> u64 {
    match entry {
        Entry::Write => 10,
        Entry::Burst => 5_000,
        _ => 1,
    }
}
