//! What the hosts of a bootstrap hold already, or do not hold any more (Q11, Q12).

use super::host::Host;
use super::{Draft, Inputs};
use crate::etcd::id::MemberId;
use crate::observed::host::DataDir;
use crate::observed::marker::{Generation, MarkerState, Phase};
use crate::safety;

/// Tells hosts that had a marker, for all have one before the first member starts, and perhaps a member that voted: on an
/// empty directory it would come up without memory (Q11, Q12). Who has never published a client URL has not served.
pub(super) fn has_lost_everything(
    inputs: &Inputs<'_>,
    generation: &Generation,
) -> impl Fn(&Host<'_>) -> bool {
    let cluster_id = generation.cluster_id();
    let view = inputs.observed.cluster();
    let has_begun = inputs.observed.known().any(|(_, facts)| {
        let marker = facts.marker.get();
        let is_started = marker.is_some_and(|marker| {
            marker.generation.nonce == generation.nonce && marker.generation.phase >= Phase::Started
        });
        is_started || matches!(&facts.data, DataDir::Wal(wal) if wal.cluster_id == cluster_id)
    });
    let margin = safety::margin(&view, MemberId(0), &[]);
    let is_quorate = margin.voters > 0 && margin.before >= margin.needs;
    move |host| {
        let is_blank = matches!(host.facts.marker, MarkerState::Absent)
            && matches!(host.facts.data, DataDir::Empty | DataDir::NoWal);
        let member = generation.member_id(&host.node.name);
        let listed = member.and_then(|id| view.member(id));
        // One member alone may know only what was long ago.
        let is_new = is_quorate
            && view.cluster_ids == [cluster_id]
            && listed.is_some_and(|listed| listed.client_urls.is_empty());
        has_begun && is_blank && !is_new
    }
}

/// Refuses data that is not of this bootstrap, and a member that has lost its own.
pub(super) fn check_data(host: &Host<'_>, generation: &Generation, draft: &mut Draft) {
    let node = Some(host.node.name.as_str());
    let started = host
        .facts
        .marker
        .get()
        .is_some_and(|marker| marker.generation.phase >= Phase::Started);
    if let Some(error) = host.facts.marker.unreadable() {
        draft.block(
            node,
            format!("its marker cannot be read: {error}"),
            match host.facts.marker {
                MarkerState::Newer(_) => "use a newer quorate",
                _ => "restore /etc/quorate/marker.json on the host, or remove it if the host is not managed",
            },
        );
    }
    match &host.facts.data {
        DataDir::Wal(wal) if wal.cluster_id != generation.cluster_id() => draft.block(
            node,
            format!(
                "{} holds the data of member {} of another cluster, {}",
                host.layout.data_dir, wal.member_id, wal.cluster_id
            ),
            "move that data away if it is not needed, or give the node another data_dir or host",
        ),
        DataDir::Wal(_) => {}
        DataDir::Unreadable(error) => draft.block(
            node,
            format!(
                "{} holds a WAL that cannot be read: {error}",
                host.layout.data_dir
            ),
            "move that data away if it is not needed, or give the node another data_dir or host",
        ),
        DataDir::Empty | DataDir::NoWal if started => draft.block(
            node,
            format!(
                "its member has been started before, and {} has no WAL now: is a disk not mounted?",
                host.layout.data_dir
            ),
            "mount it; if the data is lost for good, `quorate destroy` and apply again",
        ),
        DataDir::Empty | DataDir::NoWal
            if host
                .facts
                .marker
                .get()
                .is_some_and(|marker| marker.filesystem != host.facts.filesystem.uuid) =>
        {
            draft.block(
                node,
                format!(
                    "another file system is mounted at {} than when the bootstrap began",
                    host.layout.data_dir
                ),
                "mount the one that belongs there, or `quorate destroy` and apply again",
            );
        }
        DataDir::NoWal if host.facts.marker.get().is_none() => draft.block(
            node,
            format!("{}/member exists, but holds no WAL", host.layout.data_dir),
            "move it away if it is not needed, or give the node another data_dir",
        ),
        DataDir::Empty | DataDir::NoWal => draft.blocked.extend(host.preflight_new_member()),
    }
}
