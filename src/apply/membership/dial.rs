//! Whether the others can open a connection to where a member listens for its peers.

use std::time::Duration;

use tokio::time::Instant;

use super::AGAIN;
use crate::apply::perform::Context;
use crate::etcd::id::MemberId;
use crate::observed::etcd::ClusterView;
use crate::remote::TunnelError;
use crate::safety;

/// Time for a member to listen at a new address.
const DIALABLE: Duration = Duration::from_secs(20);
/// Time for one connection from host to host.
const DIAL: Duration = Duration::from_secs(3);

/// Waits until the host of every other member can open a connection to where a member listens for its peers.
pub(in crate::apply) async fn await_dialable(
    context: &Context,
    member: MemberId,
    urls: &[String],
) -> Result<(), String> {
    let deadline = Instant::now() + DIALABLE;
    loop {
        let last = match undialable(context, member, urls).await {
            None => return Ok(()),
            Some(why) => why,
        };
        if Instant::now() >= deadline {
            return Err(format!(
                "{last}: every member has to reach every other, by the address that the cluster file gives it"
            ));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn undialable(context: &Context, member: MemberId, urls: &[String]) -> Option<String> {
    let view = context.fleet.look().await;
    let others: Vec<&String> = view
        .statuses
        .iter()
        .filter(|(id, _)| **id != member)
        .map(|(_, (node, _))| node)
        .collect();
    if too_few(&view, others.len()) {
        return Some("too few members answer to say whether they reach it".into());
    }
    for node in others {
        let Ok(host) = context.fleet.host(node).await else {
            continue;
        };
        for (address, port) in urls.iter().filter_map(|url| dial(url)) {
            match tokio::time::timeout(DIAL, host.tunnel(&address, port)).await {
                // Where sshd forwards nothing, nobody can say.
                Ok(Ok(_) | Err(TunnelError::Prohibited { .. })) => {}
                Ok(Err(error)) => return Some(error.to_string()),
                Err(_) => return Some(format!("{node} cannot reach {address}:{port}")),
            }
        }
    }
    None
}

/// Whether so many others are no quorum even with the member.
fn too_few(view: &ClusterView, others: usize) -> bool {
    view.members.is_empty() || others + 1 < safety::quorum(view.voters().count())
}

/// Host and port of a URL.
fn dial(url: &str) -> Option<(String, u16)> {
    let (host, port) = url.split_once("://")?.1.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.trim_end_matches('/').parse().ok()?))
}
