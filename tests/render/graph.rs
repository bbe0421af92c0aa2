//! The graph of a plan.

use std::io::Write;
use std::process::{Command, Stdio};

use quorate::action::ActionId;
use quorate::render::graph::{dot, mermaid};

use crate::cluster;
use crate::golden::golden;

#[test]
fn goldens() {
    golden("graph/bootstrap.dot", &dot(&cluster::bootstrap()).unwrap());
    golden("graph/rolling.dot", &dot(&cluster::rolling()).unwrap());
    golden(
        "graph/bootstrap.mmd",
        &mermaid(&cluster::bootstrap()).unwrap(),
    );
    golden("graph/rolling.mmd", &mermaid(&cluster::rolling()).unwrap());
}

#[test]
fn edges_that_others_imply_are_left_out() {
    // configure needs claim, restart needs both: one edge is implied.
    let text = dot(&cluster::rolling()).unwrap();
    assert!(text.contains("\"node.etcd-1.configure\" -> \"node.etcd-1.restart\""));
    assert!(!text.contains("\"node.etcd-1.claim\" -> \"node.etcd-1.restart\""));
}

#[test]
fn a_plan_that_is_no_graph_is_an_error() {
    let mut plan = cluster::rolling();
    plan.actions[0]
        .needs
        .insert(ActionId("node.etcd-1.record".into()));
    assert!(dot(&plan).is_err());
    assert!(mermaid(&plan).is_err());
}

#[test]
fn graphviz_accepts_every_name() {
    let mut plan = cluster::rolling();
    for action in &mut plan.actions {
        action.needs.clear();
        action.id.0.push_str("\"\\\n<b>&;{}[]->é");
        action.node = Some("\"}\\".into());
    }
    for text in [dot(&plan).unwrap(), dot(&cluster::bootstrap()).unwrap()] {
        let Ok(mut child) = Command::new("dot")
            .arg("-Tcanon")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
        else {
            eprintln!("SKIPPED graphviz_accepts_every_name: `dot` (graphviz) is not installed");
            return;
        };
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success(), "{text}");
    }
}
