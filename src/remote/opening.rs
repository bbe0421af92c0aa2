//! Opening channels, one after the other, since libssh2 can have one under way.

use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::actor::{Actor, End};
use super::error::{RemoteError, TunnelError};
use super::process::{Process, blocked};
use super::relay::Relay;
use super::work::{Opening, Running, Waiting, Wanted};

/// Pause before a refused session is tried again.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// A session counts at sshd until its process is reaped, a moment after it was closed here.
const REAPED: Duration = Duration::from_secs(10);

/// Pause before a session is tried again that only one of these can hold up.
const REAPED_PAUSE: Duration = Duration::from_millis(50);

impl Actor {
    /// Goes on with opening channels, one after the other.
    pub(super) fn open(&mut self) -> Result<bool, End> {
        let mut moved = false;
        loop {
            if self.work.opening.is_none() {
                let Some(waiting) = self.work.next() else {
                    return Ok(moved);
                };
                let opening = match &waiting.wanted {
                    Wanted::Process { .. } => Opening::Session,
                    Wanted::Tunnel { to, .. } => Opening::Direct(to.clone()),
                };
                self.work.opening = Some((opening, Some(waiting)));
            }
            let Some((opening, waiting)) = self.work.opening.take() else {
                return Ok(moved);
            };
            let result = match &opening {
                // The standard window of 2 MiB and packets of 32 KiB.
                Opening::Session => self.session.channel_session(),
                Opening::Direct(to) => self.session.channel_direct_tcpip(&to.host, to.port, None),
            };
            self.wire.collect();
            match result {
                Err(error) if blocked(&error) => {
                    self.work.opening = Some((opening, waiting));
                    return Ok(moved);
                }
                Ok(channel) => self.opened(channel, &opening, waiting),
                Err(error) => self.not_opened(&error, waiting)?,
            }
            moved = true;
        }
    }

    fn opened(&mut self, channel: ssh2::Channel, opening: &Opening, waiting: Option<Waiting>) {
        let counter = match opening {
            Opening::Session => &self.counters.sessions,
            Opening::Direct(_) => &self.counters.tunnels,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if matches!(opening, Opening::Session) {
            self.work.refused_alone = None;
        }
        let Some(Waiting {
            id,
            wanted,
            within,
            deadline,
            ..
        }) = waiting
        else {
            self.work
                .closing
                .push((channel, matches!(opening, Opening::Session)));
            return;
        };
        match wanted {
            Wanted::Process { request, fed } => {
                let mut process = Process::new(channel, *request);
                for chunk in fed {
                    process.feed(chunk);
                }
                self.work.processes.insert(
                    id,
                    Running {
                        process,
                        within,
                        deadline,
                    },
                );
            }
            Wanted::Tunnel { to, answer } => match local_pair() {
                Ok((ours, theirs)) => {
                    if answer.send(Ok(theirs)).is_ok() {
                        self.work.relays.insert(id, Relay::new(channel, ours));
                    } else {
                        self.work.closing.push((channel, false));
                    }
                }
                Err(error) => {
                    self.work.closing.push((channel, false));
                    let reason = format!("no local socket for the tunnel to {to}: {error}");
                    let _ = answer.send(Err(RemoteError::Lost {
                        node: self.node.clone(),
                        reason,
                    }
                    .into()));
                }
            },
        }
    }

    /// Whether sshd refuses a session though none of this connection is left that will end by itself.
    fn refused_for_good(&mut self) -> bool {
        if self.work.ending() {
            self.work.refused_alone = None;
            return false;
        }
        let since = *self.work.refused_alone.get_or_insert_with(Instant::now);
        self.counters.sessions.load(Ordering::Relaxed) == 0 || since.elapsed() >= REAPED
    }

    fn not_opened(&mut self, error: &ssh2::Error, waiting: Option<Waiting>) -> Result<(), End> {
        if error.code() != ssh2::ErrorCode::Session(-21)
            && error.code() != ssh2::ErrorCode::Session(-9)
        {
            if let Some(waiting) = waiting {
                self.work.queue.push_front(waiting);
            }
            return Err(End::Lost(error.message().to_owned()));
        }
        let Some(mut waiting) = waiting else {
            return Ok(());
        };
        let prohibited = error.message().contains("administratively prohibited");
        match waiting.wanted {
            Wanted::Process { .. } if prohibited || self.refused_for_good() => {
                waiting.fail(RemoteError::Sessions {
                    node: self.node.clone(),
                });
            }
            Wanted::Process { .. } => {
                waiting.refused = true;
                let pause = match self.work.refused_alone {
                    None => REFUSED_PAUSE,
                    Some(_) => REAPED_PAUSE,
                };
                self.work.refused_until = Some(Instant::now() + pause);
                self.work.queue.push_front(waiting);
            }
            Wanted::Tunnel { to, answer } => {
                let node = self.node.clone();
                let _ = answer.send(Err(if prohibited {
                    TunnelError::Prohibited { node, address: to }
                } else {
                    TunnelError::Refused { node, address: to }
                }));
            }
        }
        Ok(())
    }
}

fn local_pair() -> std::io::Result<(UnixStream, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((ours, theirs))
}
