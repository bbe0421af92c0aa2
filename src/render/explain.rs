//! One action of a plan, told at length: why it is there, why in this place, what it waits for, what it costs.

use std::fmt::{self, Write};

use super::style::{BOLD, Style, clean};
use crate::action::{Action, ActionId, ActionKind, Gate, MembershipChange, Precondition};
use crate::plan::Plan;
use crate::safety;
use crate::schedule::{GATE_DEADLINE_MS, JOIN_DEADLINE_MS};

/// The text; `Err` says which names there are instead.
pub fn explain(plan: &Plan, id: &str, style: Style) -> Result<String, Unknown> {
    let Some(action) = plan.actions.iter().find(|action| action.id.0 == id) else {
        return Err(Unknown::new(plan, id));
    };
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, plan, action, style);
    Ok(text)
}

/// An action that the plan does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// What is wrong.
    pub message: String,
    /// What can be said instead.
    pub remedy: String,
}

impl Unknown {
    fn new(plan: &Plan, id: &str) -> Self {
        let names: Vec<&str> = plan
            .actions
            .iter()
            .map(|action| action.id.0.as_str())
            .collect();
        let distance = |name: &&&str| strsim::damerau_levenshtein(name, id);
        let remedy = match names.iter().min_by_key(distance) {
            Some(nearest) => format!("did you mean {nearest}? It has {}", names.join(", ")),
            None if plan.blocked.is_empty() => "it has none: there is nothing to do".into(),
            None => "it has none: what it would do is blocked, and `quorate plan` says why".into(),
        };
        Self {
            message: format!("the plan has no action {}", clean(id)),
            remedy,
        }
    }
}

fn write(out: &mut String, plan: &Plan, action: &Action, style: Style) -> fmt::Result {
    let kind = action.kind.as_kind();
    writeln!(out, "{}", style.paint(BOLD, &action.id.0))?;
    item(out, style, "What", &kind.summary())?;
    for because in &action.because {
        item(out, style, "Why", because)?;
    }
    let mut needs: Vec<&Action> = plan
        .actions
        .iter()
        .filter(|other| action.needs.contains(&other.id))
        .collect();
    needs.sort_by_key(|other| (other.node != action.node, &other.id));
    for need in needs {
        item(
            out,
            style,
            "After",
            &format!("{}: {}", need.id, reason(need, action)),
        )?;
    }
    if let Some(text) = precondition(&kind.precondition()) {
        item(out, style, "Only if", &text)?;
    }
    if let Some(margin) = action.margin {
        item(out, style, "Margin", &margin.to_string())?;
    }
    if let Some(stall) = kind.stall(action.margin.as_ref()) {
        item(out, style, "Clients", &stall.to_string())?;
    }
    if let Some(text) = gate(&kind.gate()) {
        item(out, style, "Done when", &text)?;
    }
    if let Some(way_back) = kind.way_back() {
        item(out, style, "Way back", way_back)?;
    }
    if kind.is_member_action() {
        item(
            out,
            style,
            "If it fails",
            "no other member is touched any more in this run (Q15); the report says what is done and what is left",
        )?;
    }
    let waiting: Vec<&ActionId> = plan
        .actions
        .iter()
        .filter(|other| other.needs.contains(&action.id))
        .map(|other| &other.id)
        .collect();
    for other in waiting {
        item(out, style, "Before", &other.0)?;
    }
    Ok(())
}

fn item(out: &mut String, style: Style, label: &str, text: &str) -> fmt::Result {
    let text = style.wrap(15, "               ", &clean(text));
    writeln!(out, "  {:<13}{text}", format!("{label}:"))
}

/// Why one comes after the other.
fn reason(first: &Action, then: &Action) -> &'static str {
    let same = first.node == then.node;
    match (&first.kind, &then.kind) {
        (ActionKind::Claim(_), _) => {
            "what will be ours is written down on the host before it is made"
        }
        (ActionKind::Start(_), ActionKind::Restart(_)) => {
            "members that are down come back before one is stopped (Q1)"
        }
        (ActionKind::Restart(_), ActionKind::Restart(_)) => {
            "that member is half-way to another address, and is mended before any other is stopped"
        }
        (_, ActionKind::Restart(_)) if !same => {
            "all that restarts is staged first, so that the leader can go last (Q5); and members come and go before \
             others are restarted"
        }
        (ActionKind::Promote(_) | ActionKind::Remove(_), ActionKind::Record(_)) if !same => {
            "other hosts forget that one only when its member is out"
        }
        (ActionKind::Clean(_), ActionKind::Record(_)) => {
            "other hosts forget that one only when it is clean"
        }
        (ActionKind::Snapshot(_), _) => "what is there is kept before a member is removed (Q13)",
        (
            ActionKind::Remove(_),
            ActionKind::Stop(_) | ActionKind::SetAside(_) | ActionKind::Clean(_),
        ) => "nothing is taken from a member of the cluster (Q7)",
        (ActionKind::Remove(_), ActionKind::Add(_)) => {
            "a failed member goes before its replacement comes: it still counts for the quorum (Q4)"
        }
        (ActionKind::Promote(_), ActionKind::Remove(_) | ActionKind::Snapshot(_)) => {
            "growth comes before shrinking, so that the cluster tolerates no less meanwhile (Q4)"
        }
        (ActionKind::Add(_), ActionKind::Join(_)) => {
            "a member starts without data only right after its addition (Q11)"
        }
        (ActionKind::Join(_), ActionKind::Promote(_)) => {
            "it gets its vote when it has caught up (Q3)"
        }
        (
            ActionKind::Add(_)
            | ActionKind::Join(_)
            | ActionKind::Promote(_)
            | ActionKind::Remove(_),
            ActionKind::Add(_)
            | ActionKind::Join(_)
            | ActionKind::Promote(_)
            | ActionKind::Remove(_),
        ) => "one change of the membership at a time (Q2)",
        (_, ActionKind::Bootstrap(_)) => {
            "no member starts before every host of the bootstrap is ready and bears the same facts (Q12)"
        }
        (_, ActionKind::Snapshot(_) | ActionKind::Remove(_)) => {
            "who takes over is ready before anybody is removed (Q3)"
        }
        (_, ActionKind::Record(_)) => "the host's state is written down when it is reached",
        (_, ActionKind::Restart(_) | ActionKind::Start(_) | ActionKind::Join(_)) if same => {
            "what it is to run with is in place first"
        }
        (ActionKind::Stop(_), _) => "data is not moved under a process that uses it",
        _ => "it stands on that",
    }
}

fn precondition(precondition: &Precondition) -> Option<String> {
    let settled = safety::SETTLED_MS / 1000;
    Some(match precondition {
        Precondition::None => return None,
        Precondition::MayStop { allow_downtime: true, .. } => {
            "asked right before: without it the healthy voters are still a quorum, or the cluster has one or two voters \
             and you accepted the interruption (Q1)"
                .into()
        }
        Precondition::MayStop { .. } => {
            "asked right before: without it the healthy voters are still a quorum (Q1)".into()
        }
        Precondition::MayChange(MembershipChange::Remove(_)) => format!(
            "asked right before: healthy voters are a quorum now and without it, and have been healthy for {settled} s \
             (Q1, Q14)"
        ),
        Precondition::MayChange(_) => {
            format!("asked right before: every voter has been healthy for {settled} s (Q14)")
        }
        Precondition::NotAMember(member) => {
            format!("asked right before: member {member} is not in the membership (Q7)")
        }
    })
}

fn gate(gate: &Gate) -> Option<String> {
    let limit = GATE_DEADLINE_MS / 1000;
    Some(match gate {
        Gate::None => return None,
        Gate::Formed { members, .. } => {
            format!("{members} members answer healthy in one cluster, within {limit} s")
        }
        Gate::Member(member) => {
            format!("member {member} is healthy and has caught up, within {limit} s (Q2)")
        }
        Gate::Joined { voter: true, .. } => {
            format!("it is a voter, healthy, and has caught up, within {limit} s")
        }
        Gate::Joined { .. } => format!(
            "it answers and has caught up, within {} min as long as its unit runs",
            JOIN_DEADLINE_MS / 60_000
        ),
        Gate::Removed(member) => format!(
            "member {member} is out of the membership and the others are a quorum, within {limit} s"
        ),
    })
}
