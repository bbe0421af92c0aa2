//! Whether the margins of a plan can be: each by itself, and each after the one before.

use super::{Before, quorum};
use crate::action::{Action, ActionKind, Margin};

/// Checks them.
pub(super) fn check(
    actions: &[Action],
    steps: &[&Action],
    before: &Before<'_>,
    faults: &mut Vec<String>,
) {
    for action in actions {
        if let Some(margin) = action.margin
            && !is_possible(&action.kind, &margin)
        {
            faults.push(format!("{} has an impossible margin: {margin}", action.id));
        }
    }
    let counted: Vec<(&Action, Margin)> = steps
        .iter()
        .filter_map(|step| Some((*step, step.margin?)))
        .collect();
    for pair in counted.windows(2) {
        let ((one, left), (other, found)) = (pair[0], pair[1]);
        if after(&one.kind, &left) != (found.voters, found.before) {
            faults.push(format!(
                "{} does not count what {} leaves: {found}",
                other.id, one.id
            ));
        }
    }
    let restarts = actions
        .iter()
        .filter(|action| matches!(action.kind, ActionKind::Restart(_)));
    let mut voters = None;
    for (restart, margin) in restarts.filter_map(|action| Some((action, action.margin?))) {
        let ends = counted.first().zip(counted.last());
        let agrees = match ends {
            Some((_, (last, left))) if before[&restart.id].contains(&last.id) => {
                after(&last.kind, left) == (margin.voters, margin.before)
            }
            Some(((_, first), _)) => margin.voters == first.voters,
            // Nothing changes the membership.
            None => *voters.get_or_insert(margin.voters) == margin.voters,
        };
        if !agrees {
            faults.push(format!(
                "{} counts others than the rest of the plan: {margin}",
                restart.id
            ));
        }
    }
}

/// Q1, Q14: what a step of this kind can find and leave.
fn is_possible(kind: &ActionKind, margin: &Margin) -> bool {
    let Margin {
        voters,
        before,
        during,
        needs,
    } = *margin;
    let all = before == voters;
    before <= voters
        && match kind {
            ActionKind::Add(_) => all && during == before && needs == quorum(voters),
            ActionKind::Promote(_) => all && during == before + 1 && needs == quorum(voters + 1),
            ActionKind::Remove(remove) if remove.learner => {
                during == before && needs == quorum(voters)
            }
            // One that lives goes only where all do, and where all do it is one of them.
            ActionKind::Remove(_) => {
                voters > 0 && during + usize::from(all) == before && needs == quorum(voters - 1)
            }
            ActionKind::Restart(_) => {
                (during == before || during + 1 == before) && needs == quorum(voters)
            }
            _ => true,
        }
}

/// Voters, and healthy ones, that a change of the membership leaves.
fn after(kind: &ActionKind, margin: &Margin) -> (usize, usize) {
    match kind {
        ActionKind::Promote(_) => (margin.voters + 1, margin.during),
        ActionKind::Remove(remove) if !remove.learner => {
            (margin.voters.saturating_sub(1), margin.during)
        }
        _ => (margin.voters, margin.before),
    }
}
