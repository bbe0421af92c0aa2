//! Binaries: from a release archive or from the distribution.

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, RunFacts, Verb};
use crate::observed::host::PackageManager;

/// What a staged binary is called until its member's restart switches it: `.etcd.quorate-staged`.
pub const STAGED_PREFIX: &str = ".";

/// Brings the binaries to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// Version that is installed.
    pub version: String,
    /// Directory of the binaries.
    pub bin_dir: String,
    /// Where they come from.
    pub source: Source,
    /// Whether a running member keeps its binary until its own restart (Q15).
    pub staged: bool,
    /// Whether an etcd binary is there already.
    pub replaces: bool,
}

/// Where binaries come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The release archive with this digest.
    Archive {
        /// Hex sha256.
        sha256: String,
        /// Architecture.
        arch: String,
    },
    /// Packages at exact versions.
    Packages {
        /// What installs them.
        manager: PackageManager,
        /// Name and version of each.
        packages: Vec<(String, String)>,
        /// Unit that the package would start.
        unit: String,
    },
}

impl Kind for Install {
    fn verb(&self) -> Verb {
        if self.replaces {
            Verb::Update
        } else {
            Verb::Create
        }
    }
    fn progress(&self) -> &'static str {
        "Installing"
    }
    fn summary(&self) -> String {
        let how = if self.staged { "stage" } else { "install" };
        match &self.source {
            Source::Archive { sha256, .. } => format!(
                "{how} etcd {} in {} (archive {}…)",
                self.version,
                self.bin_dir,
                sha256.get(..12).unwrap_or(sha256)
            ),
            Source::Packages { packages, .. } => format!(
                "install {}",
                packages
                    .iter()
                    .map(|(name, version)| format!("{name}={version}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        }
    }
    fn is_heavy(&self) -> bool {
        true
    }
    fn operations(&self, _: &RunFacts) -> Vec<Operation> {
        match &self.source {
            Source::Archive { sha256, arch } => {
                let archive = format!("{}/.quorate-{sha256}.tar.gz", self.bin_dir);
                vec![
                    Operation::Upload {
                        sha256: sha256.clone(),
                        arch: arch.clone(),
                        to: archive.clone(),
                    },
                    Operation::Extract {
                        archive: archive.clone(),
                        bin_dir: self.bin_dir.clone(),
                        prefix: if self.staged {
                            STAGED_PREFIX.into()
                        } else {
                            String::new()
                        },
                    },
                    Operation::RemoveFile(archive),
                    // The lock is ours and the upload is over: any other leftover is of a run that was cut.
                    Operation::Sweep(vec![self.bin_dir.clone()]),
                ]
            }
            Source::Packages {
                manager,
                packages,
                unit,
            } => vec![Operation::InstallPackages {
                manager: *manager,
                packages: packages.clone(),
                unit: unit.clone(),
            }],
        }
    }
}
