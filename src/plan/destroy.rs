//! Taking everything away that the markers say is ours.

use std::collections::BTreeSet;

use time::OffsetDateTime;
use time::macros::format_description;

use super::{Draft, Goal, Inputs};
use crate::action::destroy::{Clean, SetAside, Stop};
use crate::action::{Action, ActionId, ActionKind};
use crate::observed::HostState;
use crate::observed::data::{Place, Whereabouts};
use crate::observed::host::{DataDir, HostFacts};
use crate::observed::marker::{Marker, MarkerState};
use crate::sabotage::{self, Bug};

/// `20261121T101500Z`, for the names of what is moved aside.
pub(super) fn stamp(now: OffsetDateTime) -> String {
    now.to_offset(time::UtcOffset::UTC)
        .format(format_description!(
            "[year][month][day]T[hour][minute][second]Z"
        ))
        .unwrap_or_default()
}

/// Plans a destroy. A host that cannot be reached is left for another run; the others go on.
pub(super) fn plan(inputs: &Inputs<'_>, draft: &mut Draft) {
    let cluster = &inputs.desired.cluster;
    let generation = inputs.observed.generation(&cluster.name, &cluster.token);
    for (node, state) in &inputs.observed.hosts {
        match state {
            HostState::Unknown(unknown) => draft.block(
                Some(node),
                unknown.detail(),
                "it is left as it is: run `quorate destroy` again when it can be reached",
            ),
            HostState::Known(facts) => match &facts.marker {
                MarkerState::Absent => {}
                MarkerState::Newer(version) => draft.block(
                    Some(node),
                    format!("a newer program wrote its marker, in format {version}"),
                    "use a newer quorate",
                ),
                MarkerState::Unreadable(error) => draft.block(
                    Some(node),
                    format!("its marker cannot be read: {error}"),
                    "without it nothing on the host is known to be ours: restore it, or clean the host by hand",
                ),
                MarkerState::Present(marker) if marker.cluster != inputs.desired.cluster.name => {
                    draft.block(
                        Some(node),
                        format!("the host belongs to cluster {}", marker.cluster),
                        "use that cluster's file, or take the node out of this one",
                    );
                }
                MarkerState::Present(marker)
                    if generation.map(|ours| &ours.nonce) != Some(&marker.generation.nonce) =>
                {
                    draft.block(
                        Some(node),
                        format!(
                            "the host belongs to another generation of {}, bootstrapped with token {}",
                            marker.cluster, marker.generation.token
                        ),
                        "if that is meant to go too, destroy it with a cluster file that names only its nodes and its token",
                    );
                }
                MarkerState::Present(marker) => host(inputs, draft, node, facts, marker),
            },
        }
    }
}

/// Data to set aside, each within its own directory, which may be a disk of its own: what is where the marker says, and
/// what an interrupted run has left on its way.
pub(super) fn asides(place: &Place, found: &Whereabouts, suffix: &str) -> Vec<(String, String)> {
    let mut asides = Vec::new();
    let members = [Some(place.member()), found.member.clone()];
    let wals = [place.separate_wal(), found.wal.clone()];
    for (name, paths) in [("member", members), ("wal", wals)] {
        for path in paths.into_iter().flatten() {
            let is_inside = asides
                .iter()
                .any(|(other, _)| path == *other || path.starts_with(&format!("{other}/")));
            if let (Some((directory, _)), false) = (path.rsplit_once('/'), is_inside) {
                let to = format!("{directory}/{name}.{suffix}");
                asides.push((path, to));
            }
        }
    }
    asides
}

/// Takes everything away from one host.
pub(super) fn host(
    inputs: &Inputs<'_>,
    draft: &mut Draft,
    node: &str,
    facts: &HostFacts,
    marker: &Marker,
) {
    let purge = matches!(inputs.intent.goal, Goal::Destroy { purge_data: true })
        || sabotage::on(Bug::DestroyPurges);
    let mut before = BTreeSet::new();
    let mut add = |verb: &str, kind: ActionKind, before: &mut BTreeSet<ActionId>| {
        let id = ActionId::of_node(node, verb);
        draft.actions.push(Action {
            id: id.clone(),
            node: Some(node.to_owned()),
            kind,
            because: vec!["the cluster is destroyed".into()],
            needs: before.clone(),
            changes: vec![],
            margin: None,
        });
        before.insert(id);
    };
    let absent = facts.unit.load == "not-found" && !facts.unit.is_up();
    if !absent {
        add(
            "stop",
            ActionKind::Stop(Stop {
                unit: marker.unit.clone(),
                member: None,
            }),
            &mut before,
        );
    }
    let mut aside = Vec::new();
    // The data directory of the marker may not be that of the file: what is not there is not moved.
    if facts.data != DataDir::Empty || !absent {
        // Of a cluster that lives on nothing is destroyed: a member was removed.
        let end = if inputs.intent.goal.is_destroy() {
            "destroyed"
        } else {
            "removed"
        };
        let suffix = format!("quorate-{end}-{}", stamp(inputs.now));
        let moves = asides(&marker.place(), &facts.whereabouts, &suffix);
        let mut set_aside = SetAside {
            moves: vec![],
            purge: vec![],
            member: None,
        };
        if purge {
            set_aside.purge = moves.into_iter().map(|(from, _)| from).collect();
        } else {
            aside.extend(moves.iter().map(|(_, to)| to.clone()));
            set_aside.moves = moves;
        }
        add("set-aside", ActionKind::SetAside(set_aside), &mut before);
    }
    let mut directories = marker.directories.clone();
    directories.reverse();
    let places = marker.places().into_iter();
    let data = places.flat_map(|place| std::iter::once(place.data_dir).chain(place.wal_dir));
    let kind = ActionKind::Clean(Clean {
        unit: marker.unit.clone(),
        files: marker.files.keys().cloned().collect(),
        directories,
        data: data.collect(),
        aside,
        user: marker.user.clone(),
        packages: marker.packages.clone(),
        held: marker.held.clone(),
        manager: facts.package_manager(),
    });
    add("clean", kind, &mut before);
}
