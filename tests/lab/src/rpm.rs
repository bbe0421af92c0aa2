//! Hosts that live by rpm and dnf: the real ones, as Debian's archive has them, and RPMs of etcd.

use std::path::{Path, PathBuf};

use crate::cache::cache_dir;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::releases::Release;
use crate::releases::debian::{missing, packages_in};
use crate::{rootfs, sys};

const TOOLS: [&str; 4] = ["dnf", "dnf-plugins-core", "rpm", "createrepo-c"];
/// Where the repository is on the host.
const PLACE: &str = "/srv/rpm";
const SPEC: &str = include_str!("etcd.spec");
/// Stands for what a distribution's own packages provide: the database of RPMs starts empty.
const BASE: &str = "Name: lab-base\nVersion: 1\nRelease: 1\nSummary: The rest of the system\nLicense: Apache-2.0\n\
                    BuildArch: noarch\nProvides: /bin/sh\n%description\nNothing.\n%files\n";
const OS_RELEASE: &str =
    "NAME=\"Lab Linux\"\nID=lab\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=9\n";
/// As RHEL and its like have it.
const DNF_CONF: &str = "[main]\ngpgcheck=1\ninstallonly_limit=3\nclean_requirements_on_remove=True\n\
                        best=True\nskip_if_unavailable=False\n";
const REPOSITORY: &str = "[lab]\nname=lab\nbaseurl=file:///srv/rpm\ngpgcheck=0\n";

fn dir() -> PathBuf {
    cache_dir().join("packages/rpm-tools")
}

/// Whether the cache has what [`Host::live_by_dnf`] needs.
pub fn has_rpm() -> bool {
    dir().is_dir()
}

/// Downloads the tools for hosts with this root file system.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    missing(rootfs::SUITE, root, &TOOLS, &dir())
}

impl Host {
    /// Makes the host one of the kin of RHEL: dnf with its versionlock plugin, an rpm database, and an os-release that
    /// says so. Debian's tools stay, as tools that somebody put there.
    pub fn live_by_dnf(&self) -> Result<()> {
        if !has_rpm() {
            return Err(Error::Other(
                "dnf and rpm are not in the cache; run `lab setup` as root".to_owned(),
            ));
        }
        for package in packages_in(&dir()) {
            let files = sys::run(sys::program("dpkg-deb", ["--fsys-tarfile"]).arg(&package))?;
            let script = "tar -x -C / --keep-directory-symlink";
            let output = self.exec_with_input(script, &[], &files.stdout)?;
            self.succeeded("unpack a package", output)?;
        }
        for (path, content) in [
            ("/etc/rpm/macros", "%_dbpath /var/lib/rpm\n"),
            ("/etc/dnf/dnf.conf", DNF_CONF),
            ("/etc/dnf/vars/releasever", "9\n"),
            ("/tmp/rpm/base.spec", BASE),
        ] {
            self.write_file(path, content, 0o644)?;
        }
        self.run(&format!(
            "set -e; ldconfig; rm /etc/os-release; printf '{OS_RELEASE}' >/etc/os-release; \
             cd /usr/lib/python3/dist-packages/dnf-plugins; find . -type f ! -name versionlock.py -delete; \
             cd /etc/dnf/plugins; find . -type f ! -name 'versionlock.*' -delete; \
             cd /tmp/rpm; rpmbuild -bb --quiet -D '_topdir /tmp/rpm' base.spec; \
             mkdir -p /var/lib/rpm; rpm -i --force-debian --ignorearch RPMS/noarch/*.rpm; rm -r /tmp/rpm"
        ))
        .map(drop)
    }

    /// Gives a host that lives by dnf a repository of its own with the release as an RPM `etcd`, of which these
    /// versions are claimed. Where nothing hinders it the package enables and starts a member of its own.
    pub fn add_rpm_repository(&self, release: &Release, versions: &[&str]) -> Result<()> {
        let binaries = sys::run(
            sys::program("tar", ["--owner=0", "--group=0", "-c", "-C"])
                .arg(&release.dir)
                .args(["etcd", "etcdctl"]),
        )?;
        self.write_file("/tmp/rpm/etcd.spec", SPEC, 0o644)?;
        self.write_file("/etc/yum.repos.d/lab.repo", REPOSITORY, 0o644)?;
        let script = format!(
            "set -e; cd /tmp/rpm; tar -x; for version; do \
             rpmbuild -bb --quiet -D \"etcd_version $version\" -D '_topdir /tmp/rpm' -D '_rpmdir {PLACE}' etcd.spec; \
             done; rm -r /tmp/rpm; createrepo_c -q {PLACE}"
        );
        let output = self.exec_with_input(&script, versions, &binaries.stdout)?;
        self.succeeded("add a repository of RPMs", output).map(drop)
    }
}
