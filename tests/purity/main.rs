//! The pure core stays pure: what plans and schedules knows no I/O, no clock and no randomness, and
//! only `runtime` knows unit names and managed paths.
//!
//! The sources are read as tokens, so comments and strings cannot hide or feign an import. Code under
//! `#[cfg(test)]` is left out.

mod scan;
mod self_test;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that are pure.
const PURE: [&str; 9] = [
    "action", "desired", "etcd", "observed", "plan", "runtime", "sabotage", "safety", "schedule",
];

/// Modules that perform I/O or are only for those that do.
const EDGE: [&str; 10] = [
    "apply", "artifact", "cli", "command", "error", "observe", "pki", "remote", "render", "secret",
];

/// What each edge module may import of the others; docs/architecture.md has the same table.
const SEAMS: [(&str, &[&str]); 7] = [
    ("apply", &["observe", "pki", "remote", "render"]),
    ("artifact", &[]),
    ("observe", &["artifact", "pki", "remote", "secret"]),
    ("pki", &[]),
    ("remote", &["secret"]),
    ("render", &[]),
    ("secret", &[]),
];

/// Dependencies of which no type leaves one module.
const ENCLOSED: [(&str, &str); 5] = [
    ("etcd_client", "remote"),
    ("flate2", "artifact"),
    ("ssh2", "remote"),
    ("tar", "artifact"),
    ("ureq", "artifact"),
];

/// Dependencies that only compute. All others of Cargo.toml are out of bounds for the pure modules.
const PURE_CRATES: [&str; 16] = [
    "base64",
    "hex",
    "humantime",
    "petgraph",
    "schemars",
    "semver",
    "serde",
    "serde_json",
    "sha1",
    "sha2",
    "similar",
    "strsim",
    "thiserror",
    "time",
    "toml",
    "x509_parser",
];

/// What of the standard library touches the world.
const STD: [&str; 15] = [
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::hash::RandomState",
];

/// Names that reach the world from values that are pure themselves: clocks, files behind a path, terminals.
const NAMES: [&str; 11] = [
    "canonicalize",
    "eprintln",
    "now_local",
    "now_utc",
    "print",
    "println",
    "eprint",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

/// Only `src/runtime` may say these.
const MANAGED: [&str; 3] = ["etcd.service", "/etc/etcd", "/run/systemd"];

#[test]
fn pure_modules_import_nothing_impure() {
    let crates = impure_crates();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, module) in sources() {
        let Some(pure) = PURE
            .iter()
            .find(|name| module.first().is_some_and(|first| first == *name))
        else {
            continue;
        };
        seen.insert(*pure);
        let text = fs::read_to_string(&path).expect("a readable source");
        faults.extend(
            impure(&text, &module, &crates)
                .into_iter()
                .map(|fault| format!("{}: {fault}", path.display())),
        );
    }
    assert_eq!(
        seen.len(),
        PURE.len(),
        "a pure module has no sources: found {seen:?}"
    );
    assert!(faults.is_empty(), "impure:\n{}", faults.join("\n"));
}

#[test]
fn edge_modules_keep_to_their_seams() {
    let mut faults = Vec::new();
    for (path, module) in sources() {
        let text = fs::read_to_string(&path).expect("a readable source");
        let found = astray(&text, &module);
        faults.extend(
            found
                .into_iter()
                .map(|fault| format!("{}: {fault}", path.display())),
        );
    }
    assert!(faults.is_empty(), "across a seam:\n{}", faults.join("\n"));
}

#[test]
fn every_module_is_pure_or_edge() {
    let known: BTreeSet<&str> = PURE
        .into_iter()
        .chain(EDGE)
        .chain(["lib", "main"])
        .collect();
    for (path, module) in sources() {
        let first = module.first().map_or("lib", String::as_str);
        assert!(
            known.contains(first),
            "{}: say in tests/purity/main.rs whether it is pure",
            path.display()
        );
    }
}

#[test]
fn only_runtimes_know_units_and_managed_paths() {
    let mut faults = Vec::new();
    let mut in_runtime = 0;
    for path in files(&root().join("src")) {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let found = if path.extension().is_some_and(|extension| extension == "rs") {
            managed(&text)
        } else {
            // Scripts and tables, which have no test code.
            let lines = text
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'));
            lines
                .filter(|line| names_managed(line))
                .map(str::to_owned)
                .collect()
        };
        if path.starts_with(root().join("src/runtime")) {
            in_runtime += found.len();
        } else {
            faults.extend(
                found
                    .into_iter()
                    .map(|fault| format!("{}: {fault}", path.display())),
            );
        }
    }
    assert!(
        in_runtime > 0,
        "not even src/runtime names a unit: this test looks for the wrong thing"
    );
    assert!(
        faults.is_empty(),
        "only src/runtime may name these:\n{}",
        faults.join("\n")
    );
}

/// Paths and names of the text that a pure module must not use.
fn impure(text: &str, module: &[String], crates: &BTreeSet<String>) -> Vec<String> {
    scan::paths(text, module)
        .into_iter()
        .filter_map(|path| {
            let name = path.iter().find(|part| NAMES.contains(&part.as_str()));
            match name {
                Some(name) => Some(name.clone()),
                None => forbidden(&path, crates).then(|| path.join("::")),
            }
        })
        .collect()
}

/// Paths of the text that cross a seam.
fn astray(text: &str, module: &[String]) -> Vec<String> {
    let this = module.first().map_or("lib", String::as_str);
    let seam = SEAMS
        .iter()
        .find(|(name, _)| *name == this)
        .map(|(_, allowed)| *allowed);
    scan::paths(text, module)
        .into_iter()
        .filter(|path| match path.as_slice() {
            [first, next, ..] if first == "crate" => seam.is_some_and(|allowed| {
                next == "*"
                    || (EDGE.contains(&next.as_str())
                        && next != this
                        && !allowed.contains(&next.as_str()))
            }),
            [first, ..] => ENCLOSED
                .iter()
                .any(|(name, owner)| first == name && this != *owner),
            [] => false,
        })
        .map(|path| path.join("::"))
        .collect()
}

fn forbidden(path: &[String], crates: &BTreeSet<String>) -> bool {
    let [first, rest @ ..] = path else {
        return false;
    };
    if crates.contains(first) {
        return true;
    }
    match (first.as_str(), rest.first().map(String::as_str)) {
        // `pub(crate)`.
        ("crate", None) => false,
        ("crate", Some(next)) => next == "*" || EDGE.contains(&next),
        ("std", _) => STD.iter().any(|forbidden| {
            let forbidden: Vec<&str> = forbidden.split("::").collect();
            let path: Vec<&str> = path
                .iter()
                .map(String::as_str)
                .filter(|part| *part != "*")
                .collect();
            // As much of a path as leads to something forbidden is too much.
            forbidden.iter().zip(&path).all(|(a, b)| a == b)
        }),
        _ => false,
    }
}

/// Literals outside of tests that name a unit or a managed path.
fn managed(text: &str) -> Vec<String> {
    scan::literals(text, names_managed)
}

fn names_managed(text: &str) -> bool {
    // How to tell that a host runs systemd at all (sd_booted(3)); nothing there is ours.
    let text = text.replace("[ -d /run/systemd/system ]", "");
    MANAGED.iter().any(|name| text.contains(name))
}

/// Dependencies of Cargo.toml, as they are called in code, that are not known to be pure.
fn impure_crates() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let manifest: toml::Table = text.parse().expect("TOML");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    assert!(dependencies.contains_key("tokio") && dependencies.contains_key("ssh2"));
    dependencies
        .keys()
        .map(|name| name.replace('-', "_"))
        .filter(|name| !PURE_CRATES.contains(&name.as_str()))
        .chain(["rand".to_owned()])
        .collect()
}

/// Every Rust source with its module path.
fn sources() -> Vec<(PathBuf, Vec<String>)> {
    let src = root().join("src");
    let mut found = Vec::new();
    for path in files(&src) {
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let relative = path
            .strip_prefix(&src)
            .expect("below src")
            .with_extension("");
        let mut module: Vec<String> = relative
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        module.retain(|part| part != "mod");
        found.push((path, module));
    }
    assert!(found.len() > 50, "only {} sources found", found.len());
    found
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
