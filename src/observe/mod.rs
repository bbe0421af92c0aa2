//! Observing: one session, one probe and one etcd channel per host, all hosts in parallel.

pub mod answer;
mod asking;
pub mod fleet;
mod link;
mod memory;
pub mod operator;
pub mod probe;
pub mod shell;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use fleet::Fleet;
pub use operator::Operator;

use crate::desired::model::{Node, Ssh};
use crate::observed::marker::Marker;
use crate::observed::{EtcdState, HostState, Observed, OperatorFacts, former};

/// Observes the hosts of the file and those that only markers know, and the operator's own side.
pub async fn observe(fleet: &Arc<Fleet>, operator: &Operator) -> Observed {
    let authority = operator.authority_facts().map(Arc::new);
    let mut observed = Observed {
        hosts: fleet
            .observe(&fleet.names().await, authority.as_ref())
            .await,
        ..Observed::default()
    };
    let strangers = strangers(&observed, operator);
    if !strangers.is_empty() {
        let mut names = BTreeSet::new();
        for (name, like, ssh) in strangers {
            fleet.add(&name, like, ssh).await;
            names.insert(name);
        }
        let found = fleet.observe(&names, authority.as_ref()).await;
        for name in observed.take_in(operator.desired(), found) {
            fleet.remove(&name).await;
        }
    }
    // Some were asked later than others: who leads a busy cluster and is asked last seems far ahead of all.
    for (name, state) in fleet.ask_all().await {
        if let (Some(HostState::Known(facts)), EtcdState::Answered(_)) =
            (observed.hosts.get_mut(&name), &state)
        {
            facts.etcd = state;
        }
    }
    let arches: BTreeSet<String> = observed
        .known()
        .map(|(_, facts)| facts.arch.clone())
        .collect();
    observed.operator = OperatorFacts {
        archives: operator.archives(&arches).await,
        authority: authority.map(Arc::unwrap_or_clone),
    };
    observed
}

/// Hosts that the newest markers name and the file does not: nodes that it has no more, and the former hosts of nodes
/// that it has elsewhere now, as `NAME@ADDRESS`. Each comes with the node of the file that it is most like.
fn strangers<'a>(observed: &Observed, operator: &'a Operator) -> Vec<(String, &'a Node, Ssh)> {
    let desired = operator.desired();
    let Some(first) = desired.nodes.first() else {
        return Vec::new();
    };
    let cluster = &desired.cluster;
    let Some(generation) = observed.generation(&cluster.name, &cluster.token) else {
        return Vec::new();
    };
    let ours = |marker: &&Marker| {
        marker.cluster == cluster.name && marker.generation.nonce == generation.nonce
    };
    let addresses: BTreeSet<(&str, Option<u16>)> = desired
        .nodes
        .iter()
        .map(|node| (node.ssh.host.as_str(), node.ssh.port))
        .collect();
    let mut found: Vec<(String, &Node, Ssh)> = Vec::new();
    for marker in observed
        .known()
        .filter_map(|(_, facts)| facts.marker.get())
        .filter(ours)
    {
        for (name, address) in &marker.addresses {
            if addresses.contains(&(address.host.as_str(), address.port)) {
                continue;
            }
            let (name, like) = match desired.nodes.iter().find(|node| node.name == *name) {
                None => (name.clone(), first),
                Some(node) => (former(name, &address.host), node),
            };
            let known = observed.hosts.contains_key(&name);
            if known || found.iter().any(|(other, ..)| *other == name) {
                continue;
            }
            let ssh = Ssh {
                host: address.host.clone(),
                port: address.port,
                user: address.user.clone(),
                ..like.ssh.clone()
            };
            found.push((name, like, ssh));
        }
    }
    found
}
