//! A small model of hosts: what operations do to files, units and data, and what a probe would see.

use std::collections::{BTreeMap, BTreeSet};

use quorate::action::{Action, Operation, RunFacts, UnitVerb};
use quorate::desired::model::{Desired, Node};
use quorate::etcd::id::{ClusterId, MemberId};
use quorate::etcd::wal::WalIdentity;
use quorate::observed::etcd::{ClusterView, EtcdAnswer, EtcdState, Member, MemberStatus};
use quorate::observed::host::{
    BinaryFact, DataDir, FileFact, FileStat, FilesystemFact, HostFacts, Os, UnitFact,
};
use quorate::observed::marker::{self, Generation, MarkerState, Phase};
use quorate::observed::{ArchiveFact, HostState, Observed};
use quorate::plan::fingerprint::sha256;
use quorate::runtime::{self, Content, Layout};

/// Hosts by node name.
pub struct World {
    pub desired: Desired,
    pub hosts: BTreeMap<String, Machine>,
    clock: i64,
}

/// One host.
#[derive(Clone, Default)]
pub struct Machine {
    pub files: BTreeMap<String, Entry>,
    pub user: bool,
    pub enabled: bool,
    pub masked: bool,
    pub running: Option<Process>,
    pub wal: Option<WalIdentity>,
    /// Peer URLs by name that its WAL knows.
    pub peers: BTreeMap<String, String>,
    /// A bootstrap on an empty directory, and any start of a member, in order.
    pub starts: Vec<&'static str>,
    pub unreachable: bool,
}

/// A file or, without text, a directory.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub mode: u32,
    pub owner: String,
    pub text: Option<String>,
    pub changed_at: i64,
}

/// A running member.
#[derive(Clone)]
pub struct Process {
    pub environment: BTreeMap<String, String>,
    pub binary: String,
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
        let hosts = desired
            .nodes
            .iter()
            .map(|node| (node.name.clone(), Machine::default()))
            .collect();
        Self {
            desired,
            hosts,
            clock: 1_000,
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

    /// Performs one operation; `Err` is what a script would say.
    pub fn perform(&mut self, name: &str, operation: &Operation) -> Result<(), String> {
        self.clock += 10;
        let now = self.clock;
        let layout = self.layout(name);
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
                let data = host.wal.is_some() && *path == layout.data_dir;
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
                        text: Some(text.clone()),
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
                            text: Some(name.clone()),
                            changed_at: now,
                        },
                    );
                }
            }
            Operation::Unit(verb, _) => return unit(host, *verb, &layout, now),
            Operation::AssertNoWal(_) if host.wal.is_some() => return Err("there is a WAL".into()),
            Operation::AwaitWal { .. } if host.wal.is_none() => return Err("no WAL appears".into()),
            Operation::MoveAside { from, .. } if *from == layout.member_dir() => {
                if host.running.is_some() {
                    return Err("data of a running member is moved".into());
                }
                host.wal = None;
            }
            Operation::SwitchStaged(paths) => {
                for path in paths {
                    if let Some(entry) = host.files.remove(&staged(path)) {
                        host.files.insert(path.clone(), entry);
                    }
                }
            }
            Operation::InstallPackages { .. }
            | Operation::RemovePackages { .. }
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
            | Operation::Journal(_)
            | Operation::MoveLeader(_) => {}
            Operation::AddLearner(_)
            | Operation::Promote(_)
            | Operation::RemoveMember(_)
            | Operation::SaveSnapshot => return Err("not in this model".into()),
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
        let host = &self.hosts[name];
        let (Some(wal), Some(_), false) = (host.wal, &host.running, host.unreachable) else {
            return EtcdState::Silent;
        };
        let up: Vec<MemberId> = self
            .hosts
            .values()
            .filter(|other| other.running.is_some())
            .filter_map(|other| other.wal)
            .filter(|other| other.cluster_id == wal.cluster_id)
            .map(|other| other.member_id)
            .collect();
        let quorate = up.len() > host.peers.len() / 2;
        let leader = up
            .iter()
            .min()
            .copied()
            .filter(|_| quorate)
            .unwrap_or(MemberId(0));
        let members = host
            .peers
            .iter()
            .map(|(peer, url)| {
                let id = self
                    .hosts
                    .values()
                    .filter_map(|other| other.wal.map(|wal| (other, wal)))
                    .find(|(other, _)| {
                        other.peers.get(peer) == Some(url)
                            && other.files.values().any(|file| {
                                file.text.as_ref().is_some_and(|text| {
                                    text.contains(&format!("ETCD_NAME=\"{peer}\""))
                                })
                            })
                    });
                Member {
                    id: id.map_or(MemberId(u64::MAX), |(_, wal)| wal.member_id),
                    name: peer.clone(),
                    peer_urls: vec![url.clone()],
                    client_urls: vec!["http://somewhere".into()],
                    is_learner: false,
                }
            })
            .collect();
        EtcdState::Answered(Box::new(EtcdAnswer {
            status: MemberStatus {
                cluster_id: wal.cluster_id,
                member_id: wal.member_id,
                leader,
                raft_term: 2,
                raft_index: 10,
                raft_applied_index: 10,
                version: "3.5.16".into(),
                db_size: 1,
                db_size_in_use: 1,
                is_learner: false,
                errors: vec![],
            },
            members: Some(members),
            alarms: Some(vec![]),
        }))
    }

    /// What a probe of every host would find.
    pub fn observe(&self) -> Observed {
        let mut observed = Observed::default();
        observed
            .operator
            .archives
            .insert("amd64".into(), Ok(archive()));
        for name in self.hosts.keys() {
            let state = if self.hosts[name].unreachable {
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
            os: Os::default(),
            arch: "amd64".into(),
            tools: ["tar", "gzip"].map(String::from).into(),
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
                active: if host.running.is_some() {
                    "active"
                } else {
                    "inactive"
                }
                .into(),
                file_state: file_state.into(),
                environment: host
                    .running
                    .as_ref()
                    .map(|process| process.environment.clone()),
                running_sha256: host.running.as_ref().map(|process| process.binary.clone()),
                started_at: host.running.as_ref().map(|process| process.started_at),
                ..UnitFact::default()
            },
            binary: host
                .files
                .get(&layout.etcd)
                .and_then(|entry| entry.text.as_ref())
                .map(|text| BinaryFact {
                    path: layout.etcd.clone(),
                    version: Some("3.5.16".into()),
                    sha256: sha256(text),
                }),
            packages: BTreeMap::new(),
            data: host.wal.map_or(DataDir::Empty, DataDir::Wal),
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
        let layout = self.layout(name);
        self.clock += 10;
        let now = self.clock;
        let host = self.hosts.get_mut(name).expect("a host");
        host.running = None;
        host.files.retain(|path, _| !path.starts_with("/run/"));
        if host.enabled && !host.masked {
            let _ = unit(host, UnitVerb::Start, &layout, now);
        }
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
        sha256: entry.text.as_ref().map(sha256),
        text: entry.text.clone(),
        certificate: None,
    };
    if entry.text.is_some() {
        FileFact::File(stat)
    } else {
        FileFact::Directory(stat)
    }
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

fn unit(host: &mut Machine, verb: UnitVerb, layout: &Layout, now: i64) -> Result<(), String> {
    match verb {
        UnitVerb::DaemonReload | UnitVerb::ResetFailed | UnitVerb::ForgetRestart => {}
        UnitVerb::Enable => host.enabled = true,
        UnitVerb::Disable => host.enabled = false,
        UnitVerb::Unmask => host.masked = false,
        UnitVerb::Stop => host.running = None,
        UnitVerb::Restart | UnitVerb::RestartAgain => {
            host.running = None;
            return unit(host, UnitVerb::Start, layout, now);
        }
        UnitVerb::Start => {
            let text = |path: &str| host.files.get(path).and_then(|entry| entry.text.clone());
            let config = layout
                .files
                .first()
                .map(|file| file.path.clone())
                .and_then(|path| text(&path));
            let Some(config) = config else {
                return Err("no configuration".into());
            };
            if !host.files.contains_key(&layout.etcd) {
                return Err("no binary".into());
            }
            let mut environment = variables(&config);
            if host.wal.is_none() {
                let lifted = text(&layout.start_drop_in.path).is_some();
                let Some(start) = text(&layout.start_drop_in.environment_path).filter(|_| lifted)
                else {
                    return Err("assertion failed: there is no WAL".into());
                };
                environment.extend(variables(&start));
                let generation = Generation {
                    nonce: String::new(),
                    token: environment["ETCD_INITIAL_CLUSTER_TOKEN"].clone(),
                    initial_cluster: environment["ETCD_INITIAL_CLUSTER"]
                        .split(',')
                        .filter_map(|pair| pair.split_once('='))
                        .map(|(name, url)| (name.to_owned(), url.to_owned()))
                        .collect(),
                    phase: Phase::Frozen,
                };
                let cluster_id: ClusterId = generation.cluster_id();
                let member_id = generation
                    .member_id(&environment["ETCD_NAME"])
                    .ok_or("not in the initial cluster")?;
                host.wal = Some(WalIdentity {
                    member_id,
                    cluster_id,
                });
                host.peers = generation.initial_cluster;
                host.starts.push("bootstrap");
            } else {
                host.starts.push("start");
            }
            let binary = host
                .files
                .get(&layout.etcd)
                .and_then(|entry| entry.text.clone())
                .unwrap_or_default();
            host.running = Some(Process {
                environment,
                binary: sha256(binary),
                started_at: now,
            });
        }
    }
    Ok(())
}
