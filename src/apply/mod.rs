//! Performs what the scheduler commands.

mod leader;
pub mod lock;
mod materials;
mod membership;
pub mod perform;
#[cfg(test)]
mod prelude;
#[cfg(test)]
mod relocation;
pub mod script;
mod stopping;
mod unit;
mod watch;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub use perform::Context;
pub use stopping::Stopping;

use crate::action::{ActionId, RunFacts};
use crate::plan::Plan;
pub use crate::render::event::{Event, LockHolder, Step};
use crate::schedule::{self, Command, Report, Scheduler};

/// Where events go.
pub type Sink = std::sync::Arc<dyn Fn(&Event) + Send + Sync>;

/// Signs from outside the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The operator wants to stop.
    Interrupt,
    /// The lock is lost.
    LockLost(String),
}

/// Runs a plan whose lock is held and whose facts were found unchanged.
pub async fn run(
    context: &Context,
    plan: &Plan,
    facts: &RunFacts,
    parallelism: usize,
    mut signals: mpsc::UnboundedReceiver<Signal>,
) -> Report {
    let begun = Instant::now();
    let now = move || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (events, mut incoming) = mpsc::unbounded_channel::<schedule::Event>();
    let mut scheduler = Scheduler::new(&plan.actions, parallelism);
    let mut since: BTreeMap<ActionId, u64> = BTreeMap::new();
    let mut ended: BTreeMap<ActionId, bool> = BTreeMap::new();
    let mut watch = watch::Watch::default();
    let mut commands = scheduler.on(schedule::Event::Started { at: now() });
    let mut signals_open = true;
    loop {
        for (id, outcome) in scheduler.ended() {
            if ended.insert(id.clone(), true).is_none() {
                let millis = since.get(&id).map_or(0, |at| now().saturating_sub(*at));
                let took = Duration::from_millis(millis);
                (context.sink)(&Event::Ended { id, outcome, took });
            }
        }
        for command in commands {
            match command {
                Command::Finish => return scheduler.report(),
                Command::Waiting(id, why) => (context.sink)(&Event::Waiting { id, why }),
                Command::Look(id, delay) => {
                    let (context, events) = (context.clone(), events.clone());
                    let action = plan.actions.iter().find(|action| action.id == id);
                    let hopeless = match action {
                        Some(action) => {
                            let (context, action) = (context.clone(), action.clone());
                            watch.ask(&id, now(), unit::look(context, action))
                        }
                        None => None,
                    };
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(delay)).await;
                        // A fault of ours must not keep the run waiting with the lock: it has seen nobody.
                        let look = tokio::spawn(async move { context.fleet.look().await });
                        let view = look.await.unwrap_or_default();
                        let _ = events.send(schedule::Event::Looked {
                            at: now(),
                            id,
                            view,
                            hopeless,
                        });
                    });
                }
                Command::Run(ref id) | Command::Undo(ref id) => {
                    let Some(action) = plan.actions.iter().find(|action| action.id == *id).cloned()
                    else {
                        continue;
                    };
                    let undo = matches!(command, Command::Undo(_));
                    watch.start_over(id);
                    if undo {
                        let why = scheduler.undoing(id).unwrap_or_default();
                        (context.sink)(&Event::Undoing {
                            id: id.clone(),
                            why,
                        });
                    } else {
                        since.insert(id.clone(), now());
                        (context.sink)(&Event::Started(Step::from(&action)));
                    }
                    let stops_again = scheduler.stops_again(id);
                    let facts = facts.clone();
                    let (context, events, id) = (context.clone(), events.clone(), id.clone());
                    tokio::spawn(async move {
                        // A fault of ours must end the action, not leave the run waiting with the lock.
                        let work = {
                            let (context, action) = (context.clone(), action.clone());
                            tokio::spawn(async move {
                                if undo {
                                    perform::undo(&context, &action, stops_again).await
                                } else {
                                    perform::action(&context, &action, facts).await
                                }
                            })
                        };
                        let result = work
                            .await
                            .unwrap_or_else(|error| Err(format!("internal error: {error}").into()));
                        let at = now();
                        let _ = events.send(match result {
                            Err(failure) if failure.balked || failure.untouched => {
                                schedule::Event::Balked {
                                    at,
                                    id,
                                    why: failure.why,
                                    refused: failure.refused,
                                    untouched: failure.untouched,
                                }
                            }
                            result => schedule::Event::Ran {
                                at,
                                id,
                                result: result.map_err(|failure| failure.why),
                            },
                        });
                    });
                }
            }
        }
        commands = tokio::select! {
            Some(event) = incoming.recv() => scheduler.on(event),
            signal = signals.recv(), if signals_open => match signal {
                Some(Signal::Interrupt) => {
                    (context.sink)(&Event::Interrupted);
                    scheduler.on(schedule::Event::Interrupted { at: now() })
                }
                Some(Signal::LockLost(reason)) => {
                    (context.sink)(&Event::LockLost { reason: reason.clone() });
                    scheduler.on(schedule::Event::LockLost { at: now(), reason })
                }
                None => {
                    signals_open = false;
                    Vec::new()
                }
            },
        };
    }
}
