//! etcd options: known to the version, not Quorate's own, of the right type, and sensible together.

use std::collections::BTreeMap;

use super::node::Shared;
use crate::desired::diagnostic::Sink;
use crate::desired::file::etcd::{Scalar, Settings};
use crate::desired::model::VersionSpec;
use crate::desired::read::{At, nearest};
use crate::etcd::option::{self, EtcdOption, Kind};
use crate::etcd::version::{self, Minor};

/// Why an option is not the file's to set, and what to do instead.
pub(crate) fn reserved(name: &str) -> Option<(&'static str, &'static str)> {
    const RENDERED: &str = "set by quorate";
    let reason = match name {
        "name" => (RENDERED, "it is the `name` of the node"),
        "data-dir" => (RENDERED, "use `data_dir`"),
        "wal-dir" => (RENDERED, "use `wal_dir`"),
        "listen-peer-urls" | "initial-advertise-peer-urls" => {
            (RENDERED, "use `ip` and `peer_port` of the node")
        }
        "listen-client-urls" | "listen-client-http-urls" | "advertise-client-urls" => {
            (RENDERED, "use `ip`, `listen` and `client_port` of the node")
        }
        "cert-file"
        | "key-file"
        | "trusted-ca-file"
        | "client-cert-auth"
        | "auto-tls"
        | "client-cert-file"
        | "client-key-file"
        | "peer-cert-file"
        | "peer-key-file"
        | "peer-trusted-ca-file"
        | "peer-client-cert-auth"
        | "peer-auto-tls"
        | "peer-client-cert-file"
        | "peer-client-key-file"
        | "self-signed-cert-validity" => (RENDERED, "use [tls]"),
        "force-new-cluster" => (
            "left on, the next restart drops all other members",
            "`quorate recover` sets it for one start, and lifts it again",
        ),
        "unsafe-no-fsync" => ("loses data", "leave it out"),
        "strict-reconfig-check" => (
            "the check of changes of the membership is etcd's own guard of the quorum, and on by default",
            "leave it out",
        ),
        "config-file" => (
            "makes etcd ignore every other setting",
            "write the options here",
        ),
        // Tuning of a start, in spite of its name.
        "initial-election-tick-advance" => return None,
        _ if name.starts_with("initial-") => (
            RENDERED,
            "quorate writes it for the one start that needs it",
        ),
        _ if name.starts_with("discovery") => {
            ("quorate knows all members from the file", "leave it out")
        }
        _ if name == "proxy" || name.starts_with("proxy-") => {
            ("a proxy is not a member of the cluster", "leave it out")
        }
        _ if name.starts_with("force-new-cluster") || name.starts_with("unsafe-") => {
            ("unsafe", "leave it out")
        }
        _ => return None,
    };
    Some(reason)
}

/// Options that all members must agree on.
const SAME_EVERYWHERE: [(&str, &str); 8] = [
    (
        "heartbeat-interval",
        "members with different timers call needless elections",
    ),
    (
        "election-timeout",
        "members with different timers call needless elections",
    ),
    (
        "auth-token",
        "a token of one member would not be accepted by another",
    ),
    (
        "max-learners",
        "members would disagree about the membership",
    ),
    (
        "experimental-max-learners",
        "members would disagree about the membership",
    ),
    (
        "experimental-enable-lease-checkpoint",
        "leases would depend on who leads",
    ),
    (
        "experimental-enable-lease-checkpoint-persist",
        "leases would depend on who leads",
    ),
    (
        "next-cluster-version-compatible",
        "it decides which versions may join",
    ),
];

/// The cluster's options with the node's over them, checked.
pub(crate) fn merge(
    own: Option<&Settings>,
    shared: Shared<'_>,
    sink: &mut Sink,
) -> Option<BTreeMap<String, String>> {
    let version = shared.etcd.and_then(|e| e.version.as_ref())?;
    let mut merged: BTreeMap<String, (String, &At<Scalar>)> = BTreeMap::new();
    let mut good = true;
    let cluster = shared.etcd_table.and_then(|e| e.settings.as_ref());
    for (settings, is_node) in [(cluster, false), (own, true)] {
        for (key, value) in settings.iter().flat_map(|s| &s.entries) {
            if is_node
                && let Some((_, why)) = SAME_EVERYWHERE.iter().find(|(name, _)| *name == key.value)
            {
                good = false;
                sink.error("must be the same on all members", &key.span)
                    .label(*why)
                    .help("set it in [etcd.settings]");
                continue;
            }
            match check(key, value, version, sink) {
                Some(text) => {
                    merged.insert(key.value.clone(), (text, value));
                }
                None => good = false,
            }
        }
    }
    good &= timers(&merged, sink);
    good &= retention(&merged, sink);
    quota(&merged, sink);
    good.then(|| {
        merged
            .into_iter()
            .map(|(name, (text, _))| (name, text))
            .collect()
    })
}

fn check(
    key: &At<String>,
    value: &At<Scalar>,
    version: &VersionSpec,
    sink: &mut Sink,
) -> Option<String> {
    let name = key.value.as_str();
    if let Some((why, instead)) = reserved(name) {
        sink.error("option not allowed", &key.span)
            .label(why)
            .help(instead);
        return None;
    }
    let Some(option) = find(name, version) else {
        unknown(key, version, sink);
        return None;
    };
    let text = match &value.value {
        Scalar::Bool(b) => b.to_string(),
        Scalar::Int(n) | Scalar::Float(n) => n.clone(),
        Scalar::Text(s) => s.clone(),
        Scalar::List(items) if option.kind == Kind::List => items.join(","),
        Scalar::List(_) => {
            sink.error("wrong value", &value.span)
                .label(format!("expected {}", option.kind.expected()));
            return None;
        }
    };
    match option.kind.normalise(&text) {
        Ok(text) => Some(text),
        Err(expected) => {
            sink.error("wrong value", &value.span)
                .label(format!("expected {expected}"));
            None
        }
    }
}

/// The option in the exact version, or in any that the constraint allows.
fn find(name: &str, version: &VersionSpec) -> Option<&'static EtcdOption> {
    match version {
        VersionSpec::Exact(exact) => option::table(Minor::of(exact))?
            .get(name)
            .filter(|option| option.is_in(exact)),
        VersionSpec::Constraint(constraint) => version::minors_matching(constraint)
            .into_iter()
            .find_map(|m| option::table(m)?.get(name)),
    }
}

fn unknown(key: &At<String>, version: &VersionSpec, sink: &mut Sink) {
    let name = key.value.as_str();
    let of = match version {
        VersionSpec::Exact(exact) => format!("etcd {exact}"),
        VersionSpec::Constraint(constraint) => format!("etcd {constraint}"),
    };
    let error = sink
        .error("unknown option", &key.span)
        .label(format!("not an option of {of}"));
    let plain = name
        .trim_start_matches('-')
        .replace('_', "-")
        .to_lowercase();
    let plain = plain.strip_prefix("etcd-").unwrap_or(&plain);
    if plain != name && find(plain, version).is_some() {
        error.help(format!("options go by their flag name: `{plain}`"));
        return;
    }
    let renamed = match name.strip_prefix("experimental-") {
        Some(graduated) => graduated.to_owned(),
        None => format!("experimental-{name}"),
    };
    if find(&renamed, version).is_some() {
        error.help(format!("it is called `{renamed}` there"));
        return;
    }
    let elsewhere: Vec<String> = option::tables()
        .iter()
        .filter_map(|t| Some((t.minor, t.get(name)?)))
        .map(|(minor, option)| match (option.since, option.until) {
            (0, None) => minor.to_string(),
            (since, None) => format!("{minor} from {minor}.{since}"),
            (since, Some(until)) => format!("{minor} from {minor}.{since} to {minor}.{until}"),
        })
        .collect();
    if !elsewhere.is_empty() {
        error.help(format!("etcd {} has it", elsewhere.join(", ")));
        return;
    }
    let minors = match version {
        VersionSpec::Exact(exact) => vec![Minor::of(exact)],
        VersionSpec::Constraint(constraint) => version::minors_matching(constraint),
    };
    let known = minors
        .into_iter()
        .filter_map(option::table)
        .flat_map(|t| &t.options);
    let known = known.map(|o| o.name).filter(|n| reserved(n).is_none());
    if let Some(near) = nearest(name, known) {
        error.help(format!("did you mean `{near}`?"));
    }
}

/// etcd's rules: `election-timeout` at least 5 times `heartbeat-interval`, and at most 50000 ms.
/// Source: etcd server/embed/config.go `Validate`, tuning.md.
fn timers(merged: &BTreeMap<String, (String, &At<Scalar>)>, sink: &mut Sink) -> bool {
    let get = |name: &str| {
        merged
            .get(name)
            .and_then(|(text, at)| Some((text.parse::<u64>().ok()?, &at.span)))
    };
    let (heartbeat, election) = (get("heartbeat-interval"), get("election-timeout"));
    let (beat, limit) = (
        heartbeat.map_or(100, |h| h.0),
        election.map_or(1000, |e| e.0),
    );
    let Some(span) = election.or(heartbeat).map(|t| t.1) else {
        return true;
    };
    let mut good = true;
    for (value, at, name) in [
        (beat, heartbeat, "heartbeat-interval"),
        (limit, election, "election-timeout"),
    ] {
        if let (0, Some((_, span))) = (value, at) {
            good = false;
            sink.error("bad timers", span)
                .label(format!("`{name}` cannot be 0"));
        }
    }
    if !good {
        return false;
    }
    if limit > 50_000 {
        sink.error("bad timers", span).label(format!(
            "`election-timeout` is {limit} ms; etcd accepts at most 50000"
        ));
        return false;
    }
    let severity = if limit < beat.saturating_mul(5) {
        good = false;
        Some(sink.error("bad timers", span).label(format!(
            "election {limit} ms is less than 5 times heartbeat {beat} ms: etcd refuses to start"
        )))
    } else if limit < beat.saturating_mul(10) {
        Some(sink.warning("short election timeout", span).label(format!(
            "election {limit} ms is less than 10 times heartbeat {beat} ms: a short delay calls an election"
        )))
    } else {
        None
    };
    if let Some(found) = severity {
        match (heartbeat, election) {
            (Some((_, other)), Some(_)) => {
                found.also(other, "the heartbeat");
            }
            (Some(_), None) => {
                found.help("`election-timeout` is 1000 unless it is set");
            }
            (None, _) => {
                found.help("`heartbeat-interval` is 100 unless it is set");
            }
        }
    }
    good
}

/// By revision, the retention is a number; etcd finds that out only when it starts.
fn retention(merged: &BTreeMap<String, (String, &At<Scalar>)>, sink: &mut Sink) -> bool {
    let by_revision = merged
        .get("auto-compaction-mode")
        .is_some_and(|(mode, _)| mode == "revision");
    let Some((retention, at)) = merged.get("auto-compaction-retention") else {
        return true;
    };
    if by_revision && retention.parse::<u64>().is_err() {
        let error = sink
            .error("wrong value", &at.span)
            .label("expected a number of revisions, because the mode is `revision`");
        if let Some((_, mode)) = merged.get("auto-compaction-mode") {
            error.also(&mode.span, "the mode");
        }
        return false;
    }
    true
}

/// etcd's suggested maximum is 8 GiB. Source: etcd documentation, limit.md.
fn quota(merged: &BTreeMap<String, (String, &At<Scalar>)>, sink: &mut Sink) {
    let Some((quota, at)) = merged.get("quota-backend-bytes") else {
        return;
    };
    if quota.parse::<i64>().is_ok_and(|bytes| bytes > 8 << 30) {
        sink.warning("large quota", &at.span)
            .label("more than 8 GiB, the most that etcd suggests")
            .detail("starts, snapshots and defragmentations take longer with every gigabyte");
    }
}
