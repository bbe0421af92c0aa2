//! Real members: processes on loopback addresses of their own, ended by their IDs, also when a test fails.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate::remote::{EtcdClient, EtcdEndpoint, EtcdError, Host};

use crate::model::start::{Exit, Initial};

/// What a log says when a member ends by itself.
const LAST_WORDS: [(&str, Exit); 10] = [
    ("has already been bootstrapped", Exit::AlreadyBootstrapped),
    ("error validating peerURLs", Exit::WrongInitialCluster),
    ("couldn't find local name", Exit::WrongInitialCluster),
    (
        "could not retrieve cluster information",
        Exit::NoPeerAnswers,
    ),
    ("cannot fetch cluster info", Exit::NoPeerAnswers),
    ("permanently removed", Exit::Removed),
    // 3.5.16 may panic when it is asked for its status while it ends as removed.
    ("Maintenance_Status_Handler", Exit::Removed),
    ("is out of range [lastIndex", Exit::Panic),
    ("crc mismatch", Exit::Corrupt),
    ("failed to read WAL", Exit::Corrupt),
];

pub struct Server {
    pub name: String,
    ip: Ipv4Addr,
    dir: PathBuf,
    binary: PathBuf,
    process: Option<Child>,
    client: Option<EtcdClient>,
    starts: usize,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(true);
    }
}

impl Server {
    pub fn new(name: &str, ip: Ipv4Addr, dir: &Path, binaries: &Path) -> Self {
        Self {
            name: name.into(),
            ip,
            dir: dir.join(name),
            binary: binaries.join("etcd"),
            process: None,
            client: None,
            starts: 0,
        }
    }

    pub fn peer_url(&self) -> String {
        format!("http://{}:2380", self.ip)
    }

    fn client_url(&self) -> String {
        format!("http://{}:2379", self.ip)
    }

    pub fn member_dir(&self) -> PathBuf {
        self.dir.join("data/member")
    }

    pub fn wal(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.member_dir().join("wal")).ok()?;
        let mut paths = entries.flatten().map(|entry| entry.path());
        paths.find(|path| path.extension().is_some_and(|kind| kind == "wal"))
    }

    fn log(&self) -> PathBuf {
        self.dir.join(format!("log-{}", self.starts))
    }

    pub fn start(&mut self, initial: Option<&Initial>) {
        self.end(true);
        self.starts += 1;
        fs::create_dir_all(&self.dir).unwrap();
        let log = fs::File::create(self.log()).unwrap();
        let mut etcd = Command::new(&self.binary);
        etcd.env_clear()
            .args(["--logger=zap", "--name", &self.name, "--data-dir"])
            .arg(self.dir.join("data"))
            .arg(format!("--listen-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .arg(format!("--listen-client-urls={}", self.client_url()))
            .arg(format!("--advertise-client-urls={}", self.client_url()));
        if let Some(initial) = initial {
            let pairs: Vec<String> = initial
                .cluster
                .iter()
                .map(|(name, url)| format!("{name}={url}"))
                .collect();
            let state = if initial.existing { "existing" } else { "new" };
            etcd.arg(format!("--initial-cluster={}", pairs.join(",")))
                .arg(format!("--initial-cluster-state={state}"))
                .arg(format!("--initial-cluster-token={}", initial.token));
        }
        etcd.stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.process = Some(etcd.spawn().unwrap());
    }

    /// Ends the process: kills it, or lets it end in order.
    pub fn end(&mut self, kill: bool) {
        self.client = None;
        if let Some(mut process) = self.process.take() {
            if kill {
                let _ = process.kill();
            } else {
                let id = process.id().to_string();
                let _ = Command::new("kill").arg(&id).status();
            }
            let _ = process.wait();
        }
    }

    pub fn was_started(&self) -> bool {
        self.process.is_some()
    }

    /// Whether the process ended by itself, and why.
    pub fn exit(&mut self) -> Option<Result<Exit, String>> {
        let process = self.process.as_mut()?;
        let status = process.try_wait().unwrap()?;
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let why = LAST_WORDS.iter().find(|(words, _)| text.contains(words));
        Some(why.map(|(_, exit)| *exit).ok_or_else(|| {
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(12)..].join("\n");
            format!("{} ended with {status}:\n{last}", self.name)
        }))
    }

    /// A client of this member, as soon as it answers.
    pub async fn client(&mut self, host: &Host) -> Result<Option<EtcdClient>, EtcdError> {
        if let Some(client) = &self.client {
            return Ok(Some(client.clone()));
        }
        let endpoint = EtcdEndpoint {
            url: self.client_url(),
            dial: (self.ip.to_string(), 2379),
            tls: None,
        };
        // A member that has not found a leader since its start takes connections and answers none.
        let connecting = EtcdClient::connect(host, &endpoint);
        let Ok(client) = tokio::time::timeout(Duration::from_secs(3), connecting).await else {
            return Ok(None);
        };
        self.client = Some(client?);
        Ok(self.client.clone())
    }

    /// Keys that this member holds, whatever the others do.
    pub async fn keys(&self) -> Option<u64> {
        let url = format!("{}/v3/kv/range", self.client_url());
        // All keys from `k` up to `l`.
        let body = r#"{"key":"aw==","range_end":"bA==","count_only":true,"serializable":true}"#;
        let asked = tokio::task::spawn_blocking(move || {
            let agent = ureq::Agent::config_builder()
                .timeout_global(Some(Duration::from_secs(3)))
                .build()
                .new_agent();
            let mut answer = agent.post(&url).send(body).ok()?;
            answer.body_mut().read_to_string().ok()
        });
        let answer: serde_json::Value = serde_json::from_str(&asked.await.ok()??).ok()?;
        match answer.get("count") {
            None => Some(0),
            Some(count) => count.as_str()?.parse().ok(),
        }
    }
}
