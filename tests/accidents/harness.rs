//! Operators in a lab: the real program with a home of its own, and runs that can be watched,
//! signalled and cut short.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quorate_lab::{Host, Lab, Options, releases};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here takes; a program that hangs fails its test.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A lab of this many hosts; its name starts with `acc-`.
pub fn lab(name: &str, hosts: usize) -> Lab {
    lab_with(
        name,
        Options {
            hosts,
            ..Options::default()
        },
    )
}

/// A lab with these options.
pub fn lab_with(name: &str, options: Options) -> Lab {
    Lab::up(&format!("acc-{name}"), options).unwrap_or_else(|error| panic!("{error}"))
}

/// How the hosts of a lab are reached unless a test says otherwise: as root, by the lab's key.
pub fn ssh(lab: &Lab) -> String {
    format!(
        "user = \"root\"\nidentity = \"{}\"\nknown_hosts = \"{}\"\n",
        lab.identity().display(),
        lab.known_hosts().display()
    )
}

/// A cluster file for a lab's hosts.
pub struct ClusterFile {
    pub name: String,
    pub tls: bool,
    pub data_dir: String,
    /// Lines of `[etcd.settings]`.
    pub settings: String,
    /// Lines of `[ssh]`.
    pub ssh: String,
    /// Name, address and lines of `[node.ssh]`.
    pub nodes: Vec<(String, String, String)>,
}

impl ClusterFile {
    /// All hosts, with TLS.
    pub fn of(lab: &Lab) -> Self {
        Self {
            name: "demo".into(),
            tls: true,
            data_dir: "/var/lib/etcd".into(),
            settings: String::new(),
            ssh: ssh(lab),
            nodes: lab
                .hosts()
                .iter()
                .map(|host| (host.name.clone(), host.ip.to_string(), String::new()))
                .collect(),
        }
    }

    fn text(&self) -> String {
        let version = releases::tested();
        let release = releases::ensure(&version).unwrap_or_else(|error| panic!("{error}"));
        let archive = release.tarball.display();
        let mut text = format!(
            "schema = 1\n\n[cluster]\nname = \"{0}\"\ntoken = \"{0}-1\"\n\n\
             [etcd]\nversion = \"{version}\"\ndata_dir = \"{1}\"\n\n\
             [etcd.settings]\n{3}\n\n[etcd.install]\nmethod = \"archive\"\narchive = \"{archive}\"\n\n[ssh]\n{2}",
            self.name, self.data_dir, self.ssh, self.settings
        );
        if self.tls {
            text.push_str(
                "\n[tls]\nclient = \"managed\"\npeer = \"managed\"\nca = { dir = \"pki\" }\n",
            );
        }
        for (name, ip, ssh) in &self.nodes {
            text.push_str(&format!("\n[[node]]\nname = \"{name}\"\nip = \"{ip}\"\n"));
            if !ssh.is_empty() {
                text.push_str(&format!("[node.ssh]\n{ssh}"));
            }
        }
        text
    }
}

/// Somebody with a home directory, a cluster file and the program.
pub struct Operator<'a> {
    lab: &'a Lab,
    home: tempfile::TempDir,
    /// Further variables of the environment.
    pub environment: Vec<(String, String)>,
}

/// What a finished run left.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Ran {
    /// Everything it said, for messages of assertions.
    pub fn said(&self) -> String {
        format!(
            "exit code {:?} after {:.1} s\n--- stdout\n{}--- stderr\n{}",
            self.code,
            self.took.as_secs_f64(),
            self.stdout,
            self.stderr
        )
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.said());
        self
    }

    /// Asserts that it said this, on whichever stream, line breaks aside.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let all = flat(&format!("{}\n{}", self.stdout, self.stderr));
        assert!(
            all.contains(&flat(words)),
            "does not say {words:?}: {}",
            self.said()
        );
        self
    }

    /// Asserts how long it may have taken.
    #[track_caller]
    pub fn within(self, seconds: u64) -> Self {
        assert!(
            self.took <= Duration::from_secs(seconds),
            "not within {seconds} s: {}",
            self.said()
        );
        self
    }
}

impl<'a> Operator<'a> {
    /// Somebody with this cluster file.
    pub fn new(lab: &'a Lab, file: &ClusterFile) -> Self {
        let operator = Self {
            lab,
            home: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        };
        operator.edit(file);
        operator
    }

    /// Replaces the cluster file.
    pub fn edit(&self, file: &ClusterFile) {
        std::fs::write(self.path("cluster.toml"), file.text()).unwrap();
    }

    /// A path in the home directory, where also the cluster file and `pki` are.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The program, in the lab's network, not yet started.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.command(env!("CARGO_BIN_EXE_quorate")).unwrap();
        command.args(arguments);
        self.at_home(command)
    }

    /// A command in the operator's directory and environment.
    fn at_home(&self, mut command: Command) -> Command {
        command
            .current_dir(self.home.path())
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("SUDO_USER")
            .env("USER", "ann")
            .env("HOME", self.home.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_STATE_HOME", self.path("state"))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command that in the end is the program.
    #[track_caller]
    pub fn run_command(&self, command: Command) -> Ran {
        Running::new(self.at_home(command)).wait()
    }

    /// Runs the program to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).wait()
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::new(self.command(arguments))
    }

    /// Starts `apply` or another command that writes events.
    pub fn start_json(&self, command: &str) -> Running {
        self.start(&[command, "--auto-approve", "--json", "--lock-timeout", "60s"])
    }

    /// `apply`, which must do everything.
    #[track_caller]
    pub fn converge(&self) -> Ran {
        self.run(&["apply", "--auto-approve", "--lock-timeout", "60s"])
            .exits(0)
    }

    /// Asserts that nothing is left to do and that all is well.
    #[track_caller]
    pub fn settled(&self) {
        self.run(&["plan", "--detailed-exitcode"]).exits(0);
        self.run(&["status"]).exits(0);
    }

    /// `destroy` with the data.
    #[track_caller]
    pub fn destroy(&self) -> Ran {
        self.run(&[
            "destroy",
            "--auto-approve",
            "--purge-data",
            "--lock-timeout",
            "60s",
        ])
        .exits(0)
    }
}

/// A run under way; it is killed when this is dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
    stderr: Option<JoinHandle<String>>,
    begun: Instant,
    done: bool,
}

impl Running {
    fn new(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self {
            child,
            lines,
            seen: String::new(),
            stderr: Some(stderr),
            begun: Instant::now(),
            done: false,
        }
    }

    /// The next line of its output; `None` at its end.
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        let left = PATIENCE.saturating_sub(self.begun.elapsed());
        match self.lines.recv_timeout(left) {
            Ok(line) => {
                self.seen.push_str(&line);
                self.seen.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no end after {PATIENCE:?}:\n{}", self.seen),
        }
    }

    /// The next event of a run with `--json`.
    #[track_caller]
    pub fn event(&mut self) -> Option<Value> {
        let line = self.line()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Reads on until an event of this type whose action's name ends so.
    #[track_caller]
    pub fn until(&mut self, kind: &str, action: &str) -> Value {
        while let Some(event) = self.event() {
            let id = event["hook"]["action"]["id"].as_str().unwrap_or_default();
            if event["type"] == kind && id.ends_with(action) {
                return event;
            }
        }
        panic!(
            "it ended without {kind} of {action}: {}",
            self.finish().said()
        );
    }

    /// Sends a signal to the process, and to no other.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(mut self) -> Ran {
        self.child.kill().unwrap();
        self.finish()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        self.finish()
    }

    #[track_caller]
    fn finish(&mut self) -> Ran {
        while self.line().is_some() {}
        let status = self.child.wait().unwrap();
        self.done = true;
        let stderr = self.stderr.take().map(JoinHandle::join);
        Ran {
            code: status.code(),
            stdout: std::mem::take(&mut self.seen),
            stderr: stderr.and_then(Result::ok).unwrap_or_default(),
            took: self.begun.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Repeats until it is so; panics with the last words when it is not in time.
#[track_caller]
pub fn eventually(limit: Duration, mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + limit;
    loop {
        match check() {
            Ok(()) => return,
            Err(why) if Instant::now() >= deadline => panic!("after {limit:?}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Temporary files of uploads and switches that are left where they are made.
pub fn leftovers(host: &Host) -> String {
    host.run(
        "find /usr/local/bin /etc/etcd /etc/quorate /etc/systemd/system /var/lib /var/cache /run/systemd/system \
         -xdev -name '*quorate-*' ! -name '*.service' 2>/dev/null || :",
    )
    .unwrap()
}
