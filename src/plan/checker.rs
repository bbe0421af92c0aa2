//! An independent checker of plans. It restates the rules from the actions alone and shares no code with the planner.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::{Action, ActionId, ActionKind};

/// Every rule that a plan breaks.
pub fn check(actions: &[Action]) -> Result<(), Vec<String>> {
    let mut faults = Vec::new();
    let before = all_before(actions);
    let position: BTreeMap<&ActionId, usize> = actions
        .iter()
        .enumerate()
        .map(|(at, action)| (&action.id, at))
        .collect();
    for (at, action) in actions.iter().enumerate() {
        for need in &action.needs {
            if position.get(need).is_none_or(|other| *other >= at) {
                faults.push(format!("{} does not come after {need}", action.id));
            }
        }
    }
    let of_kind =
        |wanted: fn(&ActionKind) -> bool| actions.iter().filter(move |action| wanted(&action.kind));
    let destroys = of_kind(|kind| {
        matches!(
            kind,
            ActionKind::Stop(_) | ActionKind::SetAside(_) | ActionKind::Clean(_)
        )
    })
    .count();
    if destroys > 0 && destroys != actions.len() {
        faults.push("a plan that destroys does something else too".into());
    }
    // Q12: no member starts before the facts are frozen on every host of the bootstrap.
    for start in of_kind(|kind| matches!(kind, ActionKind::Bootstrap(_))) {
        for other in of_kind(|kind| {
            matches!(
                kind,
                ActionKind::Claim(_)
                    | ActionKind::Install(_)
                    | ActionKind::Configure(_)
                    | ActionKind::Prepare(_)
            )
        }) {
            if !before[&start.id].contains(&other.id) {
                faults.push(format!("{} does not wait for {}", start.id, other.id));
            }
        }
    }
    let tokens: BTreeSet<&str> = actions
        .iter()
        .filter_map(|action| match &action.kind {
            ActionKind::Bootstrap(bootstrap) => Some(bootstrap.token.as_str()),
            _ => None,
        })
        .collect();
    if tokens.len() > 1 {
        faults.push("members of one bootstrap have different tokens".into());
    }
    for action in actions {
        let earlier = &before[&action.id];
        let of_same_node = |wanted: fn(&ActionKind) -> bool| {
            actions
                .iter()
                .find(|other| other.node == action.node && wanted(&other.kind))
        };
        match &action.kind {
            ActionKind::Claim(_) | ActionKind::Form(_) | ActionKind::Stop(_) => {}
            ActionKind::SetAside(_) | ActionKind::Clean(_) => {
                for wanted in [
                    of_same_node(|kind| matches!(kind, ActionKind::Stop(_))),
                    of_same_node(|kind| matches!(kind, ActionKind::SetAside(_))),
                ]
                .into_iter()
                .flatten()
                {
                    if wanted.id != action.id && !earlier.contains(&wanted.id) {
                        faults.push(format!("{} does not wait for {}", action.id, wanted.id));
                    }
                }
            }
            // Whatever changes a host is written down on it first.
            _ => {
                if let Some(claim) = of_same_node(|kind| matches!(kind, ActionKind::Claim(_)))
                    && !earlier.contains(&claim.id)
                {
                    faults.push(format!("{} does not wait for {}", action.id, claim.id));
                }
            }
        }
        // Q1: a restart keeps a quorum, unless the operator said that it need not.
        if let ActionKind::Restart(restart) = &action.kind {
            match action.margin {
                None => faults.push(format!("{} has no margin", action.id)),
                Some(margin)
                    if margin.during < margin.needs
                        && !(restart.allow_downtime && margin.voters <= 2) =>
                {
                    faults.push(format!("{} takes the quorum away", action.id));
                }
                Some(_) => {}
            }
            for start in of_kind(|kind| matches!(kind, ActionKind::Start(_))) {
                if !earlier.contains(&start.id) {
                    faults.push(format!(
                        "{} comes before the dead member of {} is started",
                        action.id, start.id
                    ));
                }
            }
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

fn all_before(actions: &[Action]) -> BTreeMap<&ActionId, BTreeSet<&ActionId>> {
    let mut before: BTreeMap<&ActionId, BTreeSet<&ActionId>> = BTreeMap::new();
    for action in actions {
        let mut all = BTreeSet::new();
        for need in &action.needs {
            all.insert(need);
            if let Some(earlier) = before.get(need) {
                all.extend(earlier.iter().copied());
            }
        }
        before.insert(&action.id, all);
    }
    before
}
