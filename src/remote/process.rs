//! One process on the host, as the actor sees it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::error::{RemoteError, SudoProblem};
use super::greeting::Greeting;

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal, named without `SIG`. A shell between sshd and the process may
    /// report this as code 128 plus the signal's number instead.
    Signal(String),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(name) => write!(f, "killed by SIG{name}"),
        }
    }
}

/// What a script answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Exit,
    /// Its whole standard output.
    pub stdout: Vec<u8>,
    /// Its whole standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it exited with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status == Exit::Code(0)
    }
}

/// Told how many payload bytes the session has taken so far.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// Standard input on its way. Dropping it returns the permit.
pub(super) struct Chunk {
    pub(super) bytes: Arc<[u8]>,
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

/// What the actor is asked to run.
pub(super) struct Request {
    pub(super) command: String,
    /// What the script's last words begin with.
    pub(super) end: String,
    pub(super) greeting: Greeting,
    pub(super) sudo: bool,
    pub(super) password: Option<SecretString>,
    /// Sentinel and script.
    pub(super) input: Vec<u8>,
    /// What follows the script.
    pub(super) later: Vec<Chunk>,
    /// Nothing else follows.
    pub(super) closed: bool,
    pub(super) limit: usize,
    pub(super) deadline: Option<Duration>,
    /// Lines of standard output go here instead of into the answer.
    pub(super) lines: Option<mpsc::UnboundedSender<String>>,
    pub(super) started: Option<oneshot::Sender<Result<(), RemoteError>>>,
    pub(super) answer: oneshot::Sender<Result<Output, RemoteError>>,
    pub(super) progress: Option<Progress>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Closing,
}

/// A process with its channel.
pub(super) struct Process {
    channel: ssh2::Channel,
    phase: Phase,
    request: Request,
    /// The password line was written.
    authenticated: bool,
    /// Input, front first, and how much of the front is written.
    pending: VecDeque<Chunk>,
    written: usize,
    /// Payload bytes (behind the script) written so far.
    payload: u64,
    script_sent: bool,
    /// Bytes of sentinel and script that are not written yet.
    script_left: usize,
    eof_sent: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    overflow: bool,
    line: Vec<u8>,
    launched: Instant,
}

/// What a step came to.
pub(super) enum Step {
    /// Nothing could be done now.
    Idle,
    /// Something moved.
    Moved,
    /// It is over; the channel is closed on both sides.
    Done(Result<Output, RemoteError>),
    /// It is over for the caller; the channel still has to be closed.
    Failed(RemoteError),
}

/// Number of the stream for standard error.
const STDERR: i32 = 1;

/// How long sudo may take to accept a password and start the command.
const SUDO_PATIENCE: Duration = Duration::from_secs(20);

fn keep(buffer: &mut Vec<u8>, bytes: &[u8], limit: usize, overflow: &mut bool) {
    let room = limit.saturating_sub(buffer.len());
    *overflow |= bytes.len() > room;
    buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Whether libssh2 only says that it would have to wait (`LIBSSH2_ERROR_EAGAIN`).
pub(super) fn blocked(error: &ssh2::Error) -> bool {
    error.code() == ssh2::ErrorCode::Session(-37)
}

impl Process {
    pub(super) fn new(channel: ssh2::Channel, request: Request) -> Self {
        Self {
            channel,
            phase: Phase::Starting,
            request,
            authenticated: false,
            pending: VecDeque::new(),
            written: 0,
            payload: 0,
            script_sent: false,
            script_left: 0,
            eof_sent: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
            overflow: false,
            line: Vec::new(),
            launched: Instant::now(),
        }
    }

    /// Splits into the channel, to be closed, and what the caller waits on.
    pub(super) fn into_parts(self) -> (ssh2::Channel, Request) {
        (self.channel, self.request)
    }

    /// Adds input behind the script.
    pub(super) fn feed(&mut self, chunk: Chunk) {
        if !self.request.closed {
            self.pending.push_back(chunk);
        }
    }

    /// No further input follows.
    pub(super) fn finish(&mut self) {
        self.request.closed = true;
    }

    /// Does what can be done without waiting. `room` says whether data may be written.
    pub(super) fn step(&mut self, node: &str, room: bool, scratch: &mut [u8]) -> Step {
        match self.try_step(node, room, scratch) {
            Ok(step) => step,
            Err(error) => Step::Failed(error),
        }
    }

    fn try_step(
        &mut self,
        node: &str,
        room: bool,
        scratch: &mut [u8],
    ) -> Result<Step, RemoteError> {
        let lost = |error: &dyn std::fmt::Display| RemoteError::Lost {
            node: node.into(),
            reason: error.to_string(),
        };
        if self.phase == Phase::Starting {
            match self.channel.exec(&self.request.command) {
                Ok(()) => {
                    self.phase = Phase::Running;
                    self.launched = Instant::now();
                }
                Err(error) if blocked(&error) => return Ok(Step::Idle),
                Err(error) => {
                    return Err(RemoteError::Shell {
                        node: node.into(),
                        status: "sshd refuses to run commands".into(),
                        text: error.message().to_owned(),
                    });
                }
            }
        }
        let mut moved = false;
        if self.phase == Phase::Running {
            moved |= self.read(scratch).map_err(|error| lost(&error))?;
            self.check_greeting(node)?;
            // Writing before reading has seen the end would be an error of libssh2's.
            if self.channel.eof() {
                self.phase = Phase::Closing;
                moved = true;
            } else if room {
                moved |= self.write().map_err(|error| lost(&error))?;
            }
        }
        if self.phase == Phase::Closing {
            // Closing alone does not wait for the other side's close, which the exit status precedes.
            match self
                .channel
                .close()
                .and_then(|()| self.channel.wait_close())
            {
                Ok(()) => return Ok(Step::Done(self.conclude(node))),
                Err(error) if blocked(&error) => {}
                Err(error) => return Err(lost(&error)),
            }
        }
        Ok(if moved { Step::Moved } else { Step::Idle })
    }

    /// Both streams are always drained: a full one would stop the process.
    fn read(&mut self, scratch: &mut [u8]) -> std::io::Result<bool> {
        let mut moved = false;
        for _ in 0..4 {
            let mut any = false;
            for stream in [0, STDERR] {
                match self.channel.stream(stream).read(scratch) {
                    Ok(0) => {}
                    Ok(count) => {
                        any = true;
                        self.take(stream, &scratch[..count]);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            if !any {
                break;
            }
            moved = true;
        }
        Ok(moved)
    }

    fn take(&mut self, stream: i32, bytes: &[u8]) {
        let limit = self.request.limit;
        if stream != 0 {
            let text = self.request.greeting.stderr(bytes);
            keep(&mut self.stderr, &text, limit, &mut self.overflow);
            return;
        }
        let text = self.request.greeting.stdout(bytes);
        let Some(lines) = &self.request.lines else {
            keep(&mut self.stdout, &text, limit, &mut self.overflow);
            return;
        };
        for byte in text {
            if byte == b'\n' {
                // A reader that went away is noticed elsewhere.
                let _ = lines.send(String::from_utf8_lossy(&self.line).into_owned());
                self.line.clear();
            } else if self.line.len() < limit {
                self.line.push(byte);
            }
        }
    }

    fn check_greeting(&mut self, node: &str) -> Result<(), RemoteError> {
        let sudo = |problem| {
            Err(RemoteError::Sudo {
                node: node.into(),
                problem,
            })
        };
        if self.request.greeting.ready() {
            if let Some(started) = self.request.started.take() {
                let _ = started.send(Ok(()));
            }
        } else if self.request.password.is_some() {
            if self.request.greeting.asked_again() {
                return sudo(SudoProblem::WrongPassword);
            }
            if self.launched.elapsed() > SUDO_PATIENCE {
                let text = self.request.greeting.noise();
                return sudo(SudoProblem::Other(if text.is_empty() {
                    "no answer".into()
                } else {
                    text
                }));
            }
        }
        Ok(())
    }

    /// When this process wants to be looked at again, whatever happens.
    pub(super) fn patience(&self) -> Option<Instant> {
        let waits = self.phase == Phase::Running
            && self.request.password.is_some()
            && !self.request.greeting.ready();
        waits.then(|| self.launched + SUDO_PATIENCE)
    }

    fn write(&mut self) -> std::io::Result<bool> {
        if let Some(password) = &self.request.password {
            if !self.authenticated {
                let mut line =
                    secrecy::zeroize::Zeroizing::new(password.expose_secret().as_bytes().to_vec());
                line.push(b'\n');
                // The window of a fresh channel takes a line whole.
                match self.channel.write(&line) {
                    Ok(_) => self.authenticated = true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
                return Ok(true);
            }
            // A wrong password makes sudo read on: it must not get the script.
            if !self.request.greeting.ready() {
                return Ok(false);
            }
        }
        if !self.script_sent {
            self.script_sent = true;
            let input = std::mem::take(&mut self.request.input);
            self.script_left = input.len();
            for chunk in std::mem::take(&mut self.request.later).into_iter().rev() {
                self.pending.push_front(chunk);
            }
            self.pending.push_front(Chunk {
                bytes: input.into(),
                _permit: None,
            });
        }
        let mut moved = false;
        // No more than the socket pair holds, see `wire`.
        for _ in 0..3 {
            let Some(front) = self.pending.front() else {
                break;
            };
            if self.written >= front.bytes.len() {
                self.pending.pop_front();
                self.written = 0;
                continue;
            }
            match self.channel.write(&front.bytes[self.written..]) {
                Ok(0) => break,
                Ok(count) => {
                    moved = true;
                    self.written += count;
                    self.account(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.pending.is_empty() && self.request.closed && !self.eof_sent {
            match self.channel.send_eof() {
                Ok(()) => {
                    self.eof_sent = true;
                    moved = true;
                }
                Err(error) if blocked(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved)
    }

    fn account(&mut self, count: usize) {
        let script = count.min(self.script_left);
        self.script_left -= script;
        if count > script {
            self.payload += (count - script) as u64;
            if let Some(progress) = &self.request.progress {
                progress(self.payload);
            }
        }
    }

    fn conclude(&mut self, node: &str) -> Result<Output, RemoteError> {
        let status = self.exit();
        let told = self.last_words();
        if !self.request.greeting.ready() {
            let code = if let Exit::Code(code) = status {
                Some(code)
            } else {
                None
            };
            return Err(self.request.greeting.failure(
                node,
                self.request.sudo,
                code,
                status.to_string(),
            ));
        }
        if self.overflow {
            return Err(RemoteError::OutputTooLarge {
                node: node.into(),
                limit: self.request.limit,
            });
        }
        // libssh2 has 0 for a status that never came: a script that sshd closed the session of, for one.
        if status == Exit::Code(0) && told != Some(0) && self.request.greeting.hears_errors() {
            return Err(RemoteError::NoStatus { node: node.into() });
        }
        if let (Some(lines), false) = (&self.request.lines, self.line.is_empty()) {
            let _ = lines.send(String::from_utf8_lossy(&self.line).into_owned());
        }
        Ok(Output {
            status,
            stdout: std::mem::take(&mut self.stdout),
            stderr: std::mem::take(&mut self.stderr),
        })
    }

    /// The exit status that the script itself told, which is cut out of its standard error.
    fn last_words(&mut self) -> Option<i32> {
        let end = self.request.end.as_bytes();
        let at = self
            .stderr
            .windows(end.len())
            .rposition(|window| window == end)?;
        let words = &self.stderr[at + end.len()..];
        let length = words.iter().position(|byte| *byte == b'\n')?;
        let status = std::str::from_utf8(&words[..length]).ok()?.parse().ok();
        self.stderr.drain(at..=at + end.len() + length);
        status
    }

    fn exit(&self) -> Exit {
        // libssh2 says status 0 for a process that a signal ended.
        match self.channel.exit_signal() {
            Ok(signal) if signal.exit_signal.is_some() => {
                Exit::Signal(signal.exit_signal.unwrap_or_default())
            }
            _ => Exit::Code(self.channel.exit_status().unwrap_or(-1)),
        }
    }
}
