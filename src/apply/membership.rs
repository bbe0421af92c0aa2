//! Calls that change the membership. Each is read back: an ambiguous answer is never guessed, and what has been done
//! already, by a run that was cut off, is not done twice.

use std::time::Duration;

use tokio::time::Instant;

use super::perform::{Context, prove};
use super::script::EtcdCall;
use crate::etcd::id::MemberId;
use crate::observed::etcd::Member;
use crate::remote::{EtcdClient, EtcdError, EtcdErrorKind};
use crate::render::event::{Event, Severity};
use crate::safety;

/// Time for a call to take effect: etcd refuses while its members are not connected for some seconds (Q14).
const CHANGE: Duration = Duration::from_secs(60);
/// Time between two attempts.
const AGAIN: Duration = Duration::from_millis(300);

/// Performs a call, and returns once the membership shows its effect.
pub(super) async fn perform(context: &Context, call: &EtcdCall) -> Result<(), String> {
    let deadline = Instant::now() + CHANGE;
    loop {
        let last = match attempt(context, call).await {
            Ok(true) => return Ok(()),
            Ok(false) => "it has not taken effect".to_owned(),
            Err(Trouble::Lasting(why)) => return Err(why),
            Err(Trouble::Passing(why)) => why,
        };
        if Instant::now() >= deadline {
            return Err(format!("after {} s: {last}", CHANGE.as_secs()));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The membership of now, from a member that follows the leader.
pub(super) async fn members(context: &Context) -> Result<Vec<Member>, String> {
    let deadline = Instant::now() + CHANGE;
    loop {
        let last = match client(context, None).await {
            Some(client) => match client.member_list_linearizable().await {
                Ok(members) => return Ok(members),
                Err(error) => error.to_string(),
            },
            None => "no healthy member can be asked".to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(format!("the membership cannot be read: {last}"));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

enum Trouble {
    /// May pass by itself.
    Passing(String),
    /// Will be the same next time.
    Lasting(String),
}

fn trouble(error: EtcdError) -> Trouble {
    let passing = error.ambiguous
        || matches!(
            error.kind,
            EtcdErrorKind::UnhealthyCluster
                | EtcdErrorKind::NoLeader
                | EtcdErrorKind::Timeout { .. }
                | EtcdErrorKind::Unavailable(_)
                | EtcdErrorKind::Tunnel { .. }
        )
        // Raft knows better than we how far a learner is.
        || error.to_string().contains("in sync with leader");
    if passing {
        Trouble::Passing(error.to_string())
    } else {
        Trouble::Lasting(error.to_string())
    }
}

/// Whether the membership shows the effect, before or after asking for it once.
async fn attempt(context: &Context, call: &EtcdCall) -> Result<bool, Trouble> {
    let avoid = match call {
        EtcdCall::Remove(member) => Some(*member),
        _ => None,
    };
    let Some(client) = client(context, avoid).await else {
        return Err(Trouble::Passing("no healthy member can be asked".into()));
    };
    let before = client.member_list_linearizable().await.map_err(trouble)?;
    if is_done(call, &before) {
        return Ok(true);
    }
    prove(context, client.node())
        .await
        .map_err(Trouble::Lasting)?;
    match call {
        EtcdCall::AddLearner(url) => client
            .member_add(std::slice::from_ref(url), true)
            .await
            .map(drop),
        EtcdCall::Promote(url) => {
            let Some(learner) = by_url(&before, url) else {
                return Err(Trouble::Lasting(format!(
                    "no member has the peer URL {url}"
                )));
            };
            client.member_promote(learner.id).await
        }
        EtcdCall::Remove(member) => client.member_remove(*member).await,
        EtcdCall::Snapshot => return snapshot(context, &client).await.map(|()| true),
        EtcdCall::MoveLeader(_) => return Ok(true),
    }
    .map_err(trouble)?;
    let after = client.member_list_linearizable().await.map_err(trouble)?;
    Ok(is_done(call, &after))
}

fn by_url<'a>(members: &'a [Member], url: &str) -> Option<&'a Member> {
    members
        .iter()
        .find(|member| member.peer_urls.iter().any(|other| other == url))
}

fn is_done(call: &EtcdCall, members: &[Member]) -> bool {
    match call {
        EtcdCall::AddLearner(url) => by_url(members, url).is_some(),
        EtcdCall::Promote(url) => by_url(members, url).is_some_and(|member| !member.is_learner),
        EtcdCall::Remove(id) => {
            !members.is_empty() && members.iter().all(|member| member.id != *id)
        }
        EtcdCall::Snapshot | EtcdCall::MoveLeader(_) => false,
    }
}

/// A client of the leader, or of another healthy voter: promotion through a follower fails on some versions.
async fn client(context: &Context, avoid: Option<MemberId>) -> Option<EtcdClient> {
    let view = context.fleet.look().await;
    let leader = view.leader();
    let voter = view
        .voters()
        .map(|voter| voter.id)
        .filter(|id| Some(*id) != avoid && safety::unhealthy(&view, *id).is_none())
        .min_by_key(|id| (Some(*id) != leader, *id))?;
    let (node, _) = view.statuses.get(&voter)?;
    context.fleet.etcd(node).await
}

async fn snapshot(context: &Context, client: &EtcdClient) -> Result<(), Trouble> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = &context.snapshots;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Trouble::Lasting(format!("cannot make {}: {error}", dir.display())))?;
    let path = dir.join(format!(
        "{}-{}.db",
        context.desired.cluster.name, context.run_id
    ));
    let saved = client.snapshot(&path).await.map_err(trouble)?;
    (context.sink)(&Event::Message {
        severity: Severity::Info,
        summary: format!("Saved a snapshot of {} bytes", saved.size),
        detail: path.display().to_string(),
    });
    Ok(())
}
