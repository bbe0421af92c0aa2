//! Times and what is made of them.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// Runs a program to its end; its time, or all that it wrote if it failed.
pub fn time(command: &mut Command) -> Result<Duration> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let took = begun.elapsed();
    if output.status.success() {
        return Ok(took);
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
    /// Median of the ratios of each pair.
    pub ratio: f64,
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

    fn times(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn pair(&self, ours: &str, theirs: &str) -> Pair {
        let (ours, theirs) = (self.times(ours), self.times(theirs));
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        Pair {
            ours: median(ours),
            theirs: median(theirs),
            ratio: median(&ratios),
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
