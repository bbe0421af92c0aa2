//! The bytes between libssh2 and the network.
//!
//! libssh2 gets one end of a socket pair, not the network's socket, and this module moves the bytes.
//! So nothing arrives at libssh2 behind our back: after a round in which nothing was fed, nothing was
//! read and nothing moved, every channel has seen everything there is, and the thread may sleep. (With the network's
//! own socket, reading for one channel can swallow the packet another channel waits for.) It also
//! means that libssh2 never meets a full send buffer, which it handles badly: a half-sent packet can
//! be finished only by the very call that began it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Bytes that wait for the network at most before channels stop writing.
const OUT_HIGH: usize = 512 * 1024;
/// Bytes taken at once.
const CHUNK: usize = 64 * 1024;

/// The network's side: TCP, or a tunnel through a jump host.
pub(super) enum Net {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A tunnel of the jump host's session.
    Tunnel(UnixStream),
}

impl Net {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&mut &*stream).read(buffer),
            Self::Tunnel(stream) => (&mut &*stream).read(buffer),
        }
    }

    fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&mut &*stream).write(buffer),
            Self::Tunnel(stream) => (&mut &*stream).write(buffer),
        }
    }

    /// Acknowledges at once. Until the first command sshd leaves Nagle's algorithm on, and then
    /// holds its second small answer back until our acknowledgement, which is otherwise delayed by
    /// 40 ms. The system forgets this, so it is said after each read.
    fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Tcp(stream) = self {
            // Only speed is at stake.
            let _ = rustix::net::sockopt::set_tcp_quickack(stream, true);
        }
    }

    fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)
            }
            Self::Tunnel(stream) => stream.set_nonblocking(true),
        }
    }

    fn shutdown(&self) {
        // An error means that it is down already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Tunnel(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tunnel(stream) => stream.as_fd(),
        }
    }
}

/// Moves bytes between the network and libssh2's end of the pair.
pub(super) struct Wire {
    net: Net,
    inner: UnixStream,
    /// A second handle on libssh2's end, to see what it has left unread.
    outer: UnixStream,
    incoming: Queue,
    outgoing: Queue,
    scratch: Box<[u8]>,
    /// The network ended; what it said last may still wait to be fed.
    ended: Option<String>,
    /// The network did not take everything at once.
    backlog: bool,
    /// When the network last gave something, or took something after it had not.
    alive: Instant,
}

/// Bytes on their way, with room reused.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    fn pending(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > OUT_HIGH {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

impl Wire {
    /// Returns the wire and libssh2's end of it.
    pub(super) fn new(net: Net) -> io::Result<(Self, UnixStream)> {
        net.prepare()?;
        let (inner, outer) = UnixStream::pair()?;
        inner.set_nonblocking(true)?;
        outer.set_nonblocking(true)?;
        // As much as the system allows: one round of channel writes fits.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&outer, 1 << 20);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&inner, 1 << 20);
        let wire = Self {
            net,
            inner,
            outer: outer.try_clone()?,
            incoming: Queue::default(),
            outgoing: Queue::default(),
            scratch: vec![0; CHUNK].into(),
            ended: None,
            backlog: false,
            alive: Instant::now(),
        };
        Ok((wire, outer))
    }

    /// Takes what libssh2 has written. Called after each use of libssh2, so that its buffer stays empty.
    pub(super) fn collect(&mut self) {
        loop {
            match (&self.inner).read(&mut self.scratch) {
                Ok(count) if count > 0 => self
                    .outgoing
                    .bytes
                    .extend_from_slice(&self.scratch[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nothing more, or libssh2's end is closed, which happens only when we end.
                _ => return,
            }
        }
    }

    /// Moves what can be moved without waiting. True if libssh2 was fed something.
    ///
    /// # Errors
    /// The network ended, and libssh2 has been fed everything that it said.
    pub(super) fn pump(&mut self) -> Result<bool, String> {
        self.collect();
        self.send();
        let mut fed = false;
        if self.incoming.len() == 0 && self.ended.is_none() {
            self.receive();
        }
        while self.incoming.len() > 0 {
            match (&self.inner).write(self.incoming.pending()) {
                Ok(count) => {
                    fed |= count > 0;
                    self.incoming.consume(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        match &self.ended {
            Some(reason) if !fed && self.incoming.len() == 0 => Err(reason.clone()),
            _ => Ok(fed),
        }
    }

    /// Sends what the network takes; an end shows at the next [`Wire::pump`].
    pub(super) fn send(&mut self) {
        while self.outgoing.len() > 0 && self.ended.is_none() {
            match self.net.write(self.outgoing.pending()) {
                Ok(0) => self.ended = Some("the connection was closed".into()),
                Ok(count) => {
                    // What fits into the system's buffer says nothing about the other side; that
                    // the buffer has emptied does.
                    if std::mem::take(&mut self.backlog) {
                        self.alive = Instant::now();
                    }
                    self.outgoing.consume(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.backlog = true;
                    return;
                }
                Err(error) => {
                    // What the host said before it hung up is still to be read.
                    self.receive();
                    self.ended = Some(error.to_string());
                }
            }
        }
    }

    fn receive(&mut self) {
        let result = loop {
            match self.net.read(&mut self.scratch) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        if let Ok(count) = result {
            self.incoming
                .bytes
                .extend_from_slice(&self.scratch[..count]);
        }
        match result {
            Ok(0) => self.ended = Some("the host closed the connection".into()),
            Ok(_) => {
                self.net.acknowledge();
                self.alive = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.ended = Some(error.to_string()),
        }
    }

    /// Bytes that libssh2 has left unread. It reads one buffer at a time and then says that it would
    /// have to wait, even where it would not; so as long as this changes, it is to be asked again.
    pub(super) fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.outer).unwrap_or(0)
    }

    /// Whether channels may write more.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing.len() < OUT_HIGH
    }

    /// Whether bytes wait for the network to take them.
    pub(super) fn wants_write(&self) -> bool {
        self.outgoing.len() > 0
    }

    /// Whether the network should be listened to: what came before has been fed.
    pub(super) fn wants_read(&self) -> bool {
        self.incoming.len() == 0 && self.ended.is_none()
    }

    /// When the other side last showed that it is there; now, while we ourselves do not listen.
    pub(super) fn alive(&self) -> Instant {
        if self.incoming.len() > 0 {
            Instant::now()
        } else {
            self.alive
        }
    }

    /// The network's file descriptor, to wait on.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.net.fd()
    }

    /// Ends both sides: libssh2 reads an end instead of waiting, the network is closed.
    pub(super) fn end(mut self) {
        self.collect();
        self.send();
        self.net.shutdown();
    }
}
