//! The parser takes any text without a panic, and what it accepts keeps its promises.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use proptest::prelude::*;
use quorate::command::fmt;
use quorate::desired::model::{Checksum, Install, SecretRef, TlsMode};
use quorate::desired::{self, Severity};
use quorate::render::diagnostic;

use crate::mutations::{cuts, mutated};
use crate::schema::example_files;

/// Parses, renders both ways and formats; whatever the text is, nothing panics and every place is in the text.
fn survives(text: &str) {
    let home = Some(Path::new("/home/ops"));
    let result = desired::parse(text, "f.toml", Path::new("/cluster"), home);
    let found = match &result {
        Ok((desired, warnings)) => {
            assert!(warnings.iter().all(|d| d.severity == Severity::Warning));
            assert!(
                desired
                    .nodes
                    .windows(2)
                    .all(|pair| pair[0].name < pair[1].name)
            );
            assert!(
                desired
                    .nodes
                    .iter()
                    .all(|n| n.client_port != n.peer_port && n.data_dir.starts_with('/'))
            );
            warnings
        }
        Err(found) => {
            assert!(found.iter().any(|d| d.severity == Severity::Error));
            found
        }
    };
    for d in found {
        assert!(
            d.span.start <= d.span.end && d.span.end <= d.source().len(),
            "{d:?}"
        );
        assert!(d.location() <= d.end_location());
    }
    assert_eq!(
        diagnostic::render(found, false).is_empty(),
        found.is_empty()
    );
    diagnostic::render(found, true);
    if let Ok(once) = fmt::format(text, "f.toml") {
        assert_eq!(
            fmt::format(&once, "f.toml").as_deref(),
            Ok(once.as_str()),
            "fmt is not idempotent"
        );
    }
}

fn sources() -> Vec<String> {
    let mut files = example_files();
    let invalid = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pure/invalid");
    files.extend(
        fs::read_dir(invalid)
            .expect("invalid files")
            .map(|e| e.expect("an entry").path())
            .filter(|p| p.extension().is_some_and(|e| e == "toml")),
    );
    files.sort();
    files
        .iter()
        .map(|f| fs::read_to_string(f).expect("read"))
        .collect()
}

#[test]
fn invalid_files_are_survived_by_everything() {
    sources().iter().for_each(|text| survives(text));
}

fn base() -> String {
    "schema = 1\n[cluster]\nname = \"demo\"\n[etcd]\nversion = \"3.5.33\"\n[etcd.install]\nmethod = \"present\"\n"
        .to_owned()
}

fn nodes(count: usize) -> String {
    (1..=count)
        .map(|i| format!("[[node]]\nname = \"n{i}\"\nip = \"10.0.0.{i}\"\n"))
        .collect()
}

fn parse(text: &str) -> (desired::Desired, Vec<&'static str>) {
    match desired::parse(
        text,
        "f.toml",
        Path::new("/cluster"),
        Some(Path::new("/home/ops")),
    ) {
        Ok((desired, warnings)) => (desired, warnings.iter().map(|d| d.summary).collect()),
        Err(found) => panic!("{}", diagnostic::render(&found, false)),
    }
}

#[test]
fn defaults_are_resolved() {
    let (desired, warnings) = parse(&(base() + &nodes(3)));
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(desired.cluster.token, "demo");
    assert_eq!(
        desired.etcd.install,
        Install::Present {
            bin_dir: "/usr/bin".to_owned()
        }
    );
    let node = &desired.nodes[0];
    assert_eq!(
        (node.client_port, node.peer_port, node.data_dir.as_str()),
        (2379, 2380, "/var/lib/etcd")
    );
    assert_eq!(
        node.listen,
        [
            "10.0.0.1".parse::<IpAddr>().expect("ip"),
            "127.0.0.1".parse().expect("ip")
        ]
    );
    assert_eq!(
        (node.ssh.host.as_str(), node.ssh.connect_timeout.as_secs()),
        ("10.0.0.1", 10)
    );
    assert_eq!(desired.tls.ca.dir, Path::new("/cluster/pki"));
    assert_eq!(desired.tls.client, TlsMode::Off);
    assert!(desired.auth.is_none());
}

#[test]
fn a_node_overrides_the_cluster_key_by_key() {
    let text = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/five-nodes-mixed.toml"),
    );
    let (desired, _) = parse(&text.expect("read"));
    let node = |name: &str| {
        desired
            .nodes
            .iter()
            .find(|n| n.name == name)
            .expect("there")
    };
    let (a1, b2) = (node("a1"), node("b2"));
    assert_eq!(a1.settings["log-level"], "warn");
    assert_eq!(b2.settings["log-level"], "info");
    assert_eq!(b2.settings["quota-backend-bytes"], "8589934592");
    assert_eq!(
        a1.settings["feature-gates"],
        "CompactHashCheck=true,InitialCorruptCheck=true"
    );
    assert_eq!(
        (b2.ssh.host.as_str(), b2.ssh.port),
        ("b2.mgmt.example.com", Some(2222))
    );
    assert_eq!(b2.ssh.jump.as_deref(), Some("ops@bastion-b.example.com"));
    // What the node leaves out is the cluster's.
    assert_eq!(
        b2.ssh.identity.as_deref(),
        Some(Path::new("/home/ops/.ssh/id_ed25519"))
    );
    assert_eq!(b2.ssh.sudo_password, Some(SecretRef::Prompt));
    assert_eq!(a1.ssh.jump.as_deref(), Some("ops@bastion.example.com:2222"));
    assert!(node("b3").learner && !a1.learner);
    assert_eq!(node("a3").wal_dir.as_deref(), Some("/srv/nvme/etcd-wal"));
    assert!(
        matches!(&desired.etcd.install, Install::Archive { checksum: Checksum::Sha256(s), .. } if s.len() == 2)
    );
}

#[test]
fn doubts_are_warnings() {
    let node = |extra: &str| base() + &nodes(3) + extra;
    let settings = |extra: &str| base() + "[etcd.settings]\n" + extra + "\n" + &nodes(3);
    for (text, expected) in [
        (base() + &nodes(1), vec!["single member"]),
        (base() + &nodes(2), vec!["even number of voters"]),
        (base() + &nodes(4), vec!["even number of voters"]),
        (base() + &nodes(7), vec![]),
        (base() + &nodes(9), vec!["large cluster"]),
        // A learner has no vote.
        (base() + &nodes(4) + "learner = true", vec![]),
        (settings("quota-backend-bytes = \"8GiB\""), vec![]),
        (
            settings("quota-backend-bytes = \"9GiB\""),
            vec!["large quota"],
        ),
        (
            settings("heartbeat-interval = 200\nelection-timeout = 1000"),
            vec!["short election timeout"],
        ),
        (
            settings("heartbeat-interval = 100\nelection-timeout = 1000"),
            vec![],
        ),
        (settings("election-timeout = 50000"), vec![]),
        (settings("initial-election-tick-advance = false"), vec![]),
        (
            base().replace("3.5.33", "3.5.5") + &nodes(3),
            vec!["version not recommended"; 3],
        ),
        (
            base().replace("3.5.33", "3.6.14-rc.1") + &nodes(3),
            vec!["pre-release"],
        ),
        (base().replace("3.5.33", "3.5") + &nodes(3), vec![]),
        (
            base().replace("3.5.33", ">=3.5.30, <3.7") + &nodes(3),
            vec![],
        ),
        (
            node("listen = [\"127.0.0.1\"]"),
            vec!["advertised address not listened on"],
        ),
        (node("listen = [\"0.0.0.0\"]"), vec![]),
        (
            node("ssh = { sudo_password = { prompt = true } }"),
            vec!["unused key"],
        ),
        (
            node("")
                + "[[node]]\nname = \"x\"\nip = \"10.0.0.1\"\nclient_port = 1\npeer_port = 2\n[[node]]\nname = \"y\"\nip = \"10.0.0.9\"",
            vec!["two members on one host"],
        ),
        (
            node("[tls]\nclient = \"off\"\nca = { dir = \"x\" }"),
            vec!["unused key"],
        ),
        (
            node(
                "[auth]\nenabled = true\n[[auth.user]]\nname = \"root\"\npassword = { env = \"P\" }",
            ),
            vec!["passwords in the open"],
        ),
    ] {
        let (_, warnings) = parse(&text);
        assert_eq!(warnings, expected, "{text}");
    }
}

#[test]
fn short_certificates_are_renewed_after_two_thirds() {
    let (desired, _) =
        parse(&(base() + &nodes(3) + "[tls]\nclient = \"managed\"\nleaf = { validity = \"30d\" }"));
    assert_eq!(desired.tls.leaf.renew_before.as_secs(), 10 * 86_400);
}

#[test]
fn home_must_be_known_where_it_is_needed() {
    let text = base() + "[ssh]\nidentity = \"~/.ssh/id\"\n" + &nodes(3);
    let found = desired::parse(&text, "f", Path::new("/"), None).expect_err("no home");
    assert_eq!(
        found.iter().map(|d| d.summary).collect::<Vec<_>>(),
        ["bad path"]
    );
}

#[test]
fn root_has_its_role() {
    let auth =
        "[tls]\nclient = \"managed\"\n[auth]\nenabled = true\n[[auth.user]]\nname = \"root\"\n";
    let (desired, warnings) = parse(&(base() + &nodes(3) + auth));
    assert!(warnings.is_empty());
    assert_eq!(desired.auth.expect("there").users["root"].roles, ["root"]);
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        survives(&text);
    }

    #[test]
    fn any_lines(lines in proptest::collection::vec(
        prop_oneof![
            "\\[{1,2}(cluster|etcd|etcd\\.settings|etcd\\.install|node|ssh|tls|tls\\.ca|auth|auth\\.user)\\]{1,2}",
            "(schema|name|ip|version|method|settings|ssh|password|client|ca|listen|roles|enabled|sha256) ?= ?(1|-9|true|\"[a-z0-9./{}~@:]{0,12}\"|\\[\"?[a-z0-9.]{0,5}\"?\\]|\\{[a-z]{1,4} = \"x\"\\}|1979-05-27|0x7f|1e3)",
            "#.{0,20}",
        ], 0..30)) {
        survives(&lines.join("\n"));
    }

    #[test]
    fn mutated_files(which in any::<prop::sample::Index>(), cuts in cuts()) {
        let sources = sources();
        survives(&mutated(&sources[which.index(sources.len())], &cuts));
    }

    #[test]
    fn no_secret_in_an_error(secret in "[a-zA-Z0-9]{12}", key in "(passphrase|sudo_password|password|Password|pass)", form in 0_usize..6, broken in any::<bool>()) {
        let value = match form {
            0 => format!("\"{secret}\""),
            1 => format!("'{secret}'"),
            2 => format!("[\"{secret}\"]"),
            3 => format!("{{ value = \"{secret}\" }}"),
            4 => format!("{{ prompt = \"{secret}\" }}"),
            _ => format!("\"\"\"\n{secret}\"\"\""),
        };
        let syntax = if broken { "x =\n" } else { "" };
        let text = format!("schema = 1\n{syntax}[ssh]\nuser = 1\n{key} = {value}\n");
        if let Err(found) = desired::parse(&text, "f.toml", Path::new("/cluster"), None) {
            let shown = diagnostic::render(&found, false);
            prop_assert!(!shown.contains(&secret), "{}", shown);
            let json = serde_json::to_string(&found).expect("plain data");
            prop_assert!(!json.contains(&secret), "{}", json);
        }
    }
}

#[test]
fn a_thousand_nodes_are_read_quickly() {
    let mut text = String::from(
        "schema = 1\n[cluster]\nname = \"big\"\n[etcd]\nversion = \"3.5.33\"\n[etcd.install]\nmethod = \"present\"\n\
         [etcd.settings]\nquota-backend-bytes = \"4GiB\"\npre-vote = true\n[ssh]\nuser = \"ops\"\n",
    );
    for i in 0..1000 {
        text += &format!(
            "[[node]]\nname = \"n-{i:04}\"\nip = \"10.0.{}.{}\"\n",
            i / 250,
            i % 250 + 1
        );
    }
    let start = std::time::Instant::now();
    let (desired, _) = desired::parse(&text, "f.toml", Path::new("/"), None).expect("valid");
    assert_eq!(desired.nodes.len(), 1000);
    // Generous, for a busy machine: what is quadratic here takes far longer.
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
