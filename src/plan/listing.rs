//! Members, nodes and hosts, to be looked up: whose a member is, and whether anybody knows it.

use std::collections::{BTreeMap, BTreeSet};

use super::Inputs;
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::etcd::{ClusterView, Member};
use crate::observed::host::DataDir;
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

    /// The node of the file that a member belongs to: by peer URL, else by name.
    pub fn owner_of(&self, member: &Member) -> Option<&'a str> {
        let mut urls = member.peer_urls.iter();
        let owner = urls.find_map(|url| self.nodes.get(url).copied());
        owner.or_else(|| {
            let mut nodes = self.nodes.values().copied();
            nodes.find(|node| *node == member.name)
        })
    }

    /// Another host than this one that holds a member's data: a disk or a virtual machine that was copied.
    pub fn also_on(&self, here: &str, member: &Member) -> Option<&'a str> {
        let mut holders = self.holders.get(&member.id).into_iter().flatten().copied();
        holders.find(|node| *node != here)
    }

    /// Another node than this one that bears the member's name, or whose host holds its data: its address alone gives
    /// nobody up (Q9).
    pub fn claimed_by_another(&self, here: &str, member: &Member) -> Option<&'a str> {
        let mut nodes = self.nodes.values().copied();
        let namesake = nodes.find(|node| *node == member.name && *node != here);
        let owner = || self.owner_of(member).filter(|node| *node != here);
        let holder = || self.also_on(here, member);
        namesake.or_else(owner).or_else(holder)
    }
}

/// What the markers of this cluster know of its members: one that nobody knows is never removed (Q6).
pub(super) struct Acquainted<'a> {
    ids: BTreeSet<MemberId>,
    urls: BTreeSet<&'a str>,
    /// Of nodes that the file does not name any more. A name of the file says nothing: anybody can give it to a member.
    names: BTreeSet<&'a str>,
}

impl<'a> Acquainted<'a> {
    pub fn of(inputs: &Inputs<'a>, cluster: ClusterId) -> Self {
        let mut known = Self {
            ids: BTreeSet::new(),
            urls: BTreeSet::new(),
            names: BTreeSet::new(),
        };
        let mut tables = BTreeSet::new();
        let markers = inputs
            .observed
            .known()
            .filter_map(|(_, facts)| facts.marker.get());
        for marker in markers.filter(|marker| marker.cluster == inputs.desired.cluster.name) {
            known.ids.extend(marker.member_id);
            known.urls.extend(marker.peer_url.as_deref());
            if marker.cluster_id != Some(cluster) || !tables.insert(marker.addresses.digest()) {
                continue;
            }
            for (name, address) in &marker.addresses {
                known.names.insert(name);
                known.urls.extend(address.peer_url.as_deref());
            }
        }
        for node in &inputs.desired.nodes {
            known.names.remove(node.name.as_str());
        }
        known
    }

    pub fn with(&self, member: &Member) -> bool {
        let mut urls = member.peer_urls.iter();
        self.ids.contains(&member.id)
            || urls.any(|url| self.urls.contains(url.as_str()))
            || (!member.name.is_empty() && self.names.contains(member.name.as_str()))
    }
}
