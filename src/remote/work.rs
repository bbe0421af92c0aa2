//! What the actor has to do: requests that wait, processes and tunnels that run, channels to close.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::{Address, RemoteError, TunnelError};
use super::process::{Chunk, Output, Process, Request};
use super::relay::Relay;

/// Sessions open at once; sshd's default for MaxSessions is 10.
const SESSIONS: usize = 8;

/// What has been used, for the budget of round trips.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sessions: AtomicU64,
    pub(super) tunnels: AtomicU64,
}

/// A request to the thread.
pub(super) enum Command {
    Run {
        id: u64,
        request: Box<Request>,
    },
    Tunnel {
        id: u64,
        to: Address,
        within: Duration,
        answer: TunnelAnswer,
    },
    Feed {
        id: u64,
        chunk: Chunk,
    },
    Finish {
        id: u64,
    },
    Cancel {
        id: u64,
    },
    Close,
}

pub(super) type TunnelAnswer = oneshot::Sender<Result<UnixStream, TunnelError>>;

pub(super) enum Wanted {
    Process {
        request: Box<Request>,
        fed: Vec<Chunk>,
    },
    Tunnel {
        to: Address,
        answer: TunnelAnswer,
    },
}

pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) wanted: Wanted,
    pub(super) within: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    pub(super) refused: bool,
}

/// What libssh2 is opening; it can do one at a time, and cannot be stopped.
pub(super) enum Opening {
    Session,
    Direct(Address),
}

pub(super) struct Running {
    pub(super) process: Process,
    pub(super) within: Option<Duration>,
    pub(super) deadline: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Work {
    pub(super) queue: VecDeque<Waiting>,
    /// What is being opened, and for whom, unless that one has gone.
    pub(super) opening: Option<(Opening, Option<Waiting>)>,
    pub(super) processes: BTreeMap<u64, Running>,
    pub(super) relays: BTreeMap<u64, Relay>,
    /// Channels to be closed, and whether they count as sessions.
    pub(super) closing: Vec<(ssh2::Channel, bool)>,
    /// No session is tried before this.
    pub(super) refused_until: Option<Instant>,
    /// Since when sessions are refused though none is open here.
    pub(super) refused_alone: Option<Instant>,
    pub(super) keepalive: Option<Instant>,
}

impl Work {
    pub(super) fn waiting(&mut self, id: u64) -> Option<&mut Wanted> {
        let opening = self
            .opening
            .iter_mut()
            .filter_map(|(_, waiting)| waiting.as_mut());
        self.queue
            .iter_mut()
            .chain(opening)
            .find(|waiting| waiting.id == id)
            .map(|waiting| &mut waiting.wanted)
    }

    /// Sessions that count at the server.
    pub(super) fn sessions(&self) -> usize {
        self.processes.len() + self.closing.iter().filter(|(_, session)| *session).count()
    }

    /// Whether some of these end by themselves: those without a deadline are held.
    pub(super) fn ending(&self) -> bool {
        let mut running = self.processes.values();
        running.any(|running| running.within.is_some())
            || self.closing.iter().any(|(_, session)| *session)
    }

    /// The next that may be opened: tunnels do not count as sessions, so they pass those that wait.
    pub(super) fn next(&mut self) -> Option<Waiting> {
        self.refused_until.take_if(|until| *until <= Instant::now());
        if !self
            .queue
            .iter()
            .any(|waiting| matches!(waiting.wanted, Wanted::Process { .. }))
        {
            self.refused_alone = None;
        }
        let sessions = self.sessions();
        let pausing =
            self.refused_until.is_some() && (sessions > 0 || self.refused_alone.is_some());
        let full = sessions >= SESSIONS || pausing;
        if !full {
            return self.queue.pop_front();
        }
        let at = self
            .queue
            .iter()
            .position(|waiting| matches!(waiting.wanted, Wanted::Tunnel { .. }))?;
        self.queue.remove(at)
    }
}

impl Waiting {
    pub(super) fn fail(self, error: RemoteError) {
        match self.wanted {
            Wanted::Process { request, .. } => fail_process(*request, error),
            Wanted::Tunnel { answer, .. } => {
                let _ = answer.send(Err(error.into()));
            }
        }
    }

    pub(super) fn expire(self, node: &str) {
        match self.wanted {
            Wanted::Process { request, .. } => {
                let error = if self.refused {
                    RemoteError::Sessions { node: node.into() }
                } else {
                    deadline(node, self.within)
                };
                fail_process(*request, error);
            }
            Wanted::Tunnel { to, answer } => {
                let seconds = seconds(self.within);
                let _ = answer.send(Err(TunnelError::Timeout {
                    node: node.into(),
                    address: to,
                    seconds,
                }));
            }
        }
    }
}

pub(super) fn seconds(within: Option<Duration>) -> u64 {
    within.map_or(0, |within| within.as_secs_f64().ceil() as u64)
}

pub(super) fn deadline(node: &str, within: Option<Duration>) -> RemoteError {
    RemoteError::Deadline {
        node: node.into(),
        seconds: seconds(within),
    }
}

pub(super) fn fail_process(request: Request, error: RemoteError) {
    answer_process(request, Err(error));
}

/// A caller that has gone does not matter.
pub(super) fn answer_process(mut request: Request, answer: Result<Output, RemoteError>) {
    if let Some(started) = request.started.take() {
        let early = match &answer {
            Ok(_) => Ok(()),
            Err(error) => Err(error.clone()),
        };
        let _ = started.send(early);
    }
    let _ = request.answer.send(answer);
}
