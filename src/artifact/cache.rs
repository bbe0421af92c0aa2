//! What is kept between runs. Everything in it can be deleted at any time.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::contents::{self, Machine};
use super::digest::{self, CopyError};
use super::error::ArtifactError;
use super::{Archive, sums};
use crate::observed::ArchiveFact;

/// A record is a few hundred bytes.
const LARGEST_RECORD: u64 = 64 * 1024;

/// The directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cache<'a> {
    pub(super) dir: &'a Path,
}

/// What was learnt of an archive when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    stamp: Stamp,
    arch: String,
    sha256: String,
    binaries: BTreeMap<String, String>,
}

/// A file with the same stamp has the same content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    inode: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            size: metadata.len(),
            inode: metadata.ino(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Record {
    fn archive(self, path: PathBuf) -> Archive {
        Archive {
            path,
            size: self.stamp.size,
            fact: ArchiveFact {
                sha256: self.sha256,
                binaries: self.binaries,
            },
        }
    }
}

/// What is known of a local archive.
pub(super) enum Local {
    /// Remembered, with everything.
    Known(Archive),
    /// Hashed just now, not looked into.
    Hashed(Unread),
}

/// A local archive that was hashed and not looked into.
pub(super) struct Unread {
    path: PathBuf,
    stamp: Stamp,
    pub(super) sha256: String,
}

impl Cache<'_> {
    /// The archive of this digest, if it is there. A file that changed since it was hashed is hashed again.
    pub(super) fn find(
        &self,
        sha256: &str,
        machine: Machine,
    ) -> Result<Option<Archive>, ArtifactError> {
        let path = self.archive(sha256);
        let Ok(metadata) = fs::metadata(&path) else {
            return Ok(None);
        };
        let stamp = Stamp::of(&metadata);
        let record_path = self.record(sha256);
        if let Some(record) = read_record(&record_path)
            && record.stamp == stamp
            && record.arch == machine.arch
            && record.sha256 == sha256
        {
            return Ok(Some(record.archive(path)));
        }
        match hash(&path) {
            Ok(found) if found == sha256 => {}
            // What cannot be read or is another file will be replaced.
            _ => return Ok(None),
        }
        let record = look_into(&path, &path.display().to_string(), stamp, sha256, machine)?;
        // Not being able to remember costs time in the next run, nothing else.
        let _ = self.write_record(&record_path, &record);
        Ok(Some(record.archive(path)))
    }

    /// Verifies and keeps what `fill` writes, which returns the digest of what it wrote.
    ///
    /// `verify` sees the digest before anything is looked into or kept.
    pub(super) fn keep(
        &self,
        location: &str,
        sha256: &str,
        machine: Machine,
        fill: &mut dyn FnMut(&mut File) -> Result<String, ArtifactError>,
        verify: &dyn Fn(&str) -> Result<(), ArtifactError>,
    ) -> Result<Archive, ArtifactError> {
        let dir = self.make("archives")?;
        let prefix = format!(".{sha256}.part-");
        let mut temporary = tempfile::Builder::new()
            .prefix(&prefix)
            .tempfile_in(&dir)
            .map_err(failed("create a file in", &dir))?;
        verify(&fill(temporary.as_file_mut())?)?;
        let written = temporary.as_file();
        written
            .sync_all()
            .map_err(failed("write", temporary.path()))?;
        let stamp = stamp_of(temporary.as_file(), temporary.path())?;
        let mut record = look_into(temporary.path(), location, stamp, sha256, machine)?;
        let path = self.archive(sha256);
        let file = temporary
            .persist(&path)
            .map_err(|error| failed("write", &path)(error.error))?;
        // The rename changed its time of change.
        record.stamp = stamp_of(&file, &path)?;
        let _ = self.write_record(&self.record(sha256), &record);
        Ok(record.archive(path))
    }

    /// Waits until no other process downloads this archive; dropping the file lets the next one in.
    ///
    /// Where the file system has no locks, both download, and the last rename wins.
    pub(super) fn lock(&self, sha256: &str) -> Result<Lock, ArtifactError> {
        let dir = self.make("archives")?;
        let path = dir.join(format!("{sha256}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed("create", &path))?;
        if rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).is_ok() {
            sweep(&dir, &format!(".{sha256}.part-"));
        }
        Ok(Lock { _file: file })
    }

    /// Sums that verified an archive before.
    pub(super) fn sums(&self, url: &str) -> Option<String> {
        read_small(&self.sums_path(url), sums::LARGEST)
    }

    /// Keeps sums, now that they have verified an archive.
    pub(super) fn keep_sums(&self, url: &str, text: &str) -> Result<(), ArtifactError> {
        self.make("sums")?;
        self.write(&self.sums_path(url), text.as_bytes())
    }

    /// An archive outside the cache: remembered, or hashed now.
    pub(super) fn local(&self, path: &Path, machine: Machine) -> Result<Local, ArtifactError> {
        let opened = File::open(path).and_then(|file| {
            let metadata = file.metadata()?;
            if metadata.is_file() {
                Ok((file, Stamp::of(&metadata)))
            } else {
                Err(io::Error::other("it is no regular file"))
            }
        });
        let (mut file, stamp) = opened.map_err(unreadable(path))?;
        if let Some(record) = read_record(&self.local_record(path))
            && record.stamp == stamp
            && record.arch == machine.arch
        {
            return Ok(Local::Known(record.archive(path.to_owned())));
        }
        let (sha256, _) =
            digest::copy(&mut file, &mut io::sink(), u64::MAX, &mut |_| {}).map_err(|error| {
                match error {
                    CopyError::Read(error) | CopyError::Write(error) => unreadable(path)(error),
                    CopyError::TooLarge => unreadable(path)(io::ErrorKind::FileTooLarge.into()),
                }
            })?;
        Ok(Local::Hashed(Unread {
            path: path.to_owned(),
            stamp,
            sha256,
        }))
    }

    /// Looks into a local archive whose digest was verified, and remembers it.
    pub(super) fn remember(
        &self,
        unread: Unread,
        machine: Machine,
    ) -> Result<Archive, ArtifactError> {
        let Unread {
            path,
            stamp,
            sha256,
        } = unread;
        let record = look_into(&path, &path.display().to_string(), stamp, &sha256, machine)?;
        if self.make("local").is_ok() {
            let _ = self.write_record(&self.local_record(&path), &record);
        }
        Ok(record.archive(path))
    }

    fn archive(&self, sha256: &str) -> PathBuf {
        self.dir.join("archives").join(format!("{sha256}.tar.gz"))
    }

    fn record(&self, sha256: &str) -> PathBuf {
        self.dir.join("archives").join(format!("{sha256}.json"))
    }

    fn sums_path(&self, url: &str) -> PathBuf {
        self.dir.join("sums").join(digest::of(url.as_bytes()))
    }

    fn local_record(&self, path: &Path) -> PathBuf {
        let name = digest::of(path.as_os_str().as_encoded_bytes());
        self.dir.join("local").join(format!("{name}.json"))
    }

    fn make(&self, name: &str) -> Result<PathBuf, ArtifactError> {
        let dir = self.dir.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(failed("create", &dir))?;
        Ok(dir)
    }

    fn write_record(&self, path: &Path, record: &Record) -> Result<(), ArtifactError> {
        let text = serde_json::to_vec(record).map_err(io::Error::from);
        self.write(path, &text.map_err(failed("write", path))?)
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), ArtifactError> {
        let dir = path.parent().unwrap_or(self.dir);
        let mut file = NamedTempFile::new_in(dir).map_err(failed("create a file in", dir))?;
        file.write_all(content).map_err(failed("write", path))?;
        match file.persist(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed("write", path)(error.error)),
        }
    }
}

/// Held while an archive is downloaded.
pub(super) struct Lock {
    _file: File,
}

/// Reads a small text file; nothing when it is not there or not what it should be.
fn read_small(path: &Path, largest: u64) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    let size = file.take(largest + 1).read_to_string(&mut text).ok()?;
    (size as u64 <= largest).then_some(text)
}

fn read_record(path: &Path) -> Option<Record> {
    serde_json::from_str(&read_small(path, LARGEST_RECORD)?).ok()
}

fn stamp_of(file: &File, path: &Path) -> Result<Stamp, ArtifactError> {
    file.metadata()
        .map(|metadata| Stamp::of(&metadata))
        .map_err(failed("examine", path))
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    match digest::copy(&mut file, &mut io::sink(), u64::MAX, &mut |_| {}) {
        Ok((digest, _)) => Ok(digest),
        Err(CopyError::Read(error) | CopyError::Write(error)) => Err(error),
        Err(CopyError::TooLarge) => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

fn look_into(
    path: &Path,
    location: &str,
    stamp: Stamp,
    sha256: &str,
    machine: Machine,
) -> Result<Record, ArtifactError> {
    let binaries = contents::binaries(path, machine).map_err(|why| ArtifactError::Contents {
        location: location.to_owned(),
        why,
        arch: machine.arch.to_owned(),
    })?;
    Ok(Record {
        stamp,
        arch: machine.arch.to_owned(),
        sha256: sha256.to_owned(),
        binaries,
    })
}

/// Removes what killed downloads left; only the holder of the lock may.
fn sweep(dir: &Path, prefix: &str) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// An error of the cache.
pub(super) fn failed<'p>(
    action: &'static str,
    path: &'p Path,
) -> impl FnOnce(io::Error) -> ArtifactError + use<'p> {
    move |source| ArtifactError::Cache {
        action,
        path: path.to_owned(),
        source,
    }
}

/// An error of a file that the cluster file names.
pub(super) fn unreadable(path: &Path) -> impl Fn(io::Error) -> ArtifactError + use<'_> {
    move |source| ArtifactError::Read {
        path: path.to_owned(),
        source,
        remedy: "check the path in [etcd.install]",
    }
}
