//! What the cluster file may not change in a living member, each with its reason.

use super::Blocked;
use super::host::Host;
use super::software::package_names;
use crate::desired::model::{Install, VersionSpec};
use crate::observed::HostFacts;
use crate::observed::Observed;
use crate::observed::etcd::EtcdState;
use crate::observed::host::{DataDir, FileFact};
use crate::runtime::Content;

/// Another version of etcd is a change of its own, with rules of its own (Q16).
pub(super) fn version_change(host: &Host<'_>) -> Option<Blocked> {
    let VersionSpec::Exact(wanted) = &host.desired.etcd.version else {
        return None;
    };
    let said = match &host.facts.etcd {
        EtcdState::Answered(answer) => Some(answer.status.version.clone()),
        _ => host
            .facts
            .binary
            .as_ref()
            .and_then(|binary| binary.version.clone()),
    };
    let running = said.and_then(|version| version.parse::<semver::Version>().ok());
    if running.as_ref() == Some(wanted) {
        return None;
    }
    let archive = host
        .operator
        .archives
        .get(&host.facts.arch)
        .and_then(|archive| archive.as_ref().ok());
    let marked = host
        .facts
        .marker
        .get()
        .and_then(|marker| marker.archive.as_ref());
    // The file asks for what it asked for before: somebody replaced the binary on the host. Across minors the data may
    // have been written by the other one.
    let same_minor = running
        .as_ref()
        .is_none_or(|running| (running.major, running.minor) == (wanted.major, wanted.minor));
    if same_minor && archive.is_some_and(|archive| Some(&archive.sha256) == marked) {
        return None;
    }
    let running = running.map_or_else(
        || "an unknown version".to_owned(),
        |running| running.to_string(),
    );
    Some(Blocked {
        node: Some(host.node.name.clone()),
        reason: format!("it runs etcd {running}, the cluster file asks for {wanted}"),
        remedy:
            "this version does not upgrade or downgrade a living member: set `version` to what runs"
                .into(),
    })
}

/// Options of transport security. Changing them in a living cluster takes phases of their own (Q15), not a restart.
const TLS: [&str; 8] = [
    "ETCD_CERT_FILE",
    "ETCD_KEY_FILE",
    "ETCD_TRUSTED_CA_FILE",
    "ETCD_CLIENT_CERT_AUTH",
    "ETCD_PEER_CERT_FILE",
    "ETCD_PEER_KEY_FILE",
    "ETCD_PEER_TRUSTED_CA_FILE",
    "ETCD_PEER_CLIENT_CERT_AUTH",
];

/// The cluster file asks for another transport security than the member has.
pub(super) fn tls_change(host: &Host<'_>) -> Option<Blocked> {
    let (path, text) = host
        .layout
        .files
        .iter()
        .find_map(|file| match &file.content {
            Content::Text(text) if text.contains("ETCD_NAME=") => Some((&file.path, text)),
            _ => None,
        })?;
    let wanted = super::fingerprint::sha256(text);
    let marked = host
        .facts
        .marker
        .get()
        .and_then(|marker| marker.files.get(path));
    if marked
        .is_some_and(|marked| marked.sha256.as_ref() == Some(&wanted) && marked.previous.is_none())
    {
        // The file asks for what it asked for before: whatever differs was changed on the host.
        return None;
    }
    let on_disk = host
        .facts
        .files
        .get(path)
        .and_then(FileFact::file)
        .and_then(|stat| stat.text.as_deref());
    let current = match (&host.facts.unit.environment, on_disk) {
        (Some(environment), _) => environment.clone(),
        (None, Some(text)) => crate::runtime::parse_environment(text),
        (None, None) => return None,
    };
    let changed = TLS.iter().find_map(|variable| {
        let (is, wanted) = (
            current.get(*variable),
            host.layout.environment.get(*variable),
        );
        (is != wanted).then(|| {
            let shown = |value: Option<&String>| value.cloned().unwrap_or_else(|| "unset".into());
            format!("{variable} from {} to {}", shown(is), shown(wanted))
        })
    })?;
    Some(Blocked {
        node: Some(host.node.name.clone()),
        reason: format!("the cluster file changes {changed}"),
        remedy: "this version does not change the TLS modes of a living member: set the cluster file back to what runs"
            .into(),
    })
}

/// Binaries of one method do not make way for those of another.
pub(super) fn install_change(host: &Host<'_>) -> Option<Blocked> {
    let marker = host.facts.marker.get()?;
    let other = match host.desired.etcd.install {
        Install::Archive { .. } => !marker.packages.is_empty(),
        Install::Package { .. } | Install::Present { .. } => marker.archive.is_some(),
    };
    other.then(|| Blocked {
        node: Some(host.node.name.clone()),
        reason: "the cluster file changes the install method of a living member".into(),
        remedy: "this version does not do that: set [etcd.install] back".into(),
    })
}

/// A package manager replaces binaries where they are, on all hosts at once and outside any restart: not those of a
/// living member (Q15).
pub(super) fn package_change(host: &Host<'_>) -> Option<Blocked> {
    let Install::Package { names, .. } = &host.desired.etcd.install else {
        return None;
    };
    let lives = host.facts.unit.is_up() || matches!(host.facts.data, DataDir::Wal(_));
    let others = host.other_packages();
    let missing = host.missing_packages();
    let mut servers = package_names(names, host.facts);
    servers.retain(|name| name != "etcd-client");
    let reason = if !others.is_empty() {
        let others = others
            .iter()
            .map(|(name, version)| format!("{name} than the {version} that is installed"));
        format!(
            "the cluster file asks for another version of {}",
            others.collect::<Vec<_>>().join(", and of ")
        )
    } else if host.facts.binary.is_some() && servers.iter().all(|name| missing.contains(name)) {
        format!(
            "its {} is of no package, and {} would replace it",
            host.layout.etcd,
            servers.join(", ")
        )
    } else {
        return None;
    };
    lives.then(|| Blocked {
        node: Some(host.node.name.clone()),
        reason,
        remedy: "this version does not change the packages of a living member: set [etcd.install] to what is installed"
            .into(),
    })
}

/// A binary that somebody put in place of the one that runs, or that the data was last used with: a restart onto it must
/// be no upgrade or downgrade (Q16). Binaries of archives are known by digest instead.
pub(super) fn binary_change(host: &Host<'_>, observed: &Observed) -> Option<Blocked> {
    let binary = host.facts.binary.as_ref()?;
    let is_new = match &host.facts.unit.running_sha256 {
        Some(running) => *running != binary.sha256,
        None => true,
    };
    if matches!(host.desired.etcd.install, Install::Archive { .. }) || !is_new {
        return None;
    }
    let found = binary
        .version
        .as_ref()
        .and_then(|version| version.parse::<semver::Version>().ok());
    let wrong = match found {
        None => Some("does not tell its version".to_owned()),
        Some(found) => {
            let (fits, wanted) = match &host.desired.etcd.version {
                VersionSpec::Exact(wanted) => (*wanted == found, wanted.to_string()),
                VersionSpec::Constraint(wanted) => (wanted.matches(&found), wanted.to_string()),
            };
            if fits {
                other_release(host, observed, &found)
                    .map(|other| format!("is version {found}, and {other} runs"))
            } else {
                Some(format!(
                    "is version {found}, the cluster file asks for {wanted}"
                ))
            }
        }
    };
    wrong.map(|wrong| Blocked {
        node: Some(host.node.name.clone()),
        reason: format!("{} on disk is not what the member ran with: it {wrong}", binary.path),
        remedy: "this version does not upgrade or downgrade a living member: put the binary back that it ran with"
            .into(),
    })
}

/// What runs, where a binary of version `found` would upgrade it to another minor or downgrade it. A member that does not
/// answer has data of the minor that the others run.
fn other_release(
    host: &Host<'_>,
    observed: &Observed,
    found: &semver::Version,
) -> Option<semver::Version> {
    let said = |facts: &HostFacts| match &facts.etcd {
        EtcdState::Answered(answer) => answer.status.version.parse::<semver::Version>().ok(),
        _ => None,
    };
    let is_other = |runs: &semver::Version| (runs.major, runs.minor) != (found.major, found.minor);
    match said(host.facts) {
        Some(own) => (is_other(&own) || own > *found).then_some(own),
        None => observed
            .known()
            .filter_map(|(_, facts)| said(facts))
            .find(is_other),
    }
}
