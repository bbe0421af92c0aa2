//! The units of members that are waited for, looked at beside the cluster: a journal that is slow to read must not make
//! the looks at the cluster rare.

use std::collections::BTreeMap;
use std::future::Future;

use tokio::sync::oneshot;

use super::unit::{self, Seen};
use crate::action::ActionId;

/// Milliseconds between the answer about a unit and the next question, and before the first.
const PAUSE_MS: u64 = 3_000;

/// What is known of the unit that each action waits for.
#[derive(Default)]
pub(super) struct Watch {
    units: BTreeMap<ActionId, Unit>,
}

struct Unit {
    /// When somebody last answered, or it was first waited for.
    since: u64,
    /// How often units had been restarted at the first answer, by node.
    first: BTreeMap<String, u32>,
    /// The answer that is under way.
    answer: Option<oneshot::Receiver<Vec<Seen>>>,
}

impl Watch {
    /// Why waiting is in vain, as has been found out since it was last asked, and never a wait for it. Asks again when it
    /// is time to.
    pub(super) fn ask(
        &mut self,
        id: &ActionId,
        now: u64,
        question: impl Future<Output = Vec<Seen>> + Send + 'static,
    ) -> Option<String> {
        let watched = self.units.entry(id.clone()).or_insert_with(|| Unit {
            since: now,
            first: BTreeMap::new(),
            answer: None,
        });
        if let Some(answer) = &mut watched.answer {
            return match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => None,
                answered => {
                    watched.answer = None;
                    watched.since = now;
                    let seen = answered.ok()?;
                    unit::hopeless(&mut watched.first, &seen)
                }
            };
        }
        if now.saturating_sub(watched.since) >= PAUSE_MS {
            let (answer, receiver) = oneshot::channel();
            watched.answer = Some(receiver);
            tokio::spawn(async move {
                let _ = answer.send(question.await);
            });
        }
        None
    }

    /// The action does something to the unit: what is known of it, or asked, is of before.
    pub(super) fn start_over(&mut self, id: &ActionId) {
        self.units.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restart() -> ActionId {
        ActionId("node.etcd-1.restart".into())
    }

    fn stopped() -> Vec<Seen> {
        vec![Seen {
            node: "etcd-1".into(),
            restarts: 0,
            gave_up: true,
            journal: String::new(),
        }]
    }

    /// Until what was spawned has come as far as it can.
    async fn rest() {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_slow_answer_is_not_waited_for_and_comes_once() {
        let mut watch = Watch::default();
        let (journal, read) = oneshot::channel();
        assert_eq!(
            watch.ask(&restart(), 0, async { panic!("too early") }),
            None
        );
        assert_eq!(
            watch.ask(&restart(), PAUSE_MS, async {
                read.await.unwrap_or_default()
            }),
            None
        );
        for now in [PAUSE_MS + 100, 9 * PAUSE_MS] {
            rest().await;
            assert_eq!(watch.ask(&restart(), now, async { panic!("twice") }), None);
        }
        journal.send(stopped()).expect("it is heard");
        rest().await;
        let now = 10 * PAUSE_MS;
        let answer = watch.ask(&restart(), now, async { panic!("twice") });
        assert!(answer.is_some_and(|why| why.contains("has stopped")));
        assert_eq!(
            watch.ask(&restart(), now, async { panic!("too early") }),
            None
        );
    }

    #[tokio::test]
    async fn what_was_asked_before_a_restart_is_not_heard_after_it() {
        let mut watch = Watch::default();
        let stopped = || async { stopped() };
        for now in [0, PAUSE_MS] {
            assert_eq!(watch.ask(&restart(), now, stopped()), None);
        }
        watch.start_over(&restart());
        rest().await;
        assert_eq!(watch.ask(&restart(), PAUSE_MS, stopped()), None);
    }
}
