//! A cluster that lives: what differs on each host, and what that costs.

use std::collections::{BTreeMap, BTreeSet};

use super::host::{Differences, FileDifference, Host};
use super::{Blocked, Draft, Goal, Inputs, markers};
use crate::action::marker::{Claim, Record};
use crate::action::restart::Restart;
use crate::action::start::Start;
use crate::action::unit::Enable;
use crate::action::{Action, ActionId, ActionKind, Change};
use crate::desired::model::{Install, Node, VersionSpec};
use crate::etcd::id::{ClusterId, MemberId};
use crate::etcd::wal::WalIdentity;
use crate::observed::etcd::{ClusterView, EtcdState};
use crate::observed::host::{DataDir, FileFact};
use crate::observed::marker::{Generation, MarkerState, Phase};
use crate::observed::{HostFacts, HostState};
use crate::runtime::{self, Content, Layout};
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

/// Plans the repair of drift and changes of files in a living cluster.
pub(super) fn plan(inputs: &Inputs<'_>, draft: &mut Draft) {
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
    membership(inputs, draft, &view);
    let mut starting = Vec::new();
    for node in &inputs.desired.nodes {
        let name = node.name.as_str();
        match inputs.observed.hosts.get(name) {
            None => {}
            Some(HostState::Unknown(unknown)) => draft.block(
                Some(name),
                unknown.detail(),
                "nothing was compared on it; make it reachable and plan again",
            ),
            Some(HostState::Known(facts)) => {
                let host = Host {
                    desired: inputs.desired,
                    node,
                    layout: runtime::layout(inputs.desired, node),
                    facts,
                    operator: &inputs.observed.operator,
                    now: inputs.now,
                };
                if let Some(wal) = member_of(&host, &known, draft) {
                    converge_host(inputs, draft, &host, &known, &view, wal, &mut starting);
                }
            }
        }
    }
    order_restarts(draft, &view, &starting);
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

/// Membership that the file does not ask for is not touched yet, and said.
fn membership(inputs: &Inputs<'_>, draft: &mut Draft, view: &ClusterView) {
    if view.members.is_empty() {
        return;
    }
    let remedy = "this version does not change the membership of a living cluster: use etcdctl, one member at a time";
    let wanted: Vec<(&Node, String)> = inputs
        .desired
        .nodes
        .iter()
        .map(|node| (node, runtime::layout(inputs.desired, node).peer_url))
        .collect();
    let names: BTreeSet<&str> = wanted.iter().map(|(node, _)| node.name.as_str()).collect();
    let urls: BTreeSet<&str> = wanted.iter().map(|(_, url)| url.as_str()).collect();
    for member in &view.members {
        let is_wanted = names.contains(member.name.as_str())
            || member
                .peer_urls
                .iter()
                .any(|url| urls.contains(url.as_str()));
        if !is_wanted {
            draft.block(
                None,
                format!(
                    "member {} ({}, {}) is not in the cluster file",
                    member.id,
                    if member.name.is_empty() {
                        "never started"
                    } else {
                        &member.name
                    },
                    member.peer_urls.join(",")
                ),
                remedy,
            );
        }
    }
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    let mut by_url: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, member) in view.members.iter().enumerate() {
        by_name.entry(&member.name).or_insert(at);
        for url in &member.peer_urls {
            by_url.entry(url).or_insert(at);
        }
    }
    for (node, url) in &wanted {
        let at = by_name
            .get(node.name.as_str())
            .into_iter()
            .chain(by_url.get(url.as_str()))
            .min();
        match at.map(|at| &view.members[*at]) {
            None => draft.block(
                Some(&node.name),
                "it is not a member of the cluster yet",
                remedy,
            ),
            Some(member) if member.peer_urls != [url.clone()] => draft.block(
                Some(&node.name),
                format!(
                    "its peer URL is {}, the cluster file asks for {}",
                    member.peer_urls.join(","),
                    url
                ),
                remedy,
            ),
            Some(_) => {}
        }
    }
    for alarm in &view.alarms {
        draft
            .warnings
            .push(format!("member {} raises {}", alarm.member_id, alarm.kind));
    }
}

/// Whose data is on the host; `None`, with the reason, where it is not this cluster's.
fn member_of(host: &Host<'_>, known: &Known, draft: &mut Draft) -> Option<WalIdentity> {
    let node = Some(host.node.name.as_str());
    if let MarkerState::Unreadable(error) = &host.facts.marker {
        draft.block(
            node,
            format!("its marker cannot be read: {error}"),
            "remove /etc/quorate/marker.json on the host: it is written anew when the data is this cluster's",
        );
        return None;
    }
    let marker = host.facts.marker.get();
    match &host.facts.data {
        DataDir::Wal(wal) if wal.cluster_id == known.cluster_id => Some(*wal),
        DataDir::Wal(wal) => {
            draft.block(
                node,
                format!(
                    "{} holds the data of member {} of another cluster, {}",
                    host.layout.data_dir, wal.member_id, wal.cluster_id
                ),
                "move that data away if it is not needed, or give the node another host",
            );
            None
        }
        DataDir::Unreadable(error) => {
            draft.block(
                node,
                format!("{} holds a WAL that cannot be read: {error}", host.layout.data_dir),
                "the member has to be replaced: remove it with etcdctl, move its data away, add it again",
            );
            None
        }
        DataDir::Empty | DataDir::NoWal => {
            let moved =
                marker.is_some_and(|marker| marker.filesystem != host.facts.filesystem.uuid);
            let (reason, remedy) = match marker {
                Some(_) => (
                    format!(
                        "{} has no data, though its member has run there: {}",
                        host.layout.data_dir,
                        if moved {
                            "another file system is mounted there than before"
                        } else {
                            "a disk may not be mounted"
                        }
                    ),
                    "mount it, and plan again; if the data is lost, the member has to be replaced",
                ),
                None => (
                    format!(
                        "the host is blank, and the cluster {} exists already",
                        known.cluster_id
                    ),
                    "this version does not add or replace members: use etcdctl, one member at a time; \
                     or, if a destroy missed the hosts of that cluster, finish it with `quorate destroy`",
                ),
            };
            draft.block(node, reason, remedy);
            None
        }
    }
}

fn converge_host(
    inputs: &Inputs<'_>,
    draft: &mut Draft,
    host: &Host<'_>,
    known: &Known,
    view: &ClusterView,
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
        version_change(host),
        identity_change(host),
        install_change(host),
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
    let reasons = restart_reasons(host, &differences);
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
        health_note(add.draft, name, host.facts, view, wal.member_id);
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
    let mut switched_paths = Vec::new();
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
                    allow_downtime: true
                }
            ),
            reasons,
        };
        switched_paths = restart.switched();
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
    let kind = ActionKind::Record(Record {
        marker: settled,
        settled: switched_paths,
    });
    let needs = before.clone();
    add.action("record", kind, needs, vec![]);
}

/// Another version of etcd is a change of its own, with rules of its own (Q16).
fn version_change(host: &Host<'_>) -> Option<Blocked> {
    let VersionSpec::Exact(wanted) = &host.desired.etcd.version else {
        return None;
    };
    let EtcdState::Answered(answer) = &host.facts.etcd else {
        return None;
    };
    let running = answer.status.version.parse::<semver::Version>().ok()?;
    if running == *wanted {
        return None;
    }
    let archive = host
        .operator
        .archives
        .get(&host.facts.arch)
        .and_then(|archive| archive.as_ref().ok());
    let marked = host
        .facts
        .marker
        .get()
        .and_then(|marker| marker.archive.as_ref());
    // The file asks for what it asked for before: somebody replaced the binary on the host.
    if archive.is_some_and(|archive| Some(&archive.sha256) == marked) {
        return None;
    }
    Some(Blocked {
        node: Some(host.node.name.clone()),
        reason: format!("it runs etcd {running}, the cluster file asks for {wanted}"),
        remedy: "this version does not upgrade a living cluster: set `version` to what runs".into(),
    })
}

/// Options by which members and clients find each other, or a member its data. Changing one in a living cluster takes
/// phases of its own (Q14, Q15), not a restart.
const IDENTITY: [&str; 13] = [
    "ETCD_NAME",
    "ETCD_DATA_DIR",
    "ETCD_WAL_DIR",
    "ETCD_LISTEN_PEER_URLS",
    "ETCD_ADVERTISE_CLIENT_URLS",
    "ETCD_CERT_FILE",
    "ETCD_KEY_FILE",
    "ETCD_TRUSTED_CA_FILE",
    "ETCD_CLIENT_CERT_AUTH",
    "ETCD_PEER_CERT_FILE",
    "ETCD_PEER_KEY_FILE",
    "ETCD_PEER_TRUSTED_CA_FILE",
    "ETCD_PEER_CLIENT_CERT_AUTH",
];

/// The cluster file asks for another name, address, port, directory or transport security than the member has.
fn identity_change(host: &Host<'_>) -> Option<Blocked> {
    let marker = host.facts.marker.get()?;
    let (path, text) = host
        .layout
        .files
        .iter()
        .find_map(|file| match &file.content {
            Content::Text(text) if text.contains("ETCD_NAME=") => Some((&file.path, text)),
            _ => None,
        })?;
    let marked = marker.files.get(path)?;
    let wanted = super::fingerprint::sha256(text);
    if marked.sha256.as_ref() == Some(&wanted) && marked.previous.is_none() {
        // The file asks for what it asked for before: whatever differs was changed on the host.
        return None;
    }
    let on_disk = host
        .facts
        .files
        .get(path)
        .and_then(FileFact::file)
        .and_then(|stat| stat.text.as_deref());
    let current = match (&host.facts.unit.environment, on_disk) {
        (Some(environment), _) => environment.clone(),
        (None, Some(text)) => crate::runtime::parse_environment(text),
        (None, None) => return None,
    };
    let changed = IDENTITY.iter().find_map(|variable| {
        let (is, wanted) = (
            current.get(*variable),
            host.layout.environment.get(*variable),
        );
        (is != wanted).then(|| {
            let shown = |value: Option<&String>| value.cloned().unwrap_or_else(|| "unset".into());
            format!("{variable} from {} to {}", shown(is), shown(wanted))
        })
    })?;
    Some(Blocked {
        node: Some(host.node.name.clone()),
        reason: format!("the cluster file changes {changed}"),
        remedy: "this version does not change names, addresses, directories or TLS modes of a living member: \
                 set the cluster file back to what runs"
            .into(),
    })
}

/// Binaries of one method do not make way for those of another.
fn install_change(host: &Host<'_>) -> Option<Blocked> {
    let marker = host.facts.marker.get()?;
    let other = match host.desired.etcd.install {
        Install::Archive { .. } => !marker.packages.is_empty(),
        Install::Package { .. } | Install::Present { .. } => marker.archive.is_some(),
    };
    other.then(|| Blocked {
        node: Some(host.node.name.clone()),
        reason: "the cluster file changes the install method of a living member".into(),
        remedy: "this version does not do that: set [etcd.install] back".into(),
    })
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

/// Files that a running member reads only when it starts.
fn switches(layout: &Layout, file: &FileDifference) -> bool {
    !matches!(
        file.write.content,
        Content::Certificate(_) | Content::Key(_)
    ) && layout
        .files
        .iter()
        .any(|known| known.path == file.write.path)
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

/// Why the running process is not what it should be; empty where none runs or it is.
fn restart_reasons(host: &Host<'_>, differences: &Differences) -> Vec<String> {
    let facts = host.facts;
    let mut reasons = Vec::new();
    if let Some(environment) = &facts.unit.environment {
        let wanted = &host.layout.environment;
        for (variable, value) in wanted {
            match environment.get(variable) {
                Some(found) if found == value => {}
                Some(found) => reasons.push(format!("runs with {variable}={found}")),
                None => reasons.push(format!("runs without {variable}")),
            }
        }
        for (variable, found) in environment {
            if !wanted.contains_key(variable) && !Layout::is_bootstrap_only(variable) {
                reasons.push(format!("runs with {variable}={found}"));
            }
        }
    }
    if let Some(running) = &facts.unit.running_sha256 {
        let wanted = match host.operator.archives.get(&facts.arch) {
            Some(Ok(archive)) => archive.binaries.get("etcd"),
            _ => facts.binary.as_ref().map(|binary| &binary.sha256),
        };
        if wanted.is_some_and(|wanted| wanted != running) {
            reasons.push("runs another binary".into());
        }
    }
    for file in &differences.files {
        if matches!(file.write.content, Content::Authority) && file.was_in_force {
            reasons.push(format!("was started with another {}", file.write.path));
        }
    }
    let unit_path = host
        .layout
        .files
        .iter()
        .map(|file| file.path.as_str())
        .find(|path| path.ends_with(&format!("/{}", host.layout.unit)));
    if let (Some(path), true) = (unit_path, facts.unit.is_up()) {
        let differs = differences
            .files
            .iter()
            .find(|file| file.write.path == path);
        let pending = facts
            .marker
            .get()
            .and_then(|marker| marker.files.get(path))
            .is_some_and(|file| file.previous.is_some());
        let written_since = match (
            facts.files.get(path).and_then(FileFact::file),
            facts.unit.started_at,
        ) {
            (Some(stat), Some(started_at)) => stat.changed_at >= started_at,
            _ => false,
        };
        if differs.is_some_and(|file| file.asked_for || file.was_in_force)
            || (pending && written_since)
        {
            reasons.push(format!(
                "was started by another version of {}",
                host.layout.unit
            ));
        }
    }
    reasons
}

/// Something is wrong that a plan does not mend.
fn health_note(
    draft: &mut Draft,
    node: &str,
    facts: &HostFacts,
    view: &ClusterView,
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
            if let Some(why) = safety::unhealthy(view, member) {
                draft
                    .warnings
                    .push(format!("{node}: member {member}: {why}"));
            }
        }
    }
}

/// Dead members start before anything is restarted; a restart that would take the quorum is blocked.
fn order_restarts(draft: &mut Draft, view: &ClusterView, starting: &[MemberId]) {
    let starts: BTreeSet<ActionId> = draft
        .actions
        .iter()
        .filter(|action| matches!(action.kind, ActionKind::Start(_)))
        .map(|action| action.id.clone())
        .collect();
    let mut refused: Vec<(String, String, String)> = Vec::new();
    for action in &mut draft.actions {
        let ActionKind::Restart(restart) = &action.kind else {
            continue;
        };
        action.needs.extend(starts.iter().cloned());
        match safety::may_stop(view, restart.member, starting, restart.allow_downtime) {
            Ok(margin) => action.margin = Some(margin),
            Err(refusal) => {
                let remedy = match refusal {
                    safety::Unsafe::TooSmall(_) => {
                        "accept the interruption with --allow-downtime, or grow the cluster to three members"
                    }
                    _ => "repair the other members first, and plan again",
                };
                let node = action.node.clone().unwrap_or_default();
                refused.push((
                    node,
                    format!("{} cannot be restarted: {refusal}", restart.unit),
                    remedy.into(),
                ));
            }
        }
    }
    for (node, reason, remedy) in refused {
        // Without its restart a host is left alone: half a change would come to life at the next crash (Q15).
        draft
            .actions
            .retain(|action| action.node.as_deref() != Some(&node));
        draft.block(Some(&node), reason, remedy);
    }
}
