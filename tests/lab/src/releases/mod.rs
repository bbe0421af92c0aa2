//! etcd binaries from where they can be had, packed as upstream packs its releases.
//!
//! `CACHE/binaries/VERSION/` holds `etcd`, `etcdctl` and, where the source has it, `etcdutl`;
//! `CACHE/releases/` one `etcd-vVERSION-linux-ARCH.tar.gz` for each and their `SHA256SUMS`.

pub(crate) mod debian;
mod golang;
mod pack;

use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::cache_dir;
use crate::error::{Context, Error, Result};
use crate::sys;

/// One version of etcd in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The version, `3.5.16`.
    pub version: String,
    /// The tarball in upstream's layout.
    pub tarball: PathBuf,
    /// The directory with the binaries themselves.
    pub dir: PathBuf,
}

/// Where a version comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The packages of a Debian suite.
    Debian(&'static str),
    /// Built from the module proxy; the prefix of the versions meant.
    Go(&'static str),
}

/// What can be made, by the name under which it is asked for, and whether `lab setup` does.
const RECIPES: &[(&str, Source, bool)] = &[
    ("3.4", Source::Debian("bookworm"), true),
    ("3.5", Source::Debian("trixie"), true),
    ("3.5-latest", Source::Debian("sid"), false),
    ("3.6", Source::Go("3.6"), false),
    ("3.7", Source::Go("3.7"), false),
];

/// The version that tests take where they do not name one: `QUORATE_TEST_ETCD`, else 3.5.16.
pub fn tested() -> String {
    std::env::var("QUORATE_TEST_ETCD").unwrap_or_else(|_| "3.5.16".into())
}

/// The directory that the lab's file server serves.
pub fn dir() -> PathBuf {
    cache_dir().join("releases")
}

/// The releases in the cache, oldest first.
pub fn available() -> Vec<Release> {
    let mut versions: Vec<String> = fs::read_dir(binaries_dir())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    versions.sort_by_key(|version| order(version));
    versions
        .into_iter()
        .map(release)
        .filter(|release| release.tarball.is_file())
        .collect()
}

/// The newest release in the cache whose version is this or begins with it: `3.5.16`, `3.5`.
pub fn find(version: &str) -> Result<Release> {
    let releases = available();
    let matching = releases
        .iter()
        .rev()
        .find(|release| matches(&release.version, version));
    matching.cloned().ok_or_else(|| Error::NoSuchRelease {
        version: version.to_owned(),
        known: list(releases.iter().map(|release| release.version.as_str())),
    })
}

/// [`find`], after making the release if it is not in the cache; this may take minutes.
pub fn ensure(wanted: &str) -> Result<Release> {
    match recipe(wanted) {
        Some((name, source)) => make(name, source),
        None => find(wanted),
    }
}

/// Makes all releases that `lab setup` makes; the versions there are then.
pub fn ensure_default() -> Result<Vec<Release>> {
    for (name, source, default) in RECIPES {
        if *default {
            make(name, *source)?;
        }
    }
    Ok(available())
}

/// The names that [`ensure`] can make releases for.
pub fn recipes() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|(name, ..)| *name)
}

/// The Debian packages in the cache, of all suites.
pub(crate) fn debian_packages() -> Vec<PathBuf> {
    let suites = RECIPES.iter().filter_map(|(_, source, _)| match source {
        Source::Debian(suite) => Some(*suite),
        Source::Go(_) => None,
    });
    suites.flat_map(debian::packages).collect()
}

/// The recipe for a name or for a version of its line that is not in the cache.
fn recipe(wanted: &str) -> Option<(&'static str, Source)> {
    let exact = RECIPES.iter().find(|(name, ..)| *name == wanted);
    let line = || {
        find(wanted)
            .is_err()
            .then(|| RECIPES.iter().find(|(name, ..)| matches(wanted, name)))?
    };
    exact
        .or_else(line)
        .map(|(name, source, _)| (*name, *source))
}

fn make(name: &str, source: Source) -> Result<Release> {
    let binaries = binaries_dir();
    sys::make_dir(&binaries)?;
    let _lock = sys::lock(&binaries.join(".lock"))?;
    // What a recipe gave is noted, since the suite or the proxy decides the exact version.
    let note = binaries.join(format!(".{name}"));
    let known = fs::read_to_string(&note)
        .ok()
        .map(|text| text.trim().to_owned());
    let version = match known {
        Some(version) if binaries.join(&version).join("etcd").is_file() => version,
        _ => {
            let building = tempfile::Builder::new()
                .prefix(".making-")
                .tempdir_in(&binaries)
                .at(|| format!("make a directory in {}", binaries.display()))?;
            let target = building.path().join("bin");
            sys::make_dir(&target)?;
            match source {
                Source::Debian(suite) => debian::fetch(suite, &target)?,
                Source::Go(line) => golang::build(line, building.path(), &target)?,
            }
            let version = own_version(&target)?;
            let place = binaries.join(&version);
            sys::remove_tree(&place)?;
            fs::rename(&target, &place).at(|| format!("name {}", place.display()))?;
            sys::write(&note, format!("{version}\n"))?;
            version
        }
    };
    let release = release(version);
    pack::pack(&release)?;
    pack::checksums(&dir())?;
    Ok(release)
}

/// The version that the binary itself claims.
fn own_version(binaries: &Path) -> Result<String> {
    let output = sys::run(&mut sys::program(
        &binaries.join("etcd").to_string_lossy(),
        ["--version"],
    ))?;
    let text = sys::text(&output.stdout);
    text.lines()
        .find_map(|line| line.strip_prefix("etcd Version: "))
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| Error::Other(format!("etcd --version says no version: {text}")))
}

fn release(version: String) -> Release {
    Release {
        tarball: dir().join(format!("{}.tar.gz", pack::top(&version))),
        dir: binaries_dir().join(&version),
        version,
    }
}

fn binaries_dir() -> PathBuf {
    cache_dir().join("binaries")
}

fn matches(version: &str, wanted: &str) -> bool {
    version
        .strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
}

fn order(version: &str) -> Vec<u64> {
    version
        .split(['.', '-', '+'])
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::{matches, order};

    #[test]
    fn a_prefix_matches_whole_parts_only() {
        assert!(matches("3.5.16", "3.5"));
        assert!(matches("3.5.16", "3.5.16"));
        assert!(!matches("3.5.16", "3.5.1"));
        assert!(order("3.5.9") < order("3.5.16"));
    }
}
