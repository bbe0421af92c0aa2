//! A server that answers as told, archives, and a place for the cache.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use quorate::artifact::{Archive, ArtifactError, Fetcher, Limits};
use quorate::desired::model::{Checksum, Install};
use sha2::{Digest, Sha256};

/// What the server does when a path is asked for.
#[derive(Clone)]
pub enum Answer {
    /// The whole body.
    Body(Vec<u8>),
    /// A status without body.
    Status(&'static str),
    /// A redirection.
    Redirect(String),
    /// Announces everything and closes after this many bytes.
    CutOff(Vec<u8>, usize),
    /// The whole body in chunks, the last of which is missing.
    Unfinished(Vec<u8>),
    /// Sends this many bytes and then nothing, for a while.
    Stall(Vec<u8>, usize),
    /// Announces this size and sends nothing.
    Announce(u64),
    /// A byte now and then.
    Trickle,
}

/// A server on 127.0.0.1 that remembers what was asked for.
pub struct Server {
    address: SocketAddr,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            answers: Arc::default(),
            requests: Arc::default(),
        };
        let (answers, requests) = (server.answers.clone(), server.requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answers, requests) = (answers.clone(), requests.clone());
                thread::spawn(move || drop(answer(stream, &answers, &requests)));
            }
        });
        server
    }

    pub fn put(&self, path: &str, answer: Answer) {
        self.answers
            .lock()
            .expect("no panic")
            .insert(path.to_owned(), answer);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Paths asked for since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().expect("no panic"))
    }
}

fn answer(
    mut stream: TcpStream,
    answers: &Mutex<BTreeMap<String, Answer>>,
    requests: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    requests.lock().expect("no panic").push(path.clone());
    let answer = answers.lock().expect("no panic").get(&path).cloned();
    let mut head = |status: &str, more: &str| {
        write!(
            stream,
            "HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n"
        )
    };
    let length = |size: u64| format!("Content-Length: {size}\r\n");
    match answer.unwrap_or(Answer::Status("404 Not Found")) {
        Answer::Body(body) => {
            head("200 OK", &length(body.len() as u64))?;
            stream.write_all(&body)
        }
        Answer::Status(status) => head(status, &length(0)),
        Answer::Redirect(to) => head(
            "302 Found",
            &format!("Location: {to}\r\nContent-Length: 0\r\n"),
        ),
        Answer::CutOff(body, at) => {
            head("200 OK", &length(body.len() as u64))?;
            stream.write_all(&body[..at])
        }
        Answer::Unfinished(body) => {
            head("200 OK", "Transfer-Encoding: chunked\r\n")?;
            write!(stream, "{:x}\r\n", body.len())?;
            stream.write_all(&body)?;
            write!(stream, "\r\n")
        }
        Answer::Stall(body, at) => {
            head("200 OK", &length(body.len() as u64))?;
            stream.write_all(&body[..at])?;
            thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Answer::Announce(size) => head("200 OK", &length(size)),
        Answer::Trickle => {
            head("200 OK", &length(1000))?;
            for _ in 0..1000 {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        }
    }
}

/// The beginning of an ELF file for `amd64` or `arm64`, and something after it.
pub fn elf(arch: &str) -> Vec<u8> {
    let machine: u16 = if arch == "amd64" { 62 } else { 183 };
    let mut bytes: Vec<u8> = (0..200_000u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes
}

/// A release archive.
pub fn release(arch: &str) -> Vec<u8> {
    pack(&[
        ("README.md", b"read me".to_vec()),
        ("etcd", elf(arch)),
        ("etcdctl", b"ctl".to_vec()),
        ("etcdutl", b"utl".to_vec()),
    ])
}

/// A tar.gz with these files in one directory.
pub fn pack(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder
            .append_data(&mut header, format!("etcd-v3/{name}"), content.as_slice())
            .expect("appended");
    }
    builder
        .into_inner()
        .and_then(GzEncoder::finish)
        .expect("packed")
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// `[etcd.install]` with one digest.
pub fn with_digest(location: &str, sha256: &str) -> Install {
    with_digests(location, &[("*", sha256)])
}

/// `[etcd.install]` with a table of digests.
pub fn with_digests(location: &str, digests: &[(&str, &str)]) -> Install {
    let digests = digests
        .iter()
        .map(|(arch, digest)| ((*arch).to_owned(), (*digest).to_owned()));
    Install::Archive {
        location: location.to_owned(),
        checksum: Checksum::Sha256(digests.collect()),
    }
}

/// `[etcd.install]` with sums.
pub fn with_sums(location: &str, sums: &str) -> Install {
    Install::Archive {
        location: location.to_owned(),
        checksum: Checksum::Sums(sums.to_owned()),
    }
}

/// An operator's side: the directory of the cluster file, and a cache.
pub struct Side {
    pub dir: tempfile::TempDir,
    pub limits: Limits,
}

impl Side {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            limits: Limits::default(),
        }
    }

    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("cache/quorate")
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    pub fn fetch(&self, install: &Install, arch: &str) -> Result<Archive, ArtifactError> {
        let version = semver::Version::new(3, 5, 16);
        Fetcher::new(self.dir.path(), &self.cache())
            .limits(self.limits)
            .fetch(install, &version, arch, &mut |_, _| {})
    }

    /// The error of a fetch, as people see it.
    pub fn refused(&self, install: &Install, arch: &str) -> String {
        self.fetch(install, arch).expect_err("an error").to_string()
    }

    /// Everything in the cache but empty lock files.
    pub fn kept(&self) -> Vec<String> {
        let mut names = Vec::new();
        for part in ["archives", "sums", "local"] {
            for entry in std::fs::read_dir(self.cache().join(part))
                .into_iter()
                .flatten()
            {
                let name = entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("UTF-8");
                if !name.ends_with(".lock") {
                    names.push(format!("{part}/{name}"));
                }
            }
        }
        names.sort();
        names
    }
}
