//! The log of a run: JSON lines on the operator's side, without secrets.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use time::OffsetDateTime;

use crate::apply::Event;
use crate::render::json::{self, event::Stream};

/// A log that is being written. Where none can be, the run goes on without.
pub struct RunLog {
    file: Option<Arc<Mutex<File>>>,
    path: Option<PathBuf>,
}

impl RunLog {
    /// Creates the log in `$XDG_STATE_HOME/quorate/runs`, else `~/.local/state/quorate/runs`.
    pub fn create(run_id: &str, command: &str) -> Self {
        let Some(dir) = dir() else {
            return Self {
                file: None,
                path: None,
            };
        };
        let name = format!(
            "{}-{command}-{run_id}.jsonl",
            OffsetDateTime::now_utc().unix_timestamp()
        );
        let path = dir.join(name);
        let file = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .and_then(|()| {
                std::fs::OpenOptions::new()
                    .append(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)
            });
        match file {
            Ok(file) => Self {
                file: Some(Arc::new(Mutex::new(file))),
                path: Some(path),
            },
            Err(error) => {
                anstream::eprintln!(
                    "Warning: no run log can be kept in {}: {error}",
                    dir.display()
                );
                Self {
                    file: None,
                    path: None,
                }
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Writes events.
    pub fn writer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let file = self.file.clone();
        let stream = Mutex::new(Stream::default());
        move |event| {
            let (Some(file), Ok(mut stream)) = (&file, stream.lock()) else {
                return;
            };
            for line in stream.on(OffsetDateTime::now_utc(), event) {
                append(file, &json::line(&line));
            }
        }
    }
}

fn append(file: &Mutex<File>, line: &str) {
    if let Ok(mut file) = file.lock() {
        let _ = file.write_all(line.as_bytes());
    }
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
