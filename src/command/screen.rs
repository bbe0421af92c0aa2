//! What a run shows while it goes on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use super::apply::RunArgs;
use crate::apply::Event;
use crate::render::Style;
use crate::render::progress::{Progress, Wanted};

/// The progress on standard output, shared by everything that has something to tell.
#[derive(Clone)]
pub(super) struct Screen(Arc<Mutex<Progress>>);

impl Screen {
    pub(super) fn new(args: &RunArgs, style: Style) -> Self {
        let wanted = if args.json {
            Wanted::Json
        } else {
            Wanted::Text
        };
        Self(Arc::new(Mutex::new(Progress::stdout(wanted, style))))
    }

    pub(super) fn show(&self, event: &Event) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .on(OffsetDateTime::now_utc(), event);
    }

    /// Lets the progress say what has been under way for long, until the task is aborted.
    pub(super) fn keep_ticking(&self) -> tokio::task::JoinHandle<()> {
        let screen = self.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(250));
            loop {
                tick.tick().await;
                screen
                    .0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .tick(OffsetDateTime::now_utc());
            }
        })
    }
}
