//! Real releases, as the lab packs them.

use std::time::Instant;

use quorate::artifact::{Fetcher, fetch};

use crate::support::{Side, with_sums};

/// Every release of the lab for this machine; says by name what it skips.
#[test]
fn real_releases() {
    let dir = quorate_lab::releases::dir();
    let releases = quorate_lab::releases::available();
    if releases.is_empty() || !dir.join("SHA256SUMS").is_file() {
        eprintln!(
            "SKIPPED real_releases: the lab has no releases (`cargo run -p quorate-lab -- setup`)"
        );
        return;
    }
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let side = Side::new();
    let install = with_sums(
        &format!("{}/etcd-v{{version}}-linux-{{arch}}.tar.gz", dir.display()),
        &format!("{}/SHA256SUMS", dir.display()),
    );
    for release in releases {
        let version: semver::Version = release.version.parse().expect("a version");
        let archive = fetch(&install, &version, arch, side.dir.path(), &side.cache())
            .unwrap_or_else(|error| panic!("{version}: {error}"));
        assert_eq!(archive.path, release.tarball);
        for (name, digest) in &archive.fact.binaries {
            let binary = std::fs::read(release.dir.join(name)).expect("the lab has it unpacked");
            assert_eq!(
                *digest,
                crate::support::sha256(&binary),
                "{name} of {version}"
            );
        }
        let start = Instant::now();
        let again = Fetcher::new(side.dir.path(), &side.cache())
            .fetch(&install, &version, arch, &mut |_, _| {})
            .expect("an archive");
        eprintln!("{version}: remembered in {:?}", start.elapsed());
        assert_eq!(again, archive);
    }
}
