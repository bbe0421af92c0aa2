//! Bringing a new member onto a host: what the host needs, then the learner's first start.

use std::collections::BTreeSet;

use super::converge::change_of;
use super::destroy::{asides, stamp};
use super::host::{Differences, Host};
use super::membership::Seat;
use super::{Inputs, markers};
use crate::action::add::Add;
use crate::action::destroy::{SetAside, Stop};
use crate::action::join::Join;
use crate::action::marker::{Claim, Record};
use crate::action::promote::Promote;
use crate::action::{Action, ActionId, ActionKind, Change};
use crate::etcd::id::{ClusterId, MemberId};
use crate::observed::Whereabouts;
use crate::observed::host::DataDir;
use crate::observed::marker::{Generation, Marker, Phase};
use crate::plan::model::Blocked;

/// The actions of one joining node, by the stage at which they may go.
pub(super) struct Joining {
    pub node: String,
    /// What can be done at once: files, binaries, certificates.
    pub prepare: Vec<Action>,
    /// Once its former member is no member any more: stopping it and moving its data aside.
    pub vacate: Vec<Action>,
    /// `None` where it was added already.
    pub add: Option<Action>,
    /// First start, and what settles it.
    pub join: Action,
    pub promote: Action,
    pub record: Action,
}

/// What it takes; or why the host cannot have a member.
pub(super) fn joining(
    inputs: &Inputs<'_>,
    host: &Host<'_>,
    seat: Seat,
    generation: &Generation,
    cluster: ClusterId,
) -> Result<Joining, Vec<Blocked>> {
    let mut differences = host.differences();
    let mut blocked = std::mem::take(&mut differences.blocked);
    blocked.extend(host.preflight_new_member());
    if !blocked.is_empty() {
        return Err(blocked);
    }
    let node = host.node.name.clone();
    let peer_url = host.layout.peer_url.clone();
    let action = |verb: &str, kind: ActionKind, because: &str, changes: Vec<Change>| Action {
        id: ActionId::of_node(&node, verb),
        node: Some(node.clone()),
        kind,
        because: vec![because.to_owned()],
        needs: BTreeSet::new(),
        changes,
        margin: None,
    };
    let marker = |phase: Phase| {
        let generation = Generation {
            phase,
            ..generation.clone()
        };
        let mut marker = markers::settled(inputs, host, generation, None);
        marker.cluster_id = Some(cluster);
        marker
    };
    let why = match seat {
        Seat::Vacant { failed: Some(id) } => format!("it takes the place of member {id}"),
        Seat::Learner { .. } => "it was added by a run that was cut off".to_owned(),
        _ => "the cluster file names it, and it is not a member yet".to_owned(),
    };

    let ahead = markers::ahead(host, &marker(Phase::Frozen));
    let claim = Claim {
        fresh: host.facts.marker.get().is_none(),
        abandoned: markers::abandoned(host, &ahead),
        marker: ahead,
    };
    let is_claimed =
        host.facts.marker.get().map(|marker| marker.canonical()) == Some(claim.marker.clone());
    let mut prepare = Vec::new();
    if !is_claimed {
        prepare.push(action("claim", ActionKind::Claim(claim), &why, vec![]));
    }
    let claimed: BTreeSet<ActionId> = prepare.iter().map(|action| action.id.clone()).collect();
    if let Some(mut install) = differences.install {
        // Whatever runs there is stopped before this member starts.
        install.staged = false;
        let changes = vec![change_of("version", None, &install.version)];
        prepare.push(action(
            "install",
            ActionKind::Install(install),
            &why,
            changes,
        ));
    }
    if let Some(wanted) = differences.prepare.take() {
        let changes = host.prepare_changes(&wanted);
        prepare.push(action(
            "prepare",
            ActionKind::Prepare(wanted),
            &why,
            changes,
        ));
    }
    if let Some(configure) = Differences::configure(
        &differences.files,
        &differences.leftovers,
        &host.layout,
        host.facts,
    ) {
        let changes = differences
            .files
            .into_iter()
            .flat_map(|file| file.changes)
            .collect();
        prepare.push(action(
            "configure",
            ActionKind::Configure(configure),
            &why,
            changes,
        ));
    }
    let directories: BTreeSet<ActionId> = prepare
        .iter()
        .filter(|action| matches!(action.kind, ActionKind::Prepare(_)))
        .map(|action| action.id.clone())
        .collect();
    for action in &mut prepare {
        if !matches!(action.kind, ActionKind::Claim(_)) {
            action.needs = claimed.clone();
        }
        if matches!(action.kind, ActionKind::Configure(_)) {
            action.needs.extend(directories.iter().cloned());
        }
    }

    let mut vacate = Vec::new();
    let marked = host.marker().and_then(|marker| marker.member_id);
    let failed = match seat {
        Seat::Vacant { failed } => failed,
        _ => None,
    };
    // Where nobody has looked for its data, that of a former life may be.
    let wanted = host.layout.place();
    let moves_in = host
        .marker()
        .is_some_and(|old| !old.places().contains(&wanted));
    let stale = match &host.facts.data {
        DataDir::Wal(wal) => Some(Some(wal.member_id)),
        DataDir::Unreadable(_) => Some(failed.or(marked)),
        DataDir::Empty | DataDir::NoWal => failed.or(marked).filter(|_| moves_in).map(Some),
    };
    if let Some(former) = stale {
        vacate.push(action(
            "stop",
            ActionKind::Stop(Stop {
                unit: host.layout.unit.clone(),
                member: former,
            }),
            "its former member is none any more",
            vec![],
        ));
        vacate.push(action(
            "set-aside",
            ActionKind::SetAside(set_aside(host, former, inputs)),
            "a new member starts without data, and nothing is deleted",
            vec![],
        ));
        // A member that runs may crash before it is removed, and would come up on half a change (Q15).
        if failed.is_some() && host.facts.unit.is_up() {
            let (live, rest): (Vec<Action>, Vec<Action>) =
                prepare.into_iter().partition(|action| {
                    matches!(
                        action.kind,
                        ActionKind::Install(_) | ActionKind::Configure(_)
                    )
                });
            prepare = rest;
            vacate.extend(live);
        }
    }

    let add = Action {
        node: Some(node.clone()),
        ..action(
            "add",
            ActionKind::Add(Add {
                peer_url: peer_url.clone(),
            }),
            &why,
            vec![],
        )
    };
    let join = action(
        "join",
        ActionKind::Join(Join {
            unit: host.layout.unit.clone(),
            name: node.clone(),
            peer_url: peer_url.clone(),
            token: generation.token.clone(),
            drop_in: host.layout.start_drop_in.clone(),
            wal_dir: host.layout.wal_files_dir(),
            leftover: (
                host.layout.member_dir(),
                format!("{}.quorate-{}", host.layout.member_dir(), stamp(inputs.now)),
            ),
            marker: marker(Phase::Started),
        }),
        &why,
        vec![
            change_of("client URL", None, &host.layout.client_url),
            change_of("peer URL", None, &peer_url),
        ],
    );
    let promote = action(
        "promote",
        ActionKind::Promote(Promote {
            peer_url,
            unit: host.layout.unit.clone(),
        }),
        "it has caught up by then, and a vote too early would take the quorum with it",
        vec![],
    );
    let settled = marker(Phase::Complete);
    let record = action(
        "record",
        ActionKind::Record(Record {
            settled: settled.files.keys().cloned().collect(),
            abandoned: markers::abandoned(host, &settled),
            marker: settled,
        }),
        &why,
        vec![],
    );
    Ok(Joining {
        node: node.clone(),
        prepare,
        vacate,
        add: (!matches!(seat, Seat::Learner { .. })).then_some(add),
        join,
        promote,
        record,
    })
}

/// Data of a former life may be where the node had it, and where it is to have it.
fn set_aside(host: &Host<'_>, member: Option<MemberId>, inputs: &Inputs<'_>) -> SetAside {
    let suffix = format!("quorate-replaced-{}", stamp(inputs.now));
    let wanted = host.layout.place();
    let former = host.marker().map_or_else(|| wanted.clone(), Marker::place);
    let mut moves = asides(&former, &host.facts.whereabouts, &suffix);
    let mut others = asides(&wanted, &Whereabouts::default(), &suffix);
    others.retain(|other| !moves.contains(other));
    moves.extend(others);
    SetAside {
        moves,
        purge: vec![],
        member,
    }
}
