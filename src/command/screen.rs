//! What a run shows while it goes on.

use std::time::Duration;

use time::OffsetDateTime;

use super::apply::RunArgs;
use super::aside::{Aside, Turn};
use super::out;
use crate::apply::Event;
use crate::error::Failure;
use crate::render::Style;
use crate::render::progress::{Progress, Wanted};

/// Standard output, shared by everything that has something to tell. Nobody waits for it but who asks to.
#[derive(Clone)]
pub(super) struct Screen(Aside<Shown>);

enum Shown {
    Event(OffsetDateTime, Box<Event>),
    Text(String),
}

impl Screen {
    /// # Errors
    /// The system gives no thread.
    pub(super) fn new(args: &RunArgs, style: Style) -> Result<Self, Failure> {
        let wanted = if args.json {
            Wanted::Json
        } else {
            Wanted::Text
        };
        let mut progress = Progress::stdout(wanted, style);
        let aside = Aside::start("screen", move |turn| match turn {
            Turn::Work(Shown::Event(at, event)) => progress.on(at, &event),
            // A run goes on to its end without a screen.
            Turn::Work(Shown::Text(text)) => drop(out::print(&text)),
            Turn::Tick => progress.tick(OffsetDateTime::now_utc()),
        })?;
        Ok(Self(aside))
    }

    pub(super) fn show(&self, event: &Event) {
        let event = Box::new(event.clone());
        self.0.send(Shown::Event(OffsetDateTime::now_utc(), event));
    }

    /// Prints a text after all that is to be shown before.
    pub(super) fn print(&self, text: String) {
        self.0.send(Shown::Text(text));
    }

    /// Waits until all is shown; `within` a time, where one is given.
    pub(super) fn drain(&self, within: Option<Duration>) {
        self.0.drain(within);
    }
}
