//! Hosts that bear what is another cluster's, or another host's as well.

use super::Draft;
use super::membership::Seat;
use super::seats::Seating;
use crate::observed::etcd::Member;
use crate::observed::host::DataDir;
use crate::observed::marker::Marker;

impl Seating<'_> {
    /// A marker of another cluster: its host is not taken (Q8).
    pub(super) fn another_cluster(&self, draft: &mut Draft, marker: &Marker) -> Option<Seat> {
        let ours = &self.host.desired.cluster.name;
        let (reason, remedy) = if marker.cluster != *ours {
            (
                format!("the host belongs to cluster {}", marker.cluster),
                "finish an interrupted destroy of that cluster with its own file, or give the node another host",
            )
        } else if marker.generation.nonce != self.known.generation.nonce {
            (
                format!(
                    "the host belongs to another generation of {ours}, bootstrapped with token {}",
                    marker.generation.token
                ),
                // With any file that names more, a destroy takes the cluster that lives.
                "take what is left there away by `quorate destroy` with a cluster file that names this node alone (and \
                 that token), or give the node another host",
            )
        } else {
            return None;
        };
        Some(self.block(draft, reason, remedy))
    }

    /// Blocks where the member belongs to another node, or its data is on another host as well.
    pub(super) fn copied(&self, draft: &mut Draft, member: &Member) -> Option<Seat> {
        let here = self.host.node.name.as_str();
        let owner = self.listing.owner_of(member);
        let is_here = matches!(&self.host.facts.data, DataDir::Wal(wal) if wal.member_id == member.id)
            && !self.lacks_the_rest();
        let data_dir = &self.host.layout.data_dir;
        let id = member.id;
        let (reason, remedy) = if let Some(other) = owner.filter(|node| *node != here) {
            (
                format!(
                    "{data_dir} or its marker is that of member {id}, which is {other}'s: it was copied, or two nodes \
                     change places"
                ),
                "two members with one identity ruin the cluster: stop etcd on the copy and remove its data and \
                 /etc/quorate; let one node change its address at a time"
                    .to_owned(),
            )
        } else {
            let other = self.listing.also_on(here, member)?;
            // The name alone says nothing of who is the copy: a backup has it as well.
            let answers_from = self.view.statuses.get(&id).map(|(node, _)| node.as_str());
            let url = &self.host.layout.peer_url;
            let is_original = member.peer_urls.contains(url) || answers_from == Some(here);
            match (is_here, is_original) {
                (true, true) => (
                    format!("the data of its member {id} is on {other}'s host as well: it was copied"),
                    format!(
                        "two members with one identity ruin the cluster: stop etcd on {other} and remove the data and \
                         /etc/quorate there, not here"
                    ),
                ),
                (true, false) => (
                    format!("the data of its member {id} is on {other}'s host as well: one of them was copied"),
                    "two members with one identity ruin the cluster: stop etcd on the copy and remove its data and \
                     /etc/quorate"
                        .to_owned(),
                ),
                (false, _) => (
                    format!("the data of its member {id} is not here, but on {other}'s host"),
                    "put the disk back where it belongs; where that is a copy, stop etcd on it and remove its data and \
                     /etc/quorate"
                        .to_owned(),
                ),
            }
        };
        Some(self.block(draft, reason, &remedy))
    }
}
