//! The three faces of the progress, fed by the same events.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressDrawTarget, TermLike};
use quorate::action::ActionId;
use quorate::plan::Plan;
use quorate::render::Style;
use quorate::render::event::{Event, Finish, LockHolder, Severity, Step};
use quorate::render::progress::Progress;
use quorate::schedule::Outcome;
use time::OffsetDateTime;

use crate::cluster::{self, NOW};
use crate::golden::{COLOURED, WIDE, golden};
use crate::report::ended;

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run with a lock that is waited for, an upload, a restart that waits and is put back, and a message.
fn play(plan: &Plan, progress: &mut Progress) {
    let start = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    let at = |millis: i64| start + time::Duration::milliseconds(millis);
    let id = |name: &str| ActionId(name.into());
    let step = |name: &str| {
        let action = plan
            .actions
            .iter()
            .find(|action| action.id.0 == name)
            .unwrap();
        Event::Started(Step::from(action))
    };
    let holder = LockHolder {
        node: "etcd-1".into(),
        run: "r-17".into(),
        who: "eve@bastion".into(),
        command: "apply".into(),
        version: "1.2.3".into(),
        age: Duration::from_secs(130),
    };
    let wait = |millis| Event::LockWait {
        holder: holder.clone(),
        waited: Duration::from_millis(millis),
    };
    progress.on(at(0), &Event::Planned(Box::new(plan.clone())));
    for millis in (100..11_000).step_by(100) {
        progress.on(at(millis), &wait(u64::try_from(millis).unwrap()));
    }
    progress.on(at(11_000), &Event::LockTaken);
    let configure = "node.etcd-1.configure";
    progress.on(at(11_100), &step(configure));
    for sent in 0..=100_u64 {
        let done = sent * (1 << 18);
        progress.on(
            at(11_200),
            &Event::Bytes {
                id: id(configure),
                done,
                total: 100 << 18,
            },
        );
        if sent == 50 {
            progress.tick(at(21_100));
        }
    }
    progress.on(
        at(23_000),
        &Event::Ended {
            id: id(configure),
            outcome: Outcome::Done,
            took: Duration::from_millis(11_900),
        },
    );
    let restart = "node.etcd-1.restart";
    for look in 0..30 {
        let why = format!("stopping it would leave 1 of 3 voters, 2 are needed (look {look})");
        progress.on(
            at(23_000 + look * 100),
            &Event::Waiting {
                id: id(restart),
                why,
            },
        );
    }
    progress.tick(at(33_000));
    progress.on(at(34_000), &step(restart));
    progress.on(
        at(34_100),
        &Event::Waiting {
            id: id(restart),
            why: "it has no leader".into(),
        },
    );
    progress.tick(at(44_000));
    let why = "after 120 s: member a101: it has no leader".to_owned();
    progress.on(
        at(154_000),
        &Event::Undoing {
            id: id(restart),
            why: why.clone(),
        },
    );
    progress.tick(at(160_000));
    progress.on(
        at(170_000),
        &Event::Ended {
            id: id(restart),
            outcome: Outcome::Undone(why),
            took: Duration::from_secs(136),
        },
    );
    progress.on(
        at(170_000),
        &Event::Message {
            severity: Severity::Warning,
            summary: "The run log could not be written".into(),
            detail: "No space left on device".into(),
        },
    );
    progress.on(at(170_000), &Event::Interrupted);
    progress.on(
        at(171_000),
        &Event::LockLost {
            reason: "etcd-2 closed the connection".into(),
        },
    );
    let report = ended(plan, |number, _| match number {
        1 => Outcome::Done,
        2 => Outcome::Undone("after 120 s".into()),
        _ => Outcome::NotStarted("interrupted".into()),
    });
    let finish = Finish {
        plan: plan.clone(),
        report,
        view: Some(cluster::living().cluster()),
        next: Some("quorate apply".into()),
    };
    progress.on(at(172_000), &Event::Finished(Box::new(finish)));
}

fn recorded(face: impl Fn(Shared) -> Progress) -> String {
    let out = Shared::default();
    play(&cluster::rolling(), &mut face(out.clone()));
    out.text()
}

#[test]
fn lines() {
    let plain = recorded(|out| Progress::lines(Box::new(out), WIDE));
    golden("progress/lines.txt", &plain);
    let coloured = recorded(|out| Progress::lines(Box::new(out), COLOURED));
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
    assert_ne!(coloured, plain);
}

#[test]
fn json_lines() {
    let text = recorded(|out| Progress::json(Box::new(out)));
    // A release changes the version line and nothing else.
    let text = text.replace(env!("CARGO_PKG_VERSION"), "1.2.3");
    golden("progress/events.jsonl", &text);
    for (number, line) in text.lines().enumerate() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["@level", "@message", "@module", "@timestamp", "type"] {
            assert!(value[key].is_string(), "{key} in {line}");
        }
        assert_eq!(number == 0, value["type"] == "version");
    }
}

/// A terminal of 100 columns that keeps what is on it.
#[derive(Debug, Clone, Default)]
struct Screen(Arc<Mutex<Cells>>);

#[derive(Debug, Default)]
struct Cells {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Cells {
    const WIDTH: usize = 100;

    fn put(&mut self, c: char) {
        if c == '\n' {
            self.row += 1;
            self.column = 0;
        } else if c == '\r' {
            self.column = 0;
        } else {
            // A full line is left only when something is written beyond it.
            if self.column == Self::WIDTH {
                self.row += 1;
                self.column = 0;
            }
            let line = self.line();
            while line.len() <= Self::WIDTH {
                line.push(' ');
            }
            let column = self.column;
            self.line()[column] = c;
            self.column += 1;
        }
    }

    fn line(&mut self) -> &mut Vec<char> {
        while self.lines.len() <= self.row {
            self.lines.push(Vec::new());
        }
        let row = self.row;
        &mut self.lines[row]
    }
}

impl Screen {
    fn put(&self, text: &str) {
        let mut cells = self.0.lock().unwrap();
        text.chars().for_each(|c| cells.put(c));
    }
    fn text(&self) -> String {
        let cells = self.0.lock().unwrap();
        let text: String = cells
            .lines
            .iter()
            .map(|line| format!("{}\n", line.iter().collect::<String>().trim_end()))
            .collect();
        format!("{}\n", text.trim_end())
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        Cells::WIDTH as u16
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        let row = &mut self.0.lock().unwrap().row;
        *row = row.saturating_sub(n);
        Ok(())
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.lock().unwrap().row += n;
        Ok(())
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.lock().unwrap().column += n;
        Ok(())
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        let column = &mut self.0.lock().unwrap().column;
        *column = column.saturating_sub(n);
        Ok(())
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.put(&format!("{text}\n"));
        Ok(())
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.put(text);
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        let mut cells = self.0.lock().unwrap();
        cells.line().clear();
        cells.column = 0;
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_terminal_keeps_what_ended_and_no_moving_line() {
    let screen = Screen::default();
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    play(&cluster::rolling(), &mut Progress::terminal(target, WIDE));
    let text = screen.text();
    assert!(
        text.contains("node.etcd-1.configure: Complete after 11s\n"),
        "{text}"
    );
    assert!(text.contains("Next: quorate apply\n"), "{text}");
    assert!(
        !text.contains("elapsed]\n  ID") || text.contains("Waiting for the lock"),
        "{text}"
    );
    assert!(
        !text.contains("Restarting..."),
        "a moving line was left behind:\n{text}"
    );
    golden("progress/terminal.txt", &text);
}

#[test]
fn the_terminal_shows_what_is_under_way() {
    let screen = Screen::default();
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255);
    let mut progress = Progress::terminal(target, WIDE);
    let plan = cluster::rolling();
    let start = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    progress.on(start, &Event::Started(Step::from(&plan.actions[2])));
    let why = "it has no leader".into();
    progress.on(
        start,
        &Event::Waiting {
            id: plan.actions[2].id.clone(),
            why,
        },
    );
    std::thread::sleep(Duration::from_millis(50));
    progress.tick(start + time::Duration::seconds(7));
    let text = screen.text();
    assert!(
        text.contains("node.etcd-1.restart: Restarting... [7s elapsed, it has no leader]"),
        "{text}"
    );
}

#[test]
fn output_that_is_gone_stops_nothing() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let plan = cluster::rolling();
    play(&plan, &mut Progress::lines(Box::new(Gone), Style::PLAIN));
    play(&plan, &mut Progress::json(Box::new(Gone)));
    play(&plan, &mut Progress::none());
}

#[test]
fn it_may_be_moved_to_another_task() {
    fn is_send<T: Send>() {}
    is_send::<Progress>();
}
