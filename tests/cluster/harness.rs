//! A cluster on a lab's hosts: its file, runs of the program, and a look from outside.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use quorate::observed::Marker;
use quorate::observed::marker::{self, MarkerState};
use quorate_lab::{Host, Lab, Options, releases};
use quorate_writers::Census;
use serde_json::Value;

/// After this a run of the program is killed, and the test fails.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// What is polled for comes before this, or never.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster: what its file says, and the lab that it is for. Fields may be changed at any time;
/// every run writes the file anew.
pub struct Scene {
    pub lab: Lab,
    /// `name` and `token` of `[cluster]`.
    pub name: String,
    pub token: String,
    pub version: String,
    pub tls: bool,
    pub nodes: usize,
    /// Hosts among them that the file leaves out, by name.
    pub without: Vec<String>,
    /// `wal_dir` of all nodes.
    pub wal_dir: Option<String>,
    /// What the file says otherwise of the nodes on some hosts, by host name.
    pub edits: BTreeMap<String, Edit>,
    /// Further lines of `[etcd]`.
    pub etcd: Vec<String>,
    /// Lines of `[etcd.settings]`.
    pub settings: Vec<String>,
    /// Lines of `[etcd.install]`.
    pub install: String,
    /// Lines of `[ssh]`.
    pub ssh: String,
    /// Whole tables at the end of the file.
    pub tables: String,
    /// Environment of the program.
    pub env: BTreeMap<String, String>,
    /// Keys that writers have left.
    pub census: RefCell<Census>,
    operator: PathBuf,
}

/// A node that is not as its host would have it.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Its name; else the host's.
    pub name: Option<String>,
    /// Its address; else the host's.
    pub ip: Option<Ipv4Addr>,
    pub client_port: Option<u16>,
    /// Further lines of its table.
    pub lines: Vec<String>,
}

/// How a run of the program ended.
pub struct Run {
    pub command: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The state of a member's process and unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: String,
    pub started: String,
    pub active: String,
    pub enabled: String,
}

impl Scene {
    /// Boots a lab for a cluster of all its hosts with the etcd of [`releases::tested`] over HTTP. `None`, and said so,
    /// where no lab can be.
    pub fn up(name: &str, hosts: usize) -> Option<Self> {
        Self::with(
            name,
            Options {
                hosts,
                ..Options::default()
            },
        )
    }

    /// The same with options of the lab.
    pub fn with(name: &str, options: Options) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED {name}: a lab needs root");
            return None;
        }
        let nodes = options.hosts;
        let lab = Lab::up(&format!("cluster-{name}-{}", std::process::id()), options)
            .unwrap_or_else(|error| panic!("the lab of {name}: {error}"));
        let operator = lab.dir().join("operator");
        fs::create_dir_all(&operator).unwrap();
        let url = lab.serve_releases().unwrap();
        let ssh = format!(
            "user = \"root\"\nidentity = {:?}\nknown_hosts = {:?}\n",
            lab.identity(),
            lab.known_hosts()
        );
        Some(Self {
            lab,
            name: "demo".into(),
            token: "demo".into(),
            version: releases::tested(),
            tls: false,
            nodes,
            without: Vec::new(),
            wal_dir: None,
            edits: BTreeMap::new(),
            etcd: Vec::new(),
            settings: Vec::new(),
            install: format!(
                "method = \"archive\"\narchive = \"{url}/etcd-v{{version}}-linux-{{arch}}.tar.gz\"\n"
            ),
            ssh,
            tables: String::new(),
            env: BTreeMap::new(),
            census: RefCell::default(),
            operator,
        })
    }

    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// The hosts of the cluster file.
    pub fn hosts(&self) -> &[Host] {
        &self.lab.hosts()[..self.nodes]
    }

    /// The hosts that the file names.
    pub fn named(&self) -> Vec<Host> {
        let named = |host: &&Host| !self.without.contains(&host.name);
        self.hosts().iter().filter(named).cloned().collect()
    }

    pub fn host(&self, number: usize) -> &Host {
        &self.lab.hosts()[number - 1]
    }

    /// A path on the operator's side.
    pub fn path(&self, name: &str) -> PathBuf {
        self.operator.join(name)
    }

    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    fn file(&self) -> String {
        let mut text = format!(
            "schema = 1\n\n[cluster]\nname = \"{}\"\ntoken = \"{}\"\n\n[etcd]\nversion = \"{}\"\n{}\n\n\
             [etcd.settings]\n{}\n\n[etcd.install]\n{}\n[ssh]\n{}\n",
            self.name,
            self.token,
            self.version,
            self.etcd.join("\n"),
            self.settings.join("\n"),
            self.install,
            self.ssh
        );
        for host in self.named() {
            let edit = self.edits.get(&host.name).cloned().unwrap_or_default();
            let _ = writeln!(
                text,
                "[[node]]\nname = \"{}\"\nip = \"{}\"",
                edit.name.as_ref().unwrap_or(&host.name),
                edit.ip.unwrap_or(host.ip)
            );
            if let Some(port) = edit.client_port {
                let _ = writeln!(text, "client_port = {port}");
            }
            for line in &edit.lines {
                let _ = writeln!(text, "{line}");
            }
            if let Some(wal_dir) = &self.wal_dir {
                let _ = writeln!(text, "wal_dir = {wal_dir:?}");
            }
            text.push('\n');
        }
        if self.tls {
            text.push_str(
                "[tls]\nclient = \"managed\"\npeer = \"managed\"\n\n[[tls.client_cert]]\nname = \"root\"\n\n",
            );
        }
        text.push_str(&self.tables);
        text
    }

    /// The program in the lab's network, with directories of its own; releases are fetched once
    /// for all tests.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_quorate"), args)
    }

    /// Another program, in the environment of [`Scene::command`].
    pub fn command_of(&self, program: &str, args: &[&str]) -> Command {
        fs::write(self.path("cluster.toml"), self.file()).unwrap();
        let mut command = self.lab.command(program).unwrap();
        command
            .args(args)
            .current_dir(&self.operator)
            .env("HOME", &self.operator)
            .env("XDG_STATE_HOME", self.path("state"))
            .env(
                "XDG_CACHE_HOME",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster-cache"),
            )
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("QUORATE_FILE")
            .env("NO_COLOR", "1")
            .envs(&self.env)
            .stdin(Stdio::null());
        command
    }

    /// Runs the program.
    pub fn run(&self, args: &[&str]) -> Run {
        finish(
            format!("quorate {}", args.join(" ")),
            &mut self.command(args),
        )
    }

    /// Plans, and fails unless the plan has exactly these actions and blocks nothing. `record` of
    /// a node, which closes every change of a host, is implied; `claim` is not counted, since
    /// only some changes are announced.
    pub fn plan_is(&self, expected: &[&str]) -> Value {
        let run = self.run(&["plan", "--json"]).exits(0);
        let plan = run.json();
        let mut expected: Vec<String> = expected.iter().map(|id| format!("node.{id}")).collect();
        let records: Vec<String> = expected
            .iter()
            .filter_map(|id| Some(format!("{}.record", id.rsplit_once('.')?.0)))
            .collect();
        expected.extend(records);
        expected.sort();
        expected.dedup();
        let mut found = ids(&plan);
        found.retain(|id| !id.ends_with(".claim"));
        found.sort();
        assert_eq!(found, expected, "the plan's actions\n{run}");
        plan
    }

    /// Fails unless a plan has nothing to do and blocks nothing.
    pub fn is_converged(&self) {
        let run = self.run(&["plan", "--detailed-exitcode"]).exits(0);
        assert!(run.stdout.contains("No changes"), "{run}");
    }

    pub fn apply(&self) -> Run {
        self.run(&["apply", "--auto-approve"]).exits(0)
    }

    pub fn destroy(&self) -> Run {
        self.run(&["destroy", "--auto-approve"]).exits(0)
    }

    pub fn marker(&self, host: &Host) -> Marker {
        let text = host
            .read_file(marker::PATH)
            .unwrap_or_else(|error| panic!("the marker of {}: {error}", host.name));
        match MarkerState::parse(&String::from_utf8_lossy(&text)) {
            MarkerState::Present(marker) => *marker,
            other => panic!("the marker of {}: {other:?}", host.name),
        }
    }

    pub fn has_marker(&self, host: &Host) -> bool {
        host.exec(&format!("test -e {}", marker::PATH))
            .unwrap()
            .success()
    }

    pub fn endpoint(&self, host: &Host) -> String {
        let edit = self.edits.get(&host.name);
        let ip = edit.and_then(|edit| edit.ip).unwrap_or(host.ip);
        let port = edit.and_then(|edit| edit.client_port).unwrap_or(2379);
        format!("{}://{ip}:{port}", self.scheme())
    }

    /// The released etcdctl in the lab's network, at the client ports of these hosts.
    pub fn etcdctl_command(&self, hosts: &[Host], args: &[&str]) -> Command {
        let release = releases::find(&self.version).unwrap();
        let mut command = self.lab.command(release.dir.join("etcdctl")).unwrap();
        let endpoints: Vec<String> = hosts.iter().map(|host| self.endpoint(host)).collect();
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", endpoints.join(","))
            .stdin(Stdio::null());
        if self.tls {
            command
                .env("ETCDCTL_CACERT", self.path("pki/ca.crt"))
                .env("ETCDCTL_CERT", self.path("pki/clients/root.crt"))
                .env("ETCDCTL_KEY", self.path("pki/clients/root.key"));
        }
        command.args(args);
        command
    }

    /// Runs [`Scene::etcdctl_command`]; its output.
    pub fn etcdctl(&self, hosts: &[Host], args: &[&str]) -> String {
        let name = format!("etcdctl {}", args.join(" "));
        finish(name, &mut self.etcdctl_command(hosts, args))
            .exits(0)
            .stdout
    }

    /// Cluster ID and member IDs by name, as etcd says them.
    pub fn members(&self, host: &Host) -> (u64, BTreeMap<String, u64>) {
        let text = self.etcdctl(
            std::slice::from_ref(host),
            &["member", "list", "-w", "json"],
        );
        let list: Value = serde_json::from_str(&text).unwrap();
        let members = list["members"].as_array().unwrap().iter().map(|member| {
            let name = member["name"].as_str().unwrap_or_default().to_owned();
            (name, member["ID"].as_u64().unwrap())
        });
        (
            list["header"]["cluster_id"].as_u64().unwrap(),
            members.collect(),
        )
    }

    pub fn process(&self, host: &Host) -> Process {
        let text = host
            .run(
                "systemctl show etcd -p MainPID -p ExecMainStartTimestampMonotonic -p ActiveState -p UnitFileState",
            )
            .unwrap();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_default()
                .to_owned()
        };
        Process {
            pid: field("MainPID"),
            started: field("ExecMainStartTimestampMonotonic"),
            active: field("ActiveState"),
            enabled: field("UnitFileState"),
        }
    }

    pub fn processes(&self) -> Vec<Process> {
        self.hosts().iter().map(|host| self.process(host)).collect()
    }
}

impl Run {
    /// Fails unless it ended with this code.
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code\n{self}");
        self
    }

    pub fn says(self, what: &str) -> Self {
        assert!(
            self.stdout.contains(what) || self.stderr.contains(what),
            "it does not say {what:?}\n{self}"
        );
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON: {error}\n{self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\nexit code {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// The ids of a plan's actions, in its order.
pub fn ids(plan: &Value) -> Vec<String> {
    let actions = plan["actions"].as_array().expect("a plan has actions");
    actions
        .iter()
        .map(|action| action["id"].as_str().unwrap().to_owned())
        .collect()
}

/// What is blocked in a plan: node and reason.
pub fn blocked(plan: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    plan["blocked"]
        .as_array()
        .unwrap()
        .iter()
        .map(|blocked| (text(&blocked["node"]), text(&blocked["reason"])))
        .collect()
}

/// Asks until the answer is yes.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a command to its end, or kills it.
pub fn finish(name: String, command: &mut Command) -> Run {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stdout, stderr) = (
        drain(child.stdout.take().unwrap()),
        drain(child.stderr.take().unwrap()),
    );
    let deadline = Instant::now() + RUN_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let run = Run {
        command: name,
        code: status.and_then(|status| status.code()),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    };
    assert!(
        status.is_some(),
        "killed after {} s\n{run}",
        RUN_LIMIT.as_secs()
    );
    run
}

fn drain(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
