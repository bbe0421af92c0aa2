//! One member is stopped at a time: dead members are restarted side by side, and two that have come up by themselves
//! meanwhile must not both be found to be spared.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep};

use crate::etcd::id::MemberId;
use crate::observed::etcd::ClusterView;
use crate::schedule::Spare;

/// Time for a cluster to spare a member that it could spare a moment ago: leaders change.
pub(super) const SPARE: Duration = Duration::from_secs(10);
/// Time between two looks.
const AGAIN: Duration = Duration::from_millis(200);

/// Who may stop a member.
#[derive(Debug, Clone)]
pub struct Stopping {
    /// Counts those who were let.
    lock: Arc<Mutex<u64>>,
    /// How long it is asked whether a member can be spared.
    patience: Duration,
    /// How long a member does not answer that is taken for one that nobody misses: one look may miss it.
    absence: Duration,
    /// Time for a script to stop its member, and to end where it does nothing that takes long.
    stop: Duration,
}

impl Default for Stopping {
    fn default() -> Self {
        Self {
            lock: Arc::default(),
            patience: SPARE,
            absence: Duration::from_secs(2),
            stop: Duration::from_secs(20),
        }
    }
}

impl Stopping {
    /// Waits until a member can be spared; nobody else is stopped before what this returns is dropped.
    ///
    /// # Errors
    /// Why it cannot be spared, after ten seconds in which it could not.
    pub(super) async fn spared<L>(
        &self,
        spare: Spare,
        look: impl Fn() -> L,
    ) -> Result<OwnedMutexGuard<u64>, String>
    where
        L: Future<Output = ClusterView>,
    {
        let (mut refused, mut absent, mut others) = (None, None, 0);
        loop {
            let mut alone = Arc::clone(&self.lock).lock_owned().await;
            // While another one was stopped nobody looked, and much may have been otherwise.
            if *alone != others {
                (refused, absent, others) = (None, None, *alone);
            }
            let view = look().await;
            match spare.ask_again(&view) {
                Ok(()) if spare.is_certain(&view) => {
                    *alone += 1;
                    return Ok(alone);
                }
                Ok(()) => {
                    let since: Instant = *absent.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.absence {
                        *alone += 1;
                        return Ok(alone);
                    }
                }
                Err(refusal) => {
                    absent = None;
                    let since: Instant = *refused.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.patience {
                        return Err(format!("not safe: {refusal}"));
                    }
                }
            }
            drop(alone);
            sleep(AGAIN).await;
        }
    }

    /// Does what stops a member, and may go on for long after that: copies of its data, for which nobody has to wait.
    pub(super) async fn alone<T, L>(
        &self,
        (member, guard): (MemberId, OwnedMutexGuard<u64>),
        look: impl Fn() -> L,
        work: impl Future<Output = T>,
    ) -> T
    where
        L: Future<Output = ClusterView>,
    {
        let stopped = async {
            sleep(self.stop).await;
            let mut absent = None;
            loop {
                if look().await.statuses.contains_key(&member) {
                    absent = None;
                } else {
                    let since: Instant = *absent.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.absence {
                        return;
                    }
                }
                sleep(AGAIN).await;
            }
        };
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = stopped => drop(guard),
        }
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex as Cell;

    use super::*;
    use crate::schedule::spare_tests::{undo, view};

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(60);

    /// Of three voters those that answer.
    type Up = Cell<BTreeSet<u64>>;

    fn all() -> Up {
        Cell::new((1..=3).collect())
    }

    fn with(patience: Duration, absence: Duration) -> Stopping {
        Stopping {
            patience,
            absence,
            ..Stopping::default()
        }
    }

    async fn seen(up: &Up) -> ClusterView {
        let up: Vec<u64> = up.lock().unwrap().iter().copied().collect();
        view(&up)
    }

    /// Stops a member if it can be spared; how many are left.
    async fn stop(stopping: &Stopping, member: u64, up: &Up) -> Result<usize, String> {
        let guard = stopping.spared(undo(member), || seen(up)).await?;
        let script = async {
            // It takes a while to begin.
            sleep(SOON).await;
            let mut up = up.lock().unwrap();
            up.remove(&member);
            up.len()
        };
        let guarded = (MemberId(member), guard);
        Ok(stopping.alone(guarded, || seen(up), script).await)
    }

    #[tokio::test]
    async fn of_two_that_could_be_spared_one_is_stopped() {
        let (up, stopping) = (all(), with(SOON, LATE));
        let (one, two) = tokio::join!(stop(&stopping, 1, &up), stop(&stopping, 2, &up));
        assert_eq!(one, Ok(2));
        assert!(two.is_err_and(|why| why.starts_with("not safe: ")));
    }

    #[tokio::test]
    async fn the_second_goes_on_when_the_first_is_back() {
        let (up, stopping) = (all(), with(LATE, LATE));
        let first = async {
            let left = stop(&stopping, 1, &up).await;
            sleep(SOON).await;
            up.lock().unwrap().insert(1);
            left
        };
        let (one, two) = tokio::join!(first, stop(&stopping, 2, &up));
        assert_eq!((one, two), (Ok(2), Ok(2)));
    }

    /// What one look has missed is found by the next.
    #[tokio::test]
    async fn who_is_missed_by_one_look_is_not_taken_for_lost() {
        let looks = Cell::new(0);
        let look = || async {
            let mut looks = looks.lock().unwrap();
            *looks += 1;
            view(if *looks == 1 { &[2] } else { &[1, 2] })
        };
        assert!(with(SOON, LATE).spared(undo(1), look).await.is_err());
        let began = Instant::now();
        let stopping = with(LATE, SOON);
        let gone = stopping.spared(undo(1), || async { view(&[2]) }).await;
        assert!(gone.is_ok() && began.elapsed() >= SOON);
    }

    /// Two that are away wait for each other's looks, which take as long as a host that hangs.
    #[tokio::test]
    async fn slow_looks_of_others_are_no_reason_to_begin_again() {
        let stopping = with(LATE, 2 * SOON);
        let look = || async {
            sleep(2 * SOON).await;
            view(&[3])
        };
        let ask = async |member| stopping.spared(undo(member), look).await.is_ok();
        let both = async { tokio::join!(ask(1), ask(2)) };
        let done = tokio::time::timeout(LATE, both).await;
        assert_eq!(done.expect("in time"), (true, true));
    }

    /// Data that is copied for an hour keeps nobody else from being restarted.
    #[tokio::test]
    async fn what_follows_the_stop_is_waited_for_by_nobody() {
        let stopping = Stopping {
            stop: Duration::ZERO,
            ..with(LATE, SOON)
        };
        let guard = Arc::clone(&stopping.lock).lock_owned().await;
        let up = all();
        let looks = || async {
            // The script comes to its stop some looks later.
            let left = up.lock().unwrap().len();
            let view = seen(&up).await;
            if left == 3 && stopping.lock.try_lock().is_err() {
                up.lock().unwrap().remove(&1);
            }
            view
        };
        let (copied, copy) = tokio::sync::oneshot::channel::<()>();
        let other = async {
            let _guard = stopping.lock.lock().await;
            assert_eq!(up.lock().unwrap().len(), 2, "it runs");
            copied.send(()).expect("it is still copied");
        };
        let both =
            async { tokio::join!(stopping.alone((MemberId(1), guard), looks, copy), other).0 };
        let done = tokio::time::timeout(LATE, both).await;
        assert_eq!(done.expect("in time"), Ok(()));
    }
}
