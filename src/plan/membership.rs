//! Membership against the cluster file. What differs is said, and nothing of it is touched yet.

use std::collections::{BTreeMap, BTreeSet};

use super::{Draft, Inputs};
use crate::desired::model::Node;
use crate::observed::etcd::{ClusterView, Member};
use crate::runtime;

/// Where membership and file do not agree.
#[derive(Default)]
pub(super) struct Standing {
    /// Nodes that are no members, or are members at another peer URL: nothing is done on them.
    pub off: BTreeSet<String>,
    /// Members that the file does not name.
    pub strangers: bool,
}

/// Membership that the file does not ask for is not touched yet, and said.
pub(super) fn membership(inputs: &Inputs<'_>, draft: &mut Draft, view: &ClusterView) -> Standing {
    let mut standing = Standing::default();
    if view.members.is_empty() {
        return standing;
    }
    let remedy = "this version does not change the membership of a living cluster: use etcdctl, one member at a time";
    let wanted: Vec<(&Node, String)> = inputs
        .desired
        .nodes
        .iter()
        .map(|node| (node, runtime::peer_url(inputs.desired, node)))
        .collect();
    let names: BTreeSet<&str> = wanted.iter().map(|(node, _)| node.name.as_str()).collect();
    let urls: BTreeSet<&str> = wanted.iter().map(|(_, url)| url.as_str()).collect();
    for member in &view.members {
        let is_wanted = names.contains(member.name.as_str())
            || member
                .peer_urls
                .iter()
                .any(|url| urls.contains(url.as_str()));
        if !is_wanted {
            standing.strangers = true;
            draft.block(
                None,
                format!(
                    "member {} ({}, {}) is not in the cluster file",
                    member.id,
                    if member.name.is_empty() {
                        "never started"
                    } else {
                        &member.name
                    },
                    member.peer_urls.join(",")
                ),
                remedy,
            );
        }
    }
    let mut by_name: BTreeMap<&str, &Member> = BTreeMap::new();
    let mut by_url: BTreeMap<&str, &Member> = BTreeMap::new();
    for member in &view.members {
        by_name.entry(&member.name).or_insert(member);
        for url in &member.peer_urls {
            by_url.entry(url).or_insert(member);
        }
    }
    for (node, peer_url) in &wanted {
        let member = by_name
            .get(node.name.as_str())
            .or_else(|| by_url.get(peer_url.as_str()));
        match member {
            None => draft.block(
                Some(&node.name),
                "it is not a member of the cluster yet",
                remedy,
            ),
            Some(member) if member.peer_urls != [peer_url.clone()] => draft.block(
                Some(&node.name),
                format!(
                    "its peer URL is {}, the cluster file asks for {}",
                    member.peer_urls.join(","),
                    peer_url
                ),
                remedy,
            ),
            Some(_) => continue,
        }
        standing.off.insert(node.name.clone());
    }
    for alarm in &view.alarms {
        draft
            .warnings
            .push(format!("member {} raises {}", alarm.member_id, alarm.kind));
    }
    standing
}
