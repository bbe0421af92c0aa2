//! Real etcd members behind a real sshd. Binaries come from `QUORATE_TEST_ETCD` (a directory), or
//! from the lab's cache: the oldest and the newest release.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret as _;
use quorate::desired::model::KeyKind;
use quorate::pki::{Authority, Issued, KeyProtection, Names, NewAuthority, Profile, issue};
use quorate::remote::{EtcdClient, EtcdEndpoint, EtcdErrorKind, EtcdTls, Host};
use time::OffsetDateTime;

use crate::sshd::{Sshd, available, free_port};

const DAY: Duration = Duration::from_secs(86_400);

/// A directory with etcd and etcdctl.
struct Binaries(PathBuf);

fn binaries(test: &str) -> Vec<Binaries> {
    if !available(test) {
        return Vec::new();
    }
    if let Some(dir) = std::env::var_os("QUORATE_TEST_ETCD") {
        return vec![Binaries(dir.into())];
    }
    let mut releases = quorate_lab::releases::available();
    let newest = releases.pop();
    let chosen = releases.into_iter().next().into_iter().chain(newest);
    let chosen: Vec<_> = chosen.map(|release| Binaries(release.dir)).collect();
    if chosen.is_empty() {
        eprintln!("SKIPPED {test}: needs etcd: set QUORATE_TEST_ETCD to a directory with it");
    }
    chosen
}

struct Member {
    dir: tempfile::TempDir,
    child: Child,
    client: u16,
    peer: u16,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Member {
    /// `advertised` is the host of the client URL.
    fn start(binaries: &Binaries, advertised: &str, tls: Option<(&Pki, &Issued)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (client, peer) = (free_port(), free_port());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut etcd = Command::new(binaries.0.join("etcd"));
        etcd.args(["--name", "m0", "--data-dir"])
            .arg(dir.path().join("data"))
            .arg(format!(
                "--listen-client-urls={scheme}://127.0.0.1:{client}"
            ))
            .arg(format!(
                "--advertise-client-urls={scheme}://{advertised}:{client}"
            ))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            .arg(format!(
                "--initial-advertise-peer-urls=http://127.0.0.1:{peer}"
            ))
            .arg(format!("--initial-cluster=m0=http://127.0.0.1:{peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((pki, server)) = tls {
            let path = |name: &str| dir.path().join(name);
            std::fs::write(path("ca"), &pki.ca_pem).unwrap();
            std::fs::write(path("cert"), &server.cert_pem).unwrap();
            std::fs::write(path("key"), server.key_pem.expose_secret()).unwrap();
            etcd.arg("--client-cert-auth")
                .arg("--trusted-ca-file")
                .arg(path("ca"));
            etcd.arg("--cert-file")
                .arg(path("cert"))
                .arg("--key-file")
                .arg(path("key"));
        }
        let child = etcd.spawn().unwrap();
        Self {
            dir,
            child,
            client,
            peer,
        }
    }

    fn endpoint(&self, host: &str, tls: Option<EtcdTls>) -> EtcdEndpoint {
        let scheme = if tls.is_some() { "https" } else { "http" };
        EtcdEndpoint {
            url: format!("{scheme}://{host}:{}", self.client),
            dial: ("127.0.0.1".into(), self.client),
            tls,
        }
    }

    async fn ready(&self, host: &Host, endpoint: &EtcdEndpoint) -> EtcdClient {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match EtcdClient::connect(host, endpoint).await {
                Ok(client) if client.first_status().leader.0 != 0 => return client,
                Err(error) if Instant::now() > deadline => panic!("{error}"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

struct Pki {
    _dir: tempfile::TempDir,
    authority: Authority,
    ca_pem: String,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let new = NewAuthority {
            cluster: "test",
            key: KeyKind::EcdsaP256,
            validity: DAY,
        };
        let path = dir.path().join("pki");
        let authority = Authority::create_or_open(
            &path,
            &new,
            &KeyProtection::Plain,
            OffsetDateTime::now_utc(),
        )
        .unwrap();
        let ca_pem = authority.certificate().pem().to_owned();
        Self {
            _dir: dir,
            authority,
            ca_pem,
        }
    }

    fn issue(&self, profile: Profile, cn: &str, names: &[&str]) -> Issued {
        let mut all = Names::only_cn(cn);
        for name in names {
            all.add(name);
        }
        issue(
            &self.authority,
            profile,
            &all,
            KeyKind::EcdsaP256,
            DAY,
            OffsetDateTime::now_utc(),
        )
        .unwrap()
    }

    fn client(&self) -> EtcdTls {
        let own = self.issue(Profile::Client, "root", &[]);
        EtcdTls {
            ca_pem: self.ca_pem.clone(),
            identity: Some((own.cert_pem, own.key_pem)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call() {
    for binaries in binaries("every_call") {
        let sshd = Sshd::start("");
        let host = sshd.connect().await;
        let member = Member::start(&binaries, "127.0.0.1", None);
        let endpoint = member.endpoint("127.0.0.1", None);
        let client = member.ready(&host, &endpoint).await;
        let status = client.status().await.unwrap();
        assert_eq!(status.member_id, status.leader);
        assert!(status.raft_term > 0 && status.cluster_id.0 != 0 && !status.is_learner);
        let list = client.member_list_linearizable().await.unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(
            (list[0].id, list[0].name.as_str()),
            (status.member_id, "m0")
        );
        assert!(status.errors.is_empty());
        client.put("key", b"value").await.unwrap();
        assert_eq!(
            client.get("key").await.unwrap().as_deref(),
            Some(&b"value"[..])
        );
        assert_eq!(client.get("none").await.unwrap(), None);
        assert_ne!(client.hash_kv(0).await.unwrap().hash, 0);

        let urls = [format!("http://127.0.0.1:{}", free_port())];
        let added = client.member_add(&urls, true).await.unwrap();
        assert!(added.is_learner && added.peer_urls == urls);
        let again = client.member_add(&urls, true).await.unwrap_err();
        assert!(
            !again.ambiguous && matches!(again.kind, EtcdErrorKind::Other { .. }),
            "{again}"
        );
        let promote = client.member_promote(added.id).await.unwrap_err();
        assert!(
            matches!(&promote.kind, EtcdErrorKind::Other { message, .. } if message.contains("in sync")),
            "{promote}"
        );
        let moved = [format!("http://127.0.0.1:{}", free_port())];
        client.member_update(added.id, &moved).await.unwrap();
        let find = async || {
            let list = client.member_list_linearizable().await.unwrap();
            list.into_iter().find(|member| member.id == added.id)
        };
        assert_eq!(find().await.unwrap().peer_urls, moved);
        client.move_leader(added.id).await.unwrap_err();
        client.member_remove(added.id).await.unwrap();
        assert_eq!(find().await, None);
        client.member_remove(added.id).await.unwrap_err();

        let file = member.dir.path().join("snapshot.db");
        let saved = client.snapshot(&file).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), saved.size);
        assert_eq!(saved.size % 512, 32);
        let judged = ["etcdctl", "etcdutl"].into_iter().any(|tool| {
            let mut status = Command::new(binaries.0.join(tool));
            status
                .env("ETCDCTL_API", "3")
                .args(["snapshot", "status"])
                .arg(&file)
                .stdout(Stdio::null());
            status
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        });
        assert!(judged, "etcd's own tool does not take the snapshot");
        assert!(
            client.snapshot(&file).await.is_err(),
            "an existing file was overwritten"
        );

        // The channel is renewed by itself when the member restarts; here the member ends.
        let peer = member.peer;
        drop(member);
        let error = client.put("key", b"value").await.unwrap_err();
        assert!(
            matches!(
                error.kind,
                EtcdErrorKind::Unavailable(_) | EtcdErrorKind::Tunnel { .. }
            ),
            "{error}"
        );
        let error = EtcdClient::connect(&host, &endpoint).await.unwrap_err();
        assert!(
            matches!(error.kind, EtcdErrorKind::Tunnel { .. }),
            "{error} ({peer})"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_end_to_end_by_name() {
    let pki = Pki::new();
    for binaries in binaries("tls_end_to_end_by_name") {
        let sshd = Sshd::start("");
        let host = sshd.connect().await;
        // The advertised name resolves nowhere: only the tunnel and the certificate matter.
        let server = pki.issue(Profile::Server, "m0", &["etcd-1.test", "127.0.0.1", "::1"]);
        let member = Member::start(&binaries, "etcd-1.test", Some((&pki, &server)));
        let endpoint = member.endpoint("etcd-1.test", Some(pki.client()));
        let client = member.ready(&host, &endpoint).await;
        let begun = Instant::now();
        let second = EtcdClient::connect(&host, &endpoint).await.unwrap();
        let connected = begun.elapsed();
        let begun = Instant::now();
        for _ in 0..10 {
            second.status().await.unwrap();
        }
        eprintln!(
            "etcd over TLS: connect and first status {connected:?}, status {:?}",
            begun.elapsed() / 10
        );
        client.put("key", b"value").await.unwrap();
        EtcdClient::connect(&host, &member.endpoint("[::1]", Some(pki.client())))
            .await
            .unwrap();

        let rejected = async |endpoint: EtcdEndpoint| {
            let error = EtcdClient::connect(&host, &endpoint).await.unwrap_err();
            eprintln!("{error}");
            error.kind
        };
        let other_name = rejected(member.endpoint("other.test", Some(pki.client()))).await;
        assert!(
            matches!(other_name, EtcdErrorKind::CertificateRejected(_)),
            "{other_name}"
        );
        let stranger = Pki::new();
        let their_ca = EtcdTls {
            ca_pem: stranger.ca_pem.clone(),
            ..pki.client()
        };
        let unknown = rejected(member.endpoint("etcd-1.test", Some(their_ca))).await;
        assert!(
            matches!(unknown, EtcdErrorKind::CertificateRejected(_)),
            "{unknown}"
        );
        let theirs = EtcdTls {
            ca_pem: pki.ca_pem.clone(),
            ..stranger.client()
        };
        let refused = rejected(member.endpoint("etcd-1.test", Some(theirs))).await;
        assert!(
            matches!(refused, EtcdErrorKind::CertificateRejected(_)),
            "{refused}"
        );
        let none = EtcdTls {
            ca_pem: pki.ca_pem.clone(),
            identity: None,
        };
        let refused = rejected(member.endpoint("etcd-1.test", Some(none))).await;
        assert!(
            matches!(refused, EtcdErrorKind::CertificateRejected(_)),
            "{refused}"
        );
        let plain = rejected(member.endpoint("etcd-1.test", None)).await;
        assert!(matches!(plain, EtcdErrorKind::Unavailable(_)), "{plain}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sshd_forbids_tunnels() {
    for binaries in binaries("where_sshd_forbids_tunnels").into_iter().take(1) {
        let sshd = Sshd::start("AllowTcpForwarding no");
        let host = sshd.connect().await;
        let member = Member::start(&binaries, "127.0.0.1", None);
        let client = member
            .ready(&host, &member.endpoint("127.0.0.1", None))
            .await;
        client.put("key", b"value").await.unwrap();
        assert_eq!(host.round_trips().tunnels, 0);
        let error = EtcdClient::connect(&host, &member.endpoint("etcd-1.invalid", None))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("AllowTcpForwarding"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_member_is_given_up() {
    if !available("a_mute_member_is_given_up") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = mute.local_addr().unwrap().port();
    let endpoint = EtcdEndpoint {
        url: format!("http://127.0.0.1:{port}"),
        dial: ("127.0.0.1".into(), port),
        tls: None,
    };
    let begun = Instant::now();
    let error = EtcdClient::connect(&host, &endpoint).await.unwrap_err();
    assert!(
        matches!(error.kind, EtcdErrorKind::Timeout { .. }),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(12));
}
