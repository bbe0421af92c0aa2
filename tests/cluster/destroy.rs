//! What `destroy` takes, what it leaves, and whom it asks.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

use quorate_lab::Host;

use super::harness::{Run, Scene, blocked, eventually, finish};

#[test]
fn everything_of_ours_goes_and_data_stays() {
    let Some(scene) = Scene::up("destroy", 3) else {
        return;
    };
    let scene = scene.tls();
    let blank: Vec<_> = scene.hosts().iter().map(files).collect();
    scene.apply();
    for (host, blank) in scene.hosts().iter().zip(&blank) {
        let new = files(host).difference(blank).count();
        assert!(new > 10, "{}: the list sees only {new} files", host.name);
    }
    scene.etcdctl(scene.hosts(), &["put", "key", "value"]);

    // Without a terminal nobody can be asked, and an answer other than yes is no.
    let before = scene.processes();
    scene.run(&["destroy"]).exits(1).says("--auto-approve");
    answer(&scene, "destroy", "no")
        .exits(4)
        .says("destroy cluster demo");
    assert_eq!(scene.processes(), before, "nobody said yes");

    answer(&scene, "destroy", "yes")
        .exits(0)
        .says("destroy cluster demo");
    for (host, blank) in scene.hosts().iter().zip(&blank) {
        let now = files(host);
        let gone: Vec<_> = blank.difference(&now).collect();
        assert!(gone.is_empty(), "{} has lost {gone:?}", host.name);
        let left: Vec<_> = now.difference(blank).collect();
        let aside = "/var/lib/etcd/member.quorate-destroyed-";
        let (kept, strange): (Vec<&String>, Vec<&String>) = left
            .iter()
            .partition(|line| line.contains(aside) || line.ends_with(" /var/lib/etcd"));
        assert!(strange.is_empty(), "{} still has {strange:?}", host.name);
        assert!(
            kept.iter().any(|line| line.ends_with(".wal")),
            "{} kept no data: {kept:?}",
            host.name
        );
        assert!(
            kept.iter().all(|line| line.contains(" root:root ")),
            "{} left files to a user that is gone: {kept:?}",
            host.name
        );
        assert!(!host.exec("id etcd").unwrap().success(), "the user is left");
        let run = host.run("ls -A /run/systemd/system").unwrap();
        assert_eq!(run, "", "{}", host.name);
    }
    // Nothing is left to do.
    scene
        .run(&["plan", "--destroy", "--detailed-exitcode"])
        .exits(0);

    // Again on the same hosts, and this time without a trace.
    let count = |host: &Host| {
        host.run("ls -d /var/lib/etcd/member* | wc -l")
            .unwrap()
            .trim()
            .to_owned()
    };
    scene.apply();
    let run = scene.run(&["plan", "--destroy", "--purge-data"]).exits(0);
    assert!(run.stdout.contains("DELETE"), "{run}");
    scene
        .run(&["destroy", "--auto-approve", "--purge-data"])
        .exits(0);
    for host in scene.hosts() {
        assert_eq!(
            count(host),
            "1",
            "{}: only the first data is left",
            host.name
        );
    }
}

#[test]
fn a_host_that_was_off_does_not_disturb_the_next_cluster() {
    let Some(mut scene) = Scene::up("leftover", 3) else {
        return;
    };
    scene.apply();
    let (old_cluster, _) = scene.members(scene.host(1));
    scene.host(3).power_off().unwrap();
    let run = scene.run(&["destroy", "--auto-approve"]).exits(3);
    assert!(run.stdout.contains("etcd-3"), "{run}");
    for number in [1, 2] {
        assert!(!scene.has_marker(scene.host(number)), "etcd-{number}");
    }

    scene.host(3).power_on().unwrap();
    eventually("the old member runs again", || {
        let state = scene.host(3).exec("pgrep -x etcd").unwrap();
        state.success()
    });
    let run = scene.run(&["plan", "--json"]).exits(3);
    let reasons = blocked(&run.json());
    assert!(
        reasons
            .iter()
            .any(|(node, reason)| format!("{node} {reason}").contains("etcd-3")),
        "the host with the leftovers is not named\n{run}"
    );
    scene.run(&["apply", "--auto-approve"]).exits(3);
    for number in [1, 2] {
        assert!(!scene.has_marker(scene.host(number)), "etcd-{number}");
    }

    // The other two get along without it, though it runs and dials them.
    scene.nodes = 2;
    scene.apply();
    scene.is_converged();
    scene.run(&["status"]).exits(0);
    let (new_cluster, members) = scene.members(scene.host(1));
    assert_ne!(new_cluster, old_cluster);
    assert_eq!(members.len(), 2, "{members:?}");
    scene.etcdctl(scene.hosts(), &["put", "key", "value"]);
    scene.destroy();

    // Once it is cleaned it may take part.
    scene.nodes = 3;
    scene.destroy();
    assert!(!scene.has_marker(scene.host(3)));
    scene.apply();
    scene.is_converged();
    let (newest, members) = scene.members(scene.host(3));
    assert!(![old_cluster, new_cluster].contains(&newest));
    assert_eq!(members.len(), 3, "{members:?}");
}

/// Paths with kind, mode and owner, without what lives and dies by itself.
fn files(host: &Host) -> BTreeSet<String> {
    let script = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run \
                  -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /var/lib/systemd \
                  -o -path /var/cache \\) -prune -o -printf '%M %u:%g %p\\n'";
    let text = host.run(script).unwrap();
    text.lines()
        // useradd keeps the file before its last change beside it.
        .filter(|line| {
            !["passwd-", "group-", "shadow-", "gshadow-", ".pwd.lock"]
                .iter()
                .any(|name| line.ends_with(&format!(" /etc/{name}")))
        })
        .map(str::to_owned)
        .collect()
}

/// Runs the program on a terminal and answers its question.
fn answer(scene: &Scene, command: &str, answer: &str) -> Run {
    let line = format!("{} {command}", env!("CARGO_BIN_EXE_quorate"));
    let mut script = scene.command_of("script", &["-qec", &line, "/dev/null"]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    script.stdin(Stdio::from(reader));
    // The terminal keeps the line until it is read.
    writeln!(writer, "{answer}").unwrap();
    let run = finish(format!("quorate {command} <<< {answer}"), &mut script);
    drop(writer);
    run
}
