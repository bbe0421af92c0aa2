//! A new cluster on blank hosts, or the rest of one whose bootstrap was interrupted (Q11, Q12).

use std::collections::BTreeSet;

use super::converge::change_of;
use super::host::{Differences, Host};
use super::remains::{check_data, has_lost_everything};
use super::{Draft, Inputs, block_unknown, markers};
use crate::action::bootstrap::Bootstrap;
use crate::action::form::Form;
use crate::action::marker::{Claim, Record};
use crate::action::start::Start;
use crate::action::unit::Enable;
use crate::action::{Action, ActionId, ActionKind, Change};
use crate::observed::Table;
use crate::observed::host::DataDir;
use crate::observed::marker::{Generation, Phase};
use crate::runtime;
use crate::sabotage::{self, Bug};

/// Plans a bootstrap. Nothing is done to any host unless everything can be done to all of them.
pub(super) fn plan(inputs: &Inputs<'_>, draft: &mut Draft) {
    block_unknown(
        inputs,
        draft,
        "a bootstrap needs every host: make it reachable, or take the node out of the cluster file",
    );
    let hosts = Host::all(inputs);
    let Some(generation) = generation(inputs, draft) else {
        return;
    };
    let differences: Vec<Differences> = hosts.iter().map(Host::differences).collect();
    let lost = has_lost_everything(inputs, &generation);
    for (host, differences) in hosts.iter().zip(&differences) {
        draft.blocked.extend(differences.blocked.iter().cloned());
        if lost(host) {
            draft.blocked.push(host.blocked(
                "members of this bootstrap have been started, so that this host was part of it; it has neither marker nor \
                 data now",
                "mount what belongs there; if it is lost for good, `quorate destroy` and apply again: data is moved aside, \
                 and none deleted",
            ));
        } else {
            check_data(host, &generation, draft);
        }
    }
    if !draft.blocked.is_empty() {
        return;
    }
    let cluster_id = generation.cluster_id();
    let claims: BTreeSet<ActionId> = hosts
        .iter()
        .filter(|host| claim_is_needed(inputs, host, &generation))
        .map(|host| ActionId::of_node(&host.node.name, "claim"))
        .collect();
    for (host, differences) in hosts.iter().zip(differences) {
        prepare_host(inputs, draft, host, differences, &generation, &claims);
    }
    let ready: BTreeSet<ActionId> = draft
        .actions
        .iter()
        .map(|action| action.id.clone())
        .collect();
    let mut starts = BTreeSet::new();
    for host in &hosts {
        let mut needs = ready.clone();
        for action in starts_of(inputs, host, &generation) {
            let id = action.id.clone();
            draft.actions.push(Action {
                needs: needs.clone(),
                ..action
            });
            needs.insert(id.clone());
            starts.insert(id);
        }
    }
    let form = ActionId::of_cluster("form");
    draft.actions.push(Action {
        id: form.clone(),
        node: None,
        kind: ActionKind::Form(Form {
            cluster_id,
            members: hosts.len(),
            unit: hosts
                .first()
                .map(|host| host.layout.unit.clone())
                .unwrap_or_default(),
        }),
        because: vec![],
        needs: if starts.is_empty() { ready } else { starts },
        changes: vec![],
        margin: None,
    });
    for host in &hosts {
        let mut settled_generation = generation.clone();
        settled_generation.phase = Phase::Complete;
        let ids = generation
            .member_id(&host.node.name)
            .map(|member| (cluster_id, member));
        draft.actions.push(Action {
            id: ActionId::of_node(&host.node.name, "record"),
            node: Some(host.node.name.clone()),
            kind: ActionKind::Record(Record {
                marker: markers::settled(inputs, host, settled_generation, ids),
                settled: vec![],
                abandoned: vec![],
            }),
            because: vec![],
            needs: BTreeSet::from([form.clone()]),
            changes: vec![],
            margin: None,
        });
    }
}

/// The facts of this bootstrap: frozen ones where there are any, else fresh ones.
fn generation(inputs: &Inputs<'_>, draft: &mut Draft) -> Option<Generation> {
    let initial_cluster: Table<String> = inputs
        .desired
        .nodes
        .iter()
        .map(|node| (node.name.clone(), runtime::peer_url(inputs.desired, node)))
        .collect();
    let mut frozen: Vec<&Generation> = Vec::new();
    let mut started = false;
    for (node, facts) in inputs.observed.known() {
        let other = facts
            .marker
            .get()
            .filter(|marker| marker.cluster != inputs.desired.cluster.name);
        if let Some(marker) = other {
            draft.block(
                Some(node),
                format!("the host belongs to cluster {}", marker.cluster),
                "use that cluster's file, or take the node out of this one",
            );
            continue;
        }
        started |= matches!(facts.data, DataDir::Wal(_) | DataDir::Unreadable(_));
        if let Some(marker) = facts.marker.get() {
            started |= marker.generation.phase >= Phase::Started;
            if !frozen
                .iter()
                .any(|other| other.nonce == marker.generation.nonce)
            {
                frozen.push(&marker.generation);
            }
        }
    }
    if sabotage::on(Bug::FreshNonce) {
        frozen.clear();
        started = false;
    }
    match frozen.as_slice() {
        [one] if one.initial_cluster == initial_cluster => Some(Generation {
            phase: Phase::Frozen,
            ..(*one).clone()
        }),
        [one] if started => {
            draft.block(
                None,
                format!(
                    "a bootstrap with other members was interrupted after members had started: {}",
                    one.initial_cluster_flag()
                ),
                "put those members back into the cluster file and apply, then change it; or `quorate destroy` first",
            );
            None
        }
        [_, _, ..] if started => {
            draft.block(
                None,
                "hosts bear the marks of several interrupted bootstraps",
                "`quorate destroy` first: it moves data aside and deletes none",
            );
            None
        }
        several
            if several
                .iter()
                .flat_map(|one| one.initial_cluster.keys())
                .any(|name| inputs.observed.facts(name).is_none()) =>
        {
            let flags: Vec<String> = several
                .iter()
                .map(|one| one.initial_cluster_flag())
                .collect();
            draft.block(
                None,
                format!(
                    "another bootstrap was interrupted, and not all of its hosts can be looked at: {}",
                    flags.join("; ")
                ),
                "make them reachable, or `quorate destroy` with the cluster file of that bootstrap first",
            );
            None
        }
        // No member was ever started: nothing depends on what was frozen.
        _ => Some(Generation {
            nonce: inputs.intent.nonce.clone(),
            token: format!("{}-{}", inputs.desired.cluster.token, inputs.intent.nonce),
            initial_cluster,
            phase: Phase::Frozen,
        }),
    }
}

fn claim_is_needed(inputs: &Inputs<'_>, host: &Host<'_>, generation: &Generation) -> bool {
    let marker = markers::ahead(
        host,
        &markers::settled(inputs, host, generation.clone(), None),
    );
    match host.facts.marker.get() {
        // A member that has been started keeps its marker, and with it the phase.
        Some(there) if there.generation.phase >= Phase::Started => false,
        Some(there) => there.canonical() != marker,
        None => true,
    }
}

fn prepare_host(
    inputs: &Inputs<'_>,
    draft: &mut Draft,
    host: &Host<'_>,
    differences: Differences,
    generation: &Generation,
    claims: &BTreeSet<ActionId>,
) {
    let name = &host.node.name;
    let mut needs = BTreeSet::new();
    let claim = ActionId::of_node(name, "claim");
    let mut add =
        |verb: &str, kind: ActionKind, needs: &BTreeSet<ActionId>, changes: Vec<Change>| {
            let id = ActionId::of_node(name, verb);
            draft.actions.push(Action {
                id: id.clone(),
                node: Some(name.clone()),
                kind,
                because: vec![],
                needs: needs.clone(),
                changes,
                margin: None,
            });
            id
        };
    if claims.contains(&claim) {
        let settled = markers::settled(inputs, host, generation.clone(), None);
        let kind = ActionKind::Claim(Claim {
            marker: markers::ahead(host, &settled),
            fresh: host.facts.marker.get().is_none(),
            abandoned: vec![],
        });
        needs.insert(add("claim", kind, &BTreeSet::new(), vec![]));
    }
    // A member that runs already is brought in line by the next plan, under the rules for living ones.
    let up = host.facts.unit.is_up() && matches!(host.facts.data, DataDir::Wal(_));
    if let Some(install) = differences.install.filter(|_| !up) {
        let changes = vec![change_of("version", None, &install.version)];
        add("install", ActionKind::Install(install), &needs, changes);
    }
    if let Some(prepare) = differences.prepare {
        let changes = host.prepare_changes(&prepare);
        needs.insert(add(
            "prepare",
            ActionKind::Prepare(prepare),
            &needs,
            changes,
        ));
    }
    if let Some(configure) = Differences::configure(
        if up { &[] } else { &differences.files },
        &differences.leftovers,
        &host.layout,
        host.facts,
    ) {
        let changes = differences
            .files
            .into_iter()
            .flat_map(|file| file.changes)
            .collect();
        add(
            "configure",
            ActionKind::Configure(configure),
            &needs,
            changes,
        );
    }
}

/// What it takes to have this member running; without needs yet.
fn starts_of(inputs: &Inputs<'_>, host: &Host<'_>, generation: &Generation) -> Vec<Action> {
    let unit = || host.layout.unit.clone();
    let kinds = match &host.facts.data {
        DataDir::Wal(wal) => {
            let mut kinds = Vec::new();
            if host.facts.unit.file_state != "enabled" {
                let kind = ActionKind::Enable(Enable {
                    unit: unit(),
                    unmask: host.facts.unit.file_state.starts_with("masked"),
                });
                kinds.push(("enable", kind));
            }
            if !host.facts.unit.is_up() || host.facts.unit.is_between_attempts() {
                let kind = ActionKind::Start(Start {
                    unit: unit(),
                    member: wal.member_id,
                });
                kinds.push(("start", kind));
            }
            kinds
        }
        _ => {
            let mut started = generation.clone();
            started.phase = Phase::Started;
            vec![(
                "bootstrap",
                ActionKind::Bootstrap(Bootstrap {
                    unit: unit(),
                    initial_cluster: generation.initial_cluster_flag(),
                    token: generation.token.clone(),
                    drop_in: host.layout.start_drop_in.clone(),
                    wal_dir: host.layout.wal_files_dir(),
                    leftover: (
                        host.layout.member_dir(),
                        format!(
                            "{}.quorate-{}",
                            host.layout.member_dir(),
                            super::destroy::stamp(inputs.now)
                        ),
                    ),
                    marker: markers::settled(inputs, host, started, None),
                }),
            )]
        }
    };
    let name = &host.node.name;
    let action = |(verb, kind)| Action {
        id: ActionId::of_node(name, verb),
        node: Some(name.clone()),
        kind,
        because: vec![],
        needs: BTreeSet::new(),
        changes: vec![
            change_of("client URL", None, &host.layout.client_url),
            change_of("peer URL", None, &host.layout.peer_url),
            change_of("data directory", None, &host.layout.data_dir),
        ],
        margin: None,
    };
    kinds.into_iter().map(action).collect()
}
