//! What the tests share.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use quorate::desired::model::KeyKind;
use quorate::pki::{Authority, KeyProtection, Names, NewAuthority, PkiError};
use tempfile::TempDir;
use time::OffsetDateTime;

pub const KINDS: [KeyKind; 3] = [KeyKind::Rsa2048, KeyKind::EcdsaP256, KeyKind::EcdsaP384];
pub const DAY: Duration = Duration::from_secs(86_400);

pub fn new_authority(key: KeyKind) -> NewAuthority<'static> {
    NewAuthority {
        cluster: "demo",
        key,
        validity: DAY * 3650,
    }
}

/// A directory with an authority in `pki`, made now.
pub fn authority(key: KeyKind) -> (TempDir, PathBuf, Authority) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("pki");
    let now = OffsetDateTime::now_utc();
    let authority =
        Authority::create_or_open(&dir, &new_authority(key), &KeyProtection::Plain, now);
    let authority = authority.unwrap_or_else(|error| panic!("{error}"));
    (home, dir, authority)
}

/// The error that must come; an authority has no debug output for `unwrap_err`.
pub fn refused<T>(result: Result<T, PkiError>) -> PkiError {
    match result {
        Ok(_) => panic!("this had to be refused"),
        Err(error) => error,
    }
}

pub fn names() -> Names {
    let mut names = Names::only_cn("etcd-1");
    for name in [
        "etcd-1",
        "etcd-1.example.com",
        "localhost",
        "127.0.0.1",
        "::1",
        "10.0.0.1",
    ] {
        names.add(name);
    }
    names
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::symlink_metadata(path)
        .unwrap()
        .permissions()
        .mode()
        & 0o7777
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Runs a program that has to succeed, for its standard output.
pub fn run(program: &Path, args: &[&str]) -> String {
    let output = output(program, args);
    assert!(
        output.status.success(),
        "{program:?} {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn output(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

/// A program of PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// Says that a test did not run, past the capture of the test harness; an error where
/// `QUORATE_TESTS_NO_SKIP` is set.
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    assert!(
        std::env::var_os("QUORATE_TESTS_NO_SKIP").is_none(),
        "{line}"
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
