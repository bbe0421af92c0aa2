//! Nothing outlives a lab, however it ends.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use common::traces;
use quorate_lab::{Error, Lab, Options, clean, down};

#[test]
fn nothing_remains_of_a_lab_that_was_dropped() {
    let name = "t-drop";
    let lab = common::lab(name, 2);
    assert!(traces(name).len() > 5, "{:?}", traces(name));
    let [first, second] = lab.hosts() else {
        panic!("two hosts were asked for")
    };
    // In whatever state the hosts are.
    first.add_data_disk("/var/lib/data", 16).unwrap();
    first
        .run("cd /var/lib/data && sleep 1000 >/dev/null 2>&1 &")
        .unwrap();
    first.freeze().unwrap();
    second.fill_disk("/srv").unwrap();
    second.power_off().unwrap();
    lab.serve_releases().unwrap();
    let mut child = lab.command("sleep").unwrap().arg("1000").spawn().unwrap();
    drop(lab);
    assert_eq!(traces(name), Vec::<String>::new());
    assert!(!child.wait().unwrap().success());
}

/// A process that owns a lab, from the moment at which the lab is up.
fn owner(name: &str) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["up", "--foreground", "--hosts", "1", "--name", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "etcd-1\t10.77.0.11\n");
    child
}

#[test]
fn a_lab_whose_owner_was_killed_is_swept_and_no_other() {
    let (dead, living) = ("t-dead", "t-living");
    let mut killed = owner(dead);
    let mut kept = owner(living);
    clean().unwrap();
    assert!(!traces(dead).is_empty());
    let options = Options {
        hosts: 1,
        ..Options::default()
    };
    match Lab::up(dead, options.clone()) {
        Err(Error::InUse { pid, .. }) => assert_eq!(pid, killed.id()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(down(dead), Err(Error::InUse { .. })));

    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!traces(dead).is_empty(), "the kill left the hosts running");
    // Its name can be used at once, and its remnants are gone.
    let lab = Lab::up(dead, options).unwrap();
    assert!(lab.hosts()[0].run("true").is_ok());
    drop(lab);
    assert_eq!(traces(dead), Vec::<String>::new());

    assert!(!traces(living).is_empty());
    // The end of its input ends the lab of the living one.
    drop(kept.stdin.take());
    assert!(kept.wait().unwrap().success());
    assert_eq!(traces(living), Vec::<String>::new());
}

#[test]
fn half_made_labs_are_swept() {
    let name = "t-half";
    // As left by a process that died between two steps: a namespace and nothing else. Labs of other tests sweep
    // when they begin, and may take it away while it is being made.
    let made = (0..20).any(|_| {
        let status = Command::new("ip")
            .args(["netns", "add", &format!("ql.{name}.7")])
            .status();
        status.unwrap().success()
    });
    assert!(made);
    clean().unwrap();
    assert_eq!(traces(name), Vec::<String>::new());
}

#[test]
fn a_persistent_lab_stays_until_it_is_taken_down() {
    let name = "t-stay";
    let lab = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(arguments)
            .args(["--name", name])
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    lab(&["up", "--hosts", "1"]);
    clean().unwrap();
    let attached = Lab::attach(name).unwrap();
    let url = attached.releases_url();
    let host = &attached.hosts()[0];
    host.run(&format!(
        "curl -fsS --retry 5 --retry-connrefused -o /dev/null {url}/SHA256SUMS"
    ))
    .unwrap();
    drop(attached);
    assert!(lab(&["cluster-file"]).contains("ip = \"10.77.0.11\""));
    lab(&["down"]);
    assert_eq!(traces(name), Vec::<String>::new());
}
