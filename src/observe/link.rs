//! One host of a fleet: how it is reached, and where its member is asked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::Mutex;

use crate::desired::model::{Desired, Node};
use crate::observed::HostFacts;
use crate::remote::{EtcdClient, Host};
use crate::runtime::{self, Layout};

/// One host: how it is reached, and what is connected.
pub(super) struct Link {
    /// Where its member may serve clients, the likeliest first: what the file says, and what the running process was
    /// started with, which may be of an older file.
    clients: RwLock<Vec<ClientUrl>>,
    pub(super) node: Node,
    pub(super) layout: Layout,
    pub(super) host: Mutex<Option<Host>>,
    /// Held by whoever asks.
    pub(super) etcd: Arc<Mutex<Option<EtcdClient>>>,
}

/// A client URL, and what to dial for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientUrl {
    pub(super) url: String,
    pub(super) dial: (String, u16),
}

impl Link {
    pub(super) fn new(desired: &Desired, node: Node, named: bool) -> Self {
        let layout = runtime::layout(desired, &node);
        let client = named.then(|| ClientUrl {
            url: layout.client_url.clone(),
            dial: (node.ip.to_string(), node.client_port),
        });
        Self {
            clients: RwLock::new(client.into_iter().collect()),
            layout,
            node,
            host: Mutex::new(None),
            etcd: Arc::default(),
        }
    }

    /// Drops a connection that has ended, and what went over it.
    pub(super) async fn forget_closed(&self) {
        let mut host = self.host.lock().await;
        if host.as_ref().is_some_and(Host::is_closed) {
            *host = None;
            *self.etcd.lock().await = None;
        }
    }

    fn clients(&self) -> RwLockReadGuard<'_, Vec<ClientUrl>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn client(&self) -> Option<ClientUrl> {
        self.clients().first().cloned()
    }

    pub(super) fn choices(&self) -> usize {
        self.clients().len()
    }

    /// The next choice, where there is one: while an address changes, either may be the one.
    pub(super) fn try_another(&self) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if clients.len() > 1 {
            clients.rotate_left(1);
        }
    }

    /// Learns where the running process serves clients; whether that is news.
    pub(super) fn learn(&self, facts: &HostFacts) -> bool {
        let Some(running) = facts
            .unit
            .environment
            .as_ref()
            .and_then(|environment| serves(environment, self.node.ip))
        else {
            return false;
        };
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if clients.contains(&running) {
            return false;
        }
        clients.insert(0, running);
        true
    }
}

/// The client URL that a process with this environment advertises, and where it is dialed on its own host, which the file
/// knows by an address: there is where it listens, while an address that only others reach, or that the host has no
/// longer, may swallow what is sent to it.
fn serves(environment: &BTreeMap<String, String>, known: IpAddr) -> Option<ClientUrl> {
    let advertised = environment.get("ETCD_ADVERTISE_CLIENT_URLS")?;
    let url = advertised.split(',').next()?;
    let scheme = url.split_once("://")?.0;
    let advertised = host_and_port(url)?;
    let listens: Vec<(String, u16)> = environment
        .get("ETCD_LISTEN_CLIENT_URLS")
        .into_iter()
        .flat_map(|urls| urls.split(','))
        .filter(|listens| {
            listens
                .split_once("://")
                .is_some_and(|(own, _)| own == scheme)
        })
        .filter_map(host_and_port)
        .map(|(host, port)| match host.as_str() {
            "0.0.0.0" => ("127.0.0.1".into(), port),
            "::" => ("::1".into(), port),
            _ => (host, port),
        })
        .collect();
    let address = |(host, _): &(String, u16)| host.parse::<IpAddr>().ok();
    let is_known = |listens: &(String, u16)| address(listens) == Some(known);
    let is_local = |listens: &(String, u16)| address(listens).is_some_and(|ip| ip.is_loopback());
    let mut same_port: Vec<&(String, u16)> = listens.iter().collect();
    same_port.retain(|(_, port)| *port == advertised.1);
    let find = |is: &dyn Fn(&(String, u16)) -> bool| same_port.iter().find(|listens| is(listens));
    let there = find(&is_known)
        .or_else(|| find(&is_local))
        .or_else(|| find(&|listens| *listens == advertised))
        .or_else(|| same_port.first())
        .copied()
        .or_else(|| listens.first());
    Some(ClientUrl {
        url: url.to_owned(),
        dial: there.cloned().unwrap_or(advertised),
    })
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (_, address) = url.split_once("://")?;
    let (host, port) = address.trim_end_matches('/').rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_dialed_where_it_listens() {
        let dial = |advertised: &str, listens: &str| {
            let variables = [
                ("ETCD_ADVERTISE_CLIENT_URLS", advertised),
                ("ETCD_LISTEN_CLIENT_URLS", listens),
            ];
            let variables = variables.map(|(name, urls)| (name.to_owned(), urls.to_owned()));
            let served = serves(&variables.into(), [10, 0, 0, 9].into()).unwrap();
            format!("{} {}", served.dial.0, served.dial.1)
        };
        let public = "https://203.0.113.9:2379";
        for (listens, expected) in [
            ("https://0.0.0.0:2379", "127.0.0.1 2379"),
            ("https://[::]:2379", "::1 2379"),
            (
                "https://127.0.0.1:2379,https://10.0.0.1:2379",
                "127.0.0.1 2379",
            ),
            (
                "http://127.0.0.1:2378,https://10.0.0.1:2379",
                "10.0.0.1 2379",
            ),
            (
                "https://127.0.0.1:2378,https://10.0.0.1:2379",
                "10.0.0.1 2379",
            ),
            (
                "https://203.0.113.9:2379,https://127.0.0.1:2379",
                "127.0.0.1 2379",
            ),
            (
                "https://127.0.0.1:2379,https://10.0.0.9:2379",
                "10.0.0.9 2379",
            ),
            (
                "https://10.0.0.1:2379,https://203.0.113.9:2379",
                "203.0.113.9 2379",
            ),
            ("https://10.0.0.1:2400", "10.0.0.1 2400"),
            ("", "203.0.113.9 2379"),
        ] {
            assert_eq!(dial(public, listens), expected, "{listens}");
        }
    }
}
