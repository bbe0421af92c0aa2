//! Markers that actions write.

use std::collections::BTreeMap;

use super::Inputs;
use super::host::{Host, package_names};
use crate::desired::model::Install;
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::host::FileFact;
use crate::observed::marker::{Generation, Marker, MarkerState, OwnedFile, SshAddress, VERSION};

/// The marker that belongs on a host once everything is as it should be.
pub(super) fn settled(
    inputs: &Inputs<'_>,
    host: &Host<'_>,
    generation: Generation,
    ids: Option<(ClusterId, MemberId)>,
) -> Marker {
    let old = host.facts.marker.get();
    // What was there before us is not ours to remove.
    let mut directories: Vec<String> = host
        .layout
        .directories
        .iter()
        .map(|directory| directory.path.clone())
        .filter(|path| {
            let absent = matches!(host.facts.files.get(path), None | Some(FileFact::Absent));
            absent || old.is_some_and(|old| old.directories.contains(path))
        })
        .collect();
    for path in old.map(|old| &old.directories).into_iter().flatten() {
        if !directories.contains(path) {
            directories.push(path.clone());
        }
    }
    let user = match old.and_then(|old| old.user.clone()) {
        Some(user) => Some(user),
        None => (!host.facts.user).then(|| host.layout.user.clone()),
    };
    let mut packages = old.map(|old| old.packages.clone()).unwrap_or_default();
    if let Install::Package { names, .. } = &inputs.desired.etcd.install {
        for name in package_names(names, host.facts) {
            if !host.facts.packages.contains_key(&name) && !packages.contains(&name) {
                packages.push(name);
            }
        }
    }
    let archive = match host.operator.archives.get(&host.facts.arch) {
        Some(Ok(archive)) => Some(archive.sha256.clone()),
        _ => old.and_then(|old| old.archive.clone()),
    };
    Marker {
        version: VERSION,
        cluster: inputs.desired.cluster.name.clone(),
        node: host.node.name.clone(),
        generation,
        cluster_id: ids.map(|(cluster, _)| cluster),
        member_id: ids.map(|(_, member)| member),
        peer_url: Some(host.layout.peer_url.clone()),
        unit: host.layout.unit.clone(),
        data_dir: host.layout.data_dir.clone(),
        wal_dir: host.layout.wal_dir.clone(),
        filesystem: host.facts.filesystem.uuid.clone(),
        files: host.expected_files(),
        directories,
        user,
        packages,
        archive,
        authority: inputs
            .observed
            .operator
            .authority
            .as_ref()
            .map(|authority| authority.current.fingerprint_sha256.clone()),
        addresses: addresses(inputs, old),
        last_plan: None,
    }
}

/// How the nodes of the file are reached, and those that an earlier file named and that still bear something of ours.
fn addresses(inputs: &Inputs<'_>, old: Option<&Marker>) -> BTreeMap<String, SshAddress> {
    let mut addresses: BTreeMap<String, SshAddress> = inputs
        .desired
        .nodes
        .iter()
        .map(|node| {
            let address = SshAddress {
                host: node.ssh.host.clone(),
                port: node.ssh.port,
                user: node.ssh.user.clone(),
            };
            (node.name.clone(), address)
        })
        .collect();
    for (name, address) in old.map(|old| &old.addresses).into_iter().flatten() {
        let is_clean = inputs
            .observed
            .facts(name)
            .is_some_and(|facts| matches!(facts.marker, MarkerState::Absent));
        if !is_clean
            && !inputs.leaving.contains(name)
            && !inputs
                .desired
                .nodes
                .iter()
                .any(|node| node.ssh.host == address.host)
        {
            addresses
                .entry(name.clone())
                .or_insert_with(|| address.clone());
        }
    }
    addresses
}

/// The marker that is written before a change: what is there now stays named until the change is done.
pub(super) fn ahead(host: &Host<'_>, settled: &Marker) -> Marker {
    let mut marker = settled.clone();
    for (path, file) in &mut marker.files {
        let there = host
            .facts
            .files
            .get(path)
            .and_then(FileFact::file)
            .and_then(|stat| stat.sha256.clone());
        if there != file.sha256 {
            file.previous = there;
        }
    }
    // Files that go with this change are ours until they are gone.
    let gone: BTreeMap<String, OwnedFile> = host
        .facts
        .marker
        .get()
        .map(|old| old.files.clone())
        .unwrap_or_default()
        .into_iter()
        .filter(|(path, _)| !settled.files.contains_key(path))
        .collect();
    marker.files.extend(gone);
    // A host that is on its way out is known until it is clean.
    for (name, address) in host
        .facts
        .marker
        .get()
        .iter()
        .flat_map(|old| &old.addresses)
    {
        marker
            .addresses
            .entry(name.clone())
            .or_insert_with(|| address.clone());
    }
    marker
}
