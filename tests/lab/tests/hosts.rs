//! Hosts as they are when nothing befalls them.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::{connects, ssh, try_ssh};
use quorate_lab::{Lab, Options, SUDO_PASSWORD, releases};

#[test]
fn hosts_boot_and_let_root_and_ops_in() {
    let lab = Lab::up(
        "t-hosts",
        Options {
            hosts: 2,
            password_sudo: vec![2],
            ..Options::default()
        },
    )
    .unwrap_or_else(|error| panic!("{error}"));
    for host in lab.hosts() {
        let state = host.exec("systemctl is-system-running --wait").unwrap();
        assert_eq!(state.stdout.trim(), "running", "{}", host.console());
        assert_eq!(
            ssh(&lab, "root", host, "hostname; id -u"),
            format!("{}\n0", host.name)
        );
        assert_eq!(ssh(&lab, "ops", host, "id -un"), "ops");
        assert_eq!(
            ssh(
                &lab,
                "root",
                host,
                "stat -c %U /proc/sys/net/ipv4/ip_forward && sysctl -qw net.ipv4.ip_forward=0"
            ),
            "root"
        );
        // Its own lab and nothing else is on the network.
        assert_eq!(host.run("ip route show default").unwrap(), "");
    }
    let [first, second] = lab.hosts() else {
        panic!("two hosts were asked for")
    };
    assert_eq!(ssh(&lab, "ops", first, "sudo -n id -u"), "0");
    assert!(
        !try_ssh(&lab, "ops", second, "sudo -n id -u")
            .status
            .success()
    );
    let asked = format!("echo {SUDO_PASSWORD} | sudo -S -p \"\" id -u");
    assert_eq!(ssh(&lab, "ops", second, &asked), "0");

    let ids: BTreeSet<_> = lab
        .hosts()
        .iter()
        .map(|host| host.run("cat /etc/machine-id").unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(connects(first, second, 22));
    assert!(
        first
            .run("getent hosts etcd-2")
            .unwrap()
            .starts_with("10.77.0.12")
    );
}

#[test]
fn every_host_key_is_known() {
    let lab = common::lab("t-keys", 1);
    for algorithm in ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512"] {
        let output = lab
            .ssh("root", &lab.hosts()[0])
            .unwrap()
            .args(["-o", &format!("HostKeyAlgorithms={algorithm}"), "true"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{algorithm}: {output:?}");
    }
    // A key that is not known is refused: the check is real.
    fs::write(lab.known_hosts(), "").unwrap();
    assert!(
        !try_ssh(&lab, "root", &lab.hosts()[0], "true")
            .status
            .success()
    );
}

#[test]
fn releases_are_served_and_run_on_a_host() {
    let lab = common::lab("t-rel", 1);
    let host = &lab.hosts()[0];
    let url = lab.serve_releases().unwrap();
    for wanted in ["3.4.23", "3.5.16"] {
        let release = releases::find(wanted).unwrap_or_else(|error| panic!("{error}"));
        let name = release
            .tarball
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let script = format!(
            "set -e; cd /tmp; curl -fsSO {url}/{name}; curl -fsS {url}/SHA256SUMS | \
             sha256sum --check --ignore-missing --quiet; tar -xzf {name}; \
             ./{}/etcd --version | head -n1",
            name.trim_end_matches(".tar.gz")
        );
        assert_eq!(
            host.run(&script).unwrap(),
            format!("etcd Version: {wanted}\n")
        );
    }
    let missing = host
        .run(&format!(
            "curl -s -o /dev/null -w '%{{http_code}}' {url}/etcd-v0.0.0.tar.gz"
        ))
        .unwrap();
    assert_eq!(missing, "404");
}

#[test]
fn labs_of_different_names_do_not_meet() {
    let (one, two) = (common::lab("t-one", 1), common::lab("t-one-1", 1));
    one.hosts()[0]
        .write_file("/srv/mine", "one", 0o600)
        .unwrap();
    assert_eq!(ssh(&one, "root", &one.hosts()[0], "cat /srv/mine"), "one");
    assert_eq!(ssh(&two, "root", &two.hosts()[0], "ls /srv"), "");
    drop(one);
    assert_eq!(ssh(&two, "root", &two.hosts()[0], "hostname"), "etcd-1");
}

#[test]
fn packages_of_debian_install_without_a_network() {
    let lab = common::lab("t-apt", 1);
    let host = &lab.hosts()[0];
    let versions = host.add_package_repository().unwrap();
    let old = versions
        .iter()
        .find(|version| version.starts_with("3.4.23"))
        .unwrap_or_else(|| panic!("{versions:?}"));
    host.run(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get -qy install etcd-server={old} etcd-client={old}"
    ))
    .unwrap();
    assert_eq!(
        host.run("etcd --version | head -n1; etcdctl version | head -n1")
            .unwrap(),
        "etcd Version: 3.4.23\netcdctl version: 3.4.23\n"
    );
    let new = versions
        .iter()
        .find(|version| version.starts_with("3.5.16"))
        .unwrap_or_else(|| panic!("{versions:?}"));
    host.run(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get -qy install etcd-server={new}"
    ))
    .unwrap();
    assert_eq!(
        host.run("etcd --version | head -n1").unwrap(),
        "etcd Version: 3.5.16\n"
    );
}

#[test]
fn a_host_can_be_renumbered_for_good() {
    let lab = common::lab("t-renumber", 2);
    let [first, second] = lab.hosts() else {
        panic!("two hosts were asked for")
    };
    lab.renumber("etcd-1", "10.77.0.99".parse().unwrap())
        .unwrap();
    for _ in 0..2 {
        assert_eq!(first.address().to_string(), "10.77.0.99");
        assert_eq!(common::ssh(&lab, "root", first, "hostname"), "etcd-1");
        assert!(!common::connects(second, first, 22), "the old one answers");
        first.reboot().unwrap();
    }
}
