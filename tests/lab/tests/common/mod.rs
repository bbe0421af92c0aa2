//! What the tests of the lab share; none of them uses all of it.
#![allow(dead_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use quorate_lab::{Host, Lab, Options};

/// A lab of a test; the test fails with what is missing on this machine.
pub fn lab(name: &str, hosts: usize) -> Lab {
    let options = Options {
        hosts,
        ..Options::default()
    };
    Lab::up(name, options).unwrap_or_else(|error| panic!("{error}"))
}

/// What a host answers to a script over SSH, trimmed; the script must succeed.
pub fn ssh(lab: &Lab, user: &str, host: &Host, script: &str) -> String {
    let output = try_ssh(lab, user, host, script);
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Like [`ssh`], given up after ten seconds.
pub fn try_ssh(lab: &Lab, user: &str, host: &Host, script: &str) -> Output {
    let mut command = lab.ssh(user, host).expect("the lab is up");
    command.arg(script);
    let mut limited = Command::new("timeout");
    limited.arg("10").arg(command.get_program());
    limited.args(command.get_args());
    limited.output().expect("timeout starts")
}

/// Whether a host can connect to a port within a second.
pub fn connects(from: &Host, to: &Host, port: u16) -> bool {
    let script = format!("timeout 1 bash -c '</dev/tcp/{}/{port}'", to.ip);
    from.exec(&script).expect("the host is on").success()
}

/// Everything on the machine that bears a lab's name.
pub fn traces(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let own = format!("ql.{name}");
    let of_lab = |entry: &str| entry == own || entry.starts_with(&format!("{own}."));
    for dir in [
        "/run/netns",
        "/sys/fs/cgroup",
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/systemd",
        "/run/systemd/nspawn/propagate",
    ] {
        found.extend(
            entries(dir)
                .filter(|entry| of_lab(entry))
                .map(|entry| format!("{dir}/{entry}")),
        );
    }
    let state = format!("/var/lib/quorate-lab/{name}");
    if Path::new(&state).exists() {
        found.push(state.clone());
    }
    let below = format!("{state}/");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&below))
            .map(|line| format!("mount {line}")),
    );
    for entry in entries("/sys/block") {
        let backing = fs::read_to_string(format!("/sys/block/{entry}/loop/backing_file"));
        if backing.is_ok_and(|file| file.contains(&below)) {
            found.push(entry);
        }
    }
    for pid in entries("/proc").filter(|entry| entry.parse::<u32>().is_ok()) {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(&below) || words.split([' ', '/', '=']).any(&of_lab) {
            found.push(format!("process {pid} {words}"));
        }
    }
    found
}

fn entries(dir: &str) -> impl Iterator<Item = String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}
