//! What a lab's directory says about the lab, for the process that finds it later.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::lab_dir;
use crate::error::{Error, Result};
use crate::sys;

const FILE: &str = "lab.json";

/// The lab as it was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    /// `None`: the lab stays until `lab down`.
    pub(crate) owner: Option<Owner>,
    /// Which boot of the machine the lab belongs to.
    pub(crate) boot: String,
    /// The hosts' names, the first having index 1.
    pub(crate) hosts: Vec<String>,
    /// Indexes of hosts on which sudo asks `ops` for a password.
    pub(crate) password_sudo: Vec<usize>,
}

/// A process, named for good: numbers are used again, start times with them are not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) start: u64,
}

impl Owner {
    pub(crate) fn this_process() -> Option<Self> {
        let pid = std::process::id();
        sys::process_start(pid).map(|start| Self { pid, start })
    }

    pub(crate) fn is_alive(&self) -> bool {
        sys::process_start(self.pid) == Some(self.start)
    }
}

impl Record {
    pub(crate) fn path(lab: &str) -> PathBuf {
        lab_dir(lab).join(FILE)
    }

    /// The record of a lab; `None` when there is no such lab.
    pub(crate) fn load(lab: &str) -> Result<Option<Self>> {
        let path = Self::path(lab);
        if !path.exists() {
            return Ok(None);
        }
        parse(&path).map(Some)
    }

    pub(crate) fn save(&self) -> Result<()> {
        let path = Self::path(&self.name);
        let text = serde_json::to_string_pretty(self).map_err(|source| Error::Record {
            path: path.display().to_string(),
            source,
        })?;
        sys::write(&path, text + "\n")
    }

    /// Whether nobody will ever take the lab down.
    pub(crate) fn is_abandoned(&self) -> Result<bool> {
        if self.boot != sys::boot_id()? {
            return Ok(true);
        }
        Ok(self.owner.as_ref().is_some_and(|owner| !owner.is_alive()))
    }
}

fn parse(path: &Path) -> Result<Record> {
    serde_json::from_str(&sys::read(path)?).map_err(|source| Error::Record {
        path: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn an_owner_is_alive_only_with_its_own_start_time() {
        let this = Owner::this_process().expect("this process runs");
        assert!(this.is_alive());
        let reused = Owner {
            start: this.start + 1,
            ..this
        };
        assert!(!reused.is_alive());
    }
}
