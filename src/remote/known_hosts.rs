//! `known_hosts` files, read line by line: what cannot be understood spoils nothing else.
//!
//! The format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A line's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Revoked,
    Authority,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

/// One line that could be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    file: usize,
    line: usize,
    mark: Mark,
    names: Names,
    key_type: String,
    key: Vec<u8>,
}

/// Where a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// Counted from 1.
    pub(super) line: usize,
}

/// What the files say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This host has this key.
    Known,
    /// No line is about this host. `authority` says that a `@cert-authority` line is.
    Unknown { authority: bool },
    /// This host has other keys, the first of them here.
    Changed(Place),
    /// The key is marked as revoked here.
    Revoked(Place),
}

/// The lines of all files.
#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    files: Vec<PathBuf>,
    entries: Vec<Entry>,
}

impl KnownHosts {
    /// Reads the files that are there.
    ///
    /// # Errors
    /// A file is there but cannot be read.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, (PathBuf, std::io::Error)> {
        let mut known = Self::default();
        for file in files {
            match std::fs::read(file) {
                Ok(bytes) => known.add(file.clone(), &String::from_utf8_lossy(&bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err((file.clone(), error)),
            }
        }
        Ok(known)
    }

    fn add(&mut self, path: PathBuf, text: &str) {
        let file = self.files.len();
        self.files.push(path);
        let lines = text.lines().enumerate();
        self.entries
            .extend(lines.filter_map(|(at, line)| parse(line, file, at + 1)));
    }

    /// Key types that are known for the host, in the order of the files.
    pub(super) fn key_types(&self, host: &str, port: u16) -> Vec<&str> {
        let mut types: Vec<&str> = Vec::new();
        for entry in self.plain(host, port) {
            if !types.contains(&entry.key_type.as_str()) {
                types.push(&entry.key_type);
            }
        }
        types
    }

    /// Judges the key that the host shows.
    pub(super) fn judge(&self, host: &str, port: u16, key: &[u8]) -> Verdict {
        let names = names(host, port);
        let about = |entry: &&Entry| names.iter().any(|name| entry.is_about(name));
        let revoked = self
            .entries
            .iter()
            .filter(|entry| entry.mark == Mark::Revoked && entry.key == key)
            .find(about);
        if let Some(entry) = revoked {
            return Verdict::Revoked(self.place(entry));
        }
        let exact: Vec<&Entry> = self.exact(&names[0]).collect();
        if exact.iter().any(|entry| entry.key == key) {
            return Verdict::Known;
        }
        if let Some(entry) = exact.first() {
            return Verdict::Changed(self.place(entry));
        }
        // As OpenSSH: a line without port vouches for the same key on another port, but says
        // nothing against a different one, which may be another machine's.
        if self.plain(host, port).any(|entry| entry.key == key) {
            return Verdict::Known;
        }
        let authority = self
            .entries
            .iter()
            .filter(|entry| entry.mark == Mark::Authority)
            .any(|entry| about(&entry));
        Verdict::Unknown { authority }
    }

    /// Lines for the host with its port, else those without port.
    fn plain<'a>(&'a self, host: &str, port: u16) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let names = names(host, port);
        let name = names
            .iter()
            .find(|name| self.exact(name).next().is_some())
            .unwrap_or(&names[0])
            .clone();
        self.entries
            .iter()
            .filter(move |entry| entry.mark == Mark::None && entry.is_about(&name))
    }

    fn exact<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Entry> + 'a {
        self.entries
            .iter()
            .filter(move |entry| entry.mark == Mark::None && entry.is_about(name))
    }

    fn place(&self, entry: &Entry) -> Place {
        Place {
            file: self.files.get(entry.file).cloned().unwrap_or_default(),
            line: entry.line,
        }
    }
}

/// The names a host goes by: with its port when that is not 22, then without.
fn names(host: &str, port: u16) -> Vec<String> {
    let host = host.to_ascii_lowercase();
    if port == 22 {
        vec![host]
    } else {
        vec![format!("[{host}]:{port}"), host]
    }
}

impl Entry {
    fn is_about(&self, name: &str) -> bool {
        match &self.names {
            Names::Patterns(patterns) => matches_list(patterns, name),
            Names::Hashed { salt, hash } => {
                let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(salt) else {
                    return false;
                };
                mac.update(name.as_bytes());
                mac.verify_slice(hash).is_ok()
            }
        }
    }
}

/// A list matches if a pattern does, and none that is negated.
fn matches_list(patterns: &[String], name: &str) -> bool {
    let mut matched = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern, name) => return false,
            Some(_) => {}
            None => matched |= matches(pattern, name),
        }
    }
    matched
}

/// `*` stands for any characters, `?` for one. Linear in both lengths times the stars, never worse
/// than quadratic.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    n = from + 1;
                    star = Some((at, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

fn parse(line: &str, file: usize, number: usize) -> Option<Entry> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let mut first = words.next()?;
    let mark = match first {
        "@revoked" => Mark::Revoked,
        "@cert-authority" => Mark::Authority,
        other if other.starts_with('@') => return None,
        _ => Mark::None,
    };
    if mark != Mark::None {
        first = words.next()?;
    }
    let names = match first.strip_prefix("|1|") {
        Some(hashed) => {
            let (salt, hash) = hashed.split_once('|')?;
            Names::Hashed {
                salt: STANDARD.decode(salt).ok()?,
                hash: STANDARD.decode(hash).ok()?,
            }
        }
        None => Names::Patterns(
            first
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        ),
    };
    let key_type = words.next()?.to_owned();
    let key = STANDARD.decode(words.next()?).ok()?;
    // The key says its own type; a line that contradicts it is not to be trusted.
    (self::key_type(&key)? == key_type).then_some(Entry {
        file,
        line: number,
        mark,
        names,
        key_type,
        key,
    })
}

/// The type that an encoded public key begins with.
pub(super) fn key_type(key: &[u8]) -> Option<&str> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let name = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    std::str::from_utf8(name).ok()
}

/// `SHA256:` and base64, as OpenSSH shows it.
pub(super) fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

/// Appends a line for a new host. A file that is not there is created for its owner alone.
pub(super) fn append(file: &Path, host: &str, port: u16, key: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(directory) = file
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)?;
    let mut text = String::new();
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            text.push('\n');
        }
    }
    let name = &names(host, port)[0];
    let kind = key_type(key).unwrap_or("unknown");
    text.push_str(&format!("{name} {kind} {}\n", STANDARD.encode(key)));
    // One write, so that parallel hosts do not mix.
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
#[path = "known_hosts_tests.rs"]
mod tests;
