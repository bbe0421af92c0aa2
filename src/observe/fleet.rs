//! The connected hosts of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;

use super::answer;
use super::memory::Memory;
use super::probe::ProbeSpec;
use crate::desired::model::{Desired, Node, Ssh, TlsMode};
use crate::observed::certificate::CaFacts;
use crate::observed::data;
use crate::observed::etcd::{ClusterView, EtcdAnswer, EtcdState};
use crate::observed::host::HostUnknown;
use crate::observed::{HostFacts, HostState};
use crate::remote::{
    ConnectError, EtcdClient, EtcdEndpoint, EtcdErrorKind, EtcdTls, Host, Policy, RemoteError,
    Target, TunnelError, connect,
};
use crate::runtime::{self, Layout};
use crate::secret::SecretSource;

/// Time for a probe to answer.
const PROBE: Duration = Duration::from_secs(60);
/// Time for a member to answer all that it is asked.
const ASK: Duration = Duration::from_secs(8);
/// Time for a look at all members: one that hangs must not hide the others.
const LOOK: Duration = Duration::from_millis(1500);

/// Hosts under one desired state. Connections are made when they are first needed and then kept.
pub struct Fleet {
    desired: Arc<Desired>,
    policy: Policy,
    secrets: Arc<dyn SecretSource>,
    /// Certificates for talking to members; none under plain HTTP, or before there is an authority.
    tls: RwLock<Option<EtcdTls>>,
    memory: Memory,
    limit: Arc<Semaphore>,
    links: Mutex<BTreeMap<String, Arc<Link>>>,
}

/// One host: how it is reached, and what is connected.
struct Link {
    /// Where its member may serve clients, the likeliest first: what the file says, and what the running process was
    /// started with, which may be of an older file.
    clients: RwLock<Vec<ClientUrl>>,
    node: Node,
    layout: Layout,
    host: Mutex<Option<Host>>,
    etcd: Mutex<Option<EtcdClient>>,
}

/// A client URL, and what to dial for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ClientUrl {
    url: String,
    dial: (String, u16),
}

impl Fleet {
    /// A fleet of the nodes of the file. At most `parallelism` hosts are connected to at a time.
    pub fn new(
        desired: Arc<Desired>,
        secrets: Arc<dyn SecretSource>,
        policy: Policy,
        tls: Option<EtcdTls>,
        cache: PathBuf,
        parallelism: usize,
    ) -> Self {
        let links = desired
            .nodes
            .iter()
            .map(|node| {
                (
                    node.name.clone(),
                    Arc::new(Link::new(&desired, node.clone(), true)),
                )
            })
            .collect();
        Self {
            desired,
            policy,
            secrets,
            tls: RwLock::new(tls),
            memory: Memory::new(cache),
            limit: Arc::new(Semaphore::new(parallelism.max(1))),
            links: Mutex::new(links),
        }
    }

    /// Sets the certificates for talking to members, once there are any.
    pub fn set_tls(&self, tls: Option<EtcdTls>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    fn tls(&self) -> Option<EtcdTls> {
        self.tls
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds a host that only a marker knows of; it is looked at as if it were `like`.
    pub async fn add(&self, name: &str, like: &Node, ssh: Ssh) {
        let node = Node {
            name: name.to_owned(),
            ssh,
            ..like.clone()
        };
        self.links
            .lock()
            .await
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Link::new(&self.desired, node, false)));
    }

    /// Forgets a host that turned out to be another one.
    pub async fn remove(&self, name: &str) {
        self.links.lock().await.remove(name);
    }

    /// Names of the hosts.
    pub async fn names(&self) -> BTreeSet<String> {
        self.links.lock().await.keys().cloned().collect()
    }

    /// The connected host of a node. A connection that has ended stays ended: what is under way was begun under the lock
    /// that went with it.
    pub async fn host(&self, name: &str) -> Result<Host, HostUnknown> {
        self.connected(&*self.link(name).await?).await
    }

    /// The same before anything is begun: where the connection has ended meanwhile, there is a new one.
    pub async fn host_anew(&self, name: &str) -> Result<Host, HostUnknown> {
        let link = self.link(name).await?;
        link.forget_closed().await;
        self.connected(&link).await
    }

    async fn link(&self, name: &str) -> Result<Arc<Link>, HostUnknown> {
        let link = self.links.lock().await.get(name).cloned();
        link.ok_or_else(|| HostUnknown::Probe(format!("no host is known as {name}")))
    }

    async fn connected(&self, link: &Link) -> Result<Host, HostUnknown> {
        let mut host = link.host.lock().await;
        if let Some(host) = &*host {
            return Ok(host.clone());
        }
        let _permit = self.limit.acquire().await;
        let target = Target {
            node: link.node.name.clone(),
            ssh: link.node.ssh.clone(),
        };
        let connected = connect(target, self.secrets.clone(), &self.policy)
            .await
            .map_err(|error| unreachable_host(&link.node.name, error))?;
        *host = Some(connected.clone());
        Ok(connected)
    }

    /// Observes these hosts, all in parallel. Their certificates are checked against the authority.
    pub async fn observe(
        self: &Arc<Self>,
        names: &BTreeSet<String>,
        authority: Option<&Arc<CaFacts>>,
    ) -> BTreeMap<String, HostState> {
        let links: Vec<Arc<Link>> = {
            let all = self.links.lock().await;
            names
                .iter()
                .filter_map(|name| all.get(name).cloned())
                .collect()
        };
        let tasks: Vec<_> = links
            .into_iter()
            .map(|link| {
                let (fleet, authority) = (self.clone(), authority.cloned());
                let name = link.node.name.clone();
                let task = tokio::spawn(async move { fleet.observe_host(&link, authority).await });
                (name, task)
            })
            .collect();
        let mut states = BTreeMap::new();
        for (name, task) in tasks {
            states.insert(name, observed_by(task).await);
        }
        states
    }

    async fn observe_host(
        &self,
        link: &Link,
        authority: Option<Arc<CaFacts>>,
    ) -> Result<HostFacts, HostUnknown> {
        link.forget_closed().await;
        let host = self.connected(link).await?;
        let memory = self.memory.recall(&link.node.ssh);
        let spec = ProbeSpec::new(&self.desired, &link.layout, memory.clone(), authority);
        let script = spec.script();
        let asked = unix_ms();
        // The member is asked while the probe runs: both go over the same session.
        let (output, etcd) =
            tokio::join!(host.script(script.as_bytes(), PROBE), self.ask(link, &host));
        let halfway = i64::midpoint(asked, unix_ms());
        let output = output.map_err(|error| failed_probe(&link.node.name, error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let answer = answer::read(&text, &spec, halfway)?;
        if answer.remembered != memory {
            self.memory.remember(&link.node.ssh, &answer.remembered);
        }
        let (mut facts, mut sightings) = (answer.facts, answer.sightings);
        let environment = facts.unit.environment.as_ref();
        let running = environment.and_then(runtime::place_in);
        let wanted = link.layout.place();
        let places = data::places(running, facts.marker.get(), wanted.clone());
        if let Some(spec) = spec.of_others(&places) {
            let script = spec.script();
            let output = host.script(script.as_bytes(), PROBE).await;
            let output = output.map_err(|error| failed_probe(&link.node.name, error))?;
            let text = String::from_utf8_lossy(&output.stdout);
            sightings.extend(answer::read(&text, &spec, halfway)?.sightings);
            (facts.data, facts.whereabouts) = sightings.locate(&places, &wanted);
        }
        let etcd = match link.learn(&facts) {
            true => self.ask(link, &host).await,
            false => etcd,
        };
        facts.etcd = match etcd {
            EtcdState::Unknown(_) if !facts.unit.is_up() && facts.listeners.is_empty() => {
                EtcdState::Silent
            }
            etcd => etcd,
        };
        Ok(facts)
    }

    /// What the member of a host says.
    async fn ask(&self, link: &Link, host: &Host) -> EtcdState {
        if link.client().is_none() {
            return EtcdState::Unknown("no member runs there whose client URL is known".into());
        }
        match tokio::time::timeout(ASK, self.ask_in_time(link, host)).await {
            Ok(state) => state,
            Err(_) => {
                *link.etcd.lock().await = None;
                link.try_another();
                EtcdState::Unknown(format!("it does not answer within {} s", ASK.as_secs()))
            }
        }
    }

    async fn ask_in_time(&self, link: &Link, host: &Host) -> EtcdState {
        if self.desired.tls.client != TlsMode::Off && self.tls().is_none() {
            return EtcdState::Unknown(
                "there is no authority here yet, so no certificate to ask with".into(),
            );
        }
        let mut slot = link.etcd.lock().await;
        let reused = slot.is_some();
        for attempt in 0..2 {
            let client = match &*slot {
                Some(client) => client.clone(),
                None => match self.connect_etcd(link, host).await {
                    Ok(client) => client,
                    Err(state) => return state,
                },
            };
            let (status, members) = tokio::join!(client.status(), client.member_list());
            match status {
                Ok(status) => {
                    *slot = Some(client);
                    return EtcdState::Answered(Box::new(EtcdAnswer {
                        status,
                        members: members.ok(),
                    }));
                }
                Err(error) => {
                    *slot = None;
                    // A kept connection may have ended with the process that it led to.
                    if !(reused && attempt == 0) {
                        return state_of(&error.kind, error.to_string());
                    }
                }
            }
        }
        EtcdState::Silent
    }

    async fn connect_etcd(&self, link: &Link, host: &Host) -> Result<EtcdClient, EtcdState> {
        let mut last = EtcdState::Silent;
        for _ in 0..link.choices() {
            let Some(ClientUrl { url, dial }) = link.client() else {
                break;
            };
            let endpoint = EtcdEndpoint {
                url,
                dial,
                tls: self.tls(),
            };
            match EtcdClient::connect(host, &endpoint).await {
                Ok(client) => return Ok(client),
                Err(error) => {
                    last = state_of(&error.kind, error.to_string());
                    link.try_another();
                }
            }
        }
        Err(last)
    }

    /// Asks every member that can be reached, and nothing else of the hosts. Who does not answer soon is taken for silent
    /// in this look; its connection goes on being made for the next one.
    pub async fn look(self: &Arc<Self>) -> ClusterView {
        let states = self.ask_all().await;
        ClusterView::gather(states.iter().map(|(name, state)| (name.as_str(), state)))
    }

    /// What every member says at this moment, by host.
    pub async fn ask_all(self: &Arc<Self>) -> Vec<(String, EtcdState)> {
        let links: Vec<Arc<Link>> = self.links.lock().await.values().cloned().collect();
        let tasks: Vec<_> = links
            .into_iter()
            .map(|link| {
                let fleet = self.clone();
                tokio::spawn(async move {
                    // Only hosts that are connected: a gate does not wait for one that is not there.
                    let host = link.host.lock().await.clone();
                    let state = match host {
                        Some(host) => fleet.ask(&link, &host).await,
                        None => EtcdState::Silent,
                    };
                    (link.node.name.clone(), state)
                })
            })
            .collect();
        let until = tokio::time::Instant::now() + LOOK;
        let mut states = Vec::new();
        for task in tasks {
            if let Ok(Ok(state)) = tokio::time::timeout_at(until, task).await {
                states.push(state);
            }
        }
        states
    }

    /// A client of the member that a node runs.
    pub async fn etcd(&self, name: &str) -> Option<EtcdClient> {
        let link = self.links.lock().await.get(name).cloned()?;
        link.etcd.lock().await.clone()
    }

    /// Sessions, scripts and tunnels that were opened so far, over all hosts.
    pub async fn round_trips(&self) -> BTreeMap<String, crate::remote::RoundTrips> {
        let links: Vec<Arc<Link>> = self.links.lock().await.values().cloned().collect();
        let mut trips = BTreeMap::new();
        for link in links {
            if let Some(host) = &*link.host.lock().await {
                trips.insert(link.node.name.clone(), host.round_trips());
            }
        }
        trips
    }
}

impl Link {
    fn new(desired: &Desired, node: Node, named: bool) -> Self {
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
            etcd: Mutex::new(None),
        }
    }

    /// Drops a connection that has ended, and what went over it.
    async fn forget_closed(&self) {
        let mut host = self.host.lock().await;
        if host.as_ref().is_some_and(Host::is_closed) {
            *host = None;
            *self.etcd.lock().await = None;
        }
    }

    fn clients(&self) -> RwLockReadGuard<'_, Vec<ClientUrl>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> Option<ClientUrl> {
        self.clients().first().cloned()
    }

    fn choices(&self) -> usize {
        self.clients().len()
    }

    /// The next choice, where there is one: while an address changes, either may be the one.
    fn try_another(&self) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if clients.len() > 1 {
            clients.rotate_left(1);
        }
    }

    /// Learns where the running process serves clients; whether that is news.
    fn learn(&self, facts: &HostFacts) -> bool {
        let Some(running) = facts.unit.environment.as_ref().and_then(serves) else {
            return false;
        };
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if clients.iter().any(|client| client.url == running.url) {
            return false;
        }
        clients.insert(0, running);
        true
    }
}

/// The client URL that a process with this environment advertises, and where it is dialed on its own host: there is
/// where it listens, while an address that only others reach may swallow what is sent to it.
fn serves(environment: &BTreeMap<String, String>) -> Option<ClientUrl> {
    let advertised = environment.get("ETCD_ADVERTISE_CLIENT_URLS")?;
    let url = advertised.split(',').next()?;
    let scheme = url.split_once("://")?.0;
    let (_, advertised_port) = host_and_port(url)?;
    let listens = environment.get("ETCD_LISTEN_CLIENT_URLS");
    let listens: Vec<&str> = listens
        .into_iter()
        .flat_map(|urls| urls.split(','))
        .filter(|listens| {
            listens
                .split_once("://")
                .is_some_and(|(own, _)| own == scheme)
        })
        .collect();
    let same_port =
        |listens: &&&str| host_and_port(listens).is_some_and(|(_, port)| port == advertised_port);
    let there = listens
        .iter()
        .find(|listens| **listens == url)
        .or_else(|| listens.iter().find(same_port))
        .or(listens.first());
    let (host, port) = match there.and_then(|there| host_and_port(there)) {
        Some((host, port)) if host == "0.0.0.0" => ("127.0.0.1".into(), port),
        Some((host, port)) if host == "::" => ("::1".into(), port),
        Some(there) => there,
        None => host_and_port(url)?,
    };
    Some(ClientUrl {
        url: url.to_owned(),
        dial: (host, port),
    })
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (_, address) = url.split_once("://")?;
    let (host, port) = address.trim_end_matches('/').rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), port.parse().ok()?))
}

/// What became of the observation of one host. A host that is left out would count as one that nobody knows.
async fn observed_by(task: JoinHandle<Result<HostFacts, HostUnknown>>) -> HostState {
    match task.await {
        Ok(Ok(facts)) => HostState::Known(Box::new(facts)),
        Ok(Err(unknown)) => HostState::Unknown(unknown),
        Err(error) => HostState::Unknown(HostUnknown::Probe(format!(
            "looking at it failed, which is a bug of quorate: {error}"
        ))),
    }
}

fn unix_ms() -> i64 {
    (OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64
}

fn state_of(kind: &EtcdErrorKind, text: String) -> EtcdState {
    match kind {
        EtcdErrorKind::Tunnel {
            tunnel: TunnelError::Refused { .. },
            ..
        } => EtcdState::Silent,
        _ => EtcdState::Unknown(text),
    }
}

fn without_node(node: &str, text: String) -> String {
    match text.strip_prefix(&format!("{node}: ")) {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

fn unreachable_host(node: &str, error: ConnectError) -> HostUnknown {
    let text = without_node(node, error.to_string());
    match error {
        ConnectError::Refused { .. } => HostUnknown::Refused(text),
        ConnectError::HostKeyUnknown { .. }
        | ConnectError::HostKeyChanged { .. }
        | ConnectError::HostKeyRevoked { .. }
        | ConnectError::KnownHosts { .. } => HostUnknown::HostKey(text),
        ConnectError::AuthFailed { .. }
        | ConnectError::KeyFile { .. }
        | ConnectError::Secret { .. } => HostUnknown::Authentication(text),
        _ => HostUnknown::Unreachable(text),
    }
}

fn failed_probe(node: &str, error: RemoteError) -> HostUnknown {
    let text = without_node(node, error.to_string());
    match error {
        RemoteError::Sudo { .. } => HostUnknown::Privilege(text),
        RemoteError::Lost { .. } | RemoteError::Closed { .. } | RemoteError::Deadline { .. } => {
            HostUnknown::Unreachable(text)
        }
        RemoteError::Shell { .. } => HostUnknown::Unsupported(text),
        _ => HostUnknown::Probe(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_does_not_vanish_with_a_panic() {
        let task = tokio::spawn(async { panic!("on purpose") });
        let state = observed_by(task).await;
        assert!(
            matches!(&state, HostState::Unknown(HostUnknown::Probe(text)) if text.contains("bug")),
            "{state:?}"
        );
    }

    #[test]
    fn a_member_is_dialed_where_it_listens() {
        let dial = |advertised: &str, listens: &str| {
            let variables = [
                ("ETCD_ADVERTISE_CLIENT_URLS", advertised),
                ("ETCD_LISTEN_CLIENT_URLS", listens),
            ];
            let variables = variables.map(|(name, urls)| (name.to_owned(), urls.to_owned()));
            let served = serves(&variables.into()).unwrap();
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
                "https://127.0.0.1:2379,https://203.0.113.9:2379",
                "203.0.113.9 2379",
            ),
            ("https://10.0.0.1:2400", "10.0.0.1 2400"),
            ("", "203.0.113.9 2379"),
        ] {
            assert_eq!(dial(public, listens), expected, "{listens}");
        }
    }
}
