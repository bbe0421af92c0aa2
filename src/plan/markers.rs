//! Markers that actions write.

use std::collections::{BTreeMap, BTreeSet};

use super::Inputs;
use super::host::Host;
use super::software::package_names;
use crate::desired::model::{Desired, Install};
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::host::{DataDir, FileFact, HostFacts};
use crate::observed::marker::{
    Generation, Marker, MarkerState, OwnedFile, Phase, SshAddress, VERSION,
};
use crate::observed::{Observed, Table, former};
use crate::runtime;

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
    let mut held = old.map(|old| old.held.clone()).unwrap_or_default();
    if let Install::Package { names, .. } = &inputs.desired.etcd.install {
        for name in package_names(names, host.facts) {
            if packages.contains(&name) {
                continue;
            }
            if !host.facts.packages.contains_key(&name) {
                packages.push(name);
            } else if !host.facts.held.contains(&name) && !held.contains(&name) {
                held.push(name);
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
        moving: vec![],
        filesystem: host.facts.filesystem.uuid.clone(),
        files: host.expected_files(),
        directories,
        user,
        packages,
        held,
        archive,
        authority: inputs
            .observed
            .operator
            .authority
            .as_ref()
            .map(|authority| authority.current.fingerprint_sha256.clone()),
        addresses: inputs.addresses.after(old),
        last_plan: None,
    }
}

/// The addresses that markers are to name. The hosts of a cluster name the same ones, so they are worked out once for
/// all that do.
pub(crate) struct Addresses {
    /// How the nodes of the file are reached.
    file: Table<SshAddress>,
    /// The same with those that an earlier file named, by the digest of what a marker names now.
    kept: BTreeMap<[u8; 32], Table<SshAddress>>,
}

impl Addresses {
    /// `leaving` are hosts that need not be known when this plan is done.
    pub(super) fn new(desired: &Desired, observed: &Observed, leaving: &BTreeSet<String>) -> Self {
        let file: Table<SshAddress> = desired
            .nodes
            .iter()
            .map(|node| {
                let address = SshAddress {
                    host: node.ssh.host.clone(),
                    port: node.ssh.port,
                    user: node.ssh.user.clone(),
                    peer_url: Some(runtime::peer_url(desired, node)),
                };
                (node.name.clone(), address)
            })
            .collect();
        let mut kept = BTreeMap::new();
        for old in observed.known().filter_map(|(_, facts)| facts.marker.get()) {
            kept.entry(*old.addresses.digest())
                .or_insert_with(|| keep(&file, &old.addresses, observed, leaving));
        }
        Self { file, kept }
    }

    fn after(&self, old: Option<&Marker>) -> Table<SshAddress> {
        old.and_then(|old| self.kept.get(old.addresses.digest()))
            .unwrap_or(&self.file)
            .clone()
    }
}

/// Keeps, beside the nodes of the file, those that an earlier file named, or named elsewhere, and that still bear
/// something of ours.
fn keep(
    file: &Table<SshAddress>,
    old: &Table<SshAddress>,
    observed: &Observed,
    leaving: &BTreeSet<String>,
) -> Table<SshAddress> {
    let hosts: BTreeSet<_> = file.values().map(SshAddress::place).collect();
    let mut addresses = (**file).clone();
    for (name, address) in beside(file, old) {
        if !observed.facts(&name).is_some_and(is_clean)
            && !leaving.contains(&name)
            && !observed.aliases.contains(&name)
            && !hosts.contains(&address.place())
        {
            addresses.insert(name, address);
        }
    }
    addresses.into()
}

/// Whether a host bears nothing of a member: one that has lost its marker alone is still known by its address.
pub(super) fn is_clean(facts: &HostFacts) -> bool {
    matches!(facts.marker, MarkerState::Absent)
        && matches!(facts.data, DataDir::Empty | DataDir::NoWal)
}

/// Rows of an older table that a newer one does not have: a node that has moved has its former host there.
fn beside(newer: &Table<SshAddress>, older: &Table<SshAddress>) -> BTreeMap<String, SshAddress> {
    older
        .iter()
        .filter_map(|(name, address)| match newer.get(name) {
            None => Some((name.clone(), address.clone())),
            Some(same) if same.place() == address.place() => None,
            Some(_) => Some((former(name, &address.host), address.clone())),
        })
        .collect()
}

/// Directories in which an interrupted run may have left half a copy of the data, and that the next marker forgets.
pub(super) fn abandoned(host: &Host<'_>, next: &Marker) -> Vec<String> {
    let moving = host.marker().filter(|marker| !marker.moving.is_empty());
    let places = moving.map(Marker::places).unwrap_or_default();
    let kept = next.places();
    let directories: BTreeSet<String> = places
        .into_iter()
        .filter(|place| !kept.contains(place))
        .flat_map(|place| {
            let member = place.member();
            [place.data_dir, member].into_iter().chain(place.wal_dir)
        })
        .collect();
    directories.into_iter().collect()
}

/// What a marker says of a member that may have no vote yet: what it says already, if it is of that one.
pub(super) fn without_a_vote(host: &Host<'_>, member: MemberId) -> Phase {
    let marker = host.facts.marker.get();
    let of_it = marker.filter(|marker| marker.member_id.is_none_or(|id| id == member));
    of_it.map_or(Phase::Started, |marker| marker.generation.phase)
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
        } else {
            // A run that was cut off wrote it; nobody knows yet whether the member can live with it.
            let written = host.facts.marker.get().and_then(|old| old.files.get(path));
            let written = written.filter(|old| old.sha256 == file.sha256);
            file.previous = written.and_then(|old| old.previous.clone());
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
    if let Some(old) = host.facts.marker.get() {
        // Until the change is done, what has been there is: whose data it is, where it was, and where it may be.
        if marker.member_id.is_some() && marker.member_id == old.member_id {
            // Where the others were last seen to reach it.
            marker.peer_url = old.peer_url.clone().or(marker.peer_url);
        }
        marker.member_id = marker.member_id.or(old.member_id);
        marker.data_dir.clone_from(&old.data_dir);
        marker.wal_dir.clone_from(&old.wal_dir);
        let found = &host.facts.whereabouts;
        let wanted = host.layout.place();
        // Where none of it has got to, what is there is not it.
        let places = old.moving.iter().filter(|place| place.holds(found));
        marker.moving = places.cloned().collect();
        if !marker.places().contains(&wanted) {
            marker.moving.push(wanted);
        }
        marker.filesystem.clone_from(&old.filesystem);
    }
    if let Some(old) = host.facts.marker.get()
        && old.addresses != marker.addresses
    {
        let leaving: Table<SshAddress> = beside(&marker.addresses, &old.addresses).into();
        marker.addresses = marker.addresses.with(&leaving);
    }
    marker
}
