//! What can go wrong with an archive, with its location and the remedy.

use std::io;
use std::path::PathBuf;

/// Why there is no verified archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// `[etcd.install]` uses no archive.
    #[error("[etcd.install] names no archive: its method is another one")]
    NoArchive,
    /// An architecture that etcd's releases and Quorate do not know.
    #[error("no archive for `{arch}`: the supported architectures are amd64 and arm64")]
    Architecture {
        /// The architecture.
        arch: String,
    },
    /// The cluster file has digests, but none for this architecture.
    #[error("no checksum for {location}: add `{arch}` to `sha256` in [etcd.install]")]
    NoDigest {
        /// Location of the archive.
        location: String,
        /// The architecture.
        arch: String,
    },
    /// A location that cannot be used.
    #[error("cannot use {location}: {why}")]
    Location {
        /// The location.
        location: String,
        /// Why not, and what would do.
        why: &'static str,
    },
    /// A file of the operator's side cannot be read.
    #[error("cannot read {}: {source}; {remedy}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The cache cannot be written.
    #[error("cannot {action} {}: {source}; if the cache cannot be there, set XDG_CACHE_HOME to another directory", path.display())]
    Cache {
        /// What was attempted, such as `create`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The server refused, was not reached, or stopped answering.
    #[error("cannot fetch {location}: {why}; {remedy}")]
    Fetch {
        /// The URL, without its query.
        location: String,
        /// What happened.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// More than an archive can be.
    #[error(
        "{location} has more than {largest} bytes, so it is not what is looked for: check the location"
    )]
    TooLarge {
        /// The location.
        location: String,
        /// The bound in bytes.
        largest: u64,
    },
    /// A `SHA256SUMS` without the archive's line.
    #[error(
        "{sums} has no checksum of `{file}`{hint}: check version and architecture in the archive's location, or give `sha256` in [etcd.install]"
    )]
    NoEntry {
        /// Location of the sums.
        sums: String,
        /// File name of the archive.
        file: String,
        /// What else was seen there.
        hint: &'static str,
    },
    /// A `SHA256SUMS` that contradicts itself.
    #[error(
        "{sums} has two checksums of `{file}`: give the right one as `sha256` in [etcd.install]"
    )]
    TwoEntries {
        /// Location of the sums.
        sums: String,
        /// File name of the archive.
        file: String,
    },
    /// The archive is not the one that was meant.
    #[error(
        "{location} has the wrong checksum: {said_by} says sha256 {expected}, found {found}; nothing was kept: if the archive was released anew, correct the checksum, else do not use it"
    )]
    WrongChecksum {
        /// Location of the archive.
        location: String,
        /// Who says what it should be.
        said_by: String,
        /// The digest that it should have.
        expected: String,
        /// The digest that it has.
        found: String,
    },
    /// It has the right checksum and is no archive of etcd for this architecture.
    #[error("{location} is not usable: {why}; name an etcd release archive for linux-{arch}")]
    Contents {
        /// Location of the archive.
        location: String,
        /// What is wrong.
        why: String,
        /// The architecture that was wanted.
        arch: String,
    },
}
