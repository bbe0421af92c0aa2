//! Turns the events of an apply into lines of the event stream.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::super::event::{Event, Finish, LockHolder, Severity, Step};
use super::super::health::Health;
use super::super::progress::LOCK_PATIENCE;
use super::super::report;
use super::event::{
    ActionRef, Body, Changes, Diagnostic, FORMAT_VERSION, Holder, Hook, Level, Line, Lock,
    LockState, Operation, OutcomeBody, OutcomeName, ReportBody, SeverityName, rfc3339,
};
use super::plan::kind_name;
use crate::plan::Plan;
use crate::schedule::Outcome;

/// Whole seconds between two lines about the same wait.
const WAITING_EVERY: i64 = 1;
/// Whole seconds between two `apply_progress` lines of an action.
const PROGRESS_EVERY: i64 = 10;

#[derive(Debug)]
struct Running {
    step: Step,
    since: OffsetDateTime,
    said: OffsetDateTime,
    bytes: Option<(u64, u64)>,
}

/// Turns events into lines.
#[derive(Debug, Default)]
pub struct Stream {
    running: BTreeMap<String, Running>,
    kinds: BTreeMap<String, &'static str>,
    waiting: BTreeMap<String, (OffsetDateTime, String)>,
    lock_said: Option<(String, OffsetDateTime)>,
}

impl Stream {
    /// The first line.
    pub fn version(at: OffsetDateTime) -> Line {
        let quorate = env!("CARGO_PKG_VERSION").to_owned();
        let message = format!("Quorate {quorate}");
        let format = FORMAT_VERSION.into();
        make(at, Level::Info, message, Body::Version { quorate, format })
    }

    /// The lines of an event.
    pub fn on(&mut self, at: OffsetDateTime, event: &Event) -> Vec<Line> {
        let one = |level, message: String, body| vec![make(at, level, message, body)];
        match event {
            Event::Planned(plan) => self.planned(at, plan),
            Event::LockWait { holder, waited } => {
                let quiet = match &self.lock_said {
                    None => *waited < LOCK_PATIENCE,
                    Some((run, said)) => {
                        *run == holder.run && (at - *said).whole_seconds() < PROGRESS_EVERY
                    }
                };
                if quiet {
                    return Vec::new();
                }
                self.lock_said = Some((holder.run.clone(), at));
                let message = format!("Waiting for the lock, which {} holds", holder.who);
                let lock = Lock {
                    state: LockState::Waiting,
                    holder: Some(holder.into()),
                    waited_seconds: Some(waited.as_secs_f64()),
                    reason: None,
                };
                one(Level::Info, message, Body::Lock { lock })
            }
            Event::LockTaken => one(
                Level::Info,
                "The lock is held".into(),
                lock(LockState::Taken, None),
            ),
            Event::LockLost { reason } => one(
                Level::Error,
                format!("The lock was lost: {reason}"),
                lock(LockState::Lost, Some(reason.clone())),
            ),
            Event::Started(step) => {
                let message = format!("{}: {}...", step.id, step.doing);
                self.running.insert(
                    step.id.0.clone(),
                    Running {
                        step: step.clone(),
                        since: at,
                        said: at,
                        bytes: None,
                    },
                );
                let hook = self.hook(at, &step.id.0);
                hook.map_or_else(Vec::new, |hook| {
                    one(Level::Info, message, Body::ApplyStart { hook })
                })
            }
            Event::Waiting { id, why } => self.wait(at, &id.0, why),
            Event::Bytes { id, done, total } => {
                if let Some(running) = self.running.get_mut(&id.0) {
                    running.bytes = Some((*done, *total));
                }
                Vec::new()
            }
            Event::Undoing { id, why } => one(
                Level::Error,
                format!("{id}: Failed, and is put back as it was: {why}"),
                diagnostic(
                    SeverityName::Error,
                    format!("{id} failed and is put back"),
                    why.clone(),
                ),
            ),
            Event::Ended { id, outcome, took } => {
                self.ended(at, &id.0, outcome, took.as_secs_f64())
            }
            Event::Interrupted => one(
                Level::Warn,
                "Interrupt received".into(),
                diagnostic(
                    SeverityName::Warning,
                    "Interrupt received".into(),
                    "What is under way ends, nothing else starts.".into(),
                ),
            ),
            Event::Message {
                severity,
                summary,
                detail,
            } => {
                let (level, severity) = match severity {
                    Severity::Info => (Level::Info, SeverityName::Info),
                    Severity::Warning => (Level::Warn, SeverityName::Warning),
                    Severity::Error => (Level::Error, SeverityName::Error),
                };
                one(
                    level,
                    summary.clone(),
                    diagnostic(severity, summary.clone(), detail.clone()),
                )
            }
            Event::Finished(finish) => finished(at, finish),
        }
    }

    /// Lines about what has been under way for long.
    pub fn tick(&mut self, at: OffsetDateTime) -> Vec<Line> {
        let due: Vec<String> = self
            .running
            .iter()
            .filter(|(_, running)| (at - running.said).whole_seconds() >= PROGRESS_EVERY)
            .map(|(id, _)| id.clone())
            .collect();
        due.iter()
            .filter_map(|id| {
                let hook = self.hook(at, id)?;
                self.running.get_mut(id)?.said = at;
                let message = format!(
                    "{id}: still under way after {:.0}s",
                    hook.elapsed_seconds.floor()
                );
                Some(make(at, Level::Info, message, Body::ApplyProgress { hook }))
            })
            .collect()
    }

    fn planned(&mut self, at: OffsetDateTime, plan: &Plan) -> Vec<Line> {
        self.kinds = plan
            .actions
            .iter()
            .map(|action| (action.id.0.clone(), kind_name(&action.kind)))
            .collect();
        let mut lines: Vec<Line> = plan
            .actions
            .iter()
            .map(|action| {
                let change = self.action(&Step::from(action));
                let message = format!("{}: plan to {}", change.id, change.summary);
                make(at, Level::Info, message, Body::PlannedChange { change })
            })
            .collect();
        lines.extend(plan.blocked.iter().map(|blocked| {
            let body = diagnostic(
                SeverityName::Error,
                format!("Blocked: {blocked}"),
                blocked.remedy.clone(),
            );
            make(at, Level::Error, format!("Blocked: {blocked}"), body)
        }));
        lines.extend(plan.warnings.iter().map(|warning| {
            let body = diagnostic(SeverityName::Warning, warning.clone(), String::new());
            make(at, Level::Warn, warning.clone(), body)
        }));
        let changes = Changes {
            counts: plan.summary().into(),
            operation: Operation::Plan,
        };
        let message = super::super::plan::summary_line(plan);
        lines.push(make(
            at,
            Level::Info,
            message,
            Body::ChangeSummary { changes },
        ));
        lines
    }

    /// What is waited for may change with every look, ten times a second.
    fn wait(&mut self, at: OffsetDateTime, id: &str, why: &str) -> Vec<Line> {
        if let Some((said, before)) = self.waiting.get(id)
            && (before == why || (at - *said).whole_seconds() < WAITING_EVERY)
        {
            return Vec::new();
        }
        self.waiting.insert(id.into(), (at, why.into()));
        let body = Body::Waiting {
            id: id.into(),
            reason: why.into(),
        };
        vec![make(at, Level::Info, format!("{id}: Waiting: {why}"), body)]
    }

    fn ended(
        &mut self,
        at: OffsetDateTime,
        id: &str,
        outcome: &Outcome,
        seconds: f64,
    ) -> Vec<Line> {
        let hook = self.hook(at, id);
        self.running.remove(id);
        self.waiting.remove(id);
        let Some(mut hook) = hook else {
            return Vec::new();
        };
        let (name, reason) = outcome_name(outcome);
        hook.elapsed_seconds = seconds;
        hook.outcome = Some(name);
        hook.reason = reason.map(str::to_owned);
        let why = reason.unwrap_or_default();
        let (level, message) = match outcome {
            Outcome::Done => (
                Level::Info,
                format!("{id}: Complete after {:.0}s", seconds.floor()),
            ),
            Outcome::Undone(_) => (
                Level::Error,
                format!("{id}: Failed, and was put back as it was: {why}"),
            ),
            Outcome::Failed(_) | Outcome::Refused(_) => {
                (Level::Error, format!("{id}: Failed: {why}"))
            }
            Outcome::NotStarted(_) => (Level::Warn, format!("{id}: Not started: {why}")),
        };
        let body = match outcome {
            Outcome::Done => Body::ApplyComplete { hook },
            _ => Body::ApplyErrored { hook },
        };
        vec![make(at, level, message, body)]
    }

    fn hook(&self, at: OffsetDateTime, id: &str) -> Option<Hook> {
        let running = self.running.get(id)?;
        Some(Hook {
            action: self.action(&running.step),
            elapsed_seconds: (at - running.since).as_seconds_f64().max(0.0),
            outcome: None,
            reason: None,
            bytes_done: running.bytes.map(|(done, _)| done),
            bytes_total: running.bytes.map(|(_, total)| total),
        })
    }

    fn action(&self, step: &Step) -> ActionRef {
        ActionRef {
            id: step.id.0.clone(),
            node: step.node.clone(),
            kind: self
                .kinds
                .get(&step.id.0)
                .copied()
                .unwrap_or_default()
                .into(),
            verb: step.verb.into(),
            summary: step.summary.clone(),
        }
    }
}

impl From<&LockHolder> for Holder {
    fn from(holder: &LockHolder) -> Self {
        Self {
            node: holder.node.clone(),
            run: holder.run.clone(),
            who: holder.who.clone(),
            command: holder.command.clone(),
            version: holder.version.clone(),
            age_seconds: holder.age.as_secs_f64(),
        }
    }
}

fn finished(at: OffsetDateTime, finish: &Finish) -> Vec<Line> {
    let complete = finish.report.is_complete();
    let operation = if finish.plan.intent.goal.is_destroy() {
        Operation::Destroy
    } else {
        Operation::Apply
    };
    let level = if complete { Level::Info } else { Level::Error };
    let message = report::headline(&finish.plan, &finish.report);
    let changes = Changes {
        counts: finish.done().into(),
        operation,
    };
    let body = ReportBody {
        complete,
        stopped: finish.report.stopped.clone(),
        outcomes: finish
            .report
            .outcomes
            .iter()
            .map(|(id, outcome)| {
                let (name, reason) = outcome_name(outcome);
                OutcomeBody {
                    id: id.0.clone(),
                    outcome: name,
                    reason: reason.map(str::to_owned),
                }
            })
            .collect(),
        cluster: finish.view.as_ref().map(Health::of),
        next: finish.next.clone(),
    };
    vec![
        make(at, level, message.clone(), Body::ChangeSummary { changes }),
        make(at, level, message, Body::Report { report: body }),
    ]
}

fn outcome_name(outcome: &Outcome) -> (OutcomeName, Option<&str>) {
    match outcome {
        Outcome::Done => (OutcomeName::Done, None),
        Outcome::Failed(why) | Outcome::Refused(why) => (OutcomeName::Failed, Some(why)),
        Outcome::Undone(why) => (OutcomeName::Undone, Some(why)),
        Outcome::NotStarted(why) => (OutcomeName::NotStarted, Some(why)),
    }
}

fn lock(state: LockState, reason: Option<String>) -> Body {
    Body::Lock {
        lock: Lock {
            state,
            holder: None,
            waited_seconds: None,
            reason,
        },
    }
}

fn diagnostic(severity: SeverityName, summary: String, detail: String) -> Body {
    Body::Diagnostic {
        diagnostic: Diagnostic {
            severity,
            summary,
            detail,
        },
    }
}

fn make(at: OffsetDateTime, level: Level, message: String, body: Body) -> Line {
    Line {
        level,
        message,
        module: "quorate",
        timestamp: rfc3339(at),
        body,
    }
}
