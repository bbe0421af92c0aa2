//! The text of a plan, in Terraform's look.

mod action;
mod diff;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use super::style::{BOLD, RED, Style, YELLOW, clean, count};
use crate::action::{Action, ActionId, ActionKind, Verb};
use crate::desired::model::TlsMode;
use crate::plan::{Blocked, Goal, Plan};

pub(super) use action::{is_accepted, is_issued};

/// What of a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Colours and width.
    pub style: Style,
    /// One line per action.
    pub concise: bool,
}

/// The text of a plan; ends with a newline.
pub fn plan(plan: &Plan, options: Options) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, plan, options);
    text
}

/// Writes the text of a plan.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut impl Write, plan: &Plan, options: Options) -> fmt::Result {
    let style = options.style;
    if !plan.actions.is_empty() {
        intro(out, plan, style)?;
        actions(out, plan, options)?;
    }
    if plan.intent.goal.is_destroy() && !plan.actions.is_empty() {
        what_stays(out, plan, style)?;
    }
    for blocked in &plan.blocked {
        write_blocked(out, blocked, style)?;
    }
    for warning in &plan.warnings {
        let text = style.wrap(9, "         ", warning);
        writeln!(out, "{} {text}\n", style.paint(YELLOW, "Warning:"))?;
    }
    summary(out, plan, style)
}

/// Terraform's summary line, which scripts parse: `Plan: 1 to add, 0 to change, 0 to destroy.`
pub fn summary_line(plan: &Plan) -> String {
    let summary = plan.summary();
    format!(
        "Plan: {} to add, {} to change, {} to destroy.",
        summary.add, summary.change, summary.destroy
    )
}

fn intro(out: &mut impl Write, plan: &Plan, style: Style) -> fmt::Result {
    let cluster = &plan.desired.cluster.name;
    let what = match plan.intent.goal {
        Goal::Converge { .. } => {
            format!("Quorate compared cluster {cluster} with the cluster file.")
        }
        Goal::Destroy { .. } => format!("Quorate looked for what it set up for cluster {cluster}."),
    };
    let text = format!("{what} Actions are indicated with the following symbols:");
    writeln!(out, "{}", style.wrap(0, "", &text))?;
    let used: BTreeSet<Verb> = plan
        .actions
        .iter()
        .map(|action| action.kind.as_kind().verb())
        .collect();
    for verb in used {
        let (symbol, colour) = action::symbol(verb);
        let meaning = match verb {
            Verb::Create => "create",
            Verb::Update => "update in-place",
            Verb::Destroy => "destroy",
        };
        writeln!(out, "  {} {meaning}", style.paint(colour, symbol))?;
    }
    writeln!(out, "\nQuorate will perform the following actions:\n")
}

/// By node, then those of the cluster, then what is written down when other nodes are done; within each in the plan's
/// order. A snapshot stands before the first step that waits for it.
fn listed(plan: &Plan) -> Vec<&Action> {
    let is_snapshot = |action: &&Action| matches!(action.kind, ActionKind::Snapshot(_));
    let (snapshots, mut sorted): (Vec<&Action>, Vec<&Action>) =
        plan.actions.iter().partition(is_snapshot);
    let actions = plan.actions.iter();
    let nodes: BTreeMap<&ActionId, &Option<String>> =
        actions.map(|action| (&action.id, &action.node)).collect();
    let waits_for_others = |action: &Action| {
        let elsewhere = |need: &ActionId| nodes.get(need).is_some_and(|node| **node != action.node);
        matches!(action.kind, ActionKind::Record(_)) && action.needs.iter().any(elsewhere)
    };
    sorted.sort_by_cached_key(|action| {
        (
            waits_for_others(action),
            action.node.is_none(),
            action.node.as_ref(),
        )
    });
    for snapshot in snapshots {
        let waits = |action: &&Action| action.needs.contains(&snapshot.id);
        let at = sorted.iter().position(waits).unwrap_or(sorted.len());
        sorted.insert(at, snapshot);
    }
    sorted
}

fn actions(out: &mut impl Write, plan: &Plan, options: Options) -> fmt::Result {
    let width = plan
        .actions
        .iter()
        .map(|action| action.id.0.chars().count())
        .max()
        .unwrap_or_default();
    for action in listed(plan) {
        let short = options.concise || action::is_bookkeeping(action);
        if short {
            action::short(
                out,
                action,
                if options.concise { width } else { 0 },
                options.style,
            )?;
        } else {
            action::full(out, action, options.style)?;
        }
        if !options.concise {
            writeln!(out)?;
        }
    }
    if options.concise {
        writeln!(out)?;
    }
    Ok(())
}

fn write_blocked(out: &mut impl Write, blocked: &Blocked, style: Style) -> fmt::Result {
    let text = style.wrap(9, "         ", &blocked.to_string());
    writeln!(out, "{} {text}", style.paint(RED, "Blocked:"))?;
    if !blocked.remedy.is_empty() {
        writeln!(
            out,
            "         {}",
            style.wrap(9, "         ", &blocked.remedy)
        )?;
    }
    writeln!(out)
}

/// What a destroy leaves, and what it does not (Q7).
fn what_stays(out: &mut impl Write, plan: &Plan, style: Style) -> fmt::Result {
    let mut stays = Vec::new();
    let mut goes = Vec::new();
    for action in &plan.actions {
        if let ActionKind::SetAside(aside) = &action.kind {
            let node = action.node.as_deref().unwrap_or_default();
            stays.extend(aside.moves.iter().map(|(_, to)| (node, to)));
            goes.extend(aside.purge.iter().map(|path| (node, path)));
        }
    }
    if !goes.is_empty() {
        writeln!(
            out,
            "{}",
            style.paint(RED, "This data will be DELETED. There is no undo:")
        )?;
        for (node, path) in &goes {
            writeln!(out, "  {node}: {}", clean(path))?;
        }
        writeln!(out)?;
    }
    if !stays.is_empty() {
        writeln!(
            out,
            "{}",
            style.paint(BOLD, "This data stays on the hosts, owned by root:")
        )?;
        for (node, path) in &stays {
            writeln!(out, "  {node}: {}", clean(path))?;
        }
        writeln!(out)?;
    }
    let tls = &plan.desired.tls;
    if tls.client == TlsMode::Managed || tls.peer == TlsMode::Managed {
        let text = format!(
            "The certificate authority in {} stays on this machine.",
            tls.ca.dir.display()
        );
        writeln!(out, "{}\n", style.wrap(0, "", &text))?;
    }
    Ok(())
}

fn summary(out: &mut impl Write, plan: &Plan, style: Style) -> fmt::Result {
    let blocked = plan.blocked.len();
    let bold = |text: &str| style.paint(BOLD, text);
    if !plan.actions.is_empty() {
        writeln!(out, "{}", bold(&summary_line(plan)))?;
        if blocked > 0 {
            let text = format!("{blocked} blocked: see above. The rest can be applied.");
            writeln!(out, "{}", style.paint(RED, &text))?;
        }
        return Ok(());
    }
    if blocked > 0 {
        let text = format!(
            "Nothing can be done now: {} blocked, for the {} above.",
            count(blocked, "change is", "changes are"),
            if blocked == 1 { "reason" } else { "reasons" },
        );
        return writeln!(out, "{}", style.paint(RED, &text));
    }
    let what = match plan.intent.goal {
        Goal::Converge { .. } => "The hosts and the cluster match the cluster file.",
        Goal::Destroy { .. } => "There is nothing of this cluster left to destroy.",
    };
    writeln!(out, "{}", bold(&format!("No changes. {what}")))
}
