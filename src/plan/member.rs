//! One member of a living cluster: everything that differs on its host, and in which order it is put right.

use std::collections::BTreeSet;

use super::converge::{Known, change_of};
use super::host::{Differences, FileDifference, Host};
use super::moves;
use super::refusal::{binary_change, install_change, package_change, tls_change, version_change};
use super::restarts::{restart_reasons, switches};
use super::{Blocked, Draft, Goal, Inputs, markers, unlearnt};
use crate::action::marker::{Claim, Record};
use crate::action::readdress::Tell;
use crate::action::restart::{Readdress, Restart};
use crate::action::start::Start;
use crate::action::unit::Enable;
use crate::action::{Action, ActionId, ActionKind, Change};
use crate::etcd::id::MemberId;
use crate::etcd::wal::WalIdentity;
use crate::observed::HostFacts;
use crate::observed::etcd::{ClusterView, EtcdState};
use crate::observed::host::FileFact;
use crate::observed::marker::Phase;
use crate::runtime::{Content, FileWrite};
use crate::sabotage::{self, Bug};
use crate::safety;

/// Members that come before all others.
#[derive(Default)]
pub(super) struct First {
    /// Dead ones that are started.
    pub starting: Vec<MemberId>,
    /// Restarts of members that are dead, unwell or half-way to another address.
    pub mending: BTreeSet<MemberId>,
    /// Those of them that run, and are no healthy voters.
    pub unwell: BTreeSet<MemberId>,
}

impl First {
    /// Members that are back once this is done.
    pub fn back(&self) -> impl Iterator<Item = MemberId> {
        self.starting.iter().chain(&self.mending).copied()
    }
}

/// What is known of the cluster.
pub(super) struct Cluster<'a> {
    pub known: &'a Known,
    pub view: &'a ClusterView,
    pub diagnosis: &'a safety::Diagnosis<'a>,
    /// Members that a run has left half-way to another address.
    pub under_way: BTreeSet<MemberId>,
    /// Whether the file takes out members that are not well.
    pub loses_dead: bool,
}

/// Plans it for the host of one member. Returns whether nothing of it is blocked.
pub(super) fn converge(
    inputs: &Inputs<'_>,
    draft: &mut Draft,
    host: &Host<'_>,
    cluster: &Cluster<'_>,
    wal: WalIdentity,
    first: &mut First,
) -> bool {
    let name = host.node.name.as_str();
    let differences = host.differences();
    if !differences.blocked.is_empty() {
        draft.blocked.extend(differences.blocked);
        return false;
    }
    let refusals: Vec<Blocked> = [
        version_change(host).or_else(|| binary_change(host, inputs.observed)),
        tls_change(host),
        install_change(host),
        package_change(host),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !refusals.is_empty() {
        draft.blocked.extend(refusals);
        return false;
    }
    let mut generation = cluster.known.generation.clone();
    // As long as nobody could say whether it has its vote, its marker does not.
    let untold = cluster.view.members.is_empty();
    let unfinished = markers::without_a_vote(host, wal.member_id);
    // Founders have theirs.
    let is_founder = generation.member_id(name) == Some(wal.member_id);
    generation.phase = match untold && !(is_founder && host.marker().is_none()) {
        true => unfinished,
        false => Phase::Complete,
    };
    let mut settled = markers::settled(
        inputs,
        host,
        generation,
        Some((wal.cluster_id, wal.member_id)),
    );
    if cluster.view.member(wal.member_id).is_none() {
        // Who cannot ask the others does not know whether they reach it.
        settled.peer_url = moves::unheard(host).or(settled.peer_url);
    }
    let readdress = moves::readdress(cluster.view, host, wal.member_id);
    let moves = moves::directories(host, inputs.now);
    let blocked = moves::refusals(host, &moves);
    if !blocked.is_empty() {
        draft.blocked.extend(blocked);
        return false;
    }
    if let Some(blocked) = unlearnt::runs_astray(host, wal.member_id) {
        draft.blocked.push(blocked);
        return false;
    }
    if unlearnt::waits(draft, host, cluster, wal.member_id, first) {
        return false;
    }
    // A process of other means may be its own, with its data in use.
    let taken = host.taken_ports();
    let runs = host.facts.unit.is_up() && host.facts.unit.environment.is_some();
    if !runs && !taken.is_empty() {
        draft.blocked.extend(taken);
        return false;
    }
    let mut reasons = restart_reasons(host, &differences, &mut draft.warnings);
    reasons.extend(
        readdress
            .iter()
            .filter(|readdress| !readdress.is_known())
            .map(|readdress| format!("its peer URL is {}", readdress.from.join(","))),
    );
    reasons.extend(
        moves
            .iter()
            .map(|moved| format!("its data is in {}", moved.from)),
    );
    // Between two attempts it is down: a start does not wait for the next one, and says what becomes of it.
    let unit = &host.facts.unit;
    let up = unit.is_up() && !unit.is_between_attempts();
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
        || readdress.is_some()
        || !enabled
        || !up;
    if !work && !marker_differs {
        health_note(
            add.draft,
            name,
            host.facts,
            cluster.diagnosis,
            wal.member_id,
        );
        return true;
    }
    let mut ahead = markers::ahead(host, &settled);
    let listed = cluster.view.member(wal.member_id);
    if listed.is_some_and(|listed| listed.is_learner) {
        ahead.generation.phase = unfinished;
    }
    if work && host.facts.marker.get().map(|marker| marker.canonical()) != Some(ahead.clone()) {
        let fresh = host.facts.marker.get().is_none();
        add.claim = Some(add.action(
            "claim",
            ActionKind::Claim(Claim {
                abandoned: markers::abandoned(host, &ahead),
                marker: ahead,
                fresh,
            }),
            [],
            vec![],
        ));
    }
    // What changes with the address or the directories changes in one step, also where it is down.
    let moving = readdress.is_some() || !moves.is_empty();
    let told = readdress.clone().filter(|readdress| {
        let runs = host.facts.unit.environment.as_ref();
        up && reasons.len() == usize::from(!readdress.is_known())
            && runs.is_some_and(|running| host.layout.listens_for_its_peers(running))
    });
    // One that may come up by itself any moment gets what it is started with in the step that starts it (Q15).
    let may_come = unit.is_between_attempts()
        && (differences.install.is_some()
            || differences
                .files
                .iter()
                .any(|file| switches(&host.layout, file)));
    let restarting = told.is_none() && (moving || may_come || (up && !reasons.is_empty()));
    let mut before: BTreeSet<ActionId> = BTreeSet::new();
    if let Some(mut install) = differences.install {
        install.staged = restarting;
        let old = host
            .facts
            .binary
            .as_ref()
            .and_then(|binary| binary.version.clone());
        let changes = if old.as_ref() == Some(&install.version) {
            vec![change_of(
                "binaries",
                Some("others".into()),
                "those of the cluster file",
            )]
        } else {
            vec![change_of("version", old, &install.version)]
        };
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
        // Certificates name the address: those of a new one would not serve at the old.
        .partition(|file| restarting && (readdress.is_some() || switches(&host.layout, file)));
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
    if !up && !restarting {
        first.starting.push(wal.member_id);
        let kind = ActionKind::Start(Start {
            unit: host.layout.unit.clone(),
            member: wal.member_id,
        });
        let state = match unit.is_between_attempts() {
            true => unit.sub.clone(),
            false => unit.active.clone(),
        };
        let needs = before.clone();
        before.insert(add.action(
            "start",
            kind,
            needs,
            vec![change_of("state", Some(state), "active")],
        ));
    } else if let Some(readdress) = told {
        first.mending.insert(wal.member_id);
        let changes = peer_urls(&readdress).into_iter().collect();
        let kind = ActionKind::Tell(Tell {
            member: wal.member_id,
            unit: host.layout.unit.clone(),
            readdress,
        });
        let needs = before.clone();
        before.insert(add.action("tell", kind, needs, changes));
    } else if restarting {
        let half_way = moves::is_half_way(cluster.view, host, wal.member_id)
            || readdress.as_ref().is_some_and(Readdress::is_known);
        let mut voters = cluster.view.voters();
        let is_voter = voters.any(|voter| voter.id == wal.member_id);
        // What changes its address as well is no mere mending, and dead ones that go need not wait for it.
        let is_unwell = is_voter
            && readdress.is_none()
            && !cluster.loses_dead
            && cluster.diagnosis.unhealthy(wal.member_id).is_some();
        if !up || is_unwell || (half_way && !sabotage::on(Bug::HalfWayAddressWaits)) {
            first.mending.insert(wal.member_id);
        }
        if up && is_unwell {
            first.unwell.insert(wal.member_id);
        }
        let mut changes: Vec<Change> = readdress.iter().filter_map(peer_urls).collect();
        changes.extend(
            moves
                .iter()
                .map(|moved| change_of("data", Some(moved.from.clone()), &moved.to)),
        );
        let back = moves::way_back(host, inputs.now);
        let mut files: Vec<FileWrite> = switched.iter().map(|file| file.write.clone()).collect();
        if !back.is_empty() {
            // What an earlier run has put there already goes back with the data as well.
            files = host.layout.files.clone();
            files.retain(|file| {
                let is_text = matches!(file.content, Content::Text(_));
                is_text || switched.iter().any(|other| other.write.path == file.path)
            });
        }
        let binaries = if staged.is_empty() {
            vec![]
        } else {
            binaries(host)
        };
        let mut pending = pending(host);
        let paths = files.iter().map(|file| &file.path).chain(&binaries);
        let is_settled =
            up && pending.is_empty() && paths.clone().all(|path| runs_with(host, path));
        let switching: BTreeSet<String> = paths.cloned().collect();
        pending.retain(|path| !switching.contains(path));
        let restart = Restart {
            unit: host.layout.unit.clone(),
            member: wal.member_id,
            files,
            binaries,
            pending,
            is_settled,
            is_down: !up,
            // What is down takes nothing away, but may have come up by the time that it is stopped.
            allow_downtime: matches!(
                inputs.intent.goal,
                Goal::Converge {
                    allow_downtime: true,
                    ..
                }
            ),
            readdress,
            moves,
            back,
            reasons,
        };
        changes.extend(switched.into_iter().flat_map(|file| file.changes));
        let running = restart
            .reasons
            .iter()
            .filter(|reason| reason.starts_with("r"));
        changes.extend(
            running.map(|reason| change_of("running", Some(reason.clone()), "as configured")),
        );
        let needs = before.clone();
        before.insert(add.action("restart", ActionKind::Restart(restart), needs, changes));
    }
    // Whatever an earlier run kept is settled with this one: a later undo must not find it.
    let owned = settled.files.keys().cloned().collect();
    let kind = ActionKind::Record(Record {
        abandoned: markers::abandoned(host, &settled),
        marker: settled,
        settled: owned,
    });
    let needs = before.clone();
    add.action("record", kind, needs, vec![]);
    true
}

/// Paths that a run which was cut off has switched, and no process has been started with since.
fn pending(host: &Host<'_>) -> Vec<String> {
    let marker = host.facts.marker.get();
    let files = marker.into_iter().flat_map(|marker| &marker.files);
    let pending = files.filter(|(path, file)| file.previous.is_some() && !runs_with(host, path));
    pending.map(|(path, _)| path.clone()).collect()
}

/// Whether the process was started with what lies there now: what was kept before that is of the past.
fn runs_with(host: &Host<'_>, path: &str) -> bool {
    let Some(started_at) = host.facts.unit.started_at else {
        return false;
    };
    let there = host.facts.files.get(path).and_then(FileFact::file);
    there.is_none_or(|stat| stat.changed_at <= started_at)
}

fn peer_urls(readdress: &Readdress) -> Option<Change> {
    let before = Some(readdress.from.join(","));
    (!readdress.is_known()).then(|| change_of("peer URL", before, &readdress.to.join(",")))
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
