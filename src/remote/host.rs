//! The handle on a connected host.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot};

use super::error::{Address, RemoteError, TunnelError};
use super::greeting::Greeting;
use super::process::{Chunk, Output, Progress, Request};
use super::script::{Sudo, launch};
use super::work::{Command, Counters};

/// Output that is kept of one script, in bytes, per stream.
pub const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;
/// Time for a tunnel to open.
const TUNNEL_PATIENCE: Duration = Duration::from_secs(10);

/// A connected host. Clones share the session, which ends when the last one (also inside a [`Tunnel`]
/// or [`Held`](super::Held)) is dropped, or with [`Host::close`].
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) node: String,
    pub(super) commands: Sender<Command>,
    pub(super) wake: UnixStream,
    pub(super) counters: Arc<Counters>,
    pub(super) next: AtomicU64,
    pub(super) sudo: Sudo,
    pub(super) password: Option<SecretString>,
}

impl Shared {
    fn wake(&self) {
        // A full pipe wakes as well.
        let _ = (&self.wake).write(&[1]);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The sender may be dropped after this, so say it.
        let _ = self.commands.send(Command::Close);
        self.wake();
    }
}

/// What a session has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrips {
    /// Sessions opened: scripts, uploads and held processes.
    pub sessions: u64,
    /// Tunnels opened.
    pub tunnels: u64,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("node", &self.shared.node)
            .finish_non_exhaustive()
    }
}

/// A process that is to be started.
pub(super) struct Job<'a> {
    pub(super) text: &'a [u8],
    pub(super) deadline: Option<Duration>,
    /// Nothing follows the script on standard input.
    pub(super) closed: bool,
    pub(super) lines: Option<mpsc::UnboundedSender<String>>,
    pub(super) started: Option<oneshot::Sender<Result<(), RemoteError>>>,
    pub(super) progress: Option<Progress>,
}

/// A running process; dropping it ends its channel.
pub(super) struct Ticket {
    host: Host,
    id: u64,
    answer: oneshot::Receiver<Result<Output, RemoteError>>,
    over: bool,
}

impl Ticket {
    /// Its end.
    pub(super) async fn output(&mut self) -> Result<Output, RemoteError> {
        let answer = (&mut self.answer).await;
        self.over = true;
        answer.unwrap_or_else(|_| Err(self.host.closed()))
    }

    pub(super) fn node(&self) -> &str {
        self.host.node()
    }

    /// The way to its standard input.
    pub(super) fn input(&self) -> Input {
        Input {
            host: self.host.clone(),
            id: self.id,
        }
    }
}

/// The way to a process's standard input.
pub(super) struct Input {
    host: Host,
    id: u64,
}

impl Input {
    pub(super) fn feed(&self, chunk: Chunk) -> Result<(), RemoteError> {
        self.host.tell(Command::Feed { id: self.id, chunk })
    }

    pub(super) fn finish(&self) -> Result<(), RemoteError> {
        self.host.tell(Command::Finish { id: self.id })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.over {
            // A session that is closed already needs no word.
            let _ = self.host.tell(Command::Cancel { id: self.id });
        }
    }
}

impl Host {
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Name of the node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// What the session has cost so far.
    #[must_use]
    pub fn round_trips(&self) -> RoundTrips {
        let counters = &self.shared.counters;
        RoundTrips {
            sessions: counters.sessions.load(Ordering::Relaxed),
            tunnels: counters.tunnels.load(Ordering::Relaxed),
        }
    }

    /// Ends the session at once. Whatever is under way fails with [`RemoteError::Closed`].
    pub fn close(&self) {
        let _ = self.tell(Command::Close);
    }

    /// Whether the session has ended, as far as that was noticed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // Nothing has this number; whoever has ended takes no word at all.
        let id = self.id();
        self.tell(Command::Cancel { id }).is_err()
    }

    /// Runs a shell script as root and returns its whole output. The shell (`sh`) has parsed all of
    /// it before anything executes; its standard input is at its end. The C locale is set, umask
    /// is 022, and PATH includes the `sbin` directories.
    ///
    /// After `deadline` the script and its children are ended on the host as well.
    ///
    /// # Errors
    /// See [`RemoteError`]; a failing exit status is none.
    pub async fn script(&self, text: &[u8], deadline: Duration) -> Result<Output, RemoteError> {
        let job = Job {
            text,
            deadline: Some(deadline),
            closed: true,
            lines: None,
            started: None,
            progress: None,
        };
        let begun = Instant::now();
        let output = self.start(job)?.output().await?;
        // The host's own clock may be a little ahead of ours: `timeout` says 124.
        if output.status == super::Exit::Code(124) && begun.elapsed() >= deadline {
            let seconds = deadline.as_secs_f64().ceil() as u64;
            return Err(RemoteError::Deadline {
                node: self.node().to_owned(),
                seconds,
            });
        }
        Ok(output)
    }

    /// Runs `true`, by the login shell and without sudo: on a jump host nothing else is needed.
    pub(super) async fn warm(&self, within: Duration) -> Result<(), RemoteError> {
        let job = Job {
            text: b":",
            deadline: Some(within),
            closed: true,
            lines: None,
            started: None,
            progress: None,
        };
        match self.start(job)?.output().await {
            // A jump host may allow no commands at all; tunnels work all the same.
            Ok(_)
            | Err(
                RemoteError::Shell { .. }
                | RemoteError::Sessions { .. }
                | RemoteError::Deadline { .. }
                | RemoteError::NoStatus { .. },
            ) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn start(&self, job: Job<'_>) -> Result<Ticket, RemoteError> {
        let launch = launch(job.text, self.shared.sudo, job.deadline);
        let (sender, answer) = oneshot::channel();
        let request = Request {
            greeting: Greeting::new(&launch.marker, &launch.prompt),
            command: launch.command,
            end: launch.end,
            sudo: self.shared.sudo != Sudo::No,
            password: self.shared.password.clone(),
            input: launch.input,
            later: Vec::new(),
            closed: job.closed,
            limit: OUTPUT_LIMIT,
            deadline: job.deadline,
            lines: job.lines,
            started: job.started,
            answer: sender,
            progress: job.progress,
        };
        let id = self.id();
        self.tell(Command::Run {
            id,
            request: Box::new(request),
        })?;
        Ok(Ticket {
            host: self.clone(),
            id,
            answer,
            over: false,
        })
    }

    /// Opens a connection to `host:port` from the host's side (`direct-tcpip`).
    ///
    /// # Errors
    /// See [`TunnelError`].
    pub async fn tunnel(&self, host: &str, port: u16) -> Result<Tunnel, TunnelError> {
        let stream = self.raw_tunnel(host, port, TUNNEL_PATIENCE).await?;
        let stream =
            tokio::net::UnixStream::from_std(stream).map_err(|error| RemoteError::Lost {
                node: self.node().to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Tunnel {
            stream,
            _host: self.clone(),
        })
    }

    /// The local end of a tunnel, which does not block.
    pub(super) async fn raw_tunnel(
        &self,
        host: &str,
        port: u16,
        within: Duration,
    ) -> Result<UnixStream, TunnelError> {
        let (answer, result) = oneshot::channel();
        let to = Address {
            host: host.to_owned(),
            port,
        };
        self.tell(Command::Tunnel {
            id: self.id(),
            to,
            within,
            answer,
        })?;
        result.await.unwrap_or_else(|_| Err(self.closed().into()))
    }

    fn id(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    fn closed(&self) -> RemoteError {
        RemoteError::Closed {
            node: self.node().to_owned(),
        }
    }

    fn tell(&self, command: Command) -> Result<(), RemoteError> {
        self.shared
            .commands
            .send(command)
            .map_err(|_| self.closed())?;
        self.shared.wake();
        Ok(())
    }
}

/// A connection through the host's SSH session, which it keeps open.
#[derive(Debug)]
pub struct Tunnel {
    stream: tokio::net::UnixStream,
    _host: Host,
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
