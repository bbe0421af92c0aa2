//! The connected hosts of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;

use super::answer;
use super::link::Link;
use super::memory::Memory;
use super::probe::ProbeSpec;
use crate::desired::model::{Desired, Node, Ssh};
use crate::observed::certificate::CaFacts;
use crate::observed::data;
use crate::observed::etcd::EtcdState;
use crate::observed::host::HostUnknown;
use crate::observed::{HostFacts, HostState};
use crate::remote::{ConnectError, EtcdTls, Host, Policy, RemoteError, Target, connect};
use crate::runtime;
use crate::secret::SecretSource;

/// Time for a probe to answer.
const PROBE: Duration = Duration::from_secs(60);

/// Hosts under one desired state. Connections are made when they are first needed and then kept.
pub struct Fleet {
    pub(super) desired: Arc<Desired>,
    policy: Policy,
    secrets: Arc<dyn SecretSource>,
    /// Certificates for talking to members; none under plain HTTP, or before there is an authority.
    tls: RwLock<Option<EtcdTls>>,
    memory: Memory,
    limit: Arc<Semaphore>,
    pub(super) links: Mutex<BTreeMap<String, Arc<Link>>>,
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

    pub(super) fn tls(&self) -> Option<EtcdTls> {
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
