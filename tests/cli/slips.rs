//! Slips of the pen: names that neither file nor plan have.

use std::path::Path;

use quorate::observed::host::{DataDir, FilesystemFact, HostFacts, Os, UnitFact};
use quorate::observed::{EtcdState, HostState, MarkerState, Observed, Whereabouts};
use quorate::plan::{Goal, Intent};

use super::{expect, temporary};

/// Puts a file of one node into a directory, and a plan that sets it up on a blank host; nobody answers there.
pub fn saved(dir: &Path) {
    let text = "schema = 1\n[cluster]\nname = \"demo\"\n[etcd]\nversion = \"3.5.33\"\n\
                [etcd.install]\nmethod = \"package\"\n[ssh]\nport = 1\n\
                [[node]]\nname = \"etcd-1\"\nip = \"127.0.0.1\"\n";
    std::fs::write(dir.join("cluster.toml"), text).unwrap();
    let (desired, _) = quorate::desired::parse(text, "cluster.toml", dir, None).unwrap();
    let facts = HostFacts {
        os: Os {
            id: "debian".into(),
            ..Os::default()
        },
        arch: "amd64".into(),
        tools: ["apt-get".to_owned()].into(),
        user: false,
        files: Default::default(),
        unit: UnitFact::default(),
        binary: None,
        packages: Default::default(),
        held: Default::default(),
        data: DataDir::Empty,
        whereabouts: Whereabouts::default(),
        marker: MarkerState::Absent,
        filesystem: FilesystemFact {
            free: 1 << 40,
            ..FilesystemFact::default()
        },
        boot: String::new(),
        clock_offset_ms: 0,
        listeners: vec![],
        etcd: EtcdState::Silent,
    };
    let mut observed = Observed::default();
    let state = HostState::Known(Box::new(facts));
    observed.hosts.insert("etcd-1".into(), state);
    let intent = Intent {
        goal: Goal::Converge {
            allow_downtime: false,
            replace: vec![],
        },
        nonce: "n".into(),
    };
    let now = time::OffsetDateTime::UNIX_EPOCH;
    let plan = quorate::plan::plan(&desired, &observed, &intent, now);
    assert!(!plan.is_empty(), "{:?}", plan.blocked);
    quorate::command::saved::write(&plan, &dir.join("a.plan")).unwrap();
}

/// Who gives a member up names it as the file does, or nothing at all is done.
#[test]
fn a_node_to_replace_that_the_file_does_not_have_is_a_slip() {
    let dir = temporary();
    saved(dir.path());
    for command in [
        &["plan", "--replace", "etdc-1"][..],
        &[
            "plan",
            "--replace",
            "etcd-1",
            "--replace",
            "etdc-1",
            "--json",
        ],
        &["apply", "--replace", "etdc-1", "--auto-approve"],
    ] {
        let (out, err) = expect(dir.path(), command, 1);
        assert_eq!(out, "", "{command:?}");
        let said = "Error: --replace etdc-1: the cluster file has no such node\n  did you mean etcd-1? A node that is \
                    gone for ever is taken out of the file instead: its member is removed then\n";
        assert!(err.ends_with(said), "{command:?}: {err}");
    }
    // One that it has is asked for.
    let (_, err) = expect(dir.path(), &["plan", "--replace", "etcd-1"], 3);
    assert!(!err.contains("no such node"), "{err}");
}

#[test]
fn an_action_to_explain_that_the_plan_does_not_have_is_a_slip() {
    let dir = temporary();
    saved(dir.path());
    let show = |id| ["show", "a.plan", "--explain", id];
    let (out, err) = expect(dir.path(), &show("node.etcd-1.instal"), 1);
    assert_eq!(out, "");
    let mut lines = err.lines();
    let first = "Error: the plan has no action node.etcd-1.instal";
    assert_eq!(lines.next(), Some(first));
    let remedy = lines.next().unwrap_or_default();
    assert!(
        remedy.starts_with("  did you mean node.etcd-1.install? It has node.etcd-1."),
        "{err}"
    );
    let (out, _) = expect(dir.path(), &show("node.etcd-1.install"), 0);
    assert!(out.starts_with("node.etcd-1.install\n"), "{out}");

    // Nobody answers, so that there is nothing to explain; why, the plan says.
    let plan = ["plan", "--explain", "node.etcd-1.install"];
    let (out, err) = expect(dir.path(), &plan, 1);
    assert_eq!(out, "");
    assert!(err.contains("has no action node.etcd-1.install"), "{err}");
    assert!(
        err.contains("blocked, and `quorate plan` says why"),
        "{err}"
    );
}
