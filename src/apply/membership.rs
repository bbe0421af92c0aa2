//! Calls that change the membership. Each is read back: an ambiguous answer is never guessed, and what has been done
//! already, by a run that was cut off, is not done twice.

mod dial;
mod snapshot;

use std::collections::BTreeSet;
use std::time::Duration;

pub(super) use dial::await_dialable;
use tokio::time::Instant;

use super::perform::{Context, Failure, prove};
use super::script::EtcdCall;
use super::stopping::SPARE;
use crate::action::MembershipChange;
use crate::action::add::Add;
use crate::etcd::id::MemberId;
use crate::observed::etcd::Member;
use crate::remote::{EtcdClient, EtcdError, EtcdErrorKind};
use crate::safety;
use crate::schedule::Spare;

/// Time for a call to take effect: etcd refuses while its members are not connected for some seconds (Q14).
const CHANGE: Duration = Duration::from_secs(60);
/// Time for a member to be back that a call waits for: that of the gate of its restart.
const BACK: Duration = Duration::from_secs(120);
/// After this, what was seen of the members is looked at again.
const FRESH: Duration = Duration::from_secs(1);
/// Time between two attempts.
const AGAIN: Duration = Duration::from_millis(300);

/// Performs a call, and returns once the membership shows its effect. `spare` is asked before each attempt at an update.
pub(super) async fn perform(
    context: &Context,
    call: &EtcdCall,
    spare: Option<&Spare>,
) -> Result<(), Failure> {
    let mut patience = Patience::new(call);
    let mut unsafe_since = None;
    loop {
        let tried = attempt(context, call, spare).await;
        if !matches!(tried, Err(Trouble::Unsafe(_))) {
            unsafe_since = None;
        }
        let last = match tried {
            Ok(true) => return Ok(()),
            Ok(false) => "it has not taken effect".to_owned(),
            Err(Trouble::Lasting(why)) => return Err(why.into()),
            Err(Trouble::Unsafe(why)) => {
                if unsafe_since.get_or_insert_with(Instant::now).elapsed() >= SPARE {
                    return Err(Failure::refused(why));
                }
                why
            }
            Err(Trouble::Passing(why)) => why,
            Err(Trouble::Nobody) => {
                patience.nobody(Instant::now());
                "no healthy member can be asked".to_owned()
            }
        };
        if Instant::now() >= patience.ends {
            let waited = patience.begun.elapsed().as_secs();
            return Err(format!("after {waited} s: {last}").into());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// How long a call is tried.
struct Patience {
    begun: Instant,
    ends: Instant,
    /// The last moment at which its time may begin to run.
    waits: Option<Instant>,
}

impl Patience {
    fn new(call: &EtcdCall) -> Self {
        let begun = Instant::now();
        Self {
            begun,
            ends: begun + CHANGE,
            // After the restart of one of two its update waits until it is back, with a large database to read.
            waits: matches!(call, EtcdCall::Update(..)).then_some(begun + BACK),
        }
    }

    /// There was nobody to ask: its time runs from now on.
    fn nobody(&mut self, now: Instant) {
        if let Some(last) = self.waits {
            self.ends = last.min(now + CHANGE);
        }
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
    /// There is nobody to ask.
    Nobody,
    /// The cluster cannot spare the member now.
    Unsafe(String),
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
        // Raft knows better than we how far a learner is, and a member how much it has to do.
        || ["in sync with leader", "too many requests"]
            .iter()
            .any(|words| error.to_string().contains(words));
    if passing {
        Trouble::Passing(error.to_string())
    } else {
        Trouble::Lasting(error.to_string())
    }
}

/// Whether the membership shows the effect, before or after asking for it once.
async fn attempt(
    context: &Context,
    call: &EtcdCall,
    spare: Option<&Spare>,
) -> Result<bool, Trouble> {
    let avoid = match call {
        EtcdCall::Remove(member) | EtcdCall::Update(member, _) => Some(*member),
        _ => None,
    };
    let Some(client) = client(context, avoid).await else {
        return Err(Trouble::Nobody);
    };
    let before = client.member_list_linearizable().await.map_err(trouble)?;
    if is_done(call, &before) {
        return Ok(true);
    }
    // Whoever was asleep between proof and call would act under a lock that is another's by now: the proof comes last. It
    // may wait for a script that is at work there, and what was seen before is old then.
    for _ in 0..2 {
        still_safe(context, call, spare).await?;
        let since = Instant::now();
        let proof = prove(context, client.node()).await;
        proof.map_err(Trouble::Lasting)?;
        if since.elapsed() < FRESH {
            break;
        }
    }
    let asked = match call {
        EtcdCall::AddLearner(url) => {
            if let Some(other) = by_url(&before, url) {
                return Err(Trouble::Lasting(format!(
                    "member {} has the peer URL {url} already, and has been started: plan again",
                    other.id
                )));
            }
            let urls = std::slice::from_ref(url);
            let added = client.member_add(urls, Add::as_learner()).await;
            added.map(drop)
        }
        EtcdCall::Promote(url) => {
            let Some(learner) = by_url(&before, url) else {
                return Err(Trouble::Lasting(format!(
                    "no member has the peer URL {url}"
                )));
            };
            client.member_promote(learner.id).await
        }
        EtcdCall::Remove(member) => client.member_remove(*member).await,
        EtcdCall::Update(member, urls) => {
            match before.iter().find(|found| found.id == *member) {
                // Some versions give it a vote by that.
                Some(found) if found.is_learner => {
                    return Err(Trouble::Lasting(format!(
                        "member {member} is a learner: it gets its vote before its address changes"
                    )));
                }
                Some(_) => client.member_update(*member, urls).await,
                None => return Err(Trouble::Lasting(format!("there is no member {member}"))),
            }
        }
        EtcdCall::Snapshot => {
            let follower = follower(context).await.unwrap_or(client);
            return snapshot::save(context, &follower).await.map(|()| true);
        }
        EtcdCall::MoveLeader(_) | EtcdCall::AwaitDialable(..) => return Ok(true),
    };
    verdict(call, asked, client.member_list_linearizable().await)
}

/// What the membership says counts more than any answer: an earlier attempt that timed out may have come true just now.
fn verdict(
    call: &EtcdCall,
    asked: Result<(), EtcdError>,
    after: Result<Vec<Member>, EtcdError>,
) -> Result<bool, Trouble> {
    match (asked, after) {
        (_, Ok(after)) if is_done(call, &after) => Ok(true),
        (Err(error), _) | (Ok(()), Err(error)) => Err(trouble(error)),
        (Ok(()), Ok(_)) => Ok(false),
    }
}

/// Whether the call may be made now: the scheduler asked before the first attempt, and this may be a later one. How long
/// everybody has been healthy it knows better.
async fn still_safe(
    context: &Context,
    call: &EtcdCall,
    spare: Option<&Spare>,
) -> Result<(), Trouble> {
    let change = match call {
        EtcdCall::AddLearner(url) => MembershipChange::Add(url.clone()),
        EtcdCall::Promote(url) => MembershipChange::Promote(url.clone()),
        EtcdCall::Remove(member) => MembershipChange::Remove(*member),
        EtcdCall::Update(..) => {
            let Some(spare) = spare else { return Ok(()) };
            let asked = spare.ask(&context.fleet.look().await);
            return asked.map_err(|refusal| Trouble::Unsafe(format!("not safe: {refusal}")));
        }
        EtcdCall::AwaitDialable(..) | EtcdCall::Snapshot | EtcdCall::MoveLeader(_) => return Ok(()),
    };
    let view = context.fleet.look().await;
    match safety::may_change(&view, &change, &|_| true) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(Trouble::Passing(refusal.to_string())),
    }
}

fn by_url<'a>(members: &'a [Member], url: &str) -> Option<&'a Member> {
    members
        .iter()
        .find(|member| member.peer_urls.iter().any(|other| other == url))
}

fn is_done(call: &EtcdCall, members: &[Member]) -> bool {
    match call {
        EtcdCall::AddLearner(url) => by_url(members, url).is_some_and(is_awaited),
        EtcdCall::Promote(url) => by_url(members, url).is_some_and(|member| !member.is_learner),
        EtcdCall::Remove(id) => {
            !members.is_empty() && members.iter().all(|member| member.id != *id)
        }
        EtcdCall::Update(id, urls) => members
            .iter()
            .any(|member| member.id == *id && same(&member.peer_urls, urls)),
        EtcdCall::Snapshot | EtcdCall::AwaitDialable(..) | EtcdCall::MoveLeader(_) => false,
    }
}

/// Whether a member may start without data: it was added as a learner and has never started (Q11).
pub(super) fn is_awaited(member: &Member) -> bool {
    member.is_learner && member.name.is_empty()
}

fn same(one: &[String], other: &[String]) -> bool {
    let sorted = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<_>>();
    sorted(one) == sorted(other)
}

/// A client of a follower that is healthy, else of the leader: a snapshot is work.
async fn follower(context: &Context) -> Option<EtcdClient> {
    let leader = context.fleet.look().await.leader();
    client(context, leader).await
}

/// A client of the leader, or of another healthy voter: promotion through a follower fails on some versions. The one to
/// avoid is asked only where there is no other.
async fn client(context: &Context, avoid: Option<MemberId>) -> Option<EtcdClient> {
    let view = context.fleet.look().await;
    let leader = view.leader();
    let voter = view
        .voters()
        .map(|voter| voter.id)
        .filter(|id| safety::unhealthy(&view, *id).is_none())
        .min_by_key(|id| (Some(*id) == avoid, Some(*id) != leader, *id))?;
    let (node, _) = view.statuses.get(&voter)?;
    context.fleet.etcd(node).await
}

#[cfg(test)]
mod tests;
