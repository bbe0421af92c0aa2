//! Events in words, after Terraform: `node.etcd-1.install: Installing...`.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::super::event::{Event, LockHolder, Severity};
use super::super::report;
use super::super::style::{BOLD, GREEN, GREY, RED, Style, YELLOW, bytes, clean};
use crate::action::ActionId;
use crate::schedule::Outcome;

/// Seconds between two lines about the same thing.
const STILL_EVERY: i64 = 10;
/// A lock that is free again this soon is not worth a word.
pub(in super::super) const LOCK_PATIENCE: Duration = Duration::from_millis(400);

/// An action that is under way.
#[derive(Debug)]
pub(super) struct Running {
    /// `Installing`.
    pub doing: String,
    /// Since when.
    pub since: OffsetDateTime,
    /// What it waits for.
    pub why: Option<String>,
    /// Bytes sent and to send.
    pub bytes: Option<(u64, u64)>,
    said: OffsetDateTime,
    started: bool,
}

impl Running {
    /// `10s elapsed`, and what there is to say beyond.
    pub fn state(&self, at: OffsetDateTime) -> String {
        let mut state = format!("{} elapsed", span((at - self.since).unsigned_abs()));
        if let Some((done, total)) = self.bytes
            && done < total
        {
            state.push_str(&format!(", {} of {}", bytes(done), bytes(total)));
        }
        if let Some(why) = &self.why {
            state.push_str(&format!(", {}", clean(why)));
        }
        state
    }
}

/// Turns events into lines of text.
#[derive(Debug)]
pub(super) struct Narrator {
    style: Style,
    /// Whether starts and `Still …` are told; where lines move, they are seen.
    verbose: bool,
    running: BTreeMap<ActionId, Running>,
    /// The run that holds the lock, and when that was last said.
    lock_said: Option<(String, OffsetDateTime)>,
}

impl Narrator {
    pub fn new(style: Style, verbose: bool) -> Self {
        Self {
            style,
            verbose,
            running: BTreeMap::new(),
            lock_said: None,
        }
    }

    /// What is under way, by name.
    pub fn running(&self) -> &BTreeMap<ActionId, Running> {
        &self.running
    }

    /// The lines of an event; each ends with a newline.
    pub fn on(&mut self, at: OffsetDateTime, event: &Event) -> String {
        match event {
            Event::Planned(_) => String::new(),
            Event::LockWait { holder, waited } => self.lock(at, holder, *waited),
            Event::LockTaken => match self.lock_said.take() {
                Some(_) => "The lock is free. Going on...\n".into(),
                None => String::new(),
            },
            Event::LockLost { reason } => {
                let text = format!(
                    "The lock was lost: {}. Nothing else is started.",
                    clean(reason)
                );
                format!("{}\n", self.style.paint(RED, &text))
            }
            Event::Started(step) => {
                // Only one action at a time waits to be allowed; another one has been chosen, or it was.
                self.running.retain(|_, running| running.started);
                self.begin(at, &step.id, &step.doing, true);
                if self.verbose {
                    self.line(&step.id, &format!("{}...", step.doing))
                } else {
                    String::new()
                }
            }
            Event::Waiting { id, why } => self.waiting(at, id, why),
            Event::Bytes { id, done, total } => {
                if let Some(running) = self.running.get_mut(id) {
                    running.bytes = Some((*done, *total));
                }
                String::new()
            }
            Event::Undoing { id, why } => {
                if let Some(running) = self.running.get_mut(id) {
                    running.doing = "Putting it back".into();
                    running.why = None;
                }
                let why = clean(why);
                let why = why.trim_end_matches('.');
                let text = format!("Failed: {why}. Putting it back...");
                self.line(id, &self.style.paint(RED, &text))
            }
            Event::Ended { id, outcome, took } => {
                self.running.remove(id);
                self.ended(id, outcome, *took)
            }
            Event::Interrupted => {
                let text = "Interrupt received. Gracefully shutting down: what is under way ends, nothing else starts.\n\
                    Interrupt again to exit at once.";
                format!("\n{}\n", self.style.paint(YELLOW, text))
            }
            Event::Message {
                severity,
                summary,
                detail,
            } => self.message(*severity, summary, detail),
            Event::Finished(finish) => {
                let text = report::report(
                    &finish.plan,
                    &finish.report,
                    finish.view.as_ref(),
                    finish.next.as_deref(),
                    self.style,
                );
                format!("\n{text}")
            }
        }
    }

    /// `Still …`, for what has been under way for long.
    pub fn tick(&mut self, at: OffsetDateTime) -> String {
        if !self.verbose {
            return String::new();
        }
        let mut lines = String::new();
        for (id, running) in &mut self.running {
            if (at - running.said).whole_seconds() >= STILL_EVERY {
                running.said = at;
                let doing = lower(&running.doing);
                let state = running.state(at);
                lines.push_str(&format!(
                    "{}: Still {doing}... [{state}]\n",
                    self.style.paint(BOLD, &id.0)
                ));
            }
        }
        lines
    }

    fn begin(&mut self, at: OffsetDateTime, id: &ActionId, doing: &str, started: bool) {
        let running = Running {
            doing: doing.into(),
            since: at,
            why: None,
            bytes: None,
            said: at,
            started,
        };
        self.running.insert(id.clone(), running);
    }

    fn waiting(&mut self, at: OffsetDateTime, id: &ActionId, why: &str) -> String {
        if let Some(running) = self.running.get_mut(id) {
            running.why = Some(why.into());
            return String::new();
        }
        // It has not been started: it is not safe yet.
        self.begin(at, id, "Waiting", false);
        if let Some(running) = self.running.get_mut(id) {
            running.why = Some(why.into());
        }
        if self.verbose {
            self.line(id, &format!("Waiting: {}", clean(why)))
        } else {
            String::new()
        }
    }

    fn ended(&self, id: &ActionId, outcome: &Outcome, took: Duration) -> String {
        let took = span(took);
        let (colour, text) = match outcome {
            Outcome::Done => (GREEN, format!("Complete after {took}")),
            Outcome::Failed(why) | Outcome::Refused(why) => {
                (RED, format!("Failed after {took}: {}", clean(why)))
            }
            Outcome::Undone(why) => (
                YELLOW,
                format!(
                    "Put back as it was after {took}, since it failed: {}",
                    clean(why)
                ),
            ),
            Outcome::NotStarted(why) => (GREY, format!("Not started: {}", clean(why))),
        };
        self.line(id, &self.style.paint(colour, &text))
    }

    fn lock(&mut self, at: OffsetDateTime, holder: &LockHolder, waited: Duration) -> String {
        let same = match &self.lock_said {
            None if waited < LOCK_PATIENCE => return String::new(),
            Some((run, said)) if *run == holder.run => {
                if (at - *said).whole_seconds() < STILL_EVERY {
                    return String::new();
                }
                true
            }
            _ => false,
        };
        self.lock_said = Some((holder.run.clone(), at));
        if same {
            return format!("Still waiting for the lock... [{} elapsed]\n", span(waited));
        }
        let mut text = "Waiting for the lock...\n".to_owned();
        for (name, value) in [
            ("ID:", clean(&holder.run)),
            ("Operation:", clean(&holder.command)),
            ("Who:", clean(&holder.who)),
            ("Version:", clean(&holder.version)),
            ("Held for:", span(holder.age).into()),
            ("Seen on:", clean(&holder.node)),
        ] {
            text.push_str(&format!("  {name:<10} {value}\n"));
        }
        text
    }

    fn message(&self, severity: Severity, summary: &str, detail: &str) -> String {
        let head = match severity {
            Severity::Info => clean(summary).into_owned(),
            Severity::Warning => format!(
                "{} {}",
                self.style.paint(YELLOW, "Warning:"),
                clean(summary)
            ),
            Severity::Error => format!("{} {}", self.style.paint(RED, "Error:"), clean(summary)),
        };
        if detail.is_empty() {
            return format!("{head}\n");
        }
        format!("{head}\n  {}\n", self.style.wrap(2, "  ", detail))
    }

    fn line(&self, id: &ActionId, text: &str) -> String {
        format!("{}: {text}\n", self.style.paint(BOLD, &id.0))
    }
}

/// `3s`, `2m10s`, `1h5m`.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        assert_eq!(span(Duration::from_millis(900)), "0s");
        assert_eq!(span(Duration::from_secs(130)), "2m10s");
        assert_eq!(span(Duration::from_secs(3900)), "1h5m");
    }
}
