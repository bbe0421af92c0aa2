//! The end of an apply: what is done, what is not, how the cluster is, and what to run next.

use std::fmt::{self, Write};

use super::health::Health;
use super::style::{BOLD, GREEN, RED, Style, YELLOW, clean};
use crate::action::{ActionId, Verb};
use crate::observed::etcd::ClusterView;
use crate::plan::{Plan, Summary};
use crate::schedule::{Outcome, Report};

/// The text of the end; ends with a newline. `view` is the cluster as last seen, `next` the command to run.
pub fn report(
    plan: &Plan,
    report: &Report,
    view: Option<&ClusterView>,
    next: Option<&str>,
    style: Style,
) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, plan, report, view, next, style);
    text
}

/// What was done, in Terraform's numbers.
pub fn done(plan: &Plan, report: &Report) -> Summary {
    let mut summary = Summary::default();
    for (id, outcome) in &report.outcomes {
        if *outcome != Outcome::Done {
            continue;
        }
        let action = plan.actions.iter().find(|action| action.id == *id);
        match action.map(|action| action.kind.as_kind().verb()) {
            Some(Verb::Create) => summary.add += 1,
            Some(Verb::Update) => summary.change += 1,
            Some(Verb::Destroy) => summary.destroy += 1,
            None => {}
        }
    }
    summary
}

/// The first line without colours: `Apply complete! Resources: 3 added, 1 changed, 0 destroyed.` or what went wrong.
pub fn headline(plan: &Plan, report: &Report) -> String {
    let verb = if plan.intent.goal.is_destroy() {
        "Destroy"
    } else {
        "Apply"
    };
    let done = done(plan, report);
    if report.is_complete() {
        return if plan.intent.goal.is_destroy() {
            format!("Destroy complete! Resources: {} destroyed.", done.destroy)
        } else {
            format!(
                "Apply complete! Resources: {} added, {} changed, {} destroyed.",
                done.add, done.change, done.destroy
            )
        };
    }
    let failed = report.count(|outcome| !matches!(outcome, Outcome::Done | Outcome::NotStarted(_)));
    let how = match &report.stopped {
        Some(reason) => format!("stopped: {}", clean(reason)),
        None if failed > 0 => "failed".into(),
        None => "incomplete".into(),
    };
    format!(
        "{verb} {how}. Resources: {} added, {} changed, {} destroyed.",
        done.add, done.change, done.destroy
    )
}

fn write(
    out: &mut impl Write,
    plan: &Plan,
    report: &Report,
    view: Option<&ClusterView>,
    next: Option<&str>,
    style: Style,
) -> fmt::Result {
    let complete = report.is_complete();
    let headline = headline(plan, report);
    let colour = if complete { GREEN.bold() } else { RED.bold() };
    writeln!(out, "{}", style.paint(colour, &headline))?;
    if !complete {
        lists(out, report, style)?;
    }
    if let Some(view) = view {
        let text = format!(
            "Cluster {}: {}.",
            plan.desired.cluster.name,
            Health::of(view)
        );
        writeln!(out, "\n{}", style.wrap(0, "  ", &text))?;
    }
    if !plan.blocked.is_empty() {
        writeln!(out, "\n{}", style.paint(RED, "Still blocked:"))?;
        for blocked in &plan.blocked {
            writeln!(out, "  {}", style.wrap(2, "    ", &blocked.to_string()))?;
        }
    }
    if let Some(next) = next {
        writeln!(out, "\n{} {}", style.paint(BOLD, "Next:"), clean(next))?;
    }
    Ok(())
}

/// Done, failed, undone, not started: the last three with their reasons.
fn lists(out: &mut impl Write, report: &Report, style: Style) -> fmt::Result {
    let pick = |wanted: fn(&Outcome) -> Option<&str>| -> Vec<(&ActionId, &str)> {
        report
            .outcomes
            .iter()
            .filter_map(|(id, outcome)| Some((id, wanted(outcome)?)))
            .collect()
    };
    let done = pick(|outcome| matches!(outcome, Outcome::Done).then_some(""));
    let failed = pick(|outcome| match outcome {
        Outcome::Failed(why) | Outcome::Refused(why) => Some(why.as_str()),
        _ => None,
    });
    let undone = pick(|outcome| match outcome {
        Outcome::Undone(why) => Some(why.as_str()),
        _ => None,
    });
    let not_started = pick(|outcome| match outcome {
        Outcome::NotStarted(why) => Some(why.as_str()),
        _ => None,
    });
    for (title, colour, items) in [
        ("Done", GREEN, done),
        ("Failed", RED, failed),
        ("Failed, and put back as it was", YELLOW, undone),
        ("Not started", BOLD, not_started),
    ] {
        if items.is_empty() {
            continue;
        }
        let title = format!("{title} ({}):", items.len());
        writeln!(out, "\n{}", style.paint(colour, &title))?;
        for (id, why) in items {
            item(out, id, why, style)?;
        }
    }
    Ok(())
}

/// Only the first line of a reason is prose; what follows is a host's own output, and kept as it is.
fn item(out: &mut impl Write, id: &ActionId, why: &str, style: Style) -> fmt::Result {
    let mut lines = why.lines();
    match lines.next() {
        None => return writeln!(out, "  {id}"),
        Some(first) => writeln!(
            out,
            "  {}",
            style.wrap(2, "    ", &format!("{id}: {first}"))
        )?,
    }
    lines.try_for_each(|line| writeln!(out, "    | {}", clean(line)))
}
