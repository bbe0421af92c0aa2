//! The face on a terminal: a moving line per running action, and above them what has ended.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use time::OffsetDateTime;

use super::super::event::Event;
use super::super::style::Style;
use super::narrator::Narrator;
use crate::action::ActionId;

pub(super) struct Terminal {
    narrator: Narrator,
    bars: BTreeMap<ActionId, ProgressBar>,
    all: MultiProgress,
    style: ProgressStyle,
}

impl Terminal {
    pub fn new(target: ProgressDrawTarget, style: Style) -> Self {
        let template = if style.color {
            "{spinner:.cyan} {prefix:.bold}: {wide_msg}"
        } else {
            "{spinner} {prefix}: {wide_msg}"
        };
        Self {
            narrator: Narrator::new(style, false),
            bars: BTreeMap::new(),
            all: MultiProgress::with_draw_target(target),
            style: ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        }
    }

    pub fn on(&mut self, at: OffsetDateTime, event: &Event) {
        let text = self.narrator.on(at, event);
        if matches!(event, Event::Bytes { .. } | Event::Waiting { .. }) && text.is_empty() {
            // These come often; the next tick shows them.
            return;
        }
        self.follow(at);
        if matches!(event, Event::Finished(_)) {
            let _ = self.all.clear();
        }
        if !text.is_empty() {
            let _ = self.all.println(text.trim_end_matches('\n'));
        }
    }

    pub fn tick(&mut self, at: OffsetDateTime) {
        self.follow(at);
        for bar in self.bars.values() {
            bar.tick();
        }
    }

    /// Makes the moving lines those of what is under way.
    fn follow(&mut self, at: OffsetDateTime) {
        let running = self.narrator.running();
        self.bars.retain(|id, bar| {
            let stays = running.contains_key(id);
            if !stays {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
            stays
        });
        for (id, action) in running {
            let bar = self.bars.entry(id.clone()).or_insert_with(|| {
                let bar = self
                    .all
                    .add(ProgressBar::new_spinner().with_style(self.style.clone()));
                bar.set_prefix(id.0.clone());
                bar
            });
            bar.set_message(format!("{}... [{}]", action.doing, action.state(at)));
        }
    }
}
