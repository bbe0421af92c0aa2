//! What is done on one host: in which order, and what of it a running member may meet.

use std::collections::BTreeMap;

use super::Before;
use crate::action::{Action, ActionKind};

/// Checks every host for itself.
pub(super) fn check(actions: &[Action], before: &Before<'_>, faults: &mut Vec<String>) {
    let mut hosts: BTreeMap<&str, Vec<&Action>> = BTreeMap::new();
    for action in actions {
        if let Some(node) = &action.node {
            hosts.entry(node).or_default().push(action);
        }
    }
    for here in hosts.values() {
        for action in here {
            for other in here.iter().filter(|other| other.id != action.id) {
                if comes_after(&action.kind, &other.kind) && !before[&action.id].contains(&other.id)
                {
                    faults.push(format!("{} does not wait for {}", action.id, other.id));
                }
                clash(action, other, faults);
            }
        }
    }
}

/// Whether the one has to wait for the other on the same host.
fn comes_after(one: &ActionKind, other: &ActionKind) -> bool {
    match other {
        // Whatever changes a host is written down on it first; the rest asks etcd, and leaves the host as it is.
        ActionKind::Claim(_) => !asks_etcd(one) && !matches!(one, ActionKind::Claim(_)),
        // What a member runs with is in place when it starts (Q15).
        ActionKind::Install(_)
        | ActionKind::Prepare(_)
        | ActionKind::Configure(_)
        | ActionKind::Enable(_) => matches!(
            one,
            ActionKind::Start(_)
                | ActionKind::Restart(_)
                | ActionKind::Tell(_)
                | ActionKind::Record(_)
        ),
        ActionKind::Stop(_) => matches!(
            one,
            ActionKind::SetAside(_) | ActionKind::Clean(_) | ActionKind::Record(_)
        ),
        ActionKind::SetAside(_) => matches!(one, ActionKind::Clean(_) | ActionKind::Record(_)),
        // A state that is not reached yet is not written down, nor is what an undo needs dropped.
        ActionKind::Bootstrap(_)
        | ActionKind::Join(_)
        | ActionKind::Start(_)
        | ActionKind::Restart(_)
        | ActionKind::Tell(_) => matches!(one, ActionKind::Record(_)),
        _ => false,
    }
}

fn asks_etcd(kind: &ActionKind) -> bool {
    matches!(
        kind,
        ActionKind::Promote(_)
            | ActionKind::Remove(_)
            | ActionKind::Snapshot(_)
            | ActionKind::Form(_)
    )
}

/// What two actions on the same host may not say of it.
fn clash(action: &Action, other: &Action, faults: &mut Vec<String>) {
    match (&action.kind, &other.kind) {
        // Q15: what runs is switched inside its own restart.
        (ActionKind::Install(install), ActionKind::Restart(_)) if !install.staged => {
            faults.push(format!("{} does not leave it to {}", action.id, other.id));
        }
        (ActionKind::Configure(configure), ActionKind::Restart(restart)) => {
            let switched = |path: &String| restart.files.iter().any(|file| file.path == *path);
            for file in configure.files.iter().filter(|file| switched(&file.path)) {
                faults.push(format!(
                    "{} does not leave {} to {}",
                    action.id, file.path, other.id
                ));
            }
        }
        // Q7: both ask whether the same member has gone.
        (ActionKind::Stop(stop), ActionKind::SetAside(aside)) if stop.member != aside.member => {
            faults.push(format!(
                "{} and {} speak of different members",
                action.id, other.id
            ));
        }
        _ => {}
    }
}
