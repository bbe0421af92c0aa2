//! Long-lived processes.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::error::RemoteError;
use super::host::{Host, Job, Ticket};
use super::process::{Chunk, Output};

/// A root process that talks in lines. It ends with the session, or when this is dropped: its
/// standard input then ends.
pub struct Held {
    ticket: Ticket,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Host {
    /// Starts a long-lived root process from a shell script, as [`Host::script`] but without a time
    /// limit and with standard input left to it. Returns when the script begins, which it has to
    /// `within` that time.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn hold(&self, text: &[u8], within: Duration) -> Result<Held, RemoteError> {
        let (sender, lines) = mpsc::unbounded_channel();
        let (started, begun) = oneshot::channel();
        let mut ticket = self.start(Job {
            text,
            deadline: None,
            closed: false,
            lines: Some(sender),
            started: Some(started),
            progress: None,
        })?;
        match tokio::time::timeout(within, begun).await {
            Ok(Ok(Ok(()))) => Ok(Held { ticket, lines }),
            Ok(Ok(Err(error))) => Err(error),
            Err(_) => Err(RemoteError::Deadline {
                node: self.node().to_owned(),
                seconds: within.as_secs(),
            }),
            Ok(Err(_)) => Err(ticket
                .output()
                .await
                .err()
                .unwrap_or_else(|| RemoteError::Closed {
                    node: self.node().to_owned(),
                })),
        }
    }
}

impl Held {
    /// The next line of its standard output without the line end; `None` when it has ended.
    pub async fn next_line(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// Writes a line to its standard input, in the background.
    ///
    /// # Errors
    /// The session is closed.
    pub fn write_line(&self, line: &str) -> Result<(), RemoteError> {
        let mut bytes = line.as_bytes().to_vec();
        bytes.push(b'\n');
        self.ticket.input().feed(Chunk {
            bytes: bytes.into(),
            _permit: None,
        })
    }

    /// Waits for its end. The standard output is empty, since it came as lines.
    ///
    /// # Errors
    /// The session ended before it.
    pub async fn output(mut self) -> Result<Output, RemoteError> {
        self.ticket.output().await
    }

    /// Ends its standard input and waits up to `patience` for its end.
    ///
    /// # Errors
    /// The session ended before it, or it did not end in time.
    pub async fn close(mut self, patience: Duration) -> Result<Output, RemoteError> {
        self.ticket.input().finish()?;
        match tokio::time::timeout(patience, self.ticket.output()).await {
            Ok(result) => result,
            Err(_) => Err(RemoteError::Deadline {
                node: self.ticket.node().to_owned(),
                seconds: patience.as_secs(),
            }),
        }
    }
}
