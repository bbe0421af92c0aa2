//! Membership against the cluster file. What differs is said, and nothing of it is touched yet.

use std::collections::BTreeSet;

use super::{Draft, Inputs};
use crate::observed::etcd::ClusterView;
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
    for member in &view.members {
        let wanted = inputs.desired.nodes.iter().any(|node| {
            node.name == member.name
                || member
                    .peer_urls
                    .contains(&runtime::layout(inputs.desired, node).peer_url)
        });
        if !wanted {
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
    for node in &inputs.desired.nodes {
        let layout = runtime::layout(inputs.desired, node);
        let member = view
            .members
            .iter()
            .find(|member| member.name == node.name || member.peer_urls.contains(&layout.peer_url));
        match member {
            None => draft.block(
                Some(&node.name),
                "it is not a member of the cluster yet",
                remedy,
            ),
            Some(member) if member.peer_urls != [layout.peer_url.clone()] => draft.block(
                Some(&node.name),
                format!(
                    "its peer URL is {}, the cluster file asks for {}",
                    member.peer_urls.join(","),
                    layout.peer_url
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
