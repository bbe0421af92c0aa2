//! One `[[node]]`.

use std::net::{IpAddr, Ipv4Addr};

use super::{Paths, etcd, settings, ssh, values};
use crate::desired::diagnostic::Sink;
use crate::desired::file::etcd::Etcd as EtcdTable;
use crate::desired::file::node::Node as Table;
use crate::desired::file::ssh::Ssh as SshTable;
use crate::desired::model::{Advertise, Node};
use crate::desired::read::At;

/// What every node inherits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(crate) etcd_table: Option<&'a EtcdTable>,
    pub(crate) etcd: Option<&'a etcd::Resolved>,
    pub(crate) ssh: Option<&'a SshTable>,
    pub(crate) paths: &'a Paths<'a>,
}

/// Where a node is, as far as that can be read: known even if something else is wrong with it.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) fqdn: Option<String>,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
}

pub(crate) fn endpoints(table: &Table, shared: Shared<'_>) -> Option<Endpoints> {
    // What is wrong here is reported where the node is resolved.
    let sink = &mut Sink::default();
    let (client_port, peer_port) = ports(table, shared, sink);
    Some(Endpoints {
        name: table.name.as_ref()?.value.clone(),
        ip: values::ip(table.ip.as_ref()?, sink)?,
        fqdn: table
            .fqdn
            .as_ref()
            .and_then(|f| values::host_name(f, "bad name", sink)),
        client_port: client_port?,
        peer_port: peer_port?,
    })
}

fn ports(table: &Table, shared: Shared<'_>, sink: &mut Sink) -> (Option<u16>, Option<u16>) {
    let client_port = match (&table.client_port, shared.etcd) {
        (Some(port), _) => values::port(port, sink),
        (None, Some(etcd)) => etcd.client_port,
        (None, None) => Some(2379),
    };
    let peer_port = match (&table.peer_port, shared.etcd) {
        (Some(port), _) => values::port(port, sink),
        (None, Some(etcd)) => etcd.peer_port,
        (None, None) => Some(2380),
    };
    (client_port, peer_port)
}

pub(crate) fn resolve(table: &Table, shared: Shared<'_>, sink: &mut Sink) -> Option<Node> {
    let name = values::require(table.name.as_ref(), "name", &table.header, sink)
        .and_then(|n| values::name(n, sink));
    let ip_at = values::require(table.ip.as_ref(), "ip", &table.header, sink);
    let ip = ip_at.and_then(|ip| values::ip(ip, sink)).filter(|ip| {
        let usable = !ip.is_unspecified() && !ip.is_multicast();
        if let (false, Some(at)) = (usable, ip_at) {
            sink.error("bad address", &at.span)
                .label("not the address of one host")
                .help("where to listen is said by `listen`");
        }
        usable
    });
    let fqdn = table
        .fqdn
        .as_ref()
        .map(|f| values::host_name(f, "bad name", sink));
    if shared.etcd.is_some_and(|e| e.advertise == Advertise::Fqdn) && table.fqdn.is_none() {
        let error = sink
            .error("missing key", &table.header)
            .label("needs `fqdn`");
        if let Some(at) = shared.etcd_table.and_then(|e| e.advertise.as_ref()) {
            error.also(at.span(), "URLs are made of names because of this");
        }
    }
    let (client_port, peer_port) = ports(table, shared, sink);
    same_port(table, shared, client_port, peer_port, sink);
    let listen = listen(table, ip, sink);
    let (data_dir, wal_dir) = directories(table, shared, sink);
    let extra_sans = sans(table, sink);
    let settings = settings::merge(table.settings.as_ref(), shared, sink);
    let ssh = ip.and_then(|ip| ssh::merge(shared.ssh, table.ssh.as_ref(), ip, shared.paths, sink));
    let fqdn = match fqdn {
        None => None,
        Some(checked) => Some(checked?),
    };
    Some(Node {
        name: name?,
        ip: ip?,
        fqdn,
        learner: table.learner.as_ref().is_some_and(|l| l.value),
        client_port: client_port?,
        peer_port: peer_port?,
        listen: listen?,
        data_dir: data_dir?,
        wal_dir: wal_dir?,
        extra_sans: extra_sans?,
        settings: settings?,
        ssh: ssh?,
    })
}

fn same_port(
    table: &Table,
    shared: Shared<'_>,
    client_port: Option<u16>,
    peer_port: Option<u16>,
    sink: &mut Sink,
) {
    let (Some(client), Some(peer)) = (client_port, peer_port) else {
        return;
    };
    if client != peer {
        return;
    }
    let etcd = shared.etcd_table;
    let client_at = table
        .client_port
        .as_ref()
        .or_else(|| etcd.and_then(|e| e.client_port.as_ref()));
    let peer_at = table
        .peer_port
        .as_ref()
        .or_else(|| etcd.and_then(|e| e.peer_port.as_ref()));
    let Some(at) = peer_at.or(client_at) else {
        return;
    };
    let error = sink
        .error("same port twice", &at.span)
        .label(format!("clients and peers both at port {client}"));
    if let (Some(other), Some(_)) = (client_at, peer_at) {
        error.also(&other.span, "the client port");
    }
}

fn listen(table: &Table, ip: Option<IpAddr>, sink: &mut Sink) -> Option<Vec<IpAddr>> {
    let Some(given) = &table.listen else {
        let ip = ip?;
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        return Some(if ip == local {
            vec![ip]
        } else {
            vec![ip, local]
        });
    };
    let mut addresses: Vec<(IpAddr, &At<String>)> = Vec::new();
    let mut good = true;
    for at in given {
        match values::ip(at, sink) {
            None => good = false,
            Some(ip) if ip.is_multicast() => {
                good = false;
                sink.error("bad address", &at.span)
                    .label("not an address of a host");
            }
            Some(ip) => {
                if let Some((_, first)) = addresses.iter().find(|(known, _)| *known == ip) {
                    good = false;
                    sink.error("duplicate address", &at.span)
                        .label("listed twice")
                        .also(&first.span, "first here");
                }
                addresses.push((ip, at));
            }
        }
    }
    if let Some((any, at)) = addresses.iter().find(|(ip, _)| ip.is_unspecified()) {
        if let Some((_, other)) = addresses
            .iter()
            .find(|(ip, _)| !ip.is_unspecified() && ip.is_ipv4() == any.is_ipv4())
        {
            good = false;
            sink.error("overlapping addresses", &other.span)
                .label("etcd could not listen on it")
                .also(&at.span, "this covers every address already");
        }
    } else if let Some(ip) = ip.filter(|_| good) {
        if addresses.is_empty() {
            sink.error("bad address list", &table.header)
                .label("`listen` is empty");
            good = false;
        } else if !addresses.iter().any(|(a, _)| *a == ip) {
            sink.warning("advertised address not listened on", &addresses[0].1.span)
                .label(format!("clients are told {ip}, which is not in `listen`"));
        }
    }
    good.then(|| addresses.into_iter().map(|(ip, _)| ip).collect())
}

/// Data and WAL directory; the inner `None` of the second means none of its own.
fn directories(
    table: &Table,
    shared: Shared<'_>,
    sink: &mut Sink,
) -> (Option<String>, Option<Option<String>>) {
    let shared_data = shared.etcd_table.and_then(|e| e.data_dir.as_ref());
    let data_at = table.data_dir.as_ref().or(shared_data);
    let data_dir = match (&table.data_dir, shared.etcd) {
        (Some(dir), _) => values::host_dir(dir, "bad data directory", sink),
        (None, Some(etcd)) => etcd.data_dir.clone(),
        (None, None) => Some(etcd::default_data_dir(None).to_owned()),
    };
    let Some(wal_at) = table
        .wal_dir
        .as_ref()
        .or_else(|| shared.etcd_table.and_then(|e| e.wal_dir.as_ref()))
    else {
        return (data_dir, Some(None));
    };
    let Some(wal_dir) = values::host_dir(wal_at, "bad WAL directory", sink) else {
        return (data_dir, None);
    };
    if let Some(data) = &data_dir {
        let problem = if wal_dir == *data {
            Some("the same as the data directory")
        } else if values::is_or_in(&wal_dir, &format!("{data}/member")) {
            Some("inside `member` of the data directory, which etcd owns")
        } else if values::is_or_in(data, &wal_dir) {
            Some("the data directory is inside it")
        } else {
            None
        };
        if let Some(problem) = problem {
            let error = sink.error("bad WAL directory", &wal_at.span).label(problem);
            if let Some(at) = data_at {
                error.also(&at.span, "the data directory");
            }
            return (data_dir, None);
        }
    }
    (data_dir, Some(Some(wal_dir)))
}

fn sans(table: &Table, sink: &mut Sink) -> Option<Vec<String>> {
    let mut good = true;
    let mut sans = Vec::new();
    for at in table.extra_sans.iter().flatten() {
        // A wildcard stands for one label, at the front.
        let name = at.value.strip_prefix("*.").unwrap_or(&at.value);
        let fits = at.value.parse::<IpAddr>().is_ok() || values::is_host_name(name);
        if fits {
            sans.push(at.value.clone());
        } else {
            good = false;
            sink.error("bad name", &at.span)
                .label("expected a host name or an address");
        }
    }
    sans.sort();
    sans.dedup();
    good.then_some(sans)
}
