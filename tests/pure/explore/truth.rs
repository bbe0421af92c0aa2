//! Whether what a plan says is blocked is blocked for a reason that the model confirms.

use std::collections::BTreeSet;

use quorate::etcd::id::MemberId;
use quorate::plan::{Blocked, Plan};
use quorate::schedule::Outcome;

use super::rules::{self, Broken};
use super::search::Search;
use crate::model::host::{Data, Host, Run};
use crate::model::membership::quorum_of;
use crate::model::raft::Raft;
use crate::world::World;

/// A reason without its names and numbers.
pub fn gist(text: &str) -> String {
    const GISTS: [&str; 17] = [
        "does not answer",
        "has no leader",
        "has not answered healthy",
        "is still under way",
        "is still a learner",
        "is still in the membership",
        "no member has the peer URL",
        "no member could say",
        "entries behind",
        "voters are healthy",
        "members answer",
        "stopping it would leave",
        "it follows",
        "its leader",
        "has not published its name",
        "the membership has",
        "not healthy",
    ];
    let found = GISTS.iter().find(|gist| text.contains(**gist));
    found.map_or_else(|| text.to_owned(), |gist| (*gist).to_owned())
}

pub fn word_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Undone(_) => "put back",
        Outcome::Refused(_) => "refused",
        Outcome::Failed(_) => "failed",
        Outcome::NotStarted(_) => "not started",
    }
}

/// Looks at every reason of a plan, and at whether the plan makes sense at all.
pub fn of_plan(search: &Search, world: &World, plan: &Plan) -> Option<Broken> {
    if let Err(faults) = quorate::plan::checker::check(&plan.actions) {
        return Some(Broken::new(rules::CONVERGES, faults.join("; ")));
    }
    for blocked in &plan.blocked {
        match is_true(world, blocked) {
            Some((reason, _)) if !REASONS.contains(&reason) => panic!("{reason} is not listed"),
            Some((reason, true)) => search.reached.note(format!("blocked: {reason}")),
            Some((_, false)) => {
                return Some(Broken::new(rules::TRUE, format!("{blocked:?} is not so")));
            }
            None => {
                return Some(Broken::new(
                    rules::TRUE,
                    format!("{blocked:?}: nobody knows"),
                ));
            }
        }
    }
    None
}

/// Every reason that is known here.
pub const REASONS: [&str; 20] = [
    "another disk may be mounted",
    "no route",
    "cannot be restarted",
    "has no data, though its member has run there",
    "has no WAL now",
    "another file system is mounted",
    "its restart waits",
    "cannot join",
    "are needed to change the membership",
    "cannot be removed",
    "it may lack its vote",
    "no quorum could say who is",
    "could say who is",
    "in one edit, a majority of them",
    "is neither in the cluster file nor on any host",
    "holds a WAL that cannot be read",
    "there is no quorum that could learn another",
    "is half-way to another address",
    "of another cluster",
    "the host that it was on cannot be looked at",
];

/// The reason by its gist, and whether it is so; `None` for one that nobody has thought of.
fn is_true(world: &World, blocked: &Blocked) -> Option<(&'static str, bool)> {
    let node = blocked.node.as_deref().unwrap_or_default();
    let host = world.etcd.hosts.get(node);
    let empty = host.is_some_and(|host| matches!(host.seen(), Data::Absent | Data::NoWal));
    let stale = known_data(world, node).is_some_and(|is_listed| !is_listed);
    let raft = world
        .etcd
        .rafts
        .values()
        .max_by_key(|raft| rules::well_voters(raft).len());
    let well = raft
        .map(|raft| asked(world, raft).len())
        .unwrap_or_default();
    let voters = raft
        .map(|raft| raft.tip().voters().count())
        .unwrap_or_default();
    // The members that Quorate adds are at the URLs of hosts.
    let by_hand = raft.is_some_and(|raft| {
        let is_host = |url: &String| world.etcd.hosts.values().any(|host| host.url == *url);
        raft.tip().members.values().any(|line| !is_host(&line.url))
    });
    let reasons: [(&'static str, bool); 20] = [
        ("another disk may be mounted", stale),
        ("no route", host.is_some_and(|host| !host.is_reachable())),
        ("cannot be restarted", cannot_stop(world, raft, node)),
        ("has no data, though its member has run there", empty),
        ("has no WAL now", empty),
        (
            "another file system is mounted",
            host.is_some_and(|host| !host.mounted),
        ),
        (
            "its restart waits",
            raft.is_none_or(|raft| differs(world, raft)),
        ),
        ("cannot join", well < voters),
        (
            "are needed to change the membership",
            well < quorum_of(voters),
        ),
        (
            "cannot be removed",
            well < voters || well.saturating_sub(1) < quorum_of(voters.saturating_sub(1)),
        ),
        ("it may lack its vote", well == 0),
        ("no quorum could say who is", well < quorum_of(voters)),
        ("could say who is", well == 0),
        (
            "in one edit, a majority of them",
            kept(world, raft) < quorum_of(voters),
        ),
        ("is neither in the cluster file nor on any host", by_hand),
        (
            "holds a WAL that cannot be read",
            host.is_some_and(|host| host.seen() == Data::Corrupt),
        ),
        (
            "there is no quorum that could learn another",
            host.is_some_and(|host| host.run != Run::Up) && well < quorum_of(voters),
        ),
        (
            "is half-way to another address",
            host.is_some_and(|host| host.run != Run::Up)
                && raft.is_some_and(|raft| lost(world, raft)),
        ),
        ("of another cluster", is_foreign(world, node)),
        (
            "the host that it was on cannot be looked at",
            is_former_away(world, node),
        ),
    ];
    reasons
        .into_iter()
        .find(|(gist, _)| blocked.reason.contains(gist))
}

/// Whether a member does not listen where the membership has it, or the others have not been seen to reach it.
fn lost(world: &World, raft: &Raft) -> bool {
    let tip = raft.tip();
    let mut members = tip.members.iter();
    members.any(|(id, line)| !world.is_dialable(*id, std::slice::from_ref(&line.url)))
}

/// Whether the data on a host is of another cluster than that of others.
fn is_foreign(world: &World, node: &str) -> bool {
    let seen = world.etcd.hosts.get(node).map(Host::seen);
    let Some(Data::Wal { cluster, .. }) = seen else {
        return false;
    };
    let named = world.desired().nodes.iter();
    let mut others = named.filter_map(|other| world.etcd.member_on(&other.name));
    others.any(|(other, _)| other != cluster)
}

/// Whether the host that a node had before cannot be asked, or does not show the data of its member.
fn is_former_away(world: &World, node: &str) -> bool {
    let of_node = |name: &str| name.split_once('@').is_some_and(|(of, _)| of == node);
    let mut hosts = world.etcd.hosts.iter();
    hosts.any(|(name, host)| {
        of_node(name) && (!host.is_reachable() || world.etcd.member_on(name).is_none())
    })
}

/// Voters that are well, and that the operator can ask.
fn asked(world: &World, raft: &Raft) -> BTreeSet<MemberId> {
    let rafts = world.etcd.rafts.iter();
    let clusters = rafts.filter(|(_, other)| *other == raft);
    let hosts = clusters.flat_map(|(cluster, _)| {
        let of = |id: &MemberId| world.etcd.host_of(*cluster, *id);
        let well = rules::well_voters(raft).into_iter();
        well.filter(move |id| of(id).is_some_and(|host| world.etcd.hosts[host].is_reachable()))
    });
    hosts.collect()
}

/// Voters that the file still names and that are well.
fn kept(world: &World, raft: Option<&Raft>) -> usize {
    let Some(raft) = raft else { return 0 };
    let tip = raft.tip();
    let named = |id: &MemberId| {
        let named = world.desired().nodes.iter();
        let mut urls = named.map(|node| &world.layout(&node.name).peer_url);
        urls.any(|url| tip.members.get(id).is_some_and(|line| line.url == *url))
    };
    asked(world, raft).iter().filter(|id| named(id)).count()
}

/// Whether the data on a host is that of a current member.
fn known_data(world: &World, node: &str) -> Option<bool> {
    let host = world.etcd.hosts.get(node)?;
    let Data::Wal { cluster, member } = host.seen() else {
        return None;
    };
    let raft = world.etcd.rafts.get(&cluster)?;
    Some(raft.tip().members.contains_key(&member))
}

fn cannot_stop(world: &World, raft: Option<&Raft>, node: &str) -> bool {
    let Some(raft) = raft else { return true };
    let known = world.etcd.hosts.contains_key(node);
    let member = known
        .then(|| world.etcd.member_on(node))
        .flatten()
        .map(|(_, member)| member);
    let voters = raft.tip().voters().count();
    let without = asked(world, raft)
        .iter()
        .filter(|id| Some(**id) != member)
        .count();
    voters <= 2 || without < quorum_of(voters)
}

/// Whether the membership is another than that of the file, or nobody can say.
fn differs(world: &World, raft: &Raft) -> bool {
    let tip = raft.tip();
    let named = world.desired().nodes.iter();
    let urls: Vec<String> = named
        .map(|node| world.layout(&node.name).peer_url.clone())
        .collect();
    tip.members
        .values()
        .any(|line| line.learner || !urls.contains(&line.url))
        || tip.members.len() != urls.len()
        || !raft.is_quorate()
        || world
            .etcd
            .hosts
            .values()
            .any(|host| !host.is_reachable() || host.seen() == Data::Absent)
}
