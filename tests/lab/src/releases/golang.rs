//! etcd built from the Go module proxy, for versions that no Debian suite has.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::sys;

/// A module and the binary that building its main package gives.
const PARTS: [(&str, &str); 3] = [
    ("go.etcd.io/etcd/server/v3", "etcd"),
    ("go.etcd.io/etcd/etcdctl/v3", "etcdctl"),
    ("go.etcd.io/etcd/etcdutl/v3", "etcdutl"),
];

/// Builds the newest release of a line (`3.6`) and puts its binaries into a directory.
pub(super) fn build(line: &str, work: &Path, target: &Path) -> Result<()> {
    if !sys::has_program("go") {
        return Err(Error::Other(format!(
            "etcd {line} is skipped: it is built with Go, and this machine has no `go` in PATH"
        )));
    }
    let module = work.join("module");
    sys::make_dir(&module)?;
    let version = newest(line, &module)?;
    // `go install MODULE@VERSION` refuses modules with replace directives; as dependencies of a
    // module of ours they build.
    let requires: String = PARTS
        .iter()
        .map(|(module, _)| format!("\t{module} v{version}\n"))
        .collect();
    sys::write(
        &module.join("go.mod"),
        format!("module lab\n\ngo 1.24\n\nrequire (\n{requires})\n"),
    )?;
    sys::write(&module.join("tools.go"), imports())?;
    sys::run(go(&module).args(["mod", "tidy"]))?;
    for (path, binary) in PARTS {
        sys::run(
            go(&module)
                .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
                .arg(target.join(binary))
                .arg(path),
        )?;
    }
    Ok(())
}

/// Imports that make the module depend on the three programs.
fn imports() -> String {
    let lines: String = PARTS
        .iter()
        .map(|(path, _)| format!("\t_ \"{path}\"\n"))
        .collect();
    format!("//go:build tools\n\npackage lab\n\nimport (\n{lines})\n")
}

fn newest(line: &str, dir: &Path) -> Result<String> {
    let output = sys::run(go(dir).args(["list", "-m", "-versions", PARTS[0].0]))?;
    newest_of(line, &sys::text(&output.stdout))
        .ok_or_else(|| Error::Other(format!("the Go module proxy has no release of etcd {line}")))
}

fn newest_of(line: &str, versions: &str) -> Option<String> {
    versions
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('v'))
        .filter(|version| super::matches(version, line) && !version.contains('-'))
        .max_by_key(|version| super::order(version))
        .map(str::to_owned)
}

/// Go at low priority, so that a build does not slow a lab that is up.
fn go(dir: &Path) -> Command {
    let mut command = sys::program("nice", ["-n", "19", "go"]);
    command
        .current_dir(dir)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=mod");
    command
}

#[cfg(test)]
mod tests {
    use super::newest_of;

    #[test]
    fn the_newest_patch_wins_and_candidates_do_not_count() {
        let versions = "go.etcd.io/etcd/server/v3 v3.6.9 v3.6.10 v3.7.0-rc.0 v3.60.1";
        assert_eq!(newest_of("3.6", versions).as_deref(), Some("3.6.10"));
        assert_eq!(newest_of("3.7", versions), None);
    }
}
