//! Tarballs in the layout of upstream's releases.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Release;
use crate::error::{Context, Result};
use crate::sys;

/// The binaries of a release; the last is absent from older ones.
pub(super) const BINARIES: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];

/// The name of the directory in the tarball, and of the tarball.
pub(super) fn top(version: &str) -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("etcd-v{version}-linux-{arch}")
}

/// Packs a release unless it is packed; the same binaries always give the same tarball.
pub(super) fn pack(release: &Release) -> Result<()> {
    if release.tarball.is_file() {
        return Ok(());
    }
    let releases = super::dir();
    sys::make_dir(&releases)?;
    let work = tempfile::Builder::new()
        .prefix(".packing-")
        .tempdir_in(&releases)
        .at(|| format!("make a directory in {}", releases.display()))?;
    let top = top(&release.version);
    let staged = work.path().join(&top);
    sys::make_dir(&staged)?;
    for name in BINARIES {
        let from = release.dir.join(name);
        if from.is_file() {
            let to = staged.join(name);
            fs::copy(&from, &to).at(|| format!("copy {}", from.display()))?;
            sys::set_mode(&to, 0o755)?;
        }
    }
    let packed = work.path().join("packed.tar.gz");
    sys::run(
        sys::program(
            "tar",
            ["--sort=name", "--owner=0", "--group=0", "--numeric-owner"],
        )
        .args(["--mtime=@0", "--use-compress-program=gzip -n", "-cf"])
        .arg(&packed)
        .arg("-C")
        .arg(work.path())
        .arg(&top),
    )?;
    fs::rename(&packed, &release.tarball).at(|| format!("name {}", release.tarball.display()))
}

/// Writes the checksums of all tarballs, unless each has one: a tarball never changes.
pub(super) fn checksums(dir: &Path) -> Result<()> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .at(|| format!("list {}", dir.display()))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".tar.gz"))
        .collect();
    names.sort();
    let path = dir.join("SHA256SUMS");
    let present = fs::read_to_string(&path).unwrap_or_default();
    let listed = present.lines().filter_map(|line| line.split("  ").nth(1));
    if listed.eq(names.iter().map(String::as_str)) {
        return Ok(());
    }
    let mut sums = String::new();
    for name in names {
        sums.push_str(&format!("{}  {name}\n", sha256(&dir.join(&name))?));
    }
    let building = dir.join(".SHA256SUMS");
    sys::write(&building, sums)?;
    fs::rename(&building, &path).at(|| format!("name {}", path.display()))
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).at(|| format!("open {}", path.display()))?;
    let mut hasher = Hashing(Sha256::new());
    io::copy(&mut file, &mut hasher).at(|| format!("read {}", path.display()))?;
    Ok(hex::encode(hasher.0.finalize()))
}

struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
