//! What changes on a host behind Quorate's back is found and put right, and costs no restart that
//! it need not cost.

use std::time::Duration;

use quorate::desired::model::KeyKind;
use quorate::pki::{Authority, Issued, KeyProtection, Names, NewAuthority, Profile, issue};
use quorate_lab::{Host, releases};
use secrecy::ExposeSecret;
use serde_json::Value;
use time::OffsetDateTime;

use super::harness::{Process, Scene};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn files_and_attributes() {
    let Some(scene) = Scene::up("files", 3) else {
        return;
    };
    let scene = scene.tls();
    scene.apply();
    let drift = Drift::new(&scene);

    drift.costs_no_restart(
        2,
        "sed -i '$a # edited' /etc/etcd/etcd.conf",
        &["etcd-2.configure"],
    );
    drift.costs_no_restart(
        1,
        "rm /etc/systemd/system/etcd.service",
        &["etcd-1.configure"],
    );
    drift.costs_no_restart(
        3,
        "chmod 0600 /etc/etcd/etcd.conf; chmod 0755 /var/lib/etcd",
        &["etcd-3.configure", "etcd-3.prepare"],
    );
    drift.costs_no_restart(
        2,
        "chgrp root /var/lib/etcd; chown etcd /etc/etcd/etcd.conf",
        &["etcd-2.configure", "etcd-2.prepare"],
    );
    // Of a marker that is lost nothing else depends while the data says whose it is.
    drift.costs_no_restart(3, "rm /etc/quorate/marker.json", &["etcd-3.record"]);
    // Two hosts at once.
    scene.host(1).run("chmod 0666 /etc/etcd/etcd.conf").unwrap();
    drift.costs_no_restart(
        3,
        "rm /etc/etcd/etcd.conf",
        &["etcd-1.configure", "etcd-3.configure"],
    );
    for host in scene.hosts() {
        let mode = host
            .run("stat -c %a /etc/etcd/etcd.conf /var/lib/etcd")
            .unwrap();
        assert_eq!(mode, "644\n700\n", "{}", host.name);
    }
}

#[test]
fn units_and_binaries() {
    let Some(scene) = Scene::up("units", 3) else {
        return;
    };
    let scene = scene.tls();
    scene.apply();
    let drift = Drift::new(&scene);

    drift.costs_no_restart(1, "systemctl disable -q etcd", &["etcd-1.enable"]);
    drift.costs_a_start(2, "systemctl stop etcd", &["etcd-2.start"]);
    drift.costs_a_start(
        3,
        "systemctl stop etcd && ln -sf /dev/null /etc/systemd/system/etcd.service \
         && systemctl daemon-reload",
        &["etcd-3.configure", "etcd-3.enable", "etcd-3.start"],
    );

    // It runs, and is not what was installed.
    let ours = releases::find(&scene.version).expect("it is in the lab's cache");
    let ours = std::fs::read(ours.dir.join("etcd")).unwrap();
    let other = [ours.as_slice(), b"other"].concat();
    let replaced = "mv /root/other-etcd /usr/local/bin/etcd";
    scene
        .host(1)
        .write_file("/root/other-etcd", &other, 0o755)
        .unwrap();
    drift.costs_no_restart(1, replaced, &["etcd-1.install"]);
    scene
        .host(2)
        .write_file("/root/other-etcd", &other, 0o755)
        .unwrap();
    drift.costs_a_start(
        2,
        &format!("{replaced} && systemctl restart etcd"),
        &["etcd-2.install", "etcd-2.restart"],
    );
    for host in scene.hosts() {
        let installed = host.read_file("/usr/local/bin/etcd").unwrap();
        assert!(installed == ours, "{}: etcd is not put back", host.name);
        let deleted = host
            .run("readlink /proc/$(systemctl show -p MainPID --value etcd)/exe")
            .unwrap();
        assert!(
            deleted.trim() == "/usr/local/bin/etcd" || host.name == "etcd-1",
            "{} runs {deleted}",
            host.name
        );
    }
}

#[test]
fn certificates() {
    let Some(scene) = Scene::up("certificates", 3) else {
        return;
    };
    let scene = scene.tls();
    scene.apply();
    let drift = Drift::new(&scene);

    let foreign = authority(&scene, "foreign");
    let host = scene.host(1);
    put(host, "server", &leaf(&foreign, host, DAY * 90));
    put(host, "peer", &leaf(&foreign, host, DAY * 90));
    let plan = drift.costs_no_restart(1, ":", &["etcd-1.configure"]);
    for path in ["/etc/etcd/tls/server.crt", "/etc/etcd/tls/peer.crt"] {
        assert!(reason(&plan, path).contains("authority"), "{plan:#}");
    }

    let ours = Authority::open_key(&scene.path("pki"), &KeyProtection::Plain)
        .unwrap_or_else(|error| panic!("{error}"));
    let host = scene.host(2);
    let expired = leaf(&ours, host, Duration::from_secs(1));
    put(host, "server", &expired);
    super::harness::eventually("the certificate has expired", || {
        OffsetDateTime::now_utc().unix_timestamp() > expired.facts.not_after
    });
    let plan = drift.costs_no_restart(2, ":", &["etcd-2.configure"]);
    assert!(
        reason(&plan, "/etc/etcd/tls/server.crt").contains("expired"),
        "{plan:#}"
    );

    let plan = drift.costs_no_restart(3, "rm /etc/etcd/tls/peer.key", &["etcd-3.configure"]);
    assert!(
        reason(&plan, "/etc/etcd/tls/peer.key").contains("missing"),
        "{plan:#}"
    );
    drift.costs_no_restart(
        3,
        "chmod 0644 /etc/etcd/tls/server.key",
        &["etcd-3.configure"],
    );
    scene.run(&["status"]).exits(0);
    for host in scene.hosts() {
        let modes = host.run("stat -c '%a %U' /etc/etcd/tls/*.key").unwrap();
        assert_eq!(modes, "400 etcd\n400 etcd\n", "{}", host.name);
    }
}

struct Drift<'a> {
    scene: &'a Scene,
}

impl<'a> Drift<'a> {
    fn new(scene: &'a Scene) -> Self {
        scene.is_converged();
        Self { scene }
    }

    /// Does something to a host; the plan must say exactly this, and applying it must leave every
    /// process alone.
    fn costs_no_restart(&self, number: usize, script: &str, expected: &[&str]) -> Value {
        let before = self.scene.processes();
        let plan = self.repair(number, script, expected);
        let ran = |processes: &[Process]| -> Vec<(String, String)> {
            processes
                .iter()
                .map(|process| (process.pid.clone(), process.started.clone()))
                .collect()
        };
        let after = self.scene.processes();
        assert_eq!(ran(&after), ran(&before), "processes after `{script}`");
        self.all_is_well(&after);
        plan
    }

    /// The same where the member of that host, and only that, is another process afterwards.
    fn costs_a_start(&self, number: usize, script: &str, expected: &[&str]) -> Value {
        let before = self.scene.processes();
        let plan = self.repair(number, script, expected);
        let after = self.scene.processes();
        for (index, (before, after)) in before.iter().zip(&after).enumerate() {
            if index + 1 == number {
                assert_ne!(after.pid, before.pid, "etcd-{number} after `{script}`");
            } else {
                assert_eq!(after, before, "etcd-{} after `{script}`", index + 1);
            }
        }
        self.all_is_well(&after);
        plan
    }

    fn repair(&self, number: usize, script: &str, expected: &[&str]) -> Value {
        self.scene.host(number).run(script).unwrap();
        let plan = self.scene.plan_is(expected);
        self.scene.apply();
        self.scene.is_converged();
        plan
    }

    fn all_is_well(&self, processes: &[Process]) {
        for process in processes {
            assert_eq!(process.active, "active", "{processes:?}");
            assert_eq!(process.enabled, "enabled", "{processes:?}");
        }
        self.scene.run(&["status"]).exits(0);
    }
}

fn authority(scene: &Scene, name: &str) -> Authority {
    let new = NewAuthority {
        cluster: name,
        key: KeyKind::EcdsaP256,
        validity: DAY * 3650,
    };
    Authority::create_or_open(
        &scene.path(name),
        &new,
        &KeyProtection::Plain,
        OffsetDateTime::now_utc(),
    )
    .unwrap_or_else(|error| panic!("{error}"))
}

/// A certificate for a host, good for server and peer.
fn leaf(authority: &Authority, host: &Host, validity: Duration) -> Issued {
    let mut names = Names::only_cn(&host.name);
    for name in [&host.name, "localhost", "127.0.0.1", "::1"] {
        names.add(name);
    }
    names.add(&host.ip.to_string());
    issue(
        authority,
        Profile::Peer,
        &names,
        KeyKind::EcdsaP256,
        validity,
        OffsetDateTime::now_utc(),
    )
    .unwrap_or_else(|error| panic!("{error}"))
}

fn put(host: &Host, name: &str, issued: &Issued) {
    for (extension, text, mode) in [
        ("crt", issued.cert_pem.as_str(), 0o644),
        ("key", issued.key_pem.expose_secret(), 0o400),
    ] {
        let path = format!("/etc/etcd/tls/{name}.{extension}");
        host.write_file(&path, text, mode).unwrap();
        if extension == "key" {
            host.run(&format!("chown etcd:etcd {path}")).unwrap();
        }
    }
}

/// Why the plan replaces a certificate.
fn reason(plan: &Value, path: &str) -> String {
    plan["actions"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|action| action["changes"].as_array().unwrap())
        .find(|change| change["name"] == path)
        .and_then(|change| change["reason"].as_str())
        .unwrap_or_else(|| panic!("{path} is not replaced\n{plan:#}"))
        .to_owned()
}
