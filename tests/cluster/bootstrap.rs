//! From blank hosts to a healthy cluster, and what it is like then.

use quorate::etcd::id::{bootstrap_cluster_id, bootstrap_member_id};
use quorate::etcd::wal;
use quorate_lab::{Host, releases};

use super::harness::{Scene, eventually};

/// Every version takes over the hosts that the one before was destroyed on.
#[test]
fn http_of_every_version() {
    let Some(scene) = Scene::up("http", 3) else {
        return;
    };
    every_version(scene);
}

#[test]
fn tls_of_every_version() {
    let Some(scene) = Scene::up("tls", 3) else {
        return;
    };
    every_version(scene.tls());
}

#[test]
fn one_member_and_five() {
    let Some(mut scene) = Scene::up("sizes", 5) else {
        return;
    };
    scene.nodes = 1;
    converge(&scene);
    scene.destroy();
    scene.nodes = 5;
    scene.tls = true;
    converge(&scene);
}

fn every_version(mut scene: Scene) {
    let mut tried = 0;
    for wanted in ["3.4.23", "3.5.16", "3.6", "3.7"] {
        let Ok(release) = releases::find(wanted) else {
            assert!(
                !matches!(wanted, "3.4.23" | "3.5.16"),
                "`lab setup` makes etcd {wanted}"
            );
            eprintln!("SKIPPED etcd {wanted}: it is not in the lab's cache");
            continue;
        };
        if tried > 0 {
            scene.destroy();
        }
        tried += 1;
        scene.version = release.version;
        converge(&scene);
    }
    starts_only_with_its_data(&scene);
}

fn converge(scene: &Scene) {
    let first = scene.run(&["plan", "--detailed-exitcode"]).exits(2);
    assert!(!first.stdout.contains("No changes"), "{first}");
    scene.apply();
    scene.is_converged();
    scene.run(&["status"]).exits(0);
    let run = scene.run(&["status", "--json"]).exits(0);
    let status = run.json();
    assert_eq!(status["healthy"], true, "{run}");
    assert_eq!(
        status["members"].as_array().unwrap().len(),
        scene.nodes,
        "{run}"
    );
    identities(scene);
    for host in scene.hosts() {
        let one = std::slice::from_ref(host);
        let key = format!("/written-through/{}", host.name);
        scene.etcdctl(one, &["put", &key, "value"]);
        let read = scene.etcdctl(one, &["get", &key, "--print-value-only"]);
        assert_eq!(read.trim(), "value", "read back through {}", host.name);
        answers_on_both_addresses(scene, host);
        layout(scene, host);
    }
}

/// What is derived offline is what etcd says: from the marker's frozen facts, and from the WAL.
fn identities(scene: &Scene) {
    let marker = scene.marker(scene.host(1));
    let generation = &marker.generation;
    let predicted: Vec<_> = generation
        .initial_cluster
        .iter()
        .map(|(name, url)| (name, bootstrap_member_id([url.as_str()], &generation.token)))
        .collect();
    let (cluster_id, members) = scene.members(scene.host(1));
    assert_eq!(members.len(), scene.nodes, "{members:?}");
    for (name, id) in &predicted {
        assert_eq!(members.get(*name), Some(&id.0), "the ID of {name}");
    }
    let cluster = bootstrap_cluster_id(predicted.iter().map(|(_, id)| *id));
    assert_eq!(cluster.0, cluster_id, "the cluster ID");
    for host in scene.hosts() {
        let head = host
            .run("head -c 512 /var/lib/etcd/member/wal/0*.wal | base64 -w0")
            .unwrap();
        let head = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, head.trim())
            .unwrap();
        let identity =
            wal::identity(&head).unwrap_or_else(|error| panic!("{}: {error}", host.name));
        assert_eq!(identity.cluster_id.0, cluster_id, "{}", host.name);
        assert_eq!(identity.member_id.0, members[&host.name], "{}", host.name);
        let marker = scene.marker(host);
        assert_eq!(marker.cluster_id, Some(cluster));
        assert_eq!(marker.member_id, Some(identity.member_id));
        assert_eq!(marker.generation.nonce, generation.nonce);
    }
}

/// Node address and 127.0.0.1; over TLS only with a certificate, also for peers.
fn answers_on_both_addresses(scene: &Scene, host: &Host) {
    let scheme = scene.scheme();
    let identity = "--cacert /etc/etcd/tls/ca.crt --cert /etc/etcd/tls/server.crt --key /etc/etcd/tls/server.key";
    for address in [host.ip.to_string(), "127.0.0.1".to_owned()] {
        let url = format!("{scheme}://{address}:2379/health");
        let options = if scene.tls { identity } else { "" };
        let health = host
            .run(&format!("curl -sSf -m 5 {options} {url}"))
            .unwrap();
        assert!(health.contains("true"), "{}: {url}: {health}", host.name);
    }
    if !scene.tls {
        return;
    }
    for port in [2379, 2380] {
        let url = format!("https://{}:{port}/version", host.ip);
        let curl = |options: &str| {
            host.exec(&format!(
                "curl -sS -m 5 --http1.1 --cacert /etc/etcd/tls/ca.crt {options} {url}"
            ))
            .unwrap()
        };
        let refused = curl("");
        // With TLS 1.3 the refusal comes after the handshake, sometimes before curl has written its
        // request: 35, 52, 55 or 56. A port that is closed or of another CA would be 7 or 60.
        assert!(
            matches!(refused.code, Some(35 | 52 | 55 | 56)),
            "{url} without certificate: {refused:?}"
        );
        // The same with one, so that it is the certificate that makes the difference.
        let name = if port == 2379 { "server" } else { "peer" };
        let accepted = curl(&format!(
            "--cert /etc/etcd/tls/{name}.crt --key /etc/etcd/tls/{name}.key"
        ));
        assert!(accepted.success(), "{url} with certificate: {accepted:?}");
    }
}

fn layout(scene: &Scene, host: &Host) {
    let mut expected = vec![
        "755 root:root /etc/etcd",
        "644 root:root /etc/etcd/etcd.conf",
        "600 root:root /etc/quorate/marker.json",
        "700 root:root /run/quorate",
        "600 root:root /run/quorate/lock",
        "600 root:root /run/quorate/work.lock",
        "644 root:root /etc/systemd/system/etcd.service",
        "755 root:root /usr/local/bin/etcd",
        "755 root:root /usr/local/bin/etcdctl",
        "700 etcd:etcd /var/lib/etcd",
    ];
    if scene.tls {
        expected.extend([
            "750 root:etcd /etc/etcd/tls",
            "644 root:root /etc/etcd/tls/ca.crt",
            "400 etcd:etcd /etc/etcd/tls/peer.key",
            "400 etcd:etcd /etc/etcd/tls/server.key",
        ]);
    }
    for line in expected {
        let path = line.rsplit(' ').next().unwrap();
        let found = host.run(&format!("stat -c '%a %U:%G %n' {path}")).unwrap();
        assert_eq!(found.trim(), line, "{}", host.name);
    }
    let leftovers = host
        .run(
            "ls -d /run/systemd/system/etcd.service.d /run/quorate/etcd-start.env 2>/dev/null || :",
        )
        .unwrap();
    assert_eq!(leftovers, "", "{}: the first start left these", host.name);
    let unit = host
        .run("systemctl show etcd -p User -p NoNewPrivileges -p ProtectSystem -p ProtectHome -p PrivateTmp -p CapabilityBoundingSet -p Restart -p LimitNOFILE -p Type")
        .unwrap();
    for line in [
        "User=etcd",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "CapabilityBoundingSet=",
        "Restart=always",
        "LimitNOFILE=65536",
        "Type=notify",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}\n{unit}");
    }
    let security = host
        .run("systemd-analyze security --no-pager etcd.service | tail -n 1")
        .unwrap();
    assert!(
        security.contains(" OK ") || security.contains("SAFE"),
        "{}: {security}",
        host.name
    );
    assert_eq!(scene.process(host).enabled, "enabled");
}

/// Q11: a member that has lost its data does not come back empty, and comes back with it.
fn starts_only_with_its_data(scene: &Scene) {
    let host = scene.host(2);
    host.run("systemctl stop etcd && mv /var/lib/etcd/member /var/lib/etcd/elsewhere")
        .unwrap();
    let start = host.exec("systemctl start etcd").unwrap();
    assert!(!start.success(), "etcd started without its data: {start:?}");
    let member = host.exec("test -e /var/lib/etcd/member").unwrap();
    assert!(!member.success(), "the refused start made a data directory");
    let run = scene.run(&["plan", "--json"]).exits(3);
    let plan = run.json();
    assert!(
        super::harness::blocked(&plan)
            .iter()
            .any(|(node, reason)| node == "etcd-2" && reason.contains("no data")),
        "{run}"
    );
    host.run("mv /var/lib/etcd/elsewhere /var/lib/etcd/member && systemctl start etcd")
        .unwrap();
    eventually("etcd-2 is healthy again", || {
        scene.run(&["status"]).code == Some(0)
    });
    scene.is_converged();
}

/// The next start must not be one on an empty data directory, and no earlier attempt goes on by itself.
#[test]
fn a_failed_first_start_leaves_nothing_lifted() {
    let Some(mut scene) = Scene::up("failed-start", 1) else {
        return;
    };
    scene.install = "method = \"present\"\nbin_dir = \"/opt/etcd\"\n".into();
    let host = scene.host(1);
    let version = &scene.version;
    host.run(&format!(
        "mkdir -p /opt/etcd && cd /opt/etcd && cat >etcd <<'END'\n\
         #!/bin/sh\n\
         if [ \"${{1:-}}\" = --version ]; then printf 'etcd Version: {version}\\nGit SHA: 0\\nGo Version: go1\\nGo OS/Arch: linux/amd64\\n'; exit 0; fi\n\
         exit 1\n\
         END\n\
         cp etcd etcdctl && chmod 0755 etcd etcdctl",
    ))
    .unwrap();
    let run = scene.run(&["apply", "--auto-approve"]);
    assert_ne!(run.code, Some(0), "{run}");
    let run = run.says("see a WAL");
    let left = host
        .run("ls -d /run/systemd/system/etcd.service.d/* /run/quorate/etcd-start.env 2>/dev/null || :")
        .unwrap();
    assert_eq!(left, "", "{run}");
    let process = scene.process(host);
    assert_eq!(process.enabled, "disabled", "{process:?}\n{run}");
    assert_ne!(process.active, "activating", "{process:?}\n{run}");
    assert_ne!(process.active, "active", "{process:?}\n{run}");
    let start = host.exec("systemctl start etcd").unwrap();
    assert!(!start.success(), "the assertion is lifted: {start:?}");
}
