//! Members, nodes and hosts, to be looked up: whose a member is, and whether anybody knows it.

use std::collections::BTreeMap;

use super::Inputs;
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::etcd::{ClusterView, Member};
use crate::observed::host::DataDir;
use crate::observed::marker::Marker;
use crate::runtime;

/// Members and nodes, to be looked up.
pub(super) struct Listing<'a> {
    /// Members by peer URL, which is unique.
    pub by_url: BTreeMap<&'a str, &'a Member>,
    pub by_name: BTreeMap<&'a str, &'a Member>,
    /// Nodes of the file by the peer URL that they are to have.
    nodes: BTreeMap<String, &'a str>,
    /// Nodes whose hosts hold the data of a member.
    holders: BTreeMap<MemberId, Vec<&'a str>>,
}

impl<'a> Listing<'a> {
    pub fn of(inputs: &Inputs<'a>, view: &'a ClusterView) -> Self {
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
    pub fn member_of(&self, node: &str, peer_url: &str) -> Option<&'a Member> {
        let by_url = self.by_url.get(peer_url);
        by_url.or_else(|| self.by_name.get(node)).copied()
    }

    /// Another node than this one that the member belongs to, or whose host holds its data as well: a disk or a virtual
    /// machine that was copied.
    pub fn also_of(&self, here: &str, member: &Member) -> Option<&'a str> {
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
pub(super) fn is_known(inputs: &Inputs<'_>, member: &Member, cluster: ClusterId) -> bool {
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
