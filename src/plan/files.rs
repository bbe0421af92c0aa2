//! Files of a host: which differ from their layout, and why a certificate has to be issued.

use std::collections::BTreeMap;

use super::fingerprint::sha256;
use super::host::{Differences, FileDifference, Host};
use crate::action::{Change, configure};
use crate::observed::certificate;
use crate::observed::host::{FileFact, FileStat, HostFacts};
use crate::runtime::{Content, FileWrite, Layout, Profile};

impl Host<'_> {
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

    pub(super) fn files(&self) -> Vec<FileDifference> {
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

pub(super) fn change(
    name: &str,
    before: Option<String>,
    after: Option<String>,
    drift: bool,
) -> Change {
    Change {
        name: name.into(),
        before,
        after,
        drift,
        text: false,
    }
}
