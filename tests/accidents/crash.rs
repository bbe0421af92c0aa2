//! Members that crash while a change goes through the cluster.

use std::time::Duration;

use quorate_lab::Host;
use rustix::process::Signal;

use crate::harness::{ClusterFile, Operator, eventually, lab, leftovers};

fn pid(host: &Host) -> String {
    host.run("systemctl show -p MainPID --value etcd").unwrap()
}

fn runs_with(host: &Host) -> String {
    host.run("tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value etcd)/environ")
        .unwrap()
}

/// It comes back as it was: what is meant for it waits until its own turn, and that until the cluster can spare it.
#[test]
fn a_crash_in_the_middle_of_a_roll_does_not_bring_the_change_to_life() {
    let lab = lab("crash", 3);
    let ann = Operator::new(&lab, &ClusterFile::of(&lab));
    ann.converge();
    ann.edit(&ClusterFile {
        settings: "snapshot-count = 4321".into(),
        ..ClusterFile::of(&lab)
    });
    let mut apply = ann.start_json("apply");
    let begun = apply.until("apply_start", ".restart");
    // The crashed one's own turn may not come meanwhile.
    apply.signal(Signal::STOP);
    let id = begun["hook"]["action"]["id"].as_str().unwrap();
    let turn = |host: &&Host| id != format!("node.{}.restart", host.name);
    let crashed = lab.hosts().iter().find(turn).unwrap();
    let before = pid(crashed);
    crashed.run("systemctl kill -s KILL etcd").unwrap();
    let mut environment = String::new();
    eventually(Duration::from_secs(30), || {
        let now = pid(crashed);
        if now == before || now.trim() == "0" {
            return Err(now);
        }
        // Between fork and exec it is systemd's own.
        environment = runs_with(crashed);
        let is_etcd = environment.contains("ETCD_NAME=");
        is_etcd.then_some(()).ok_or(environment.clone())
    });
    assert!(!environment.contains("4321"), "{id}: {environment}");
    apply.signal(Signal::CONT);
    apply.wait().exits(0);
    for host in lab.hosts() {
        let environment = runs_with(host);
        assert!(
            environment.contains("ETCD_SNAPSHOT_COUNT=4321"),
            "{environment}"
        );
        assert_eq!(leftovers(host), "", "on {}", host.name);
    }
    ann.settled();
}
