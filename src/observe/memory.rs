//! Digests of large files that an earlier probe found, kept on the operator's side. Losing them costs time only.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::probe::Remembered;
use crate::desired::model::Ssh;
use crate::plan::fingerprint::sha256;

/// Remembered digests by host.
pub struct Memory {
    dir: PathBuf,
}

impl Memory {
    /// A memory in the cache directory.
    pub fn new(cache: PathBuf) -> Self {
        Self {
            dir: cache.join("hosts"),
        }
    }

    fn file(&self, ssh: &Ssh) -> PathBuf {
        let identity = format!("{} {:?} {:?}", ssh.host, ssh.port, ssh.jump);
        self.dir.join(format!("{}.json", &sha256(identity)[..32]))
    }

    /// What is remembered of a host; nothing where that cannot be read.
    pub fn recall(&self, ssh: &Ssh) -> BTreeMap<String, Remembered> {
        fs::read(self.file(ssh))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Remembers; a cache that cannot be written is no fault.
    pub fn remember(&self, ssh: &Ssh, found: &BTreeMap<String, Remembered>) {
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.dir)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            serde_json::to_writer(&mut file, found)?;
            file.persist(self.file(ssh))?;
            Ok(())
        };
        let _ = write();
    }
}
