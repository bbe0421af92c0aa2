//! Somebody with a cluster file and the program, whose runs can be killed. All that a run says is
//! kept in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use quorate_lab::Lab;

/// After this a run hangs.
const LIMIT: Duration = Duration::from_secs(240);

pub struct Operator {
    /// With the cluster file, `pki`, and what every run said.
    dir: PathBuf,
    runs: usize,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub command: String,
    /// `None` when it was killed.
    pub code: Option<i32>,
    pub said: String,
    pub took: Duration,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self
            .code
            .map_or_else(|| "killed".into(), |code| format!("exit code {code}"));
        write!(
            f,
            "{}: {end} after {:.1} s\n{}",
            self.command,
            self.took.as_secs_f64(),
            self.said
        )
    }
}

impl Operator {
    pub fn new(dir: &Path) -> Result<Self, String> {
        fs::create_dir_all(dir.join("runs"))
            .map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            runs: 0,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Replaces the cluster file; the one before is kept under its round's number.
    pub fn edit(&self, round: u64, text: &str) -> Result<(), String> {
        for name in ["cluster.toml".to_owned(), format!("cluster-{round}.toml")] {
            fs::write(self.path(&name), text).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }

    /// Runs the program, and kills it after a while if that is said. A run that hangs, panics or
    /// ends with a code that it does not have is an error.
    pub fn run(
        &mut self,
        lab: &Lab,
        words: &[&str],
        kill: Option<Duration>,
    ) -> Result<Ran, String> {
        self.runs += 1;
        let command = format!("quorate {}", words.join(" "));
        let log = self.path(&format!("runs/{:04}-{}.txt", self.runs, words[0]));
        let broken = |error: &dyn std::fmt::Display| format!("{command}: {error}");
        let out = File::create(&log).map_err(|error| broken(&error))?;
        let err = out.try_clone().map_err(|error| broken(&error))?;
        let begun = Instant::now();
        let mut child = lab
            .command(env!("CARGO_BIN_EXE_quorate"))
            .map_err(|error| broken(&error))?
            .args(words)
            .current_dir(&self.dir)
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("QUORATE_FILE")
            .env("HOME", &self.dir)
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| broken(&error))?;
        let limit = kill.unwrap_or(LIMIT);
        let mut status = None;
        while status.is_none() && begun.elapsed() < limit {
            thread::sleep(Duration::from_millis(5));
            status = child.try_wait().map_err(|error| broken(&error))?;
        }
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let said = fs::read(&log).unwrap_or_default();
        let ran = Ran {
            command,
            code: status.and_then(|status| status.code()),
            said: String::from_utf8_lossy(&said).into_owned(),
            took: begun.elapsed(),
        };
        let _ = fs::write(
            log.with_extension("end"),
            format!("{:?} {:?}\n", ran.code, ran.took),
        );
        match ran.code {
            None if kill.is_none() => Err(format!("it hangs: {ran}")),
            Some(code) if ![0, 1, 2, 3, 5].contains(&code) => Err(format!("what is that? {ran}")),
            _ if ran.said.contains("panicked at") => Err(format!("it panics: {ran}")),
            _ => Ok(ran),
        }
    }
}
