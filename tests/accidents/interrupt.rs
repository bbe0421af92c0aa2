//! Control-C: once lets what is under way end, twice does not.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{ClusterFile, Operator, Running, lab, leftovers};

fn interrupted(event: &Value) -> bool {
    event["@message"]
        .as_str()
        .is_some_and(|text| text.to_lowercase().contains("interrupt"))
        && event["type"] != "report"
}

fn id(event: &Value) -> String {
    event["hook"]["action"]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Interrupts a run and reads on until it says that it understood.
fn interrupt(running: &mut Running) {
    running.signal(Signal::INT);
    while let Some(event) = running.event() {
        if interrupted(&event) {
            return;
        }
    }
    panic!("it ended without a word about the interrupt");
}

#[test]
fn once_lets_running_actions_end_and_twice_does_not() {
    let lab = lab("interrupt", 3);
    let ann = Operator::new(&lab, &ClusterFile::of(&lab));
    let mut apply = ann.start_json("apply");
    apply.until("apply_start", ".install");
    apply.signal(Signal::INT);
    let ran = apply.wait().exits(130);

    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let at = events
        .iter()
        .position(interrupted)
        .unwrap_or_else(|| panic!("no word about the interrupt: {}", ran.said()));
    let of = |events: &[Value], kind: &str| -> BTreeSet<String> {
        let of_kind = events.iter().filter(|event| event["type"] == kind);
        of_kind.map(id).collect()
    };
    assert_eq!(
        of(&events[at..], "apply_start"),
        BTreeSet::new(),
        "{}",
        ran.said()
    );
    assert_eq!(
        of(&events, "apply_start"),
        of(&events, "apply_complete"),
        "what was started did not end: {}",
        ran.said()
    );
    let report = &events
        .iter()
        .find(|event| event["type"] == "report")
        .unwrap()["report"];
    assert_eq!(report["stopped"], "interrupted", "{}", ran.said());
    assert_eq!(report["next"], "quorate plan", "{}", ran.said());
    let outcomes = report["outcomes"].as_array().unwrap();
    let count = |outcome: &str| {
        let these = outcomes.iter().filter(|one| one["outcome"] == outcome);
        these.count()
    };
    assert_eq!(
        count("done"),
        of(&events, "apply_complete").len(),
        "{}",
        ran.said()
    );
    assert!(count("not_started") > 0, "{}", ran.said());
    for host in lab.hosts() {
        assert_eq!(leftovers(host), "", "on {}", host.name);
    }

    ann.converge();
    ann.settled();
    ann.destroy();

    // Twice: at once, without a report, and nobody has to clean up.
    let mut apply = ann.start_json("apply");
    apply.until("apply_start", ".install");
    interrupt(&mut apply);
    let second = std::time::Instant::now();
    apply.signal(Signal::INT);
    let ran = apply.wait().exits(130);
    assert!(second.elapsed().as_secs_f64() < 1.0, "{}", ran.said());
    assert!(
        !ran.stdout.contains("\"type\":\"report\""),
        "{}",
        ran.said()
    );
    ann.converge();
    ann.settled();
}
