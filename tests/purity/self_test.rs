//! The rules find what they look for, and nothing else.

use std::collections::BTreeSet;

use super::{astray, impure, managed};

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

    let edge = |text: &str, path: &str| astray(text, &module(path));
    assert_eq!(
        edge("use crate::apply::run;", "observe::fleet"),
        ["crate::apply::run"]
    );
    assert_eq!(
        edge("use crate::{pki, remote::Host};", "observe::fleet"),
        [""; 0]
    );
    assert_eq!(
        edge("use super::super::command;", "remote::host"),
        ["crate::command"]
    );
    assert_eq!(
        edge("fn f() { ssh2::Session::new(); }", "command::plan"),
        ["ssh2::Session::new"]
    );
    assert_eq!(edge("use ssh2::Session;", "remote::actor"), [""; 0]);

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
