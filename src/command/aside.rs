//! Work that may block, on a thread of its own: a terminal that is paused, a pipe that nobody reads or a home directory on
//! a network must not hold up a run, whose lock lives of its heartbeats.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Pause between two ticks.
const TICK: Duration = Duration::from_millis(250);

/// What the thread gets.
pub(super) enum Turn<T> {
    /// Something to work on.
    Work(T),
    /// A quarter of a second has gone by.
    Tick,
}

enum Word<T> {
    Work(T),
    /// Answered by its end.
    Drain(mpsc::Sender<()>),
}

/// The sending side. The thread ends with the last of them.
pub(super) struct Aside<T>(mpsc::Sender<Word<T>>);

impl<T> Clone for Aside<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + 'static> Aside<T> {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(
        name: &str,
        mut work: impl FnMut(Turn<T>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, words) = mpsc::channel();
        let go_on = move || {
            let mut ticked = Instant::now();
            loop {
                match words.recv_timeout(TICK.saturating_sub(ticked.elapsed())) {
                    Ok(Word::Work(item)) => work(Turn::Work(item)),
                    Ok(Word::Drain(answer)) => drop(answer),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if ticked.elapsed() >= TICK {
                    work(Turn::Tick);
                    ticked = Instant::now();
                }
            }
        };
        std::thread::Builder::new()
            .name(name.into())
            .spawn(go_on)
            .map(|_| Self(sender))
    }

    /// Returns at once.
    pub(super) fn send(&self, item: T) {
        // The thread ends before its senders only by a panic, which has been told.
        let _ = self.0.send(Word::Work(item));
    }

    /// Waits until all that was sent before is done; `within` a time, where one is given.
    pub(super) fn drain(&self, within: Option<Duration>) {
        let (answer, done) = mpsc::channel();
        if self.0.send(Word::Drain(answer)).is_err() {
            return;
        }
        // Either way it answers by hanging up.
        match within {
            Some(within) => drop(done.recv_timeout(within)),
            None => drop(done.recv()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn who_sends_does_not_wait_and_who_drains_does() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let aside = {
            let done = done.clone();
            Aside::start("slow", move |turn| {
                if let Turn::Work(number) = turn {
                    std::thread::sleep(Duration::from_millis(100));
                    done.lock().unwrap().push(number);
                }
            })
            .unwrap()
        };
        let began = Instant::now();
        (0..3).for_each(|number| aside.send(number));
        aside.drain(Some(Duration::from_millis(1)));
        assert!(began.elapsed() < Duration::from_millis(100));
        aside.drain(None);
        assert_eq!(*done.lock().unwrap(), [0, 1, 2]);
        assert!(began.elapsed() >= Duration::from_millis(300));
    }

    #[test]
    fn ticks_come_between_and_without_work() {
        let ticks = Arc::new(Mutex::new(0));
        let aside = {
            let ticks = ticks.clone();
            Aside::start("ticks", move |turn| {
                if matches!(turn, Turn::Tick) {
                    *ticks.lock().unwrap() += 1;
                }
            })
            .unwrap()
        };
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(600) {
            aside.send(());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(*ticks.lock().unwrap() >= 1, "while work comes all the time");
        let before = *ticks.lock().unwrap();
        std::thread::sleep(Duration::from_millis(600));
        assert!(*ticks.lock().unwrap() > before, "while none comes");
    }
}
