//! Who is who: the nodes of the file, the hosts' data and the members that etcd lists.

use std::collections::{BTreeMap, BTreeSet};

use super::converge::Known;
use super::host::Host;
use super::{Draft, Inputs};
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::etcd::{ClusterView, EtcdState, Member};
use crate::observed::host::DataDir;
use crate::observed::marker::{Marker, MarkerState};
use crate::observed::{HostState, Observed};
use crate::runtime;
use crate::sabotage::{self, Bug};

/// Restarts by systemd after which a learner that does not answer will not come.
const STUCK_RESTARTS: u32 = 3;

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

/// Members and nodes, to be looked up.
struct Listing<'a> {
    /// Members by peer URL, which is unique.
    by_url: BTreeMap<&'a str, &'a Member>,
    by_name: BTreeMap<&'a str, &'a Member>,
    /// Nodes of the file by the peer URL that they are to have.
    nodes: BTreeMap<String, &'a str>,
    /// Nodes whose hosts hold the data of a member.
    holders: BTreeMap<MemberId, Vec<&'a str>>,
}

impl<'a> Listing<'a> {
    fn of(inputs: &Inputs<'a>, view: &'a ClusterView) -> Self {
        let mut listing = Self {
            by_url: BTreeMap::new(),
            by_name: BTreeMap::new(),
            nodes: BTreeMap::new(),
            holders: BTreeMap::new(),
        };
        for member in &view.members {
            listing.by_name.entry(&member.name).or_insert(member);
            for url in &member.peer_urls {
                listing.by_url.entry(url).or_insert(member);
            }
        }
        for node in &inputs.desired.nodes {
            let url = runtime::peer_url(inputs.desired, node);
            listing.nodes.insert(url, &node.name);
        }
        for (name, facts) in inputs.observed.known() {
            if let DataDir::Wal(wal) = &facts.data {
                listing.holders.entry(wal.member_id).or_default().push(name);
            }
        }
        listing
    }

    /// The member of a node: by the peer URL that it is to have, else by name.
    fn member_of(&self, node: &str, peer_url: &str) -> Option<&'a Member> {
        let by_url = self.by_url.get(peer_url);
        by_url.or_else(|| self.by_name.get(node)).copied()
    }

    /// Another node than this one that the member belongs to, or whose host holds its data as well: a disk or a virtual
    /// machine that was copied.
    fn also_of(&self, here: &str, member: &Member) -> Option<&'a str> {
        let mut urls = member.peer_urls.iter();
        let owner = urls.find_map(|url| self.nodes.get(url).copied());
        let owner = owner.or_else(|| {
            let mut nodes = self.nodes.values().copied();
            nodes.find(|node| *node == member.name)
        });
        let mut holders = self.holders.get(&member.id).into_iter().flatten().copied();
        owner
            .filter(|node| *node != here)
            .or_else(|| holders.find(|node| *node != here))
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
    listing: &'a Listing<'a>,
    observed: &'a Observed,
    known: &'a Known,
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
        if let Some(marker) = marker
            && let Some(seat) = self.another_cluster(draft, marker)
        {
            return seat;
        }
        let by_url = self
            .listing
            .by_url
            .get(host.layout.peer_url.as_str())
            .copied();
        let waiting = by_url.filter(|member| member.is_learner && member.name.is_empty());
        match &facts.data {
            DataDir::Wal(wal) if wal.cluster_id != self.known.cluster_id => self.block(
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
            DataDir::Wal(wal) => {
                let other = marker.and_then(|marker| marker.member_id);
                match other.filter(|id| *id != wal.member_id && self.is_listed(*id)) {
                    // Missing is not lost until the operator says so (Q10).
                    Some(other) if !self.replace => self.block(
                        draft,
                        format!(
                            "{data_dir} holds the data of member {}, which was removed, and not of {other}, which \
                             belongs there: another disk may be mounted",
                            wal.member_id
                        ),
                        "put the right disk in; if its data is lost, say so with --replace and the name of the node",
                    ),
                    Some(other) => self.given_up(draft, other, by_url, waiting),
                    // Its member was removed: the data is stale, and nothing can be lost with it.
                    None => self.vacant(draft, by_url, waiting),
                }
            }
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

    /// A marker of another cluster: its host is not taken (Q8).
    fn another_cluster(&self, draft: &mut Draft, marker: &Marker) -> Option<Seat> {
        let ours = &self.host.desired.cluster.name;
        let reason = if marker.cluster != *ours {
            format!("the host belongs to cluster {}", marker.cluster)
        } else if marker.generation.nonce != self.known.generation.nonce {
            format!(
                "the host belongs to another generation of {ours}, bootstrapped with token {}",
                marker.generation.token
            )
        } else {
            return None;
        };
        Some(self.block(
            draft,
            reason,
            "finish an interrupted destroy of that cluster with its own file, or give the node another host",
        ))
    }

    fn copied(&self, draft: &mut Draft, member: &Member, other: &str) -> Seat {
        self.block(
            draft,
            format!(
                "{} or its marker is that of member {}, which is {other}'s: it was copied, or two nodes change places",
                self.host.layout.data_dir, member.id
            ),
            "two members with one identity ruin the cluster: stop etcd on the copy and remove its data and \
             /etc/quorate; let one node change its address at a time",
        )
    }

    fn with_data(&self, draft: &mut Draft, member: MemberId) -> Seat {
        let Some(listed) = self.view.member(member) else {
            return Seat::Member(member);
        };
        if let Some(other) = self.listing.also_of(&self.host.node.name, listed) {
            return self.copied(draft, listed, other);
        }
        if self.replace {
            return Seat::Vacant {
                failed: Some(member),
            };
        }
        let url = &self.host.layout.peer_url;
        if listed.peer_urls != [url.clone()] {
            let scheme = |url: &str| url.split("://").next().unwrap_or_default().to_owned();
            if listed
                .peer_urls
                .iter()
                .any(|old| scheme(old) != scheme(url))
            {
                return self.block(
                    draft,
                    format!(
                        "its peer URL is {}, the cluster file asks for {url}",
                        listed.peer_urls.join(",")
                    ),
                    "this version does not change the TLS modes of a living member: set the cluster file back to \
                     what runs",
                );
            }
            if listed.is_learner {
                return self.block(
                    draft,
                    format!(
                        "it is a learner at {}, and some versions of etcd give it a vote when its address changes",
                        listed.peer_urls.join(",")
                    ),
                    "set the address back until it has its vote, or say --replace and the name of the node",
                );
            }
        }
        if !listed.is_learner {
            return Seat::Member(member);
        }
        let unit = &self.host.facts.unit;
        let is_stuck = !matches!(self.host.facts.etcd, EtcdState::Answered(_))
            && (unit.active == "failed" || unit.restarts >= STUCK_RESTARTS);
        if is_stuck {
            // A learner that cannot finish goes before anything else, and comes back as a new one (Q3).
            return Seat::Vacant {
                failed: Some(member),
            };
        }
        Seat::Learner {
            member,
            has_data: true,
        }
    }

    /// The operator gave up the member that the marker names.
    fn given_up(
        &self,
        draft: &mut Draft,
        member: MemberId,
        by_url: Option<&Member>,
        waiting: Option<&Member>,
    ) -> Seat {
        let Some(listed) = self.view.member(member) else {
            return self.vacant(draft, by_url, waiting);
        };
        match self.listing.also_of(&self.host.node.name, listed) {
            Some(other) => self.copied(draft, listed, other),
            None => Seat::Vacant {
                failed: Some(member),
            },
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
            let same_place = marker.data_dir == host.layout.data_dir;
            let moved = same_place && marker.filesystem != facts.filesystem.uuid;
            // Somebody's vote is at stake: missing is not lost until the operator says so (Q10).
            let at_stake = by_url.is_some_and(|member| !member.is_learner);
            let had_data = marker
                .member_id
                .is_some_and(|id| self.is_listed(id) || at_stake);
            let blank = self.replace || sabotage::on(Bug::MissingMountIsBlank);
            if (had_data || moved) && !blank {
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
            if let Some(id) = marker
                .member_id
                .filter(|id| self.view.member(*id).is_some())
            {
                return self.given_up(draft, id, by_url, waiting);
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
                    self.known.cluster_id, self.bearers
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
        let elsewhere = self.listing.by_name.get(self.host.node.name.as_str());
        let Some(member) = elsewhere.copied() else {
            return Seat::Vacant { failed: None };
        };
        // Its former host is cleaned when the new member has its vote and the old one is gone (Q18).
        if self.former_host_of(member) {
            return Seat::Vacant { failed: None };
        }
        if self.replace {
            return Seat::Vacant {
                failed: Some(member.id),
            };
        }
        self.block(
            draft,
            format!(
                "it moves from {} to {}, and the host that it was on cannot be looked at",
                member.peer_urls.join(","),
                self.host.layout.peer_url
            ),
            "make that host reachable where it was and plan again: the new member joins before the old one leaves; if \
             it is gone for ever, say --replace and the name of the node",
        )
    }

    /// Whether the host that this node was on is known, with the data of its member.
    fn former_host_of(&self, member: &Member) -> bool {
        let node = &self.host.node.name;
        let mut known = self.observed.known();
        known.any(|(name, facts)| {
            name.split_once('@').is_some_and(|(of, _)| of == node)
                && matches!(&facts.data, DataDir::Wal(wal) if wal.member_id == member.id)
        })
    }
}
