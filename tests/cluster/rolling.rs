//! Restarts of running members: one at a time, and no acknowledged write is lost.

use std::process::Stdio;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::harness::{Scene, blocked, eventually};
use super::writing::while_writing;
use quorate_lab::Cut;

#[test]
fn a_change_of_settings_rolls_the_members() {
    let Some(scene) = Scene::up("rolling", 3) else {
        return;
    };
    let mut scene = scene.tls();
    scene.apply();

    // One member runs with what somebody edited.
    let host = scene.host(2);
    host.run(
        "sed -i '$a ETCD_SNAPSHOT_COUNT=\"777\"' /etc/etcd/etcd.conf && systemctl restart etcd",
    )
    .unwrap();
    let before = scene.processes();
    let plan = scene.plan_is(&["etcd-2.restart"]);
    assert_eq!(margins(&plan), [[3, 3, 2, 2]], "{plan:#}");
    while_writing(&scene, "/drift/", || {
        scene.apply();
    });
    let after = scene.processes();
    assert_eq!(after[0], before[0], "etcd-1 was not to be touched");
    assert_eq!(after[2], before[2], "etcd-3 was not to be touched");
    assert_ne!(after[1].pid, before[1].pid, "etcd-2 was to be restarted");
    let environment = host
        .run("tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value etcd)/environ")
        .unwrap();
    // The number alone is in other variables as well, such as JOURNAL_STREAM.
    assert!(
        !environment.contains("ETCD_SNAPSHOT_COUNT"),
        "{environment}"
    );
    scene.is_converged();

    // All of them are to run with what the file says.
    scene.settings.push("snapshot-count = 4321".into());
    let leader = leader(&scene);
    let text = scene.run(&["plan"]).exits(0);
    for words in ["3 of 3 healthy", "needs 2"] {
        assert!(text.stdout.contains(words), "{words}\n{text}");
    }
    let plan = scene.plan_is(&["etcd-1.restart", "etcd-2.restart", "etcd-3.restart"]);
    assert_eq!(margins(&plan), [[3, 3, 2, 2]; 3], "{plan:#}");
    while_writing(&scene, "/rolling/", || {
        scene.apply();
    });
    let started: Vec<(u64, String)> = scene
        .hosts()
        .iter()
        .map(|host| {
            let started = scene.process(host).started.parse().unwrap();
            (started, host.name.clone())
        })
        .collect();
    let last = started.iter().max().unwrap();
    assert_eq!(last.1, leader, "the leader goes last: {started:?}");
    for (host, old) in scene.hosts().iter().zip(after) {
        assert_ne!(scene.process(host).pid, old.pid, "{}", host.name);
        let running = host
            .run("tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value etcd)/environ")
            .unwrap();
        assert!(running.contains("ETCD_SNAPSHOT_COUNT=4321"), "{running}");
    }
    scene.is_converged();
}

#[test]
fn a_change_that_a_member_does_not_survive_is_put_back() {
    let Some(scene) = Scene::up("putback", 3) else {
        return;
    };
    let mut scene = scene.tls();
    scene.apply();
    let before = scene.processes();
    let urls = |scene: &Scene| scene.etcdctl(scene.hosts(), &["member", "list"]);
    let old_urls = urls(&scene);

    // No host has this address, so etcd ends; the membership has learnt another peer URL by then.
    scene
        .settings
        .push("listen-metrics-urls = \"http://192.0.2.1:9000\"".into());
    for host in scene.named() {
        let edit = scene.edits.entry(host.name).or_default();
        edit.lines.push("peer_port = 12380".into());
    }
    while_writing(&scene, "/putback/", || {
        scene
            .run(&["apply", "--auto-approve"])
            .exits(1)
            .says("192.0.2.1");
    });
    let after = scene.processes();
    let touched = before.iter().zip(&after).filter(|(old, new)| old != new);
    assert_eq!(touched.count(), 1, "one member was tried: {after:?}");
    assert_eq!(urls(&scene), old_urls, "the membership is what it was");
    for host in scene.hosts() {
        let text = host.run("cat /etc/etcd/etcd.conf").unwrap();
        assert!(!text.contains("192.0.2.1"), "{}: {text}", host.name);
    }
    scene.settings.clear();
    scene.edits.clear();
    scene.run(&["status"]).exits(0);
    scene.apply();
    scene.is_converged();

    // A port that somebody else has is told before anything is stopped.
    let taker = "systemd-run -q --unit=taker /usr/local/bin/etcd --data-dir /tmp/taker \
                 --listen-peer-urls http://127.0.0.1:12380 --listen-client-urls http://127.0.0.1:12379 \
                 --advertise-client-urls http://127.0.0.1:12379";
    scene.host(2).run(taker).unwrap();
    eventually("the port is taken", || {
        let listens = scene
            .host(2)
            .exec("ss -ltn 2>/dev/null | grep -q :12380 || grep -q :305C /proc/net/tcp");
        listens.unwrap().success()
    });
    let edit = scene.edits.entry("etcd-2".into()).or_default();
    edit.lines.push("peer_port = 12380".into());
    let run = scene.run(&["plan", "--json"]).exits(3);
    let reasons = blocked(&run.json());
    assert!(
        reasons
            .iter()
            .any(|(node, reason)| node == "etcd-2" && reason.contains("12380")),
        "{run}"
    );
}

/// A binary that does not serve, another configuration and the unit: all of what switched comes back, on the one member
/// that was tried.
#[test]
fn binary_configuration_and_unit_are_put_back_together() {
    let Some(scene) = Scene::up("putallback", 3) else {
        return;
    };
    let mut scene = scene.tls();
    scene.apply();
    // They run by a unit that somebody edited.
    for host in scene.hosts() {
        let edit = "sed -i 's/^\\[Service\\]$/&\\nNice=5/' /etc/systemd/system/etcd.service; systemctl daemon-reload; \
                    systemctl restart etcd";
        host.run(edit).unwrap();
        eventually("it is healthy again", || {
            scene.run(&["status"]).code == Some(0)
        });
    }
    let look = |scene: &Scene| -> Vec<String> {
        let facts = "sha256sum /usr/local/bin/etcd /etc/etcd/etcd.conf /etc/systemd/system/etcd.service; \
                     systemctl show -p Nice -p ActiveState -p NeedDaemonReload etcd; \
                     ls -A /usr/local/bin /etc/etcd | grep -v quorate-staged";
        let hosts = scene.hosts().iter();
        hosts.map(|host| host.run(facts).unwrap()).collect()
    };
    let (before, files) = (scene.processes(), look(&scene));
    assert!(files[0].contains("Nice=5"), "{files:?}");

    let broken = does_not_serve(&scene);
    let install = std::mem::replace(&mut scene.install, broken);
    scene.settings.push("snapshot-count = 4321".into());
    while_writing(&scene, "/putallback/", || {
        let run = scene.run(&["apply", "--auto-approve"]).exits(1);
        run.says("Failed, and put back as it was (1):")
            .says("Not started (5):");
    });
    let after = scene.processes();
    let touched = before.iter().zip(&after).filter(|(old, new)| old != new);
    assert_eq!(touched.count(), 1, "one member was tried: {after:?}");
    for (host, (now, then)) in scene.hosts().iter().zip(look(&scene).iter().zip(&files)) {
        assert_eq!(now, then, "{}", host.name);
    }
    scene.run(&["status"]).exits(0);

    scene.install = install;
    while_writing(&scene, "/mended/", || {
        scene.apply();
    });
    scene.is_converged();
    assert!(!look(&scene).concat().contains("Nice=5"));
    for host in scene.hosts() {
        let left = host.run("ls -A /usr/local/bin /etc/etcd | grep quorate- || :");
        assert_eq!(left.unwrap(), "", "{}", host.name);
    }
}

/// An `[etcd.install]` with an archive of the same version whose etcd ends at once.
fn does_not_serve(scene: &Scene) -> String {
    let dir = scene.path("broken");
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy("/bin/false", dir.join("etcd")).unwrap();
    std::fs::copy("/bin/true", dir.join("etcdctl")).unwrap();
    let archive = scene.path("broken.tar.gz");
    let mut tar = std::process::Command::new("tar");
    tar.arg("-czf").arg(&archive).arg("-C").arg(scene.path("."));
    assert!(tar.arg("broken").status().unwrap().success());
    let sha256 = hex::encode(Sha256::digest(std::fs::read(&archive).unwrap()));
    format!("method = \"archive\"\narchive = {archive:?}\nsha256 = \"{sha256}\"\n")
}

/// etcd reads some of what the file says by itself, and never hears of the rest.
#[test]
fn what_needs_no_restart_gets_none() {
    let Some(scene) = Scene::up("norestart", 3) else {
        return;
    };
    let mut scene = scene.tls();
    scene.apply();
    let before = scene.processes();
    for host in scene.named() {
        let edit = scene.edits.entry(host.name.clone()).or_default();
        edit.lines
            .push(format!("extra_sans = [\"{}.lab.test\"]", host.name));
    }
    scene.ssh.push_str("connect_timeout = \"7s\"\n");
    scene.tables.push_str(
        "[[tls.client_cert]]\nname = \"another\"\n\n[tls.leaf]\nrenew_before = \"31d\"\n",
    );
    scene.plan_is(&["etcd-1.configure", "etcd-2.configure", "etcd-3.configure"]);
    while_writing(&scene, "/no-restart/", || {
        scene.apply();
    });
    assert_eq!(scene.processes(), before, "nobody was to be restarted");
    scene.is_converged();
    assert!(scene.path("pki/clients/another.crt").exists());
    for host in scene.hosts() {
        let served = format!(
            "openssl s_client -connect {}:2379 -cert pki/clients/another.crt -key pki/clients/another.key </dev/null 2>/dev/null \
             | openssl x509 -noout -ext subjectAltName",
            host.ip
        );
        let served = scene.command_of("sh", &["-c", &served]).output().unwrap();
        let names = String::from_utf8_lossy(&served.stdout);
        assert!(
            names.contains(&format!("{}.lab.test", host.name)),
            "{served:?}"
        );
    }
}

/// A member that nobody can dial looks healthy over the links that it opens itself: with a second one of that kind the
/// quorum would be gone.
#[test]
fn an_address_that_the_others_cannot_dial_is_put_back() {
    let Some(mut scene) = Scene::up("undialable", 3) else {
        return;
    };
    scene.apply();
    for host in scene.named() {
        host.partition(&Cut::Ports(vec![13_380])).unwrap();
        let edit = scene.edits.entry(host.name).or_default();
        edit.lines.push("peer_port = 13380".into());
    }
    let before = scene.processes();
    while_writing(&scene, "/undialable/", || {
        scene
            .run(&["apply", "--auto-approve"])
            .exits(1)
            .says("every member has to reach every other");
    });
    let after = scene.processes();
    let touched = before.iter().zip(&after).filter(|(old, new)| old != new);
    assert_eq!(touched.count(), 1, "one member was tried: {after:?}");
    let members = scene.etcdctl(scene.hosts(), &["member", "list"]);
    assert!(!members.contains(":13380"), "{members}");
    scene.edits.clear();
    scene.run(&["status"]).exits(0);
}

/// A run that ends while the others try to dial a member has not seen that they can: the next one does not take it for
/// granted.
#[test]
fn an_address_that_nobody_had_dialed_is_dialed_by_the_next_run() {
    let Some(mut scene) = Scene::up("undialed", 3) else {
        return;
    };
    scene.apply();
    let before = scene.processes();
    for host in scene.named() {
        host.partition(&Cut::Ports(vec![13_380])).unwrap();
        let edit = scene.edits.entry(host.name).or_default();
        edit.lines.push("peer_port = 13380".into());
    }
    let mut apply = scene.command(&["apply", "--auto-approve"]);
    let mut run = apply.stdout(Stdio::null()).spawn().unwrap();
    eventually("a member is restarted at its new address", || {
        let members = scene.etcdctl(scene.hosts(), &["member", "list"]);
        members.contains(":13380") && scene.processes() != before
    });
    run.kill().unwrap();
    run.wait().unwrap();
    for _ in 0..2 {
        scene
            .run(&["apply", "--auto-approve"])
            .exits(1)
            .says("every member has to reach every other");
    }
    let after = scene.processes();
    let touched = before.iter().zip(&after).filter(|(old, new)| old != new);
    assert_eq!(touched.count(), 1, "no other was tried: {after:?}");
    for host in scene.named() {
        host.heal().unwrap();
    }
    scene.apply();
    scene.is_converged();
}

#[test]
fn a_single_member_restarts_only_with_consent() {
    let Some(mut scene) = Scene::up("consent", 1) else {
        return;
    };
    scene.apply();
    let before = scene.process(scene.host(1));
    scene.settings.push("snapshot-count = 4321".into());

    let run = scene.run(&["plan", "--json"]).exits(3);
    let [(node, reason)] = &blocked(&run.json())[..] else {
        panic!("one thing is blocked\n{run}")
    };
    assert_eq!(node, "etcd-1");
    assert!(reason.contains("cannot be restarted"), "{run}");
    scene
        .run(&["apply", "--auto-approve"])
        .exits(3)
        .says("--allow-downtime");
    assert_eq!(scene.process(scene.host(1)), before, "it was blocked");

    scene
        .run(&["plan", "--allow-downtime", "--detailed-exitcode"])
        .exits(2);
    scene
        .run(&["apply", "--auto-approve", "--allow-downtime"])
        .exits(0);
    assert_ne!(scene.process(scene.host(1)).pid, before.pid);
    scene.is_converged();
    scene.run(&["status"]).exits(0);
}

/// Voters, healthy before and during, and quorum, of every restart.
fn margins(plan: &Value) -> Vec<[u64; 4]> {
    plan["actions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|action| action["type"] == "restart")
        .map(|action| {
            ["voters", "before", "during", "needs"]
                .map(|name| action["margin"][name].as_u64().expect("a margin"))
        })
        .collect()
}

fn leader(scene: &Scene) -> String {
    let run = scene.run(&["status", "--json"]).exits(0);
    let status = run.json();
    status["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|member| member["role"] == "leader")
        .and_then(|member| member["name"].as_str())
        .unwrap_or_else(|| panic!("nobody leads\n{run}"))
        .to_owned()
}
