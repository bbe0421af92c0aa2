//! What etcd says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::etcd::id::{ClusterId, MemberId};

/// A member as the membership lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its ID.
    pub id: MemberId,
    /// Its `--name`; empty until it has started once.
    pub name: String,
    /// Peer URLs of the membership.
    pub peer_urls: Vec<String>,
    /// Client URLs that the member has published.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// A member's answer to the Status call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Its own ID.
    pub member_id: MemberId,
    /// The leader that it follows; 0 where there is none.
    pub leader: MemberId,
    /// Raft term.
    pub raft_term: u64,
    /// Raft index of the last entry it knows to be committed.
    pub raft_index: u64,
    /// Raft index of the last entry that it applied.
    pub raft_applied_index: u64,
    /// Version of the server binary that answered.
    pub version: String,
    /// Size of its database in bytes.
    pub db_size: i64,
    /// Bytes of it in use.
    pub db_size_in_use: i64,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// Errors that it reports, alarms among them.
    pub errors: Vec<String>,
}

/// A raised alarm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alarm {
    /// The member it is about.
    pub member_id: MemberId,
    /// `NOSPACE` or `CORRUPT`.
    pub kind: String,
}

impl Alarm {
    /// Reads one of a status's errors: `memberID:10276657743932975437 alarm:NOSPACE`. Every member repeats all alarms
    /// there, from what it has applied; to list them is a write of the cluster, however often it is asked.
    pub fn parse(error: &str) -> Option<Self> {
        let field = |name: &str| {
            error
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name))
        };
        Some(Self {
            member_id: MemberId(field("memberID:")?.parse().ok()?),
            kind: field("alarm:")?.to_owned(),
        })
    }
}

/// What a member said when asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EtcdState {
    /// Nothing listens on the client port, or no member is installed.
    Silent,
    /// It answered.
    Answered(Box<EtcdAnswer>),
    /// It may run, but could not be asked.
    Unknown(String),
}

/// The answers of one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdAnswer {
    /// Status call.
    pub status: MemberStatus,
    /// Member list as this member sees it; `None` where it would not say.
    pub members: Option<Vec<Member>>,
}

/// What all answers together say of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// Status by member ID of every member that answered, with the node that was asked.
    pub statuses: BTreeMap<MemberId, (String, MemberStatus)>,
    /// Membership as seen by the answering member that has applied most; by ID.
    pub members: Vec<Member>,
    /// Alarms of that same member.
    pub alarms: Vec<Alarm>,
    /// Clusters that answered; more than one means that hosts belong to different clusters.
    pub cluster_ids: Vec<ClusterId>,
}

impl ClusterView {
    /// Gathers the answers by node.
    pub fn gather<'a>(states: impl IntoIterator<Item = (&'a str, &'a EtcdState)>) -> Self {
        let mut view = Self::default();
        let mut best: Option<&EtcdAnswer> = None;
        for (node, state) in states {
            let EtcdState::Answered(answer) = state else {
                continue;
            };
            let status = &answer.status;
            if !view.cluster_ids.contains(&status.cluster_id) {
                view.cluster_ids.push(status.cluster_id);
            }
            if answer.members.is_some()
                && best
                    .is_none_or(|best| status.raft_applied_index > best.status.raft_applied_index)
            {
                best = Some(answer);
            }
            view.statuses
                .insert(status.member_id, (node.to_owned(), status.clone()));
        }
        view.cluster_ids.sort();
        if let Some(answer) = best {
            view.members = answer.members.clone().unwrap_or_default();
            view.members.sort_by_key(|member| member.id);
            let errors = answer.status.errors.iter();
            view.alarms = errors.filter_map(|error| Alarm::parse(error)).collect();
            view.alarms.sort();
        }
        view
    }

    /// The member that most answering members follow.
    pub fn leader(&self) -> Option<MemberId> {
        self.statuses
            .values()
            .map(|(_, status)| status)
            .filter(|status| status.leader.0 != 0)
            .max_by_key(|status| status.raft_term)
            .map(|status| status.leader)
    }

    /// Members with a vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// The member of this ID.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        let found = self.members.binary_search_by_key(&id, |member| member.id);
        found.ok().and_then(|at| self.members.get(at))
    }

    /// Status of the member that this node runs.
    pub fn status_of_node(&self, node: &str) -> Option<&MemberStatus> {
        self.statuses
            .values()
            .find(|(asked, _)| asked == node)
            .map(|(_, status)| status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_read_from_what_a_member_reports() {
        let nospace = Alarm {
            member_id: MemberId(10_276_657_743_932_975_437),
            kind: "NOSPACE".into(),
        };
        let said = "memberID:10276657743932975437 alarm:NOSPACE ";
        assert_eq!(Alarm::parse(said), Some(nospace.clone()));
        // Newer versions put one blank or two.
        let said = "memberID:10276657743932975437  alarm:NOSPACE";
        assert_eq!(Alarm::parse(said), Some(nospace));
        assert_eq!(Alarm::parse("etcdserver: no leader"), None);
    }
}
