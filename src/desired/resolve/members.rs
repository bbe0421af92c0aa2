//! All nodes together: how many there are, and that none stands in another's way.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::node::{self, Endpoints, Shared};
use super::{Paths, etcd, settings};
use crate::desired::diagnostic::Sink;
use crate::desired::file::Tables;
use crate::desired::file::etcd::Etcd as EtcdTable;
use crate::desired::file::node::Node as Table;
use crate::desired::file::ssh::Ssh as SshTable;
use crate::desired::model::{Advertise, Node, VersionSpec};
use crate::desired::read::{At, Span};

pub(crate) fn resolve(
    tables: &Tables,
    etcd_table: Option<&EtcdTable>,
    etcd: Option<&etcd::Resolved>,
    ssh: Option<&SshTable>,
    paths: &Paths<'_>,
    sink: &mut Sink,
) -> Option<Vec<Node>> {
    let shared = Shared {
        etcd_table,
        etcd,
        ssh,
        paths,
    };
    let count = tables.nodes.len();
    if count == 0 {
        sink.error("missing table", &(0..0))
            .detail("the file has no [[node]], so there is no member to have")
            .help("add\n[[node]]\nname = \"etcd-1\"\nip = \"10.0.0.1\"");
        return None;
    }
    // Once without any node's own, which may hide what is wrong with the cluster's.
    settings::merge(None, shared, sink);
    let read: Vec<&Table> = tables.nodes.iter().flatten().collect();
    let resolved: Vec<Option<Node>> = read
        .iter()
        .map(|t| node::resolve(t, shared, sink))
        .collect();
    // Errors in what all nodes share are repeated by each of them, and then dropped as repetitions.
    let places: Vec<(&Table, Endpoints)> = read
        .iter()
        .filter_map(|t| Some((*t, node::endpoints(t, shared)?)))
        .collect();

    duplicate_names(&read, sink);
    let advertise = etcd.map_or(Advertise::Ip, |e| e.advertise);
    duplicate_endpoints(&places, advertise, sink);
    sizes(&read, count, sink);
    learners(&read, count, etcd, sink);

    let mut nodes: Vec<Node> = resolved.into_iter().collect::<Option<_>>()?;
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    (nodes.len() == count).then_some(nodes)
}

fn duplicate_names(read: &[&Table], sink: &mut Sink) {
    let mut first: BTreeMap<&str, &At<String>> = BTreeMap::new();
    for name in read.iter().filter_map(|t| t.name.as_ref()) {
        match first.get(name.value.as_str()) {
            None => {
                first.insert(&name.value, name);
            }
            Some(other) => {
                sink.error("duplicate name", &name.span)
                    .label("two nodes have this name")
                    .also(&other.span, "first here");
            }
        }
    }
}

/// No two members may have the same URL, and none may listen where another does.
fn duplicate_endpoints(places: &[(&Table, Endpoints)], advertise: Advertise, sink: &mut Sink) {
    let mut by_address: BTreeMap<(IpAddr, u16), (&str, Span)> = BTreeMap::new();
    let mut by_name: BTreeMap<(String, u16), (&str, Span)> = BTreeMap::new();
    let mut by_ip: BTreeMap<IpAddr, (&str, Span)> = BTreeMap::new();
    for (table, node) in places {
        let Some(ip_span) = table.ip.as_ref().map(|ip| ip.span.clone()) else {
            continue;
        };
        let mut clash = false;
        for (port, what) in [(node.client_port, "client"), (node.peer_port, "peer")] {
            let key = (node.ip, port);
            match by_address.get(&key) {
                Some((other, span)) if *other != node.name || *span != ip_span => {
                    if !clash {
                        sink.error("duplicate address", &ip_span)
                            .label(format!(
                                "{what} port {port} of {} is taken by `{other}`",
                                node.ip
                            ))
                            .also(span, format!("`{other}`"));
                    }
                    clash = true;
                }
                Some(_) => {}
                None => {
                    by_address.insert(key, (&node.name, ip_span.clone()));
                }
            }
        }
        if !clash {
            match by_ip.get(&node.ip) {
                Some((other, span)) => {
                    sink.warning("two members on one host", &ip_span)
                        .label(format!("`{other}` is there too: one failure takes both"))
                        .also(span, format!("`{other}`"));
                }
                None => {
                    by_ip.insert(node.ip, (&node.name, ip_span.clone()));
                }
            }
        }
        let Some((fqdn, at)) = node.fqdn.as_ref().zip(table.fqdn.as_ref()) else {
            continue;
        };
        for port in [node.client_port, node.peer_port] {
            let key = (fqdn.clone(), port);
            if let Some((other, span)) = by_name.get(&key) {
                let (summary, label) = match advertise {
                    Advertise::Fqdn => (
                        "duplicate URL",
                        format!("`{other}` is advertised by the same URL"),
                    ),
                    Advertise::Ip => ("duplicate name", format!("`{other}` has the same name")),
                };
                sink.error(summary, &at.span)
                    .label(label)
                    .also(span, format!("`{other}`"));
                break;
            }
        }
        for port in [node.client_port, node.peer_port] {
            by_name
                .entry((fqdn.clone(), port))
                .or_insert((&node.name, at.span.clone()));
        }
    }
}

fn is_learner(table: &Table) -> bool {
    table.learner.as_ref().is_some_and(|l| l.value)
}

/// Only voters count for quorum.
fn sizes(read: &[&Table], count: usize, sink: &mut Sink) {
    let voters = count - read.iter().filter(|t| is_learner(t)).count();
    let Some(last) = read.last() else { return };
    let span = last.name.as_ref().map_or(&last.header, |n| &n.span);
    let tolerates = |n: usize| n.saturating_sub(1) / 2;
    match voters {
        0 => {
            sink.error("no voter", span)
                .label("every node is a learner")
                .help("a cluster needs at least one node without `learner = true`");
        }
        1 => {
            sink.warning("single member", span)
                .label("tolerates no failure, and is interrupted by every restart")
                .help("3, 5 or 7 voters are recommended");
        }
        n if n > 7 => {
            sink.warning("large cluster", span)
                .label(format!(
                    "{n} voters: every write waits for {} of them",
                    n / 2 + 1
                ))
                .help("3, 5 or 7 voters are recommended; further copies can be learners");
        }
        n if n % 2 == 0 => {
            sink.warning("even number of voters", span)
                .label(format!(
                    "{n} voters tolerate {} failures, no more than {} do",
                    tolerates(n),
                    n - 1
                ))
                .help("3, 5 or 7 voters are recommended");
        }
        _ => {}
    }
}

/// 3.4 and 3.5 hard-code one learner; from 3.6 on `max-learners` says how many, by default one.
fn learners(read: &[&Table], count: usize, etcd: Option<&etcd::Resolved>, sink: &mut Sink) {
    let learners: Vec<&At<bool>> = read
        .iter()
        .filter_map(|t| t.learner.as_ref())
        .filter(|l| l.value)
        .collect();
    if learners.len() < 2 || count == learners.len() {
        return;
    }
    let Some(etcd) = etcd else { return };
    let configurable = match &etcd.version {
        Some(VersionSpec::Exact(version)) => version.minor >= 6,
        _ => return,
    };
    let allowed = if configurable { etcd.max_learners } else { 1 };
    if learners.len() as u64 > allowed {
        let error = sink
            .error("too many learners", &learners[1].span)
            .label(format!("this version allows {allowed} at a time"))
            .also(&learners[0].span, "the first");
        if configurable {
            error.help("set `max-learners` in [etcd.settings]");
        }
    }
}
