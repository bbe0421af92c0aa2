//! Members that move in place or to another host while somebody writes: the same member, the same data.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Stdio;

use serde_json::Value;

use super::harness::{Edit, Scene, eventually, ids};
use super::writing::while_writing;

/// Applies what the file says while somebody writes; then nothing is left to do and everybody is healthy.
fn becomes(scene: &Scene, prefix: &str) {
    while_writing(scene, prefix, || {
        scene.apply();
    });
    scene.is_converged();
    scene.run(&["status"]).exits(0);
}

fn member_ids(scene: &Scene) -> BTreeSet<u64> {
    scene.members(&scene.named()[0]).1.into_values().collect()
}

fn edit(scene: &mut Scene, number: usize) -> &mut Edit {
    let host = scene.host(number).name.clone();
    scene.edits.entry(host).or_default()
}

fn line(scene: &mut Scene, number: usize, line: &str) {
    edit(scene, number).lines.push(line.into());
}

/// Peer URLs as etcd lists them.
fn peer_urls(scene: &Scene) -> String {
    scene.etcdctl(&scene.named()[..1], &["member", "list"])
}

#[test]
fn addresses_names_and_directories_change_in_place() {
    let Some(scene) = Scene::up("inplace", 3) else {
        return;
    };
    let mut scene = scene.tls();
    scene.apply();
    let members = member_ids(&scene);

    for number in 1..=3 {
        line(&mut scene, number, "peer_port = 12380");
    }
    let plan = scene.plan_is(&["etcd-1.restart", "etcd-2.restart", "etcd-3.restart"]);
    assert!(plan.to_string().contains(":12380"), "{plan:#}");
    becomes(&scene, "/peer-port/");
    let urls = peer_urls(&scene);
    assert_eq!(urls.matches(":12380").count(), 3, "{urls}");
    assert_eq!(member_ids(&scene), members, "the same members");

    // Clients follow to the new port as it comes up, and the name is another.
    edit(&mut scene, 2).client_port = Some(3379);
    edit(&mut scene, 2).name = Some("second".into());
    becomes(&scene, "/client-port/");
    assert!(peer_urls(&scene).contains("second"));
    assert_eq!(member_ids(&scene), members, "the same members");

    // The data goes elsewhere: on the same file system, to another one, and the WAL to a place of its own.
    line(&mut scene, 1, "data_dir = \"/srv/etcd\"");
    scene.host(2).add_data_disk("/data", 256).unwrap();
    line(&mut scene, 2, "data_dir = \"/data/etcd\"");
    // As a connection that is cut in the middle of the copy leaves it.
    scene
        .host(2)
        .run("systemctl stop etcd; mv /var/lib/etcd/member /var/lib/etcd/member.quorate-moving")
        .unwrap();
    line(&mut scene, 3, "wal_dir = \"/srv/wal\"");
    becomes(&scene, "/directories/");
    assert_eq!(member_ids(&scene), members, "the same members");
    scene
        .host(1)
        .run("test ! -e /var/lib/etcd/member && test -e /srv/etcd/member/wal")
        .unwrap();
    scene
        .host(2)
        .run("test ! -e /var/lib/etcd/member && test -e /data/etcd/member/wal")
        .unwrap();
    scene
        .host(2)
        .run("ls -d /var/lib/etcd/member.quorate-*")
        .unwrap();
    scene
        .host(3)
        .run("test ! -e /var/lib/etcd/member/wal && test -e /srv/wal/wal")
        .unwrap();

    // URLs of names, which the hosts know from their own files here, and back to addresses.
    for host in scene.hosts() {
        let names = "for n in 1 2 3; do echo 10.77.0.1$n etcd-$n.lab.test; done >>/etc/hosts";
        host.run(names).unwrap();
    }
    for number in 1..=3 {
        let fqdn = format!("fqdn = \"etcd-{number}.lab.test\"");
        line(&mut scene, number, &fqdn);
    }
    scene.etcd.push("advertise = \"fqdn\"".into());
    becomes(&scene, "/names/");
    let urls = peer_urls(&scene);
    let by_name = |number: &usize| urls.contains(&format!("https://etcd-{number}.lab.test:12380"));
    assert!([1, 2, 3].iter().all(by_name), "{urls}");
    assert_eq!(member_ids(&scene), members, "the same members");
    scene.etcd.clear();

    // And back.
    for number in 1..=3 {
        let lines = &mut edit(&mut scene, number).lines;
        lines.retain(|line| !line.contains("_dir"));
    }
    becomes(&scene, "/back/");
    assert_eq!(member_ids(&scene), members, "the same members");
    scene
        .host(3)
        .run("test -e /var/lib/etcd/member/wal && test ! -e /srv/wal/wal")
        .unwrap();
}

#[test]
fn a_host_gets_another_address_or_its_node_another_host() {
    let Some(scene) = Scene::up("renumber", 4) else {
        return;
    };
    let mut scene = scene.tls();
    scene.nodes = 3;
    scene.apply();
    let members = member_ids(&scene);

    // Somebody renumbered a host: its member is cut off until the membership knows.
    let address = Ipv4Addr::new(10, 77, 0, 33);
    scene.lab.renumber("etcd-3", address).unwrap();
    edit(&mut scene, 3).ip = Some(address);
    becomes(&scene, "/renumbered/");
    assert_eq!(member_ids(&scene), members, "the same members");
    assert!(peer_urls(&scene).contains("10.77.0.33"));

    // A node goes to a blank host: a new member, and the old one leaves when that has its vote.
    scene.nodes = 4;
    scene.without = vec!["etcd-2".into()];
    edit(&mut scene, 4).name = Some("etcd-2".into());
    let plan = scene.run(&["plan", "--json"]).exits(0).json();
    let ids = ids(&plan);
    let at = |id: &str| ids.iter().position(|other| other == id);
    assert!(
        at("node.etcd-2.promote") < at("node.etcd-2.remove"),
        "{ids:?}"
    );
    assert!(at("node.etcd-2.promote").is_some(), "{ids:?}");
    // One of three may fail before, and one while it goes on.
    let tolerates = |action: &Value| {
        let margin = |name: &str| action["margin"][name].as_u64();
        Some(margin("during")?.checked_sub(margin("needs")?))
    };
    let tolerated: Vec<_> = plan["actions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(tolerates)
        .collect();
    assert!(tolerated.len() >= 3, "{plan:#}");
    assert!(tolerated.iter().all(|some| *some >= Some(1)), "{plan:#}");
    becomes(&scene, "/moved/");
    assert_eq!(member_ids(&scene).len(), 3);
    assert_eq!(member_ids(&scene).intersection(&members).count(), 2);
    assert!(!scene.has_marker(scene.host(2)), "its former host is clean");
    let urls = peer_urls(&scene);
    assert!(!urls.contains("10.77.0.12:"), "{urls}");
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The address that it had is no way back: nobody waits for that, and the next run goes on from there.
#[test]
fn a_renumbered_member_that_does_not_come_up_is_left_to_the_next_run() {
    let Some(scene) = Scene::up("noway", 3) else {
        return;
    };
    let mut scene = scene.tls();
    scene.apply();
    let members = member_ids(&scene);
    let others = [1, 2].map(|number| scene.process(scene.host(number)));
    let address = Ipv4Addr::new(10, 77, 0, 33);
    scene.lab.renumber("etcd-3", address).unwrap();
    edit(&mut scene, 3).ip = Some(address);
    // Whoever looks for the host where it was gives up soon.
    scene.ssh.push_str("connect_timeout = \"3s\"\n");
    let broken = "[node.settings]\nlisten-metrics-urls = \"http://192.0.2.1:9000\"";
    line(&mut scene, 3, broken);
    let run = scene.run(&["apply", "--auto-approve"]).exits(1);
    // Neither on the one nor on the other, as its unit says; and not for the two minutes that a gate has, in which it would
    // have been killed.
    let (_, failed) = run.stdout.split_once("\nFailed (1):").expect("it failed");
    let (at_first, then) = failed
        .split_once("it was put back, but")
        .expect("it was put back");
    for part in [at_first, then] {
        assert!(
            words(part).contains("on etcd-3 the unit has crashed"),
            "{run}"
        );
    }
    let now = [1, 2].map(|number| scene.process(scene.host(number)));
    assert_eq!(now, others, "the others are untouched");

    edit(&mut scene, 3).lines.clear();
    becomes(&scene, "/renumbered/");
    assert_eq!(member_ids(&scene), members, "the same members");
}

#[test]
fn an_old_etcd_moves_as_well() {
    let Some(mut scene) = Scene::up("inplace34", 3) else {
        return;
    };
    scene.version = "3.4.23".into();
    scene.apply();
    let members = member_ids(&scene);
    for number in 1..=3 {
        line(&mut scene, number, "peer_port = 12380");
    }
    line(&mut scene, 1, "data_dir = \"/srv/etcd\"");
    becomes(&scene, "/moved/");
    assert_eq!(member_ids(&scene), members, "the same members");
}

/// A disk has room for the data and for the WAL, and not for both: nothing is stopped. What has moved and was not used
/// is told from what was.
#[test]
fn a_member_is_not_stopped_for_what_does_not_fit() {
    let Some(mut scene) = Scene::up("nofit", 3) else {
        return;
    };
    line(&mut scene, 1, "wal_dir = \"/srv/wal\"");
    scene.apply();
    let members = member_ids(&scene);
    let before = scene.process(scene.host(1));
    scene.host(1).add_data_disk("/data", 160).unwrap();
    at_home(&mut scene, 1);
    line(&mut scene, 1, "data_dir = \"/data/etcd\"");
    let run = scene.run(&["apply", "--auto-approve"]).exits(1);
    let run = run.says("are needed for the data and some room");
    assert_eq!(scene.process(scene.host(1)), before, "{run}");
    at_home(&mut scene, 1);
    line(&mut scene, 1, "wal_dir = \"/srv/wal\"");
    scene.apply();
    assert_eq!(member_ids(&scene), members, "the same members");

    let functions = include_str!("../../src/apply/prelude.sh");
    let used = "q_run=run; q_stop_for_moves etcd.service; q_is_unused; systemctl daemon-reload; q_is_unused
                systemctl start etcd.service; if q_is_unused; then exit 1; fi
                systemctl stop etcd.service; if q_is_unused; then exit 1; fi
                q_stop_for_moves etcd.service; q_is_unused; q_start etcd.service; if q_is_unused; then exit 1; fi";
    scene.host(1).run(&format!("{functions}{used}")).unwrap();
    scene.run(&["status"]).exits(0);
}

/// Programs in front of those of a script on a host: they say which group of processes it is, and never end.
const STUCK_COPY: &str = r#"#!/bin/sh
case $* in *quorate-part*) ;; *) exec /usr/bin/cp "$@" ;; esac
for to; do :; done
mkdir "$to" && echo half >"$to/half"
ps -o args= -p "$(ps -o pgid= -p $$ | tr -d ' ')" >/run/script
ps -o pgid= -p $$ >/run/stuck
exec sleep 1000
"#;
const STUCK_WHEN_IT_HAS_ARRIVED: &str = r#"#!/bin/sh
if [ ! -e /srv/etcd/member ]; then exec /usr/bin/sync "$@"; fi
ps -o pgid= -p $$ >/run/stuck
exec sleep 1000
"#;

/// A run that is killed while its script is stuck in this program, which is then killed as well.
fn cut_off_in(scene: &Scene, number: usize, program: &str, stuck: &str) {
    let host = scene.host(number);
    let path = format!("/usr/local/bin/{program}");
    host.write_file(&path, stuck, 0o755).unwrap();
    let mut command = scene.command(&["apply", "--auto-approve"]);
    let mut run = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let says = |host: &quorate_lab::Host, script: &str| host.exec(script).unwrap().success();
    eventually("the script is stuck", || says(host, "test -s /run/stuck"));
    run.kill().unwrap();
    run.wait().unwrap();
    host.run(&format!(
        "pkill -9 -g $(cat /run/stuck); rm /run/stuck {path}"
    ))
    .unwrap();
    for host in scene.hosts() {
        let is_free = "flock -n /run/quorate/lock true && flock -n /run/quorate/work.lock true";
        eventually("the lock is free", || says(host, is_free));
    }
}

fn at_home(scene: &mut Scene, number: usize) {
    edit(scene, number).lines.clear();
}

#[test]
fn an_edit_is_taken_back_in_the_middle_of_a_copy() {
    let Some(scene) = Scene::up("halfcopy", 3) else {
        return;
    };
    let mut scene = scene.tls();
    scene.apply();
    let members = member_ids(&scene);
    scene.host(1).add_data_disk("/data", 256).unwrap();
    line(&mut scene, 1, "data_dir = \"/data/etcd\"");
    cut_off_in(&scene, 1, "cp", STUCK_COPY);
    let half = "test -e /var/lib/etcd/member.quorate-moving && ls -A /data/etcd | grep part";
    scene.host(1).run(half).unwrap();
    // Fifteen minutes were too few for some.
    let script = scene.host(1).run("cat /run/script").unwrap();
    assert!(script.starts_with("timeout -k 5 86400 "), "{script}");
    at_home(&mut scene, 1);
    let plan = scene.plan_is(&["etcd-1.restart"]).to_string();
    assert!(plan.contains("member.quorate-moving"), "{plan}");
    becomes(&scene, "/half-a-copy/");
    let swept = "test -e /var/lib/etcd/member/wal && test -z \"$(ls -A /data/etcd)\"";
    scene.host(1).run(swept).unwrap();
    assert_eq!(member_ids(&scene), members, "the same members");
}

#[test]
fn an_edit_is_taken_back_when_the_data_has_arrived() {
    let Some(mut scene) = Scene::up("arrived", 3) else {
        return;
    };
    scene.apply();
    let members = member_ids(&scene);
    line(&mut scene, 2, "data_dir = \"/srv/etcd\"");
    cut_off_in(&scene, 2, "sync", STUCK_WHEN_IT_HAS_ARRIVED);
    let arrived = "test ! -e /var/lib/etcd/member && test -e /srv/etcd/member/wal";
    scene.host(2).run(arrived).unwrap();
    at_home(&mut scene, 2);
    let plan = scene.plan_is(&["etcd-2.restart"]).to_string();
    assert!(plan.contains("/srv/etcd/member"), "{plan}");
    becomes(&scene, "/arrived/");
    let back = "test -e /var/lib/etcd/member/wal && test ! -e /srv/etcd/member";
    scene.host(2).run(back).unwrap();
    assert_eq!(member_ids(&scene), members, "the same members");
}

#[test]
fn a_disk_that_goes_while_its_data_is_copied_is_missed() {
    let Some(mut scene) = Scene::up("diskgone", 3) else {
        return;
    };
    let disk = "data_dir = \"/data/etcd\"";
    scene.host(1).add_data_disk("/data", 256).unwrap();
    line(&mut scene, 1, disk);
    scene.apply();
    let members = member_ids(&scene);
    at_home(&mut scene, 1);
    cut_off_in(&scene, 1, "cp", STUCK_COPY);
    scene.host(1).unmount_data_disk("/data").unwrap();
    // Whether it goes on or is taken back: half a copy is no data, and an empty directory no member.
    let missing = "though its member has run there";
    scene.run(&["plan"]).exits(3).says(missing);
    line(&mut scene, 1, disk);
    scene.run(&["plan"]).exits(3).says(missing);
    scene.host(1).mount_data_disk("/data").unwrap();
    becomes(&scene, "/disk-is-back/");
    assert_eq!(member_ids(&scene), members, "the same members");
    let back = "test -e /data/etcd/member/wal && ! ls -A /var/lib/etcd | grep part";
    scene.host(1).run(back).unwrap();
}
