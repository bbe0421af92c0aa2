//! From `[etcd.install]` to a verified archive.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::cache::{Cache, Local, failed, unreadable};
use super::contents::Machine;
use super::digest::{self, CopyError};
use super::error::ArtifactError;
use super::http::{self, Limits};
use super::location::Location;
use super::{Archive, sums};
use crate::desired::model::{Checksum, Install};

/// Resolves archives: the directory of the cluster file, the cache, and bounds.
#[derive(Debug, Clone, Copy)]
pub struct Fetcher<'a> {
    base_dir: &'a Path,
    cache: Cache<'a>,
    limits: Limits,
}

/// The digest that an archive should have, and whose word that is.
struct Expected {
    sha256: String,
    said_by: String,
    /// URL and text of sums that are not in the cache yet.
    fresh: Option<(String, String)>,
}

/// One request: what is resolved of it before anything is fetched.
struct Wanted<'a> {
    location: Location,
    checksum: &'a Checksum,
    version: &'a semver::Version,
    machine: Machine,
}

impl<'a> Fetcher<'a> {
    /// Relative paths start at `base_dir`; `cache` is made when it is needed.
    pub fn new(base_dir: &'a Path, cache: &'a Path) -> Self {
        Self {
            base_dir,
            cache: Cache { dir: cache },
            limits: Limits::default(),
        }
    }

    /// With other bounds.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The archive of a version for an architecture (`amd64`, `arm64`).
    ///
    /// `progress` is called while an archive is downloaded, with the bytes that are there and, if the
    /// server tells, their final number.
    ///
    /// # Errors
    /// Each names the location, what is wrong with it and what to do.
    pub fn fetch(
        &self,
        install: &Install,
        version: &semver::Version,
        arch: &str,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Archive, ArtifactError> {
        let Install::Archive { location, checksum } = install else {
            return Err(ArtifactError::NoArchive);
        };
        let machine = Machine::of(arch).ok_or_else(|| ArtifactError::Architecture {
            arch: arch.to_owned(),
        })?;
        let wanted = Wanted {
            location: Location::resolve(location, version, machine.arch, self.base_dir)?,
            checksum,
            version,
            machine,
        };
        match &wanted.location {
            Location::Path(path) => self.local(&wanted, path),
            Location::Url(url) => self.remote(&wanted, url, progress),
        }
    }

    fn local(&self, wanted: &Wanted<'_>, path: &Path) -> Result<Archive, ArtifactError> {
        let local = self.cache.local(path, wanted.machine)?;
        let found = match &local {
            Local::Known(archive) => &archive.fact.sha256,
            Local::Hashed(unread) => &unread.sha256,
        };
        let known = self.known(wanted)?;
        let fresh = match known.filter(|known| known.sha256 == *found) {
            Some(_) => None,
            None => {
                let expected = self.expected(wanted)?;
                verify(wanted, &expected, found)?;
                expected.fresh
            }
        };
        let archive = match local {
            Local::Known(archive) => archive,
            Local::Hashed(unread) => self.cache.remember(unread, wanted.machine)?,
        };
        self.keep_sums(fresh);
        Ok(archive)
    }

    fn remote(
        &self,
        wanted: &Wanted<'_>,
        url: &str,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Archive, ArtifactError> {
        if let Some(known) = self.known(wanted)?
            && let Some(archive) = self.cache.find(&known.sha256, wanted.machine)?
        {
            return Ok(archive);
        }
        let expected = self.expected(wanted)?;
        let _lock = self.cache.lock(&expected.sha256)?;
        // Another process may have brought it in the meantime.
        let archive = match self.cache.find(&expected.sha256, wanted.machine)? {
            Some(archive) => archive,
            None => self.cache.keep(
                &wanted.location.to_string(),
                &expected.sha256,
                wanted.machine,
                &mut |file| self.download(url, file, progress),
                &|found| verify(wanted, &expected, found),
            )?,
        };
        self.keep_sums(expected.fresh);
        Ok(archive)
    }

    /// The digest, as far as it is known without the network.
    fn known(&self, wanted: &Wanted<'_>) -> Result<Option<Expected>, ArtifactError> {
        let Checksum::Sums(template) = wanted.checksum else {
            return self.expected(wanted).map(Some);
        };
        match self.resolve(template, wanted)? {
            Location::Path(_) => self.expected(wanted).map(Some),
            Location::Url(url) => Ok(self.cache.sums(&url).and_then(|text| {
                let file = wanted.location.file_name();
                let sha256 = sums::look_up(&text, &file, &url).ok()?;
                Some(Expected {
                    sha256,
                    said_by: url,
                    fresh: None,
                })
            })),
        }
    }

    /// The digest, from the network if it is there.
    fn expected(&self, wanted: &Wanted<'_>) -> Result<Expected, ArtifactError> {
        let template = match wanted.checksum {
            Checksum::Sha256(digests) => {
                let arch = wanted.machine.arch;
                let sha256 = digests.get(arch).or_else(|| digests.get("*"));
                return match sha256 {
                    Some(sha256) => Ok(Expected {
                        sha256: checked(sha256, wanted)?,
                        said_by: "[etcd.install]".to_owned(),
                        fresh: None,
                    }),
                    None => Err(ArtifactError::NoDigest {
                        location: wanted.location.to_string(),
                        arch: arch.to_owned(),
                    }),
                };
            }
            Checksum::Sums(template) => template,
        };
        let location = self.resolve(template, wanted)?;
        let (text, fresh) = match &location {
            Location::Path(path) => (self.read_sums(path)?, None),
            Location::Url(url) => {
                let text = self.download_sums(url)?;
                (text.clone(), Some((url.clone(), text)))
            }
        };
        let said_by = location.to_string();
        Ok(Expected {
            sha256: sums::look_up(&text, &wanted.location.file_name(), &said_by)?,
            said_by,
            fresh,
        })
    }

    fn resolve(&self, template: &str, wanted: &Wanted<'_>) -> Result<Location, ArtifactError> {
        Location::resolve(template, wanted.version, wanted.machine.arch, self.base_dir)
    }

    fn read_sums(&self, path: &Path) -> Result<String, ArtifactError> {
        let file = File::open(path).map_err(|source| ArtifactError::Read {
            path: path.to_owned(),
            source,
            remedy: "put the SHA256SUMS there, or give `sha256` in [etcd.install]",
        })?;
        let mut bytes = Vec::new();
        file.take(sums::LARGEST + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable(path))?;
        if bytes.len() as u64 > sums::LARGEST {
            return Err(ArtifactError::TooLarge {
                location: path.display().to_string(),
                largest: sums::LARGEST,
            });
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn download_sums(&self, url: &str) -> Result<String, ArtifactError> {
        let mut bytes = Vec::new();
        self.transfer(
            url,
            &mut bytes,
            sums::LARGEST,
            Path::new(""),
            &mut |_, _| {},
        )?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn download(
        &self,
        url: &str,
        file: &mut File,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<String, ArtifactError> {
        let dir = self.cache.dir.join("archives");
        self.transfer(url, file, self.limits.largest, &dir, progress)
    }

    /// Downloads to `to`, which is in `dir`; the digest of it.
    fn transfer(
        &self,
        url: &str,
        to: &mut impl std::io::Write,
        largest: u64,
        dir: &Path,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<String, ArtifactError> {
        let too_large = || ArtifactError::TooLarge {
            location: Location::Url(url.to_owned()).to_string(),
            largest,
        };
        let (mut body, size) = http::open(url, &self.limits)?;
        if size.is_some_and(|size| size > largest) {
            return Err(too_large());
        }
        let copied = digest::copy(&mut body, to, largest, &mut |done| progress(done, size));
        let (sha256, done) = copied.map_err(|error| match error {
            CopyError::Read(error) => http::failure(url, &ureq::Error::from(error)),
            CopyError::Write(error) => failed("write to", dir)(error),
            CopyError::TooLarge => too_large(),
        })?;
        match size {
            Some(size) if size != done => Err(http::cut_off(url, done, size)),
            _ => Ok(sha256),
        }
    }

    /// Sums that cannot be kept are fetched again, which costs time and nothing else.
    fn keep_sums(&self, fresh: Option<(String, String)>) {
        if let Some((url, text)) = fresh {
            let _ = self.cache.keep_sums(&url, &text);
        }
    }
}

/// The digest becomes a file name, so it has to be one.
fn checked(sha256: &str, wanted: &Wanted<'_>) -> Result<String, ArtifactError> {
    if sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(sha256.to_ascii_lowercase())
    } else {
        Err(ArtifactError::Location {
            location: wanted.location.to_string(),
            why: "its `sha256` is not 64 hex digits",
        })
    }
}

fn verify(wanted: &Wanted<'_>, expected: &Expected, found: &str) -> Result<(), ArtifactError> {
    if expected.sha256 == found {
        return Ok(());
    }
    Err(ArtifactError::WrongChecksum {
        location: wanted.location.to_string(),
        said_by: expected.said_by.clone(),
        expected: expected.sha256.clone(),
        found: found.to_owned(),
    })
}
