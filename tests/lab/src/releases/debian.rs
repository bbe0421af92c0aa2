//! etcd from the packages of a Debian suite, by way of the mirror that this machine uses.

use std::fs;
use std::path::{Path, PathBuf};

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
    let work = tempfile::tempdir().at(|| "make a temporary directory".to_owned())?;
    let building = work.path().join("packages");
    for made in ["packages", "lists/partial", "cache/archives/partial"] {
        sys::make_dir(&work.path().join(made))?;
    }
    // apt drops root for downloads and must be able to write there.
    for opened in ["", "packages", "lists", "lists/partial"] {
        sys::set_mode(&work.path().join(opened), 0o777)?;
    }
    let list = work.path().join("sources.list");
    sys::write(
        &list,
        format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?),
    )?;
    let apt = |words: &[&str]| {
        let mut command = sys::program("apt-get", ["-q"]);
        command
            .arg("-o")
            .arg(format!("Dir::Etc::sourcelist={}", list.display()))
            .args(["-o", "Dir::Etc::sourceparts=-"])
            .arg("-o")
            .arg(format!(
                "Dir::State::lists={}",
                work.path().join("lists").display()
            ))
            .arg("-o")
            .arg(format!(
                "Dir::Cache={}",
                work.path().join("cache").display()
            ))
            .args(words)
            .current_dir(&building);
        sys::run(&mut command)
    };
    apt(&["update"])?;
    let mut words = vec!["download"];
    words.extend(PACKAGES);
    apt(&words)?;
    if packages_in(&building).len() != PACKAGES.len() {
        return Err(Error::Other(format!(
            "Debian {suite} has no {} for this machine any more",
            PACKAGES.join(" and ")
        )));
    }
    sys::make_dir(&dir)?;
    for package in packages_in(&building) {
        let name = package.file_name().unwrap_or_default();
        fs::copy(&package, dir.join(name)).at(|| format!("copy {}", package.display()))?;
    }
    Ok(packages_in(&dir))
}

fn packages_in(dir: &Path) -> Vec<PathBuf> {
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
