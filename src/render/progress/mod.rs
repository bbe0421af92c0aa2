//! What an apply shows while it runs: lines that move on a terminal, lines that are appended elsewhere, JSON lines for
//! programs. All three are fed by the same events.
//!
//! Output that cannot be written never stops an apply: a run whose terminal is gone goes on to its end.

mod narrator;
mod terminal;

use std::io::{self, Write};

use indicatif::ProgressDrawTarget;
use time::OffsetDateTime;

use super::event::Event;
use super::json::{self, event::Stream};
use super::style::Style;
pub(super) use narrator::LOCK_PATIENCE;
use narrator::Narrator;
use terminal::Terminal;

/// Shows what happens. It is `Send`; give it to the task that performs the plan.
pub struct Progress {
    face: Face,
}

enum Face {
    Terminal(Terminal),
    Lines {
        narrator: Narrator,
        out: Box<dyn Write + Send>,
    },
    Json {
        stream: Stream,
        begun: bool,
        out: Box<dyn Write + Send>,
    },
    None,
}

/// Which face is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// For people: moving on a terminal, appended elsewhere.
    Text,
    /// For programs.
    Json,
    /// Nothing.
    Nothing,
}

impl Progress {
    /// The face for standard output.
    pub fn stdout(wanted: Wanted, style: Style) -> Self {
        match wanted {
            Wanted::Json => Self::json(Box::new(io::stdout())),
            Wanted::Nothing => Self::none(),
            Wanted::Text => {
                let target = ProgressDrawTarget::stdout();
                if target.is_hidden() {
                    Self::lines(Box::new(io::stdout()), style)
                } else {
                    Self::terminal(target, style)
                }
            }
        }
    }

    /// One moving line per running action.
    pub fn terminal(target: ProgressDrawTarget, style: Style) -> Self {
        Self {
            face: Face::Terminal(Terminal::new(target, style)),
        }
    }

    /// Lines that are appended.
    pub fn lines(out: Box<dyn Write + Send>, style: Style) -> Self {
        let narrator = Narrator::new(style, true);
        Self {
            face: Face::Lines { narrator, out },
        }
    }

    /// JSON lines.
    pub fn json(out: Box<dyn Write + Send>) -> Self {
        Self {
            face: Face::Json {
                stream: Stream::default(),
                begun: false,
                out,
            },
        }
    }

    /// Nothing is shown.
    pub fn none() -> Self {
        Self { face: Face::None }
    }

    /// Takes in what happened at a time.
    pub fn on(&mut self, at: OffsetDateTime, event: &Event) {
        match &mut self.face {
            Face::Terminal(terminal) => terminal.on(at, event),
            Face::Lines { narrator, out } => put(out, &narrator.on(at, event)),
            Face::Json { stream, begun, out } => {
                let first = (!*begun).then(|| Stream::version(at));
                *begun = true;
                let text: String = first
                    .into_iter()
                    .chain(stream.on(at, event))
                    .map(|line| json::line(&line))
                    .collect();
                put(out, &text);
            }
            Face::None => {}
        }
    }

    /// Time passes; to be called a few times a second.
    pub fn tick(&mut self, at: OffsetDateTime) {
        match &mut self.face {
            Face::Terminal(terminal) => terminal.tick(at),
            Face::Lines { narrator, out } => put(out, &narrator.tick(at)),
            Face::Json { stream, out, .. } => {
                let text: String = stream.tick(at).iter().map(json::line).collect();
                put(out, &text);
            }
            Face::None => {}
        }
    }
}

fn put(out: &mut Box<dyn Write + Send>, text: &str) {
    if !text.is_empty() {
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
