//! Two operators at one cluster: the lock keeps them apart, and does not outlive who holds it.

use std::time::Duration;

use quorate_lab::Lab;
use rustix::process::Signal;

use crate::harness::{ClusterFile, Operator, Running, lab, leftovers};

fn somebody<'a>(lab: &'a Lab, name: &str) -> Operator<'a> {
    let file = ClusterFile {
        tls: false,
        ..ClusterFile::of(lab)
    };
    let mut operator = Operator::new(lab, &file);
    operator.environment.push(("USER".into(), name.into()));
    operator
}

/// An apply that holds the lock and is hung in the middle of an installation.
fn hung(operator: &Operator) -> Running {
    let mut apply = operator.start_json("apply");
    apply.until("apply_start", ".install");
    apply.signal(Signal::STOP);
    apply
}

#[test]
fn the_second_operator_is_told_or_waits() {
    let lab = lab("lock", 3);
    let (ann, ben) = (somebody(&lab, "ann"), somebody(&lab, "ben"));
    ben.run(&["plan", "--out", "early.plan"]).exits(0);
    let apply = hung(&ann);
    let mut waiting = ben.start_json("apply");
    let lock = loop {
        let event = waiting.event().expect("it waits");
        if event["type"] == "lock" {
            break event["lock"].clone();
        }
    };
    assert_eq!(lock["state"], "waiting", "{lock}");
    let holder = &lock["holder"];
    assert!(
        holder["who"].as_str().unwrap().starts_with("ann@"),
        "{lock}"
    );
    assert_eq!(holder["command"], "quorate apply", "{lock}");
    assert!(holder["age_seconds"].as_f64().unwrap() < 25.0, "{lock}");
    // Another directory, another file, the same hosts; neither waits.
    let refused = ben.run(&["apply", "--auto-approve"]).exits(5).within(20);
    let refused = refused
        .says("is locked by ann@")
        .says("running `quorate apply` for");
    let _ = refused.says("--lock-timeout");
    ben.run(&["destroy", "--auto-approve"]).exits(5);
    ben.run(&["plan"]).exits(0);

    apply.signal(Signal::CONT);
    let apply = apply.wait().exits(0);
    // Whoever waited finds that there is nothing left to do.
    let waited = waiting.wait().exits(0);
    assert!(
        waited.took < apply.took + Duration::from_secs(15),
        "{}",
        waited.said()
    );
    let done = waited
        .stdout
        .lines()
        .filter(|line| line.contains("\"apply_start\""));
    assert_eq!(done.count(), 0, "{}", waited.said());
    let stale = ben.run(&["apply", "early.plan"]).exits(3);
    let _ = stale.says("the plan is stale").says("plan again");
    ann.settled();
    ben.settled();
}

/// What a run changes on a host: files, their times and the processes.
fn traces(lab: &Lab) -> Vec<String> {
    let look = "find /etc/etcd /etc/quorate /etc/systemd/system /usr/local/bin -type f -printf '%p %s %C@\\n' | sort
        ls -d /var/lib/etcd/member*; pgrep -x etcd";
    let hosts = lab.hosts().iter();
    hosts.map(|host| host.run(look).unwrap()).collect()
}

#[test]
fn a_hung_operator_loses_the_lock_and_changes_nothing_more() {
    let lab = lab("hung", 3);
    let (ann, ben) = (somebody(&lab, "ann"), somebody(&lab, "ben"));
    let apply = hung(&ann);
    let ran = ben.run(&["apply", "--auto-approve", "--lock-timeout", "90s"]);
    let ran = ran.exits(0).within(60);
    // It was the lock that kept Ben waiting, not luck that let him through.
    assert!(ran.took > Duration::from_secs(15), "{}", ran.said());
    ben.settled();
    let before = traces(&lab);

    apply.signal(Signal::CONT);
    let ran = apply
        .wait()
        .exits(1)
        .says("The lock was lost")
        .says("the lock was lost:");
    assert!(ran.stdout.contains("\"type\":\"report\""), "{}", ran.said());
    assert_eq!(traces(&lab), before, "{}", ran.said());
    for host in lab.hosts() {
        assert_eq!(leftovers(host), "", "on {}: {}", host.name, ran.said());
    }
    ben.settled();
    ann.settled();
}

/// A script of a run that was killed may go on for long on one host; the others are kept meanwhile.
#[test]
fn hosts_that_are_locked_first_wait_for_the_last() {
    let lab = lab("lock-late", 3);
    let ann = somebody(&lab, "ann");
    let late = "mkdir -p /run/quorate; systemd-run -q flock /run/quorate/work.lock sleep 40";
    lab.hosts()[1].run(late).unwrap();
    let apply = ann.run(&["apply", "--auto-approve"]).exits(0);
    assert!(apply.took > Duration::from_secs(35), "{}", apply.said());
    ann.settled();
}
