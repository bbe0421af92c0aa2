//! What one host differs in from its layout.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::Inputs;
use super::fingerprint::{MAX_SKEW_MS, sha256};
use super::model::Blocked;
use crate::action::install::{Install, Source};
use crate::action::prepare::{Hold, Prepare};
use crate::action::{Change, configure};
use crate::desired::model::{Desired, Install as Method, Node, VersionSpec};
use crate::observed::OperatorFacts;
use crate::observed::certificate;
use crate::observed::host::{FileFact, FileStat, HostFacts, PackageManager};
use crate::observed::marker::{Marker, OwnedFile};
use crate::runtime::{self, Content, Directory, FileWrite, Layout, Profile};

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
        found
    }

    fn blocked(&self, reason: impl Into<String>, remedy: impl Into<String>) -> Blocked {
        Blocked {
            node: Some(self.node.name.clone()),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    fn marker(&self) -> Option<&Marker> {
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
        let hold = self.hold();
        (user.is_some() || !directories.is_empty() || hold.is_some()).then_some(Prepare {
            user,
            directories,
            hold,
        })
    }

    /// Packages that the package manager would upgrade behind our back (Q19). Those that are installed first are held then.
    fn hold(&self) -> Option<Hold> {
        let Method::Package { names, .. } = &self.desired.etcd.install else {
            return None;
        };
        let mut names = package_names(names, self.facts);
        names.retain(|name| {
            self.facts.packages.contains_key(name) && !self.facts.held.contains(name)
        });
        (!names.is_empty()).then(|| Hold {
            manager: self.facts.package_manager(),
            names,
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
        user.chain(directories).chain(holds).collect()
    }

    /// Why the certificate on the host has to be replaced; `None` when it need not.
    fn certificate_reason(&self, profile: Profile, stat: Option<&FileStat>) -> Option<String> {
        let Some(stat) = stat else {
            return Some("it is missing".into());
        };
        let found = match stat.certificate.as_ref() {
            Some(Ok(found)) => found,
            Some(Err(error)) => return Some(error.clone()),
            None => return Some("it could not be read".into()),
        };
        let Some(authority) = &self.operator.authority else {
            return Some("the authority is new".into());
        };
        let wanted = certificate::Wanted {
            profile,
            names: certificate::member_names(self.node),
            key: self.desired.tls.leaf.key,
            validity: self.desired.tls.leaf.validity,
            renew_before: self.desired.tls.leaf.renew_before,
        };
        let reasons = found.reasons_to_issue(&wanted, authority, self.now);
        if reasons.is_empty() {
            return None;
        }
        Some(
            reasons
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        )
    }

    fn files(&self) -> Vec<FileDifference> {
        let mut found: Vec<FileDifference> = Vec::new();
        let pairs = self.pairs_to_issue();
        for write in &self.layout.files {
            let fact = self
                .facts
                .files
                .get(&write.path)
                .unwrap_or(&FileFact::Absent);
            let mut changes = attributes(write, fact);
            match &write.content {
                Content::Text(text) => changes.extend(self.text_change(&write.path, text, fact)),
                Content::Authority => {
                    // The whole file counts: what somebody appended to it would be trusted as well.
                    let there = fact.file().and_then(|stat| stat.sha256.as_ref());
                    let wanted = self.operator.authority.as_ref();
                    if there.is_none() || there != wanted.map(|ca| &ca.sha256) {
                        changes.push(change(
                            &write.path,
                            there.cloned(),
                            wanted.map(|ca| ca.sha256.clone()),
                            there.is_some(),
                        ));
                    }
                }
                Content::Certificate(profile) | Content::Key(profile) => {
                    // A pair is one thing: whatever is wrong with half of it replaces both.
                    changes.clear();
                    if let Some(reason) = pairs.get(profile) {
                        changes.push(change(&write.path, Some(reason.clone()), None, false));
                    }
                }
            }
            if changes.is_empty() {
                continue;
            }
            // Mode and owner alone are not what a process was started with.
            let content = changes.iter().any(|change| change.name == write.path);
            let marked = self
                .marker()
                .and_then(|marker| marker.files.get(&write.path));
            let on_disk = fact.file().and_then(|stat| stat.sha256.as_ref());
            found.push(FileDifference {
                asked_for: content
                    && on_disk.is_some()
                    && marked.is_some_and(|marked| marked.sha256.as_ref() == on_disk),
                was_in_force: match (fact.file(), self.facts.unit.started_at) {
                    (Some(stat), Some(started_at)) => content && stat.changed_at < started_at,
                    _ => false,
                },
                write: write.clone(),
                changes,
            });
        }
        found
    }

    fn pairs_to_issue(&self) -> BTreeMap<Profile, String> {
        let mut halves: BTreeMap<Profile, Vec<(&FileWrite, &FileFact)>> = BTreeMap::new();
        for write in &self.layout.files {
            if let Content::Certificate(profile) | Content::Key(profile) = &write.content {
                let fact = self
                    .facts
                    .files
                    .get(&write.path)
                    .unwrap_or(&FileFact::Absent);
                halves.entry(*profile).or_default().push((write, fact));
            }
        }
        let mut pairs = BTreeMap::new();
        for (profile, halves) in halves {
            let certificate = halves
                .iter()
                .find(|(write, _)| matches!(write.content, Content::Certificate(_)))
                .and_then(|(_, fact)| fact.file());
            let key = halves
                .iter()
                .find(|(write, _)| matches!(write.content, Content::Key(_)))
                .and_then(|(_, fact)| fact.file());
            let reason = self.certificate_reason(profile, certificate).or_else(|| {
                match (certificate, key) {
                    (_, None) => Some("its key is missing".into()),
                    (Some(certificate), Some(key))
                        if (certificate.changed_at - key.changed_at).abs() > 30 =>
                    {
                        Some("one of certificate and key was changed without the other".into())
                    }
                    _ => halves
                        .iter()
                        .flat_map(|(write, fact)| attributes(write, fact))
                        .next()
                        .map(|change| {
                            format!(
                                "{} is {}, not {}",
                                change.name,
                                change.before.unwrap_or_default(),
                                change.after.unwrap_or_default()
                            )
                        }),
                }
            });
            if let Some(reason) = reason {
                pairs.insert(profile, reason);
            }
        }
        pairs
    }

    fn text_change(&self, path: &str, text: &str, fact: &FileFact) -> Option<Change> {
        let wanted = sha256(text);
        let there = fact.file();
        if there.and_then(|stat| stat.sha256.as_ref()) == Some(&wanted) {
            return None;
        }
        let marked = self.marker().and_then(|marker| marker.files.get(path));
        Some(Change {
            name: path.into(),
            before: there.map(|stat| match (&stat.text, stat.size) {
                (Some(text), _) => text.clone(),
                (None, size) => format!("({size} bytes)\n"),
            }),
            after: Some(text.into()),
            drift: marked.is_some_and(|marked| marked.sha256.as_ref() == Some(&wanted)),
            text: true,
        })
    }

    /// The exact version that is wanted, if the file names one.
    fn exact_version(&self) -> Option<String> {
        match &self.desired.etcd.version {
            VersionSpec::Exact(version) => Some(version.to_string()),
            VersionSpec::Constraint(_) => None,
        }
    }

    fn install(&self) -> Result<Option<Install>, Blocked> {
        let version = self.exact_version().unwrap_or_default();
        let replaces = self.facts.binary.is_some();
        let install = |source: Source| Install {
            version: version.clone(),
            bin_dir: self.layout.bin_dir.clone(),
            source,
            staged: self.facts.unit.is_up(),
            replaces,
        };
        match &self.desired.etcd.install {
            Method::Archive { .. } => match self.operator.archives.get(&self.facts.arch) {
                Some(Ok(archive)) => {
                    let same = archive.binaries.iter().all(|(name, sha256)| {
                        let path = format!("{}/{name}", self.layout.bin_dir);
                        self.facts
                            .files
                            .get(&path)
                            .and_then(FileFact::file)
                            .is_some_and(|stat| {
                                // Whoever owns it could replace it.
                                stat.sha256.as_ref() == Some(sha256)
                                    && stat.mode == 0o755
                                    && stat.owner == "root"
                                    && stat.group == "root"
                            })
                    });
                    Ok((!same).then(|| {
                        install(Source::Archive {
                            sha256: archive.sha256.clone(),
                            arch: self.facts.arch.clone(),
                        })
                    }))
                }
                Some(Err(_)) | None if self.binary_is_as_marked() => Ok(None),
                Some(Err(reason)) => Err(self.blocked(
                    format!("etcd cannot be installed: {reason}"),
                    "correct [etcd.install], or make the archive reachable",
                )),
                None => Err(self.blocked(
                    format!("there is no archive for architecture {}", self.facts.arch),
                    "use an {arch} placeholder in `archive`",
                )),
            },
            Method::Package {
                names,
                package_version,
            } => self.package(names, package_version.as_deref(), install),
            Method::Present { bin_dir } => match &self.facts.binary {
                None => Err(self.blocked(
                    format!("there is no etcd in {bin_dir}"),
                    "install it there, or use another install method",
                )),
                Some(binary) => {
                    let found = binary
                        .version
                        .as_deref()
                        .and_then(|version| version.parse::<semver::Version>().ok());
                    let fits = match (&self.desired.etcd.version, &found) {
                        (VersionSpec::Exact(wanted), Some(found)) => wanted == found,
                        (VersionSpec::Constraint(wanted), Some(found)) => wanted.matches(found),
                        (_, None) => false,
                    };
                    if fits {
                        return Ok(None);
                    }
                    Err(self.blocked(
                        format!(
                            "{} is version {}, which does not satisfy the cluster file",
                            binary.path,
                            binary.version.as_deref().unwrap_or("unknown")
                        ),
                        "install a version that does, or change `version`",
                    ))
                }
            },
        }
    }

    fn binary_is_as_marked(&self) -> bool {
        let (Some(marker), Some(binary)) = (self.marker(), &self.facts.binary) else {
            return false;
        };
        let marked = marker
            .files
            .get(&binary.path)
            .and_then(|file| file.sha256.as_ref());
        marked == Some(&binary.sha256) && binary.version == self.exact_version()
    }

    fn package(
        &self,
        names: &[String],
        package_version: Option<&str>,
        install: impl Fn(Source) -> Install,
    ) -> Result<Option<Install>, Blocked> {
        let wanted = self.exact_version();
        let missing = self.missing_packages();
        let as_wanted = self.other_packages().is_empty();
        if as_wanted && missing.is_empty() {
            return match &self.facts.binary {
                Some(_) => Ok(None),
                None => Err(self.blocked(
                    format!(
                        "its packages are installed, but {} is not there",
                        self.layout.etcd
                    ),
                    "install them again by the package manager, or name the package that brings it",
                )),
            };
        }
        let Some(version) = package_version.map(str::to_owned).or(wanted) else {
            return Err(self.blocked(
                "method = \"package\" needs an exact version",
                "set etcd.version to one version",
            ));
        };
        let manager = self.facts.package_manager();
        if !self.facts.tools.contains(manager.command()) {
            return Err(self.blocked(
                format!("it has no {}, which installs packages", manager.command()),
                "use method = \"archive\" or \"present\"",
            ));
        }
        Ok(Some(install(Source::Packages {
            manager,
            // What is as it should be is left alone: the repository may have a later build of it.
            packages: package_names(names, self.facts)
                .into_iter()
                .filter(|name| !as_wanted || missing.contains(name))
                .map(|name| (name, version.clone()))
                .collect(),
            unit: self.layout.unit.clone(),
        })))
    }

    /// Packages that the file asks for and that are not installed.
    pub fn missing_packages(&self) -> Vec<String> {
        let Method::Package { names, .. } = &self.desired.etcd.install else {
            return vec![];
        };
        let mut names = package_names(names, self.facts);
        names.retain(|name| !self.facts.packages.contains_key(name));
        names
    }

    /// Installed packages at another version than the file asks for, with that version.
    pub fn other_packages(&self) -> Vec<(&str, &str)> {
        let Method::Package {
            names,
            package_version,
        } = &self.desired.etcd.install
        else {
            return vec![];
        };
        let wanted = package_version.clone().or(self.exact_version());
        let names = package_names(names, self.facts);
        self.facts
            .packages
            .iter()
            .filter(|(name, version)| {
                names.contains(name)
                    && !wanted
                        .as_deref()
                        .is_some_and(|wanted| version_fits(wanted, version))
            })
            .map(|(name, version)| (name.as_str(), version.as_str()))
            .collect()
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

/// The same rule by which the script chooses: revisions and rebuilds of a version are that version.
fn version_fits(wanted: &str, version: &str) -> bool {
    let without_epoch = version.split_once(':').map_or(version, |(_, rest)| rest);
    [version, without_epoch].into_iter().any(|version| {
        version
            .strip_prefix(wanted)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '+', '~']))
    })
}

/// The packages that bring etcd, by distribution.
pub fn package_names(names: &[String], facts: &HostFacts) -> Vec<String> {
    if !names.is_empty() {
        return names.to_vec();
    }
    if facts.package_manager() == PackageManager::Apt {
        vec!["etcd-server".into(), "etcd-client".into()]
    } else {
        vec!["etcd".into()]
    }
}

impl Differences {
    /// Files that change without a restart, as an action.
    pub fn configure(
        files: &[FileDifference],
        leftovers: &[String],
        layout: &Layout,
        facts: &HostFacts,
    ) -> Option<configure::Configure> {
        let units = format!("/{}", layout.unit);
        let reload = facts.unit.need_reload
            || files.iter().any(|file| file.write.path.ends_with(&units))
            || leftovers.contains(&layout.start_drop_in.path);
        if files.is_empty() && leftovers.is_empty() && !reload {
            return None;
        }
        Some(configure::Configure {
            fresh: !files.is_empty()
                && files.iter().all(|file| {
                    !matches!(facts.files.get(&file.write.path), Some(FileFact::File(_)))
                }),
            files: files.iter().map(|file| file.write.clone()).collect(),
            remove: leftovers.to_vec(),
            reload: reload.then(|| layout.unit.clone()),
        })
    }
}

fn attributes(write: &FileWrite, fact: &FileFact) -> Vec<Change> {
    let stat = match fact {
        FileFact::File(stat) => stat,
        FileFact::Absent => return Vec::new(),
        FileFact::Directory(_) => {
            return vec![change(
                &write.path,
                Some("a directory".into()),
                Some("a file".into()),
                true,
            )];
        }
        FileFact::Other(kind) => {
            return vec![change(
                &write.path,
                Some(format!("a {kind}")),
                Some("a file".into()),
                true,
            )];
        }
    };
    let mut changes = Vec::new();
    let mut differs = |what: &str, before: String, after: String| {
        let name = format!("{} {what}", write.path);
        changes.push(change(&name, Some(before), Some(after), true));
    };
    if stat.mode != write.mode {
        differs(
            "mode",
            format!("{:04o}", stat.mode),
            format!("{:04o}", write.mode),
        );
    }
    if (&stat.owner, &stat.group) != (&write.owner, &write.group) {
        differs(
            "owner",
            format!("{}:{}", stat.owner, stat.group),
            format!("{}:{}", write.owner, write.group),
        );
    }
    changes
}

fn change(name: &str, before: Option<String>, after: Option<String>, drift: bool) -> Change {
    Change {
        name: name.into(),
        before,
        after,
        drift,
        text: false,
    }
}
