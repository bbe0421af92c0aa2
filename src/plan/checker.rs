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
            // These ask etcd, and leave the host as it is.
            ActionKind::Promote(_) | ActionKind::Remove(_) | ActionKind::Snapshot(_) => {}
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
        if let ActionKind::Restart(restart) = &action.kind
            && !restart.is_down
        {
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
    membership(actions, &before, &mut faults);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

/// What changes a living cluster's membership, and what takes hosts away from it.
fn membership(
    actions: &[Action],
    before: &BTreeMap<&ActionId, BTreeSet<&ActionId>>,
    faults: &mut Vec<String>,
) {
    let is_step = |action: &&Action| {
        matches!(
            action.kind,
            ActionKind::Add(_)
                | ActionKind::Join(_)
                | ActionKind::Promote(_)
                | ActionKind::Remove(_)
        )
    };
    let steps: Vec<&Action> = actions.iter().filter(is_step).collect();
    // Q2: one after the other.
    for pair in steps.windows(2) {
        if !before[&pair[1].id].contains(&pair[0].id) {
            faults.push(format!(
                "{} and {} could change the membership at once",
                pair[0].id, pair[1].id
            ));
        }
    }
    let removals: BTreeMap<_, &ActionId> = actions
        .iter()
        .filter_map(|action| match &action.kind {
            ActionKind::Remove(remove) => Some((remove.member, &action.id)),
            _ => None,
        })
        .collect();
    let living = actions.iter().any(|action| {
        !matches!(
            action.kind,
            ActionKind::Stop(_) | ActionKind::SetAside(_) | ActionKind::Clean(_)
        )
    });
    for action in actions {
        let earlier = &before[&action.id];
        let mut must_wait = |wanted: &dyn Fn(&Action) -> bool| {
            for other in actions.iter().filter(|other| wanted(other)) {
                if other.id != action.id && !earlier.contains(&other.id) {
                    faults.push(format!("{} does not wait for {}", action.id, other.id));
                }
            }
        };
        let same_node = |other: &Action| other.node == action.node;
        match &action.kind {
            // Q11: right after its add, on a host that is ready.
            ActionKind::Join(_) => must_wait(&|other| {
                same_node(other)
                    && matches!(
                        other.kind,
                        ActionKind::Add(_)
                            | ActionKind::Claim(_)
                            | ActionKind::Install(_)
                            | ActionKind::Prepare(_)
                            | ActionKind::Configure(_)
                            | ActionKind::SetAside(_)
                    )
            }),
            // Q3.
            ActionKind::Promote(_) => must_wait(&|other| {
                same_node(other) && matches!(other.kind, ActionKind::Join(_) | ActionKind::Start(_))
            }),
            ActionKind::Remove(remove) if !remove.learner => {
                // Q13.
                let snapshot = |id: &&ActionId| {
                    actions.iter().any(|other| {
                        other.id == **id && matches!(other.kind, ActionKind::Snapshot(_))
                    })
                };
                if !earlier.iter().any(snapshot) {
                    faults.push(format!("{} comes without a snapshot", action.id));
                }
            }
            // Q7: data of members goes only after they have gone, and somebody looks again.
            ActionKind::SetAside(set_aside) if living => match set_aside.member {
                None => faults.push(format!("{} does not say whose data it is", action.id)),
                Some(member) => {
                    if let Some(removal) = removals.get(&member)
                        && !earlier.contains(removal)
                    {
                        faults.push(format!("{} does not wait for {removal}", action.id));
                    }
                }
            },
            // The host of a member that stays is not stopped for good.
            ActionKind::Stop(stop) if living => {
                if let Some(removal) = stop.member.and_then(|member| removals.get(&member))
                    && !earlier.contains(removal)
                {
                    faults.push(format!("{} does not wait for {removal}", action.id));
                }
            }
            // Half-way members are mended before, all others after.
            ActionKind::Restart(_) => {
                for step in &steps {
                    if !earlier.contains(&step.id) && !before[&step.id].contains(&action.id) {
                        faults.push(format!(
                            "{} could go while {} changes the membership",
                            action.id, step.id
                        ));
                    }
                }
            }
            _ => {}
        }
        // Q1, restated: what is left healthy is enough.
        if let ActionKind::Add(_) | ActionKind::Promote(_) | ActionKind::Remove(_) = &action.kind {
            match action.margin {
                Some(margin)
                    if margin.during >= margin.needs && margin.before >= quorum(margin.voters) => {}
                Some(margin) => {
                    faults.push(format!("{} takes the quorum away: {margin}", action.id))
                }
                None if matches!(&action.kind, ActionKind::Remove(remove) if remove.learner) => {}
                None => faults.push(format!("{} has no margin", action.id)),
            }
        }
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
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
