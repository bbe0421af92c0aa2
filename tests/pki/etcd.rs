//! Real members under client and peer certificate authentication take the certificates.
//!
//! Binaries come from the directory in `QUORATE_TEST_ETCD`, from the release archives of the lab's
//! cache (each version found is tried), or from PATH.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret as _;
use quorate::desired::model::KeyKind;
use quorate::pki::{
    Authority, Issued, KeyProtection, Names, NewClient, Profile, ensure_client, ensure_operator,
    issue,
};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::support::{DAY, KINDS, authority, find, set_mode, skip};

/// Where the lab keeps what it fetched, unless `QUORATE_LAB_CACHE` says otherwise.
const CACHE: &str = "/var/cache/quorate-lab";

/// A directory with `etcd` and `etcdctl`.
struct Binaries {
    dir: PathBuf,
    /// Removes what was unpacked.
    _unpacked: Option<TempDir>,
}

fn binaries() -> Vec<Binaries> {
    if let Some(dir) = std::env::var_os("QUORATE_TEST_ETCD") {
        let (dir, _unpacked) = (PathBuf::from(dir), None);
        return vec![Binaries { dir, _unpacked }];
    }
    let cache = std::env::var_os("QUORATE_LAB_CACHE").unwrap_or_else(|| CACHE.into());
    let archives = fs::read_dir(Path::new(&cache).join("releases"))
        .into_iter()
        .flatten()
        .flatten();
    let mut archives: Vec<_> = archives.map(|entry| entry.path()).collect();
    archives.retain(|path| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        name.starts_with("etcd-v") && name.ends_with("linux-amd64.tar.gz")
    });
    archives.sort();
    let unpacked: Vec<_> = archives.iter().filter_map(|path| unpack(path)).collect();
    if unpacked.is_empty()
        && let (Some(etcd), Some(_)) = (find("etcd"), find("etcdctl"))
    {
        let (dir, _unpacked) = (etcd.parent().unwrap().to_path_buf(), None);
        return vec![Binaries { dir, _unpacked }];
    }
    unpacked
}

fn unpack(archive: &Path) -> Option<Binaries> {
    let home = tempfile::tempdir().unwrap();
    let tar = Command::new("tar")
        .args(["--strip-components=1", "-xzf"])
        .arg(archive)
        .arg("-C")
        .arg(home.path())
        .status();
    let (dir, _unpacked) = (home.path().to_path_buf(), Some(home));
    let whole = tar.is_ok_and(|status| status.success())
        && ["etcd", "etcdctl"]
            .iter()
            .all(|name| dir.join(name).is_file());
    whole.then_some(Binaries { dir, _unpacked })
}

/// Members on loopback, ended by their own process handles.
struct Cluster {
    members: Vec<Child>,
    client_ports: Vec<u16>,
    logs: PathBuf,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Ports that nobody else gets, below those that the kernel gives to connections.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 256) as u16 * 64;
    let next = || first + NEXT.fetch_add(1, Ordering::Relaxed);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next)
        .filter(is_free)
        .take(count)
        .collect()
}

fn write(dir: &Path, name: &str, issued: &Issued) -> (String, String) {
    let (cert, key) = (
        dir.join(format!("{name}.crt")),
        dir.join(format!("{name}.key")),
    );
    fs::write(&cert, &issued.cert_pem).unwrap();
    fs::write(&key, issued.key_pem.expose_secret()).unwrap();
    set_mode(&key, 0o600);
    (
        cert.to_str().unwrap().to_owned(),
        key.to_str().unwrap().to_owned(),
    )
}

fn start(etcd: &Path, home: &Path, ca: &Authority) -> Cluster {
    let ports = free_ports(2 * KINDS.len());
    let (client_ports, peer_ports) = ports.split_at(KINDS.len());
    let initial: Vec<_> = peer_ports
        .iter()
        .enumerate()
        .map(|(i, port)| format!("m{i}=https://127.0.0.1:{port}"))
        .collect();
    let ca_path = ca.certificate().path().to_str().unwrap().to_owned();
    let mut cluster = Cluster {
        members: Vec::new(),
        client_ports: client_ports.to_vec(),
        logs: home.to_path_buf(),
    };
    // A member of each kind of key: they have to take one another's.
    for (i, kind) in KINDS.into_iter().enumerate() {
        let mut names = Names::only_cn(format!("m{i}"));
        names.add("localhost");
        names.add("127.0.0.1");
        let now = OffsetDateTime::now_utc();
        let leaf = |profile| issue(ca, profile, &names, kind, DAY, now).unwrap();
        let (cert, key) = write(home, &format!("m{i}-server"), &leaf(Profile::Server));
        let (peer_cert, peer_key) = write(home, &format!("m{i}-peer"), &leaf(Profile::Peer));
        let client_url = format!("https://127.0.0.1:{}", client_ports[i]);
        let peer_url = format!("https://127.0.0.1:{}", peer_ports[i]);
        let log = File::create(home.join(format!("m{i}.log"))).unwrap();
        let child = Command::new(etcd)
            .env_clear()
            .arg(format!("--name=m{i}"))
            .arg(format!(
                "--data-dir={}",
                home.join(format!("m{i}.data")).display()
            ))
            .arg(format!("--listen-client-urls={client_url}"))
            .arg(format!("--advertise-client-urls={client_url}"))
            .arg(format!("--listen-peer-urls={peer_url}"))
            .arg(format!("--initial-advertise-peer-urls={peer_url}"))
            .arg(format!("--initial-cluster={}", initial.join(",")))
            .args([
                "--initial-cluster-state=new",
                "--initial-cluster-token=pki-test",
            ])
            .args(["--client-cert-auth", "--peer-client-cert-auth"])
            .arg(format!("--trusted-ca-file={ca_path}"))
            .arg(format!("--peer-trusted-ca-file={ca_path}"))
            .arg(format!("--cert-file={cert}"))
            .arg(format!("--key-file={key}"))
            .arg(format!("--peer-cert-file={peer_cert}"))
            .arg(format!("--peer-key-file={peer_key}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        cluster.members.push(child);
    }
    cluster
}

impl Cluster {
    fn endpoints(&self) -> Vec<String> {
        let url = |port: &u16| format!("https://127.0.0.1:{port}");
        self.client_ports.iter().map(url).collect()
    }

    fn wait_until(&self, what: &str, mut check: impl FnMut() -> Output) -> Output {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let output = check();
            if output.status.success() {
                return output;
            }
            if Instant::now() > deadline {
                let log = |i| fs::read_to_string(self.logs.join(format!("m{i}.log")));
                let logs: Vec<_> = (0..KINDS.len()).map(log).collect();
                panic!("{what}: {output:?}\n{logs:#?}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn members_and_clients_trust_the_certificates_and_nothing_else() {
    let test = "pki::etcd::members_and_clients_trust_the_certificates_and_nothing_else";
    let all = binaries();
    if all.is_empty() {
        return skip(test, "no etcd and etcdctl");
    }
    std::thread::scope(|scope| {
        for found in &all {
            scope.spawn(|| check(&found.dir));
        }
    });
}

fn check(binaries: &Path) {
    let (home, dir, ca) = authority(KeyKind::EcdsaP256);
    let cluster = start(&binaries.join("etcd"), home.path(), &ca);
    let endpoints = cluster.endpoints();
    let now = OffsetDateTime::now_utc();
    let open = || Authority::open_key(&dir, &KeyProtection::Plain);
    ensure_operator(&dir, ca.certificate(), KeyKind::EcdsaP256, now, open).unwrap();
    let alice = NewClient {
        name: "alice",
        key: KeyKind::Rsa2048,
        validity: DAY,
        renew_before: DAY / 2,
        endpoints: &endpoints,
    };
    let alice = ensure_client(&dir, ca.certificate(), &alice, now, open).unwrap();

    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let etcdctl = |identity: &[&str], args: &[&str]| {
        Command::new(binaries.join("etcdctl"))
            .env_clear()
            .env("ETCDCTL_API", "3")
            .args([
                "--dial-timeout=2s",
                "--command-timeout=3s",
                "--cacert",
                &path("ca.crt"),
            ])
            .args(["--endpoints", &endpoints.join(",")])
            .args(identity)
            .args(args)
            .output()
            .unwrap()
    };
    let (cert, key) = (path("operator.crt"), path("operator.key"));
    let root = ["--cert", cert.as_str(), "--key", key.as_str()];

    // All three, so every peer has taken the others' certificates.
    cluster.wait_until("health", || etcdctl(&root, &["endpoint", "health"]));
    let put = etcdctl(&root, &["put", "foo", "bar"]);
    assert!(put.status.success(), "{put:?}");

    let bare = etcdctl(&[], &["get", "foo"]);
    assert!(!bare.status.success(), "without a certificate: {bare:?}");
    let (_foreign_home, foreign_dir, foreign) = authority(KeyKind::EcdsaP256);
    let stranger = issue(
        &foreign,
        Profile::Client,
        &Names::only_cn("root"),
        KeyKind::EcdsaP256,
        DAY,
        now,
    );
    let (cert, key) = write(&foreign_dir, "stranger", &stranger.unwrap());
    let strange = etcdctl(&["--cert", &cert, "--key", &key], &["get", "foo"]);
    assert!(
        !strange.status.success(),
        "of another authority: {strange:?}"
    );

    source_environment(binaries, &alice.environment);
    gateway(&endpoints, &dir);

    // The common name is the user: root by certificate alone, and alice is somebody else.
    for args in [
        &["user", "add", "root", "--no-password"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "alice", "--no-password"],
        &["auth", "enable"],
    ] {
        let done = etcdctl(&root, args);
        assert!(done.status.success(), "{args:?}: {done:?}");
    }
    cluster.wait_until("put as root", || etcdctl(&root, &["put", "foo", "baz"]));
    let (cert, key) = (
        alice.certificate.to_str().unwrap(),
        alice.key.to_str().unwrap(),
    );
    let denied = etcdctl(&["--cert", cert, "--key", key], &["get", "foo"]);
    let words = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert!(words.contains("permission denied"), "{words}");
}

fn source_environment(binaries: &Path, environment: &Path) {
    let sourced = Command::new("sh")
        .args(["-euc", ". \"$1\"; \"$2\" get foo --print-value-only", "sh"])
        .arg(environment)
        .arg(binaries.join("etcdctl"))
        .output()
        .unwrap();
    assert!(sourced.status.success(), "{sourced:?}");
    assert_eq!(sourced.stdout, b"bar\n");
}

/// The JSON gateway dials its own member with the server certificate, which therefore needs
/// clientAuth.
fn gateway(endpoints: &[String], dir: &Path) {
    let Some(curl) = find("curl") else {
        return skip("pki::etcd (JSON gateway)", "no curl");
    };
    let ask = |endpoint: &str, identity: bool| {
        let mut command = Command::new(&curl);
        command
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "5",
                "--cacert",
            ])
            .arg(dir.join("ca.crt"));
        if identity {
            command.arg("--cert").arg(dir.join("operator.crt"));
            command.arg("--key").arg(dir.join("operator.key"));
        }
        command
            .args([
                "--data",
                r#"{"key":"Zm9v"}"#,
                &format!("{endpoint}/v3/kv/range"),
            ])
            .output()
            .unwrap()
    };
    for endpoint in endpoints {
        let answer = ask(endpoint, true);
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        assert!(
            answer.status.success() && text.contains(r#""value":"YmFy""#),
            "{answer:?}"
        );
        let bare = ask(endpoint, false);
        assert!(!bare.status.success(), "without a certificate: {bare:?}");
    }
}
