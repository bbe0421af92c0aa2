//! The lock: a process on each host that holds a `flock` for as long as it hears from us. It ends with the session, or
//! after thirty seconds without a byte, so nothing is ever left to be unlocked by force.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::observe::Fleet;
use crate::observe::shell::word;
use crate::remote::Held;

/// Time for the lock's process to answer: an earlier run's script may still be at work for a minute.
const ANSWER: Duration = Duration::from_secs(75);
/// Time for that process to begin.
const BEGIN: Duration = Duration::from_secs(30);
/// Between two signs of life; the host waits thirty seconds for one.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// `user@host`.
    pub operator: String,
    /// What it runs.
    pub command: String,
    /// Unix seconds at which it took the lock, by its own clock.
    pub since: i64,
    /// Version of its program.
    pub version: String,
    /// The run.
    pub run: String,
}

/// Why the lock was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody has it.
    Held {
        /// Host on which it was found.
        node: String,
        /// Who, as far as the host could say.
        holder: Option<Holder>,
    },
    /// It could not be taken for another reason.
    Failed {
        /// Host.
        node: String,
        /// Why.
        reason: String,
    },
}

/// A held lock. It is given back when this is dropped or released.
pub struct Lock {
    stop: tokio::sync::watch::Sender<bool>,
    keepers: JoinSet<()>,
    /// Nodes on which it is held.
    pub nodes: Vec<String>,
}

const SCRIPT: &str = r#"set -u
umask 077
mkdir -p /run/quorate
chmod 0700 /run/quorate
exec 9>>/run/quorate/lock
if ! flock -n 9; then printf 'held %s\n' "$(base64 -w0 </run/quorate/lock.holder 2>/dev/null)"; exit 0; fi
q_before=$(base64 -w0 </run/quorate/lock.holder 2>/dev/null)
q_write() { printf '%s' "$Q_RUN" >/run/quorate/lock.run && printf '%s' "$Q_HOLDER" | base64 -d >/run/quorate/lock.holder; }
if ! q_write 2>/dev/null; then
  rm -f /run/quorate/lock.run /run/quorate/lock.holder
  printf 'failed nothing can be written in /run/quorate: is /run full?\n'
  exit 0
fi
exec 8>>/run/quorate/work.lock
if ! flock -w 60 8; then
  # A script of an earlier run is still at work.
  rm -f /run/quorate/lock.run
  printf '%s' "$q_before" | base64 -d >/run/quorate/lock.holder
  printf 'held %s\n' "$q_before"
  exit 0
fi
exec 8>&-
printf 'locked\n'
while timeout 30 sh -c 'read -r _' 2>/dev/null; do :; done
rm -f /run/quorate/lock.run /run/quorate/lock.holder
"#;

/// Takes the lock on every one of these hosts, or on none. Losses are reported once, by node and reason.
pub async fn take(
    fleet: &Arc<Fleet>,
    nodes: &[String],
    holder: &Holder,
    lost: mpsc::UnboundedSender<String>,
) -> Result<Lock, Refusal> {
    let text = STANDARD.encode(serde_json::to_string(holder).unwrap_or_default());
    let script = format!(
        "Q_RUN={}\nQ_HOLDER={}\n{SCRIPT}",
        word(&holder.run),
        word(&text)
    );
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut lock = Lock {
        stop,
        keepers: JoinSet::new(),
        nodes: Vec::new(),
    };
    for wave in waves(nodes) {
        let refusal = take_all(fleet, &wave, &script, &mut lock, |node, process| {
            keep(node, process, stopped.clone(), lost.clone())
        });
        if let Some(refusal) = refusal.await {
            lock.release().await;
            return Err(refusal);
        }
    }
    lock.nodes.sort();
    Ok(lock)
}

/// Of two operators who begin at once each could get some hosts, and both would lose: the first host by name decides,
/// and the others follow together.
fn waves(nodes: &[String]) -> Vec<Vec<&String>> {
    let mut nodes: Vec<&String> = nodes.iter().collect();
    nodes.sort();
    let others = nodes.split_off(nodes.len().min(1));
    vec![nodes, others]
}

/// Takes the lock on these hosts, in parallel. Where it is taken it is kept from that moment, also while another host is
/// waited for: a holder that hears nothing for thirty seconds ends.
async fn take_all<K>(
    fleet: &Arc<Fleet>,
    nodes: &[&String],
    script: &str,
    lock: &mut Lock,
    keep: impl Fn(String, Held) -> K,
) -> Option<Refusal>
where
    K: Future<Output = ()> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    for node in nodes {
        let (fleet, node, script) = (fleet.clone(), (*node).clone(), script.to_owned());
        attempts.spawn(async move {
            let attempt = {
                let node = node.clone();
                tokio::spawn(async move { take_one(&fleet, &node, &script).await })
            };
            // A fault of ours is no lock.
            let taken = match attempt.await {
                Ok(taken) => taken,
                Err(error) => Err(Refusal::Failed {
                    node: node.clone(),
                    reason: format!("internal error: {error}"),
                }),
            };
            (node, taken)
        });
    }
    let mut refusal: Option<Refusal> = None;
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok((node, Ok(process))) => {
                lock.keepers.spawn(keep(node.clone(), process));
                lock.nodes.push(node);
            }
            Ok((_, Err(reason))) => {
                // A holder is the more telling answer.
                if !matches!(refusal, Some(Refusal::Held { .. })) {
                    refusal = Some(reason);
                }
            }
            Err(_) => {}
        }
    }
    refusal
}

async fn take_one(fleet: &Fleet, node: &str, script: &str) -> Result<Held, Refusal> {
    let failed = |reason: String| Refusal::Failed {
        node: node.to_owned(),
        reason,
    };
    let host = fleet
        .host_anew(node)
        .await
        .map_err(|unknown| failed(unknown.detail().to_owned()))?;
    let mut process = host
        .hold(script.as_bytes(), BEGIN)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let line = tokio::time::timeout(ANSWER, process.next_line())
        .await
        .map_err(|_| failed("no answer about the lock".into()))?;
    match line
        .as_deref()
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
    {
        Some(("locked", _)) => Ok(process),
        Some(("held", text)) => Err(Refusal::Held {
            node: node.to_owned(),
            holder: STANDARD
                .decode(text)
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok()),
        }),
        Some(("failed", reason)) => Err(failed(reason.to_owned())),
        Some((other, _)) => Err(failed(format!("an unexpected answer: {other}"))),
        None => {
            let reason = match process.output().await {
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            Err(failed(reason))
        }
    }
}

async fn keep(
    node: String,
    mut process: Held,
    mut stopped: tokio::sync::watch::Receiver<bool>,
    lost: mpsc::UnboundedSender<String>,
) {
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            _ = beat.tick() => {
                if let Err(error) = process.write_line("") {
                    let _ = lost.send(format!("{node}: {error}"));
                    return;
                }
            }
            line = process.next_line() => {
                if line.is_none() {
                    let _ = lost.send(format!("{node}: the process that holds it ended"));
                    return;
                }
            }
            _ = stopped.changed() => {
                let _ = process.close(Duration::from_secs(5)).await;
                return;
            }
        }
    }
}

impl Lock {
    /// Gives the lock back on every host.
    pub async fn release(mut self) {
        let _ = self.stop.send(true);
        while self.keepers.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_decides_between_operators() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let nodes: Vec<String> = names(&["etcd-3", "etcd-1", "etcd-2"]);
        let (first, second): (Vec<String>, Vec<String>) =
            (names(&["etcd-1"]), names(&["etcd-2", "etcd-3"]));
        assert_eq!(
            waves(&nodes),
            [
                first.iter().collect::<Vec<_>>(),
                second.iter().collect::<Vec<_>>()
            ]
        );
        assert_eq!(waves(&[]).concat().len(), 0);
    }
}
