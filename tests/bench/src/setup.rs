//! What peers need and Quorate does not: a Python environment here, and Python on the hosts.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_lab::Lab;

use crate::Result;
use crate::measure::time;
use crate::peers::Peer;
use crate::report::Report;

/// Python on a host of Debian bookworm; what else it needs is in the lab's root file system.
const PYTHON: [&str; 5] = [
    "libexpat1",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "python3-minimal",
    "python3.11-minimal",
];

fn cache() -> PathBuf {
    env::var_os("QUORATE_BENCH_CACHE")
        .map_or_else(|| "/var/cache/quorate-bench".into(), PathBuf::from)
}

/// The Python environment with Ansible and pyinfra.
pub fn venv() -> PathBuf {
    cache().join("venv")
}

/// Prepares the peers; those that are left can be measured.
pub fn prepare(lab: &Lab, peers: &[Peer], report: &mut Report) -> Result<Vec<Peer>> {
    fs::create_dir_all(cache())?;
    let mut ready = Vec::new();
    for peer in peers {
        let result = match peer {
            Peer::Quorate => continue,
            Peer::Shell => Ok(()),
            Peer::Ansible => ensure_venv().and_then(|()| python_on_hosts(lab)),
            Peer::Pyinfra => ensure_venv(),
        };
        match result {
            Ok(()) => ready.push(*peer),
            Err(error) => {
                let note = format!("NOT MEASURED: {}: {error}", peer.name());
                eprintln!("bench: {note}");
                report.note(note);
            }
        }
    }
    if let Ok(versions) = versions() {
        report.note(versions);
    }
    Ok(ready)
}

fn ensure_venv() -> Result<()> {
    let venv = venv();
    if venv.join("bin/pyinfra").exists() && venv.join("bin/ansible-playbook").exists() {
        return Ok(());
    }
    time(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .map_err(|error| format!("no Python environment can be made: {error}"))?;
    time(Command::new(venv.join("bin/pip")).args([
        "install",
        "--quiet",
        "ansible-core",
        "pyinfra",
    ]))
    .map_err(|error| format!("pip cannot install it: {error}"))?;
    Ok(())
}

fn versions() -> Result<String> {
    let first_line = |program: &str| -> Result<String> {
        let output = Command::new(venv().join("bin").join(program))
            .arg("--version")
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!(
        "Peers: {}; {}.",
        first_line("ansible")?,
        first_line("pyinfra")?
    ))
}

/// Ansible's modules are Python; the lab's hosts have none.
fn python_on_hosts(lab: &Lab) -> Result<()> {
    let packages = cache().join("python");
    let tree = cache().join("python.tar");
    if !tree.exists() {
        fs::create_dir_all(&packages)?;
        time(
            Command::new("apt-get")
                .args(["-q", "download"])
                .args(PYTHON)
                .current_dir(&packages),
        )?;
        let root = packages.join("root");
        for package in fs::read_dir(&packages)? {
            let package = package?.path();
            if package.extension().is_some_and(|kind| kind == "deb") {
                time(Command::new("dpkg").arg("-x").arg(package).arg(&root))?;
            }
        }
        pack(&root, &tree)?;
    }
    let tar = fs::read(&tree)?;
    for host in lab.hosts() {
        let output = host.exec_with_input(
            "tar -x --keep-directory-symlink -C / && python3 -c 'import json, subprocess, zipfile'",
            &[],
            &tar,
        )?;
        if !output.success() {
            return Err(format!("no Python on {}: {}", host.name, output.stderr).into());
        }
    }
    Ok(())
}

fn pack(root: &Path, tree: &Path) -> Result<()> {
    let building = tree.with_extension("part");
    time(
        Command::new("tar")
            .args(["--owner=0", "--group=0", "-c", "-f"])
            .arg(&building)
            .arg("-C")
            .arg(root)
            .arg("."),
    )?;
    fs::rename(building, tree)?;
    Ok(())
}
