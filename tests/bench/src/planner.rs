//! Time of the planner alone, on observations that are made up from the cluster file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate::action::ActionKind;
use quorate::desired::{self, Desired};
use quorate::etcd::wal::WalIdentity;
use quorate::observed::certificate::FoundCertificate;
use quorate::observed::etcd::{EtcdAnswer, Member, MemberStatus};
use quorate::observed::host::{
    BinaryFact, DataDir, FileFact, FileStat, FilesystemFact, Listener, Os, UnitFact,
};
use quorate::observed::{
    ArchiveFact, EtcdState, HostFacts, HostState, Marker, MarkerState, Observed, OperatorFacts,
    Whereabouts,
};
use quorate::pki::{self, Authority, KeyProtection, NewAuthority};
use quorate::plan::{self, Goal, Intent, Plan};
use quorate::runtime::{self, Content, Layout, Profile};
use time::OffsetDateTime;

use crate::Result;
use crate::measure::median;
use crate::report::{Report, Row};

const BUDGET: Duration = Duration::from_millis(50);
const SIZES: [usize; 3] = [10, 100, 1000];
const DIGEST: &str = "2afb9c5b091eebbed1db23022271e1150caa4d7a94279719ad21295a95b1b2c2";

/// Plans for clusters that need nothing, and for blank hosts.
pub fn measure(report: &mut Report) -> Result<()> {
    let pki = tempfile::tempdir()?;
    let now = OffsetDateTime::now_utc();
    let mut idle = Vec::new();
    let mut blank = Vec::new();
    for nodes in SIZES {
        let world = World::new(nodes, pki.path(), now)?;
        let fresh = world.blank();
        let plan = world.plan(&fresh);
        if nodes <= 100 {
            blank.push(time(|| world.plan(&fresh)));
        }
        let settled = world.settled(&plan)?;
        let again = world.plan(&settled);
        if !again.is_empty() || !again.blocked.is_empty() {
            let actions: Vec<_> = again.actions.iter().take(3).map(|a| &a.id).collect();
            return Err(format!(
                "a settled cluster of {nodes} is to be changed: {actions:?} {:?}",
                again.blocked.first()
            )
            .into());
        }
        idle.push(time(|| world.plan(&settled)));
    }
    report.row(Row::plain(
        "planner, nothing to do, TLS: 10 / 100 / 1,000 nodes",
        milliseconds(&idle),
        "1,000 nodes ≤ 50 ms",
        idle.last()
            .is_some_and(|last| *last <= BUDGET.as_secs_f64()),
    ));
    let ten_fold = idle[2] / idle[1];
    // n log n: ten times the nodes, log 1000 / log 100 times the depth.
    let allowed = 10.0 * 1.5;
    report.row(Row::plain(
        "its growth from 100 to 1,000 nodes",
        format!("{ten_fold:.1}-fold"),
        "≤ 15-fold (n log n)",
        ten_fold <= allowed,
    ));
    report.row(Row::noted(
        "planner, bootstrap, TLS: 10 / 100 nodes",
        milliseconds(&blank),
    ));
    Ok(())
}

fn time(work: impl Fn() -> Plan) -> f64 {
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < 5 || (begun.elapsed() < Duration::from_secs(1) && times.len() < 200) {
        let start = Instant::now();
        std::hint::black_box(work());
        times.push(start.elapsed().as_secs_f64());
    }
    median(&times)
}

fn milliseconds(times: &[f64]) -> String {
    let texts: Vec<String> = times
        .iter()
        .map(|seconds| format!("{:.2}", seconds * 1000.0))
        .collect();
    format!("{} ms", texts.join(" / "))
}

struct World {
    desired: Desired,
    operator: OperatorFacts,
    /// By profile: what the certificate of each node says.
    certificates: BTreeMap<String, BTreeMap<Profile, FileStat>>,
    authority: FileStat,
    now: OffsetDateTime,
}

impl World {
    fn new(nodes: usize, pki: &Path, now: OffsetDateTime) -> Result<Self> {
        let mut text = format!(
            "schema = 1\n[cluster]\nname = \"demo\"\n[etcd]\nversion = \"3.5.33\"\n[etcd.install]\n\
             method = \"archive\"\narchive = \"/etcd-v{{version}}-{{arch}}.tar.gz\"\nsha256 = \"{DIGEST}\"\n\
             [ssh]\nuser = \"root\"\n[tls]\nclient = \"managed\"\npeer = \"managed\"\n"
        );
        for number in 0..nodes {
            let (high, low) = (number / 250, number % 250 + 1);
            let _ = write!(
                text,
                "[[node]]\nname = \"node-{number:04}\"\nip = \"10.0.{high}.{low}\"\n"
            );
        }
        let (desired, _) = desired::parse(&text, "bench.toml", Path::new("/"), None)
            .map_err(|errors| format!("the cluster file is wrong: {:?}", errors.first()))?;
        let ca = &desired.tls.ca;
        let new = NewAuthority {
            cluster: &desired.cluster.name,
            key: ca.key,
            validity: ca.validity,
        };
        let authority = Authority::create_or_open(pki, &new, &KeyProtection::Plain, now)?;
        let facts = authority.certificate().facts().clone();
        let stat = |mode: u32, owner: &str, certificate| FileStat {
            mode,
            owner: owner.into(),
            group: owner.into(),
            size: 600,
            changed_at: now.unix_timestamp() - 100,
            sha256: Some(DIGEST.into()),
            text: None,
            certificate,
        };
        let leaf = &desired.tls.leaf;
        let mut certificates = BTreeMap::new();
        for node in &desired.nodes {
            let mut pairs = BTreeMap::new();
            for profile in [Profile::Server, Profile::Peer] {
                let names = pki::member_names(node);
                let issued = pki::issue(&authority, profile, &names, leaf.key, leaf.validity, now)?;
                let found = FoundCertificate::new(issued.facts, Some(&facts));
                pairs.insert(profile, stat(0o644, "root", Some(Ok(found))));
            }
            certificates.insert(node.name.clone(), pairs);
        }
        let binaries =
            ["etcd", "etcdctl", "etcdutl"].map(|name| (name.to_owned(), DIGEST.to_owned()));
        Ok(Self {
            authority: FileStat {
                sha256: Some(facts.sha256.clone()),
                ..stat(
                    0o644,
                    "root",
                    Some(Ok(FoundCertificate::new(
                        facts.current.clone(),
                        Some(&facts),
                    ))),
                )
            },
            operator: OperatorFacts {
                archives: BTreeMap::from([(
                    "amd64".to_owned(),
                    Ok(ArchiveFact {
                        sha256: DIGEST.into(),
                        binaries: BTreeMap::from(binaries),
                    }),
                )]),
                authority: Some(facts),
            },
            certificates,
            desired,
            now,
        })
    }

    fn plan(&self, observed: &Observed) -> Plan {
        let intent = Intent {
            goal: Goal::Converge {
                allow_downtime: false,
                replace: vec![],
            },
            nonce: "0123456789abcdef".into(),
        };
        plan::plan(&self.desired, observed, &intent, self.now)
    }

    /// Nobody was there yet.
    fn blank(&self) -> Observed {
        let hosts = self.desired.nodes.iter().map(|node| {
            let facts = HostFacts {
                os: Os {
                    id: "debian".into(),
                    version_id: "12".into(),
                    id_like: vec![],
                },
                arch: "amd64".into(),
                tools: BTreeSet::from(["tar".to_owned(), "gzip".to_owned()]),
                user: false,
                files: BTreeMap::new(),
                unit: UnitFact::default(),
                binary: None,
                packages: BTreeMap::new(),
                held: BTreeSet::new(),
                data: DataDir::Empty,
                whereabouts: Whereabouts::default(),
                marker: MarkerState::Absent,
                filesystem: FilesystemFact {
                    mount: "/".into(),
                    fstype: "ext4".into(),
                    uuid: None,
                    free: 10 << 30,
                },
                boot: String::new(),
                clock_offset_ms: 0,
                listeners: vec![],
                etcd: EtcdState::Silent,
            };
            (node.name.clone(), HostState::Known(Box::new(facts)))
        });
        Observed {
            hosts: hosts.collect(),
            aliases: std::collections::BTreeSet::new(),
            others: std::collections::BTreeSet::new(),
            operator: self.operator.clone(),
        }
    }

    /// The bootstrap that `plan` plans has been done.
    fn settled(&self, plan: &Plan) -> Result<Observed> {
        let markers: BTreeMap<&str, &Marker> = plan
            .actions
            .iter()
            .filter_map(|action| match &action.kind {
                ActionKind::Record(record) => Some((action.node.as_deref()?, &record.marker)),
                _ => None,
            })
            .collect();
        let mut members = Vec::new();
        let mut ids = BTreeMap::new();
        for node in &self.desired.nodes {
            let layout = runtime::layout(&self.desired, node);
            let marker = markers
                .get(node.name.as_str())
                .ok_or_else(|| format!("the bootstrap does not record {}", node.name))?;
            let (Some(cluster_id), Some(id)) = (marker.cluster_id, marker.member_id) else {
                return Err("a record without IDs".into());
            };
            ids.insert(node.name.clone(), (cluster_id, id));
            members.push(Member {
                id,
                name: node.name.clone(),
                peer_urls: vec![layout.peer_url],
                client_urls: vec![layout.client_url],
                is_learner: false,
            });
        }
        let leader = members[0].id;
        let mut observed = self.blank();
        for node in &self.desired.nodes {
            let Some(HostState::Known(facts)) = observed.hosts.get_mut(&node.name) else {
                continue;
            };
            let layout = runtime::layout(&self.desired, node);
            let (cluster_id, member_id) = ids[&node.name];
            facts.user = true;
            facts.files = self.files(&node.name, &layout);
            facts.unit = UnitFact {
                load: "loaded".into(),
                active: "active".into(),
                sub: "running".into(),
                file_state: "enabled".into(),
                environment: Some(layout.environment.clone()),
                running_sha256: Some(DIGEST.into()),
                started_at: Some(self.now.unix_timestamp() - 50),
                ..UnitFact::default()
            };
            facts.binary = Some(BinaryFact {
                path: layout.etcd.clone(),
                version: Some("3.5.33".into()),
                sha256: DIGEST.into(),
            });
            facts.data = DataDir::Wal(WalIdentity {
                member_id,
                cluster_id,
            });
            facts.whereabouts = layout.place().whereabouts();
            facts.marker = MarkerState::Present(Box::new(markers[node.name.as_str()].clone()));
            facts.listeners = vec![Listener {
                port: layout.client_port,
                ours: true,
                owner: "etcd".into(),
            }];
            facts.etcd = EtcdState::Answered(Box::new(EtcdAnswer {
                status: MemberStatus {
                    cluster_id,
                    member_id,
                    leader,
                    raft_term: 2,
                    raft_index: 1000,
                    raft_applied_index: 1000,
                    version: "3.5.33".into(),
                    db_size: 20480,
                    db_size_in_use: 16384,
                    is_learner: false,
                    errors: vec![],
                },
                // Every member answers with the whole list; all are alike.
                members: Some(members.clone()),
            }));
        }
        Ok(observed)
    }

    fn files(&self, node: &str, layout: &Layout) -> BTreeMap<String, FileFact> {
        let mut files = BTreeMap::new();
        for directory in &layout.directories {
            let stat = FileStat {
                mode: directory.mode,
                owner: directory.owner.clone(),
                group: directory.group.clone(),
                ..FileStat::default()
            };
            files.insert(directory.path.clone(), FileFact::Directory(stat));
        }
        for file in &layout.files {
            let mut stat = match &file.content {
                Content::Text(text) => FileStat {
                    sha256: Some(plan::fingerprint::sha256(text)),
                    ..self.authority.clone()
                },
                Content::Authority => self.authority.clone(),
                Content::Certificate(profile) | Content::Key(profile) => {
                    self.certificates[node][profile].clone()
                }
            };
            if !matches!(file.content, Content::Authority | Content::Certificate(_)) {
                stat.certificate = None;
            }
            stat.mode = file.mode;
            stat.owner.clone_from(&file.owner);
            stat.group.clone_from(&file.group);
            files.insert(file.path.clone(), FileFact::File(stat));
        }
        for name in ["etcd", "etcdctl", "etcdutl"] {
            let stat = FileStat {
                mode: 0o755,
                owner: "root".into(),
                group: "root".into(),
                sha256: Some(DIGEST.into()),
                certificate: None,
                ..self.authority.clone()
            };
            files.insert(format!("{}/{name}", layout.bin_dir), FileFact::File(stat));
        }
        files
    }
}
