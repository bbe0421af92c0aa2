//! Clients in a lab's network, one for each endpoint, which may come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_lab::Lab;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::client::{Shared, Worker};
use crate::endpoint::Endpoint;
use crate::history::{ClientLife, Operation, Run};
use crate::{Error, Result};

/// What clients do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Prefix of all keys; a run has one of its own, and nothing is there before it.
    pub prefix: String,
    /// From one request to the next, if the first was answered in time.
    pub pace: Duration,
    /// After this a request counts as unknown.
    pub patience: Duration,
    /// After this the next request is made although this one is not answered; only where there are
    /// no registers, whose operations follow one another.
    pub hold: Option<Duration>,
    /// How many registers there are.
    pub registers: usize,
    /// How many of a hundred requests go to registers.
    pub register_percent: u32,
    /// Which requests are drawn.
    pub seed: u64,
}

impl Load {
    /// Every 10 ms a request, three of ten at one of five registers.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            pace: Duration::from_millis(10),
            patience: Duration::from_secs(2),
            hold: None,
            registers: 5,
            register_percent: 30,
            seed: 0,
        }
    }

    /// Every millisecond a new key, and nothing else: for measuring gaps. Requests on their way
    /// while leadership moves may be lost; those behind them are not to wait for that.
    #[must_use]
    pub fn dense(prefix: &str) -> Self {
        Self {
            pace: Duration::from_millis(1),
            hold: Some(Duration::from_millis(10)),
            registers: 0,
            ..Self::new(prefix)
        }
    }
}

struct Client {
    life: ClientLife,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: Option<JoinHandle<Vec<Operation>>>,
}

/// Clients at work. Dropping this stops them; what they know is lost then.
pub struct Writers {
    runtime: Runtime,
    shared: Arc<Shared>,
    clients: Vec<Client>,
}

impl Writers {
    /// No client yet; the clock of the run starts.
    ///
    /// # Errors
    /// When threads or the lab's network cannot be had.
    pub fn start(lab: &Lab, load: Load) -> Result<Self> {
        Ok(Self {
            runtime: runtime(lab)?,
            shared: Arc::new(Shared {
                load,
                epoch: Instant::now(),
            }),
            clients: Vec::new(),
        })
    }

    /// Starts a client of a member, in place of the one of the same name, if any.
    ///
    /// # Errors
    /// When URL or certificates cannot be used. A member that does not answer is none.
    pub fn add(&mut self, endpoint: &Endpoint) -> Result<()> {
        self.remove(&endpoint.name);
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            shared: Arc::clone(&self.shared),
            endpoint: endpoint.clone(),
            number: self.clients.len(),
            stop: Arc::clone(&stop),
            acknowledged: Arc::clone(&acknowledged),
        };
        let patience = self.shared.load.patience;
        let client = self.runtime.block_on(endpoint.client(patience))?;
        self.clients.push(Client {
            life: ClientLife {
                endpoint: endpoint.name.clone(),
                ended: Duration::MAX,
            },
            stop,
            acknowledged,
            task: Some(match self.shared.load.hold {
                Some(hold) if self.shared.load.registers == 0 => {
                    self.runtime.spawn(worker.work_ahead(client, hold))
                }
                _ => self.runtime.spawn(worker.work(client)),
            }),
        });
        Ok(())
    }

    /// Tells the client of a member to stop: the member is, or is about to be, one no longer.
    pub fn remove(&mut self, name: &str) {
        let now = self.elapsed();
        for client in &mut self.clients {
            if client.life.endpoint == name && !client.stop.swap(true, Ordering::AcqRel) {
                client.life.ended = now;
            }
        }
    }

    /// Since the start of the run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.epoch.elapsed()
    }

    /// Writes that were acknowledged until now, by endpoint; of those at work only.
    #[must_use]
    pub fn acknowledged(&self) -> BTreeMap<String, u64> {
        let working = |client: &&Client| !client.stop.load(Ordering::Acquire);
        self.clients
            .iter()
            .filter(working)
            .map(|client| {
                let count = client.acknowledged.load(Ordering::Relaxed);
                (client.life.endpoint.clone(), count)
            })
            .collect()
    }

    /// Ends all clients, after what they are waiting for.
    #[must_use]
    pub fn stop(mut self) -> Run {
        let ended = self.elapsed();
        for client in &mut self.clients {
            if !client.stop.swap(true, Ordering::AcqRel) {
                client.life.ended = ended;
            }
        }
        let tasks: Vec<_> = self
            .clients
            .iter_mut()
            .map(|client| client.task.take())
            .collect();
        let operations = self.runtime.block_on(async {
            let mut all = Vec::new();
            for task in tasks.into_iter().flatten() {
                match task.await {
                    Ok(operations) => all.push(operations),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            }
            all
        });
        Run {
            prefix: self.shared.load.prefix.clone(),
            clients: self.clients.into_iter().map(|client| client.life).collect(),
            operations,
            ended,
        }
    }
}

/// A runtime whose threads, and so all its sockets, are in the lab's network.
pub(crate) fn runtime(lab: &Lab) -> Result<Runtime> {
    lab.inside(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
    })?
    .map_err(|error| Error::Io("start threads".into(), error))
}
