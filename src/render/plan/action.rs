//! One action of a plan.

use std::fmt;

use super::super::style::{BOLD, GREEN, GREY, RED, Style, YELLOW, clean, count, quote};
use super::diff;
use crate::action::{Action, ActionKind, Change, Precondition, Stall, Verb};
use crate::runtime::{Content, FileWrite};

/// A new file of more lines is only named.
const WHOLE_FILE: usize = 40;

/// The symbol of what an action does, and its colour.
pub(super) fn symbol(verb: Verb) -> (&'static str, anstyle::Style) {
    match verb {
        Verb::Create => ("+", GREEN),
        Verb::Update => ("~", YELLOW),
        Verb::Destroy => ("-", RED),
    }
}

/// Terraform's words for it.
pub(super) fn words(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "created",
        Verb::Update => "updated in-place",
        Verb::Destroy => "destroyed",
    }
}

/// Whether an action only keeps the host's marker: worth a line, not more.
pub(super) fn is_bookkeeping(action: &Action) -> bool {
    matches!(action.kind, ActionKind::Claim(_) | ActionKind::Record(_))
}

/// Whether a step would be blocked had the operator not accepted the interruption.
pub(in super::super) fn is_accepted(action: &Action) -> bool {
    let interrupts = action
        .margin
        .is_some_and(|margin| margin.during < margin.needs);
    match (&action.kind, action.kind.as_kind().precondition()) {
        (ActionKind::Restart(_), Precondition::MayStop { allow_downtime, .. }) => {
            allow_downtime && interrupts
        }
        _ => false,
    }
}

/// One line: symbol, name, what it does; and the margin of a step that stops a voter.
pub(super) fn short(
    out: &mut impl fmt::Write,
    action: &Action,
    name_width: usize,
    style: Style,
) -> fmt::Result {
    let kind = action.kind.as_kind();
    let (symbol, colour) = symbol(kind.verb());
    let symbol = style.paint(colour, symbol);
    let summary = kind.summary();
    write!(
        out,
        "  {symbol} {:name_width$}  {}",
        action.id.0,
        clean(&summary)
    )?;
    if let Some(margin) = action.margin {
        let accepted = if is_accepted(action) {
            ", accepted with --allow-downtime"
        } else {
            ""
        };
        let text = format!("  # {margin}{accepted}");
        write!(out, "{}", style.paint(GREY, &text))?;
    }
    writeln!(out)
}

/// The whole of it: header, reasons, summary, margin, changes.
pub(super) fn full(out: &mut impl fmt::Write, action: &Action, style: Style) -> fmt::Result {
    let kind = action.kind.as_kind();
    let (symbol, colour) = symbol(kind.verb());
    let header = format!("# {} will be {}", action.id, words(kind.verb()));
    writeln!(out, "  {}", style.paint(BOLD, &header))?;
    for because in &action.because {
        let text = style.wrap(12, "  #  ", &format!("{because})"));
        writeln!(out, "  # (because {text}")?;
    }
    let summary = style.wrap(4, "    ", &kind.summary());
    writeln!(out, "  {} {summary}", style.paint(colour, symbol))?;
    if let Some(margin) = action.margin {
        writeln!(out, "      {}", style.paint(YELLOW, &margin.to_string()))?;
    }
    if let Some(stall) = kind.stall(action.margin.as_ref()) {
        let colour = if stall == Stall::Outage { RED } else { GREY };
        writeln!(out, "      {}", style.paint(colour, &stall.to_string()))?;
    }
    if is_accepted(action) {
        let text = "here only because of --allow-downtime";
        writeln!(out, "      {}", style.paint(RED, text))?;
    }
    if let Some(way_back) = kind.way_back() {
        let text = style.wrap(6, "      ", &format!("way back: {way_back}"));
        writeln!(out, "      {}", style.paint(GREY, &text))?;
    }
    changes(out, action, style)
}

fn changes(out: &mut impl fmt::Write, action: &Action, style: Style) -> fmt::Result {
    let (texts, attributes): (Vec<&Change>, Vec<&Change>) = action
        .changes
        .iter()
        // What the header has said already.
        .filter(|change| {
            !change
                .before
                .as_ref()
                .is_some_and(|before| action.because.contains(before))
        })
        .partition(|change| change.text);
    let width = attributes
        .iter()
        .map(|change| change.name.chars().count())
        .max()
        .unwrap_or_default();
    for change in attributes {
        attribute(out, action, change, width, style)?;
    }
    texts
        .into_iter()
        .try_for_each(|change| text(out, change, style))
}

fn attribute(
    out: &mut impl fmt::Write,
    action: &Action,
    change: &Change,
    width: usize,
    style: Style,
) -> fmt::Result {
    let name = clean(&change.name);
    let drift = if change.drift {
        style.paint(GREY, "  # drift")
    } else {
        String::new()
    };
    if is_issued(action, change) {
        let (symbol, colour) = symbol(action.kind.as_kind().verb());
        // The planner says there why it is issued.
        let why = change
            .before
            .as_deref()
            .map_or_else(String::new, |why| format!("  # {}", clean(why)));
        return writeln!(
            out,
            "      {} {name:width$}  (issued at apply){}{drift}",
            style.paint(colour, symbol),
            style.paint(GREY, &why),
        );
    }
    let arrow = style.paint(YELLOW, "->");
    let (verb, value) = match (
        change.before.as_deref().map(shown),
        change.after.as_deref().map(shown),
    ) {
        (None, None) => return Ok(()),
        (None, Some(after)) => (Verb::Create, after),
        (Some(before), None) => (Verb::Destroy, before),
        (Some(before), Some(after)) => {
            let long =
                10 + width + before.chars().count() + 4 + after.chars().count() > style.width;
            // Broken before the arrow, both values can still be compared: they start in one column.
            let gap = if long {
                format!("\n{:1$}", "", width + 7)
            } else {
                " ".into()
            };
            (Verb::Update, format!("{before}{gap}{arrow} {after}"))
        }
    };
    let (symbol, colour) = symbol(verb);
    writeln!(
        out,
        "      {} {name:width$}  {value}{drift}",
        style.paint(colour, symbol)
    )
}

/// A value in quotes; a digest only as far as people compare it.
fn shown(value: &str) -> String {
    let is_digest = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    match value.get(..12) {
        Some(start) if is_digest => quote(&format!("{start}…")),
        _ => quote(value),
    }
}

fn text(out: &mut impl fmt::Write, change: &Change, style: Style) -> fmt::Result {
    let indent = "          ";
    let head = |verb: Verb, note: String| {
        let (symbol, colour) = symbol(verb);
        let drift = if change.drift { "  # drift" } else { "" };
        format!(
            "      {} {}{}",
            style.paint(colour, symbol),
            clean(&change.name),
            style.paint(GREY, &format!("{note}{drift}"))
        )
    };
    match (&change.before, &change.after) {
        (None, None) => Ok(()),
        (None, Some(after)) => {
            let lines = after.lines().count();
            let note = format!("  # new, {}", count(lines, "line", "lines"));
            writeln!(out, "{}", head(Verb::Create, note))?;
            if lines > WHOLE_FILE {
                return Ok(());
            }
            diff::whole(out, indent, after, ("+ ", GREEN), style)
        }
        (Some(before), None) => {
            let note = format!("  # {}", count(before.lines().count(), "line", "lines"));
            writeln!(out, "{}", head(Verb::Destroy, note))
        }
        (Some(before), Some(after)) => {
            writeln!(out, "{}", head(Verb::Update, String::new()))?;
            diff::write(out, indent, before, after, style)
        }
    }
}

/// Whether what a file will hold is only known at apply: keys, certificates, and an authority that is not made yet.
pub(in super::super) fn is_issued(action: &Action, change: &Change) -> bool {
    let files: &[FileWrite] = match &action.kind {
        ActionKind::Configure(kind) => &kind.files,
        ActionKind::Restart(kind) => &kind.files,
        _ => &[],
    };
    files
        .iter()
        .filter(|file| file.path == change.name)
        .any(|file| match file.content {
            Content::Certificate(_) | Content::Key(_) => true,
            Content::Authority => change.after.is_none(),
            Content::Text(_) => false,
        })
}
