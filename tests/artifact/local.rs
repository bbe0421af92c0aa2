//! Archives that lie on the operator's side already.

use std::fs;

use crate::support::{Answer, Server, Side, elf, pack, release, sha256, with_digest, with_sums};

#[test]
fn a_local_archive_stays_where_it_is() {
    let (side, body) = (Side::new(), release("arm64"));
    let path = side.write("etcd-3.5.16-arm64.tgz", &body);
    let install = with_digest("etcd-{version}-{arch}.tgz", &sha256(&body));
    let archive = side.fetch(&install, "arm64").expect("an archive");
    assert_eq!(archive.path, path);
    assert_eq!(archive.size, body.len() as u64);
    assert_eq!(archive.fact.binaries["etcd"], sha256(&elf("arm64")));
    assert_eq!(side.fetch(&install, "arm64").expect("an archive"), archive);
    let url = with_digest(&format!("file://{}", path.display()), &sha256(&body));
    assert_eq!(side.fetch(&url, "arm64").expect("an archive"), archive);
    assert_eq!(side.kept().len(), 1, "{:?}", side.kept());
}

#[test]
fn its_digest_is_remembered_until_it_changes() {
    let (side, body) = (Side::new(), release("amd64"));
    let path = side.write("etcd.tgz", &body);
    let install = with_digest("etcd.tgz", &sha256(&body));
    let first = side.fetch(&install, "amd64").expect("an archive");
    let record = side.cache().join(&side.kept()[0]);
    let text = fs::read_to_string(&record).expect("a record");
    fs::write(
        &record,
        text.replace(&sha256(&elf("amd64")), &"0".repeat(64)),
    )
    .expect("written");
    let again = side.fetch(&install, "amd64").expect("an archive");
    assert_eq!(
        again.fact.binaries["etcd"],
        "0".repeat(64),
        "it was hashed again"
    );

    fs::write(&path, &body).expect("written");
    assert_eq!(side.fetch(&install, "amd64").expect("an archive"), first);
    let other = pack(&[("etcd", elf("amd64"))]);
    fs::write(&path, &other).expect("written");
    let error = side.refused(&install, "amd64");
    assert!(
        error.contains(&sha256(&body)) && error.contains(&sha256(&other)),
        "{error}"
    );
    let renewed = with_digest("etcd.tgz", &sha256(&other));
    assert_eq!(
        side.fetch(&renewed, "amd64")
            .expect("an archive")
            .fact
            .sha256,
        sha256(&other)
    );
    // The old digest is refused from memory as well.
    let error = side.refused(&install, "amd64");
    assert!(error.contains("wrong checksum"), "{error}");
}

#[test]
fn sums_beside_it_are_read_every_time() {
    let (side, body) = (Side::new(), release("amd64"));
    side.write("etcd.tgz", &body);
    let install = with_sums("etcd.tgz", "SHA256SUMS");
    let error = side.refused(&install, "amd64");
    assert!(
        error.contains("SHA256SUMS") && error.contains("put the SHA256SUMS there"),
        "{error}"
    );
    side.write(
        "SHA256SUMS",
        format!("{}  etcd.tgz\n", sha256(&body)).as_bytes(),
    );
    side.fetch(&install, "amd64").expect("an archive");
    side.write(
        "SHA256SUMS",
        format!("{}  etcd.tgz\n", sha256(b"x")).as_bytes(),
    );
    let error = side.refused(&install, "amd64");
    assert!(error.contains("wrong checksum"), "{error}");
    side.write("SHA256SUMS", &[0xff; 100]);
    let error = side.refused(&install, "amd64");
    assert!(
        error.contains("no checksum of `etcd.tgz`, nor of anything else"),
        "{error}"
    );
}

#[test]
fn sums_of_a_server_are_remembered_with_it() {
    let (server, side, body) = (Server::start(), Side::new(), release("amd64"));
    side.write("etcd.tgz", &body);
    let sums = format!("{}  etcd.tgz\n", sha256(&body));
    server.put("/SHA256SUMS", Answer::Body(sums.into_bytes()));
    let install = with_sums("etcd.tgz", &server.url("/SHA256SUMS"));
    let first = side.fetch(&install, "amd64").expect("an archive");
    assert_eq!(server.requests(), ["/SHA256SUMS"]);
    assert_eq!(side.fetch(&install, "amd64").expect("an archive"), first);
    assert_eq!(server.requests(), [""; 0]);
    // A new archive: the sums may be new as well, so they are asked for.
    let other = pack(&[("etcd", elf("amd64"))]);
    side.write("etcd.tgz", &other);
    let error = side.refused(&install, "amd64");
    assert!(error.contains("wrong checksum"), "{error}");
    let sums = format!("{}  etcd.tgz\n", sha256(&other));
    server.put("/SHA256SUMS", Answer::Body(sums.into_bytes()));
    side.fetch(&install, "amd64").expect("an archive");
    server.requests();
    side.fetch(&install, "amd64").expect("an archive");
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let side = Side::new();
    let digest = sha256(b"");
    let error = side.refused(&with_digest("missing.tgz", &digest), "amd64");
    assert!(error.contains("missing.tgz: No such file"), "{error}");
    assert!(
        error.contains("check the path in [etcd.install]"),
        "{error}"
    );
    let error = side.refused(&with_digest(".", &digest), "amd64");
    assert!(error.contains("no regular file"), "{error}");
    let error = side.refused(&with_digest("ftp://h/x", &digest), "amd64");
    assert!(error.contains("cannot use ftp://h/x"), "{error}");
    side.write("short.tgz", b"");
    let error = side.refused(&with_digest("short.tgz", "../../x"), "amd64");
    assert!(error.contains("not 64 hex digits"), "{error}");
    let error = side.refused(&with_digest("short.tgz", &digest), "amd64");
    assert!(
        error.contains("short.tgz is not usable: it is cut off"),
        "{error}"
    );
}

#[test]
fn a_cache_that_cannot_be_made_is_no_obstacle() {
    let (side, body) = (Side::new(), release("amd64"));
    side.write("cache", b"a file");
    side.write("etcd.tgz", &body);
    let install = with_digest("etcd.tgz", &sha256(&body));
    side.fetch(&install, "amd64").expect("an archive");
}
