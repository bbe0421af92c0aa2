//! One client of one member: asks, waits for the reply, keeps the pace, and writes everything down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{Client, Compare, CompareOp, Error, Txn, TxnOp, TxnOpResponse};

use crate::endpoint::Endpoint;
use crate::history::{Operation, Reply, Request, key};
use crate::writers::Load;

/// After a refusal; a member that is not there refuses at once.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// What a client shares with whoever started it.
pub(crate) struct Shared {
    pub(crate) load: Load,
    /// The start of the run.
    pub(crate) epoch: Instant,
}

pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Endpoint,
    /// Index of the client in the run.
    pub(crate) number: usize,
    pub(crate) stop: Arc<AtomicBool>,
    /// Acknowledged writes so far.
    pub(crate) acknowledged: Arc<AtomicU64>,
}

impl Worker {
    /// Goes on until it is told to stop.
    pub(crate) async fn work(self, mut client: Client) -> Vec<Operation> {
        let load = &self.shared.load;
        let mut rng = fastrand::Rng::with_seed(load.seed.wrapping_add(self.number as u64));
        let mut operations = Vec::new();
        let mut last_seen = vec![0; load.registers];
        let mut count = 0;
        while !self.stop.load(Ordering::Acquire) {
            count += 1;
            let request = self.draw(&mut rng, count, &last_seen);
            let invoked = self.shared.epoch.elapsed();
            let asked = tokio::time::timeout(load.patience, self.ask(&mut client, request)).await;
            let reply = reply(&asked);
            let returned = self.shared.epoch.elapsed();
            learn(&mut last_seen, request, reply);
            let operation = Operation {
                client: self.number,
                request,
                invoked,
                returned,
                reply,
            };
            if operation.is_acknowledged_write() {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            operations.push(operation);
            match reply {
                Reply::Refused => tokio::time::sleep(PAUSE).await,
                Reply::Unknown => {
                    // The connection may lead nowhere any more.
                    if let Ok(new) = self.endpoint.client(load.patience).await {
                        client = new;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Reply::Done | Reply::Found(_) => {
                    let next = invoked + load.pace;
                    tokio::time::sleep(next.saturating_sub(self.shared.epoch.elapsed())).await;
                }
            }
        }
        operations
    }

    fn draw(&self, rng: &mut fastrand::Rng, count: u64, last_seen: &[u64]) -> Request {
        let load = &self.shared.load;
        if last_seen.is_empty() || rng.u32(0..100) >= load.register_percent {
            return Request::Insert { number: count };
        }
        let register = rng.usize(0..last_seen.len());
        // No two clients and no two operations have the same.
        let value = (self.number as u64 + 1) * 1_000_000_000 + count;
        match rng.u32(0..3) {
            0 => Request::Read { register },
            1 => Request::Write { register, value },
            _ => Request::Swap {
                register,
                expected: last_seen[register],
                value,
            },
        }
    }

    async fn ask(&self, client: &mut Client, request: Request) -> Result<Reply, Error> {
        let prefix = &self.shared.load.prefix;
        match request {
            Request::Insert { number } => insert(client, prefix, self.number, number).await,
            Request::Read { register } => {
                let answer = client.get(register_key(prefix, register), None).await?;
                Ok(Reply::Found(value_of(answer.kvs())))
            }
            Request::Write { register, value } => {
                let key = register_key(prefix, register);
                client.put(key, value.to_string(), None).await?;
                Ok(Reply::Done)
            }
            Request::Swap {
                register,
                expected,
                value,
            } => {
                let key = register_key(prefix, register);
                let compare = match expected {
                    0 => Compare::create_revision(key.as_str(), CompareOp::Equal, 0),
                    _ => Compare::value(key.as_str(), CompareOp::Equal, expected.to_string()),
                };
                let txn = Txn::new()
                    .when([compare])
                    .and_then([TxnOp::put(key.as_str(), value.to_string(), None)])
                    .or_else([TxnOp::get(key.as_str(), None)]);
                let answer = client.txn(txn).await?;
                if answer.succeeded() {
                    return Ok(Reply::Done);
                }
                match answer.op_responses().first() {
                    Some(TxnOpResponse::Get(found)) => Ok(Reply::Found(value_of(found.kvs()))),
                    _ => Ok(Reply::Unknown),
                }
            }
        }
    }
}

/// Writes a key of a client.
pub(crate) async fn insert(
    client: &mut Client,
    prefix: &str,
    worker: usize,
    number: u64,
) -> Result<Reply, Error> {
    client.put(key(prefix, worker, number), "", None).await?;
    Ok(Reply::Done)
}

/// What an answer, or none in time, means.
pub(crate) fn reply<T>(asked: &Result<Result<Reply, Error>, T>) -> Reply {
    match asked {
        Ok(Ok(reply)) => *reply,
        Ok(Err(error)) if is_refusal(error) => Reply::Refused,
        Ok(Err(_)) | Err(_) => Reply::Unknown,
    }
}

pub(crate) fn register_key(prefix: &str, register: usize) -> String {
    format!("{prefix}r/{register}")
}

/// The value of a register's key, 0 when it is not there. One that is not ours is none of ours.
pub(crate) fn value_of(found: &[etcd_client::KeyValue]) -> u64 {
    found.first().map_or(0, |pair| {
        let text = std::str::from_utf8(pair.value()).unwrap_or_default();
        text.parse().unwrap_or(u64::MAX)
    })
}

fn learn(last_seen: &mut [u64], request: Request, reply: Reply) {
    match (request, reply) {
        (Request::Read { register } | Request::Swap { register, .. }, Reply::Found(value))
        | (
            Request::Write { register, value }
            | Request::Swap {
                register, value, ..
            },
            Reply::Done,
        ) => last_seen[register] = value,
        _ => {}
    }
}

/// Whether nothing was done and never will be: there was no connection, or the member said no
/// before it proposed anything. Everything else may have been done.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => {
            let message = status.message();
            let said = [
                "rpc not supported for learner",
                "etcdserver: no leader",
                "permission denied",
            ];
            said.iter().any(|words| message.contains(words)) || never_connected(status)
        }
        _ => false,
    }
}

/// Whether a status is the transport's own, for want of a connection.
fn never_connected(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        // tonic's name of it; the type is not public.
        if error.to_string() == "tcp connect error" {
            return true;
        }
        source = error.source();
    }
    false
}
