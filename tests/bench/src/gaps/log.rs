//! Where the time of a roll goes, as the run log says.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::median;
use crate::Result;

/// A roll; all in seconds.
#[derive(Debug, PartialEq)]
pub struct Roll {
    wall: f64,
    /// From the lock to the first question whether a member may stop: the second look, and staging.
    staging: f64,
    restarts: Vec<Restart>,
    /// From the last member to the end of the log: records.
    records: f64,
    /// Before the lock and after the log: the program's start, logins, the first look, the plan.
    around: f64,
}

/// One member's.
#[derive(Debug, PartialEq)]
struct Restart {
    /// Since the last member was done, or staging: whether this one may stop.
    before: f64,
    /// Leadership moves, files switch, the unit restarts, and the cluster is looked at once.
    work: f64,
    /// Until it was healthy, if it was not at the first look.
    gate: f64,
}

impl Roll {
    /// Reads a log whose run took so long.
    pub fn read(text: &str, took: Duration) -> Result<Self> {
        let mut lock = None;
        let mut staged = None;
        let mut done = None;
        let mut working: Option<(f64, Option<f64>)> = None;
        let mut last = 0.0;
        let mut restarts = Vec::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line)?;
            let stamp = line["@timestamp"].as_str().ok_or("a line without a time")?;
            let at = OffsetDateTime::parse(stamp, &Rfc3339)?.unix_timestamp_nanos() as f64 / 1e9;
            last = at;
            let id = line["id"]
                .as_str()
                .or(line["hook"]["action"]["id"].as_str());
            let restart = id.is_some_and(|id| id.ends_with(".restart"));
            match line["type"].as_str().unwrap_or_default() {
                "lock" => lock = Some(at),
                "apply_start" if restart => {
                    staged.get_or_insert(at);
                    working = Some((at, None));
                }
                "waiting" if restart => match &mut working {
                    Some((_, waits)) => drop(waits.get_or_insert(at)),
                    None => drop(staged.get_or_insert(at)),
                },
                "apply_complete" if restart => {
                    let (began, waits) = working.take().ok_or("a restart ends that never began")?;
                    let worked = waits.unwrap_or(at);
                    restarts.push(Restart {
                        before: began - done.or(staged).unwrap_or(began),
                        work: worked - began,
                        gate: at - worked,
                    });
                    done = Some(at);
                }
                _ => {}
            }
        }
        let (Some(lock), Some(staged), Some(done)) = (lock, staged, done) else {
            return Err("the log tells of no roll".into());
        };
        let wall = took.as_secs_f64();
        Ok(Self {
            wall,
            staging: staged - lock,
            restarts,
            records: last - done,
            around: (wall - (last - lock)).max(0.0),
        })
    }

    /// Medians of some, in a sentence.
    pub fn describe(rolls: &[Self]) -> Option<String> {
        let members = rolls.first()?.restarts.len();
        let of = |part: &dyn Fn(&Self) -> f64| median(rolls.iter().map(part));
        let sum =
            |part: fn(&Restart) -> f64| of(&|roll| roll.restarts.iter().map(part).sum::<f64>());
        // Who leads goes last, and is the only one whose restart begins with a hand-over.
        let followers = median(rolls.iter().flat_map(|roll| {
            let count = roll.restarts.len().saturating_sub(1);
            roll.restarts.iter().take(count).map(|restart| restart.work)
        }));
        let leader = median(
            rolls
                .iter()
                .filter_map(|roll| roll.restarts.last().map(|restart| restart.work)),
        );
        Some(format!(
            "Where the {:.2} s of Quorate's roll of {members} members go, as its run log says (medians of {} runs): \
             start, logins, look, plan and end {:.2} s; second look under the lock, and staging {:.2} s; \
             asking whether the next member may stop {:.2} s; switching files and restarting {:.2} s, which is \
             {followers:.2} s for a follower and {leader:.2} s for the leader, who hands over first; waiting for \
             restarted members to be healthy {:.2} s; records {:.2} s.",
            of(&|roll| roll.wall),
            rolls.len(),
            of(&|roll| roll.around),
            of(&|roll| roll.staging),
            sum(|restart| restart.before),
            sum(|restart| restart.work),
            sum(|restart| restart.gate),
            of(&|roll| roll.records),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_taken_apart() {
        let line = |second: &str, rest: &str| {
            format!("{{\"@timestamp\":\"2026-11-21T12:00:{second}Z\",{rest}}}\n")
        };
        let hook = |kind: &str, id: &str| {
            format!("\"type\":\"{kind}\",\"hook\":{{\"action\":{{\"id\":\"node.{id}\"}}}}")
        };
        let waiting = "\"type\":\"waiting\",\"id\":\"node.a.restart\"";
        let text = [
            line("01", "\"type\":\"lock\""),
            line("02", &hook("apply_start", "a.configure")),
            line("03", &hook("apply_complete", "a.configure")),
            line("03", waiting),
            line("04.5", &hook("apply_start", "a.restart")),
            line("06", waiting),
            line("06.25", waiting),
            line("06.5", &hook("apply_complete", "a.restart")),
            line("07", &hook("apply_start", "b.restart")),
            line("09", &hook("apply_complete", "b.restart")),
            line("10", "\"type\":\"change_summary\""),
        ];
        let roll = Roll::read(&text.concat(), Duration::from_secs(12)).unwrap();
        let restart = |before, work, gate| Restart { before, work, gate };
        let expected = Roll {
            wall: 12.0,
            staging: 2.0,
            restarts: vec![restart(1.5, 1.5, 0.5), restart(0.5, 2.0, 0.0)],
            records: 1.0,
            around: 3.0,
        };
        assert_eq!(roll, expected);
        assert!(Roll::read(&text[0], Duration::ZERO).is_err());
    }
}
