//! The connected hosts of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;

use super::answer;
use super::memory::Memory;
use super::probe::ProbeSpec;
use crate::desired::model::{Desired, Node, Ssh, TlsMode};
use crate::observed::certificate::CaFacts;
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
    /// Client URL of its member, and what to dial for it. Where the file does not name a node, the probe learns it from
    /// the running process.
    client: RwLock<Option<(String, (String, u16))>>,
    node: Node,
    layout: Layout,
    host: Mutex<Option<Host>>,
    etcd: Mutex<Option<EtcdClient>>,
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

    /// Adds a host that only a marker knows of.
    pub async fn add(&self, name: &str, ssh: Ssh) {
        let Some(first) = self.desired.nodes.first() else {
            return;
        };
        let node = Node {
            name: name.to_owned(),
            ssh,
            ..first.clone()
        };
        self.links
            .lock()
            .await
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Link::new(&self.desired, node, false)));
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
        let mut facts = answer.facts;
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
            let (status, members, alarms) =
                tokio::join!(client.status(), client.member_list(), client.alarms());
            match status {
                Ok(status) => {
                    *slot = Some(client);
                    return EtcdState::Answered(Box::new(EtcdAnswer {
                        status,
                        members: members.ok(),
                        alarms: alarms.ok(),
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
        let (url, dial) = link.client().ok_or(EtcdState::Silent)?;
        let endpoint = EtcdEndpoint {
            url,
            dial,
            tls: self.tls(),
        };
        EtcdClient::connect(host, &endpoint)
            .await
            .map_err(|error| state_of(&error.kind, error.to_string()))
    }

    /// Asks every member that can be reached, and nothing else of the hosts.
    pub async fn look(self: &Arc<Self>) -> ClusterView {
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
        let mut states = Vec::new();
        for task in tasks {
            states.extend(task.await);
        }
        ClusterView::gather(states.iter().map(|(name, state)| (name.as_str(), state)))
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
        let client = named.then(|| {
            (
                layout.client_url.clone(),
                (node.ip.to_string(), node.client_port),
            )
        });
        Self {
            client: RwLock::new(client),
            layout,
            node,
            host: Mutex::new(None),
            etcd: Mutex::new(None),
        }
    }
}

impl Link {
    /// Drops a connection that has ended, and what went over it.
    async fn forget_closed(&self) {
        let mut host = self.host.lock().await;
        if host.as_ref().is_some_and(Host::is_closed) {
            *host = None;
            *self.etcd.lock().await = None;
        }
    }

    fn client(&self) -> Option<(String, (String, u16))> {
        self.client
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Learns the client URL of a member whose node the file does not name; whether it did.
    fn learn(&self, facts: &HostFacts) -> bool {
        let mut client = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if client.is_some() {
            return false;
        }
        *client = facts.unit.environment.as_ref().and_then(|environment| {
            let urls = environment.get("ETCD_ADVERTISE_CLIENT_URLS")?;
            let url = urls.split(',').next()?;
            let (host, port) = url
                .split_once("://")?
                .1
                .trim_end_matches('/')
                .rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some((url.to_owned(), (host.to_owned(), port.parse().ok()?)))
        });
        client.is_some()
    }
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
}
