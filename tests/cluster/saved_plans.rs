//! Plans that are saved, looked at, and applied later, or refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;

use super::harness::{Scene, ids};

#[test]
fn a_saved_plan_is_applied_as_it_is_or_not_at_all() {
    let Some(scene) = Scene::up("saved", 3) else {
        return;
    };
    let mut scene = scene.tls();
    let file = scene.path("plan.out");
    let save = |scene: &Scene, name: &str| {
        scene.run(&["plan", "--out", name]).exits(0);
        fs::read_to_string(scene.path(name)).unwrap()
    };

    // The first apply goes by a saved plan.
    let text = save(&scene, "plan.out");
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    assert!(!text.contains("PRIVATE KEY"), "{text}");
    let plan: Value = serde_json::from_str(&text).unwrap();
    let shown = scene.run(&["show", "plan.out"]).exits(0);
    for id in ["etcd-1", "etcd-3", "Plan:"] {
        assert!(shown.stdout.contains(id), "{id}\n{shown}");
    }
    let document = scene.run(&["show", "--json", "plan.out"]).exits(0).json();
    assert_eq!(ids(&document), ids(&plan));

    // The same facts give the same actions; only the nonce and the time in names differ.
    let again: Value = serde_json::from_str(&save(&scene, "again.out")).unwrap();
    let (one, two) = (essence(&plan), essence(&again));
    assert_eq!(one.len(), two.len());
    for (one, two) in one.iter().zip(&two) {
        assert_eq!(one, two);
    }
    assert_eq!(again["fingerprint"], plan["fingerprint"]);
    assert_ne!(
        again["intent"]["nonce"], plan["intent"]["nonce"],
        "two bootstraps must never share a token"
    );
    graphs(&scene);

    scene.run(&["apply", "plan.out"]).exits(0);
    scene.is_converged();
    let nonce = plan["intent"]["nonce"].as_str().unwrap();
    assert_eq!(scene.marker(scene.host(2)).generation.nonce, nonce);

    // What has been applied is stale, whoever did it.
    let processes = scene.processes();
    for stale in ["plan.out", "again.out"] {
        let run = scene.run(&["apply", stale]).exits(3).says("stale");
        assert!(run.stderr.contains("etcd-1: "), "no fact is named\n{run}");
    }

    // Somebody changes a file on a host in between.
    scene.settings.push("snapshot-count = 4321".into());
    save(&scene, "rolling.out");
    scene
        .host(3)
        .run("echo '# edited' >>/etc/etcd/etcd.conf")
        .unwrap();
    scene
        .run(&["apply", "rolling.out"])
        .exits(3)
        .says("etcd-3: /etc/etcd/etcd.conf");
    assert_eq!(scene.processes(), processes, "nothing was to be changed");
    for host in scene.hosts() {
        let conf = host.run("cat /etc/etcd/etcd.conf").unwrap();
        assert!(!conf.contains("4321"), "{} was changed", host.name);
    }

    // A saved plan holds the file it was made of: an edit afterwards is not applied.
    save(&scene, "rolling.out");
    scene.settings.push("max-txn-ops = 99".into());
    scene.run(&["apply", "rolling.out"]).exits(0);
    for host in scene.hosts() {
        let conf = host.run("cat /etc/etcd/etcd.conf").unwrap();
        assert!(conf.contains("4321"), "{}: {conf}", host.name);
        assert!(!conf.contains("MAX_TXN_OPS"), "{}: {conf}", host.name);
    }
}

#[test]
fn what_is_no_plan_of_ours_is_refused() {
    let Some(scene) = Scene::up("damaged", 1) else {
        return;
    };
    scene.run(&["plan", "--out", "plan.out"]).exits(0);
    let good = fs::read_to_string(scene.path("plan.out")).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut plan: Value = serde_json::from_str(&good).unwrap();
        change(&mut plan);
        serde_json::to_string_pretty(&plan).unwrap()
    };
    let cases: [(&str, String, i32, &str); 8] = [
        ("empty", String::new(), 1, "no saved plan"),
        ("garbage", "quorate\u{0}".repeat(99), 1, "no saved plan"),
        (
            "cut-off",
            good[..good.len() / 2].to_owned(),
            1,
            "no saved plan",
        ),
        (
            "other-version",
            with(&|plan| plan["tool_version"] = "99.0.0".into()),
            3,
            "99.0.0",
        ),
        (
            "other-format",
            with(&|plan| plan["format_version"] = "7.0".into()),
            1,
            "format 7.0",
        ),
        (
            "other-facts",
            with(&|plan| plan["facts"]["etcd-1: host"] = "gone".into()),
            1,
            "fingerprint",
        ),
        (
            "no-actions",
            with(&|plan| {
                plan.as_object_mut().unwrap().remove("actions");
            }),
            1,
            "damaged",
        ),
        (
            "missing-need",
            with(&|plan| {
                plan["actions"].as_array_mut().unwrap().remove(0);
            }),
            3,
            "breaks rules",
        ),
    ];
    for (name, text, code, words) in cases {
        fs::write(scene.path(name), text).unwrap();
        for command in ["apply", "show", "graph"] {
            let run = scene.run(&[command, name]).exits(code).says(words);
            assert_eq!(run.stdout, "", "{run}");
        }
    }
    scene
        .run(&["apply", "not-there"])
        .exits(1)
        .says("not-there");
    assert!(!scene.has_marker(scene.host(1)), "something was applied");
    // It was the changes that were refused.
    scene.run(&["apply", "plan.out"]).exits(0);
    assert!(scene.has_marker(scene.host(1)));
}

/// The actions without the nonce, and the IDs that etcd derives from it, and without the time that
/// is in names of what is moved aside.
fn essence(plan: &Value) -> Vec<String> {
    fn forget_ids(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(forget_ids),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if matches!(name.as_str(), "cluster_id" | "member_id") {
                        *value = value.is_null().into();
                    }
                    forget_ids(value);
                }
            }
            _ => {}
        }
    }
    let nonce = plan["intent"]["nonce"].as_str().unwrap();
    let created = OffsetDateTime::from_unix_timestamp(plan["created_at"].as_i64().unwrap())
        .unwrap()
        .format(format_description!(
            "[year][month][day]T[hour][minute][second]Z"
        ))
        .unwrap();
    let text = plan["actions"].to_string();
    assert!(text.contains(nonce) && text.contains(&created), "{text}");
    let actions = plan["actions"].as_array().unwrap().iter().map(|action| {
        let mut action = action.clone();
        forget_ids(&mut action);
        let text = action.to_string();
        text.replace(nonce, "NONCE").replace(&created, "TIME")
    });
    actions.collect()
}

fn graphs(scene: &Scene) {
    for args in [&["graph", "plan.out"][..], &["graph"]] {
        let dot = scene.run(args).exits(0);
        assert!(dot.stdout.starts_with("digraph"), "{dot}");
        for node in ["node.etcd-1.bootstrap", "cluster.form", "->"] {
            assert!(dot.stdout.contains(node), "{node}\n{dot}");
        }
    }
    let mermaid = scene
        .run(&["graph", "--format", "mermaid", "plan.out"])
        .exits(0);
    assert!(mermaid.stdout.contains("flowchart"), "{mermaid}");
    assert!(mermaid.stdout.contains("-->"), "{mermaid}");
}
