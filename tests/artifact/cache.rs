//! What is fetched once is not fetched again.

use std::fs;
use std::sync::Barrier;
use std::thread;

use crate::support::{Answer, Server, Side, elf, release, sha256, with_digest, with_sums};

#[test]
fn a_second_call_makes_no_request() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    let digest = sha256(&body);
    server.put("/etcd.tar.gz", Answer::Body(body));
    server.put(
        "/SHA256SUMS",
        Answer::Body(format!("{digest}  etcd.tar.gz\n").into_bytes()),
    );
    let install = with_sums(&server.url("/etcd.tar.gz"), &server.url("/SHA256SUMS"));
    let first = side.fetch(&install, "amd64").expect("an archive");
    assert_eq!(server.requests(), ["/SHA256SUMS", "/etcd.tar.gz"]);
    assert_eq!(side.fetch(&install, "amd64").expect("an archive"), first);
    let explicit = with_digest(&server.url("/etcd.tar.gz"), &digest);
    assert_eq!(side.fetch(&explicit, "amd64").expect("an archive"), first);
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn sums_are_asked_for_again_with_the_archive_gone() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    let digest = sha256(&body);
    server.put("/etcd.tar.gz", Answer::Body(body));
    server.put(
        "/SHA256SUMS",
        Answer::Body(format!("{digest}  etcd.tar.gz\n").into_bytes()),
    );
    let install = with_sums(&server.url("/etcd.tar.gz"), &server.url("/SHA256SUMS"));
    let first = side.fetch(&install, "amd64").expect("an archive");
    fs::remove_file(&first.path).expect("removed");
    server.requests();
    assert_eq!(side.fetch(&install, "amd64").expect("an archive"), first);
    assert_eq!(server.requests(), ["/SHA256SUMS", "/etcd.tar.gz"]);
}

#[test]
fn the_cached_archive_is_not_hashed_again_and_not_trusted_when_it_changed() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    server.put("/etcd.tar.gz", Answer::Body(body.clone()));
    let install = with_digest(&server.url("/etcd.tar.gz"), &sha256(&body));
    let first = side.fetch(&install, "amd64").expect("an archive");
    // The record is believed as long as the file has not changed: a mark in it comes back.
    let record = first.path.with_file_name(format!("{}.json", sha256(&body)));
    let honest = fs::read_to_string(&record).expect("a record");
    let marked = honest.replace(&sha256(&elf("amd64")), &"0".repeat(64));
    assert_ne!(marked, honest);
    fs::write(&record, marked).expect("written");
    let again = side.fetch(&install, "amd64").expect("an archive");
    assert_eq!(again.fact.binaries["etcd"], "0".repeat(64));
    // Rewritten with the same content: hashed again, and the record is put right, without a request.
    server.requests();
    fs::write(&first.path, &body).expect("written");
    assert_eq!(side.fetch(&install, "amd64").expect("an archive"), first);
    assert_eq!(side.fetch(&install, "amd64").expect("an archive"), first);
    assert_eq!(server.requests(), [""; 0]);
    // Other content of the same size: fetched again.
    let mut spoilt = body.clone();
    spoilt[100] ^= 1;
    fs::write(&first.path, spoilt).expect("written");
    let restored = side.fetch(&install, "amd64").expect("an archive");
    assert_eq!(fs::read(restored.path).expect("readable"), body);
    assert_eq!(server.requests(), ["/etcd.tar.gz"]);
    // Records that are no records are replaced.
    for garbage in ["", "{}", "\u{0}", "[1,2", &"[".repeat(10_000)] {
        fs::write(&record, garbage).expect("written");
        assert_eq!(
            side.fetch(&install, "amd64").expect("an archive").fact,
            first.fact
        );
    }
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn many_at_once_fetch_once() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    server.put("/etcd.tar.gz", Answer::Body(body.clone()));
    let install = with_digest(&server.url("/etcd.tar.gz"), &sha256(&body));
    let together = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                together.wait();
                let archive = side.fetch(&install, "amd64").expect("an archive");
                assert_eq!(fs::read(archive.path).expect("readable"), body);
            });
        }
    });
    assert_eq!(server.requests(), ["/etcd.tar.gz"]);
    assert_eq!(side.kept().len(), 2, "{:?}", side.kept());
}

#[test]
fn what_a_killed_download_left_is_swept() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    let digest = sha256(&body);
    fs::create_dir_all(side.cache().join("archives")).expect("made");
    side.write(
        &format!("cache/quorate/archives/.{digest}.part-x1"),
        b"half",
    );
    server.put("/etcd.tar.gz", Answer::Body(body));
    side.fetch(&with_digest(&server.url("/etcd.tar.gz"), &digest), "amd64")
        .expect("an archive");
    assert_eq!(
        side.kept(),
        [
            format!("archives/{digest}.json"),
            format!("archives/{digest}.tar.gz")
        ]
    );
}

#[test]
fn a_cache_that_cannot_be_made_is_named() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    side.write("cache", b"a file");
    server.put("/etcd.tar.gz", Answer::Body(body.clone()));
    let error = side.refused(
        &with_digest(&server.url("/etcd.tar.gz"), &sha256(&body)),
        "amd64",
    );
    assert!(
        error.contains(&side.cache().display().to_string()),
        "{error}"
    );
    assert!(error.contains("set XDG_CACHE_HOME"), "{error}");
}
