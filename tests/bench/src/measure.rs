//! Times and what is made of them.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// Runs a program to its end; its time.
pub fn time(command: &mut Command) -> Result<Duration> {
    run(command).map(|(took, _)| took)
}

/// Runs a program to its end; its time and standard output, or all that it wrote if it failed.
pub fn run(command: &mut Command) -> Result<(Duration, String)> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let took = begun.elapsed();
    if output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return Ok((took, text));
    }
    Err(format!(
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}

/// Times by name, in the order of the rounds.
#[derive(Debug, Default)]
pub struct Series(BTreeMap<String, Vec<f64>>);

/// Two of them, measured in turns.
#[derive(Debug)]
pub struct Pair {
    /// Median of ours, in seconds.
    pub ours: f64,
    /// Median of theirs, in seconds.
    pub theirs: f64,
    /// The largest of ours, in seconds.
    pub our_most: f64,
    /// The largest of theirs, in seconds.
    pub their_most: f64,
    /// Median of the ratios of each pair.
    pub ratio: f64,
    /// Median of what each of ours is more than its pair, in seconds.
    pub difference: f64,
    /// Pairs.
    pub count: usize,
}

impl Series {
    pub fn push(&mut self, name: &str, took: Duration) {
        self.0
            .entry(name.to_owned())
            .or_default()
            .push(took.as_secs_f64());
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The median of one of them, as text.
    pub fn median(&self, name: &str) -> String {
        format!("{:.2} s", median(self.times(name)))
    }

    fn times(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn pair(&self, ours: &str, theirs: &str) -> Pair {
        let (ours, theirs) = (self.times(ours), self.times(theirs));
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        let differences: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
        Pair {
            ours: median(ours),
            theirs: median(theirs),
            our_most: ours.iter().copied().fold(0.0, f64::max),
            their_most: theirs.iter().copied().fold(0.0, f64::max),
            ratio: median(&ratios),
            difference: median(&differences),
            count: ratios.len(),
        }
    }
}

/// The median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
