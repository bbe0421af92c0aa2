//! Members come and go while somebody writes: nothing acknowledged is lost, and nothing is cleaned by hand.

use std::collections::BTreeSet;

use super::harness::{Scene, blocked, eventually, ids};
use super::writing::while_writing;

/// Names of the members, all of them voters.
fn voters(scene: &Scene) -> BTreeSet<String> {
    let status = scene.run(&["status", "--json"]).exits(0).json();
    status["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| {
            assert_ne!(member["role"], "learner", "{status:#}");
            member["name"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn names(scene: &Scene) -> BTreeSet<String> {
    scene.named().into_iter().map(|host| host.name).collect()
}

/// Applies the file while somebody writes; then the members are those of the file, and nothing is left to do.
fn becomes(scene: &mut Scene, nodes: usize, without: &[&str], prefix: &str) {
    while_writing_to(scene, prefix, nodes, without);
    assert_eq!(voters(scene), names(scene));
    scene.is_converged();
}

fn while_writing_to(scene: &mut Scene, prefix: &str, nodes: usize, without: &[&str]) {
    let all = scene.nodes.max(nodes);
    scene.without = without.iter().map(|name| (*name).to_owned()).collect();
    scene.without.extend(
        scene.lab.hosts()[nodes..all]
            .iter()
            .map(|host| host.name.clone()),
    );
    scene.nodes = all;
    while_writing(scene, prefix, || {
        scene.apply();
    });
}

/// Nothing of ours is on the host but data that was moved aside.
fn is_clean(scene: &Scene, number: usize) {
    let host = scene.host(number);
    assert!(!scene.has_marker(host), "{} has a marker", host.name);
    let left = host
        .run("ls -d /etc/etcd /etc/systemd/system/etcd.service /usr/local/bin/etcd /var/lib/etcd/member 2>/dev/null || :")
        .unwrap();
    assert_eq!(left, "", "on {}", host.name);
    let aside = host.run("ls -d /var/lib/etcd/member.quorate-*").unwrap();
    assert!(!aside.is_empty(), "{} has no data moved aside", host.name);
}

#[test]
fn a_single_member_grows_to_five_and_shrinks_to_one() {
    let Some(scene) = Scene::up("grow", 5) else {
        return;
    };
    let mut scene = scene.tls();
    scene.nodes = 1;
    scene.apply();

    scene.nodes = 3;
    let plan = scene.run(&["plan", "--json"]).exits(0).json();
    let order: Vec<String> = ids(&plan)
        .into_iter()
        .filter(|id| ["add", "join", "promote"].contains(&id.rsplit('.').next().unwrap()))
        .collect();
    let expected = [
        "node.etcd-2.add",
        "node.etcd-2.join",
        "node.etcd-2.promote",
        "node.etcd-3.add",
        "node.etcd-3.join",
        "node.etcd-3.promote",
    ];
    assert_eq!(order, expected, "one at a time, as learners first");
    scene.nodes = 1;
    becomes(&mut scene, 3, &[], "/three/");
    becomes(&mut scene, 5, &[], "/five/");
    // Whoever leads goes as well: leadership moves first.
    becomes(&mut scene, 5, &["etcd-1", "etcd-2"], "/less/");
    is_clean(&scene, 1);
    is_clean(&scene, 2);
    becomes(
        &mut scene,
        5,
        &["etcd-1", "etcd-2", "etcd-3", "etcd-4"],
        "/one/",
    );
    is_clean(&scene, 3);
    is_clean(&scene, 4);
}

#[test]
fn an_old_etcd_grows_and_shrinks_as_well() {
    let Some(mut scene) = Scene::up("grow34", 3) else {
        return;
    };
    scene.version = "3.4.23".into();
    scene.nodes = 1;
    scene.apply();
    // What a learner gets at once is more than its leader's log has of it.
    let fill = "head -c 700000 /dev/urandom | base64 >/tmp/value; for n in $(seq 60); do \
                ETCDCTL_API=3 etcdctl --endpoints=http://$(hostname -I | tr -d ' '):2379 put /large/$n </tmp/value; done";
    scene.host(1).run(fill).unwrap();
    becomes(&mut scene, 3, &[], "/three/");
    // A member that is dead on a host that lives goes without being started again.
    scene.host(3).run("systemctl stop etcd").unwrap();
    becomes(&mut scene, 3, &["etcd-3"], "/dead/");
    is_clean(&scene, 3);
    // The leader goes, and hands over first.
    leads(&scene, "etcd-1");
    becomes(&mut scene, 3, &["etcd-1", "etcd-3"], "/one/");
    is_clean(&scene, 1);
}

/// Makes this member the leader, where it is not.
fn leads(scene: &Scene, name: &str) {
    let (_, members) = scene.members(&scene.named()[0]);
    let id = format!("{:x}", members[name]);
    for host in scene.named() {
        // Only who leads can hand over.
        let host = std::slice::from_ref(&host);
        let mut hand_over = scene.etcdctl_command(host, &["move-leader", &id]);
        let _ = hand_over.output();
    }
    let status = scene.run(&["status", "--json"]).exits(0).json();
    let mut members = status["members"].as_array().unwrap().iter();
    let leader = members.find(|member| member["role"] == "leader").unwrap();
    assert_eq!(leader["name"], name, "{status:#}");
}

#[test]
fn failed_members_are_replaced_and_gone_ones_removed() {
    let Some(scene) = Scene::up("replace", 4) else {
        return;
    };
    let mut scene = scene.tls();
    scene.nodes = 3;
    scene.apply();

    // A host that was rebuilt: blank, under the same name and address.
    let rebuild = "systemctl disable --now etcd; rm -rf /etc/quorate /etc/etcd /var/lib/etcd /usr/local/bin/etcd* \
                   /etc/systemd/system/etcd.service; userdel etcd; systemctl daemon-reload";
    scene.host(2).run(rebuild).unwrap();
    becomes(&mut scene, 3, &[], "/rebuilt/");

    // One that was reinstalled, from an image that has etcd, with its data on a disk that was kept: the user gets another
    // number.
    let members = scene.members(scene.host(1));
    let reinstall = "systemctl disable --now etcd; rm -rf /etc/quorate /etc/etcd \
                     /etc/systemd/system/etcd.service; systemctl daemon-reload; \
                     uid=$(id -u etcd); userdel etcd; useradd --system -u $uid another";
    scene.host(2).run(reinstall).unwrap();
    becomes(&mut scene, 3, &[], "/reinstalled/");
    assert_eq!(scene.members(scene.host(1)), members, "the same members");
    // And brought back by hand.
    let by_hand = "systemctl stop etcd; chown -R root:root /var/lib/etcd/member";
    scene.host(2).run(by_hand).unwrap();
    becomes(&mut scene, 3, &[], "/by-hand/");

    // Data that is missing is not lost until the operator says so.
    scene
        .host(3)
        .run("systemctl stop etcd; rm -rf /var/lib/etcd/member")
        .unwrap();
    let run = scene.run(&["apply", "--auto-approve"]).exits(3);
    assert!(run.stdout.contains("may not be mounted"), "{run}");
    while_writing(&scene, "/lost/", || {
        scene
            .run(&["apply", "--auto-approve", "--replace", "etcd-3"])
            .exits(0);
    });
    assert_eq!(voters(&scene), names(&scene));
    scene.is_converged();

    // A healthy member is replaced on the operator's word: its data is moved aside, not deleted.
    while_writing(&scene, "/healthy/", || {
        scene
            .run(&["apply", "--auto-approve", "--replace", "etcd-1"])
            .exits(0);
    });
    scene
        .host(1)
        .run("ls -d /var/lib/etcd/member.quorate-replaced-*")
        .unwrap();
    scene.is_converged();

    // A host that is gone for ever makes way for another one.
    scene.host(2).power_off().unwrap();
    let plan = scene.run(&["plan", "--json"]).exits(3).json();
    assert!(
        ids(&plan).iter().all(|id| !id.ends_with(".remove")),
        "unreachable is not gone: {plan:#}"
    );
    scene.nodes = 4;
    while_writing_to(&mut scene, "/gone/", 4, &["etcd-2"]);
    assert_eq!(voters(&scene), names(&scene));
    scene.is_converged();

    // And for nobody, where the file wants one less.
    scene.host(4).power_off().unwrap();
    while_writing_to(&mut scene, "/less/", 4, &["etcd-2", "etcd-4"]);
    assert_eq!(voters(&scene), names(&scene));
    scene.is_converged();

    // Without a quorum nobody is given up.
    scene.host(3).power_off().unwrap();
    scene.without = ["etcd-2", "etcd-3", "etcd-4"].map(String::from).into();
    let plan = scene.run(&["plan", "--json"]).exits(3).json();
    assert!(
        ids(&plan).iter().all(|id| !id.ends_with(".remove")),
        "{plan:#}"
    );
    assert!(
        blocked(&plan)
            .iter()
            .any(|(_, reason)| reason.contains("are needed to change the membership")),
        "{plan:#}"
    );
}

#[test]
fn stale_and_corrupt_data_make_way_and_strangers_stay() {
    let Some(mut scene) = Scene::up("stale", 5) else {
        return;
    };
    scene.nodes = 3;
    scene.apply();

    // Somebody removed a member by hand: what its host holds is stale, and a new member takes its place.
    let (_, ids_of) = scene.members(scene.host(1));
    let third = format!("{:x}", ids_of["etcd-3"]);
    std::thread::sleep(std::time::Duration::from_secs(6));
    scene.etcdctl(&scene.hosts()[..1], &["member", "remove", &third]);
    becomes(&mut scene, 3, &[], "/stale/");
    scene
        .host(3)
        .run("ls -d /var/lib/etcd/member.quorate-replaced-*")
        .unwrap();

    // A WAL whose head is damaged: nobody can say whose data it is, until the operator gives it up.
    scene
        .host(2)
        .run(
            "systemctl stop etcd; cd /var/lib/etcd/member/wal; \
             for file in *.wal; do dd if=/dev/urandom of=$file bs=512 count=1 conv=notrunc status=none; done",
        )
        .unwrap();
    let run = scene.run(&["apply", "--auto-approve"]).exits(3);
    assert!(run.stdout.contains("--replace"), "{run}");
    while_writing(&scene, "/corrupt/", || {
        scene
            .run(&["apply", "--auto-approve", "--replace", "etcd-2"])
            .exits(0);
    });
    assert_eq!(voters(&scene), names(&scene));
    scene.is_converged();

    // One that begins well and is damaged further on: whose data it is can be read, and etcd cannot start on it.
    scene.etcdctl(scene.hosts(), &["put", "/mark", "whatever-is-written"]);
    let damage = "cd /var/lib/etcd/member/wal; grep -q whatever-is-written *.wal; systemctl stop etcd; \
                  at=$(grep -abo whatever-is-written 0*.wal | tail -n 1); file=$(ls 0*.wal | tail -n 1); at=${at#*.wal:}; \
                  printf X | dd of=$file bs=1 seek=${at%%:*} conv=notrunc status=none";
    eventually("it is in the log of etcd-2", || {
        let found = scene
            .host(2)
            .exec("grep -q whatever-is-written /var/lib/etcd/member/wal/*.wal");
        found.unwrap().success()
    });
    scene.host(2).run(damage).unwrap();
    let run = scene.run(&["apply", "--auto-approve"]).exits(1);
    run.says("etcd-2").says("crc");
    while_writing(&scene, "/damaged/", || {
        scene
            .run(&["apply", "--auto-approve", "--replace", "etcd-2"])
            .exits(0);
    });
    assert_eq!(voters(&scene), names(&scene));
    scene.is_converged();

    // A member that nobody knows is never removed, and nothing else is while it is there.
    std::thread::sleep(std::time::Duration::from_secs(6));
    let text = scene.etcdctl(
        &scene.hosts()[..1],
        &[
            "member",
            "add",
            "ghost",
            "--learner",
            "--peer-urls=http://10.77.0.99:2380",
        ],
    );
    let ghost = text
        .split_whitespace()
        .nth(1)
        .expect("Member ID added to cluster")
        .to_owned();
    scene.without = vec!["etcd-3".into()];
    let plan = scene.run(&["plan", "--json"]).exits(3).json();
    assert!(
        blocked(&plan)
            .iter()
            .any(|(_, reason)| reason.contains("neither in the cluster file")),
        "{plan:#}"
    );
    assert!(
        !ids(&plan).iter().any(|id| id.ends_with(".remove")),
        "{plan:#}"
    );
    scene.etcdctl(&scene.hosts()[..1], &["member", "remove", &ghost]);

    // Two of three at once would be another cluster under the same name.
    scene.nodes = 5;
    scene.without = vec!["etcd-1".into(), "etcd-2".into()];
    let plan = scene.run(&["plan", "--json"]).exits(3).json();
    assert!(
        blocked(&plan)
            .iter()
            .any(|(_, reason)| reason.contains("a majority of them")),
        "{plan:#}"
    );
    assert!(
        !ids(&plan)
            .iter()
            .any(|id| id.ends_with(".add") || id.ends_with(".remove") || id.ends_with(".stop")),
        "{plan:#}"
    );
    scene.nodes = 3;
    scene.without.clear();
    scene.is_converged();
}
