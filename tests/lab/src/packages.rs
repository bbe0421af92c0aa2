//! Debian's own etcd packages, for hosts that install from packages rather than tarballs.

use std::fs;

use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::{releases, sys};

/// Where the repository is on the host.
const PLACE: &str = "/var/lib/lab-packages";
const SOURCES: &str = "/etc/apt/sources.list.d/lab.list";

impl Host {
    /// Gives the host a package repository of its own, needing no network, with Debian's
    /// `etcd-server` and `etcd-client` of every suite in the cache, and updates apt's lists.
    /// The versions of `etcd-server` in it, newest first, as `apt-get install` takes them.
    pub fn add_package_repository(&self) -> Result<Vec<String>> {
        let packages = releases::debian_packages();
        if packages.is_empty() {
            return Err(Error::Other(
                "no Debian packages are in the cache; run `lab setup` as root".to_owned(),
            ));
        }
        let work = tempfile::tempdir().at(|| "make a temporary directory".to_owned())?;
        for package in &packages {
            let name = package.file_name().unwrap_or_default();
            fs::copy(package, work.path().join(name))
                .at(|| format!("copy {}", package.display()))?;
        }
        let index = sys::run(
            sys::program("dpkg-scanpackages", ["--multiversion", "."]).current_dir(work.path()),
        )?;
        sys::write(&work.path().join("Packages"), index.stdout)?;
        let archive = sys::run(
            sys::program("tar", ["--owner=0", "--group=0", "-c", "-C"])
                .arg(work.path())
                .arg("."),
        )?;
        let script = format!(
            "set -e; rm -rf {PLACE}; mkdir {PLACE}; tar -x -C {PLACE}; chmod 755 {PLACE}; \
             echo 'deb [trusted=yes] file:{PLACE} ./' >{SOURCES}; apt-get -qq update; \
             apt-cache madison etcd-server"
        );
        let output = self.exec_with_input(&script, &[], &archive.stdout)?;
        let listed = self.succeeded("add a package repository", output)?;
        Ok(listed
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .map(|version| version.trim().to_owned())
            .collect())
    }
}
