//! One action of a plan, told at length: why it is there, why in this place, what it waits for, what it costs.

use std::fmt::{self, Write};

use super::plan::is_accepted;
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
    if is_accepted(action) {
        let text =
            "you accepted the interruption with --allow-downtime: without that it is blocked";
        item(out, style, "Why", text)?;
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
    if let Some(text) = precondition(action) {
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
    use ActionKind::*;
    let same = first.node == then.node;
    match (&first.kind, &then.kind) {
        (Claim(_), _) => "what will be ours is written down on the host before it is made",
        (Start(_), Restart(_) | Tell(_)) => {
            "members that are down come back before one is stopped (Q1)"
        }
        (Restart(_) | Tell(_), Restart(_)) => {
            "that member is down, unhealthy or half-way to another address, and is mended before any other is stopped"
        }
        (_, Restart(_)) if !same => {
            "all that restarts is staged first, so that the leader can go last (Q5); and members come and go before \
             others are restarted"
        }
        (
            Start(_) | Restart(_) | Tell(_),
            Snapshot(_) | Add(_) | Join(_) | Promote(_) | Remove(_),
        ) => {
            "the membership changes when members that are down, unhealthy or half-way to another address are back (Q2)"
        }
        (Promote(_) | Remove(_), Record(_)) if !same => {
            "other hosts forget that one only when its member is out"
        }
        (Clean(_), Record(_)) => "other hosts forget that one only when it is clean",
        (_, Record(_)) => "the host's state is written down when it is reached",
        (Snapshot(_), _) => "what is there is kept before a member is removed (Q13)",
        (Remove(_), Stop(_) | SetAside(_) | Clean(_)) => {
            "nothing is taken from a member of the cluster (Q7)"
        }
        (Remove(_), Add(_)) => {
            "a failed member goes before its replacement comes: it still counts for the quorum (Q4)"
        }
        (Remove(_), Snapshot(_)) => "a learner that cannot finish goes before anything else (Q3)",
        (Promote(_), Remove(_) | Snapshot(_)) => {
            "growth comes before shrinking, so that the cluster tolerates no less meanwhile (Q4)"
        }
        (Add(_), Join(_)) => "a member starts without data only right after its addition (Q11)",
        (Join(_), Promote(_)) => "it gets its vote when it has caught up (Q3)",
        (
            Add(_) | Join(_) | Promote(_) | Remove(_),
            Add(_) | Join(_) | Promote(_) | Remove(_) | Stop(_) | SetAside(_),
        ) => "one change of the membership at a time (Q2)",
        (Bootstrap(_), Form(_)) => "the first starts of its members make the cluster (Q12)",
        (_, Bootstrap(_)) => {
            "no member starts before every host of the bootstrap is ready and bears the same facts (Q12)"
        }
        (Stop(_) | SetAside(_), Add(_) | Join(_)) => {
            "what the former member left is out of the way before a new one comes (Q11)"
        }
        (_, Snapshot(_) | Remove(_)) => "who takes over is ready before anybody is removed (Q3)",
        (_, Add(_)) => {
            "its host is ready before the cluster counts it in: a learner that cannot start holds up all other changes (Q3)"
        }
        (_, Restart(_) | Start(_) | Join(_)) if same => "what it is to run with is in place first",
        (Stop(_), SetAside(_)) => "data is not moved under a process that uses it",
        (Stop(_), Clean(_)) => "files are not removed under a process that uses them",
        (SetAside(_), Clean(_)) => "the data is safe before user and directories go (Q7)",
        (Prepare(_), _) => "it needs the user and the directories",
        (Install(_) | Configure(_), Configure(_) | Enable(_)) => {
            "a unit is known to systemd only with what it names"
        }
        (_, Stop(_) | SetAside(_)) => {
            "the host is ready for the new member before the old one's data moves"
        }
        _ => FALLBACK,
    }
}

/// Of a pair that nobody has thought of.
const FALLBACK: &str = "it needs what that does";

/// What is asked right before, as `safety` does.
fn precondition(action: &Action) -> Option<String> {
    let settled = safety::SETTLED_MS / 1000;
    let asked = match action.kind.as_kind().precondition() {
        Precondition::None => return None,
        Precondition::MayStop {
            allow_downtime: true,
            ..
        } => "without it the healthy voters are still a quorum, or the cluster has one or two voters and you accepted \
              the interruption (Q1)"
            .into(),
        Precondition::MayStop { .. } => {
            "without it the healthy voters are still a quorum (Q1)".into()
        }
        Precondition::MayChange(MembershipChange::Remove(_)) => removal(action, settled),
        Precondition::MayChange(MembershipChange::Promote(_)) => format!(
            "it is healthy and has caught up, and every voter has been healthy for {settled} s (Q3, Q14)"
        ),
        Precondition::MayChange(MembershipChange::Add(_)) => format!(
            "no other learner is on its way, and every voter has been healthy for {settled} s (Q3, Q14)"
        ),
        Precondition::NotAMember(member) => {
            format!("member {member} is not in the membership (Q7)")
        }
    };
    Some(format!("asked right before: {asked}"))
}

fn removal(action: &Action, settled: u64) -> String {
    let is_learner = matches!(&action.kind, ActionKind::Remove(remove) if remove.learner);
    if is_learner {
        return "the healthy voters are a quorum; it has no vote (Q1)".into();
    }
    let is_down = action
        .margin
        .is_some_and(|margin| margin.during == margin.before);
    if is_down {
        return format!(
            "the healthy voters are a quorum now and without it, and have been healthy for {settled} s; should it have \
             come back, every other voter has to be (Q1, Q14)"
        );
    }
    format!(
        "the healthy voters are a quorum now and without it, and every other voter has been healthy for {settled} s \
         (Q1, Q14)"
    )
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
