//! What moves when a member goes elsewhere in place: its peer URL in the membership (Q14), its directories on the host.

use time::OffsetDateTime;

use super::Blocked;
use super::destroy::stamp;
use super::host::Host;
use crate::action::restart::{Move, Readdress};
use crate::etcd::id::MemberId;
use crate::observed::data;
use crate::observed::etcd::ClusterView;
use crate::runtime;
use crate::sabotage::{self, Bug};

/// The change of its peer URL, or the look whether the others reach it there, which a run that was cut off has left out;
/// `None` where there is neither, or nobody could say.
pub(super) fn readdress(
    view: &ClusterView,
    host: &Host<'_>,
    member: MemberId,
) -> Option<Readdress> {
    let listed = view.member(member)?;
    let to = vec![host.layout.peer_url.clone()];
    if listed.peer_urls != to {
        return Some(Readdress {
            from: listed.peer_urls.clone(),
            to,
            afterwards: view.voters().count() <= 2,
        });
    }
    let last = unheard(host);
    let listens = host.facts.unit.environment.as_ref();
    let is_there = listens.is_some_and(|running| host.layout.listens_for_its_peers(running));
    (last.is_some() || is_half_way(view, host, member)).then(|| Readdress {
        // Where it is what it should be, there is no way back to where it was.
        from: last
            .filter(|_| !is_there)
            .map_or_else(|| to.clone(), |url| vec![url]),
        to,
        afterwards: true,
    })
}

/// Where the others were last seen to reach the member, if that is not its peer URL.
pub(super) fn unheard(host: &Host<'_>) -> Option<String> {
    let last = host.facts.marker.get()?.peer_url.clone();
    last.filter(|url| *url != host.layout.peer_url)
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

/// Whether a run was cut off on its way to another address, and perhaps nobody can dial it.
pub(super) fn is_under_way(view: &ClusterView, host: &Host<'_>, member: MemberId) -> bool {
    readdress(view, host, member).is_some_and(|readdress| readdress.is_known())
        || is_half_way(view, host, member)
}

/// Why a member cannot go where the file wants it: a port that somebody else has, data of another cluster, or a disk that
/// is not there.
pub(super) fn refusals(host: &Host<'_>, moves: &[Move]) -> Vec<Blocked> {
    let running = host.facts.unit.environment.as_ref();
    let mut blocked = match running {
        Some(running) if !host.layout.listens_where_it_should(running) => host.taken_ports(),
        _ => vec![],
    };
    let member_dir = host.layout.member_dir();
    if let (Some(theirs), false) = (&host.facts.whereabouts.taken, moves.is_empty()) {
        blocked.push(host.blocked(
            format!(
                "its data is to go to {member_dir}, where other data is, of member {} of cluster {}",
                theirs.member_id, theirs.cluster_id
            ),
            "move that away if it is not needed, a copy of long ago too: started on it, the member would vote without \
             memory; or name another directory (data_dir, wal_dir)",
        ));
    }
    // Beneath a mount point the data would be gone as soon as the disk is back (Q10).
    let inside = format!("{}/", host.layout.data_dir);
    let comes_in = |moved: &&Move| moved.to == member_dir && !moved.from.starts_with(&inside);
    let is_missing = host.marker().is_some_and(|marker| {
        marker.data_dir == host.layout.data_dir && marker.filesystem != host.facts.filesystem.uuid
    });
    if let (Some(moved), true) = (moves.iter().find(comes_in), is_missing) {
        blocked.push(host.blocked(
            format!(
                "its data is to come back to {} from {}, and another file system is mounted there than before",
                host.layout.data_dir, moved.from
            ),
            "mount the one that was there, and plan again; or name another directory (data_dir)",
        ));
    }
    blocked
}

/// Parts of the data that move, from where they were found, in the order in which they do. The WAL comes last: without it
/// the unit does not start, so that no member comes up on half of its data when a run is cut off.
pub(super) fn directories(host: &Host<'_>, now: OffsetDateTime) -> Vec<Move> {
    let found = &host.facts.whereabouts;
    let (member_dir, wal_dir) = (host.layout.member_dir(), host.layout.wal_files_dir());
    let wal = found.wal.as_ref().map(|wal| come_along(host, wal));
    let parts = [(found.member.clone(), member_dir), (wal, wal_dir)];
    let parts = parts.into_iter().filter_map(|(from, to)| Some((from?, to)));
    let mut moves = steps(parts, now, false);
    if sabotage::on(Bug::WalFirst) {
        moves.reverse();
    }
    moves
}

/// The way back to where the member ran last, the WAL first; none where the data is in a third place, or was only ever on
/// its way back there.
pub(super) fn way_back(host: &Host<'_>, now: OffsetDateTime) -> Vec<Move> {
    let found = &host.facts.whereabouts;
    let running = host.facts.unit.environment.as_ref();
    let home = running.and_then(runtime::place_in);
    let Some(home) = home.or_else(|| Some(host.marker()?.place())) else {
        return vec![];
    };
    let (member_dir, wal_dir) = (host.layout.member_dir(), host.layout.wal_files_dir());
    let inside = || format!("{member_dir}/wal");
    let wal = home.separate_wal().unwrap_or_else(inside);
    let knows = |found: Option<String>, home: &String, to: &String| {
        let known = [
            home.clone(),
            data::moving(home),
            to.clone(),
            data::moving(to),
        ];
        found.is_none_or(|at| known.contains(&at))
    };
    let found_wal = found.wal.as_ref().map(|at| come_along(host, at));
    if !knows(found.member.clone(), &home.member(), &member_dir)
        || !knows(found_wal, &wal, &wal_dir)
    {
        return vec![];
    }
    steps([(wal, wal_dir), (home.member(), member_dir)], now, true)
}

/// Where the WAL is once `member/` is where it belongs: inside it has come along.
fn come_along(host: &Host<'_>, wal: &str) -> String {
    let member = host.facts.whereabouts.member.as_deref();
    let inside = member.and_then(|member| wal.strip_prefix(member));
    match inside.filter(|inside| inside.starts_with('/')) {
        Some(inside) => format!("{}{inside}", host.layout.member_dir()),
        None => wal.to_owned(),
    }
}

fn steps(
    parts: impl IntoIterator<Item = (String, String)>,
    now: OffsetDateTime,
    back: bool,
) -> Vec<Move> {
    let moved = parts.into_iter().filter(|(from, to)| from != to);
    let stamp = stamp(now);
    moved
        .map(|(from, to)| Move {
            from,
            to,
            stamp: stamp.clone(),
            back,
        })
        .collect()
}
