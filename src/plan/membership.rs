//! Who is who: the nodes of the file, the hosts' data and the members that etcd lists.

use std::collections::{BTreeMap, BTreeSet};

use super::converge::Known;
use super::host::Host;
use super::listing::{Acquainted, Listing};
use super::seats::Seating;
use super::{Draft, Inputs};
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::HostState;
use crate::observed::etcd::{ClusterView, Member};
use crate::runtime;
use crate::sabotage::{self, Bug};

/// What a node is to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// Its host holds the data of this member, which has a vote, or whose membership nobody could tell.
    Member(MemberId),
    /// It was added as a learner and is half-way: with or without data yet.
    Learner { member: MemberId, has_data: bool },
    /// A new member has to join on its host; the failed one that it replaces goes first (Q4).
    Vacant { failed: Option<MemberId> },
    /// Nothing is done on it; the reason is in the draft.
    Blocked,
}

/// A member that has to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaver {
    pub member: MemberId,
    /// Its name, or peer URL where it has never started.
    pub name: String,
    pub learner: bool,
}

/// Everybody.
#[derive(Default)]
pub(super) struct Roster {
    /// By node of the file.
    pub seats: BTreeMap<String, Seat>,
    pub leavers: Vec<Leaver>,
    /// The membership will not be that of the file: no member is restarted meanwhile, for a member that listens
    /// elsewhere than the membership says looks healthy over the links of the others, until too many do.
    pub unfinished: bool,
}

/// Matches nodes, hosts and members. What cannot be told is blocked, with the reason.
pub(super) fn roster(
    inputs: &Inputs<'_>,
    draft: &mut Draft,
    hosts: &BTreeMap<&str, Host<'_>>,
    view: &ClusterView,
    known: &Known,
) -> Roster {
    let cluster = known.cluster_id;
    let listing = Listing::of(inputs, view);
    let bearers = bearers(inputs, cluster);
    let mut roster = Roster::default();
    let mut taken: BTreeSet<MemberId> = BTreeSet::new();
    for node in &inputs.desired.nodes {
        let peer_url = runtime::peer_url(inputs.desired, node);
        let listed = listing.member_of(&node.name, &peer_url);
        let seat = match inputs.observed.hosts.get(&node.name) {
            Some(HostState::Unknown(unknown)) => {
                draft.block(
                    Some(&node.name),
                    unknown.detail(),
                    "nothing was compared on it; make it reachable and plan again. If it is gone for ever, take it \
                     out of the cluster file: its member is removed then",
                );
                match listed {
                    // A learner that cannot finish goes before anything else (Q3).
                    Some(learner) if learner.is_learner => {
                        roster.leavers.push(leaver(learner));
                        taken.insert(learner.id);
                    }
                    Some(voter) if sabotage::on(Bug::UnreachableIsGone) => {
                        roster.leavers.push(leaver(voter));
                    }
                    Some(_) => {}
                    None => roster.unfinished |= !view.members.is_empty(),
                }
                Seat::Blocked
            }
            _ => match hosts.get(node.name.as_str()) {
                None => Seat::Blocked,
                Some(host) => {
                    let seat = Seating {
                        host,
                        view,
                        listing: &listing,
                        observed: inputs.observed,
                        known,
                        bearers: &bearers,
                        replace: inputs.intent.goal.replaces(&node.name),
                    }
                    .seat(draft);
                    roster.unfinished |= seat == Seat::Blocked;
                    seat
                }
            },
        };
        // A node that moves to a blank host leaves its member behind.
        if seat != (Seat::Vacant { failed: None }) {
            taken.extend(listed.map(|member| member.id));
        }
        taken.extend(match seat {
            Seat::Member(member) | Seat::Learner { member, .. } => Some(member),
            Seat::Vacant { failed } => failed,
            Seat::Blocked => None,
        });
        roster.seats.insert(node.name.clone(), seat);
    }
    let known = Acquainted::of(inputs, cluster);
    for member in view
        .members
        .iter()
        .filter(|member| !taken.contains(&member.id))
    {
        if known.with(member) {
            roster.leavers.push(leaver(member));
        } else {
            roster.unfinished = true;
            draft.block(
                None,
                format!(
                    "member {} ({}, {}) is neither in the cluster file nor on any host that Quorate set up",
                    member.id,
                    if member.name.is_empty() {
                        "never started"
                    } else {
                        &member.name
                    },
                    member.peer_urls.join(",")
                ),
                "it is never removed for you: name its node in the cluster file, or remove it with etcdctl",
            );
        }
    }
    roster
        .leavers
        .sort_by(|one, other| (&one.name, one.member).cmp(&(&other.name, other.member)));
    for alarm in &view.alarms {
        draft
            .warnings
            .push(format!("member {} raises {}", alarm.member_id, alarm.kind));
    }
    roster
}

/// Names of the hosts that bear the cluster's marker.
fn bearers(inputs: &Inputs<'_>, cluster: ClusterId) -> String {
    let bearers = inputs.observed.known().filter(|(_, facts)| {
        let marker = facts.marker.get();
        marker.is_some_and(|marker| marker.cluster_id == Some(cluster))
    });
    bearers.map(|(node, _)| node).collect::<Vec<_>>().join(", ")
}

fn leaver(member: &Member) -> Leaver {
    Leaver {
        member: member.id,
        name: if member.name.is_empty() {
            member.peer_urls.join(",")
        } else {
            member.name.clone()
        },
        learner: member.is_learner,
    }
}
