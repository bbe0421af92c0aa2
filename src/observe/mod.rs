//! Observing: one session, one probe and one etcd channel per host, all hosts in parallel.

pub mod answer;
pub mod fleet;
mod memory;
pub mod operator;
pub mod probe;
pub mod shell;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use fleet::Fleet;
pub use operator::Operator;

use crate::desired::model::Ssh;
use crate::observed::{HostState, Observed, OperatorFacts};

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
        for (name, ssh) in strangers {
            fleet.add(&name, ssh).await;
            names.insert(name);
        }
        observed
            .hosts
            .extend(fleet.observe(&names, authority.as_ref()).await);
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

/// Nodes that the newest markers name and the file does not.
fn strangers(observed: &Observed, operator: &Operator) -> Vec<(String, Ssh)> {
    let Some(first) = operator.desired().nodes.first() else {
        return Vec::new();
    };
    let cluster = &operator.desired().cluster;
    let Some(generation) = observed.generation(&cluster.name, &cluster.token) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for state in observed.hosts.values() {
        let HostState::Known(facts) = state else {
            continue;
        };
        let Some(marker) = facts.marker.get() else {
            continue;
        };
        if marker.cluster != cluster.name || marker.generation.nonce != generation.nonce {
            continue;
        }
        for (name, address) in &marker.addresses {
            let known = observed.hosts.contains_key(name)
                || operator
                    .desired()
                    .nodes
                    .iter()
                    .any(|node| node.ssh.host == address.host)
                || found.iter().any(|(other, _)| other == name);
            if !known {
                let ssh = Ssh {
                    host: address.host.clone(),
                    port: address.port,
                    user: address.user.clone(),
                    ..first.ssh.clone()
                };
                found.push((name.clone(), ssh));
            }
        }
    }
    found
}
