//! The log of a run: JSON lines on the operator's side, without secrets.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use super::aside::{Aside, Turn};
use super::out;
use crate::apply::Event;
use crate::render::json::{self, event::Stream};

/// A log that is being written. Where none can be, the run goes on without.
pub struct RunLog(Option<Kept>);

struct Kept {
    path: PathBuf,
    writer: Aside<(OffsetDateTime, Event)>,
}

impl RunLog {
    /// Creates the log in `$XDG_STATE_HOME/quorate/runs`, else `~/.local/state/quorate/runs`.
    pub fn create(run_id: &str, command: &str) -> Self {
        let Some(dir) = dir() else {
            return Self(None);
        };
        let name = format!(
            "{}-{command}-{run_id}.jsonl",
            OffsetDateTime::now_utc().unix_timestamp()
        );
        let path = dir.join(name);
        let writer = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .and_then(|()| {
                std::fs::OpenOptions::new()
                    .append(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)
            })
            .and_then(writer);
        match writer {
            Ok(writer) => Self(Some(Kept { path, writer })),
            Err(error) => {
                out::tell(&format!(
                    "Warning: no run log can be kept in {}: {error}\n",
                    dir.display()
                ));
                Self(None)
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|kept| kept.path.as_path())
    }

    /// Writes events. Nobody waits for the disk.
    pub fn writer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let writer = self.0.as_ref().map(|kept| kept.writer.clone());
        move |event| {
            if let Some(writer) = &writer {
                writer.send((OffsetDateTime::now_utc(), event.clone()));
            }
        }
    }

    /// Waits until all is written, or for so long.
    pub fn drain(&self, within: Duration) {
        if let Some(kept) = &self.0 {
            kept.writer.drain(Some(within));
        }
    }
}

fn writer(mut file: File) -> io::Result<Aside<(OffsetDateTime, Event)>> {
    let mut stream = Stream::default();
    Aside::start("run log", move |turn| {
        if let Turn::Work((at, event)) = turn {
            for line in stream.on(at, &event) {
                // A run goes on without its log.
                let _ = file.write_all(json::line(&line).as_bytes());
            }
        }
    })
}

fn dir() -> Option<PathBuf> {
    Some(state_dir()?.join("runs"))
}

/// `$XDG_STATE_HOME/quorate`, else `~/.local/state/quorate`.
pub fn state_dir() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))?;
    Some(state.join("quorate"))
}
