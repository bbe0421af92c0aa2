//! A client that only writes new keys, and does not let one lost request keep it from the next.

use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::Client;
use tokio::task::JoinSet;

use crate::client::{PAUSE, Worker, insert};
use crate::history::{Operation, Reply, Request};

impl Worker {
    /// Goes on until it is told to stop; whatever is not answered by then is waited for.
    pub(crate) async fn work_ahead(self, mut client: Client, hold: Duration) -> Vec<Operation> {
        let mut under_way = JoinSet::new();
        let mut operations = Vec::new();
        let mut answered = Duration::ZERO;
        let mut number = 0;
        while !self.stop.load(Ordering::Acquire) {
            number += 1;
            let invoked = self.shared.epoch.elapsed();
            under_way.spawn(self.one(client.clone(), number));
            let next = invoked + self.shared.load.pace;
            let overtaken = tokio::time::sleep(hold);
            tokio::pin!(overtaken);
            loop {
                let operation: Operation = tokio::select! {
                    done = under_way.join_next() => match done {
                        Some(Ok(operation)) => operation,
                        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                        None => break,
                    },
                    () = &mut overtaken => break,
                };
                operations.push(operation);
                if operation.is_acknowledged_write() {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    answered = answered.max(operation.returned);
                }
                // Others were answered since: the connection is a good one, and only this request was lost.
                if operation.reply == Reply::Unknown
                    && answered < operation.invoked
                    && let Ok(new) = self.endpoint.client(self.shared.load.patience).await
                {
                    client = new;
                }
                if operation.request == (Request::Insert { number }) {
                    if operation.reply != Reply::Done {
                        tokio::time::sleep(PAUSE).await;
                    }
                    break;
                }
            }
            tokio::time::sleep(next.saturating_sub(self.shared.epoch.elapsed())).await;
        }
        while let Some(Ok(operation)) = under_way.join_next().await {
            operations.push(operation);
        }
        operations.sort_by_key(|operation| operation.invoked);
        operations
    }

    /// One request, which outlives the turn it was made in.
    fn one(&self, mut client: Client, number: u64) -> impl Future<Output = Operation> + use<> {
        let shared = std::sync::Arc::clone(&self.shared);
        let worker = self.number;
        let invoked = shared.epoch.elapsed();
        async move {
            let asked = insert(&mut client, &shared.load.prefix, worker, number);
            let asked = tokio::time::timeout(shared.load.patience, asked).await;
            Operation {
                client: worker,
                request: Request::Insert { number },
                invoked,
                returned: shared.epoch.elapsed(),
                reply: crate::client::reply(&asked),
            }
        }
    }
}
