//! The table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use time::OffsetDateTime;

use crate::Result;
use crate::measure::Pair;

const END: &str = "<!-- end of table -->";

/// A table of the page.
#[derive(Debug)]
pub struct Table {
    /// The line before it.
    begin: &'static str,
    /// What writes it.
    by: &'static str,
    /// What its figures are.
    figures: &'static str,
    head: &'static str,
}

/// First runs, plans, and what they take.
pub const PEERS: Table = Table {
    begin: "<!-- table: written by tests/bench/run -->",
    by: "tests/bench/run",
    figures: "Medians; each ratio is the median of the ratios of pairs that ran one after the other.",
    head: "| quantity | Quorate | peer | ratio | budget | met? |",
};

/// Gaps while a cluster changes.
pub const GAPS: Table = Table {
    begin: "<!-- gaps: written by tests/bench/run --only gaps -->",
    by: "tests/bench/run --only gaps",
    figures: "Gaps are the longest of a run: the median of the runs / the longest of all. A difference is the median of \
              those of pairs that ran one after the other / that of the longest.",
    head: "| quantity | Quorate | by hand | difference | budget | met? |",
};

/// What may be the most of a gap, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// More than by hand.
    pub more: f64,
    /// By itself.
    pub most: Option<f64>,
}

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

    /// Gaps beside those of the script: no longer than the budget says, neither in most runs nor in the worst.
    pub fn gap(quantity: &str, pair: &Pair, budget: Option<Budget>) -> Self {
        let worst = pair.our_most - pair.their_most;
        let milliseconds = |seconds: f64| seconds * 1000.0;
        let met = budget.map(|budget| {
            milliseconds(pair.difference.max(worst)) <= budget.more
                && budget
                    .most
                    .is_none_or(|most| milliseconds(pair.our_most) <= most)
        });
        let most = |budget: Budget| {
            let most = budget.most.map(|most| format!(", ≤ {most:.0} ms"));
            format!("≤ +{:.0} ms{}", budget.more, most.unwrap_or_default())
        };
        let two = |one: f64, other: f64| {
            format!("{:.0} / {:.0} ms", milliseconds(one), milliseconds(other))
        };
        let signed = |seconds: f64| format!("{:+.0}", milliseconds(seconds));
        Self {
            quantity: format!("{quantity} ({} pairs)", pair.count),
            ours: two(pair.ours, pair.our_most),
            theirs: two(pair.theirs, pair.their_most),
            ratio: format!("{} / {} ms", signed(pair.difference), signed(worst)),
            budget: budget.map_or_else(|| "–".into(), most),
            met,
        }
    }

    /// Times beside those of the script, without a budget.
    pub fn time(quantity: &str, pair: &Pair) -> Self {
        Self {
            quantity: format!("{quantity} ({} pairs)", pair.count),
            ours: seconds(pair.ours),
            theirs: seconds(pair.theirs),
            ratio: factor(pair.ratio),
            budget: "–".into(),
            met: None,
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

/// All rows and remarks of a table.
#[derive(Debug)]
pub struct Report {
    table: Table,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    pub fn new(table: Table) -> Self {
        Self {
            table,
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn table(&self) -> String {
        let mut text = format!(
            "{}\n| --- | --- | --- | --- | --- | --- |\n",
            self.table.head
        );
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
            .split_once(self.table.begin)
            .ok_or_else(|| format!("{} has no line {}", page.display(), self.table.begin))?;
        let (_, after) = rest
            .split_once(END)
            .ok_or_else(|| format!("{} has no line {END}", page.display()))?;
        let today = OffsetDateTime::now_utc().date();
        let table = format!(
            "{}\nMeasured on {today}, {} processors, by `{}`. {}\n\n{}{END}",
            self.table.begin,
            std::thread::available_parallelism().map_or(0, usize::from),
            self.table.by,
            self.table.figures,
            self.table()
        );
        fs::write(page, format!("{before}{table}{after}"))?;
        Ok(())
    }
}
