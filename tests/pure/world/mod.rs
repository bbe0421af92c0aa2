//! Hosts with files and units around the model of etcd: what operations do to them, and what a probe would see.

// Each user of the world needs another part of it.
#![allow(dead_code)]

mod calls;
mod observe;
mod operate;
mod places;

pub use calls::{Attempt, is_call};
pub use places::Places;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use quorate::action::{Action, Operation, RunFacts, UnitVerb};
use quorate::desired::model::{Desired, Install, Node, VersionSpec};
use quorate::etcd::id::{ClusterId, MemberId};
use quorate::observed::etcd::{ClusterView, EtcdState};
use quorate::observed::host::{
    BinaryFact, FileFact, FileStat, FilesystemFact, HostFacts, Os, UnitFact,
};
use quorate::observed::marker::{self, MarkerState};
use quorate::observed::{ArchiveFact, HostState, Observed, former};
use quorate::plan::fingerprint::sha256;
use quorate::runtime::{self, Content, Layout};

use crate::model::host::{Data, Host, Reach, Run};
use crate::model::membership::{Entry as LogEntry, Line, Membership};
use crate::model::raft::{Blank, Peer, Raft};
use crate::model::shared::Shared;
use crate::model::start::{Exit, Initial};
use crate::model::{Event, Model};

/// Hosts by node name, and what etcd is on them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct World {
    desired: Arc<Desired>,
    /// Every node that there is, in the file or not.
    inventory: Arc<Desired>,
    /// Of each node, once somebody asks.
    layouts: Arc<OnceLock<BTreeMap<String, Layout>>>,
    pub hosts: Shared<BTreeMap<String, Machine>>,
    pub etcd: Model,
    clock: i64,
}

/// One host.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Machine {
    pub files: Files,
    pub user: bool,
    pub enabled: bool,
    pub masked: bool,
    /// Versions of installed packages.
    pub packages: BTreeMap<String, String>,
    /// Those that are not upgraded.
    pub held: BTreeSet<String>,
    /// What the unit was last started with.
    pub process: Option<Process>,
    /// Where the data is, once there is some.
    pub places: Option<Places>,
    /// Where the unit that systemd has read looks for a WAL.
    pub asserts: Option<String>,
    /// Whether a restart of this run has got as far as stopping the member.
    pub restarted: bool,
    /// A bootstrap on an empty directory, and any start of a member, in order.
    pub starts: Vec<&'static str>,
}

/// A file or, without text, a directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    pub mode: u32,
    pub owner: String,
    pub text: Option<Text>,
    pub changed_at: i64,
}

/// A file's text, shared, and told apart by its digest.
#[derive(Clone, Debug)]
pub struct Text(Arc<Known>);

/// A text, and what is made of it, once somebody asks.
#[derive(Debug)]
struct Known {
    text: String,
    digest: u64,
    sha256: OnceLock<String>,
    marker: OnceLock<MarkerState>,
}

impl Text {
    pub fn sha256(&self) -> &str {
        self.0.sha256.get_or_init(|| sha256(&self.0.text))
    }

    /// As a marker.
    pub fn marker(&self) -> &MarkerState {
        let parse = || MarkerState::parse(&self.0.text);
        self.0.marker.get_or_init(parse)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        text.hash(&mut hasher);
        Self(Arc::new(Known {
            text,
            digest: hasher.finish(),
            sha256: OnceLock::new(),
            marker: OnceLock::new(),
        }))
    }
}

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0.text
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.digest.hash(hasher);
    }
}

/// Files and directories by path.
pub type Files = Shared<BTreeMap<String, Entry>>;

/// A process of the unit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Process {
    pub environment: Arc<BTreeMap<String, String>>,
    pub binary: Arc<str>,
    pub started_at: i64,
}

impl Machine {
    /// When things happened that are still to be seen, each once.
    fn times(&self) -> BTreeSet<i64> {
        let files = self.files.values().map(|entry| entry.changed_at);
        let started = self.process.as_ref().map(|process| process.started_at);
        files.chain(started).collect()
    }

    fn is_canonical(&self) -> bool {
        let times = self.times();
        self.starts.is_empty() && times.iter().copied().eq(0..times.len() as i64)
    }

    /// Times only tell what was before what.
    fn make_canonical(&mut self) {
        self.starts.clear();
        let times = self.times();
        if times.iter().copied().eq(0..times.len() as i64) {
            return;
        }
        let rank = |time: &mut i64| *time = times.range(..*time).count() as i64;
        let entries = self.files.values_mut();
        entries.for_each(|entry| rank(&mut entry.changed_at));
        if let Some(process) = &mut self.process {
            rank(&mut process.started_at);
        }
    }
}

pub fn archive() -> ArchiveFact {
    ArchiveFact {
        sha256: sha256("archive"),
        binaries: ["etcd", "etcdctl"]
            .iter()
            .map(|name| ((*name).to_owned(), sha256(name)))
            .collect(),
    }
}

/// The file is the same in all worlds that are compared.
impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.hosts, &self.etcd, self.clock).hash(hasher);
    }
}

impl World {
    pub fn new(desired: Desired) -> Self {
        let release = match &desired.etcd.version {
            VersionSpec::Exact(version) => version.to_string(),
            VersionSpec::Constraint(_) => "3.5.16".into(),
        };
        let release = release.parse().expect("a release");
        let desired = Arc::new(desired);
        let mut world = Self {
            inventory: desired.clone(),
            desired,
            layouts: Arc::default(),
            hosts: Shared::default(),
            etcd: Model::default(),
            clock: 1_000,
        };
        for node in &world.desired.nodes {
            let url = runtime::layout(&world.desired, node).peer_url;
            let host = Host::new(&url, release);
            world.etcd.hosts.insert(node.name.clone(), host);
            world.hosts.insert(node.name.clone(), Machine::default());
        }
        world
    }

    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// A node of the file.
    pub fn node(&self, name: &str) -> Node {
        let mut nodes = self.desired.nodes.iter();
        let found = nodes.find(|node| node.name == name);
        found.expect("a node").clone()
    }

    /// The file names the first of the nodes only.
    pub fn name_first(&mut self, nodes: usize) {
        let all = self.inventory.nodes[..nodes].to_vec();
        self.desired_mut().nodes = all;
    }

    /// The file names these nodes only.
    pub fn name_only(&mut self, names: &[&str]) {
        let all = self.inventory.nodes.iter();
        let named = all.filter(|node| names.contains(&node.name.as_str()));
        let named = named.cloned().collect();
        self.desired_mut().nodes = named;
    }

    /// The file gives a node another host, at this address; what it was on goes by its former name.
    pub fn rehouse(&mut self, name: &str, ip: &str) {
        let ip: std::net::IpAddr = ip.parse().expect("an address");
        let of_name = |node: &&mut Node| node.name == name;
        let mut nodes = self.desired_mut().nodes.iter_mut();
        let node = nodes.find(of_name).expect("a node");
        let was = former(name, &node.ssh.host);
        let mut old = node.clone();
        old.name.clone_from(&was);
        node.ip = ip;
        node.listen = vec![ip, std::net::Ipv4Addr::LOCALHOST.into()];
        node.ssh.host = ip.to_string();
        let node = node.clone();
        let inventory = &mut Arc::make_mut(&mut self.inventory).nodes;
        inventory.retain(|node| node.name != name);
        inventory.extend([node, old]);
        let host = self.etcd.hosts.remove(name).expect("a host");
        let url = self.layout(name).peer_url.clone();
        let blank = Host::new(&url, host.release);
        self.etcd.hosts.insert(was.clone(), host);
        self.etcd.hosts.insert(name.into(), blank);
        let machine = self.hosts.remove(name).expect("a host");
        self.hosts.insert(was, machine);
        self.hosts.insert(name.into(), Machine::default());
    }

    /// The data of another cluster lies on a host, and no process uses it.
    pub fn put_foreign(&mut self, name: &str) {
        let (cluster, member) = (ClusterId(0xf0e1), MemberId(0xf0e2));
        let mut membership = Membership::default();
        let line = Line {
            url: "http://10.0.9.9:2380".into(),
            name: "other".into(),
            published: true,
            learner: false,
        };
        membership.members.insert(member, line);
        let mut raft = Raft::new(membership);
        let mut peer = Peer::new(self.etcd.hosts[name].release, Blank::New);
        peer.blank = None;
        raft.peers.insert(member, peer);
        self.etcd.rafts.insert(cluster, raft);
        self.etcd.host(name).data = Data::Wal { cluster, member };
        let places = Places::wanted(self.layout(name));
        self.hosts.get_mut(name).expect("a host").places = Some(places);
    }

    /// Somebody changes the membership by hand.
    pub fn by_hand(&mut self, entry: LogEntry) {
        let mut rafts = self.etcd.rafts.values_mut();
        rafts.next().expect("a cluster").commit(entry, None);
        self.settle();
    }

    /// A host is set up anew: nothing is left on it.
    pub fn rebuild(&mut self, name: &str) {
        self.kill(name);
        self.etcd.clear(name, false);
        self.hosts.insert(name.into(), Machine::default());
    }

    pub fn desired_mut(&mut self) -> &mut Desired {
        self.layouts = Arc::default();
        Arc::make_mut(&mut self.desired)
    }

    pub fn is_running(&self, name: &str) -> bool {
        self.etcd.hosts[name].run == Run::Up
    }

    /// Somebody puts a file of root's on a host.
    pub fn put(&mut self, name: &str, path: &str, mode: u32, text: &str) {
        self.clock += 10;
        let entry = Entry {
            mode,
            owner: "root".into(),
            text: Some(text.to_owned().into()),
            changed_at: self.clock,
        };
        let host = self.hosts.get_mut(name).expect("a host");
        host.files.insert(path.into(), entry);
    }

    /// The member dies where it stands.
    pub fn kill(&mut self, name: &str) {
        self.etcd.stop(name, false);
        self.settle();
    }

    /// The same, and systemd is about to start it again.
    pub fn crash(&mut self, name: &str) {
        self.kill(name);
        self.etcd.host(name).run = Run::Failed(Exit::Killed);
    }

    pub fn lose_data(&mut self, name: &str) {
        self.kill(name);
        self.etcd.clear(name, false);
    }

    pub fn cut_off(&mut self, name: &str) {
        self.etcd.reach(name, Reach::Isolated);
        self.settle();
    }

    /// SSH does not reach a host any more, whose member the others reach.
    pub fn shut_out(&mut self, name: &str) {
        self.etcd.reach(name, Reach::Unreachable);
    }

    /// The data on a host becomes that of another cluster.
    pub fn swap_cluster(&mut self, name: &str) {
        let (cluster, member) = self.etcd.member_on(name).expect("data");
        self.kill(name);
        let other = ClusterId(cluster.0 ^ 1);
        let mut raft = self.etcd.rafts[&cluster].clone();
        raft.peers.values_mut().for_each(|peer| peer.stop());
        raft.leader = None;
        self.etcd.rafts.insert(other, raft);
        self.etcd.host(name).data = Data::Wal {
            cluster: other,
            member,
        };
        self.start_unit(name);
        self.settle();
    }

    /// Somebody changes the peer URL of a member in the membership.
    pub fn update_peer_url(&mut self, name: &str, url: &str) {
        let (cluster, member) = self.etcd.member_on(name).expect("data");
        let entry = LogEntry::Update(member, url.into());
        self.etcd.raft(cluster).commit(entry, None);
        self.settle();
    }

    /// What happens by itself happens, and more than five seconds pass.
    pub fn settle(&mut self) {
        self.etcd.reconnect();
        self.etcd = self.etcd.quiescent().swap_remove(0);
        self.pass_time();
    }

    /// More than five seconds pass.
    pub fn pass_time(&mut self) {
        for event in self.etcd.events() {
            if matches!(event, Event::Settle(_)) {
                self.etcd = self.etcd.after(&event).swap_remove(0);
            }
        }
    }

    pub fn layout(&self, name: &str) -> &Layout {
        let of_node = |node: &Node| {
            let named = self.desired.nodes.iter().find(|one| one.name == node.name);
            let layout = runtime::layout(&self.desired, named.unwrap_or(node));
            (node.name.clone(), layout)
        };
        let all = || self.inventory.nodes.iter().map(of_node).collect();
        &self.layouts.get_or_init(all)[name]
    }

    /// One state for all that differ in nothing that matters: times only tell what was before what.
    pub fn canonical(mut self) -> Self {
        if self.hosts.values().any(|host| !host.is_canonical()) {
            self.hosts.values_mut().for_each(Machine::make_canonical);
        }
        self.clock = 1_000;
        self.etcd = self.etcd.canonical();
        self
    }

    /// Power goes and comes back.
    pub fn reboot(&mut self, name: &str) {
        self.etcd.power_off(name);
        self.power_on(name);
        self.settle();
    }

    /// A host boots: `/run` is empty, an enabled unit starts.
    pub fn power_on(&mut self, name: &str) {
        self.etcd.host(name).on = true;
        let host = self.hosts.get_mut(name).expect("a host");
        host.process = None;
        host.restarted = false;
        host.files.retain(|path, _| !path.starts_with("/run/"));
        let starts = host.enabled && !host.masked;
        self.read_unit(name);
        if starts {
            self.start_unit(name);
        }
    }

    /// systemd starts the unit.
    pub fn start_unit(&mut self, name: &str) {
        *self = self.clone().unit(name, UnitVerb::Start).swap_remove(0).1;
    }
}
