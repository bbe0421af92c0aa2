//! The option tables against real etcd, as far as its binaries are on this machine.
//!
//! Archives are looked for where the lab keeps them (`QUORATE_LAB_CACHE`).

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate::etcd::option::{self, EtcdOption, Kind};
use quorate::etcd::version::{KNOWN_MINORS, Minor};
use semver::Version;

/// Options that a binary takes although its help does not name them.
const HIDDEN: [(&str, &str); 6] = [
    ("config-file", "named in the usage lines instead"),
    ("log-output", "3.4: old name of log-outputs"),
    ("enable-grpc-gateway", "3.4: missing in help.go"),
    (
        "experimental-enable-lease-checkpoint-persist",
        "3.4: missing in help.go",
    ),
    ("unsafe-no-fsync", "3.4: missing in help.go"),
    (
        "experimental-snapshot-catchup-entries",
        "3.5: missing in help.go",
    ),
];

/// Options that help names although the binary does not take them any more.
const STALE: [(&str, &str); 2] = [
    (
        "discovery",
        "3.7: removed with v2 discovery, left in help.go",
    ),
    (
        "discovery-proxy",
        "3.7: removed with v2 discovery, left in help.go",
    ),
];

/// Past the test harness, which hides what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "etcd_options: {line}");
}

fn releases() -> PathBuf {
    std::env::var_os("QUORATE_LAB_CACHE")
        .map_or_else(|| PathBuf::from("/var/cache/quorate-lab"), PathBuf::from)
        .join("releases")
}

/// Unpacks every archive there is.
fn binaries(into: &Path) -> Vec<(Version, PathBuf)> {
    let Ok(entries) = fs::read_dir(releases()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for archive in entries.filter_map(Result::ok).map(|e| e.path()) {
        let name = archive
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let Some(stem) = name.strip_suffix("-linux-amd64.tar.gz") else {
            continue;
        };
        let Some(Ok(version)) = stem.strip_prefix("etcd-v").map(Version::parse) else {
            continue;
        };
        let unpacked = Command::new("tar")
            .arg("xzf")
            .arg(&archive)
            .arg("-C")
            .arg(into)
            .status();
        assert!(
            unpacked.is_ok_and(|s| s.success()),
            "{} cannot be unpacked",
            archive.display()
        );
        found.push((version, into.join(format!("{stem}-linux-amd64/etcd"))));
    }
    found.sort();
    found
}

fn help(etcd: &Path) -> BTreeSet<String> {
    let output = Command::new(etcd)
        .arg("--help")
        .output()
        .expect("etcd runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"))
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
                .collect()
        })
        .collect()
}

/// A value that the option's kind allows.
fn sample(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true".to_owned(),
        Kind::Int | Kind::Uint(None) | Kind::Float | Kind::Retention | Kind::Size => {
            "10".to_owned()
        }
        Kind::Uint(Some((from, _))) => from.to_string(),
        Kind::Duration => "10s".to_owned(),
        Kind::Text => String::new(),
        // Most lists are of URLs.
        Kind::List => "http://127.0.0.1:1".to_owned(),
        Kind::Enum(words) => words[0].to_owned(),
    }
}

/// Whether the binary takes this option and value. With `--version` it parses all flags, and starts nothing.
fn takes(etcd: &Path, flag: &str, value: &str) -> bool {
    let output = Command::new(etcd)
        .arg(format!("--{flag}={value}"))
        .arg("--version")
        .output();
    output.expect("etcd runs").status.success()
}

#[test]
fn tables_are_those_of_real_binaries() {
    let dir = tempfile::tempdir().expect("a directory");
    let binaries = binaries(dir.path());
    for minor in KNOWN_MINORS {
        if !binaries.iter().any(|(v, _)| Minor::of(v) == minor) {
            say(&format!(
                "NOT CHECKED: no binary of etcd {minor} in {}: its option table rests on the source alone",
                releases().display()
            ));
        }
    }
    for (version, etcd) in &binaries {
        say(&format!("checked against etcd {version}"));
        let table = option::table(Minor::of(version)).expect("a known minor");
        let listed: BTreeSet<String> = table
            .options
            .iter()
            .filter(|o| o.is_in(version))
            .map(|o| o.name.to_owned())
            .collect();
        let shown = help(etcd);
        assert!(
            shown.len() > 60,
            "etcd {version} shows {} options only",
            shown.len()
        );

        let stale: BTreeSet<&str> = STALE.iter().map(|s| s.0).collect();
        let unknown: Vec<&String> = shown
            .difference(&listed)
            .filter(|n| {
                !["version", "help", ""].contains(&n.as_str()) && !stale.contains(n.as_str())
            })
            .collect();
        assert!(
            unknown.is_empty(),
            "etcd {version} has options that its table has not: {unknown:?}"
        );

        let hidden: BTreeSet<&str> = HIDDEN.iter().map(|h| h.0).collect();
        let invented: Vec<&String> = listed
            .difference(&shown)
            .filter(|n| !hidden.contains(n.as_str()))
            .collect();
        assert!(
            invented.is_empty(),
            "etcd {version} does not show {invented:?}"
        );

        for option in &table.options {
            let EtcdOption { name, kind, .. } = option;
            // Its list is one of gates, which the binary knows by name.
            let value = match *name {
                "feature-gates" => "CompactHashCheck=true".to_owned(),
                _ => sample(kind),
            };
            assert_eq!(
                takes(etcd, name, &value),
                option.is_in(version),
                "etcd {version} with --{name}={value}"
            );
            // Go's own types refuse what the table's kinds refuse; texts and sizes are not checked by flags.
            let strict = matches!(
                kind,
                Kind::Bool | Kind::Int | Kind::Uint(_) | Kind::Duration | Kind::Size
            );
            if strict && option.is_in(version) {
                assert!(
                    !takes(etcd, name, "x!"),
                    "etcd {version} takes any text for --{name}"
                );
            }
        }
    }
}
