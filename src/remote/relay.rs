//! One tunnel, as the actor sees it: a channel on one side, a socket pair towards its user on the other.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::process::blocked;

/// Bytes that are moved at once.
const CHUNK: usize = 32 * 1024;

/// A tunnel with its channel.
pub(super) struct Relay {
    channel: ssh2::Channel,
    local: UnixStream,
    /// From the user to the channel.
    outbound: Buffer,
    /// From the channel to the user.
    inbound: Buffer,
    /// The user has closed its sending side.
    local_ended: bool,
    eof_sent: bool,
    /// The user was told that the remote side has ended.
    remote_ended: bool,
    /// Nothing can be moved any more.
    broken: bool,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    fn pending(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn is_empty(&self) -> bool {
        self.start >= self.bytes.len()
    }

    fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.start = 0;
    }
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing could be done now.
    Nothing,
    /// Something moved.
    Something,
    /// The tunnel is over; the channel is to be closed.
    Over,
}

impl Relay {
    /// `local` must not block.
    pub(super) fn new(channel: ssh2::Channel, local: UnixStream) -> Self {
        Self {
            channel,
            local,
            outbound: Buffer::default(),
            inbound: Buffer::default(),
            local_ended: false,
            eof_sent: false,
            remote_ended: false,
            broken: false,
        }
    }

    pub(super) fn into_channel(self) -> ssh2::Channel {
        self.channel
    }

    /// The user's side, to wait on.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.local.as_fd()
    }

    /// The user has dropped its side. What it wrote before is still moved.
    pub(super) fn hung_up(&mut self) {
        if self.eof_sent {
            self.broken = true;
        }
    }

    /// Whether only the user's going away is to be waited for.
    pub(super) fn half_closed(&self) -> bool {
        self.eof_sent
    }

    /// Whether to wait until the user has written.
    pub(super) fn wants_read(&self) -> bool {
        self.outbound.is_empty() && !self.local_ended
    }

    /// Whether to wait until the user has read.
    pub(super) fn wants_write(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// Moves what can be moved without waiting. `room` says whether the channel may be written to.
    pub(super) fn step(&mut self, room: bool, scratch: &mut [u8]) -> Moved {
        let mut moved = false;
        moved |= self.feed_user(scratch);
        if room {
            moved |= self.feed_channel(scratch);
        }
        if self.broken || (self.remote_ended && (self.eof_sent || self.local_ended)) {
            return Moved::Over;
        }
        if moved {
            Moved::Something
        } else {
            Moved::Nothing
        }
    }

    fn feed_user(&mut self, scratch: &mut [u8]) -> bool {
        let mut moved = false;
        for _ in 0..4 {
            if self.inbound.is_empty() {
                match self.channel.read(&mut scratch[..CHUNK]) {
                    Ok(0) => {
                        if self.channel.eof() && !self.remote_ended {
                            self.remote_ended = true;
                            moved = true;
                            // Fails only if the user is gone, which the next read shows.
                            let _ = self.local.shutdown(Shutdown::Write);
                        }
                        break;
                    }
                    Ok(count) => self.inbound.set(&scratch[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        self.broken = true;
                        break;
                    }
                }
            }
            match self.local.write(self.inbound.pending()) {
                Ok(count) => {
                    moved = true;
                    self.inbound.start += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        moved
    }

    fn feed_channel(&mut self, scratch: &mut [u8]) -> bool {
        let mut moved = false;
        for _ in 0..3 {
            if self.outbound.is_empty() && !self.local_ended {
                match self.local.read(&mut scratch[..CHUNK]) {
                    Ok(0) => {
                        self.local_ended = true;
                        moved = true;
                    }
                    Ok(count) => self.outbound.set(&scratch[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => {
                        self.broken = true;
                        break;
                    }
                }
            }
            if self.outbound.is_empty() {
                break;
            }
            match self.channel.write(self.outbound.pending()) {
                Ok(count) => {
                    moved |= count > 0;
                    self.outbound.start += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        if self.local_ended && self.outbound.is_empty() && !self.eof_sent && !self.broken {
            match self.channel.send_eof() {
                Ok(()) => {
                    self.eof_sent = true;
                    moved = true;
                }
                Err(error) if blocked(&error) => {}
                Err(_) => self.broken = true,
            }
        }
        moved
    }
}
