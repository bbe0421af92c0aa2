//! The pure core stays pure: what plans and schedules knows no I/O, no clock and no randomness, and
//! only `runtime` knows unit names and managed paths.
//!
//! The sources are read as tokens, so comments and strings cannot hide or feign an import. Code under
//! `#[cfg(test)]` is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Modules that are pure.
const PURE: [&str; 8] = [
    "action", "desired", "etcd", "observed", "plan", "runtime", "safety", "schedule",
];

/// Modules that perform I/O or are only for those that do.
const EDGE: [&str; 10] = [
    "apply", "artifact", "cli", "command", "error", "observe", "pki", "remote", "render", "secret",
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
            "{}: say in tests/purity.rs whether it is pure",
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

#[test]
fn the_test_can_fail() {
    let crates = BTreeSet::from(["tokio".to_owned(), "ssh2".to_owned()]);
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    for (bad, fault) in [
        ("use tokio::sync::mpsc;", "tokio::sync::mpsc"),
        ("use tokio;", "tokio"),
        ("use tokio as t;", "tokio"),
        ("fn f() { ssh2::Session::new(); }", "ssh2::Session::new"),
        ("use std::fs;", "std::fs"),
        ("use std::{fmt, fs as files};", "std::fs"),
        ("use std::net::{IpAddr, TcpStream};", "std::net::TcpStream"),
        ("use std::time::*;", "std::time::*"),
        ("use std::time;", "std::time"),
        ("use std::time::{self, Duration};", "std::time"),
        ("use ::std::process::Command;", "std::process::Command"),
        (
            "fn f() -> u64 { std::time::Instant::now().elapsed() }",
            "std::time::Instant::now",
        ),
        (
            "fn f() { format!(\"{}\", std::env::var(\"X\")); }",
            "std::env::var",
        ),
        ("fn f() { println!(\"x\"); }", "println"),
        ("fn f() { time::OffsetDateTime::now_utc(); }", "now_utc"),
        ("use crate::observe::Fleet;", "crate::observe::Fleet"),
        ("use crate::{action::Action, remote};", "crate::remote"),
        ("use crate::*;", "crate::*"),
        ("use super::super::apply::run;", "crate::apply::run"),
        (
            "mod a { pub mod b { use crate::pki::Key; } }",
            "crate::pki::Key",
        ),
        ("#[cfg(not(test))] use std::fs;", "std::fs"),
        (
            "#[cfg(test)] mod tests { use std::fs; } use std::process;",
            "std::process",
        ),
    ] {
        assert_eq!(
            impure(bad, &module("plan::host"), &crates),
            [fault],
            "{bad}"
        );
    }
    for good in [
        "use std::time::Duration; use std::net::IpAddr; use std::{fmt, collections::BTreeMap};",
        "// use tokio::sync;\n/// `std::fs`\nfn f() { g(\"use tokio::fs\") }",
        "#[cfg(test)] mod tests { use std::fs; fn f() { std::process::exit(1) } }",
        "#[cfg(test)] #[allow(unused)] use std::fs;",
        "pub(crate) fn f(observe: u8) -> u8 { observe }",
        "use super::apply; use crate::observed::Observed; use crate::action::observe;",
        "use time::OffsetDateTime; fn f(now: OffsetDateTime) {}",
    ] {
        assert_eq!(
            impure(good, &module("plan::host"), &crates),
            [""; 0],
            "{good}"
        );
    }
    // In a module file `super` is the crate itself.
    assert_eq!(
        impure("use super::apply;", &module("plan"), &crates),
        ["crate::apply"]
    );

    assert_eq!(
        managed("fn f() -> &'static str { \"/etc/etcd/x\" }").len(),
        1
    );
    assert_eq!(
        managed("fn f() { format!(\"{}/etcd.service\", 1) }").len(),
        1
    );
    assert_eq!(
        managed("/// `/etc/etcd`\n#[cfg(test)] mod t { const A: &str = \"etcd.service\"; }").len(),
        0
    );
}

/// Paths and names of the text that a pure module must not use.
fn impure(text: &str, module: &[String], crates: &BTreeSet<String>) -> Vec<String> {
    let tokens = without_tests(text.parse().expect("Rust"));
    let mut paths = Vec::new();
    collect(tokens, &[], &mut paths);
    paths
        .into_iter()
        .filter_map(|path| {
            let path = absolute(path, module);
            let name = path.iter().find(|part| NAMES.contains(&part.as_str()));
            match name {
                Some(name) => Some(name.clone()),
                None => forbidden(&path, crates).then(|| path.join("::")),
            }
        })
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

/// `self` and `super` as paths from `crate`.
fn absolute(path: Vec<String>, module: &[String]) -> Vec<String> {
    let up = path.iter().take_while(|part| *part == "super").count();
    if up == 0 {
        return path;
    }
    let stays = module.len().saturating_sub(up);
    ["crate".to_owned()]
        .into_iter()
        .chain(module.iter().take(stays).cloned())
        .chain(path.into_iter().skip(up))
        .collect()
}

/// All paths: `a::b`, and what is in braces after `a::`; names of one part only where they stand alone.
fn collect(tokens: TokenStream, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut path: Vec<String> = prefix.to_vec();
    let mut fresh = true;
    let mut importing = !prefix.is_empty();
    let mut colons = 0;
    let flush = |path: &mut Vec<String>, importing: bool, paths: &mut Vec<Vec<String>>| {
        let parts = std::mem::replace(path, prefix.to_vec());
        let named =
            parts.len() > 1 || importing || parts.iter().any(|part| NAMES.contains(&part.as_str()));
        if named && parts.len() > prefix.len() {
            paths.push(parts);
        }
    };
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) => {
                let ident = ident.to_string();
                if colons != 2 && !fresh {
                    flush(&mut path, importing, paths);
                }
                match ident.as_str() {
                    "use" => importing = true,
                    // The new name is no path.
                    "as" => {
                        tokens.next();
                    }
                    // `std::time::{self}` is `std::time`.
                    "self" if !prefix.is_empty() => paths.push(prefix.to_vec()),
                    _ => path.push(ident),
                }
                (fresh, colons) = (path.len() == prefix.len(), 0);
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Punct(punct) if punct.as_char() == '*' && colons == 2 => {
                path.push("*".into());
                colons = 0;
            }
            TokenTree::Group(group) => {
                let nested = colons == 2 && group.delimiter() == Delimiter::Brace;
                if nested {
                    collect(group.stream(), &path, paths);
                    path = prefix.to_vec();
                } else {
                    flush(&mut path, importing, paths);
                    collect(group.stream(), &[], paths);
                }
                (fresh, colons) = (true, 0);
            }
            TokenTree::Punct(punct) => {
                flush(&mut path, importing, paths);
                importing &= punct.as_char() != ';';
                (fresh, colons) = (true, 0);
            }
            TokenTree::Literal(_) => {
                flush(&mut path, importing, paths);
                (fresh, colons) = (true, 0);
            }
        }
    }
    flush(&mut path, importing, paths);
}

/// Leaves out what `#[cfg(test)]` is on, and documentation.
fn without_tests(tokens: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if !is_hash(&token) {
            kept.push(within(token));
            continue;
        }
        // `#![…]` is for the whole file.
        let inner = tokens
            .next_if(|next| matches!(next, TokenTree::Punct(punct) if punct.as_char() == '!'));
        let Some(TokenTree::Group(attribute)) = tokens.peek() else {
            kept.push(token);
            continue;
        };
        let text = attribute.stream().to_string().replace(' ', "");
        tokens.next();
        if text == "cfg(test)" && inner.is_none() {
            // The item ends with its braces or a semicolon; further attributes are brackets.
            for token in tokens.by_ref() {
                match token {
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                    TokenTree::Punct(punct) if punct.as_char() == ';' => break,
                    _ => {}
                }
            }
        }
    }
    kept.into_iter().collect()
}

fn within(token: TokenTree) -> TokenTree {
    match token {
        TokenTree::Group(group) => TokenTree::Group(proc_macro2::Group::new(
            group.delimiter(),
            without_tests(group.stream()),
        )),
        other => other,
    }
}

fn is_hash(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == '#')
}

/// Literals outside of tests that name a unit or a managed path.
fn managed(text: &str) -> Vec<String> {
    fn literals(tokens: TokenStream, found: &mut Vec<String>) {
        for token in tokens {
            match token {
                TokenTree::Literal(literal) if names_managed(&literal.to_string()) => {
                    found.push(literal.to_string());
                }
                TokenTree::Group(group) => literals(group.stream(), found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    literals(without_tests(text.parse().expect("Rust")), &mut found);
    found
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
