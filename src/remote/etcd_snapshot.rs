//! Snapshots, streamed from a member into a file.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::etcd::EtcdClient;
use super::etcd_error::{EtcdError, EtcdErrorKind};

/// Longest silence within the stream.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes collected between writes.
const BATCH: usize = 1024 * 1024;
/// Length of the SHA-256 that etcd appends.
const DIGEST: usize = 32;

/// A snapshot that was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSnapshot {
    /// Size in bytes, with the SHA-256 that etcd appends.
    pub size: u64,
    /// SHA-256 of the data, hexadecimal, which equals the appended one.
    pub sha256: String,
    /// Version of the server, where it tells (3.6 and later).
    pub version: Option<String>,
}

/// The file being written. The digest lags by the last 32 bytes, which are to be the digest itself.
struct Sink {
    file: File,
    hash: Sha256,
    tail: Vec<u8>,
    size: u64,
}

impl Sink {
    fn take(mut self, batch: Vec<u8>) -> std::io::Result<Self> {
        self.file.write_all(&batch)?;
        self.size += batch.len() as u64;
        self.tail.extend_from_slice(&batch);
        let sure = self.tail.len().saturating_sub(DIGEST);
        self.hash.update(&self.tail[..sure]);
        self.tail.drain(..sure);
        Ok(self)
    }

    fn finish(self) -> std::io::Result<(u64, [u8; DIGEST], Vec<u8>)> {
        self.file.sync_all()?;
        Ok((self.size, self.hash.finalize().into(), self.tail))
    }
}

impl EtcdClient {
    /// Saves a snapshot of the member into a new file, readable by its owner alone, and checks the
    /// SHA-256 that etcd appends. On failure the file is removed. The file is what `etcdctl
    /// snapshot save` writes.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`]; also when `path` exists already.
    pub async fn snapshot(&self, path: &Path) -> Result<SavedSnapshot, EtcdError> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = file
            .map_err(|error| self.broken(format!("cannot create {}: {error}", path.display())))?;
        let result = self.receive(file, path).await;
        if result.is_err() {
            // The error at hand says more than that of a failed removal.
            let _ = std::fs::remove_file(path);
        }
        result
    }

    async fn receive(&self, file: File, path: &Path) -> Result<SavedSnapshot, EtcdError> {
        let mut client = self.raw();
        let silent = |_| EtcdError {
            node: self.node().to_owned(),
            call: "snapshot",
            kind: EtcdErrorKind::Timeout {
                seconds: SILENCE.as_secs(),
            },
            ambiguous: false,
        };
        let write = |error: std::io::Error| {
            self.broken(format!("cannot write {}: {error}", path.display()))
        };
        let refused = |error: etcd_client::Error| self.judged("snapshot", &error);
        let mut stream = tokio::time::timeout(SILENCE, client.snapshot())
            .await
            .map_err(silent)?
            .map_err(refused)?;
        let mut sink = Sink {
            file,
            hash: Sha256::new(),
            tail: Vec::new(),
            size: 0,
        };
        let mut batch = Vec::with_capacity(BATCH);
        let mut version = None;
        let mut remaining = None;
        loop {
            let message = tokio::time::timeout(SILENCE, stream.message())
                .await
                .map_err(silent)?
                .map_err(refused)?;
            if let Some(message) = &message {
                batch.extend_from_slice(message.blob());
                remaining = Some(message.remaining_bytes());
                if !message.version().is_empty() {
                    version = Some(message.version().to_owned());
                }
            }
            if batch.len() >= BATCH || message.is_none() {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                let taken = tokio::task::spawn_blocking(move || sink.take(full)).await;
                sink = taken
                    .map_err(std::io::Error::other)
                    .and_then(|taken| taken)
                    .map_err(write)?;
            }
            if message.is_none() {
                break;
            }
        }
        let finished = tokio::task::spawn_blocking(move || sink.finish()).await;
        let (size, digest, appended) = finished
            .map_err(std::io::Error::other)
            .and_then(|done| done)
            .map_err(write)?;
        if remaining != Some(0) || appended != digest {
            return Err(self.broken(format!(
                "the snapshot is incomplete or damaged after {size} bytes"
            )));
        }
        Ok(SavedSnapshot {
            size,
            sha256: hex::encode(digest),
            version,
        })
    }

    fn broken(&self, reason: String) -> EtcdError {
        EtcdError {
            node: self.node().to_owned(),
            call: "snapshot",
            kind: EtcdErrorKind::Snapshot(reason),
            ambiguous: false,
        }
    }
}
