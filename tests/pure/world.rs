//! Hosts with files and units around the model of etcd: what operations do to them, and what a probe would see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate::action::{Action, Operation, RunFacts, UnitVerb};
use quorate::desired::model::{Desired, Install, Node, VersionSpec};
use quorate::etcd::id::{ClusterId, MemberId};
use quorate::observed::etcd::{ClusterView, EtcdState};
use quorate::observed::host::{
    BinaryFact, FileFact, FileStat, FilesystemFact, HostFacts, Os, UnitFact,
};
use quorate::observed::marker::{self, MarkerState};
use quorate::observed::{ArchiveFact, HostState, Observed};
use quorate::plan::fingerprint::sha256;
use quorate::runtime::{self, Content, Layout};

use crate::model::host::{Data, Host, Reach, Run};
use crate::model::membership::Entry as LogEntry;
use crate::model::start::{Exit, Initial};
use crate::model::{Event, Model};

/// Hosts by node name, and what etcd is on them.
#[derive(Clone)]
pub struct World {
    pub desired: Arc<Desired>,
    pub hosts: BTreeMap<String, Machine>,
    pub etcd: Model,
    clock: i64,
}

/// One host.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Machine {
    pub files: BTreeMap<String, Entry>,
    pub user: bool,
    pub enabled: bool,
    pub masked: bool,
    /// Versions of installed packages.
    pub packages: BTreeMap<String, String>,
    /// Those that are not upgraded.
    pub held: BTreeSet<String>,
    /// What the unit was last started with.
    pub process: Option<Process>,
    /// A bootstrap on an empty directory, and any start of a member, in order.
    pub starts: Vec<&'static str>,
}

/// A file or, without text, a directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    pub mode: u32,
    pub owner: String,
    pub text: Option<Arc<str>>,
    pub changed_at: i64,
}

/// A process of the unit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Process {
    pub environment: Arc<BTreeMap<String, String>>,
    pub binary: Arc<str>,
    pub started_at: i64,
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

impl World {
    pub fn new(desired: Desired) -> Self {
        let release = match &desired.etcd.version {
            VersionSpec::Exact(version) => version.to_string(),
            VersionSpec::Constraint(_) => "3.5.16".into(),
        };
        let release = release.parse().expect("a release");
        let mut world = Self {
            desired: Arc::new(desired),
            hosts: BTreeMap::new(),
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

    pub fn desired_mut(&mut self) -> &mut Desired {
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
            text: Some(text.into()),
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

    pub fn lose_data(&mut self, name: &str) {
        self.kill(name);
        self.etcd.clear(name, false);
    }

    pub fn cut_off(&mut self, name: &str) {
        self.etcd.reach(name, Reach::Isolated);
        self.settle();
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
        *self = self.clone().unit(name, UnitVerb::Start).swap_remove(0).1;
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
        self.etcd = self.etcd.quiescent().swap_remove(0);
        for event in self.etcd.events() {
            if matches!(event, Event::Settle(_)) {
                self.etcd = self.etcd.after(&event).swap_remove(0);
            }
        }
    }

    pub fn node(&self, name: &str) -> Node {
        self.desired
            .nodes
            .iter()
            .find(|node| node.name == name)
            .expect("a node of the file")
            .clone()
    }

    pub fn layout(&self, name: &str) -> Layout {
        runtime::layout(&self.desired, &self.node(name))
    }

    /// Performs one operation, and lets etcd come to rest; `Err` is what a script would say.
    pub fn perform(&mut self, name: &str, operation: &Operation) -> Result<(), String> {
        let (result, next) = self.outcomes(name, operation).swap_remove(0);
        *self = next;
        self.settle();
        result
    }

    /// Everything that may come of one operation.
    pub fn outcomes(&self, name: &str, operation: &Operation) -> Vec<(Result<(), String>, Self)> {
        let mut next = self.clone();
        match operation {
            Operation::Unit(verb, _) => next.unit(name, *verb),
            Operation::MoveLeader(member) => next.move_leader(*member),
            operation => {
                let result = next.operate(name, operation);
                vec![(result, next)]
            }
        }
    }

    fn operate(&mut self, name: &str, operation: &Operation) -> Result<(), String> {
        self.clock += 10;
        let now = self.clock;
        let layout = self.layout(name);
        let wal = self.etcd.member_on(name).is_some();
        let running = self.is_running(name);
        let host = self.hosts.get_mut(name).expect("a host");
        match operation {
            Operation::EnsureUser(_) => host.user = true,
            Operation::RemoveUser(_) => host.user = false,
            Operation::MakeDirectory(directory) => {
                host.files.insert(
                    directory.path.clone(),
                    Entry {
                        mode: directory.mode,
                        owner: directory.owner.clone(),
                        text: None,
                        changed_at: now,
                    },
                );
            }
            Operation::RemoveDirectory(path) => {
                let inside = format!("{path}/");
                let data = wal && *path == layout.data_dir;
                if !data && !host.files.keys().any(|file| file.starts_with(&inside)) {
                    host.files.remove(path);
                }
            }
            Operation::WriteFile(file) => {
                let Content::Text(text) = &file.content else {
                    return Err("only text in this model".into());
                };
                host.files.insert(
                    file.path.clone(),
                    Entry {
                        mode: file.mode,
                        owner: file.owner.clone(),
                        text: Some(text.as_str().into()),
                        changed_at: now,
                    },
                );
            }
            Operation::RemoveFile(path) => {
                host.files.remove(path);
            }
            Operation::Extract {
                bin_dir, prefix, ..
            } => {
                for name in archive().binaries.keys() {
                    let path = if prefix.is_empty() {
                        format!("{bin_dir}/{name}")
                    } else {
                        staged(&format!("{bin_dir}/{name}"))
                    };
                    host.files.insert(
                        path,
                        Entry {
                            mode: 0o755,
                            owner: "root".into(),
                            text: Some(name.as_str().into()),
                            changed_at: now,
                        },
                    );
                }
            }
            Operation::AssertNoWal(_) if wal => return Err("there is a WAL".into()),
            Operation::AwaitWal { .. } if !wal => return Err("no WAL appears".into()),
            Operation::MoveAside { from, .. } if *from == layout.member_dir() => {
                if running {
                    return Err("data of a running member is moved".into());
                }
                self.etcd.clear(name, true);
            }
            Operation::SwitchStaged(paths) => {
                for path in paths {
                    if let Some(entry) = host.files.remove(&staged(path)) {
                        host.files.insert(path.clone(), entry);
                    }
                }
            }
            Operation::InstallPackages { packages, .. } => {
                for (name, version) in packages {
                    if name == "etcd-server" {
                        host.files.insert(
                            layout.etcd.clone(),
                            Entry {
                                mode: 0o755,
                                owner: "root".into(),
                                text: Some(format!("etcd {version}").into()),
                                changed_at: now,
                            },
                        );
                    }
                    host.packages.insert(name.clone(), version.clone());
                    host.held.insert(name.clone());
                }
            }
            Operation::HoldPackages { names, .. } => host.held.extend(names.iter().cloned()),
            Operation::ReleasePackages { names, .. } => {
                host.held.retain(|name| !names.contains(name));
            }
            Operation::RemovePackages { .. }
            | Operation::AddLearner(_)
            | Operation::Promote(_)
            | Operation::RemoveMember(_)
            | Operation::UpdateMember(..)
            | Operation::Relocate(_)
            | Operation::SaveSnapshot
            | Operation::PurgeData(_) => {
                return Err("not in this model".into());
            }
            Operation::AssertNoWal(_)
            | Operation::AwaitWal { .. }
            | Operation::MoveAside { .. }
            | Operation::Upload { .. }
            | Operation::GiveToRoot(_)
            | Operation::KeepPrevious(_)
            | Operation::RestorePrevious(_)
            | Operation::DropPrevious(_)
            | Operation::Sweep(_)
            | Operation::Journal(_) => {}
            Operation::Unit(..) | Operation::MoveLeader(_) => unreachable!("done by `outcomes`"),
        }
        Ok(())
    }

    /// The operations of an action.
    pub fn operations(action: &Action) -> Vec<Operation> {
        action.kind.as_kind().operations(&RunFacts::default())
    }

    /// What etcd says.
    pub fn view(&self) -> ClusterView {
        let states: Vec<(String, EtcdState)> = self
            .hosts
            .keys()
            .map(|name| (name.clone(), self.etcd(name)))
            .collect();
        ClusterView::gather(states.iter().map(|(name, state)| (name.as_str(), state)))
    }

    fn etcd(&self, name: &str) -> EtcdState {
        self.etcd.etcd(name, false, "http://somewhere")
    }

    /// Moves leadership off a member, as `apply` does: to any other voter that can take it.
    fn move_leader(self, member: MemberId) -> Vec<(Result<(), String>, Self)> {
        let mut moved = Vec::new();
        let leads = |(_, raft): &(_, &crate::model::raft::Raft)| raft.leader == Some(member);
        let Some((cluster, raft)) = self.etcd.rafts.iter().find(leads) else {
            return vec![(Ok(()), self)];
        };
        for to in raft.tip().voters().filter(|to| *to != member) {
            for (result, raft) in raft.move_leader(member, to) {
                let mut next = self.clone();
                next.etcd.rafts.insert(*cluster, raft);
                if result.is_ok() {
                    moved.push((Ok(()), next));
                }
            }
        }
        if moved.is_empty() {
            let small = raft.tip().voters().count() <= 2;
            let why = format!("leadership did not move off member {member}");
            moved.push((if small { Ok(()) } else { Err(why) }, self));
        }
        moved
    }

    /// A verb of systemctl.
    fn unit(mut self, name: &str, verb: UnitVerb) -> Vec<(Result<(), String>, Self)> {
        self.clock += 10;
        let host = self.hosts.get_mut(name).expect("a host");
        match verb {
            UnitVerb::DaemonReload | UnitVerb::ResetFailed | UnitVerb::ForgetRestart => {}
            UnitVerb::Enable => host.enabled = true,
            UnitVerb::Disable => host.enabled = false,
            UnitVerb::Unmask => host.masked = false,
            UnitVerb::Stop | UnitVerb::StopForRestart | UnitVerb::StopAgain => {
                host.process = None;
                self.etcd.stop(name, true);
            }
            UnitVerb::Restart | UnitVerb::RestartAgain => {
                host.process = None;
                self.etcd.stop(name, true);
                return self.start(name);
            }
            UnitVerb::Start => return self.start(name),
        }
        vec![(Ok(()), self)]
    }

    /// The unit starts, as what lies on the host tells it.
    fn start(mut self, name: &str) -> Vec<(Result<(), String>, Self)> {
        if self.is_running(name) {
            return vec![(Ok(()), self)];
        }
        let layout = self.layout(name);
        let host = &self.hosts[name];
        let text = |path: &str| host.files.get(path).and_then(|entry| entry.text.clone());
        let config = layout.files.first().and_then(|file| text(&file.path));
        let Some(config) = config else {
            return vec![(Err("no configuration".into()), self)];
        };
        let Some(binary) = text(&layout.etcd) else {
            return vec![(Err("no binary".into()), self)];
        };
        let mut environment = variables(&config);
        let lifted = text(&layout.start_drop_in.path).is_some();
        let start = text(&layout.start_drop_in.environment_path).filter(|_| lifted);
        let blank = self.etcd.member_on(name).is_none();
        let mut initial = None;
        if let (true, Some(start)) = (blank, &start) {
            environment.extend(variables(start));
            initial = Some(initial_of(&environment));
        }
        let process = Process {
            binary: sha256(&*binary).into(),
            started_at: self.clock,
            environment: Arc::new(environment),
        };
        let host = self.etcd.host(name);
        host.url = process.environment["ETCD_INITIAL_ADVERTISE_PEER_URLS"].clone();
        self.etcd
            .start(name, &process.environment["ETCD_NAME"], initial.as_ref())
            .into_iter()
            .map(|(begun, etcd)| {
                let mut next = Self {
                    etcd,
                    ..self.clone()
                };
                let machine = next.hosts.get_mut(name).expect("a host");
                if begun == Err(Exit::NoWal) {
                    return (Err("assertion failed: there is no WAL".into()), next);
                }
                machine
                    .starts
                    .push(if blank { "bootstrap" } else { "start" });
                machine.process = Some(process.clone());
                (Ok(()), next)
            })
            .collect()
    }

    /// What a probe of every host would find.
    pub fn observe(&self) -> Observed {
        let mut observed = Observed::default();
        if matches!(self.desired.etcd.install, Install::Archive { .. }) {
            observed
                .operator
                .archives
                .insert("amd64".into(), Ok(archive()));
        }
        for name in self.hosts.keys() {
            let state = if !self.etcd.hosts[name].is_reachable() {
                HostState::Unknown(quorate::observed::HostUnknown::Unreachable(
                    "no route".into(),
                ))
            } else {
                HostState::Known(Box::new(self.facts(name)))
            };
            observed.hosts.insert(name.clone(), state);
        }
        observed
    }

    fn facts(&self, name: &str) -> HostFacts {
        let host = &self.hosts[name];
        let run = self.etcd.hosts[name].run;
        let process = host.process.as_ref().filter(|_| run == Run::Up);
        let layout = self.layout(name);
        let mut paths: BTreeSet<String> =
            layout.files.iter().map(|file| file.path.clone()).collect();
        paths.extend(
            layout
                .directories
                .iter()
                .map(|directory| directory.path.clone()),
        );
        paths.extend(
            archive()
                .binaries
                .keys()
                .map(|binary| format!("{}/{binary}", layout.bin_dir)),
        );
        paths.insert(layout.start_drop_in.path.clone());
        paths.insert(layout.start_drop_in.environment_path.clone());
        let unit_path = layout
            .files
            .iter()
            .map(|file| file.path.clone())
            .find(|path| path.ends_with(&layout.unit))
            .expect("a unit file");
        let file_state = match (
            host.masked,
            host.enabled,
            host.files.contains_key(&unit_path),
        ) {
            (true, _, _) => "masked",
            (_, _, false) => "",
            (_, true, _) => "enabled",
            (_, false, _) => "disabled",
        };
        HostFacts {
            os: Os {
                id: "debian".into(),
                ..Os::default()
            },
            arch: "amd64".into(),
            tools: ["tar", "gzip", "apt-get"].map(String::from).into(),
            user: host.user,
            files: paths
                .into_iter()
                .map(|path| (path.clone(), fact(host.files.get(&path))))
                .collect(),
            unit: UnitFact {
                load: if host.files.contains_key(&unit_path) {
                    "loaded"
                } else {
                    "not-found"
                }
                .into(),
                active: match run {
                    Run::Up => "active",
                    // systemd starts it again and again.
                    Run::Failed(_) => "activating",
                    Run::Off => "inactive",
                }
                .into(),
                file_state: file_state.into(),
                environment: process.map(|process| (*process.environment).clone()),
                running_sha256: process.map(|process| process.binary.to_string()),
                started_at: process.map(|process| process.started_at),
                ..UnitFact::default()
            },
            binary: host
                .files
                .get(&layout.etcd)
                .and_then(|entry| entry.text.as_ref())
                .map(|text| BinaryFact {
                    path: layout.etcd.clone(),
                    version: Some(version_of(text)),
                    sha256: sha256(&**text),
                }),
            packages: host.packages.clone(),
            held: host.held.clone(),
            data: self.etcd.data_dir(name),
            marker: match host
                .files
                .get(marker::PATH)
                .and_then(|entry| entry.text.as_ref())
            {
                Some(text) => MarkerState::parse(text),
                None => MarkerState::Absent,
            },
            filesystem: FilesystemFact {
                mount: "/".into(),
                free: 1 << 40,
                ..FilesystemFact::default()
            },
            clock_offset_ms: 0,
            listeners: vec![],
            etcd: self.etcd(name),
        }
    }

    /// Power goes and comes back: `/run` is empty, enabled units with data start.
    pub fn reboot(&mut self, name: &str) {
        self.etcd.stop(name, false);
        let host = self.hosts.get_mut(name).expect("a host");
        host.process = None;
        host.files.retain(|path, _| !path.starts_with("/run/"));
        if host.enabled && !host.masked {
            *self = self.clone().unit(name, UnitVerb::Start).swap_remove(0).1;
        }
        self.settle();
    }
}

fn fact(entry: Option<&Entry>) -> FileFact {
    let Some(entry) = entry else {
        return FileFact::Absent;
    };
    let stat = FileStat {
        mode: entry.mode,
        owner: entry.owner.clone(),
        group: entry.owner.clone(),
        size: entry.text.as_ref().map_or(0, |text| text.len() as u64),
        changed_at: entry.changed_at,
        sha256: entry.text.as_deref().map(sha256),
        text: entry.text.as_deref().map(str::to_owned),
        certificate: None,
    };
    if entry.text.is_some() {
        FileFact::File(stat)
    } else {
        FileFact::Directory(stat)
    }
}

/// What a binary says when it is asked: it is a text such as `etcd 3.5.16-1`.
fn version_of(binary: &str) -> String {
    let version = binary
        .split_once(' ')
        .map_or("3.5.16", |(_, version)| version);
    let upstream = version
        .split_once('-')
        .map_or(version, |(upstream, _)| upstream);
    upstream.to_owned()
}

fn staged(path: &str) -> String {
    format!("{path}.staged")
}

fn variables(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

/// The `initial-*` of a start.
fn initial_of(environment: &BTreeMap<String, String>) -> Initial {
    Initial {
        existing: environment["ETCD_INITIAL_CLUSTER_STATE"] == "existing",
        cluster: environment["ETCD_INITIAL_CLUSTER"]
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, url)| (name.to_owned(), url.to_owned()))
            .collect(),
        token: environment["ETCD_INITIAL_CLUSTER_TOKEN"].clone(),
    }
}
