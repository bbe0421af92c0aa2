//! The text of a file before and after, as Terraform shows a text that changes.

use std::fmt;

use similar::{ChangeTag, TextDiff};

use super::super::style::{GREEN, GREY, RED, Style, clean, count};

/// Unchanged lines shown around each change.
const CONTEXT: usize = 3;

/// Writes the lines that change and what surrounds them; what is left out is counted.
pub(super) fn write(
    out: &mut impl fmt::Write,
    indent: &str,
    before: &str,
    after: &str,
    style: Style,
) -> fmt::Result {
    let diff = TextDiff::from_lines(before, after);
    let mut shown_to = 0;
    for group in diff.grouped_ops(CONTEXT) {
        let Some(first) = group.first() else { continue };
        hidden(out, indent, first.old_range().start - shown_to, style)?;
        for op in &group {
            for change in diff.iter_changes(op) {
                let (symbol, colour) = match change.tag() {
                    ChangeTag::Delete => ("- ", Some(RED)),
                    ChangeTag::Insert => ("+ ", Some(GREEN)),
                    ChangeTag::Equal => ("  ", None),
                };
                let text = change.value().trim_end_matches('\n');
                line(
                    out,
                    indent,
                    symbol,
                    text,
                    colour.map(|colour| (style, colour)),
                )?;
                if change.missing_newline() && change.tag() != ChangeTag::Equal {
                    let note = style.paint(GREY, "  # (no newline at the end)");
                    writeln!(out, "{indent}{note}")?;
                }
            }
            shown_to = op.old_range().end;
        }
    }
    hidden(out, indent, diff.old_len() - shown_to, style)
}

/// Writes every line of a text behind one symbol.
pub(super) fn whole(
    out: &mut impl fmt::Write,
    indent: &str,
    text: &str,
    (symbol, colour): (&str, anstyle::Style),
    style: Style,
) -> fmt::Result {
    text.lines()
        .try_for_each(|text| line(out, indent, symbol, text, Some((style, colour))))
}

fn line(
    out: &mut impl fmt::Write,
    indent: &str,
    symbol: &str,
    text: &str,
    colour: Option<(Style, anstyle::Style)>,
) -> fmt::Result {
    let text = format!("{symbol}{}", clean(text));
    let text = text.trim_end();
    match colour {
        Some((style, colour)) => writeln!(out, "{indent}{}", style.paint(colour, text)),
        None if text.is_empty() => writeln!(out),
        None => writeln!(out, "{indent}{text}"),
    }
}

fn hidden(out: &mut impl fmt::Write, indent: &str, lines: usize, style: Style) -> fmt::Result {
    if lines == 0 {
        return Ok(());
    }
    let note = format!(
        "  # ({} hidden)",
        count(lines, "unchanged line", "unchanged lines")
    );
    writeln!(out, "{indent}{}", style.paint(GREY, &note))
}
