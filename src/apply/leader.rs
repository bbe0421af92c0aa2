//! Moving leadership off a member before it is stopped or removed (Q5).

use std::time::Duration;

use tokio::time::Instant;

use super::perform::{Context, prove};
use crate::etcd::id::MemberId;
use crate::observed::etcd::ClusterView;
use crate::safety;

/// Time for another member to take the lead.
const LEAD: Duration = Duration::from_secs(20);
/// Time between two looks.
const AGAIN: Duration = Duration::from_millis(50);
/// Time for which a leader may not answer before nobody counts on asking it.
const SILENT: Duration = Duration::from_secs(5);

/// What has to be done for another member to lead.
#[derive(Debug, PartialEq, Eq)]
enum Handover {
    /// Nothing: another one leads, or there is none that could.
    Done,
    /// The member, on this node, is asked to hand over to that one.
    Ask(String, MemberId),
    /// The member leads, and cannot be asked.
    Silent,
    /// Nobody is known who could take over: this passes, or it does not.
    Wait(&'static str),
}

/// To the voter that is closest to it.
fn handover(view: &ClusterView, member: MemberId) -> Handover {
    let leader = view.leader();
    if leader.is_some_and(|leader| leader != member) {
        return Handover::Done;
    }
    let successor = view
        .voters()
        .filter(|voter| voter.id != member && safety::unhealthy(view, voter.id).is_none())
        .max_by_key(|voter| {
            view.statuses
                .get(&voter.id)
                .map(|(_, status)| status.raft_applied_index)
        });
    match (successor, view.statuses.get(&member)) {
        (Some(successor), Some((node, _))) => Handover::Ask(node.clone(), successor.id),
        (Some(_), None) => Handover::Silent,
        (None, _) => {
            // In a cluster of one or two there may be nobody to hand over to, and the operator accepted that.
            let voters: Vec<_> = view.voters().map(|voter| voter.id).collect();
            if voters.len() <= 2 && voters.contains(&member) {
                return Handover::Done;
            }
            // Seeing nobody is no proof that there is nobody.
            Handover::Wait(match leader {
                Some(_) => "no other voter is healthy",
                None => "nobody leads",
            })
        }
    }
}

/// Moves leadership off a member. One that leads and cannot be asked keeps it: stopped, it hands over by itself; removed,
/// it costs an election (playbook section 9).
pub(super) async fn move_away(context: &Context, member: MemberId) -> Result<(), String> {
    let deadline = Instant::now() + LEAD;
    let mut silent_since = None;
    let mut last = String::new();
    while Instant::now() < deadline {
        let step = handover(&context.fleet.look().await, member);
        if step != Handover::Silent {
            silent_since = None;
        }
        match step {
            Handover::Done => return Ok(()),
            Handover::Silent => {
                let since: Instant = *silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= SILENT {
                    return Ok(());
                }
                last = "it leads, and cannot be asked".into();
            }
            Handover::Wait(why) => last = why.into(),
            Handover::Ask(node, successor) => match context.fleet.etcd(&node).await {
                Some(client) => {
                    prove(context, client.node()).await?;
                    last = match client.move_leader(successor).await {
                        Ok(()) => format!("{successor} was to take over, and has not yet"),
                        Err(error) => error.to_string(),
                    };
                }
                None => last = format!("it leads, and {node} cannot be asked"),
            },
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(format!(
        "leadership did not move off member {member}: {last}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::id::ClusterId;
    use crate::observed::etcd::{Member, MemberStatus};

    /// Voters, of whom some answer and follow a leader.
    fn view(voters: u64, answering: &[u64], leader: u64) -> ClusterView {
        let status = |id: &u64| MemberStatus {
            cluster_id: ClusterId(9),
            member_id: MemberId(*id),
            leader: MemberId(leader),
            raft_term: 2,
            raft_index: 100,
            raft_applied_index: 90 + id,
            version: "3.5.16".into(),
            db_size: 0,
            db_size_in_use: 0,
            is_learner: false,
            errors: vec![],
        };
        let line = |id| Member {
            id: MemberId(id),
            name: format!("etcd-{id}"),
            peer_urls: vec![],
            client_urls: vec![],
            is_learner: false,
        };
        ClusterView {
            statuses: answering
                .iter()
                .map(|id| (MemberId(*id), (format!("etcd-{id}"), status(id))))
                .collect(),
            members: (1..=voters).map(line).collect(),
            cluster_ids: vec![ClusterId(9)],
            ..ClusterView::default()
        }
    }

    #[test]
    fn a_leader_that_cannot_be_asked_is_no_cluster_without_a_leader() {
        let away = |voters, answering: &[u64], leader| {
            handover(&view(voters, answering, leader), MemberId(1))
        };
        assert_eq!(
            away(3, &[1, 2, 3], 1),
            Handover::Ask("etcd-1".into(), MemberId(3))
        );
        assert_eq!(away(3, &[1, 2, 3], 2), Handover::Done);
        assert_eq!(away(3, &[2, 3], 1), Handover::Silent);
        assert_eq!(away(3, &[2, 3], 0), Handover::Wait("nobody leads"));
        assert_eq!(
            away(3, &[1], 1),
            Handover::Wait("no other voter is healthy")
        );
        assert_eq!(away(2, &[1], 1), Handover::Done);
    }
}
