//! The release archive on the operator's side: fetched once, verified, and looked into.
//!
//! An archive is named by a URL or a path with `{version}` and `{arch}` in it and verified against a
//! digest of the cluster file or a `SHA256SUMS`. What came over the network is kept in a cache under
//! its digest; a plan that finds everything there makes no network access and hashes nothing.
//!
//! ```text
//! CACHE/archives/<sha256>.tar.gz    the archive
//! CACHE/archives/<sha256>.json      its size and times when it was hashed, and the binaries' digests
//! CACHE/archives/<sha256>.lock      held while it is downloaded
//! CACHE/sums/<sha256 of the URL>    the SHA256SUMS that verified an archive
//! CACHE/local/<sha256 of the path>.json  the same record for an archive that lies elsewhere
//! ```
//!
//! Proxies are taken from `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, as curl does;
//! servers are verified against the system's certificate store.

mod cache;
mod contents;
mod digest;
mod error;
mod fetch;
mod http;
mod location;
mod sums;

use std::path::{Path, PathBuf};

use crate::desired::model::Install;
use crate::observed::ArchiveFact;

pub use error::ArtifactError;
pub use fetch::Fetcher;
pub use http::Limits;
pub use sums::{Line, lines};

/// A verified archive on the operator's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The file to upload.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest and those of the binaries in it.
    pub fact: ArchiveFact,
}

/// The archive of a version for an architecture (`amd64`, `arm64`), from the cache or its location.
///
/// [`Fetcher`] does the same with progress and other limits. It blocks: async callers run it on a
/// thread of its own.
///
/// # Errors
/// Each names the location, what is wrong with it and what to do.
pub fn fetch(
    install: &Install,
    version: &semver::Version,
    arch: &str,
    base_dir: &Path,
    cache: &Path,
) -> Result<Archive, ArtifactError> {
    Fetcher::new(base_dir, cache).fetch(install, version, arch, &mut |_, _| {})
}

/// `$XDG_CACHE_HOME/quorate`, else `~/.cache/quorate`; nothing when there is no home directory.
pub fn default_cache() -> Option<PathBuf> {
    cache_dir(
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from),
        std::env::home_dir(),
    )
}

fn cache_dir(xdg: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    // The specification has relative paths ignored.
    xdg.filter(|dir| dir.is_absolute())
        .or_else(|| {
            home.filter(|dir| dir.is_absolute())
                .map(|home| home.join(".cache"))
        })
        .map(|dir| dir.join("quorate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_xdg_says() {
        let dir = |xdg: Option<&str>, home: Option<&str>| {
            cache_dir(xdg.map(PathBuf::from), home.map(PathBuf::from))
        };
        assert_eq!(dir(Some("/x"), Some("/h")), Some("/x/quorate".into()));
        assert_eq!(dir(Some("x"), Some("/h")), Some("/h/.cache/quorate".into()));
        assert_eq!(dir(Some(""), Some("/h")), Some("/h/.cache/quorate".into()));
        assert_eq!(dir(None, Some("")), None);
    }
}
