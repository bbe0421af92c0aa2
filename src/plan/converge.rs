//! A cluster that lives: what differs on each host, and what that costs.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Host;
use super::member::{self, Cluster, First};
use super::membership::{Roster, Seat, roster};
use super::restarts::{Restarts, no_restarts};
use super::steps::Changes;
use super::{Draft, Goal, Inputs, join, leave, markers, moves, steps};
use crate::action::{ActionId, ActionKind, Change};
use crate::etcd::id::{ClusterId, MemberId};
use crate::etcd::wal::WalIdentity;
use crate::observed::etcd::ClusterView;
use crate::observed::marker::{Generation, Marker, Phase};
use crate::sabotage::{self, Bug};
use crate::safety;

/// Whether there is a cluster yet.
pub(super) enum Situation {
    /// No member has ever been seen healthy: a bootstrap, or the rest of one.
    Blank,
    /// There is a cluster.
    Living,
}

/// Tells a living cluster from hosts that are blank or half-way through a bootstrap.
pub(super) fn situation(inputs: &Inputs<'_>) -> Situation {
    let living = inputs
        .observed
        .known()
        .any(|(_, facts)| match facts.marker.get() {
            // A host that joins knows the ID of its cluster before it is a part of it; one of a bootstrap does not.
            Some(marker) => {
                marker.generation.phase == Phase::Complete
                    || (marker.cluster_id.is_some() && !sabotage::on(Bug::JoiningIsBlank))
            }
            None => false,
        });
    if living {
        Situation::Living
    } else {
        Situation::Blank
    }
}

/// A change of one attribute.
pub(super) fn change_of(name: &str, before: Option<String>, after: &str) -> Change {
    Change {
        name: name.into(),
        before,
        after: Some(after.into()),
        drift: false,
        text: false,
    }
}

/// The cluster that the complete markers agree on.
pub(super) struct Known {
    pub generation: Generation,
    pub cluster_id: ClusterId,
}

/// Plans everything that brings a living cluster to what the file says: repair, drift, settings and membership.
pub(super) fn plan(inputs: &mut Inputs<'_>, draft: &mut Draft) {
    let Some(known) = agree(inputs, draft) else {
        return;
    };
    if !known
        .generation
        .token
        .starts_with(&format!("{}-", inputs.desired.cluster.token))
    {
        draft.block(
            None,
            format!(
                "the cluster file changes the token: the cluster was bootstrapped with {}",
                known.generation.token
            ),
            "a token belongs to a bootstrap: set `token` back, or destroy the cluster and apply again",
        );
        return;
    }
    let view = inputs.observed.cluster();
    let mut answers = view.statuses.values();
    if let Some((node, other)) = answers.find(|(_, status)| status.cluster_id != known.cluster_id) {
        draft.block(
            Some(node),
            format!(
                "it answers for cluster {}; this one is {}",
                other.cluster_id, known.cluster_id
            ),
            "stop etcd there if it is of an earlier life of the host, or compare the nodes' addresses with the hosts; no \
             member is touched meanwhile",
        );
        return;
    }
    unknown_replacements(inputs, draft);
    let leaving = leave::leaving(inputs, &view, &known.generation);
    if view.members.is_empty() {
        leaving.wait_for_members(draft);
    }
    let all: BTreeSet<String> = leaving.names().cloned().collect();
    // Other hosts forget those that this plan cleans or that are gone. Which these are is known when it is made: where
    // some stay, it is made again.
    let mut forgotten = all;
    loop {
        inputs.addresses = markers::Addresses::new(inputs.desired, inputs.observed, &forgotten);
        let mut trial = draft.clone();
        let settled = attempt(inputs, &mut trial, &known, &view, &leaving);
        if settled.is_superset(&forgotten) || sabotage::on(Bug::LeaverForgotten) {
            *draft = trial;
            return;
        }
        forgotten = &forgotten & &settled;
    }
}

/// Plans it under the assumption that `inputs.addresses` makes. Returns the hosts that need not be known afterwards.
fn attempt(
    inputs: &Inputs<'_>,
    draft: &mut Draft,
    known: &Known,
    view: &ClusterView,
    leaving: &leave::Leaving,
) -> BTreeSet<String> {
    let diagnosis = safety::Diagnosis::of(view);
    let hosts: BTreeMap<&str, Host<'_>> = Host::all(inputs)
        .into_iter()
        .map(|host| (host.node.name.as_str(), host))
        .collect();
    let mut roster = roster(inputs, draft, &hosts, view, known);
    let leavers: BTreeSet<MemberId> = roster.leavers.iter().map(|leaver| leaver.member).collect();
    let cluster = Cluster {
        known,
        view,
        diagnosis: &diagnosis,
        loses_dead: leavers.iter().any(|id| diagnosis.unhealthy(*id).is_some()),
        under_way: roster
            .seats
            .iter()
            .filter_map(|(node, seat)| match (seat, hosts.get(node.as_str())) {
                (Seat::Member(id), Some(host)) if moves::is_under_way(view, host, *id) => Some(*id),
                _ => None,
            })
            .collect(),
    };
    let mut first = First::default();
    let mut joinings = Vec::new();
    let (mut ready, mut refused) = (true, false);
    for node in &inputs.desired.nodes {
        let (Some(seat), Some(host)) = (
            roster.seats.get(&node.name).copied(),
            hosts.get(node.name.as_str()),
        ) else {
            continue;
        };
        match seat {
            Seat::Blocked => {}
            Seat::Member(member_id)
            | Seat::Learner {
                member: member_id,
                has_data: true,
            } => {
                let wal = WalIdentity {
                    cluster_id: known.cluster_id,
                    member_id,
                };
                let agreed = member::converge(inputs, draft, host, &cluster, wal, &mut first);
                refused |= !agreed;
                if !agreed && matches!(seat, Seat::Learner { .. }) && !host.facts.unit.is_up() {
                    // It gets no vote while it does not run.
                    roster.seats.insert(node.name.clone(), Seat::Blocked);
                    roster.unfinished = true;
                }
                // A second one that nobody can dial would take the quorum with it.
                roster.unfinished |= !agreed && cluster.under_way.contains(&member_id);
            }
            Seat::Vacant { .. } | Seat::Learner { .. } => {
                match join::joining(inputs, host, seat, &known.generation, known.cluster_id) {
                    Ok(joining) => joinings.push(joining),
                    Err(blocked) => {
                        draft.blocked.extend(blocked);
                        ready = false;
                    }
                }
            }
        }
    }
    let mended = first.mend(draft, view);
    let restarts = Restarts {
        view,
        first: &first,
    };
    // Hosts that take over pass their preflight before anything is removed (Q3), and nobody joins members that would not
    // be what the file says, such as another version.
    if !ready || roster.unfinished || (refused && !joinings.is_empty()) {
        joinings.clear();
        roster.leavers.retain(|leaver| leaver.learner);
        for seat in roster.seats.values_mut() {
            if matches!(seat, Seat::Vacant { .. }) {
                *seat = Seat::Blocked;
            }
        }
        roster.unfinished = true;
    }
    let back: Vec<MemberId> = first.back().collect();
    let readable = readable(view, &back, &mended);
    let (changes, finished) = steps::plan(draft, &hosts, view, &roster, joinings, &back, mended);
    after_their_votes(draft, &hosts, &roster, &changes);
    leaving.clean(inputs, draft, view, &changes.removals, readable.as_ref());
    if roster.unfinished || !finished {
        no_restarts(draft, &first, &changes);
    }
    restarts.order(draft, &changes);
    let stay = leavers
        .iter()
        .filter(|member| !changes.removals.contains_key(*member));
    let settled = leaving.settled(draft, view, stay.count(), &roster.seats, &changes.removals);
    keep_until_clean(draft);
    settled
}

/// A learner is recorded as one that is complete once it has its vote, and not in a plan that does not give it one.
fn after_their_votes(
    draft: &mut Draft,
    hosts: &BTreeMap<&str, Host<'_>>,
    roster: &Roster,
    changes: &Changes,
) {
    let is_learner = |seat: &Seat| matches!(seat, Seat::Learner { has_data: true, .. });
    let learners = roster.seats.iter().filter(|(_, seat)| is_learner(seat));
    for (node, seat) in learners {
        let (promote, id) = (
            ActionId::of_node(node, "promote"),
            ActionId::of_node(node, "record"),
        );
        let Some(at) = draft.actions.iter().position(|action| action.id == id) else {
            continue;
        };
        let action = &mut draft.actions[at];
        match (&mut action.kind, hosts.get(node.as_str())) {
            _ if changes.steps.contains(&promote) => {
                action.needs.insert(promote);
            }
            (ActionKind::Record(record), Some(host)) => {
                if let Seat::Learner { member, .. } = seat {
                    record.marker.generation.phase = markers::without_a_vote(host, *member);
                }
                let now = host.marker().map(Marker::canonical);
                if action.needs.is_empty() && now == Some(record.marker.canonical()) {
                    draft.actions.remove(at);
                }
            }
            _ => {}
        }
    }
}

/// What has to be done before the membership can be read linearizably, which takes a quorum; `None` where members that
/// come back are too few.
fn readable(
    view: &ClusterView,
    back: &[MemberId],
    mended: &BTreeSet<ActionId>,
) -> Option<BTreeSet<ActionId>> {
    let has_quorum = |starting: &[MemberId]| {
        let margin = safety::margin(view, MemberId(0), starting);
        margin.before >= margin.needs
    };
    if has_quorum(&[]) {
        return Some(BTreeSet::new());
    }
    // Who answers and has no leader has one again once the others are back.
    let answer = view.statuses.keys().copied();
    let up: Vec<MemberId> = answer.chain(back.iter().copied()).collect();
    (!mended.is_empty() && has_quorum(&up)).then(|| mended.clone())
}

/// `--replace` of a node that the file does not name.
fn unknown_replacements(inputs: &Inputs<'_>, draft: &mut Draft) {
    let Goal::Converge { replace, .. } = &inputs.intent.goal else {
        return;
    };
    for name in replace {
        if !inputs.desired.nodes.iter().any(|node| node.name == *name) {
            draft.block(
                None,
                format!("--replace {name}: the cluster file has no such node"),
                "name a node of the cluster file",
            );
        }
    }
}

/// Other hosts know of one that leaves until it is clean: a run that is cut off would forget it else.
fn keep_until_clean(draft: &mut Draft) {
    let last: BTreeSet<ActionId> = draft
        .actions
        .iter()
        .filter(|action| matches!(action.kind, ActionKind::Clean(_) | ActionKind::Remove(_)))
        .map(|action| action.id.clone())
        .collect();
    for action in &mut draft.actions {
        let waits = !sabotage::on(Bug::RecordBeforeClean);
        if matches!(action.kind, ActionKind::Record(_)) && waits {
            action.needs.extend(last.iter().cloned());
        }
    }
}

/// The cluster that these hosts are of. A host of another generation is blocked by itself, where the one that most hosts
/// bear lives.
fn agree(inputs: &Inputs<'_>, draft: &mut Draft) -> Option<Known> {
    let cluster = &inputs.desired.cluster;
    let ours = inputs.observed.generation(&cluster.name, &cluster.token);
    let answers = inputs.observed.cluster().cluster_ids;
    // Who answers knows better which one lives than how many hosts bear it.
    let marked = inputs
        .observed
        .known()
        .filter_map(|(_, facts)| facts.marker.get());
    let mut living = marked
        .filter(|marker| marker.cluster == cluster.name)
        .filter_map(|marker| marker.cluster_id)
        .filter(|id| answers.contains(id))
        .collect::<BTreeSet<ClusterId>>()
        .into_iter();
    let alive = living.next().filter(|_| living.next().is_none());
    let mut found: Option<Known> = None;
    let mut others: Vec<(&str, &Marker)> = Vec::new();
    for (node, facts) in inputs.observed.known() {
        let Some(marker) = facts.marker.get() else {
            continue;
        };
        if marker.cluster != cluster.name {
            draft.block(
                Some(node),
                format!("the host belongs to cluster {}", marker.cluster),
                "use that cluster's file, or take the node out of this one",
            );
            continue;
        }
        let Some(cluster_id) = marker.cluster_id else {
            continue;
        };
        let is_other = match alive {
            Some(alive) => alive != cluster_id,
            None => ours.is_some_and(|ours| ours.nonce != marker.generation.nonce),
        };
        match &found {
            _ if is_other => others.push((node, marker)),
            None => {
                found = Some(Known {
                    generation: marker.generation.clone(),
                    cluster_id,
                });
            }
            Some(known) if known.cluster_id == cluster_id => {}
            Some(_) => others.push((node, marker)),
        }
    }
    let is_told = |known: &Known| {
        let differs =
            |(_, other): &(&str, &Marker)| other.generation.nonce != known.generation.nonce;
        Some(known.cluster_id) == alive && others.iter().all(differs)
    };
    if found.as_ref().is_some_and(is_told) {
        // Their own seats say what is wrong with the others.
        return found;
    }
    for (node, marker) in &others {
        draft.block(
            Some(node),
            format!(
                "the host bears another generation of {} than others, bootstrapped with token {}, and nobody answers who \
                 could say which of them lives",
                marker.cluster, marker.generation.token
            ),
            "start the members of the one that is to live, or take the nodes of all others out of the cluster file; \
             `quorate destroy` with this file would take what most hosts bear",
        );
    }
    if !others.is_empty() {
        return None;
    }
    if found.is_none() && draft.blocked.is_empty() {
        draft.block(
            None,
            "the hosts' markers name no cluster ID",
            "`quorate destroy` and apply again, or restore the markers",
        );
    }
    found
}
