//! The table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use time::OffsetDateTime;

use crate::Result;
use crate::measure::Pair;

const BEGIN: &str = "<!-- table: written by tests/bench/run -->";
const END: &str = "<!-- end of table -->";

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub quantity: String,
    pub ours: String,
    pub theirs: String,
    pub ratio: String,
    pub budget: String,
    pub met: Option<bool>,
}

impl Row {
    /// A comparison; the budget is for the ratio of ours to theirs.
    pub fn ratio(quantity: &str, against: &str, pair: &Pair, budget: Option<f64>) -> Self {
        Self {
            quantity: format!("{quantity}, against {against} ({} pairs)", pair.count),
            ours: seconds(pair.ours),
            theirs: seconds(pair.theirs),
            ratio: factor(pair.ratio),
            budget: budget.map_or_else(|| "–".into(), |budget| format!("≤ {}", factor(budget))),
            met: budget.map(|budget| pair.ratio <= budget),
        }
    }

    /// A quantity without a budget.
    pub fn noted(quantity: &str, ours: String) -> Self {
        Self {
            met: None,
            ..Self::plain(quantity, ours, "–", true)
        }
    }

    /// A quantity with a bound of its own.
    pub fn plain(quantity: &str, ours: String, budget: &str, met: bool) -> Self {
        Self {
            quantity: quantity.to_owned(),
            ours,
            theirs: "–".into(),
            ratio: "–".into(),
            budget: budget.to_owned(),
            met: Some(met),
        }
    }
}

/// `0.42 ×`, or `1/52` where it is small.
fn factor(ratio: f64) -> String {
    if ratio > 0.0 && ratio < 0.2 {
        format!("1/{:.0}", 1.0 / ratio)
    } else {
        format!("{ratio:.2} ×")
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{seconds:.1} s")
    }
}

/// All rows and remarks.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub fn table(&self) -> String {
        let mut text =
            "| quantity | Quorate | peer | ratio | budget | met? |\n| --- | --- | --- | --- | --- | --- |\n"
                .to_owned();
        for row in &self.rows {
            let met = match row.met {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "–",
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {met} |",
                row.quantity, row.ours, row.theirs, row.ratio, row.budget
            );
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }

    /// Replaces the table in a page.
    pub fn write(&self, page: &Path) -> Result<()> {
        let text = fs::read_to_string(page)?;
        let (before, rest) = text
            .split_once(BEGIN)
            .ok_or_else(|| format!("{} has no line {BEGIN}", page.display()))?;
        let (_, after) = rest
            .split_once(END)
            .ok_or_else(|| format!("{} has no line {END}", page.display()))?;
        let today = OffsetDateTime::now_utc().date();
        let table = format!(
            "{BEGIN}\nMeasured on {today}, {} processors, by `tests/bench/run`. Medians; each ratio is the median of the \
             ratios of pairs that ran one after the other.\n\n{}{END}",
            std::thread::available_parallelism().map_or(0, usize::from),
            self.table()
        );
        fs::write(page, format!("{before}{table}{after}"))?;
        Ok(())
    }
}
