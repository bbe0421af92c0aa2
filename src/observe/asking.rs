//! What members say, each asked on its own host.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::fleet::Fleet;
use super::link::{ClientUrl, Link};
use crate::desired::model::TlsMode;
use crate::observed::etcd::{ClusterView, EtcdAnswer, EtcdState};
use crate::remote::{EtcdClient, EtcdEndpoint, EtcdErrorKind, Host, TunnelError};

/// Time for a member to answer all that it is asked.
const ASK: Duration = Duration::from_secs(8);
/// The least of it that is worth a question.
const LEAST: Duration = Duration::from_secs(1);
/// Time for a look at all members: one that hangs must not hide the others.
const LOOK: Duration = Duration::from_millis(1500);

/// The connection to a member, if there is one.
type Slot = OwnedMutexGuard<Option<EtcdClient>>;

impl Fleet {
    /// What the member of a host says.
    pub(super) async fn ask(&self, link: &Link, host: &Host) -> EtcdState {
        let until = Instant::now() + ASK;
        match timeout_at(until, link.etcd.clone().lock_owned()).await {
            // In less than that nothing would be found out but that it was too short.
            Ok(slot) if until > Instant::now() + LEAST => {
                self.ask_over(link, host, slot, until).await
            }
            _ => silent_for_long(),
        }
    }

    /// The same over the connection that the member has, which nobody else uses meanwhile.
    async fn ask_over(
        &self,
        link: &Link,
        host: &Host,
        mut slot: Slot,
        until: Instant,
    ) -> EtcdState {
        if link.client().is_none() {
            return EtcdState::Unknown("no member runs there whose client URL is known".into());
        }
        match timeout_at(until, self.ask_in_time(link, host, &mut slot)).await {
            Ok(state) => state,
            Err(_) => {
                *slot = None;
                link.try_another();
                silent_for_long()
            }
        }
    }

    async fn ask_in_time(&self, link: &Link, host: &Host, slot: &mut Slot) -> EtcdState {
        if self.desired.tls.client != TlsMode::Off && self.tls().is_none() {
            return EtcdState::Unknown(
                "there is no authority here yet, so no certificate to ask with".into(),
            );
        }
        let reused = slot.is_some();
        for attempt in 0..2 {
            let client = match &**slot {
                Some(client) => client.clone(),
                None => match self.connect_etcd(link, host).await {
                    Ok(client) => client,
                    Err(state) => return state,
                },
            };
            let (status, members) = tokio::join!(client.status(), client.member_list());
            match status {
                Ok(status) => {
                    **slot = Some(client);
                    return EtcdState::Answered(Box::new(EtcdAnswer {
                        status,
                        members: members.ok(),
                    }));
                }
                Err(error) => {
                    **slot = None;
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
        let mut looks = JoinSet::new();
        for link in links {
            let fleet = self.clone();
            looks.spawn(async move { (link.node.name.clone(), fleet.look_at(&link).await) });
        }
        let until = Instant::now() + LOOK;
        let mut states = Vec::new();
        while let Ok(Some(look)) = timeout_at(until, looks.join_next()).await {
            states.extend(look);
        }
        // Of several that know as much the first is believed: the same one in every look.
        states.sort_by(|(one, _), (other, _)| one.cmp(other));
        states
    }

    async fn look_at(self: &Arc<Self>, link: &Arc<Link>) -> EtcdState {
        // Only hosts that are connected: a gate does not wait for one that is not there.
        let Some(host) = link.host.lock().await.clone() else {
            return EtcdState::Silent;
        };
        let Ok(slot) = link.etcd.clone().try_lock_owned() else {
            // Looks that find another one asking end with their time: in a row they would ask for minutes.
            return self.ask(link, &host).await;
        };
        let (fleet, link) = (self.clone(), link.clone());
        let asked = tokio::spawn(async move {
            fleet
                .ask_over(&link, &host, slot, Instant::now() + ASK)
                .await
        });
        asked.await.unwrap_or(EtcdState::Silent)
    }

    /// A client of the member that a node runs.
    pub async fn etcd(&self, name: &str) -> Option<EtcdClient> {
        let link = self.links.lock().await.get(name).cloned()?;
        link.etcd.lock().await.clone()
    }
}

fn silent_for_long() -> EtcdState {
    EtcdState::Unknown(format!("it does not answer within {} s", ASK.as_secs()))
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
