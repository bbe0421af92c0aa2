//! Downloads that work and downloads that do not.

use std::time::{Duration, Instant};

use quorate::artifact::Fetcher;

use crate::support::{
    Answer, Server, Side, elf, pack, release, sha256, with_digest, with_digests, with_sums,
};

const PATH: &str = "/v3.5.16/etcd-v3.5.16-linux-amd64.tar.gz";
const TEMPLATE: &str = "/v{version}/etcd-v{version}-linux-{arch}.tar.gz";
const SUMS: &str = "/v{version}/SHA256SUMS";

#[test]
fn an_archive_is_downloaded_verified_and_looked_into() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    server.put(PATH, Answer::Body(body.clone()));
    let install = with_digest(&server.url(TEMPLATE), &sha256(&body).to_uppercase());
    let (mut seen, mut size) = (Vec::new(), None);
    let archive = Fetcher::new(side.dir.path(), &side.cache())
        .fetch(
            &install,
            &semver::Version::new(3, 5, 16),
            "amd64",
            &mut |done, total| {
                seen.push(done);
                size = total;
            },
        )
        .expect("an archive");
    assert_eq!(std::fs::read(&archive.path).expect("readable"), body);
    assert_eq!(archive.size, body.len() as u64);
    assert_eq!(archive.fact.sha256, sha256(&body));
    assert_eq!(archive.fact.binaries["etcd"], sha256(&elf("amd64")));
    assert_eq!(archive.fact.binaries["etcdctl"], sha256(b"ctl"));
    assert_eq!(archive.fact.binaries["etcdutl"], sha256(b"utl"));
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(
        (seen.last().copied(), size),
        (Some(archive.size), Some(archive.size))
    );
}

#[test]
fn sums_verify_it_too() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    server.put(PATH, Answer::Body(body.clone()));
    let line = format!(
        "{} *release/etcd-v3.5.16-linux-amd64.tar.gz\r\n",
        sha256(&body)
    );
    server.put(
        "/v3.5.16/SHA256SUMS",
        Answer::Body(line.clone().into_bytes()),
    );
    let install = with_sums(&server.url(TEMPLATE), &server.url(SUMS));
    assert_eq!(
        side.fetch(&install, "amd64")
            .expect("an archive")
            .fact
            .sha256,
        sha256(&body)
    );

    let side = Side::new();
    side.write("SUMS-3.5.16", line.as_bytes());
    let install = with_sums(&server.url(TEMPLATE), "SUMS-{version}");
    assert_eq!(
        side.fetch(&install, "amd64")
            .expect("an archive")
            .fact
            .sha256,
        sha256(&body)
    );
}

#[test]
fn redirections_are_followed() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    server.put(PATH, Answer::Redirect(server.url("/elsewhere")));
    server.put("/elsewhere", Answer::Body(body.clone()));
    side.fetch(&with_digest(&server.url(TEMPLATE), &sha256(&body)), "amd64")
        .expect("an archive");

    let server = Server::start();
    server.put(PATH, Answer::Redirect(server.url(PATH)));
    let error = Side::new().refused(&with_digest(&server.url(TEMPLATE), &sha256(b"x")), "amd64");
    assert!(error.contains("redirects without end"), "{error}");
}

#[test]
fn what_the_server_refuses_is_said() {
    let (server, side) = (Server::start(), Side::new());
    let digest = sha256(b"");
    let template = server.url(&format!("{TEMPLATE}?token=hidden"));
    let error = side.refused(&with_digest(&template, &digest), "amd64");
    let expected = format!(
        "cannot fetch {}: the server answers 404 Not Found; check the URL, the version and the architecture",
        server.url(PATH)
    );
    assert_eq!(error, expected);
    server.put(PATH, Answer::Status("503 Service Unavailable"));
    let error = side.refused(&with_digest(&server.url(TEMPLATE), &digest), "amd64");
    assert!(
        error.contains("503 Service Unavailable; try again"),
        "{error}"
    );
    let error = side.refused(
        &with_sums(&server.url(TEMPLATE), &server.url(SUMS)),
        "amd64",
    );
    assert!(
        error.contains("/v3.5.16/SHA256SUMS: the server answers 404"),
        "{error}"
    );
    assert_eq!(side.kept(), [""; 0]);
}

#[test]
fn nobody_listens() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let url = format!("http://{}/etcd.tar.gz", free.expect("a port"));
    let error = Side::new().refused(&with_digest(&url, &sha256(b"")), "amd64");
    assert!(
        error.starts_with(&format!("cannot fetch {url}: ")),
        "{error}"
    );
    assert!(error.contains("check the network"), "{error}");
}

#[test]
fn nothing_is_kept_of_a_wrong_checksum() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    server.put(PATH, Answer::Body(body.clone()));
    let wrong = sha256(b"something else");
    let error = side.refused(&with_digest(&server.url(TEMPLATE), &wrong), "amd64");
    for part in [&server.url(PATH), "[etcd.install]", &wrong, &sha256(&body)] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(side.kept(), [""; 0]);

    let sums = format!("{wrong}  etcd-v3.5.16-linux-amd64.tar.gz\n");
    server.put("/v3.5.16/SHA256SUMS", Answer::Body(sums.into_bytes()));
    let error = side.refused(
        &with_sums(&server.url(TEMPLATE), &server.url(SUMS)),
        "amd64",
    );
    assert!(
        error.contains(&server.url("/v3.5.16/SHA256SUMS")),
        "{error}"
    );
    assert_eq!(side.kept(), [""; 0]);
}

#[test]
fn sums_without_the_archive() {
    let (server, side) = (Server::start(), Side::new());
    let sums = format!("{}  etcd-v3.5.15-linux-amd64.tar.gz\n", sha256(b""));
    server.put("/v3.5.16/SHA256SUMS", Answer::Body(sums.into_bytes()));
    let error = side.refused(
        &with_sums(&server.url(TEMPLATE), &server.url(SUMS)),
        "amd64",
    );
    assert!(
        error.contains("SHA256SUMS has no checksum of `etcd-v3.5.16-linux-amd64.tar.gz`"),
        "{error}"
    );
    // The archive itself is not even asked for.
    assert_eq!(server.requests(), ["/v3.5.16/SHA256SUMS"]);
    assert_eq!(side.kept(), [""; 0]);
}

#[test]
fn a_cut_off_download_is_no_archive() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    let install = with_digest(&server.url(TEMPLATE), &sha256(&body));
    let half = body.len() / 2;
    for answer in [
        Answer::CutOff(body.clone(), half),
        Answer::CutOff(body.clone(), 0),
        Answer::Unfinished(body.clone()),
    ] {
        server.put(PATH, answer);
        let error = side.refused(&install, "amd64");
        assert!(
            error.starts_with(&format!(
                "cannot fetch {}: the connection ended",
                server.url(PATH)
            )),
            "{error}"
        );
        assert_eq!(side.kept(), [""; 0]);
    }
    server.put(PATH, Answer::Body(body));
    side.fetch(&install, "amd64").expect("an archive");
}

#[test]
fn slow_servers_are_given_up() {
    let (server, mut side, body) = (Server::start(), Side::new(), release("amd64"));
    let install = with_digest(&server.url(TEMPLATE), &sha256(&body));
    side.limits.idle = Duration::from_millis(200);
    server.put(PATH, Answer::Stall(body.clone(), 1000));
    let start = Instant::now();
    let error = side.refused(&install, "amd64");
    assert!(error.contains("stopped answering"), "{error}");

    side.limits.total = Duration::from_millis(300);
    server.put(PATH, Answer::Trickle);
    let error = side.refused(&install, "amd64");
    assert!(error.contains("took too long"), "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(side.kept(), [""; 0]);
}

#[test]
fn endless_archives_are_given_up() {
    let (server, mut side, body) = (Server::start(), Side::new(), release("amd64"));
    let install = with_digest(&server.url(TEMPLATE), &sha256(&body));
    side.limits.largest = 1000;
    for answer in [Answer::Announce(1001), Answer::Unfinished(body)] {
        server.put(PATH, answer);
        let error = side.refused(&install, "amd64");
        assert!(error.contains("has more than 1000 bytes"), "{error}");
    }
    server.put("/v3.5.16/SHA256SUMS", Answer::Announce(5 << 20));
    let error = side.refused(
        &with_sums(&server.url(TEMPLATE), &server.url(SUMS)),
        "amd64",
    );
    assert!(
        error.contains("SHA256SUMS has more than 1048576 bytes"),
        "{error}"
    );
    assert_eq!(side.kept(), [""; 0]);
}

#[test]
fn what_is_no_archive_of_etcd_is_refused() {
    let (server, side) = (Server::start(), Side::new());
    let whole = release("amd64");
    for (body, expected) in [
        (b"<html>please log in</html>".to_vec(), "no intact .tar.gz"),
        (whole[..whole.len() - 5].to_vec(), "cut off"),
        (pack(&[("etcdctl", elf("amd64"))]), "holds no `etcd`"),
        (release("arm64"), "for arm64, not amd64"),
    ] {
        server.put(PATH, Answer::Body(body.clone()));
        let error = side.refused(&with_digest(&server.url(TEMPLATE), &sha256(&body)), "amd64");
        assert!(
            error.starts_with(&format!("{} is not usable: ", server.url(PATH))),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
        assert_eq!(side.kept(), [""; 0]);
    }
}

#[test]
fn every_architecture_has_its_own_digest() {
    let (server, side) = (Server::start(), Side::new());
    let (amd, arm) = (release("amd64"), release("arm64"));
    server.put(PATH, Answer::Body(amd.clone()));
    server.put(&PATH.replace("amd64", "arm64"), Answer::Body(arm.clone()));
    let (amd_digest, arm_digest) = (sha256(&amd), sha256(&arm));
    let install = with_digests(
        &server.url(TEMPLATE),
        &[("amd64", &amd_digest), ("arm64", &arm_digest)],
    );
    for (arch, digest) in [("amd64", &amd_digest), ("arm64", &arm_digest)] {
        assert_eq!(
            side.fetch(&install, arch).expect("an archive").fact.sha256,
            *digest
        );
    }
    let only = with_digests(&server.url(TEMPLATE), &[("amd64", &amd_digest)]);
    let error = side.refused(&only, "arm64");
    assert!(error.contains("add `arm64` to `sha256`"), "{error}");
    let error = side.refused(&install, "riscv64");
    assert!(error.contains("amd64 and arm64"), "{error}");
    // One digest cannot be the archive of two architectures, not even from the cache.
    let error = side.refused(&with_digest(&server.url(PATH), &amd_digest), "arm64");
    assert!(error.contains("for amd64, not arm64"), "{error}");
}
