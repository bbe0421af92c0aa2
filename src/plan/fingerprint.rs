//! The facts that steer a plan. Leader, term, indexes, sizes, times and days left are not among them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::desired::model::Desired;
use crate::observed::etcd::EtcdState;
use crate::observed::host::{DataDir, FileFact, HostFacts};
use crate::observed::{HostState, MarkerState, Observed};
use crate::sabotage::{self, Bug};
use crate::safety;

/// Clock skew beyond which no certificate is issued, in milliseconds (Q20).
pub const MAX_SKEW_MS: i64 = 60_000;

/// Hex sha256.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Digest of all facts.
pub fn fingerprint(facts: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for (name, value) in facts {
        hash.update(name);
        hash.update([0]);
        hash.update(value);
        hash.update([0]);
    }
    hex::encode(hash.finalize())
}

/// The steering facts by name.
pub fn facts(desired: &Desired, observed: &Observed) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let text = serde_json::to_string(desired).unwrap_or_default();
    facts.insert("cluster file".into(), sha256(text));
    for (arch, archive) in &observed.operator.archives {
        facts.insert(
            format!("archive for {arch}"),
            match archive {
                Ok(archive) => archive.sha256.clone(),
                Err(_) => "unavailable".into(),
            },
        );
    }
    if let Some(authority) = &observed.operator.authority {
        facts.insert("authority".into(), authority.sha256.clone());
    }
    for (node, state) in &observed.hosts {
        let mut put = |what: &str, value: String| {
            facts.insert([node, ": ", what].concat(), value);
        };
        match state {
            HostState::Unknown(unknown) => put("host", unknown.word().into()),
            HostState::Known(host) => host_facts(host, &mut put),
        }
    }
    let view = observed.cluster();
    let diagnosis = safety::Diagnosis::of(&view);
    let steering = if sabotage::on(Bug::MembersDoNotSteer) {
        &[]
    } else {
        view.members.as_slice()
    };
    for member in steering {
        let what = format!(
            "{} {} {}",
            member.name,
            member.peer_urls.join(","),
            if member.is_learner {
                "learner"
            } else {
                "voter"
            }
        );
        facts.insert(format!("member {}", member.id), what);
        facts.insert(
            format!("member {}: health", member.id),
            match diagnosis.unhealthy(member.id) {
                None => "healthy".into(),
                Some(_) => "unhealthy".into(),
            },
        );
    }
    for alarm in &view.alarms {
        facts.insert(format!("alarm of {}", alarm.member_id), alarm.kind.clone());
    }
    facts
}

fn host_facts(host: &HostFacts, put: &mut impl FnMut(&str, String)) {
    put("host", "reachable".into());
    put(
        "system",
        format!("{} {} {}", host.os.id, host.os.version_id, host.arch),
    );
    put("user", if host.user { "present" } else { "absent" }.into());
    put(
        "marker",
        match &host.marker {
            MarkerState::Absent => "absent".into(),
            MarkerState::Unreadable(_) | MarkerState::Newer(_) => "unreadable".into(),
            MarkerState::Present(marker) => marker.digest(),
        },
    );
    for (path, file) in &host.files {
        put(
            path,
            match file {
                FileFact::Absent => "absent".into(),
                FileFact::Other(kind) => kind.clone(),
                FileFact::File(stat) | FileFact::Directory(stat) => format!(
                    "{:04o} {}:{} {}",
                    stat.mode,
                    stat.owner,
                    stat.group,
                    stat.sha256.as_deref().unwrap_or("directory")
                ),
            },
        );
    }
    // Whether the process was started with what lies on the disk.
    if let Some(started_at) = host.unit.started_at {
        let files = host.files.iter();
        let since =
            files.filter_map(
                |(path, file)| match file.file()?.changed_at.cmp(&started_at) {
                    Ordering::Less => None,
                    Ordering::Equal => Some(format!("{path} with it")),
                    Ordering::Greater => Some(format!("{path} after it")),
                },
            );
        let since: Vec<String> = since.collect();
        put("written since its start", since.join(", "));
    }
    put(
        "unit",
        format!(
            "{} {} {}",
            host.unit.load,
            if host.unit.is_up() { "up" } else { "down" },
            host.unit.file_state
        ),
    );
    put("drop-ins", host.unit.drop_ins.join(" "));
    if host.unit.need_reload {
        put("unit file", "not read again by systemd".into());
    }
    if let Some(environment) = &host.unit.environment {
        // What only a bootstrap reads changes with the first restart, and steers nothing.
        let environment: BTreeMap<_, _> = environment
            .iter()
            .filter(|(variable, _)| !crate::runtime::Layout::is_bootstrap_only(variable))
            .collect();
        put(
            "running options",
            sha256(serde_json::to_string(&environment).unwrap_or_default()),
        );
    }
    if let Some(running) = &host.unit.running_sha256 {
        put("running binary", running.clone());
    }
    put(
        "binary",
        match &host.binary {
            None => "absent".into(),
            Some(binary) => binary.sha256.clone(),
        },
    );
    for (name, version) in &host.packages {
        put(&format!("package {name}"), version.clone());
    }
    for name in &host.held {
        put(&format!("hold of package {name}"), "held".into());
    }
    put(
        "data",
        match &host.data {
            DataDir::Empty => "empty".into(),
            DataDir::NoWal => "without WAL".into(),
            DataDir::Wal(wal) => format!("member {} of cluster {}", wal.member_id, wal.cluster_id),
            DataDir::Unreadable(_) => "unreadable".into(),
        },
    );
    if host.data != DataDir::Empty {
        let found = [&host.whereabouts.member, &host.whereabouts.wal];
        let found: Vec<&str> = found.into_iter().flatten().map(String::as_str).collect();
        put("place of the data", found.join(" "));
    }
    for (path, owner) in &host.whereabouts.strangers {
        put(&format!("owner in {path}"), owner.clone());
    }
    if let Some(theirs) = &host.whereabouts.taken {
        let member = format!(
            "member {} of cluster {}",
            theirs.member_id, theirs.cluster_id
        );
        put("data where it is to go", member);
    }
    put(
        "file system",
        host.filesystem
            .uuid
            .clone()
            .unwrap_or_else(|| host.filesystem.mount.clone()),
    );
    put(
        "clock",
        if host.clock_offset_ms.saturating_abs() > MAX_SKEW_MS {
            "skewed"
        } else {
            "in step"
        }
        .into(),
    );
    for listener in host.listeners.iter().filter(|listener| !listener.ours) {
        put(&format!("port {}", listener.port), "taken".into());
    }
    put(
        "etcd",
        match &host.etcd {
            EtcdState::Silent => "silent".into(),
            EtcdState::Unknown(_) => "unknown".into(),
            EtcdState::Answered(answer) => format!(
                "member {} of cluster {}",
                answer.status.member_id, answer.status.cluster_id
            ),
        },
    );
}
