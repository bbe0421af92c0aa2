//! A cluster that lives: what differs on each host, and what that costs.

use std::collections::{BTreeMap, BTreeSet};

use super::host::{Differences, FileDifference, Host};
use super::membership::{Roster, Seat, roster};
use super::refusal::{
    binary_change, identity_change, install_change, package_change, version_change,
};
use super::restarts::{no_restarts, order_restarts, restart_reasons, switches};
use super::{Blocked, Draft, Goal, Inputs, join, leave, markers, steps};
use crate::action::marker::{Claim, Record};
use crate::action::restart::Restart;
use crate::action::start::Start;
use crate::action::unit::Enable;
use crate::action::{Action, ActionId, ActionKind, Change};
use crate::etcd::id::{ClusterId, MemberId};
use crate::etcd::wal::WalIdentity;
use crate::observed::HostFacts;
use crate::observed::etcd::EtcdState;
use crate::observed::marker::{Generation, Phase};
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
            Some(marker) => marker.generation.phase == Phase::Complete,
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
struct Known {
    generation: Generation,
    cluster_id: ClusterId,
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
    if let Some(other) = view.cluster_ids.iter().find(|id| **id != known.cluster_id) {
        draft.block(
            None,
            format!(
                "a host answers for cluster {other}; this one is {}",
                known.cluster_id
            ),
            "compare the nodes' addresses with the hosts; no member is touched meanwhile",
        );
        return;
    }
    let diagnosis = safety::Diagnosis::of(&view);
    unknown_replacements(inputs, draft);
    let hosts: BTreeMap<&str, Host<'_>> = Host::all(inputs)
        .into_iter()
        .map(|host| (host.node.name.as_str(), host))
        .collect();
    let mut roster = roster(inputs, draft, &hosts, &view, known.cluster_id);
    let leaving = leave::leaving(inputs, &known.generation);
    settle_leaving(inputs, draft, &leaving, &roster);
    let mut starting = Vec::new();
    let mut joinings = Vec::new();
    let mut ready = true;
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
                converge_host(inputs, draft, host, &known, &diagnosis, wal, &mut starting);
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
    let starts: BTreeSet<ActionId> = draft
        .actions
        .iter()
        .filter(|action| matches!(action.kind, ActionKind::Start(_)))
        .map(|action| action.id.clone())
        .collect();
    // Hosts that take over pass their preflight before anything is removed (Q3).
    if !ready || roster.unfinished {
        joinings.clear();
        roster.leavers.retain(|leaver| leaver.learner);
        for seat in roster.seats.values_mut() {
            if matches!(seat, Seat::Vacant { .. }) {
                *seat = Seat::Blocked;
            }
        }
        roster.unfinished = true;
    }
    let (changes, finished) = steps::plan(draft, &view, &roster, joinings, &starting, starts);
    leaving.clean(inputs, draft, &roster, &changes.removals);
    keep_until_clean(draft);
    if roster.unfinished || !finished || changes.any {
        no_restarts(draft);
    }
    order_restarts(draft, &view, &starting, &changes.last);
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

/// Hosts that need not be known any more once this plan is done: those that it cleans, and those that are gone.
fn settle_leaving(
    inputs: &mut Inputs<'_>,
    draft: &mut Draft,
    leaving: &leave::Leaving,
    roster: &Roster,
) {
    let mut forgotten: BTreeSet<String> = leaving.hosts.keys().cloned().collect();
    for name in &leaving.gone {
        // Nobody saw its member: where the membership is unknown, it may still be one.
        if roster.unfinished {
            continue;
        }
        forgotten.insert(name.clone());
        draft.warnings.push(format!(
            "{name}: its host cannot be looked at and is not cleaned. Should it come back, its member ends by itself; \
             take etcd and /etc/quorate off it by hand"
        ));
    }
    inputs.addresses = markers::Addresses::new(inputs.desired, inputs.observed, &forgotten);
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
        if matches!(action.kind, ActionKind::Record(_)) {
            action.needs.extend(last.iter().cloned());
        }
    }
}

fn agree(inputs: &Inputs<'_>, draft: &mut Draft) -> Option<Known> {
    let mut found: Option<Known> = None;
    for (node, facts) in inputs.observed.known() {
        let Some(marker) = facts.marker.get() else {
            continue;
        };
        if marker.cluster != inputs.desired.cluster.name {
            draft.block(
                Some(node),
                format!("the host belongs to cluster {}", marker.cluster),
                "use that cluster's file, or take the node out of this one",
            );
            continue;
        }
        let (Phase::Complete, Some(cluster_id)) = (marker.generation.phase, marker.cluster_id)
        else {
            continue;
        };
        match &found {
            None => {
                found = Some(Known {
                    generation: marker.generation.clone(),
                    cluster_id,
                });
            }
            Some(known) if known.cluster_id == cluster_id => {}
            Some(known) => {
                draft.block(
                    Some(node),
                    format!(
                        "the host bears another generation of this cluster ({cluster_id}, others {})",
                        known.cluster_id
                    ),
                    "finish an interrupted destroy with `quorate destroy`, then apply",
                );
                return None;
            }
        }
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

fn converge_host(
    inputs: &Inputs<'_>,
    draft: &mut Draft,
    host: &Host<'_>,
    known: &Known,
    diagnosis: &safety::Diagnosis<'_>,
    wal: WalIdentity,
    starting: &mut Vec<MemberId>,
) {
    let name = host.node.name.as_str();
    let differences = host.differences();
    if !differences.blocked.is_empty() {
        draft.blocked.extend(differences.blocked);
        return;
    }
    let refusals: Vec<Blocked> = [
        version_change(host).or_else(|| binary_change(host, inputs.observed)),
        identity_change(host),
        install_change(host),
        package_change(host),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !refusals.is_empty() {
        draft.blocked.extend(refusals);
        return;
    }
    let mut generation = known.generation.clone();
    generation.phase = Phase::Complete;
    let settled = markers::settled(
        inputs,
        host,
        generation,
        Some((wal.cluster_id, wal.member_id)),
    );
    let reasons = restart_reasons(host, &differences, &mut draft.warnings);
    let up = host.facts.unit.is_up();
    let mut add = Adder {
        draft,
        name,
        claim: None,
    };

    let marker_differs =
        host.facts.marker.get().map(|marker| marker.canonical()) != Some(settled.clone());
    let enabled = host.facts.unit.file_state == "enabled";
    let work = differences.prepare.is_some()
        || differences.install.is_some()
        || !differences.files.is_empty()
        || !differences.leftovers.is_empty()
        || host.facts.unit.need_reload
        || !reasons.is_empty()
        || !enabled
        || !up;
    if !work && !marker_differs {
        health_note(add.draft, name, host.facts, diagnosis, wal.member_id);
        return;
    }
    let ahead = markers::ahead(host, &settled);
    if work && host.facts.marker.get().map(|marker| marker.canonical()) != Some(ahead.clone()) {
        let fresh = host.facts.marker.get().is_none();
        add.claim = Some(add.action(
            "claim",
            ActionKind::Claim(Claim {
                marker: ahead,
                fresh,
            }),
            [],
            vec![],
        ));
    }
    let restarting = up && !reasons.is_empty();
    let mut before: BTreeSet<ActionId> = BTreeSet::new();
    if let Some(mut install) = differences.install {
        install.staged = restarting;
        let old = host
            .facts
            .binary
            .as_ref()
            .and_then(|binary| binary.version.clone());
        let changes = vec![change_of("version", old, &install.version)];
        before.insert(add.action("install", ActionKind::Install(install), [], changes));
    }
    let staged = before.clone();
    if let Some(prepare) = differences.prepare {
        before.insert({
            let changes = host.prepare_changes(&prepare);
            add.action("prepare", ActionKind::Prepare(prepare), [], changes)
        });
    }
    let (switched, written): (Vec<FileDifference>, Vec<FileDifference>) = differences
        .files
        .into_iter()
        .partition(|file| restarting && switches(&host.layout, file));
    if let Some(configure) =
        Differences::configure(&written, &differences.leftovers, &host.layout, host.facts)
    {
        let changes = written.into_iter().flat_map(|file| file.changes).collect();
        let needs = before.clone();
        before.insert(add.action(
            "configure",
            ActionKind::Configure(configure),
            needs,
            changes,
        ));
    }
    if !enabled {
        let unmask = host.facts.unit.file_state.starts_with("masked");
        let kind = ActionKind::Enable(Enable {
            unit: host.layout.unit.clone(),
            unmask,
        });
        let state = match host.facts.unit.file_state.as_str() {
            "" => None,
            state => Some(state.to_owned()),
        };
        let needs = before.clone();
        before.insert(add.action(
            "enable",
            kind,
            needs,
            vec![change_of("unit", state, "enabled")],
        ));
    }
    if !up {
        starting.push(wal.member_id);
        let kind = ActionKind::Start(Start {
            unit: host.layout.unit.clone(),
            member: wal.member_id,
        });
        let state = host.facts.unit.active.clone();
        let needs = before.clone();
        before.insert(add.action(
            "start",
            kind,
            needs,
            vec![change_of("state", Some(state), "active")],
        ));
    } else if restarting {
        let restart = Restart {
            unit: host.layout.unit.clone(),
            member: wal.member_id,
            files: switched.iter().map(|file| file.write.clone()).collect(),
            binaries: if staged.is_empty() {
                vec![]
            } else {
                binaries(host)
            },
            allow_downtime: matches!(
                inputs.intent.goal,
                Goal::Converge {
                    allow_downtime: true,
                    ..
                }
            ),
            reasons,
        };
        let mut changes: Vec<Change> = switched.into_iter().flat_map(|file| file.changes).collect();
        changes.extend(
            restart
                .reasons
                .iter()
                .map(|reason| change_of("running", Some(reason.clone()), "as configured")),
        );
        let needs = before.clone();
        before.insert(add.action("restart", ActionKind::Restart(restart), needs, changes));
    }
    // Whatever an earlier run kept is settled with this one: a later undo must not find it.
    let owned = settled.files.keys().cloned().collect();
    let kind = ActionKind::Record(Record {
        marker: settled,
        settled: owned,
    });
    let needs = before.clone();
    add.action("record", kind, needs, vec![]);
}

struct Adder<'a> {
    draft: &'a mut Draft,
    name: &'a str,
    claim: Option<ActionId>,
}

impl Adder<'_> {
    fn action(
        &mut self,
        verb: &str,
        kind: ActionKind,
        needs: impl IntoIterator<Item = ActionId>,
        changes: Vec<Change>,
    ) -> ActionId {
        let id = ActionId::of_node(self.name, verb);
        let because = match &kind {
            ActionKind::Restart(restart) => restart.reasons.clone(),
            _ => vec![],
        };
        self.draft.actions.push(Action {
            id: id.clone(),
            node: Some(self.name.to_owned()),
            kind,
            because,
            needs: needs.into_iter().chain(self.claim.clone()).collect(),
            changes,
            margin: None,
        });
        id
    }
}

fn binaries(host: &Host<'_>) -> Vec<String> {
    match host.operator.archives.get(&host.facts.arch) {
        Some(Ok(archive)) => archive
            .binaries
            .keys()
            .map(|name| format!("{}/{name}", host.layout.bin_dir))
            .collect(),
        _ => vec![],
    }
}

/// Something is wrong that a plan does not mend.
fn health_note(
    draft: &mut Draft,
    node: &str,
    facts: &HostFacts,
    diagnosis: &safety::Diagnosis<'_>,
    member: MemberId,
) {
    match &facts.etcd {
        EtcdState::Unknown(reason) => draft.warnings.push(format!(
            "{node}: etcd runs, but could not be asked: {reason}"
        )),
        EtcdState::Silent => draft
            .warnings
            .push(format!("{node}: {member} runs, but does not answer")),
        EtcdState::Answered(_) => {
            if let Some(why) = diagnosis.unhealthy(member) {
                draft
                    .warnings
                    .push(format!("{node}: member {member}: {why}"));
            }
        }
    }
}
