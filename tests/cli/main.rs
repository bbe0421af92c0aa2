//! The program as it is typed: usage, exit codes, and the commands that need no host.

mod slips;

use std::path::{Path, PathBuf};
use std::process::Output;

use snapbox::cmd::{Command, cargo_bin};
use snapbox::{Data, data::DataFormat};

/// Every command, as `quorate help` lists them.
const COMMANDS: [&str; 12] = [
    "init",
    "validate",
    "fmt",
    "plan",
    "apply",
    "destroy",
    "status",
    "show",
    "graph",
    "schema",
    "completions",
    "man",
];

/// The program in a directory, with nothing of the operator's environment that steers it.
fn quorate(dir: &Path, arguments: &[&str]) -> Command {
    Command::new(cargo_bin!("quorate"))
        .args(arguments)
        .current_dir(dir)
        .env_remove("QUORATE_FILE")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("XDG_STATE_HOME")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .env("HOME", dir)
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    quorate(dir, arguments).output().unwrap()
}

/// Runs it, expects this exit code, and gives back both streams.
#[track_caller]
fn expect(dir: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let output = run(dir, arguments);
    let out = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}\n{out}{err}"
    );
    (out, err)
}

/// Compares with a file beside this one, or writes it where QUORATE_BLESS=1 asks for that.
#[track_caller]
fn golden(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli/golden")
        .join(name);
    if std::env::var_os("QUORATE_BLESS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = Data::read_from(&path, Some(DataFormat::Text)).raw();
    snapbox::Assert::new().eq(found, expected);
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A directory with the cluster file that `init` writes.
fn initialised() -> tempfile::TempDir {
    let dir = temporary();
    let nodes = ["etcd-1=10.0.0.1", "etcd-2=10.0.0.2", "etcd-3=10.0.0.3"];
    let mut arguments = vec!["init"];
    arguments.extend(nodes);
    expect(dir.path(), &arguments, 0);
    dir
}

#[test]
fn help_of_every_command() {
    let dir = temporary();
    let (out, err) = expect(dir.path(), &["--help"], 0);
    assert_eq!(err, "");
    golden("quorate.txt", &out);
    let listed: Vec<&str> = out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, COMMANDS);
    for command in COMMANDS {
        let (out, err) = expect(dir.path(), &[command, "--help"], 0);
        assert_eq!(err, "");
        golden(&format!("{command}.txt"), &out);
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let dir = temporary();
    let (out, _) = expect(dir.path(), &["--version"], 0);
    assert_eq!(out, format!("quorate {}\n", env!("CARGO_PKG_VERSION")));
}

/// clap's own code for wrong usage is 2, which a script would take for "changes".
#[test]
fn wrong_usage_is_an_error() {
    let dir = temporary();
    for arguments in [
        &[][..],
        &["plam"],
        &["plan", "--no-such-option"],
        &["plan", "--purge-data"],
        &["apply", "a.plan", "--allow-downtime"],
        &["graph", "--format", "png"],
        &["init"],
        &["init", "etcd-1"],
        &["init", "etcd-1=nowhere"],
        &["show"],
        &["completions", "tcsh"],
        &["apply", "--lock-timeout", "soon"],
        &["apply", "--lock-timeout", "500000000000y"],
        &["apply", "--lock-timeout", "366d"],
        &["plan", "--parallelism", "3000000000000000000"],
        &["plan", "--parallelism", "0"],
    ] {
        let (out, err) = expect(dir.path(), arguments, 1);
        assert_eq!(out, "", "{arguments:?}");
        assert!(err.contains("Usage:") || err.contains("error:"), "{err}");
    }
    let (_, err) = expect(dir.path(), &["plam"], 1);
    assert!(
        err.contains("'plan'"),
        "the nearest command is named: {err}"
    );
}

#[test]
fn a_missing_cluster_file_is_named() {
    let dir = temporary();
    for command in ["validate", "plan", "apply", "destroy", "status", "graph"] {
        let (out, err) = expect(dir.path(), &[command], 1);
        assert_eq!(out, "", "{command}");
        assert!(err.contains("cluster.toml"), "{command}: {err}");
        assert!(err.contains("No such file"), "{command}: {err}");
        let (_, err) = expect(dir.path(), &[command, "-f", "other.toml"], 1);
        assert!(err.contains("other.toml"), "{command}: {err}");
    }
    let output = quorate(dir.path(), &["validate"])
        .env("QUORATE_FILE", "from-environment.toml")
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("from-environment.toml"), "{err}");
}

#[test]
fn a_plan_that_is_none_is_named() {
    let dir = temporary();
    std::fs::write(dir.path().join("broken.plan"), "{}").unwrap();
    for arguments in [["show", "broken.plan"], ["apply", "broken.plan"]] {
        let (_, err) = expect(dir.path(), &arguments, 1);
        assert!(err.contains("broken.plan"), "{err}");
        assert!(err.contains("plan again"), "{err}");
    }
    let (_, err) = expect(dir.path(), &["show", "absent.plan"], 1);
    assert!(err.contains("absent.plan"), "{err}");
}

#[test]
fn init_writes_a_file_that_is_valid_and_canonical() {
    let dir = initialised();
    expect(dir.path(), &["validate"], 0);
    expect(dir.path(), &["fmt", "--check"], 0);
    // Nothing in pki/ gets into version control by mistake.
    let ignored = std::fs::read_to_string(dir.path().join("pki/.gitignore")).unwrap();
    assert!(
        ignored.lines().any(|line| line == "*" || line == "/*"),
        "{ignored}"
    );
    golden(
        "init.toml",
        &std::fs::read_to_string(dir.path().join("cluster.toml")).unwrap(),
    );
    // A file that is there is never overwritten.
    let (_, err) = expect(dir.path(), &["init", "etcd-9=10.0.0.9"], 1);
    assert!(err.contains("cluster.toml"), "{err}");
    let text = std::fs::read_to_string(dir.path().join("cluster.toml")).unwrap();
    assert!(!text.contains("etcd-9"));
}

#[test]
fn validate_shows_the_text_that_is_wrong() {
    let dir = initialised();
    let path = dir.path().join("cluster.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("[cluster]\nname =", "[cluster]\nnane ="),
    )
    .unwrap();
    let (_, err) = expect(dir.path(), &["validate"], 1);
    assert!(err.contains("cluster.toml:"), "{err}");
    assert!(err.contains("nane"), "{err}");
    assert!(err.contains("^^^^"), "{err}");
}

#[test]
fn fmt_checks_and_formats() {
    let dir = initialised();
    let path = dir.path().join("cluster.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("schema = 1", "schema   =    1")).unwrap();
    let (out, _) = expect(dir.path(), &["fmt", "--check"], 1);
    assert_eq!(out, "cluster.toml\n");
    expect(dir.path(), &["fmt"], 0);
    expect(dir.path(), &["fmt", "--check"], 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn the_schema_is_json() {
    let dir = temporary();
    let (out, err) = expect(dir.path(), &["schema"], 0);
    assert_eq!(err, "");
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(schema["properties"]["node"].is_object(), "{out}");
}

#[test]
fn completions_and_the_manual_page_name_every_command() {
    let dir = temporary();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (out, _) = expect(dir.path(), &["completions", shell], 0);
        for command in COMMANDS {
            assert!(out.contains(command), "{shell}: {command}");
        }
    }
    let (out, _) = expect(dir.path(), &["man"], 0);
    assert!(out.contains(".TH quorate"), "{out}");
    for command in COMMANDS {
        assert!(out.contains(command), "{command}");
    }
}

/// Nobody is asked where nobody can answer: neither question nor change.
#[test]
fn json_events_need_an_approval_that_is_given_beforehand() {
    let dir = initialised();
    let (out, err) = expect(dir.path(), &["apply", "--json"], 1);
    assert_eq!(out, "");
    assert!(err.contains("--auto-approve"), "{err}");
}

/// What goes away need not be talked to.
#[test]
fn a_destroy_needs_no_certificate() {
    use quorate::pki::{Authority, KeyProtection, NewAuthority};

    let dir = temporary();
    let text = "schema = 1\n[cluster]\nname = \"demo\"\n[etcd]\nversion = \"3.5.33\"\n\
                [etcd.install]\nmethod = \"package\"\n[ssh]\nport = 1\n\
                [[node]]\nname = \"etcd-1\"\nip = \"127.0.0.1\"\n[tls]\nclient = \"managed\"\n";
    std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
    let new = NewAuthority {
        cluster: "demo",
        key: quorate::desired::model::KeyKind::EcdsaP256,
        validity: std::time::Duration::from_secs(86_400),
    };
    let now = time::OffsetDateTime::now_utc();
    let pki = dir.path().join("pki");
    assert!(Authority::create_or_open(&pki, &new, &KeyProtection::Plain, now).is_ok());
    std::fs::remove_file(pki.join("ca.key")).unwrap();
    let (_, err) = expect(dir.path(), &["plan"], 1);
    assert!(err.contains("has no key beside it"), "{err}");
    let (out, err) = expect(dir.path(), &["plan", "--destroy"], 3);
    assert!(err.contains("Warning: members cannot be asked"), "{err}");
    assert!(out.contains("etcd-1"), "{out}");
}

/// Whoever reads the stream, or the log, learns how it ended, also where nothing was begun.
#[test]
fn a_run_that_is_refused_says_so_in_its_stream_and_log() {
    let dir = temporary();
    slips::saved(dir.path());
    // Nobody answers there.
    let said = "the lock would cover 0 of 1 voters";
    let (out, err) = expect(dir.path(), &["apply", "a.plan", "--json"], 3);
    assert!(err.contains(said), "{err}");
    let last = out.lines().last().unwrap();
    assert!(last.contains(said) && last.contains("error"), "{last}");
    let (out, err) = expect(dir.path(), &["apply", "a.plan"], 3);
    assert!(err.contains(said) && !out.contains(said), "{out}{err}");
    let logs = std::fs::read_dir(dir.path().join(".local/state/quorate/runs")).unwrap();
    let logs: Vec<String> = logs
        .map(|log| std::fs::read_to_string(log.unwrap().path()).unwrap())
        .collect();
    assert_eq!(logs.len(), 2);
    assert!(logs.iter().all(|log| log.contains(said)), "{logs:?}");
}

/// `quorate schema | head -1` is no error, and no panic: whoever reads may have seen enough.
#[test]
fn readers_that_go_are_no_error() {
    let dir = tempfile::tempdir().unwrap();
    expect(dir.path(), &["init", "etcd-1=127.0.0.1"], 0);
    for arguments in [
        &["schema"][..],
        &["man"],
        &["completions", "bash"],
        &["validate"],
        &["plan"],
    ] {
        let (out, err) = (std::io::pipe().unwrap().1, std::io::pipe().unwrap().1);
        let status = std::process::Command::new(cargo_bin!("quorate"))
            .args(arguments)
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .stdout(out)
            .stderr(err)
            .status()
            .unwrap();
        let expected = match arguments {
            // Its hosts are nowhere.
            ["plan"] => 3,
            _ => 0,
        };
        assert_eq!(status.code(), Some(expected), "{arguments:?}");
    }
}
