//! A lab with a cluster that Quorate, or the script, brings up and changes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use quorate_lab::{Lab, Options, releases};
use quorate_writers::{Endpoint, Tls};
use serde_json::Value;

use super::OURS;
use super::scenario::{Change, Cluster, Step};
use crate::Result;
use crate::measure;
use crate::peers::{Bench, WIPE};

const HOSTS: usize = 5;
/// Etcd takes no change of its membership before its members have been connected for five seconds.
const SETTLED: Duration = Duration::from_secs(6);
/// For members that were left healthy to be so.
const PATIENCE: Duration = Duration::from_secs(30);
/// The operator's machine is another one than the members' and the writers': what runs there leaves processors to them.
const APART: &str = "{ echo 10 >/proc/self/autogroup; } 2>/dev/null; exec nice -n 10 \"$@\"";
/// Data in memory: hosts of a lab share one disk, which would make all of them wait for each other's syncs.
const DATA: &str = "mountpoint -q /var/lib/etcd || \
    { mkdir -p /var/lib/etcd && mount -t tmpfs -o size=1g,mode=700 tmpfs /var/lib/etcd; }";

pub struct Site<'a> {
    pub lab: &'a Lab,
    bench: Bench<'a>,
    who: &'static str,
    etcdctl: PathBuf,
}

/// A lab for a site.
pub fn lab(name: &str) -> Result<Lab> {
    let options = Options {
        hosts: HOSTS,
        ..Options::default()
    };
    Ok(Lab::up(name, options)?)
}

impl<'a> Site<'a> {
    pub fn new(lab: &'a Lab, quorate: &Path, who: &'static str) -> Result<Self> {
        let bench = Bench::new(lab, quorate)?;
        bench.on_all(|host| host.run(DATA).map(drop))?;
        Ok(Self {
            lab,
            bench,
            who,
            etcdctl: releases::find("3.5")?.dir.join("etcdctl"),
        })
    }

    pub fn name(&self) -> &'static str {
        self.who
    }

    pub fn is_ours(&self) -> bool {
        self.who == OURS
    }

    /// `NAME=ADDRESS`.
    fn node(&self, name: &str) -> Result<String> {
        Ok(format!("{name}={}", self.lab.host(name)?.ip))
    }

    fn nodes(&self, cluster: &Cluster) -> Result<Vec<String>> {
        cluster.names().map(|name| self.node(&name)).collect()
    }

    fn cluster_text(&self, cluster: &Cluster) -> Result<String> {
        let mut text = self.bench.cluster_head();
        let _ = write!(
            text,
            "\n[[tls.client_cert]]\nname = \"root\"\n\n[etcd.settings]\nsnapshot-count = {}\n",
            cluster.snapshot_count
        );
        for name in cluster.names() {
            let _ = write!(
                text,
                "\n[[node]]\nname = \"{name}\"\nip = \"{}\"\npeer_port = {}\n",
                self.lab.host(&name)?.ip,
                cluster.peer_port
            );
        }
        Ok(text)
    }

    /// `quorate apply` of a cluster.
    fn apply(&self, cluster: &Cluster) -> Result<Command> {
        let file = self.bench.file("gaps.toml");
        fs::write(&file, self.cluster_text(cluster)?)?;
        self.bench.quorate(&file, &["apply", "--auto-approve"])
    }

    fn script(&self, script: &str, cluster: &Cluster) -> Result<Command> {
        let mut command = self.bench.script(script)?;
        command
            .env("ETCDCTL", &self.etcdctl)
            .env("PEER_PORT", cluster.peer_port.to_string())
            .env(
                "EXTRA",
                format!("ETCD_SNAPSHOT_COUNT=\"{}\"", cluster.snapshot_count),
            );
        Ok(command)
    }

    /// A new cluster on wiped hosts.
    pub fn bootstrap(&self, cluster: &Cluster) -> Result<()> {
        self.bench.wipe()?;
        let mut command = if self.is_ours() {
            self.apply(cluster)?
        } else {
            let mut command = self.script("bootstrap.sh", cluster)?;
            let hosts = self.lab.hosts().iter();
            let others = hosts.filter(|host| !cluster.has(&host.name));
            let others: Vec<String> = others
                .map(|host| format!("{}={}", host.name, host.ip))
                .collect();
            command.args(self.nodes(cluster)?);
            command.env("ALSO", others.join(" "));
            command
        };
        measure::time(&mut command).map(drop)
    }

    /// The change itself; its time.
    pub fn change(&self, before: &Cluster, change: &Change) -> Result<Duration> {
        let command = if self.is_ours() {
            self.apply(&change.after)?
        } else {
            let mut command = self.script("day-two.sh", before)?;
            command.args(self.nodes(before)?).arg("--");
            for step in &change.by_hand {
                match step {
                    Step::Set(setting) => command.args(["set", setting]),
                    Step::PeerPort(port) => command.arg("peer-port").arg(port.to_string()),
                    Step::Join(name) => command.arg("join").arg(self.node(name)?),
                    Step::Leave(name) => command.args(["leave", name]),
                    Step::Replace(name) => command.args(["replace", name]),
                };
            }
            command
        };
        measure::time(&mut apart(&command))
    }

    /// A host loses its member's process at once, and then everything.
    pub fn rebuild(&self, name: &str) -> Result<()> {
        let host = self.lab.host(name)?;
        host.run("systemctl kill -s KILL etcd")?;
        host.run(WIPE)?;
        Ok(())
    }

    /// A host that has no member now, and may have had one, is blank.
    pub fn wipe(&self, name: &str) -> Result<()> {
        self.lab.host(name)?.run(WIPE)?;
        Ok(())
    }

    /// Clients of nodes, with the certificate that the site has for them.
    pub fn endpoints(&self, names: impl Iterator<Item = String>) -> Result<Vec<Endpoint>> {
        let (ca, certificate, key) = self.certificates()?;
        let tls = Tls::read(&ca, &certificate, &key)?;
        let names: BTreeSet<String> = names.collect();
        let endpoint = |name: String| {
            Ok(Endpoint {
                url: format!("https://{}:2379", self.lab.host(&name)?.ip),
                tls: Some(tls.clone()),
                name,
            })
        };
        names.into_iter().map(endpoint).collect()
    }

    /// Authority, certificate and key of a client.
    fn certificates(&self) -> Result<(PathBuf, PathBuf, PathBuf)> {
        let bench = &self.bench;
        let (pki, client) = if self.is_ours() {
            ("pki", "pki/clients/root")
        } else {
            ("pki-shell", "pki-shell/root")
        };
        Ok((
            bench.file(&format!("{pki}/ca.crt")),
            bench.file(&format!("{client}.crt")),
            bench.file(&format!("{client}.key")),
        ))
    }

    fn etcdctl(&self, names: impl Iterator<Item = String>, words: &[&str]) -> Result<Value> {
        let (ca, certificate, key) = self.certificates()?;
        let urls: Result<Vec<String>> = names
            .map(|name| Ok(format!("https://{}:2379", self.lab.host(&name)?.ip)))
            .collect();
        let mut command = self.lab.command(&self.etcdctl)?;
        command
            .env("ETCDCTL_API", "3")
            .arg("--cacert")
            .arg(ca)
            .arg("--cert")
            .arg(certificate)
            .arg("--key")
            .arg(key)
            .arg("--endpoints")
            .arg(urls?.join(","))
            .args(["-w", "json"])
            .args(words);
        Ok(serde_json::from_str(&measure::run(&mut command)?.1)?)
    }

    /// Waits until all nodes agree on a leader, and until etcd lets its members change; the leader's name.
    pub fn settle(&self, cluster: &Cluster, to_change: bool) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.etcdctl(cluster.names(), &["endpoint", "status"]);
            if let Ok(leader) = answer.and_then(|answer| leader(&answer, cluster)) {
                if to_change {
                    thread::sleep(SETTLED);
                }
                return Ok(leader);
            }
            if Instant::now() > deadline {
                return Err("the members do not agree on a leader".into());
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Fails unless the members are these, at these addresses, all of them voters and healthy.
    pub fn holds(&self, cluster: &Cluster) -> Result<()> {
        self.etcdctl(cluster.names(), &["endpoint", "health"])?;
        let list = self.etcdctl(cluster.names(), &["member", "list"])?;
        let members = list["members"].as_array().ok_or("no member list")?;
        let found: BTreeSet<(String, String)> = members
            .iter()
            .filter(|member| member["isLearner"] != true)
            .map(|member| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                (text(&member["name"]), text(&member["peerURLs"][0]))
            })
            .collect();
        let mut wanted = BTreeSet::new();
        for name in cluster.names() {
            let ip = self.lab.host(&name)?.ip;
            wanted.insert((name, format!("https://{ip}:{}", cluster.peer_port)));
        }
        if found == wanted && members.len() == wanted.len() {
            return Ok(());
        }
        Err(format!("the members are {list}").into())
    }

    /// The log of the run that ended last.
    pub fn newest_log(&self) -> Result<PathBuf> {
        let dir = self.bench.file("state/quorate/runs");
        let mut logs = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            logs.push((entry.metadata()?.modified()?, entry.path()));
        }
        let (_, newest) = logs.into_iter().max().ok_or("no run was logged")?;
        Ok(newest)
    }
}

/// The same, in a session of its own.
fn apart(command: &Command) -> Command {
    let mut other = Command::new("setsid");
    other
        .args(["--wait", "sh", "-c", APART, "operator"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        other.current_dir(dir);
    }
    other
}

/// The name of the node that all others follow, as `endpoint status` shows it.
fn leader(answer: &Value, cluster: &Cluster) -> Result<String> {
    let members = answer.as_array().ok_or("no status")?;
    let id = &members.first().ok_or("no status")?["Status"]["leader"];
    let follows = |member: &&Value| &member["Status"]["leader"] == id;
    if members.iter().filter(follows).count() != cluster.names().count() {
        return Err("not all of them follow one leader".into());
    }
    let position = members
        .iter()
        .position(|member| &member["Status"]["header"]["member_id"] == id)
        .ok_or("the leader does not answer")?;
    // Answers come in the order of the endpoints.
    cluster.names().nth(position).ok_or_else(|| "who?".into())
}
