//! Taking the lock of a run: on which hosts, how long it is waited for, and what is told meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::holder::{describe, holder_digit, lock_holder, stamp};
use crate::apply::lock::{self, Holder, Lock, Refusal};
use crate::apply::{Event, Signal, Sink};
use crate::error::{BLOCKED, Failure, LOCKED};
use crate::observe::Fleet;
use crate::observed::host::HostUnknown;
use crate::observed::{HostState, Observed};
use crate::plan::Plan;
use crate::safety;

/// Takes the lock on these nodes, and waits for it as long as the operator said. Its loss is signalled.
pub(super) async fn take(
    fleet: &Arc<Fleet>,
    nodes: &[String],
    holder: &Holder,
    patience: Duration,
    sink: &Sink,
    signals: &mpsc::UnboundedSender<Signal>,
) -> Result<Lock, Failure> {
    let began = Instant::now();
    loop {
        let (lost, mut losses) = mpsc::unbounded_channel();
        match lock::take(fleet, nodes, holder, lost).await {
            Ok(lock) => {
                let signals = signals.clone();
                tokio::spawn(async move {
                    if let Some(reason) = losses.recv().await {
                        let _ = signals.send(Signal::LockLost(reason));
                    }
                });
                return Ok(lock);
            }
            Err(Refusal::Held { node, holder }) => {
                if began.elapsed() >= patience {
                    let who = describe(holder.as_ref());
                    return Err(Failure::new(format!("{node} is locked by {who}")).code(LOCKED).remedy(
                        "wait for that run to end, or give --lock-timeout; the lock ends with its holder's connection",
                    ));
                }
                // Whoever shows it keeps the first moments, and what was said just now, to itself.
                sink(&Event::LockWait {
                    holder: lock_holder(&node, holder),
                    waited: began.elapsed(),
                });
                // Two operators that wait for each other must not keep step.
                let jitter = u64::from(holder_digit(&stamp())) * 37;
                tokio::time::sleep(Duration::from_millis(700 + jitter)).await;
            }
            Err(Refusal::Failed { node, reason }) => {
                let text = format!("{node}: the lock cannot be taken: {reason}");
                return Err(Failure::new(text));
            }
        }
    }
}

/// Fails unless a lock on these nodes is one on a majority of the voters.
pub(super) fn covers(plan: &Plan, observed: &Observed, nodes: &[String]) -> Result<(), Failure> {
    let (ours, all) = observed.voters_on(&plan.desired, nodes);
    if plan.intent.goal.is_destroy() || ours >= safety::quorum(all) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the lock would cover {ours} of {all} voters, {} are needed",
        safety::quorum(all)
    ))
    .code(BLOCKED)
    .remedy("make more hosts reachable, and plan again"))
}

/// The nodes that are locked: those whose hosts can be worked on.
pub(super) fn reachable(observed: &Observed) -> Vec<String> {
    observed
        .hosts
        .iter()
        .filter(|(_, state)| matches!(state, HostState::Known(_)))
        .map(|(name, _)| name.clone())
        .collect()
}

/// A locked host that cannot be looked at any more.
pub(super) fn lost<'a>(
    observed: &'a Observed,
    nodes: &[String],
) -> Option<(&'a String, &'a HostUnknown)> {
    let mut hosts = observed.hosts.iter();
    hosts.find_map(|(name, state)| match state {
        HostState::Unknown(unknown) if nodes.contains(name) => Some((name, unknown)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::execute::tests::plan;
    use crate::plan::Goal;

    #[test]
    fn a_lock_covers_a_majority() {
        let mut plan = plan();
        let nodes = ["etcd-1".to_owned()];
        assert!(
            covers(&plan, &Observed::default(), &[]).is_ok(),
            "a destroy"
        );
        plan.intent.goal = Goal::Converge {
            allow_downtime: false,
            replace: vec![],
        };
        assert!(covers(&plan, &Observed::default(), &nodes).is_ok());
        let failure = covers(&plan, &Observed::default(), &[]).unwrap_err();
        assert_eq!(failure.code, BLOCKED);
    }
}
