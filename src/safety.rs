//! The quorum rules (Q1, Q2), with typed reasons. The planner asks them on what it predicts, the scheduler on fresh
//! facts before every disruptive step.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{Gate, Margin, MembershipChange};
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::etcd::{Alarm, ClusterView, MemberStatus};
use crate::sabotage::{self, Bug};

/// Entries that a member may lag behind the leader's applied index and still count as caught up.
pub const MAX_LAG: u64 = 1000;

/// Voters needed for a quorum.
pub fn quorum(voters: usize) -> usize {
    if sabotage::on(Bug::QuorumOffByOne) {
        return voters / 2;
    }
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
    /// A learner is under way: one membership change at a time (Q2).
    LearnerUnderWay(MemberId),
    /// No member has this peer URL.
    NoSuchMember(String),
    /// A member has not kept up for long enough.
    Unsettled(MemberId),
    /// The data would be taken from a member of the cluster.
    StillAMember(MemberId),
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
            Self::LearnerUnderWay(member) => write!(f, "learner {member} is still under way"),
            Self::NoSuchMember(url) => write!(f, "no member has the peer URL {url}"),
            Self::Unsettled(member) => write!(
                f,
                "member {member} has not answered healthy for {} s yet",
                SETTLED_MS / 1000
            ),
            Self::StillAMember(member) => write!(f, "member {member} is still in the membership"),
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

    /// Entries that a member is behind the leader, if it follows that.
    fn lag_of(&self, status: &MemberStatus) -> Option<u64> {
        let statuses = &self.view.statuses;
        let leader = self.leader.filter(|leader| status.leader == *leader)?;
        // The leader may be on a host that cannot be asked: then whoever follows it and knows most stands for it.
        let followers = || statuses.values().map(|(_, status)| status);
        let lead = match statuses.get(&leader) {
            Some((_, lead)) => lead,
            None => followers()
                .filter(|other| other.leader == leader && other.raft_term == status.raft_term)
                .max_by_key(|other| other.raft_index)?,
        };
        Some(lag(lead, status))
    }

    /// Why a voter is not healthy; `None` when it is.
    pub fn unhealthy(&self, member: MemberId) -> Option<String> {
        let statuses = &self.view.statuses;
        let Some((_, status)) = statuses.get(&member) else {
            if sabotage::on(Bug::SilentIsHealthy) {
                return None;
            }
            return Some("it does not answer".into());
        };
        if status.leader.0 == 0 {
            return Some("it has no leader".into());
        }
        // Every member repeats the alarms of all others.
        if let Some(error) = status
            .errors
            .iter()
            .find(|error| Alarm::parse(error).is_none())
        {
            return Some(error.clone());
        }
        let mut alarms = self.view.alarms.iter();
        if alarms.any(|alarm| alarm.member_id == member && alarm.kind == "CORRUPT") {
            return Some("it raises CORRUPT".into());
        }
        let leader = self.leader?;
        if status.leader != leader {
            return Some(format!(
                "it follows {}, others follow {leader}",
                status.leader
            ));
        }
        let lag = self.lag_of(status)?;
        (lag > MAX_LAG).then(|| format!("it is {lag} entries behind the leader"))
    }
}

/// Whether all that keeps a member from being healthy may be that it has to catch up.
pub fn is_behind(view: &ClusterView, member: MemberId) -> bool {
    let status = view.statuses.get(&member);
    let lag = status.and_then(|(_, status)| Diagnosis::of(view).lag_of(status));
    lag.is_some_and(|lag| lag > MAX_LAG)
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
    may_stop_at(margin, learner, allow_downtime)
}

/// Q1 for a margin that is known already.
pub fn may_stop_at(margin: Margin, learner: bool, allow_downtime: bool) -> Result<Margin, Unsafe> {
    if learner || margin.during >= margin.needs || sabotage::on(Bug::RestartWithoutMargin) {
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

/// Milliseconds for which voters have to have answered healthy before the membership changes: etcd itself asks for
/// connections of more than 5 s (Q14; playbook section 1).
pub const SETTLED_MS: u64 = 6_000;

/// Q1, Q2, Q14: whether the membership may change in this way. `settled` tells whether a voter has answered healthy for
/// long enough. The margin is that around the change.
pub fn may_change(
    view: &ClusterView,
    change: &MembershipChange,
    settled: &dyn Fn(MemberId) -> bool,
) -> Result<Margin, Unsafe> {
    if view.cluster_ids.len() > 1 {
        return Err(Unsafe::SeveralClusters(view.cluster_ids.clone()));
    }
    if view.members.is_empty() {
        return Err(Unsafe::MembershipUnknown);
    }
    let by_url = |url: &String| {
        view.members
            .iter()
            .find(|member| member.peer_urls.contains(url))
    };
    let diagnosis = Diagnosis::of(view);
    let voters: Vec<MemberId> = view.voters().map(|member| member.id).collect();
    let healthy: Vec<MemberId> = voters
        .iter()
        .copied()
        .filter(|id| diagnosis.unhealthy(*id).is_none())
        .collect();
    let mut margin = Margin {
        voters: voters.len(),
        before: healthy.len(),
        during: healthy.len(),
        needs: quorum(voters.len()),
    };
    let all_settled = |except: Option<MemberId>| {
        for id in voters.iter().filter(|id| Some(**id) != except) {
            if let Some(why) = diagnosis.unhealthy(*id)
                && !sabotage::on(Bug::ChangeUnhealthy)
            {
                return Err(Unsafe::Unhealthy(*id, why));
            }
            if !settled(*id)
                && !sabotage::on(Bug::ChangeUnsettled)
                && !sabotage::on(Bug::ChangeUnhealthy)
            {
                return Err(Unsafe::Unsettled(*id));
            }
        }
        Ok(())
    };
    match change {
        MembershipChange::Add(url) => {
            // Added by a run that was cut off: nothing is changed any more.
            if by_url(url).is_some() {
                return Ok(margin);
            }
            if let Some(learner) = view.members.iter().find(|member| member.is_learner) {
                return Err(Unsafe::LearnerUnderWay(learner.id));
            }
            all_settled(None)?;
        }
        MembershipChange::Promote(url) => {
            let Some(learner) = by_url(url) else {
                return Err(Unsafe::NoSuchMember(url.clone()));
            };
            if !learner.is_learner {
                return Ok(margin);
            }
            if let Some(why) = diagnosis.unhealthy(learner.id) {
                return Err(Unsafe::Unhealthy(learner.id, why));
            }
            all_settled(None)?;
            margin.needs = quorum(voters.len() + 1);
        }
        MembershipChange::Remove(id) => {
            let Some(member) = view.member(*id) else {
                return Ok(margin);
            };
            if sabotage::on(Bug::RemovalUnchecked) {
                return Ok(margin);
            }
            if margin.before < margin.needs {
                return Err(Unsafe::QuorumLost(margin));
            }
            if member.is_learner {
                return Ok(margin);
            }
            let left: Vec<MemberId> = healthy
                .iter()
                .copied()
                .filter(|other| other != id)
                .collect();
            margin.during = left.len();
            margin.needs = quorum(voters.len().saturating_sub(1));
            if margin.during < margin.needs {
                return Err(Unsafe::QuorumLost(margin));
            }
            if healthy.contains(id) {
                all_settled(Some(*id))?;
            } else if let Some(young) = left.iter().find(|other| !settled(**other)) {
                // Others may be down as well and wait for their own removal: those that carry the quorum count.
                return Err(Unsafe::Unsettled(*young));
            }
        }
    }
    Ok(margin)
}

/// Q7: data is moved only when its member has no place in the membership.
pub fn may_set_aside(view: &ClusterView, member: MemberId) -> Result<(), Unsafe> {
    if view.members.is_empty() {
        return Err(Unsafe::MembershipUnknown);
    }
    match view.member(member) {
        Some(_) => Err(Unsafe::StillAMember(member)),
        None => Ok(()),
    }
}

/// An alarm that was not there before (Q2).
pub fn new_alarm(view: &ClusterView, before: &BTreeSet<Alarm>) -> Option<String> {
    let alarm = view.alarms.iter().find(|alarm| !before.contains(*alarm))?;
    Some(format!("member {} raises {}", alarm.member_id, alarm.kind))
}

/// Whether a gate has passed; `Err` says what it still waits for.
pub fn gate(view: &ClusterView, gate: &Gate) -> Result<(), String> {
    if sabotage::on(Bug::GateAlwaysPasses) {
        return Ok(());
    }
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
        Gate::Joined { peer_url, voter } => {
            let Some(member) = view
                .members
                .iter()
                .find(|member| member.peer_urls.contains(peer_url))
            else {
                return Err(Unsafe::NoSuchMember(peer_url.clone()).to_string());
            };
            if *voter && member.is_learner {
                return Err(format!("member {} is still a learner", member.id));
            }
            unhealthy(view, member.id)
                .map_or(Ok(()), |why| Err(format!("member {}: {why}", member.id)))
        }
        Gate::Removed(id) => {
            if view.members.is_empty() {
                return Err(Unsafe::MembershipUnknown.to_string());
            }
            if view.member(*id).is_some() {
                return Err(format!("member {id} is still in the membership"));
            }
            let voters: Vec<MemberId> = view.voters().map(|member| member.id).collect();
            let diagnosis = Diagnosis::of(view);
            let healthy = voters
                .iter()
                .filter(|id| diagnosis.unhealthy(**id).is_none())
                .count();
            if healthy < quorum(voters.len()) {
                return Err(format!("{healthy} of {} voters are healthy", voters.len()));
            }
            Ok(())
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
