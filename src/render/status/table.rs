//! The status as a table; as a list of blocks where the terminal is narrower than it.

use std::fmt::{self, Write};

use super::super::style::{BOLD, GREEN, GREY, RED, Style, YELLOW, bytes, clean};
use super::{MemberHealth, MemberRow, StatusReport};

/// Days before its end from which a certificate is shown in yellow.
const SOON: i64 = 30;
/// Per cent of the quota from which a database is shown in yellow.
const FULL: f64 = 80.0;

const TITLES: [&str; 9] = [
    "MEMBER",
    "ID",
    "ROLE",
    "VERSION",
    "HEALTH",
    "LAG",
    "DB",
    "ALARMS",
    "CERTIFICATE",
];

/// A cell: its text, and its colour where it has one.
type Cell = (String, Option<anstyle::Style>);

/// The text of a status; ends with a newline.
pub fn text(report: &StatusReport, style: Style) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, report, style);
    text
}

fn write(out: &mut impl Write, report: &StatusReport, style: Style) -> fmt::Result {
    let id = report.health.cluster_id.as_deref().unwrap_or("unknown");
    let head = format!("Cluster {}, ID {id}", clean(&report.cluster));
    writeln!(out, "{}\n", style.paint(BOLD, &head))?;
    let rows: Vec<[Cell; 9]> = report.members.iter().map(cells).collect();
    let widths: Vec<usize> = TITLES
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|(text, _)| text.chars().count())
                .max()
                .unwrap_or_default()
                .max(title.len())
        })
        .collect();
    let total = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
    if total <= style.width {
        table(out, &rows, &widths, style)?;
        errors(out, report, style)?;
    } else {
        blocks(out, report, &rows, style)?;
    }
    for problem in &report.problems {
        let text = style.wrap(9, "         ", problem);
        writeln!(out, "{} {text}", style.paint(RED, "Mismatch:"))?;
    }
    if !report.problems.is_empty() {
        writeln!(out)?;
    }
    let health = &report.health;
    let colour = match health.tolerates {
        None => RED,
        Some(0) => YELLOW,
        Some(_) if report.healthy => GREEN,
        Some(_) => YELLOW,
    };
    let mut sentence = health.to_string();
    if let Some(first) = sentence.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let sentence = style.wrap(0, "", &format!("{sentence}."));
    writeln!(out, "{}", style.paint(colour.bold(), &sentence))
}

fn table(out: &mut impl Write, rows: &[[Cell; 9]], widths: &[usize], style: Style) -> fmt::Result {
    let titles: Vec<Cell> = TITLES
        .iter()
        .map(|title| ((*title).to_owned(), Some(GREY)))
        .collect();
    line(out, &titles, widths, style)?;
    rows.iter()
        .try_for_each(|row| line(out, row, widths, style))?;
    writeln!(out)
}

fn line(out: &mut impl Write, cells: &[Cell], widths: &[usize], style: Style) -> fmt::Result {
    let mut gap = 0;
    for ((text, colour), width) in cells.iter().zip(widths) {
        let painted = colour.map_or_else(|| text.clone(), |colour| style.paint(colour, text));
        write!(out, "{:gap$}{painted}", "")?;
        // The gap is written before the next cell, so that no line ends in blanks.
        gap = width.saturating_sub(text.chars().count()) + 2;
    }
    writeln!(out)
}

fn errors(out: &mut impl Write, report: &StatusReport, style: Style) -> fmt::Result {
    let mut any = false;
    for member in &report.members {
        if let Some(error) = &member.error {
            any = true;
            let name = label(member);
            let text = style.wrap(name.chars().count() + 2, "  ", error);
            writeln!(out, "{} {text}", style.paint(RED, &format!("{name}:")))?;
        }
    }
    if any { writeln!(out) } else { Ok(()) }
}

fn blocks(
    out: &mut impl Write,
    report: &StatusReport,
    rows: &[[Cell; 9]],
    style: Style,
) -> fmt::Result {
    for (member, row) in report.members.iter().zip(rows) {
        writeln!(out, "{}", style.paint(BOLD, &label(member)))?;
        for (title, (text, colour)) in TITLES.iter().zip(row).skip(1) {
            if text != "-" {
                let painted =
                    colour.map_or_else(|| text.clone(), |colour| style.paint(colour, text));
                let title = title.to_lowercase();
                writeln!(out, "  {title:<11}  {painted}")?;
            }
        }
        if let Some(error) = &member.error {
            let text = style.wrap(15, "               ", error);
            writeln!(out, "  {:<11}  {}", "error", style.paint(RED, &text))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What a member is called: by its node, else by its own name, else by its ID.
fn label(member: &MemberRow) -> String {
    let names = [&member.node, &member.name, &member.id];
    let name = names
        .into_iter()
        .flatten()
        .next()
        .map_or("?", String::as_str);
    clean(name).into_owned()
}

fn cells(member: &MemberRow) -> [Cell; 9] {
    let or_dash =
        |text: Option<String>| text.map_or_else(|| "-".into(), |text| clean(&text).into_owned());
    let health = match member.health {
        MemberHealth::Healthy => GREEN,
        MemberHealth::Unknown => YELLOW,
        _ => RED,
    };
    let db = member.db_size.map(|size| match member.db_quota_used {
        Some(used) => format!("{} ({used:.0}%)", bytes(size)),
        None => bytes(size),
    });
    let alarms = (!member.alarms.is_empty()).then(|| member.alarms.join(","));
    let days = member.certificate_days_left;
    [
        (label(member), None),
        (or_dash(member.id.clone()), None),
        (member.role.word().into(), None),
        (or_dash(member.version.clone()), None),
        (member.health.word().into(), Some(health)),
        (or_dash(member.raft_lag.map(|lag| lag.to_string())), None),
        (
            or_dash(db),
            member
                .db_quota_used
                .filter(|used| *used >= FULL)
                .map(|_| YELLOW),
        ),
        (or_dash(alarms.clone()), alarms.map(|_| RED)),
        (
            or_dash(days.map(|days| match days {
                ..=-1 => "EXPIRED".into(),
                0 => "less than a day left".into(),
                1 => "1 day left".into(),
                days => format!("{days} days left"),
            })),
            match days {
                Some(..=-1) => Some(RED),
                Some(days) if days < SOON => Some(YELLOW),
                _ => None,
            },
        ),
    ]
}
