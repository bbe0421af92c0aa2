//! `kill -9` of a run between any two steps: the next run converges, and nobody cleans up by hand.

use std::time::Instant;

use quorate_lab::Lab;

use crate::harness::{ClusterFile, Operator, Running, eventually, lab, leftovers};

/// Set to anything, every boundary is tried instead of a sample of them.
const EVERY: &str = "QUORATE_KILL_EVERYWHERE";

fn is_boundary(event: &serde_json::Value) -> bool {
    event["type"] == "apply_start" || event["type"] == "apply_complete"
}

/// Reads on until the nth boundary; what it was.
fn reach(running: &mut Running, boundary: usize) -> Option<String> {
    let mut seen = 0;
    while let Some(event) = running.event() {
        if is_boundary(&event) {
            seen += 1;
            if seen == boundary {
                return Some(event["@message"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    None
}

/// `wanted` numbers spread over 1 to `all`, both ends among them.
fn sample(all: usize, wanted: usize) -> Vec<usize> {
    if std::env::var_os(EVERY).is_some() || wanted >= all {
        return (1..=all).collect();
    }
    (0..wanted)
        .map(|n| 1 + n * (all - 1) / (wanted - 1))
        .collect()
}

fn boundaries(stdout: &str) -> usize {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(is_boundary)
        .count()
}

/// Kills `command` at its nth boundary; which one that was. `None` where it ended before.
fn try_kill(ann: &Operator, command: &[&str], boundary: usize) -> Option<String> {
    let mut running = ann.start(command);
    let Some(at) = reach(&mut running, boundary) else {
        running.wait().exits(0);
        return None;
    };
    let killed = running.kill();
    let said = killed.said();
    assert_eq!(killed.code, None, "it ended before it was killed: {said}");
    Some(format!("{} killed at {boundary}, {at}", command[0]))
}

fn kill(ann: &Operator, command: &[&str], boundary: usize) -> String {
    try_kill(ann, command, boundary)
        .unwrap_or_else(|| panic!("{} has no boundary {boundary}", command[0]))
}

/// Asserts that destroy left nothing of ours that lives.
fn gone(lab: &Lab, at: &str) {
    for host in lab.hosts() {
        let left = host
            .run("ls -d /etc/quorate/marker.json /etc/etcd/etcd.conf /var/lib/etcd/member 2>/dev/null; pgrep -ax etcd || :")
            .unwrap();
        assert_eq!(left, "", "{at}, on {}", host.name);
        assert_eq!(leftovers(host), "", "{at}, on {}", host.name);
    }
}

const APPLY: &[&str] = &["apply", "--auto-approve", "--json"];
const DESTROY: &[&str] = &["destroy", "--auto-approve", "--purge-data", "--json"];

#[test]
fn runs_killed_at_any_boundary_need_no_cleaning() {
    let lab = lab("kill", 3);
    let ann = Operator::new(&lab, &ClusterFile::of(&lab));
    let whole = ann.run(APPLY).exits(0);
    ann.settled();
    let up = boundaries(&whole.stdout);
    let whole = ann.run(DESTROY).exits(0);
    gone(&lab, "destroyed");
    let down = boundaries(&whole.stdout);
    assert!(up >= 20 && down >= 6, "{up} and {down}: {}", whole.said());
    let (up, down) = (sample(up, 8), sample(down, 8));
    println!("apply is killed at {up:?}, destroy at {down:?}; everywhere with {EVERY}=1");
    for n in 0..up.len().max(down.len()) {
        let begun = Instant::now();
        let at = kill(&ann, APPLY, up[n % up.len()]);
        let plan = ann.run(&["plan"]);
        assert_eq!(plan.code, Some(0), "{at}: {}", plan.said());
        let apply = ann.run(&["apply", "--auto-approve", "--lock-timeout", "60s"]);
        assert_eq!(apply.code, Some(0), "{at}: {}", apply.said());
        assert!(apply.took.as_secs() < 30, "{at}: {}", apply.said());
        ann.settled();
        for host in lab.hosts() {
            assert_eq!(leftovers(host), "", "{at}, on {}", host.name);
        }
        println!(
            "{at}: converged after {:.1} s",
            begun.elapsed().as_secs_f64()
        );

        let at = kill(&ann, DESTROY, down[n % down.len()]);
        let plan = ann.run(&["plan", "--destroy"]);
        assert_eq!(plan.code, Some(0), "{at}: {}", plan.said());
        ann.destroy();
        gone(&lab, &at);
        println!("{at}: gone after {:.1} s", begun.elapsed().as_secs_f64());
    }
}

/// Temporary files and half copies; data that was moved aside may stay.
fn half_done(host: &quorate_lab::Host) -> String {
    leftovers(host)
        .lines()
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.starts_with('.') || name.ends_with("-part")
        })
        .collect()
}

#[test]
fn edits_of_a_living_cluster_killed_at_any_boundary_go_on() {
    let lab = lab("kill-edit", 3);
    let all = ClusterFile::of(&lab);
    let without_last = || {
        let mut file = ClusterFile::of(&lab);
        file.nodes.pop();
        file
    };
    let elsewhere = || ClusterFile {
        data_dir: "/srv/etcd".into(),
        ..ClusterFile::of(&lab)
    };
    let ann = Operator::new(&lab, &all);
    ann.converge();
    let member = &lab.hosts()[0];
    let ask = |host: &quorate_lab::Host, words: &str| {
        let tls = "--cacert /etc/etcd/tls/ca.crt --cert /etc/etcd/tls/server.crt --key /etc/etcd/tls/server.key";
        let at = format!("--endpoints https://{}:2379", host.ip);
        host.run(&format!(
            "ETCDCTL_API=3 /usr/local/bin/etcdctl {tls} {at} {words}"
        ))
        .unwrap()
    };
    let mut written = Vec::new();
    // There and back: a member leaves and comes, the data of all goes elsewhere and home again.
    let edits: [(&str, &dyn Fn() -> ClusterFile, usize); 2] =
        [("shrink", &without_last, 3), ("move", &elsewhere, 2)];
    for (what, edit, wanted) in edits {
        let home = ClusterFile::of(&lab);
        let away = edit();
        let count = |file: &ClusterFile| {
            ann.edit(file);
            let whole = ann.run(APPLY).exits(0);
            ann.settled();
            boundaries(&whole.stdout)
        };
        let (out, back) = (count(&away), count(&home));
        let (out, back) = (sample(out, wanted), sample(back, wanted));
        println!("{what} is killed at {out:?} and back at {back:?}; everywhere with {EVERY}=1");
        for n in 0..out.len().max(back.len()) {
            for (file, boundary) in [(&away, out[n % out.len()]), (&home, back[n % back.len()])] {
                let key = format!("/kill/{:04}", written.len());
                ask(member, &format!("put {key} value"));
                written.push(key);
                let begun = Instant::now();
                ann.edit(file);
                // Directories that an earlier pass made are not made again: there may be fewer steps.
                let at = try_kill(&ann, APPLY, boundary).unwrap_or_else(|| "not killed".into());
                let apply = ann.run(&["apply", "--auto-approve", "--lock-timeout", "60s"]);
                assert_eq!(apply.code, Some(0), "{what}, {at}: {}", apply.said());
                ann.settled();
                println!(
                    "{what}, {at}: converged after {:.1} s",
                    begun.elapsed().as_secs_f64()
                );
                for host in lab.hosts() {
                    assert_eq!(half_done(host), "", "{what}, {at}, on {}", host.name);
                }
                for (name, ..) in &file.nodes {
                    let host = lab.host(name).unwrap();
                    let keys = ask(host, "get --prefix --keys-only /kill/");
                    let keys: Vec<&str> = keys.split_whitespace().collect();
                    assert_eq!(keys, written, "{what}, {at}, on {name}");
                }
            }
        }
    }
}

#[test]
fn a_half_added_member_is_finished_and_one_that_cannot_finish_makes_way() {
    let lab = lab("half", 3);
    let all = ClusterFile::of(&lab);
    let mut two = ClusterFile::of(&lab);
    two.nodes.pop();
    let ann = Operator::new(&lab, &two);
    ann.converge();
    let host = &lab.hosts()[2];
    let ids = |ran: &crate::harness::Ran| -> Vec<String> {
        let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let actions = plan["actions"].as_array().unwrap();
        let id = |action: &serde_json::Value| action["id"].as_str().unwrap().to_owned();
        actions.iter().map(id).collect()
    };

    // Killed between the addition and the start: it is not added twice.
    ann.edit(&all);
    let mut running = ann.start(APPLY);
    running.until("apply_complete", "etcd-3.add");
    running.kill();
    let planned = ids(&ann.run(&["plan", "--json"]).exits(0));
    assert!(
        !planned.contains(&"node.etcd-3.add".to_owned()),
        "{planned:?}"
    );
    assert!(
        planned.contains(&"node.etcd-3.join".to_owned()),
        "{planned:?}"
    );

    // Killed before its vote, and its log is damaged: its unit crashes for ever.
    let mut running = ann.start(&["apply", "--auto-approve", "--json", "--lock-timeout", "60s"]);
    running.until("apply_complete", "etcd-3.join");
    running.kill();
    host.run(
        "systemctl stop etcd; cd /var/lib/etcd/member/wal; \
         for file in *.wal; do dd if=/dev/zero of=$file bs=64 seek=4 count=16 conv=notrunc status=none; done; \
         dd if=/dev/urandom of=$(ls *.wal | tail -n 1) bs=64 seek=3 count=16 conv=notrunc status=none; \
         systemctl start --no-block etcd",
    )
    .unwrap();
    eventually(std::time::Duration::from_secs(60), || {
        let restarts = host
            .run("systemctl show -p NRestarts --value etcd")
            .map_err(|error| error.to_string())?;
        match restarts.trim().parse() {
            Ok(3..=u32::MAX) => Ok(()),
            _ => Err(format!("{restarts} restarts")),
        }
    });
    let planned = ids(&ann.run(&["plan", "--json"]).exits(0));
    let at = |id: &str| planned.iter().position(|other| other == id);
    assert!(at("node.etcd-3.remove").is_some(), "{planned:?}");
    assert!(
        at("node.etcd-3.remove") < at("node.etcd-3.add"),
        "{planned:?}"
    );
    ann.converge();
    ann.settled();
}
