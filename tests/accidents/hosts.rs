//! Hosts that are not as they should be: full disks, taken ports, data of others, disks that are
//! not mounted. Each is told by name, and nothing is lost.

use std::time::Duration;

use quorate_lab::{Host, Lab, releases};

use crate::harness::{ClusterFile, Operator, eventually, lab, leftovers};

fn plain(lab: &Lab) -> Operator<'_> {
    let file = ClusterFile {
        tls: false,
        ..ClusterFile::of(lab)
    };
    Operator::new(lab, &file)
}

#[test]
fn a_full_disk_is_named_and_the_others_go_on() {
    let lab = lab("full", 3);
    let ann = plain(&lab);
    let full = &lab.hosts()[1];
    full.fill_disk("/usr/local/bin").unwrap();
    let ran = ann.run(&["apply", "--auto-approve"]).exits(1);
    let ran = ran
        .says("node.etcd-2.install")
        .says("No space left on device")
        .says("node.etcd-2.install is not done")
        .says("quorate plan");
    for done in ["node.etcd-1.install", "node.etcd-3.install"] {
        assert!(ran.stdout.contains(done), "{}", ran.said());
    }
    let _ = ran.says("Not started (7):");
    for host in lab.hosts() {
        let started = host.run("ls -A /var/lib/etcd").unwrap();
        assert_eq!(
            started, "",
            "no member may start before all can, on {}",
            host.name
        );
    }
    full.drain_disk("/usr/local/bin").unwrap();
    ann.converge();
    ann.settled();
    for host in lab.hosts() {
        assert_eq!(leftovers(host), "", "on {}", host.name);
    }
    ann.destroy();

    // No room for data: that is known before anything is done.
    full.run("mkdir -p /var/lib/etcd").unwrap();
    full.fill_disk("/var/lib/etcd").unwrap();
    let ran = ann.run(&["apply", "--auto-approve"]).exits(3);
    let _ = ran.says("etcd-2: /var/lib/etcd has 0 MiB free");
    full.drain_disk("/var/lib/etcd").unwrap();
    ann.converge();
    ann.settled();
}

/// Starts an etcd that somebody set up by hand; its cluster ID as etcd itself prints it.
fn by_hand(host: &Host, unit: &str, data_dir: &str) -> String {
    let release = releases::ensure(&releases::tested()).unwrap();
    let etcd = std::fs::read(release.dir.join("etcd")).unwrap();
    host.write_file("/opt/etcd", etcd, 0o755).unwrap();
    host.run(&format!(
        "systemd-run -q --unit={unit} /opt/etcd --data-dir {data_dir}"
    ))
    .unwrap();
    let mut id = String::new();
    eventually(Duration::from_secs(20), || {
        let asked = host
            .exec("curl -sS -m 2 -d '{}' http://127.0.0.1:2379/v3/cluster/member/list")
            .unwrap();
        let answer: serde_json::Value =
            serde_json::from_str(&asked.stdout).map_err(|error| format!("{error}: {asked:?}"))?;
        let decimal = answer["header"]["cluster_id"].as_str().unwrap_or_default();
        let decimal: u64 = decimal.parse().map_err(|_| answer.to_string())?;
        id = format!("{decimal:x}");
        Ok(())
    });
    id
}

fn refused<'a>(ann: &Operator, words: impl IntoIterator<Item = &'a str>) {
    let mut plan = ann.run(&["plan"]).exits(3);
    for words in words {
        plan = plan.says(words);
    }
    let before = plan.stdout.contains("will be created");
    assert!(!before, "nothing may be done: {}", plan.said());
    let _ = ann.run(&["apply", "--auto-approve"]).exits(3);
}

#[test]
fn what_others_left_on_a_host_is_not_touched() {
    let lab = lab("others", 1);
    let ann = plain(&lab);
    let host = &lab.hosts()[0];
    host.run("systemd-run -q --unit=squatter systemd-socket-activate -a -l 2379 /bin/cat")
        .unwrap();
    eventually(Duration::from_secs(10), || {
        let taken = host.run("ss -ltn").unwrap();
        taken.contains(":2379").then_some(()).ok_or(taken)
    });
    refused(&ann, ["etcd-1: port 2379 is taken by systemd-socket"]);
    host.run("systemctl stop squatter").unwrap();

    // An etcd elsewhere on the host has the port.
    by_hand(host, "byhand", "/srv/byhand");
    refused(&ann, ["port 2379 is taken by etcd (process"]);
    host.run("systemctl stop byhand").unwrap();

    // As a unit of our name, and not ours.
    by_hand(host, "etcd", "/srv/byhand");
    refused(&ann, ["etcd.service runs, and Quorate did not set it up"]);
    host.run("systemctl stop etcd").unwrap();

    // Its data where ours would go.
    let id = by_hand(host, "byhand2", "/var/lib/etcd");
    host.run("systemctl stop byhand2").unwrap();
    refused(
        &ann,
        [
            "/var/lib/etcd holds the data of member",
            "of another cluster",
            id.as_str(),
        ],
    );
    let kept = host
        .run("ls /var/lib/etcd/member /srv/byhand/member")
        .unwrap();
    assert!(kept.matches("wal").count() == 2, "{kept}");
    assert!(
        host.run("ls /etc/quorate 2>&1 || :")
            .unwrap()
            .contains("No such"),
        "it was marked"
    );
}

#[test]
fn a_member_does_not_start_beside_its_disk() {
    let lab = lab("disk", 3);
    let ann = plain(&lab);
    let host = &lab.hosts()[2];
    host.add_data_disk("/var/lib/etcd", 256).unwrap();
    ann.converge();
    ann.settled();
    let id = host.run("ls /var/lib/etcd/member/wal").unwrap();

    host.power_off().unwrap();
    host.unmount_data_disk("/var/lib/etcd").unwrap();
    host.power_on().unwrap();
    eventually(Duration::from_secs(60), || {
        let state = host.exec("systemctl is-system-running").unwrap().stdout;
        let booted = ["running", "degraded"].contains(&state.trim());
        booted.then_some(()).ok_or(state)
    });
    let plan = ann
        .run(&["plan"])
        .exits(3)
        .says("etcd-3: /var/lib/etcd has no data, though its member has run there");
    let _ = plan.says("mount it");
    let _ = ann.run(&["apply", "--auto-approve"]).exits(3);
    let state = host
        .exec("systemctl is-active etcd; ls -A /var/lib/etcd")
        .unwrap();
    assert!(!state.stdout.starts_with("active"), "{state:?}");
    assert!(!state.stdout.contains("member"), "{state:?}");

    host.mount_data_disk("/var/lib/etcd").unwrap();
    ann.converge();
    ann.settled();
    assert_eq!(host.run("ls /var/lib/etcd/member/wal").unwrap(), id);
}
