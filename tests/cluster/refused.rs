//! What a living cluster is not put through: each with the reason and the remedy, with exit code 3, and nobody touched.

use std::process::Stdio;

use quorate_lab::{Cut, Host};

use super::harness::{Process, Scene, eventually, ids};
use super::writing::{through_an_outage, while_writing};

/// Plans and applies: for this node, or the whole cluster, both say why not and what to do, and no host changes.
fn refuses(scene: &Scene, node: &str, reason: &str, remedy: &str) {
    let on = || scene.hosts().iter().filter(|host| host.is_on());
    let files =
        "cd /etc; find etcd quorate systemd/system /usr/local/bin -type f | sort | xargs sha256sum";
    let look = |host| -> (Process, String) { (scene.process(host), host.run(files).unwrap()) };
    let before: Vec<_> = on().map(look).collect();
    let run = scene.run(&["plan", "--json"]).exits(3);
    let plan = run.json();
    let holds = |field: &serde_json::Value, words: &str| {
        let text = field.as_str().unwrap_or_default();
        text.contains(words)
    };
    let mut blocked = plan["blocked"].as_array().unwrap().iter();
    assert!(
        blocked.any(|blocked| {
            blocked["node"].as_str().unwrap_or_default() == node
                && holds(&blocked["reason"], reason)
                && holds(&blocked["remedy"], remedy)
        }),
        "{node}: {reason}; {remedy}\n{run}"
    );
    assert_eq!(ids(&plan), [""; 0], "{run}");
    let run = scene.run(&["apply", "--auto-approve"]).exits(3);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = words(&format!("{}{}", run.stdout, run.stderr));
    assert!(said.contains(&words(reason)), "{reason}\n{run}");
    assert!(said.contains(&words(remedy)), "{remedy}\n{run}");
    let after: Vec<_> = on().map(look).collect();
    assert_eq!(after, before, "somebody was touched\n{run}");
}

/// The same while somebody writes.
fn refuses_quietly(scene: &Scene, prefix: &str, node: &str, reason: &str, remedy: &str) {
    while_writing(scene, prefix, || refuses(scene, node, reason, remedy));
}

fn returns(scene: &Scene, hosts: &[&Host]) {
    for host in hosts {
        host.power_on().unwrap();
    }
    eventually("everybody is healthy again", || {
        scene.run(&["status"]).code == Some(0)
    });
}

#[test]
fn what_is_not_safe_is_refused_with_a_remedy() {
    let Some(mut scene) = Scene::up("refused", 3) else {
        return;
    };
    scene.apply();

    scene.name = "other".into();
    let reason = "the host belongs to cluster demo";
    refuses_quietly(
        &scene,
        "/name/",
        "etcd-2",
        reason,
        "use that cluster's file",
    );
    scene.name = "demo".into();
    scene.token = "other".into();
    let reason = "the cluster file changes the token: the cluster was bootstrapped with demo-";
    refuses_quietly(&scene, "/token/", "", reason, "set `token` back");
    scene.token = "demo".into();

    let ours = scene.version.clone();
    let others = ["3.4.23", "3.5.16"].into_iter();
    for other in others.filter(|other| *other != ours) {
        scene.version = other.into();
        let reason = format!("it runs etcd {ours}, the cluster file asks for {other}");
        let remedy = "set `version` to what runs";
        refuses_quietly(&scene, "/version/", "etcd-3", &reason, remedy);
    }
    scene.version = ours;

    // With one of three down the others cannot be spared.
    let remedy = "repair the other members first";
    scene.settings.push("snapshot-count = 4321".into());
    while_writing(&scene, "/one-off/", || {
        scene.host(3).power_off().unwrap();
        let reason = "stopping it would leave 1 of 3 voters, 2 are needed";
        refuses(&scene, "etcd-1", reason, remedy);
        returns(&scene, &[scene.host(3)]);
    });

    // Two of three are no quorum.
    through_an_outage(&scene, "/two-off/", || {
        scene.host(2).power_off().unwrap();
        scene.host(3).power_off().unwrap();
        let reason = "stopping it would leave 0 of 3 voters, 2 are needed";
        refuses(&scene, "etcd-1", reason, remedy);
        returns(&scene, &[scene.host(2), scene.host(3)]);
    });
    scene.settings.clear();
    scene.is_converged();
}

/// Whoever takes a node out of the file has said that it is gone, also where only its host's SSH is. What that host holds
/// is stale afterwards, and stays.
#[test]
fn a_member_whose_host_cannot_be_reached_is_taken_out_by_the_file_alone() {
    let Some(mut scene) = Scene::up("cut", 3) else {
        return;
    };
    scene.apply();
    scene.host(3).partition(&Cut::Ports(vec![22])).unwrap();
    let (reason, remedy) = ("no SSH session with", "make it reachable and plan again");
    refuses_quietly(&scene, "/unreachable/", "etcd-3", reason, remedy);
    scene.without = vec!["etcd-3".into()];
    while_writing(&scene, "/taken-out/", || {
        let run = scene.run(&["apply", "--auto-approve"]).exits(0);
        run.says("take etcd and /etc/quorate off it by hand");
    });
    assert_eq!(scene.members(scene.host(1)).1.len(), 2);
    scene.is_converged();

    scene.host(3).heal().unwrap();
    scene.without.clear();
    while_writing(&scene, "/back/", || {
        scene.apply();
    });
    assert_eq!(scene.members(scene.host(1)).1.len(), 3);
    let aside = "ls -d /var/lib/etcd/member.quorate-replaced-*";
    scene.host(3).run(aside).unwrap();
    scene.is_converged();
}

/// What somebody else started on a host is another cluster, whatever its address.
#[test]
fn a_member_of_another_cluster_is_left_alone() {
    let Some(scene) = Scene::up("foreign", 3) else {
        return;
    };
    scene.apply();
    let host = scene.host(3);
    let foreign = format!(
        "systemctl stop etcd; mkdir /root/ours; mv /var/lib/etcd/member /root/ours
         systemd-run -q --unit=foreign -p User=etcd /usr/local/bin/etcd --name etcd-3 --data-dir /var/lib/etcd \
             --initial-cluster-token foreign --initial-cluster etcd-3=http://{ip}:2380 \
             --initial-advertise-peer-urls http://{ip}:2380 --listen-peer-urls http://{ip}:2380 \
             --advertise-client-urls http://{ip}:2379 --listen-client-urls http://{ip}:2379",
        ip = host.ip
    );
    host.run(&foreign).unwrap();
    let endpoint = std::slice::from_ref(host);
    eventually("it serves", || {
        let mut health = scene.etcdctl_command(endpoint, &["endpoint", "health"]);
        let health = health.stdout(Stdio::null()).stderr(Stdio::null());
        health.status().unwrap().success()
    });
    refuses(
        &scene,
        "etcd-3",
        "it answers for cluster",
        "stop etcd there",
    );
    host.run("systemctl stop foreign").unwrap();
    refuses(&scene, "etcd-3", "another cluster", "");
    host.run("rm -r /var/lib/etcd/member; mv /root/ours/member /var/lib/etcd")
        .unwrap();
    while_writing(&scene, "/ours-again/", || {
        scene.apply();
    });
    scene.is_converged();
}
