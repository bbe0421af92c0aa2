//! Takes the same steps on real members and on the model. The model may allow several states; what is seen of the
//! real members tells which of them it is, and when it is none of them, model and etcd differ.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use quorate::remote::{EtcdError, EtcdErrorKind, Host};

use crate::model::Model;
use crate::model::calls::Refusal;
use crate::model::host::{Data, Host as ModelHost};
use crate::model::raft::Link;
use crate::model::release::Release;
use crate::model::start::Initial;
use crate::seen::{self, Line, Seen};
use crate::server::Server;

/// How long the real members may take to reach a state that the model allows.
const PATIENCE: Duration = Duration::from_secs(20);
/// After this time members count as connected for 5 s.
const SETTLED: Duration = Duration::from_millis(5_500);
/// Until then they do not.
const FRESH: Duration = Duration::from_millis(4_000);

/// A call on a member.
#[derive(Clone, Debug)]
pub enum Call<'a> {
    Add {
        of: &'a str,
        learner: bool,
    },
    Promote(&'a str),
    Remove(&'a str),
    /// Gives a member the peer URL of another host.
    Update(&'a str, &'a str),
    MoveLeader(&'a str),
    /// The membership, linearizably.
    List,
    Put,
}

/// One replay on one release.
pub struct Replay {
    name: String,
    ssh: Host,
    servers: BTreeMap<String, Server>,
    /// Peer URLs of members that were added or bootstrapped, as they stand now.
    urls: BTreeMap<String, String>,
    states: Vec<Model>,
    written: u64,
    /// When processes were last started, and when they were seen to have found each other.
    started_at: Instant,
    linked_at: Instant,
    trail: Vec<String>,
    _dir: tempfile::TempDir,
}

/// Every replay has a network of its own, and every process of this test.
fn network() -> (u8, u8) {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = u8::try_from(std::process::id() % 200).unwrap() + 20;
    (process, NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Replay {
    pub fn new(
        name: &str,
        ssh: Host,
        release: Release,
        binaries: &std::path::Path,
        hosts: &[&str],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (second, third) = network();
        let mut model = Model::default();
        let mut servers = BTreeMap::new();
        for (number, host) in hosts.iter().enumerate() {
            let ip = Ipv4Addr::new(127, second, third, number as u8 + 1);
            let server = Server::new(host, ip, dir.path(), binaries);
            let url = server.peer_url();
            model
                .hosts
                .insert((*host).into(), ModelHost::new(&url, release));
            servers.insert((*host).to_owned(), server);
        }
        let urls = servers
            .iter()
            .map(|(name, server)| (name.clone(), server.peer_url()))
            .collect();
        Self {
            name: format!("{name} on {release}"),
            ssh,
            servers,
            urls,
            states: vec![model],
            written: 0,
            started_at: Instant::now(),
            linked_at: Instant::now(),
            trail: vec![],
            _dir: dir,
        }
    }

    fn initial(&self, existing: bool, token: &str, names: &[&str]) -> Initial {
        let url = |name: &&str| ((*name).to_owned(), self.servers[*name].peer_url());
        Initial {
            existing,
            cluster: names.iter().map(url).collect(),
            token: token.into(),
        }
    }

    fn server(&mut self, host: &str) -> &mut Server {
        self.servers.get_mut(host).expect("a host")
    }

    /// Starts members at the same time.
    async fn begin(&mut self, hosts: &[&str], initial: Option<&Initial>) {
        self.settle();
        self.started_at = Instant::now();
        for host in hosts {
            self.server(host).start(initial);
            let started = |state: &Model| state.start(host, host, initial);
            self.states = self
                .states
                .iter()
                .flat_map(started)
                .map(|(_, state)| state)
                .collect();
        }
        self.compare().await;
        self.linked_at = Instant::now();
    }

    pub async fn start_new(&mut self, hosts: &[&str], token: &str, cluster: &[&str]) {
        self.note(format!("start {hosts:?} new {token} {cluster:?}"));
        let initial = self.initial(false, token, cluster);
        self.begin(hosts, Some(&initial)).await;
    }

    pub async fn start_existing(&mut self, host: &str, cluster: &[&str]) {
        self.note(format!("start {host} existing {cluster:?}"));
        let initial = self.initial(true, "t", cluster);
        self.begin(&[host], Some(&initial)).await;
    }

    /// A start on the data that is there.
    pub async fn start(&mut self, host: &str) {
        self.note(format!("start {host}"));
        assert!(self.servers[host].wal().is_some(), "{host} has no WAL");
        self.begin(&[host], None).await;
    }

    pub async fn stop(&mut self, hosts: &[&str], kill: bool) {
        self.note(format!("{} {hosts:?}", if kill { "kill" } else { "stop" }));
        for host in hosts {
            self.server(host).end(kill);
            for state in &mut self.states {
                state.stop(host, !kill);
            }
        }
        self.compare().await;
    }

    pub async fn kill(&mut self, hosts: &[&str]) {
        self.stop(hosts, true).await;
    }

    pub fn wipe(&mut self, host: &str) {
        self.note(format!("wipe {host}"));
        std::fs::remove_dir_all(self.servers[host].member_dir()).unwrap();
        for state in &mut self.states {
            state.clear(host, false);
        }
    }

    /// Overwrites the middle of the WAL.
    pub fn corrupt(&mut self, host: &str) {
        self.note(format!("corrupt {host}"));
        let wal = self.servers[host].wal().expect("a WAL");
        let mut file = std::fs::OpenOptions::new().write(true).open(wal).unwrap();
        file.seek(SeekFrom::Start(256)).unwrap();
        file.write_all(&[0x5a; 64]).unwrap();
        for state in &mut self.states {
            *state.host(host).seen_mut() = Data::Corrupt;
        }
    }

    /// Waits until the members have been connected for more than 5 s.
    pub async fn wait(&mut self) {
        self.note("wait".into());
        tokio::time::sleep(SETTLED.saturating_sub(self.linked_at.elapsed())).await;
    }

    /// Lets the time that has passed in truth pass in the model.
    fn settle(&mut self) {
        if self.started_at.elapsed() < FRESH {
            return;
        }
        let mut settled: Vec<Model> = self.states.clone();
        for raft in settled
            .iter_mut()
            .flat_map(|state| state.rafts.values_mut())
        {
            for peer in raft.peers.values_mut().filter(|peer| peer.is_linked()) {
                peer.link = Link::Settled;
            }
        }
        if self.linked_at.elapsed() < SETTLED {
            settled.append(&mut self.states);
        }
        self.states = distinct(settled);
    }

    /// The host whose member leads.
    pub fn leader(&self) -> String {
        self.roles(|leads| leads).pop().expect("a leader")
    }

    /// Hosts whose members follow, by name.
    pub fn followers(&self) -> Vec<String> {
        self.roles(|leads| !leads)
    }

    fn roles(&self, wanted: impl Fn(bool) -> bool) -> Vec<String> {
        let seen = seen::of_model(&self.states[0]);
        let leader = seen.values().find_map(|seen| match seen {
            Seen::Answers { leader, .. } => leader.clone(),
            _ => None,
        });
        let url = |name: &str| Some(self.servers[name].peer_url());
        seen.iter()
            .filter(|(_, seen)| matches!(seen, Seen::Answers { learner: false, .. }))
            .filter(|(name, _)| wanted(url(name) == leader))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Makes a call through the member of a host; what etcd says has to be what the model says.
    pub async fn call(&mut self, through: &str, call: Call<'_>) {
        self.settle();
        let fresh = self.started_at.elapsed();
        self.note(format!(
            "through {through}: {call:?} ({fresh:?} after the last start)"
        ));
        let said = self.real(through, &call).await;
        // A member that stops while it answers, for it is removed, leaves open whether the change has come true.
        let is_lost = matches!(&said, Err((_, text)) if text.contains(STOPPED));
        let mut allowed = Vec::new();
        let mut states = Vec::new();
        for (result, state) in self
            .states
            .iter()
            .flat_map(|state| self.modelled(state, through, &call))
        {
            if (is_lost && result.is_ok())
                || result == said.as_ref().map(|_| ()).map_err(|(why, _)| *why)
            {
                states.push(state);
            }
            allowed.push(result);
        }
        self.trail.push(format!("    {said:?}"));
        assert!(
            !states.is_empty(),
            "{}: etcd says {said:?}, the model allows {allowed:?}\n{}",
            self.name,
            self.trail.join("\n")
        );
        self.states = states;
        if said.is_ok() {
            match &call {
                Call::Put => self.written += 1,
                Call::Update(member, to) => {
                    let url = self.servers[*to].peer_url();
                    self.urls.insert((*member).into(), url);
                }
                _ => {}
            }
        }
        self.compare().await;
    }

    fn modelled(
        &self,
        state: &Model,
        through: &str,
        call: &Call<'_>,
    ) -> Vec<(Result<(), Refusal>, Model)> {
        if let Call::Add { of, learner } = call {
            let url = self.servers[*of].peer_url();
            let done = state.member_add(through, &url, *learner);
            return done
                .into_iter()
                .map(|(result, state)| (result.map(drop), state))
                .collect();
        }
        state.call(through, |raft, via| {
            // A member that is none any more keeps an ID that nobody knows.
            let id = |host: &str| {
                let url = &self.urls[host];
                let tip = raft.tip();
                let found = tip.members.iter().find(|(_, line)| line.url == *url);
                found.map_or(quorate::etcd::id::MemberId(0xdead), |(id, _)| *id)
            };
            match call {
                Call::Promote(host) => raft.member_promote(via, id(host)),
                Call::Remove(host) => raft.member_remove(via, id(host)),
                Call::Update(host, to) => {
                    let url = self.servers[*to].peer_url();
                    raft.member_update_peer_urls(via, id(host), &url)
                }
                Call::MoveLeader(host) => raft.move_leader(via, id(host)),
                Call::Put => raft.put(via, None),
                Call::List => {
                    let list = raft.member_list(via, true).map(drop);
                    vec![(list, raft.clone())]
                }
                Call::Add { .. } => unreachable!("done above"),
            }
        })
    }

    async fn real(&mut self, through: &str, call: &Call<'_>) -> Result<(), (Refusal, String)> {
        let ssh = self.ssh.clone();
        let client = self.server(through).client(&ssh).await;
        let Some(client) = client.map_err(refusal)? else {
            return Err((Refusal::Silent, "no answer".into()));
        };
        let mut id = quorate::etcd::id::MemberId(0xdead);
        if let Call::Promote(host)
        | Call::Remove(host)
        | Call::Update(host, _)
        | Call::MoveLeader(host) = call
        {
            let url = self.urls[*host].clone();
            for member in client.member_list().await.map_err(refusal)? {
                if member.peer_urls == [url.clone()] {
                    id = member.id;
                }
            }
        }
        let done = match call {
            Call::Add { of, learner } => {
                let url = self.servers[*of].peer_url();
                client.member_add(&[url], *learner).await.map(drop)
            }
            Call::Promote(_) => client.member_promote(id).await,
            Call::Remove(_) => client.member_remove(id).await,
            Call::Update(_, to) => {
                let url = self.servers[*to].peer_url();
                client.member_update(id, &[url]).await
            }
            Call::MoveLeader(_) => client.move_leader(id).await,
            Call::List => client.member_list_linearizable().await.map(drop),
            Call::Put => {
                let key = format!("k{}", self.written);
                client.put(&key, b"value").await
            }
        };
        done.map_err(refusal)
    }

    /// Waits until what is seen is something that the model allows, twice in a row.
    async fn compare(&mut self) {
        let ends = self.states.iter().flat_map(Model::quiescent).collect();
        let ends = distinct(ends);
        let allowed: Vec<_> = ends.iter().map(seen::of_model).collect();
        let deadline = Instant::now() + PATIENCE;
        let mut before = None;
        loop {
            let real = self.look().await;
            let fits: Vec<Model> = ends
                .iter()
                .zip(&allowed)
                .filter(|(_, seen)| **seen == real)
                .map(|(state, _)| state.clone())
                .collect();
            if !fits.is_empty() && before.as_ref() == Some(&real) {
                self.states = fits;
                return;
            }
            if Instant::now() > deadline {
                let allowed: Vec<String> =
                    allowed.iter().map(|seen| format!("{seen:#?}")).collect();
                let whys: Vec<_> = self.servers.values_mut().filter_map(Server::exit).collect();
                panic!(
                    "{}: seen is\n{real:#?}\n{whys:?}\nthe model allows\n{}\nafter\n{}",
                    self.name,
                    allowed.join("\nor\n"),
                    self.trail.join("\n")
                );
            }
            before = Some(real);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn look(&mut self) -> BTreeMap<String, Seen> {
        let ssh = self.ssh.clone();
        let written = self.written;
        let mut all = BTreeMap::new();
        for (name, server) in &mut self.servers {
            let seen = look_at(server, &ssh, written).await;
            all.insert(name.clone(), seen);
        }
        // IDs of leaders become URLs by what any member says of them.
        let mut urls = BTreeMap::new();
        for (_, ids) in all.values() {
            urls.extend(ids.clone());
        }
        all.into_iter()
            .map(|(name, (seen, _))| {
                let seen = match seen {
                    Seen::Answers {
                        leader: Some(id),
                        learner,
                        members,
                        complete,
                    } => Seen::Answers {
                        leader: urls.get(&id).cloned(),
                        learner,
                        members,
                        complete,
                    },
                    other => other,
                };
                (name, seen)
            })
            .collect()
    }

    fn note(&mut self, what: String) {
        self.trail.push(what);
    }
}

/// What is seen of a member, with the leader's ID instead of its URL, and URLs by ID.
async fn look_at(
    server: &mut Server,
    ssh: &Host,
    written: u64,
) -> (Seen, BTreeMap<String, String>) {
    let mut urls = BTreeMap::new();
    if !server.was_started() {
        return (Seen::Off, urls);
    }
    if let Some(Ok(exit)) = server.exit() {
        return (Seen::Ended(exit), urls);
    }
    let Ok(Some(client)) = server.client(ssh).await else {
        return (Seen::Silent, urls);
    };
    let Ok(status) = client.status().await else {
        return (Seen::Silent, urls);
    };
    let mut members = None;
    if !status.is_learner
        && let Ok(list) = client.member_list().await
    {
        let mut lines = BTreeSet::new();
        for member in list {
            let url = member.peer_urls.join(",");
            urls.insert(member.id.to_string(), url.clone());
            lines.insert(Line {
                url,
                name: member.name,
                published: !member.client_urls.is_empty(),
                learner: member.is_learner,
            });
        }
        members = Some(lines);
    }
    let seen = Seen::Answers {
        leader: (status.leader.0 != 0).then(|| status.leader.to_string()),
        learner: status.is_learner,
        members,
        complete: server.keys().await.is_some_and(|keys| keys >= written),
    };
    (seen, urls)
}

/// What a member says that stops before it knows what became of a change.
const STOPPED: &str = "server stopped";

#[allow(
    clippy::mutable_key_type,
    reason = "a digest that is worked out late makes nothing differ"
)]
fn distinct(states: Vec<Model>) -> Vec<Model> {
    let mut seen = HashSet::new();
    let mut states = states;
    states.retain(|state| seen.insert(state.clone()));
    states
}

/// Which refusal of the model an error is.
fn refusal(error: EtcdError) -> (Refusal, String) {
    let text = error.to_string();
    let said = |words: &str| text.contains(words);
    let why = match &error.kind {
        EtcdErrorKind::UnhealthyCluster => Refusal::Unhealthy,
        EtcdErrorKind::Unavailable(why) if why.contains("deadline exceeded") => Refusal::TimedOut,
        EtcdErrorKind::Timeout { .. } | EtcdErrorKind::NoLeader => Refusal::TimedOut,
        _ if said("timed out") || said(STOPPED) => Refusal::TimedOut,
        _ if said("not enough started members") => Refusal::NotEnoughStarted,
        _ if said("Peer URLs already exists") || said("member ID already exist") => {
            Refusal::UrlExists
        }
        _ if said("too many learner members") => Refusal::TooManyLearners,
        _ if said("in sync with leader") => Refusal::LearnerNotReady,
        _ if said("can only promote a learner member") => Refusal::NotALearner,
        _ if said("member not found") => Refusal::NotFound,
        _ if said("not supported for learner") => Refusal::ForVotersOnly,
        _ if said("not leader") => Refusal::NotTheLeader,
        _ if said("bad leader transferee") => Refusal::BadSuccessor,
        EtcdErrorKind::Tunnel { .. } => Refusal::Silent,
        _ => panic!("an unknown refusal: {text}"),
    };
    if why == Refusal::TimedOut {
        assert!(
            error.ambiguous || !error.call.starts_with("member"),
            "{text}: it may have been applied"
        );
    }
    (why, text)
}
