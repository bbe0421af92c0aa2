//! Connections that break, hosts that hang, and an sshd that forwards nothing.

use std::time::Duration;

use quorate_lab::{Cut, Host, Lab};

use crate::harness::{ClusterFile, Operator, eventually, lab, leftovers};

fn plain(lab: &Lab) -> Operator<'_> {
    let file = ClusterFile {
        tls: false,
        ..ClusterFile::of(lab)
    };
    Operator::new(lab, &file)
}

#[test]
fn a_connection_cut_in_the_middle_of_an_upload_is_made_good() {
    let lab = lab("cut", 3);
    let ann = plain(&lab);
    let host = &lab.hosts()[2];
    let mut apply = ann.start_json("apply");
    apply.until("apply_start", "etcd-3.install");
    host.partition(&Cut::All).unwrap();
    let there = host.run("ls -A /usr/local/bin").unwrap();
    assert!(
        !there.contains("etcd"),
        "the upload was over before the cut: {there}"
    );
    // The silence is noticed, and told of the host that it is about.
    let ran = apply.wait().exits(1).within(60);
    let ran = ran.says("node.etcd-3.install: Failed: etcd-3: the SSH connection was lost");
    assert!(ran.stdout.contains("\"type\":\"report\""), "{}", ran.said());
    let _ = ann.run(&["plan"]).exits(3).says("etcd-3").within(30);

    host.heal().unwrap();
    ann.converge();
    ann.settled();
    for host in lab.hosts() {
        assert_eq!(leftovers(host), "", "on {}", host.name);
    }

    // Off altogether: named, with the reason, and the rest is still seen.
    host.partition(&Cut::All).unwrap();
    let plan = ann.run(&["plan"]).exits(3).within(30);
    let _ = plan.says("etcd-3: no SSH session with").says("within 10 s");
    let status = ann.run(&["status"]).within(30);
    assert_ne!(status.code, Some(0), "{}", status.said());
    let _ = status.says("etcd-1").says("etcd-3");
    host.heal().unwrap();

    // Hung: its kernel accepts connections, nothing behind it answers.
    host.freeze().unwrap();
    let plan = ann.run(&["plan"]).exits(3).within(30);
    host.thaw().unwrap();
    let _ = plan.says("etcd-3: no SSH session with");
    eventually(Duration::from_secs(30), || {
        let plan = ann.run(&["plan", "--detailed-exitcode"]);
        (plan.code == Some(0)).then_some(()).ok_or(plan.said())
    });
}

fn forwarding(host: &Host, word: &str) {
    host.run(&format!(
        "echo 'AllowTcpForwarding {word}' >/etc/ssh/sshd_config.d/forwarding.conf && systemctl restart ssh && sshd -T | grep -qi 'allowtcpforwarding {word}'"
    ))
    .unwrap();
}

#[test]
fn without_forwarding_the_advertised_url_serves() {
    let lab = lab("forward", 1);
    let ann = Operator::new(&lab, &ClusterFile::of(&lab));
    let host = &lab.hosts()[0];
    forwarding(host, "no");
    ann.converge();
    ann.settled();
    // With the direct way closed as well, the option is named, and nothing is taken for granted.
    host.partition(&Cut::Ports(vec![2379])).unwrap();
    let plan = ann.run(&["plan"]).within(40).says("etcd-1");
    let plan = plan.says("could not be asked").says("AllowTcpForwarding");
    assert!(!plan.stdout.contains("will be"), "{}", plan.said());
    let status = ann.run(&["status"]).within(40).says("AllowTcpForwarding");
    assert_ne!(status.code, Some(0), "{}", status.said());
    // A tunnel needs no route to the port.
    forwarding(host, "yes");
    eventually(Duration::from_secs(20), || {
        let plan = ann.run(&["plan", "--detailed-exitcode"]);
        (plan.code == Some(0)).then_some(()).ok_or(plan.said())
    });
    ann.settled();
}
