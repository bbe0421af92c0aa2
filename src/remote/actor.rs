//! The thread that owns a host's SSH session.
//!
//! It sleeps in `poll` on the network, on the tunnels' local ends and on a wake pipe, and never
//! waits inside libssh2. Requests come by channel; each is answered by a oneshot.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::RemoteError;
use super::process::{Step, blocked};
use super::relay::Moved;
use super::wire::Wire;
use super::work::{
    Command, Counters, Waiting, Wanted, Work, answer_process, deadline, fail_process,
};

/// Silence after which a keepalive is sent, and sent again.
const KEEPALIVE: Duration = Duration::from_secs(8);
/// Silence after which the connection is given up.
const DEAD: Duration = Duration::from_secs(25);

/// The session, and everything that goes on over it.
pub(super) struct Actor {
    pub(super) node: String,
    pub(super) session: ssh2::Session,
    pub(super) wire: Wire,
    pub(super) commands: Receiver<Command>,
    pub(super) wake: UnixStream,
    pub(super) counters: Arc<Counters>,
    pub(super) work: Work,
}

/// Why the thread ends.
pub(super) enum End {
    Closed,
    Lost(String),
}

impl Actor {
    pub(super) fn new(
        node: String,
        session: ssh2::Session,
        wire: Wire,
        commands: Receiver<Command>,
        wake: UnixStream,
        counters: Arc<Counters>,
    ) -> Self {
        session.set_keepalive(true, 2);
        Self {
            node,
            session,
            wire,
            commands,
            wake,
            counters,
            work: Work::default(),
        }
    }

    /// Serves until the last handle is gone, `Close` comes, or the connection ends.
    pub(super) fn run(mut self) {
        let end = match self.serve() {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.finish(&end);
    }

    fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let mut scratch = vec![0; 64 * 1024];
        loop {
            self.take_commands()?;
            self.expire();
            loop {
                let fed = self.wire.pump().map_err(End::Lost)?;
                let unread = self.wire.unread();
                let moved = self.step(&mut scratch)?;
                if !fed && !moved && unread == self.wire.unread() {
                    self.wire.send();
                    break;
                }
                self.take_commands()?;
                self.expire();
            }
            self.stay_alive()?;
            self.sleep()?;
        }
    }

    fn take_commands(&mut self) -> Result<(), End> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return Err(End::Closed),
                Err(TryRecvError::Empty) => return Ok(()),
                Ok(command) => self.accept(command),
            }
        }
    }

    fn accept(&mut self, command: Command) {
        match command {
            Command::Run { id, request } => {
                let within = request.deadline;
                self.enqueue(
                    id,
                    Wanted::Process {
                        request,
                        fed: Vec::new(),
                    },
                    within,
                );
            }
            Command::Tunnel {
                id,
                to,
                within,
                answer,
            } => {
                self.enqueue(id, Wanted::Tunnel { to, answer }, Some(within));
            }
            Command::Feed { id, chunk } => {
                if let Some(running) = self.work.processes.get_mut(&id) {
                    running.process.feed(chunk);
                } else if let Some(Wanted::Process { fed, .. }) = self.work.waiting(id) {
                    fed.push(chunk);
                }
            }
            Command::Finish { id } => {
                if let Some(running) = self.work.processes.get_mut(&id) {
                    running.process.finish();
                } else if let Some(Wanted::Process { request, fed }) = self.work.waiting(id) {
                    // Input that came already follows the script.
                    for chunk in fed.drain(..) {
                        request.later.push(chunk);
                    }
                    request.closed = true;
                }
            }
            Command::Cancel { id } => {
                if let Some(running) = self.work.processes.remove(&id) {
                    self.work
                        .closing
                        .push((running.process.into_parts().0, true));
                } else if let Some(relay) = self.work.relays.remove(&id) {
                    self.work.closing.push((relay.into_channel(), false));
                } else {
                    self.work.queue.retain(|waiting| waiting.id != id);
                    if let Some((_, waiting)) = &mut self.work.opening {
                        waiting.take_if(|waiting| waiting.id == id);
                    }
                }
            }
            Command::Close => {}
        }
    }

    fn enqueue(&mut self, id: u64, wanted: Wanted, within: Option<Duration>) {
        let deadline = within.map(|within| Instant::now() + within);
        self.work.queue.push_back(Waiting {
            id,
            wanted,
            within,
            deadline,
            refused: false,
        });
    }

    /// Answers what has waited too long.
    fn expire(&mut self) {
        let now = Instant::now();
        let late = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let work = &mut self.work;
        let expired: Vec<u64> = work
            .processes
            .iter()
            .filter(|(_, running)| late(running.deadline))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            if let Some(running) = work.processes.remove(&id) {
                let (channel, request) = running.process.into_parts();
                work.closing.push((channel, true));
                fail_process(request, deadline(&self.node, running.within));
            }
        }
        for _ in 0..work.queue.len() {
            if let Some(waiting) = work.queue.pop_front() {
                if late(waiting.deadline) {
                    waiting.expire(&self.node);
                } else {
                    work.queue.push_back(waiting);
                }
            }
        }
        if let Some((_, waiting)) = &mut work.opening
            && let Some(waiting) = waiting.take_if(|waiting| late(waiting.deadline))
        {
            waiting.expire(&self.node);
        }
    }

    /// One round over everything. True if anything moved.
    fn step(&mut self, scratch: &mut [u8]) -> Result<bool, End> {
        let mut moved = self.open()?;
        let mut ended = Vec::new();
        for (id, running) in &mut self.work.processes {
            let step = running
                .process
                .step(&self.node, self.wire.has_room(), scratch);
            self.wire.collect();
            match step {
                Step::Idle => {}
                Step::Moved => moved = true,
                Step::Done(answer) => ended.push((*id, answer, true)),
                Step::Failed(error) => ended.push((*id, Err(error), false)),
            }
        }
        for (id, answer, closed) in ended {
            moved = true;
            let Some(running) = self.work.processes.remove(&id) else {
                continue;
            };
            let (channel, request) = running.process.into_parts();
            if !closed {
                self.work.closing.push((channel, true));
            }
            if let Err(RemoteError::Lost { reason, .. }) = &answer {
                let reason = reason.clone();
                answer_process(request, answer);
                return Err(End::Lost(reason));
            }
            answer_process(request, answer);
        }
        let mut over = Vec::new();
        for (id, relay) in &mut self.work.relays {
            match relay.step(self.wire.has_room(), scratch) {
                Moved::Nothing => {}
                Moved::Something => moved = true,
                Moved::Over => over.push(*id),
            }
            self.wire.collect();
        }
        for id in over {
            moved = true;
            if let Some(relay) = self.work.relays.remove(&id) {
                self.work.closing.push((relay.into_channel(), false));
            }
        }
        self.work.closing.retain_mut(|(channel, _)| {
            match channel.close().and_then(|()| channel.wait_close()) {
                Err(error) if blocked(&error) => true,
                _ => {
                    moved = true;
                    false
                }
            }
        });
        self.wire.collect();
        Ok(moved)
    }

    fn stay_alive(&mut self) -> Result<(), End> {
        let silence = self.wire.alive().elapsed();
        if silence >= DEAD {
            return Err(End::Lost(format!(
                "no sign of life for {} s",
                silence.as_secs()
            )));
        }
        let due = self
            .work
            .keepalive
            .is_none_or(|sent| sent.elapsed() >= KEEPALIVE);
        if silence >= KEEPALIVE && due {
            self.work.keepalive = Some(Instant::now());
            self.session
                .keepalive_send()
                .map_err(|error| End::Lost(error.message().to_owned()))?;
            self.wire.pump().map_err(End::Lost)?;
        }
        Ok(())
    }

    fn wake_at(&self) -> Instant {
        let work = &self.work;
        let alive = self.wire.alive();
        let mut at = match work.keepalive {
            Some(sent) if sent > alive => sent + KEEPALIVE,
            _ => alive + KEEPALIVE,
        }
        .min(alive + DEAD);
        let waiting = work.queue.iter().chain(
            work.opening
                .iter()
                .filter_map(|(_, waiting)| waiting.as_ref()),
        );
        let deadlines = waiting
            .filter_map(|waiting| waiting.deadline)
            .chain(
                work.processes
                    .values()
                    .filter_map(|running| running.deadline),
            )
            .chain(
                work.processes
                    .values()
                    .filter_map(|running| running.process.patience()),
            );
        for deadline in deadlines {
            at = at.min(deadline);
        }
        // One that has passed is looked at when the next may be opened.
        let refused = work.refused_until.filter(|until| *until > Instant::now());
        if let (Some(until), false) = (refused, work.queue.is_empty()) {
            at = at.min(until);
        }
        at
    }

    fn sleep(&mut self) -> Result<(), End> {
        let pause =
            self.wake_at().saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let mut net = PollFlags::empty();
        net.set(PollFlags::IN, self.wire.wants_read());
        net.set(PollFlags::OUT, self.wire.wants_write());
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        // Without any interest a hang-up would still be reported, again and again.
        let net_at = (!net.is_empty()).then(|| {
            fds.push(PollFd::from_borrowed_fd(self.wire.fd(), net));
            fds.len() - 1
        });
        let mut relays = Vec::new();
        for (id, relay) in &self.work.relays {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, relay.wants_read());
            flags.set(PollFlags::OUT, relay.wants_write());
            if !flags.is_empty() || relay.half_closed() {
                relays.push((*id, fds.len()));
                fds.push(PollFd::from_borrowed_fd(relay.fd(), flags));
            }
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(pause.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(End::Lost(error.to_string())),
        }
        let woken = !fds[0].revents().is_empty();
        let _ = net_at;
        let hung: Vec<u64> = relays
            .into_iter()
            .filter(|(_, at)| {
                fds[*at]
                    .revents()
                    .intersects(PollFlags::HUP | PollFlags::ERR)
            })
            .map(|(id, _)| id)
            .collect();
        drop(fds);
        for id in hung {
            if let Some(relay) = self.work.relays.get_mut(&id) {
                relay.hung_up();
            }
        }
        if woken {
            drain(&self.wake);
        }
        Ok(())
    }

    /// Answers everything that waits, and closes the connection without waiting for anybody.
    fn finish(self, end: &End) {
        let error = match end {
            End::Closed => RemoteError::Closed {
                node: self.node.clone(),
            },
            End::Lost(reason) => RemoteError::Lost {
                node: self.node.clone(),
                reason: reason.clone(),
            },
        };
        if matches!(end, End::Closed) {
            // Polite, but not waited for.
            let _ = self.session.disconnect(None, "done", None);
        }
        // First the wire: then libssh2 reads an end where it would otherwise wait for answers.
        self.wire.end();
        let Work {
            queue,
            opening,
            processes,
            relays,
            closing,
            ..
        } = self.work;
        for waiting in queue
            .into_iter()
            .chain(opening.and_then(|(_, waiting)| waiting))
        {
            waiting.fail(error.clone());
        }
        for running in processes.into_values() {
            fail_process(running.process.into_parts().1, error.clone());
        }
        drop((relays, closing));
        // Requests that came too late learn it too.
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Run { request, .. } => fail_process(*request, error.clone()),
                Command::Tunnel { answer, .. } => {
                    let _ = answer.send(Err(error.clone().into()));
                }
                _ => {}
            }
        }
    }
}

pub(super) fn drain(wake: &UnixStream) {
    let mut buffer = [0; 256];
    while matches!((&*wake).read(&mut buffer), Ok(count) if count == buffer.len()) {}
}

/// Waits, in the connect phase, for the network or for the caller to give up.
pub(super) fn wait(wire: &Wire, wake: &UnixStream, until: Instant) {
    let pause = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    let mut net = PollFlags::IN;
    net.set(PollFlags::OUT, wire.wants_write());
    let mut fds = [
        PollFd::from_borrowed_fd(wire.fd(), net),
        PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN),
    ];
    let timeout = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(1),
        tv_nsec: i64::from(pause.subsec_nanos()),
    };
    // A failure shows as a deadline that passes.
    let _ = poll(&mut fds, Some(&timeout));
}
