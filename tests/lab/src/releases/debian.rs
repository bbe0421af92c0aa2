//! Packages of a Debian suite, etcd's and others, by way of the mirror that this machine uses.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cache::cache_dir;
use crate::error::{Context, Error, Result};
use crate::sys;

const PACKAGES: [&str; 2] = ["etcd-server", "etcd-client"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The packages of a suite in the cache.
pub(super) fn packages(suite: &str) -> Vec<PathBuf> {
    packages_in(&package_dir(suite))
}

fn package_dir(suite: &str) -> PathBuf {
    cache_dir().join("packages").join(suite)
}

/// Puts the suite's etcd binaries into a directory.
pub(super) fn fetch(suite: &str, target: &Path) -> Result<()> {
    let packages = download(suite)?;
    let unpacked = tempfile::tempdir().at(|| "make a temporary directory".to_owned())?;
    for package in packages {
        sys::run(
            sys::program("dpkg", ["-x"])
                .arg(&package)
                .arg(unpacked.path()),
        )?;
    }
    for name in super::pack::BINARIES {
        let from = unpacked.path().join("usr/bin").join(name);
        if from.is_file() {
            fs::copy(&from, target.join(name)).at(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// Downloads the packages unless they are there. apt's own lists are not touched.
fn download(suite: &str) -> Result<Vec<PathBuf>> {
    let dir = package_dir(suite);
    let present = packages_in(&dir);
    if present.len() == PACKAGES.len() {
        return Ok(present);
    }
    let apt = Apt::of(suite)?;
    let mut words = vec!["download"];
    words.extend(PACKAGES);
    apt.run(&words)?;
    let downloaded = packages_in(&apt.packages());
    if downloaded.len() != PACKAGES.len() {
        return Err(Error::Other(format!(
            "Debian {suite} has no {} for this machine any more",
            PACKAGES.join(" and ")
        )));
    }
    keep(&downloaded, &dir)?;
    Ok(packages_in(&dir))
}

/// The packages that a root file system of the suite lacks for these names to be installed in it. They are downloaded
/// unless they are there.
pub(crate) fn missing(suite: &str, root: &Path, names: &[&str], dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let apt = Apt::of(suite)?;
    let status = format!(
        "Dir::State::status={}",
        root.join("var/lib/dpkg/status").display()
    );
    let archives = format!("Dir::Cache::archives={}", apt.packages().display());
    let mut words = vec!["-y", "--download-only", "--no-install-recommends"];
    words.extend(["-o", &status, "-o", &archives, "install"]);
    words.extend(names);
    apt.run(&words)?;
    keep(&packages_in(&apt.packages()), dir)
}

/// Copies packages into a directory that is there with all of them or not at all.
fn keep(packages: &[PathBuf], dir: &Path) -> Result<()> {
    let building = dir.with_extension("building");
    sys::remove_tree(&building)?;
    sys::make_dir(&building)?;
    for package in packages {
        let name = package.file_name().unwrap_or_default();
        fs::copy(package, building.join(name)).at(|| format!("copy {}", package.display()))?;
    }
    sys::remove_tree(dir)?;
    fs::rename(&building, dir).at(|| format!("name {}", dir.display()))
}

/// The machine's apt with lists and caches of its own, for one suite.
struct Apt {
    work: TempDir,
}

impl Apt {
    fn of(suite: &str) -> Result<Self> {
        let work = tempfile::tempdir().at(|| "make a temporary directory".to_owned())?;
        let apt = Self { work };
        for made in [
            "packages/partial",
            "lists/partial",
            "cache/archives/partial",
        ] {
            sys::make_dir(&apt.at(made))?;
        }
        // apt drops root for downloads and must be able to write there.
        for opened in ["", "packages", "packages/partial", "lists", "lists/partial"] {
            sys::set_mode(&apt.at(opened), 0o777)?;
        }
        let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
        sys::write(&apt.at("sources.list"), source)?;
        apt.run(&["update"])?;
        Ok(apt)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Where downloads go.
    fn packages(&self) -> PathBuf {
        self.at("packages")
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        let mut command = sys::program("apt-get", ["-q", "-o", "Dir::Etc::sourceparts=-"]);
        for (option, name) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            let value = self.at(name);
            command
                .arg("-o")
                .arg(format!("{option}={}", value.display()));
        }
        sys::run(command.args(words).current_dir(self.packages())).map(drop)
    }
}

pub(crate) fn packages_in(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "deb"))
        .collect()
}

/// The Debian mirror in apt's own configuration: the one that has this machine's own suite.
fn mirror() -> Result<String> {
    let output = sys::run(&mut sys::program(
        "apt-get",
        [
            "indextargets",
            "--format",
            "$(ORIGIN) $(COMPONENT) $(RELEASE) $(REPO_URI)",
            "Created-By: Packages",
        ],
    ))?;
    pick_mirror(&sys::text(&output.stdout)).ok_or_else(|| {
        Error::Other(
            "apt knows no Debian mirror; configure one and run `apt-get update`".to_owned(),
        )
    })
}

fn pick_mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            // Updates and security have suites with a dash and mirrors of their own.
            ["Debian", "main", suite, uri] if !suite.contains('-') => Some((*uri).to_owned()),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::pick_mirror;

    #[test]
    fn the_mirror_is_that_of_the_suite_itself() {
        let targets = "Other main nodistro https://node.invalid/\n\
                       Debian main bookworm-security http://security.invalid/debian-security/\n\
                       Debian main bookworm http://mirror.invalid/debian/\n";
        assert_eq!(
            pick_mirror(targets).as_deref(),
            Some("http://mirror.invalid/debian/")
        );
        assert_eq!(pick_mirror(""), None);
    }
}
