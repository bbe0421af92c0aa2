//! What moves when a member goes elsewhere in place: its peer URL in the membership (Q14), its directories on the host.

use time::OffsetDateTime;

use super::Blocked;
use super::destroy::stamp;
use super::host::Host;
use crate::action::restart::{Move, Readdress};
use crate::etcd::id::MemberId;
use crate::observed::etcd::ClusterView;
use crate::runtime;
use crate::sabotage::{self, Bug};

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
        && !sabotage::on(Bug::HalfWayAddressWaits)
}

/// Ports that a member would change to and that somebody else has.
pub(super) fn taken_ports(host: &Host<'_>) -> Vec<Blocked> {
    let environment = host.facts.unit.environment.as_ref();
    if environment.is_none_or(|running| host.layout.listens_where_it_should(running)) {
        return vec![];
    }
    host.taken_ports()
}

/// Directories of the data in the order in which they move. The WAL comes last: without it the unit does not start, so
/// that no member comes up on half of its data when a run is cut off.
pub(super) fn directories(host: &Host<'_>, now: OffsetDateTime) -> Vec<Move> {
    let facts = host.facts;
    let Some(marker) = facts.marker.get() else {
        return vec![];
    };
    let layout = &host.layout;
    let running = facts.unit.environment.as_ref();
    if running.is_some_and(|environment| layout.runs_in_its_directories(environment)) {
        return vec![];
    }
    // What runs knows better where its data is than a marker that an interrupted run left.
    let (data_dir, wal_dir) = running
        .and_then(runtime::directories_in)
        .unwrap_or_else(|| (marker.data_dir.clone(), marker.wal_dir.clone()));
    let stamp = stamp(now);
    let step = |from: String, to: String| {
        (from != to).then(|| Move {
            from,
            to,
            stamp: stamp.clone(),
            back: false,
        })
    };
    let member = step(runtime::member_in(&data_dir), layout.member_dir());
    let wal = match (&wal_dir, &layout.wal_dir) {
        (None, None) => None,
        // By then it has come along.
        (None, Some(_)) => step(
            format!("{}/wal", layout.member_dir()),
            layout.wal_files_dir(),
        ),
        (Some(old), _) => step(runtime::wal_in(old), layout.wal_files_dir()),
    };
    let mut steps: Vec<Move> = member.into_iter().chain(wal).collect();
    if sabotage::on(Bug::WalFirst) {
        steps.reverse();
    }
    steps
}
