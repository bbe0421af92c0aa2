//! A cluster of three, its hosts as they may be found, and plans.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quorate::action::configure::Configure;
use quorate::action::destroy::{Clean, SetAside, Stop};
use quorate::action::marker::{Claim, Record};
use quorate::action::restart::Restart;
use quorate::action::{Action, ActionId, ActionKind, Change, Margin};
use quorate::desired::model::Desired;
use quorate::etcd::id::{ClusterId, MemberId};
use quorate::observed::etcd::{EtcdAnswer, Member, MemberStatus};
use quorate::observed::host::{DataDir, FilesystemFact, Os, PackageManager, UnitFact};
use quorate::observed::marker::{Generation, Marker, Phase};
use quorate::observed::{
    ArchiveFact, EtcdState, HostFacts, HostState, MarkerState, Observed, OperatorFacts, Table,
    Whereabouts,
};
use quorate::plan::{Blocked, Goal, Intent, Plan};
use quorate::runtime::{Content, FileWrite, Profile};
use time::OffsetDateTime;

pub const NOW: i64 = 1_792_000_000;
pub const CLUSTER: ClusterId = ClusterId(0x7f3a_9c04_55d1_e802);

const FILE: &str = r#"
schema = 1
[cluster]
name = "demo"
token = "demo-1"
[etcd]
version = "3.5.16"
[etcd.settings]
quota-backend-bytes = "8GiB"
[etcd.install]
method = "archive"
archive = "etcd.tar.gz"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[ssh]
user = "ops"
[[node]]
name = "etcd-1"
ip = "10.0.0.1"
[[node]]
name = "etcd-2"
ip = "10.0.0.2"
[[node]]
name = "etcd-3"
ip = "10.0.0.3"
[tls]
client = "managed"
peer = "managed"
"#;

pub fn desired() -> Desired {
    quorate::desired::parse(FILE, "cluster.toml", Path::new("/home/ops/demo"), None)
        .map_err(|found| quorate::render::diagnostic::render(&found, false))
        .unwrap_or_else(|text| panic!("{text}"))
        .0
}

/// A host on which nothing is.
pub fn blank() -> HostFacts {
    HostFacts {
        os: Os {
            id: "debian".into(),
            version_id: "12".into(),
            id_like: vec![],
        },
        arch: "amd64".into(),
        tools: ["tar", "gzip"].map(String::from).into(),
        user: false,
        files: BTreeMap::new(),
        unit: UnitFact {
            load: "not-found".into(),
            active: "inactive".into(),
            ..UnitFact::default()
        },
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
            free: 1 << 40,
        },
        boot: String::new(),
        clock_offset_ms: 0,
        listeners: vec![],
        etcd: EtcdState::Silent,
    }
}

pub fn observed(hosts: impl IntoIterator<Item = (&'static str, HostState)>) -> Observed {
    let binaries = BTreeMap::from([("etcd".to_owned(), "ab".repeat(32))]);
    let archive = ArchiveFact {
        sha256: "0".repeat(64),
        binaries,
    };
    Observed {
        hosts: hosts
            .into_iter()
            .map(|(name, state)| (name.to_owned(), state))
            .collect(),
        aliases: std::collections::BTreeSet::new(),
        others: std::collections::BTreeSet::new(),
        operator: OperatorFacts {
            archives: BTreeMap::from([("amd64".to_owned(), Ok(archive))]),
            authority: None,
        },
    }
}

pub fn known(facts: HostFacts) -> HostState {
    HostState::Known(Box::new(facts))
}

pub fn members() -> Vec<Member> {
    (1..=3)
        .map(|number| Member {
            id: MemberId(0xa100 + number),
            name: format!("etcd-{number}"),
            peer_urls: vec![format!("https://10.0.0.{number}:2380")],
            client_urls: vec![format!("https://10.0.0.{number}:2379")],
            is_learner: false,
        })
        .collect()
}

/// A host whose member answers; the second leads.
pub fn answering(number: u64) -> HostFacts {
    let status = MemberStatus {
        cluster_id: CLUSTER,
        member_id: MemberId(0xa100 + number),
        leader: MemberId(0xa102),
        raft_term: 4,
        raft_index: 5000,
        raft_applied_index: 5000 - number,
        version: "3.5.16".into(),
        db_size: 20 << 20,
        db_size_in_use: 5 << 20,
        is_learner: false,
        errors: vec![],
    };
    HostFacts {
        unit: UnitFact {
            load: "loaded".into(),
            active: "active".into(),
            ..UnitFact::default()
        },
        etcd: EtcdState::Answered(Box::new(EtcdAnswer {
            status,
            members: Some(members()),
        })),
        ..blank()
    }
}

pub fn living() -> Observed {
    observed([
        ("etcd-1", known(answering(1))),
        ("etcd-2", known(answering(2))),
        ("etcd-3", known(answering(3))),
    ])
}

fn intent(goal: Goal) -> Intent {
    Intent {
        goal,
        nonce: "5ca1ab1e".into(),
    }
}

/// An empty plan.
pub fn nothing(goal: Goal) -> Plan {
    Plan {
        format_version: quorate::plan::FORMAT_VERSION.into(),
        // A release does not change what is compared.
        tool_version: "1.2.3".into(),
        created_at: NOW,
        intent: intent(goal),
        desired: desired(),
        actions: vec![],
        blocked: vec![],
        warnings: vec![],
        facts: BTreeMap::new(),
        fingerprint: "f1".repeat(32),
    }
}

pub const CONVERGE: Goal = Goal::Converge {
    allow_downtime: false,
    replace: vec![],
};

/// What the planner itself makes of three blank hosts.
pub fn bootstrap() -> Plan {
    let hosts = ["etcd-1", "etcd-2", "etcd-3"].map(|name| (name, known(blank())));
    let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    let plan = quorate::plan::plan(&desired(), &observed(hosts), &intent(CONVERGE), now);
    assert_eq!(plan.blocked, []);
    Plan {
        tool_version: "1.2.3".into(),
        ..plan
    }
}

pub fn marker() -> Marker {
    Marker {
        peer_url: None,
        version: 1,
        cluster: "demo".into(),
        node: "etcd-1".into(),
        generation: Generation {
            nonce: "5ca1ab1e".into(),
            token: "demo-1-5ca1ab1e".into(),
            initial_cluster: Table::default(),
            phase: Phase::Complete,
        },
        cluster_id: Some(CLUSTER),
        member_id: Some(MemberId(0xa101)),
        unit: "etcd.service".into(),
        data_dir: "/var/lib/etcd".into(),
        wal_dir: None,
        moving: vec![],
        filesystem: None,
        files: BTreeMap::new(),
        directories: vec![],
        user: None,
        packages: vec![],
        held: vec![],
        archive: None,
        authority: None,
        addresses: Table::default(),
        last_plan: None,
    }
}

pub fn file(path: &str, content: Content) -> FileWrite {
    FileWrite {
        path: path.into(),
        mode: 0o644,
        owner: "root".into(),
        group: "root".into(),
        content,
    }
}

pub fn action(node: Option<&str>, verb: &str, kind: ActionKind, needs: &[&str]) -> Action {
    Action {
        id: node.map_or_else(
            || ActionId::of_cluster(verb),
            |node| ActionId::of_node(node, verb),
        ),
        node: node.map(str::to_owned),
        kind,
        because: vec![],
        needs: needs
            .iter()
            .map(|id| ActionId((*id).to_owned()))
            .collect::<BTreeSet<_>>(),
        changes: vec![],
        margin: None,
    }
}

pub fn change(name: &str, before: Option<&str>, after: Option<&str>) -> Change {
    Change {
        name: name.into(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
        drift: false,
        text: false,
    }
}

/// A configuration of many lines.
fn configuration(heartbeat: &str) -> String {
    let mut text = String::from("# Written by quorate.\n");
    for number in 0..20 {
        text.push_str(&format!("ETCD_OPTION_{number}=\"{number}\"\n"));
        if number == 9 {
            text.push_str(&format!("ETCD_HEARTBEAT_INTERVAL=\"{heartbeat}\"\n"));
        }
    }
    text
}

/// Drift, a rolling restart, a certificate, and a host that is blocked.
pub fn rolling() -> Plan {
    let mut plan = nothing(CONVERGE);
    for node in ["etcd-1", "etcd-2"] {
        let number = if node == "etcd-1" { 1 } else { 2 };
        let id = |verb: &str| format!("node.{node}.{verb}");
        let claim = ActionKind::Claim(Claim {
            marker: marker(),
            fresh: false,
            abandoned: vec![],
        });
        plan.actions.push(action(Some(node), "claim", claim, &[]));
        let path = "/etc/etcd/pki/server.crt";
        let mut configure = action(
            Some(node),
            "configure",
            ActionKind::Configure(Configure {
                files: vec![
                    file(
                        "/etc/systemd/system/etcd.service",
                        Content::Text("new".into()),
                    ),
                    file(path, Content::Certificate(Profile::Server)),
                ],
                remove: vec![],
                reload: None,
                fresh: false,
            }),
            &[&id("claim")],
        );
        configure.changes = vec![
            Change {
                drift: true,
                ..change("/etc/etcd/etcd.conf mode", Some("0666"), Some("0644"))
            },
            change(path, Some("it expires in 12 days"), None),
            change(
                "certificate authority",
                Some(&"ab".repeat(32)),
                Some(&"cd".repeat(32)),
            ),
            change("unit", None, Some("enabled")),
            change("proxy", Some("on"), None),
            Change {
                text: true,
                ..change(
                    "/etc/etcd/short.conf",
                    None,
                    Some("ETCD_NAME=\"etcd-1\"\nETCD_PROXY=\"\u{1b}[31m\"\n"),
                )
            },
            Change {
                text: true,
                ..change("/etc/etcd/long.conf", None, Some(&"line\n".repeat(41)))
            },
            Change {
                text: true,
                ..change("/etc/etcd/old.conf", Some("a\nb\n"), None)
            },
        ];
        plan.actions.push(configure);
        let because = vec![
            "runs with ETCD_HEARTBEAT_INTERVAL=100".to_owned(),
            "was started by another version of etcd.service".to_owned(),
        ];
        let mut restart = action(
            Some(node),
            "restart",
            ActionKind::Restart(Restart {
                unit: "etcd.service".into(),
                member: MemberId(0xa100 + number),
                files: vec![],
                binaries: vec![],
                pending: vec![],
                allow_downtime: false,
                is_settled: false,
                is_down: false,
                readdress: None,
                moves: vec![],
                back: vec![],
                reasons: because.clone(),
            }),
            &[&id("claim"), &id("configure")],
        );
        restart.changes = vec![
            Change {
                text: true,
                drift: true,
                ..change(
                    "/etc/etcd/etcd.conf",
                    Some(&configuration("100")),
                    Some(&configuration("500")),
                )
            },
            change("running", Some(&because[0]), Some("as configured")),
        ];
        restart.because = because;
        restart.margin = Some(Margin {
            voters: 3,
            before: 3,
            during: 2,
            needs: 2,
        });
        plan.actions.push(restart);
        let record = ActionKind::Record(Record {
            marker: marker(),
            settled: vec![],
            abandoned: vec![],
        });
        plan.actions
            .push(action(Some(node), "record", record, &[&id("restart")]));
    }
    plan.blocked.push(blocked());
    plan.warnings.push("member a103 raises NOSPACE".into());
    plan
}

pub fn blocked() -> Blocked {
    Blocked {
        node: Some("etcd-3".into()),
        reason: "10.0.0.3 port 22 does not answer within 10 s".into(),
        remedy: "nothing was compared on it; make it reachable and plan again".into(),
    }
}

/// A destroy of two hosts; of one the data is deleted.
pub fn destroy() -> Plan {
    let mut plan = nothing(Goal::Destroy { purge_data: false });
    for node in ["etcd-1", "etcd-2"] {
        let id = |verb: &str| format!("node.{node}.{verb}");
        let stop = ActionKind::Stop(Stop {
            unit: "etcd.service".into(),
            member: None,
        });
        plan.actions.push(action(Some(node), "stop", stop, &[]));
        let aside = if node == "etcd-1" {
            let to = "/var/lib/etcd/member.quorate-destroyed-20261014T101500Z";
            SetAside {
                member: None,
                moves: vec![("/var/lib/etcd/member".into(), to.into())],
                purge: vec![],
            }
        } else {
            SetAside {
                member: None,
                moves: vec![],
                purge: vec!["/var/lib/etcd/member".into()],
            }
        };
        plan.actions.push(action(
            Some(node),
            "set-aside",
            ActionKind::SetAside(aside),
            &[&id("stop")],
        ));
        let clean = ActionKind::Clean(Clean {
            unit: "etcd.service".into(),
            files: vec!["/etc/etcd/etcd.conf".into()],
            directories: vec![],
            data: vec![],
            aside: vec![],
            user: None,
            packages: vec![],
            held: vec![],
            manager: PackageManager::Apt,
        });
        plan.actions.push(action(
            Some(node),
            "clean",
            clean,
            &[&id("stop"), &id("set-aside")],
        ));
    }
    for action in &mut plan.actions {
        action.because.push("the cluster is destroyed".into());
    }
    plan
}
