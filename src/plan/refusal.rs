//! What the cluster file may not change in a living member, each with its reason.

use super::Blocked;
use super::host::Host;
use crate::desired::model::{Install, VersionSpec};
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

/// Options by which members and clients find each other, or a member its data. Changing one in a living cluster takes
/// phases of its own (Q14, Q15), not a restart.
const IDENTITY: [&str; 13] = [
    "ETCD_NAME",
    "ETCD_DATA_DIR",
    "ETCD_WAL_DIR",
    "ETCD_LISTEN_PEER_URLS",
    "ETCD_ADVERTISE_CLIENT_URLS",
    "ETCD_CERT_FILE",
    "ETCD_KEY_FILE",
    "ETCD_TRUSTED_CA_FILE",
    "ETCD_CLIENT_CERT_AUTH",
    "ETCD_PEER_CERT_FILE",
    "ETCD_PEER_KEY_FILE",
    "ETCD_PEER_TRUSTED_CA_FILE",
    "ETCD_PEER_CLIENT_CERT_AUTH",
];

/// The cluster file asks for another name, address, port, directory or transport security than the member has.
pub(super) fn identity_change(host: &Host<'_>) -> Option<Blocked> {
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
    let changed = IDENTITY.iter().find_map(|variable| {
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
        remedy: "this version does not change names, addresses, directories or TLS modes of a living member: \
                 set the cluster file back to what runs"
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
    let lives = host.facts.unit.is_up() || matches!(host.facts.data, DataDir::Wal(_));
    let others = host.other_packages();
    (lives && !others.is_empty()).then(|| Blocked {
        node: Some(host.node.name.clone()),
        reason: format!(
            "the cluster file asks for another version of {}",
            others
                .iter()
                .map(|(name, version)| format!("{name} than the {version} that is installed"))
                .collect::<Vec<_>>()
                .join(", and of ")
        ),
        remedy: "this version does not change the packages of a living member: set `package_version` to what is \
                 installed"
            .into(),
    })
}
