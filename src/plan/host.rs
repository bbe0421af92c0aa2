//! What one host differs in from its layout.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::Inputs;
use super::files::change;
use super::fingerprint::{MAX_SKEW_MS, sha256};
use super::model::Blocked;
use crate::action::Change;
use crate::action::install::Install;
use crate::action::prepare::{Data, Prepare};
use crate::desired::model::{Desired, Install as Method, Node};
use crate::observed::OperatorFacts;
use crate::observed::host::{FileFact, HostFacts};
use crate::observed::marker::{Marker, OwnedFile};
use crate::runtime::{self, Content, Directory, FileWrite, Layout, POLICY, POLICY_PATH};

/// Bytes that must be free under the data directory before a member is put there.
const MIN_FREE: u64 = 64 << 20;

/// A node, what it should look like, and what its host looks like.
pub struct Host<'a> {
    pub desired: &'a Desired,
    pub node: &'a Node,
    pub layout: Layout,
    pub facts: &'a HostFacts,
    pub operator: &'a OperatorFacts,
    pub now: OffsetDateTime,
}

/// Everything that differs.
#[derive(Default)]
pub struct Differences {
    pub prepare: Option<Prepare>,
    pub install: Option<Install>,
    pub files: Vec<FileDifference>,
    /// Files of ours that must not be there.
    pub leftovers: Vec<String>,
    pub blocked: Vec<Blocked>,
}

/// A file that differs.
pub struct FileDifference {
    pub write: FileWrite,
    pub changes: Vec<Change>,
    /// What is on disk now was put there, or edited, before the running process was started.
    pub was_in_force: bool,
    /// Nobody touched it: the cluster file asks for something else now.
    pub asked_for: bool,
}

impl<'a> Host<'a> {
    /// The known hosts of the file, in its order.
    pub fn all(inputs: &Inputs<'a>) -> Vec<Self> {
        let known = inputs.desired.nodes.iter().filter_map(|node| {
            Some(Self {
                desired: inputs.desired,
                node,
                layout: runtime::layout(inputs.desired, node),
                facts: inputs.observed.facts(&node.name)?,
                operator: &inputs.observed.operator,
                now: inputs.now,
            })
        });
        known.collect()
    }
}

impl Host<'_> {
    /// Finds everything that differs.
    pub fn differences(&self) -> Differences {
        let mut found = Differences {
            blocked: self.preflight(),
            prepare: self.prepare(),
            files: self.files(),
            ..Differences::default()
        };
        found.blocked.extend(self.skewed(&found.files));
        match self.install() {
            Ok(install) => found.install = install,
            Err(blocked) => found.blocked.push(blocked),
        }
        for path in [
            &self.layout.start_drop_in.path,
            &self.layout.start_drop_in.environment_path,
        ] {
            if !matches!(self.facts.files.get(path), None | Some(FileFact::Absent)) {
                found.leftovers.push(path.clone());
            }
        }
        let policy = self.facts.files.get(POLICY_PATH).and_then(FileFact::file);
        if policy.is_some_and(|stat| stat.sha256 == Some(sha256(POLICY))) {
            found.leftovers.push(POLICY_PATH.into());
        }
        found
    }

    pub(super) fn blocked(&self, reason: impl Into<String>, remedy: impl Into<String>) -> Blocked {
        Blocked {
            node: Some(self.node.name.clone()),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    pub(super) fn marker(&self) -> Option<&Marker> {
        self.facts.marker.get()
    }

    fn preflight(&self) -> Vec<Blocked> {
        let mut blocked = Vec::new();
        let facts = self.facts;
        if !matches!(facts.arch.as_str(), "amd64" | "arm64") {
            blocked.push(self.blocked(
                format!(
                    "its architecture {} is not one that etcd supports",
                    facts.arch
                ),
                "use an amd64 or arm64 host",
            ));
        }
        // Another one of that name would have another number than the process that runs, and its data.
        if !facts.user && facts.unit.is_up() {
            blocked.push(self.blocked(
                format!(
                    "{} runs, and the host knows no user {}",
                    self.layout.unit, self.layout.user
                ),
                format!(
                    "see why `id {}` fails there: a directory service that is away, or an account that was removed; stop \
                     the unit first if it is gone for good",
                    self.layout.user
                ),
            ));
        }
        for directory in &self.layout.directories {
            if let Some(FileFact::Other(kind)) = facts.files.get(&directory.path) {
                blocked.push(self.blocked(
                    format!("{} is a {kind}", directory.path),
                    "name the directory itself in the cluster file (data_dir, wal_dir), or make it one on the host",
                ));
            }
        }
        let needs_tar = matches!(self.desired.etcd.install, Method::Archive { .. });
        for tool in ["tar", "gzip"] {
            if needs_tar && !facts.tools.contains(tool) {
                blocked.push(self.blocked(
                    format!("it has no {tool}, which unpacks the archive"),
                    format!("install {tool} on the host, or use method = \"package\""),
                ));
            }
        }
        blocked
    }

    /// Certificates are not issued across a clock skew (Q20); everything else is done all the same.
    fn skewed(&self, files: &[FileDifference]) -> Option<Blocked> {
        let facts = self.facts;
        let issues = files
            .iter()
            .any(|file| matches!(file.write.content, Content::Certificate(_)));
        (issues && facts.clock_offset_ms.saturating_abs() > MAX_SKEW_MS).then(|| {
            self.blocked(
                format!(
                    "its clock is {} s {} this machine's: certificates are not issued across that",
                    facts.clock_offset_ms.saturating_abs() / 1000,
                    if facts.clock_offset_ms > 0 {
                        "ahead of"
                    } else {
                        "behind"
                    },
                ),
                "set both clocks, for example with chrony",
            )
        })
    }

    /// What must hold before a member is put on this host for the first time.
    pub fn preflight_new_member(&self) -> Vec<Blocked> {
        let mut blocked = self.taken_ports();
        if self.facts.filesystem.free < MIN_FREE {
            blocked.push(self.blocked(
                format!(
                    "{} has {} MiB free, at least {} are needed",
                    self.facts.filesystem.mount,
                    self.facts.filesystem.free >> 20,
                    MIN_FREE >> 20
                ),
                "make room, or set data_dir to a larger file system",
            ));
        }
        if self.facts.unit.is_up() && self.facts.marker.get().is_none() {
            blocked.push(self.blocked(
                format!("{} runs, and Quorate did not set it up", self.layout.unit),
                "stop and disable it if it is not needed, or take another host",
            ));
        }
        blocked
    }

    /// Ports of the member that somebody else has.
    pub fn taken_ports(&self) -> Vec<Blocked> {
        let others = self.facts.listeners.iter();
        others
            .filter(|listener| !listener.ours)
            .map(|listener| {
                self.blocked(
                    format!("port {} is taken by {}", listener.port, listener.owner),
                    "stop that process, or give the node other ports (client_port, peer_port)",
                )
            })
            .collect()
    }

    fn prepare(&self) -> Option<Prepare> {
        let user = (!self.facts.user).then(|| self.layout.user.clone());
        let directories: Vec<Directory> = self
            .layout
            .directories
            .iter()
            .filter(|wanted| match self.facts.files.get(&wanted.path) {
                Some(FileFact::Directory(stat)) => {
                    user.is_some()
                        || stat.mode != wanted.mode
                        || stat.owner != wanted.owner
                        || stat.group != wanted.group
                }
                _ => true,
            })
            .cloned()
            .collect();
        let data = self.strange_data(user.is_some());
        let hold = self.hold();
        let work = user.is_some() || !directories.is_empty() || data.is_some() || hold.is_some();
        work.then_some(Prepare {
            user,
            directories,
            data,
            hold,
        })
    }

    /// Data that the member could not read: whoever reinstalls a host gives its user another number.
    fn strange_data(&self, new_user: bool) -> Option<Data> {
        let found = &self.facts.whereabouts;
        let trees: Vec<String> = [&found.member, &found.wal]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let strange = new_user || !found.strangers.is_empty();
        (strange && !trees.is_empty()).then(|| Data {
            user: self.layout.user.clone(),
            group: self.layout.group.clone(),
            trees,
        })
    }

    /// What a preparation changes, for people.
    pub fn prepare_changes(&self, prepare: &Prepare) -> Vec<Change> {
        let user = prepare
            .user
            .iter()
            .map(|user| change("user", None, Some(user.clone()), false));
        let directories = prepare.directories.iter().flat_map(|wanted| {
            let after = format!("{:04o} {}:{}", wanted.mode, wanted.owner, wanted.group);
            let before = match self.facts.files.get(&wanted.path) {
                Some(FileFact::Directory(stat)) => {
                    Some(format!("{:04o} {}:{}", stat.mode, stat.owner, stat.group))
                }
                Some(FileFact::File(_)) => Some("a file".into()),
                Some(FileFact::Other(kind)) => Some(kind.clone()),
                Some(FileFact::Absent) | None => None,
            };
            let drift = before.is_some() && self.marker().is_some();
            // The owner of what is there may be right by name once the user exists again.
            (before.as_ref() != Some(&after))
                .then(|| change(&wanted.path, before, Some(after), drift))
        });
        let strangers = self.facts.whereabouts.strangers.iter();
        let given = strangers.map(|(path, owner)| {
            let name = format!("{path} owner");
            let after = self.layout.user.clone();
            change(
                &name,
                Some(owner.clone()),
                Some(after),
                self.marker().is_some(),
            )
        });
        let holds = prepare
            .hold
            .iter()
            .flat_map(|hold| &hold.names)
            .map(|name| {
                let drift = self.marker().is_some();
                change(
                    &format!("package {name}"),
                    Some("not held".into()),
                    Some("held".into()),
                    drift,
                )
            });
        user.chain(directories).chain(given).chain(holds).collect()
    }

    /// The marker that belongs on the host once everything is as it should be.
    pub fn expected_files(&self) -> BTreeMap<String, OwnedFile> {
        let mut files: BTreeMap<String, OwnedFile> = self
            .layout
            .files
            .iter()
            .map(|file| {
                let sha256 = match &file.content {
                    Content::Text(text) => Some(sha256(text)),
                    _ => None,
                };
                (
                    file.path.clone(),
                    OwnedFile {
                        sha256,
                        previous: None,
                    },
                )
            })
            .collect();
        if let Some(Ok(archive)) = self.operator.archives.get(&self.facts.arch) {
            for (name, sha256) in &archive.binaries {
                files.insert(
                    format!("{}/{name}", self.layout.bin_dir),
                    OwnedFile {
                        sha256: Some(sha256.clone()),
                        previous: None,
                    },
                );
            }
        } else if let (Method::Archive { .. }, Some(marker)) =
            (&self.desired.etcd.install, self.marker())
        {
            let prefix = format!("{}/", self.layout.bin_dir);
            files.extend(
                marker
                    .files
                    .iter()
                    .filter(|(path, _)| path.starts_with(&prefix))
                    .map(|(path, file)| (path.clone(), file.clone())),
            );
        }
        files
    }
}
