//! An independent checker of plans. It restates the rules from the actions alone and shares no code with the planner.

mod hosts;
mod margins;

use std::collections::{BTreeMap, BTreeSet};

use crate::action::{Action, ActionId, ActionKind};

/// Names of all actions that are done before each.
type Before<'a> = BTreeMap<&'a ActionId, BTreeSet<&'a ActionId>>;

/// Every rule that a plan breaks.
pub fn check(actions: &[Action]) -> Result<(), Vec<String>> {
    let mut faults = Vec::new();
    let before = all_before(actions);
    let mut names = BTreeSet::new();
    for action in actions.iter().filter(|action| !names.insert(&action.id)) {
        faults.push(format!("two actions are called {}", action.id));
    }
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
    let frozen: BTreeSet<(&str, &str)> = actions
        .iter()
        .filter_map(|action| match &action.kind {
            ActionKind::Bootstrap(start) => {
                Some((start.token.as_str(), start.initial_cluster.as_str()))
            }
            _ => None,
        })
        .collect();
    if frozen.len() > 1 {
        faults.push("members of one bootstrap start from different facts".into());
    }
    for form in of_kind(|kind| matches!(kind, ActionKind::Form(_))) {
        for start in of_kind(|kind| matches!(kind, ActionKind::Bootstrap(_) | ActionKind::Start(_)))
        {
            if !before[&form.id].contains(&start.id) {
                faults.push(format!("{} does not wait for {}", form.id, start.id));
            }
        }
        for record in of_kind(|kind| matches!(kind, ActionKind::Record(_))) {
            if !before[&record.id].contains(&form.id) {
                faults.push(format!("{} does not wait for {}", record.id, form.id));
            }
        }
    }
    hosts::check(actions, &before, &mut faults);
    let starting: Vec<&Action> = of_kind(|kind| matches!(kind, ActionKind::Start(_))).collect();
    for action in actions {
        let earlier = &before[&action.id];
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
            for start in &starting {
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
fn membership(actions: &[Action], before: &Before<'_>, faults: &mut Vec<String>) {
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
    unbroken(&steps, faults);
    margins::check(actions, &steps, before, faults);
    let removals: BTreeMap<_, &ActionId> = actions
        .iter()
        .filter_map(|action| match &action.kind {
            ActionKind::Remove(remove) => Some((remove.member, &action.id)),
            _ => None,
        })
        .collect();
    let living = actions.iter().any(|action| match &action.kind {
        ActionKind::Stop(stop) => stop.member.is_some(),
        ActionKind::SetAside(set_aside) => set_aside.member.is_some(),
        ActionKind::Clean(_) => false,
        _ => true,
    });
    let all = |wanted: fn(&ActionKind) -> bool| {
        let wanted = actions.iter().filter(|action| wanted(&action.kind));
        wanted.collect::<Vec<&Action>>()
    };
    let starting = all(|kind| matches!(kind, ActionKind::Start(_)));
    let leaving = all(|kind| matches!(kind, ActionKind::Remove(_) | ActionKind::Clean(_)));
    for action in actions {
        let earlier = &before[&action.id];
        let mut must_wait = |others: &[&Action]| {
            for other in others {
                if other.id != action.id && !earlier.contains(&other.id) {
                    faults.push(format!("{} does not wait for {}", action.id, other.id));
                }
            }
        };
        let here = |wanted: fn(&ActionKind) -> bool| {
            let here = |other: &&Action| other.node == action.node && wanted(&other.kind);
            actions.iter().filter(here).collect::<Vec<_>>()
        };
        if is_step(&action) {
            // The margins count on those that are started.
            must_wait(&starting);
        }
        match &action.kind {
            // Q11: right after its add, on a host that is ready.
            ActionKind::Add(_) | ActionKind::Join(_) => must_wait(&here(|kind| {
                matches!(
                    kind,
                    ActionKind::Add(_)
                        | ActionKind::Claim(_)
                        | ActionKind::Install(_)
                        | ActionKind::Prepare(_)
                        | ActionKind::Configure(_)
                        | ActionKind::Stop(_)
                        | ActionKind::SetAside(_)
                )
            })),
            // Q3.
            ActionKind::Promote(_) => must_wait(&here(|kind| {
                matches!(kind, ActionKind::Join(_) | ActionKind::Start(_))
            })),
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
                takers_are_ready(actions, before, action, faults);
                if action
                    .margin
                    .is_some_and(|margin| margin.during < margin.before)
                {
                    grows_first(&steps, before, action, faults);
                }
            }
            // Q7: data of members goes only after they have gone, and somebody looks again.
            ActionKind::SetAside(set_aside) if living && !set_aside.purge.is_empty() => {
                faults.push(format!(
                    "{} deletes data while the cluster lives",
                    action.id
                ));
            }
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
            ActionKind::Restart(_) | ActionKind::Tell(_) => {
                for step in &steps {
                    if !earlier.contains(&step.id) && !before[&step.id].contains(&action.id) {
                        faults.push(format!(
                            "{} could go while {} changes the membership",
                            action.id, step.id
                        ));
                    }
                }
            }
            // Other hosts know of one that leaves until it has left.
            ActionKind::Record(_) => {
                must_wait(&leaving);
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

/// Q2, Q3, Q11: nothing comes between the addition of a member, its first start and its vote.
fn unbroken(steps: &[&Action], faults: &mut Vec<String>) {
    for (at, step) in steps.iter().enumerate() {
        let next = steps.get(at + 1).map(|next| &next.kind);
        let (is_followed, by) = match (&step.kind, next) {
            (ActionKind::Add(add), Some(ActionKind::Join(join))) => {
                (add.peer_url == join.peer_url, "first start")
            }
            (ActionKind::Join(join), Some(ActionKind::Promote(promote))) => {
                (join.peer_url == promote.peer_url, "promotion")
            }
            (ActionKind::Add(_), _) => (false, "first start"),
            (ActionKind::Join(_), _) => (false, "promotion"),
            _ => continue,
        };
        if !is_followed {
            faults.push(format!(
                "{} is not followed by the {by} of its member",
                step.id
            ));
        }
    }
    let (mut gone, mut added) = (BTreeSet::new(), BTreeSet::new());
    for step in steps {
        let is_half_way = match &step.kind {
            ActionKind::Add(add) => {
                added.insert(&add.peer_url);
                false
            }
            ActionKind::Join(join) => !added.contains(&join.peer_url),
            ActionKind::Promote(promote) => !added.contains(&promote.peer_url),
            ActionKind::Remove(remove) => {
                if !gone.insert(remove.member) {
                    faults.push(format!("{} removes a member a second time", step.id));
                }
                remove.learner
            }
            _ => false,
        };
        // etcd takes no other learner while there is one.
        if is_half_way && !added.is_empty() {
            faults.push(format!(
                "{} is of a learner that another joins before",
                step.id
            ));
        }
    }
}

/// Q3: hosts that take over are ready before anything is removed; what has to wait until a member has stopped on the
/// same host cannot be.
fn takers_are_ready(
    actions: &[Action],
    before: &Before<'_>,
    removal: &Action,
    faults: &mut Vec<String>,
) {
    let joins = actions
        .iter()
        .filter(|action| matches!(action.kind, ActionKind::Join(_)));
    let takers: BTreeSet<_> = joins.map(|join| &join.node).collect();
    let mut stops = BTreeMap::new();
    for stop in actions
        .iter()
        .filter(|action| matches!(action.kind, ActionKind::Stop(_)))
    {
        stops.insert(&stop.node, &stop.id);
    }
    for action in actions
        .iter()
        .filter(|action| takers.contains(&action.node))
    {
        let is_preparation = matches!(
            action.kind,
            ActionKind::Claim(_)
                | ActionKind::Install(_)
                | ActionKind::Prepare(_)
                | ActionKind::Configure(_)
        );
        let stop = stops.get(&action.node);
        let waits_for_stop = stop.is_some_and(|stop| before[&action.id].contains(*stop));
        if is_preparation && !waits_for_stop && !before[&removal.id].contains(&action.id) {
            faults.push(format!("{} does not wait for {}", removal.id, action.id));
        }
    }
}

/// Q4: a healthy cluster grows before it shrinks. Where a member makes way for another on its own host it cannot.
fn grows_first(steps: &[&Action], before: &Before<'_>, removal: &Action, faults: &mut Vec<String>) {
    let mut rest = steps
        .iter()
        .skip_while(|step| step.id != removal.id)
        .skip(1);
    let makes_way = rest.next().is_some_and(|next| {
        matches!(next.kind, ActionKind::Add(_)) && next.node.is_some() && next.node == removal.node
    });
    if makes_way {
        return;
    }
    for promote in steps
        .iter()
        .filter(|step| matches!(step.kind, ActionKind::Promote(_)))
    {
        if !before[&removal.id].contains(&promote.id) {
            faults.push(format!(
                "{} shrinks the cluster before {} lets it grow",
                removal.id, promote.id
            ));
        }
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

fn all_before(actions: &[Action]) -> Before<'_> {
    let mut before = Before::new();
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
