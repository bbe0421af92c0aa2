//! Who is who: the nodes of the file, the hosts' data and the members that etcd lists.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Host;
use super::{Draft, Inputs};
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::HostState;
use crate::observed::etcd::{ClusterView, Member};
use crate::observed::host::DataDir;
use crate::observed::marker::{Marker, MarkerState};
use crate::runtime;

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
    cluster: ClusterId,
) -> Roster {
    let listing = Listing::of(view);
    let bearers = bearers(inputs, cluster);
    let mut roster = Roster::default();
    let mut taken: BTreeSet<MemberId> = BTreeSet::new();
    for node in &inputs.desired.nodes {
        let peer_url = runtime::peer_url(inputs.desired, node);
        let by_url = listing.by_url.get(peer_url.as_str()).copied();
        let listed = by_url.or_else(|| listing.by_name.get(node.name.as_str()).copied());
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
                        by_url,
                        cluster,
                        bearers: &bearers,
                        replace: inputs.intent.goal.replaces(&node.name),
                    }
                    .seat(draft);
                    roster.unfinished |= seat == Seat::Blocked;
                    seat
                }
            },
        };
        taken.extend(listed.map(|member| member.id));
        taken.extend(match seat {
            Seat::Member(member) | Seat::Learner { member, .. } => Some(member),
            Seat::Vacant { failed } => failed,
            Seat::Blocked => None,
        });
        roster.seats.insert(node.name.clone(), seat);
    }
    for member in view
        .members
        .iter()
        .filter(|member| !taken.contains(&member.id))
    {
        if is_known(inputs, member, cluster) {
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

/// The members by peer URL, which is unique, and by name.
#[derive(Default)]
struct Listing<'a> {
    by_url: BTreeMap<&'a str, &'a Member>,
    by_name: BTreeMap<&'a str, &'a Member>,
}

impl<'a> Listing<'a> {
    fn of(view: &'a ClusterView) -> Self {
        let mut listing = Self::default();
        for member in &view.members {
            listing.by_name.entry(&member.name).or_insert(member);
            for url in &member.peer_urls {
                listing.by_url.entry(url).or_insert(member);
            }
        }
        listing
    }
}

/// Whether a marker of this cluster knows the member: one that nobody knows is never removed.
fn is_known(inputs: &Inputs<'_>, member: &Member, cluster: ClusterId) -> bool {
    let knows = |marker: &Marker| {
        let by_name = marker.cluster_id == Some(cluster)
            && !member.name.is_empty()
            && marker.addresses.contains_key(&member.name);
        let its_own = marker.member_id == Some(member.id)
            || marker
                .peer_url
                .as_ref()
                .is_some_and(|url| member.peer_urls.contains(url));
        by_name || its_own
    };
    inputs.observed.known().any(|(_, facts)| {
        facts
            .marker
            .get()
            .is_some_and(|marker| marker.cluster == inputs.desired.cluster.name && knows(marker))
    })
}

struct Seating<'a> {
    host: &'a Host<'a>,
    view: &'a ClusterView,
    /// The member at its peer URL.
    by_url: Option<&'a Member>,
    cluster: ClusterId,
    /// Hosts that bear the cluster's marker.
    bearers: &'a str,
    /// The operator gave up its member.
    replace: bool,
}

impl Seating<'_> {
    fn block(&self, draft: &mut Draft, reason: String, remedy: &str) -> Seat {
        draft.block(Some(&self.host.node.name), reason, remedy);
        Seat::Blocked
    }

    /// Whether the member may be in the membership: where nobody could say who is, data speaks for itself.
    fn is_listed(&self, id: MemberId) -> bool {
        self.view.members.is_empty() || self.view.member(id).is_some()
    }

    fn seat(&self, draft: &mut Draft) -> Seat {
        let (host, facts) = (self.host, self.host.facts);
        let data_dir = &host.layout.data_dir;
        if let MarkerState::Unreadable(error) = &facts.marker {
            return self.block(
                draft,
                format!("its marker cannot be read: {error}"),
                "remove /etc/quorate/marker.json on the host: it is written anew when the data is this cluster's",
            );
        }
        let marker = facts.marker.get();
        if let Some(marker) = marker {
            let places = |data: &str, wal: Option<&String>| match wal {
                Some(wal) => format!("{data} and {wal}"),
                None => data.to_owned(),
            };
            let is = places(&marker.data_dir, marker.wal_dir.as_ref());
            let wanted = places(data_dir, host.layout.wal_dir.as_ref());
            if is != wanted {
                return self.block(
                    draft,
                    format!("the cluster file moves its data from {is} to {wanted}"),
                    "this version does not move the data of a living member: set data_dir and wal_dir back",
                );
            }
        }
        let by_url = self.by_url;
        let waiting = by_url.filter(|member| member.is_learner && member.name.is_empty());
        match &facts.data {
            DataDir::Wal(wal) if wal.cluster_id != self.cluster => self.block(
                draft,
                format!(
                    "{data_dir} holds the data of member {} of another cluster, {}",
                    wal.member_id, wal.cluster_id
                ),
                "move that data away if it is not needed, or give the node another host",
            ),
            DataDir::Wal(wal) if self.is_listed(wal.member_id) => {
                let other = marker
                    .and_then(|marker| marker.member_id)
                    .filter(|id| *id != wal.member_id);
                if other.is_some_and(|id| self.is_listed(id)) {
                    return self.block(
                        draft,
                        format!(
                            "{data_dir} holds the data of member {}, which is not the member that belongs there",
                            wal.member_id
                        ),
                        "put the right disk in",
                    );
                }
                self.with_data(draft, wal.member_id)
            }
            // Its member was removed: the data is stale, and nothing can be lost with it.
            DataDir::Wal(_) => self.vacant(draft, by_url, waiting),
            DataDir::Unreadable(error) => {
                let given_up = self.replace
                    || marker
                        .and_then(|marker| marker.member_id)
                        .is_some_and(|id| !self.is_listed(id));
                if marker.is_some() && given_up {
                    return self.vacant(draft, by_url, waiting);
                }
                self.block(
                    draft,
                    format!("{data_dir} holds a WAL that cannot be read: {error}"),
                    if marker.is_some() {
                        "if the data is lost, say so with --replace and the name of the node: its member is replaced by a new one"
                    } else {
                        "move that data away if it is not needed, or give the node another host"
                    },
                )
            }
            DataDir::Empty | DataDir::NoWal => self.without_data(draft, by_url, waiting),
        }
    }

    fn with_data(&self, draft: &mut Draft, member: MemberId) -> Seat {
        if self.replace {
            return Seat::Vacant {
                failed: Some(member),
            };
        }
        let Some(listed) = self.view.member(member) else {
            return Seat::Member(member);
        };
        if listed.peer_urls != [self.host.layout.peer_url.clone()] {
            return self.block(
                draft,
                format!(
                    "its peer URL is {}, the cluster file asks for {}",
                    listed.peer_urls.join(","),
                    self.host.layout.peer_url
                ),
                "this version does not change the peer URL of a living member: set the cluster file back",
            );
        }
        if listed.is_learner {
            Seat::Learner {
                member,
                has_data: true,
            }
        } else {
            Seat::Member(member)
        }
    }

    fn without_data(
        &self,
        draft: &mut Draft,
        by_url: Option<&Member>,
        waiting: Option<&Member>,
    ) -> Seat {
        let (host, facts) = (self.host, self.host.facts);
        if let Some(marker) = facts.marker.get() {
            let moved = marker.filesystem != facts.filesystem.uuid;
            // Somebody's vote is at stake: missing is not lost until the operator says so (Q10).
            let at_stake = by_url.is_some_and(|member| !member.is_learner);
            let had_data = marker
                .member_id
                .is_some_and(|id| self.is_listed(id) || at_stake);
            if (had_data || moved) && !self.replace {
                return self.block(
                    draft,
                    format!(
                        "{} has no data, though its member has run there: {}",
                        host.layout.data_dir,
                        if moved {
                            "another file system is mounted there than before"
                        } else {
                            "a disk may not be mounted"
                        }
                    ),
                    "mount it, and plan again; if the data is lost, say so with --replace and the name of the node",
                );
            }
            if let Some(id) = marker.member_id.filter(|id| self.is_listed(*id)) {
                return Seat::Vacant { failed: Some(id) };
            }
        }
        self.vacant(draft, by_url, waiting)
    }

    /// A host on which a new member may join.
    fn vacant(&self, draft: &mut Draft, by_url: Option<&Member>, waiting: Option<&Member>) -> Seat {
        if self.view.members.is_empty() {
            return self.block(
                draft,
                format!(
                    "it is not a member, and no member of cluster {}, which {} bears, could say who is",
                    self.cluster, self.bearers
                ),
                "make a majority of the members reachable and healthy, and plan again; where that cluster is what a \
                 destroy has left, `quorate destroy` first",
            );
        }
        if let Some(learner) = waiting {
            return Seat::Learner {
                member: learner.id,
                has_data: false,
            };
        }
        if let Some(member) = by_url {
            if self.view.statuses.contains_key(&member.id) {
                return self.block(
                    draft,
                    format!(
                        "member {} answers at {}, and its data is not in {}",
                        member.id, self.host.layout.peer_url, self.host.layout.data_dir
                    ),
                    "correct data_dir in the cluster file",
                );
            }
            // A blank host with a known member is a rebuilt one (Q10).
            return Seat::Vacant {
                failed: Some(member.id),
            };
        }
        let elsewhere = self
            .view
            .members
            .iter()
            .find(|member| member.name == self.host.node.name);
        if let Some(member) = elsewhere {
            return self.block(
                draft,
                format!(
                    "it moves from {} to {}",
                    member.peer_urls.join(","),
                    self.host.layout.peer_url
                ),
                "this version does not move a node under its own name: name the new node otherwise and take the old \
                 one out, and the new member joins before the old one leaves",
            );
        }
        Seat::Vacant { failed: None }
    }
}
