//! What moves when a member goes elsewhere in place: its peer URL in the membership (Q14), its directories on the host.

use time::OffsetDateTime;

use super::Blocked;
use super::destroy::stamp;
use super::host::Host;
use crate::action::restart::{Move, Readdress};
use crate::etcd::id::MemberId;
use crate::observed::etcd::ClusterView;
use crate::runtime;

/// The change of its peer URL; `None` where the membership says what the file does, or nobody could say.
pub(super) fn readdress(
    view: &ClusterView,
    host: &Host<'_>,
    member: MemberId,
) -> Option<Readdress> {
    let listed = view.member(member)?;
    let to = vec![host.layout.peer_url.clone()];
    (listed.peer_urls != to).then(|| Readdress {
        from: listed.peer_urls.clone(),
        to,
        afterwards: view.voters().count() <= 2,
    })
}

/// Whether the member listens elsewhere than the membership says: a run was cut off between the two.
pub(super) fn is_half_way(view: &ClusterView, host: &Host<'_>, member: MemberId) -> bool {
    let listens = host
        .facts
        .unit
        .environment
        .as_ref()
        .map(|environment| host.layout.listens_for_its_peers(environment));
    let listed = view
        .member(member)
        .map(|listed| listed.peer_urls == [host.layout.peer_url.clone()]);
    matches!((listens, listed), (Some(listens), Some(listed)) if listens != listed)
}

/// Ports that a member would change to and that somebody else has.
pub(super) fn taken_ports(host: &Host<'_>) -> Vec<Blocked> {
    let environment = host.facts.unit.environment.as_ref();
    if environment.is_none_or(|running| host.layout.listens_where_it_should(running)) {
        return vec![];
    }
    host.taken_ports()
}

/// Directories of the data in the order in which they move. A WAL that was inside the data directory leaves it first, and
/// one that goes inside comes last: wherever a run is cut off, the WAL is in its old or its new place.
pub(super) fn directories(host: &Host<'_>, now: OffsetDateTime) -> Vec<Move> {
    let Some(marker) = host.facts.marker.get() else {
        return vec![];
    };
    let layout = &host.layout;
    let is_there = host
        .facts
        .unit
        .environment
        .as_ref()
        .is_some_and(|environment| layout.runs_in_its_directories(environment));
    if is_there {
        return vec![];
    }
    let stamp = stamp(now);
    let step = |from: String, to: String| {
        (from != to).then(|| Move {
            from,
            to,
            stamp: stamp.clone(),
        })
    };
    let old_member = runtime::member_in(&marker.data_dir);
    let old_wal = runtime::wal_files_in(&marker.data_dir, marker.wal_dir.as_deref());
    let member = step(old_member, layout.member_dir());
    let wal = match (&marker.wal_dir, &layout.wal_dir) {
        (None, None) => None,
        _ => step(old_wal, layout.wal_files_dir()),
    };
    if marker.wal_dir.is_none() {
        wal.into_iter().chain(member).collect()
    } else {
        member.into_iter().chain(wal).collect()
    }
}
