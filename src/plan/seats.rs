//! The seat of one node whose host can be looked at: what its data, its marker and the membership say together.

use super::Draft;
use super::converge::Known;
use super::host::Host;
use super::listing::Listing;
use super::membership::Seat;
use crate::etcd::id::MemberId;
use crate::observed::Observed;
use crate::observed::etcd::{ClusterView, EtcdState, Member};
use crate::observed::host::DataDir;
use crate::observed::marker::{Generation, MarkerState, Phase};
use crate::sabotage::{self, Bug};

/// Restarts by systemd after which a learner that does not answer will not come.
const STUCK_RESTARTS: u32 = 3;

/// What is looked at for it.
pub(super) struct Seating<'a> {
    pub host: &'a Host<'a>,
    pub view: &'a ClusterView,
    pub listing: &'a Listing<'a>,
    pub observed: &'a Observed,
    pub known: &'a Known,
    /// Hosts that bear the cluster's marker.
    pub bearers: &'a str,
    /// The operator gave up its member.
    pub replace: bool,
}

impl Seating<'_> {
    pub(super) fn block(&self, draft: &mut Draft, reason: String, remedy: &str) -> Seat {
        draft.block(Some(&self.host.node.name), reason, remedy);
        Seat::Blocked
    }

    /// Whether the member may be in the membership: where nobody could say who is, data speaks for itself.
    fn is_listed(&self, id: MemberId) -> bool {
        self.view.members.is_empty() || self.view.member(id).is_some()
    }

    /// Whether a WAL of its own is all that is there of a member that has run.
    pub(super) fn lacks_the_rest(&self) -> bool {
        let found = &self.host.facts.whereabouts;
        found.wal.is_some() && found.member.is_none() && self.host.marker().is_some()
    }

    /// Tells it; the reason of a block is in the draft.
    pub fn seat(&self, draft: &mut Draft) -> Seat {
        let (host, facts) = (self.host, self.host.facts);
        let data_dir = &host.layout.data_dir;
        if let Some(error) = facts.marker.unreadable() {
            return self.block(
                draft,
                format!("its marker cannot be read: {error}"),
                self.without_marker(),
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
            DataDir::Wal(_) if self.lacks_the_rest() => self.without_data(draft, by_url, waiting),
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
                let marked = marker.and_then(|marker| marker.member_id);
                let given_up = self.replace || marked.is_some_and(|id| !self.is_listed(id));
                // Whose it is has to be known, for data is moved only when its member has gone (Q7).
                let owned = marked.or(by_url.map(|member| member.id)).is_some();
                if marker.is_some() && given_up && owned {
                    return match waiting.filter(|_| marked.is_none()) {
                        // A first start that was cut off has left it: its learner goes with it.
                        Some(learner) => Seat::Vacant {
                            failed: Some(learner.id),
                        },
                        None => self.vacant(draft, by_url, waiting),
                    };
                }
                self.block(
                    draft,
                    format!("{data_dir} holds a WAL that cannot be read: {error}"),
                    if marker.is_some() && owned {
                        "if the data is lost, say so with --replace and the name of the node: its member is replaced by a new one"
                    } else {
                        "move that data away if it is not needed, or give the node another host"
                    },
                )
            }
            DataDir::Empty | DataDir::NoWal => self.without_data(draft, by_url, waiting),
        }
    }

    /// What to do about a marker that cannot be read. Without one a host that lacks its disk looks like a blank one (Q10).
    fn without_marker(&self) -> &'static str {
        let is_ours = match &self.host.facts.data {
            DataDir::Wal(wal) => {
                wal.cluster_id == self.known.cluster_id && self.view.member(wal.member_id).is_some()
            }
            _ => false,
        };
        match self.host.facts.marker {
            MarkerState::Newer(_) => "use a newer quorate",
            _ if is_ours => {
                "remove /etc/quorate/marker.json on the host: its data is a member's, and it is written anew"
            }
            _ => {
                "restore /etc/quorate/marker.json on the host, and mount its data; without both nobody can tell a missing \
                 disk from a new host"
            }
        }
    }

    fn with_data(&self, draft: &mut Draft, member: MemberId) -> Seat {
        let Some(listed) = self.view.member(member) else {
            // It is started and compared like any other, for the quorum may hang on it.
            let name = &self.host.node.name;
            let is_founder = |generation: &Generation| generation.member_id(name) == Some(member);
            let marker = self.host.marker().map(|marker| &marker.generation);
            let why = match marker {
                Some(of) if of.phase < Phase::Complete && !is_founder(of) => {
                    "a run that replaced it, or let it join, was cut off"
                }
                None if !is_founder(&self.known.generation) => "its marker is lost",
                _ => return Seat::Member(member),
            };
            draft.block(
                Some(name),
                format!("{why}, and no member could say who is one: it may lack its vote"),
                "make a majority of the members reachable and healthy, and plan again",
            );
            return Seat::Member(member);
        };
        if let Some(seat) = self.copied(draft, listed) {
            return seat;
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
        self.copied(draft, listed).unwrap_or(Seat::Vacant {
            failed: Some(member),
        })
    }

    fn without_data(
        &self,
        draft: &mut Draft,
        by_url: Option<&Member>,
        waiting: Option<&Member>,
    ) -> Seat {
        let (host, facts) = (self.host, self.host.facts);
        if let Some(marker) = facts.marker.get() {
            let has_run = marker.member_id.is_some() || marker.generation.phase > Phase::Frozen;
            // What was claimed and never added has nothing to lose.
            let same_place = marker.data_dir == host.layout.data_dir;
            let moved = same_place && marker.filesystem != facts.filesystem.uuid;
            let moved = moved && (has_run || by_url.is_some());
            // Somebody's vote is at stake: missing is not lost until the operator says so (Q10).
            let at_stake = has_run && by_url.is_some_and(|member| !member.is_learner);
            let had_data = at_stake || marker.member_id.is_some_and(|id| self.is_listed(id));
            let blank = self.replace || sabotage::on(Bug::MissingMountIsBlank);
            if (had_data || moved) && !blank {
                return self.block(
                    draft,
                    format!(
                        "{} has no data, though its member has run there: {}",
                        marker.data_dir,
                        if moved {
                            "another file system is mounted there than before"
                        } else {
                            "a disk may not be mounted"
                        }
                    ),
                    "mount it, or put data that was moved by hand back, and plan again; if the data is lost, say so with \
                     --replace and the name of the node",
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
            let here = self.host.node.name.as_str();
            if let Some(other) = self.listing.claimed_by_another(here, member) {
                return self.block(
                    draft,
                    format!(
                        "its address is that of member {}, which is {other}'s: nothing says that its data is lost",
                        member.id
                    ),
                    "give it to this node when the other one's member listens elsewhere; where that member is gone for \
                     ever, take its node out of the cluster file and apply first",
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
            // It may live on at its address, as another node.
            return self.given_up(draft, member.id, None, None);
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
