//! The quorum rules (Q1, Q2), with typed reasons. The planner asks them on what it predicts, the scheduler on fresh
//! facts before every disruptive step.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{Gate, Margin};
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::etcd::{ClusterView, MemberStatus};

/// Entries that a member may lag behind the leader's applied index and still count as caught up.
pub const MAX_LAG: u64 = 1000;

/// Voters needed for a quorum.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Why a member must not be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsafe {
    /// Nobody could say who the voters are.
    MembershipUnknown,
    /// Members of several clusters answered.
    SeveralClusters(Vec<ClusterId>),
    /// Too few healthy voters would be left.
    QuorumLost(Margin),
    /// The cluster is too small to lose any member, for however short.
    TooSmall(Margin),
    /// A member could not be shown to be healthy.
    Unhealthy(MemberId, String),
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MembershipUnknown => f.write_str("no member could say who the voters are"),
            Self::SeveralClusters(ids) => {
                f.write_str("members of several clusters answered:")?;
                ids.iter().try_for_each(|id| write!(f, " {id}"))
            }
            Self::QuorumLost(margin) => write!(
                f,
                "stopping it would leave {} of {} voters, {} are needed",
                margin.during, margin.voters, margin.needs
            ),
            Self::TooSmall(margin) => write!(
                f,
                "a cluster of {} cannot lose a member even for a moment",
                margin.voters
            ),
            Self::Unhealthy(member, why) => write!(f, "member {member} is not healthy: {why}"),
        }
    }
}

/// Why a voter is not healthy; `None` when it is.
pub fn unhealthy(view: &ClusterView, member: MemberId) -> Option<String> {
    Diagnosis::of(view).unhealthy(member)
}

/// A cluster whose leader is known, for questions about many members.
pub struct Diagnosis<'a> {
    view: &'a ClusterView,
    leader: Option<MemberId>,
}

impl<'a> Diagnosis<'a> {
    /// Finds out who leads, once.
    pub fn of(view: &'a ClusterView) -> Self {
        Self {
            view,
            leader: view.leader(),
        }
    }

    /// Why a voter is not healthy; `None` when it is.
    pub fn unhealthy(&self, member: MemberId) -> Option<String> {
        let statuses = &self.view.statuses;
        let Some((_, status)) = statuses.get(&member) else {
            return Some("it does not answer".into());
        };
        if status.leader.0 == 0 {
            return Some("it has no leader".into());
        }
        if let Some(error) = status.errors.first() {
            return Some(error.clone());
        }
        let leader = self.leader?;
        if status.leader != leader {
            return Some(format!(
                "it follows {}, others follow {leader}",
                status.leader
            ));
        }
        let Some((_, lead)) = statuses.get(&leader) else {
            return Some(format!(
                "its leader {leader} does not answer here, so nobody can say how far it lags"
            ));
        };
        let lag = lag(lead, status);
        (lag > MAX_LAG).then(|| format!("it is {lag} entries behind the leader"))
    }
}

/// Entries between what the leader committed and what a member applied.
pub fn lag(leader: &MemberStatus, member: &MemberStatus) -> u64 {
    leader.raft_index.saturating_sub(member.raft_applied_index)
}

/// Healthy voters now and without one of them. `starting` are voters that an earlier step brings back.
pub fn margin(view: &ClusterView, without: MemberId, starting: &[MemberId]) -> Margin {
    let diagnosis = Diagnosis::of(view);
    let voters: Vec<MemberId> = view.voters().map(|member| member.id).collect();
    let healthy: Vec<MemberId> = voters
        .iter()
        .copied()
        .filter(|id| diagnosis.unhealthy(*id).is_none() || starting.contains(id))
        .collect();
    Margin {
        voters: voters.len(),
        before: healthy.len(),
        during: healthy.iter().filter(|id| **id != without).count(),
        needs: quorum(voters.len()),
    }
}

/// Q1: whether a voter may be stopped for a restart.
pub fn may_stop(
    view: &ClusterView,
    member: MemberId,
    starting: &[MemberId],
    allow_downtime: bool,
) -> Result<Margin, Unsafe> {
    if view.cluster_ids.len() > 1 {
        return Err(Unsafe::SeveralClusters(view.cluster_ids.clone()));
    }
    if view.members.is_empty() {
        return Err(Unsafe::MembershipUnknown);
    }
    let margin = margin(view, member, starting);
    let learner = view.member(member).is_some_and(|found| found.is_learner);
    if learner || margin.during >= margin.needs {
        return Ok(margin);
    }
    if margin.voters <= 2 {
        // Nothing else than an interruption is possible there, so the operator may accept one.
        return if allow_downtime {
            Ok(margin)
        } else {
            Err(Unsafe::TooSmall(margin))
        };
    }
    Err(Unsafe::QuorumLost(margin))
}

/// Whether a gate has passed; `Err` says what it still waits for.
pub fn gate(view: &ClusterView, gate: &Gate) -> Result<(), String> {
    match gate {
        Gate::None => Ok(()),
        Gate::Formed {
            cluster_id,
            members,
        } => {
            if let Some(other) = view.cluster_ids.iter().find(|id| *id != cluster_id) {
                return Err(format!(
                    "a member answers in cluster {other} instead of {cluster_id}"
                ));
            }
            if view.statuses.len() < *members {
                return Err(format!(
                    "{} of {members} members answer",
                    view.statuses.len()
                ));
            }
            let diagnosis = Diagnosis::of(view);
            let mut answering = view.statuses.keys();
            answering
                .find_map(|id| Some(format!("member {id}: {}", diagnosis.unhealthy(*id)?)))
                .map_or(Ok(()), Err)?;
            match view.members.iter().find(|member| member.name.is_empty()) {
                Some(member) => Err(format!("member {} has not published its name", member.id)),
                None if view.members.len() != *members => Err(format!(
                    "the membership has {} members instead of {members}",
                    view.members.len()
                )),
                None => Ok(()),
            }
        }
        Gate::Member(_) if view.cluster_ids.len() > 1 => {
            Err(Unsafe::SeveralClusters(view.cluster_ids.clone()).to_string())
        }
        Gate::Member(member) => {
            unhealthy(view, *member).map_or(Ok(()), |why| Err(format!("member {member}: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::etcd::Member;

    fn view(voters: u64, healthy: &[u64]) -> ClusterView {
        let status = |id: u64| MemberStatus {
            cluster_id: ClusterId(9),
            member_id: MemberId(id),
            leader: MemberId(healthy[0]),
            raft_term: 2,
            raft_index: 100,
            raft_applied_index: 100,
            version: "3.5.16".into(),
            db_size: 0,
            db_size_in_use: 0,
            is_learner: false,
            errors: vec![],
        };
        ClusterView {
            statuses: healthy
                .iter()
                .map(|id| (MemberId(*id), (format!("etcd-{id}"), status(*id))))
                .collect(),
            members: (1..=voters)
                .map(|id| Member {
                    id: MemberId(id),
                    name: format!("etcd-{id}"),
                    peer_urls: vec![],
                    client_urls: vec![],
                    is_learner: false,
                })
                .collect(),
            alarms: vec![],
            cluster_ids: vec![ClusterId(9)],
        }
    }

    #[test]
    fn a_restart_needs_a_quorum_without_its_target() {
        assert!(may_stop(&view(3, &[1, 2, 3]), MemberId(1), &[], false).is_ok());
        assert!(matches!(
            may_stop(&view(3, &[1, 2]), MemberId(1), &[], false),
            Err(Unsafe::QuorumLost(_))
        ));
        // The one that is down may be restarted: it takes nothing away.
        assert!(may_stop(&view(3, &[1, 2]), MemberId(3), &[], false).is_ok());
        // A member that an earlier step starts counts.
        assert!(may_stop(&view(3, &[1, 2]), MemberId(1), &[MemberId(3)], false).is_ok());
        assert!(may_stop(&view(5, &[1, 2, 3]), MemberId(2), &[], false).is_err());
        // What the operator accepts for small clusters takes no quorum from a larger one.
        assert!(may_stop(&view(5, &[1, 2, 3]), MemberId(2), &[], true).is_err());
    }

    #[test]
    fn small_clusters_cannot_be_restarted_without_an_interruption() {
        for size in [1, 2] {
            let view = view(size, &[1, 2][..size as usize]);
            assert!(matches!(
                may_stop(&view, MemberId(1), &[], false),
                Err(Unsafe::TooSmall(_))
            ));
            assert!(may_stop(&view, MemberId(1), &[], true).is_ok());
        }
    }

    #[test]
    fn nothing_is_stopped_on_an_unknown_membership() {
        assert_eq!(
            may_stop(&ClusterView::default(), MemberId(1), &[], false),
            Err(Unsafe::MembershipUnknown)
        );
        let mut two = view(3, &[1, 2, 3]);
        two.cluster_ids.push(ClusterId(10));
        assert!(matches!(
            may_stop(&two, MemberId(1), &[], true),
            Err(Unsafe::SeveralClusters(_))
        ));
    }
}
