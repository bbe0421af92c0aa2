//! The root file system that all hosts share, as the read-only lower layer of an overlay.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::cache_dir;
use crate::error::{Context, Error, Result};
use crate::{SUDO_PASSWORD, machine, sys};

/// Changes when the recipe below does, so that older roots are not used any more.
const STAMP: &str = "bookworm-1";
pub(crate) const SUITE: &str = "bookworm";
const INCLUDE: &str = "systemd,systemd-sysv,dbus,openssh-server,sudo,iproute2,procps,netbase,\
                       ca-certificates,curl";
/// Timers that would look for a network or disturb a measurement.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
];

fn path() -> PathBuf {
    cache_dir().join(format!("root-{STAMP}"))
}

/// The root file system, or an error that says how to make it.
pub(crate) fn ready() -> Result<PathBuf> {
    let path = path();
    if path.is_dir() {
        return Ok(path);
    }
    Err(Error::NotSetUp {
        path: path.display().to_string(),
    })
}

/// Makes the root file system unless it is there, and removes those of older recipes.
pub(crate) fn ensure() -> Result<PathBuf> {
    machine::check()?;
    let cache = cache_dir();
    sys::make_dir(&cache)?;
    let _lock = sys::lock(&cache.join(".root.lock"))?;
    let path = path();
    if !path.is_dir() {
        let building = cache.join("root.building");
        sys::remove_tree(&building)?;
        build(&building)?;
        fs::rename(&building, &path).at(|| format!("name {}", path.display()))?;
    }
    remove_outdated(&cache, &path)?;
    Ok(path)
}

fn build(root: &Path) -> Result<()> {
    sys::run(
        sys::program("debootstrap", ["--variant=minbase"])
            .arg(format!("--include={INCLUDE}"))
            .arg(SUITE)
            .arg(root),
    )?;
    customise(root)
}

/// Makes the fresh root one that many hosts can start from, none knowing the machine.
fn customise(root: &Path) -> Result<()> {
    // An unreachable name server would make every lookup take ten seconds.
    for emptied in ["etc/resolv.conf", "etc/machine-id", "etc/apt/sources.list"] {
        let path = root.join(emptied);
        let _ = fs::remove_file(&path);
        sys::write(&path, "")?;
    }
    let _ = fs::remove_file(root.join("var/lib/dbus/machine-id"));
    for emptied in ["var/lib/apt/lists", "var/cache/apt/archives"] {
        sys::remove_tree(&root.join(emptied))?;
        sys::make_dir(&root.join(emptied).join("partial"))?;
    }
    for kind in ["rsa", "ecdsa", "ed25519"] {
        for suffix in ["", ".pub"] {
            let _ = fs::remove_file(root.join(format!("etc/ssh/ssh_host_{kind}_key{suffix}")));
        }
    }
    for unit in MASKED {
        let link = root.join("etc/systemd/system").join(unit);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink("/dev/null", &link).at(|| format!("mask {}", link.display()))?;
    }
    sys::run(&mut chroot(
        root,
        &["useradd", "--create-home", "--shell", "/bin/bash", "ops"],
    ))?;
    sys::run_with_input(
        &mut chroot(root, &["chpasswd"]),
        format!("ops:{SUDO_PASSWORD}\n").as_bytes(),
    )?;
    sys::run(&mut chroot(
        root,
        &["install", "-d", "-m", "700", "/root/.ssh"],
    ))?;
    sys::run(&mut chroot(
        root,
        &[
            "install",
            "-d",
            "-m",
            "700",
            "-o",
            "ops",
            "-g",
            "ops",
            "/home/ops/.ssh",
        ],
    ))?;
    Ok(())
}

fn chroot(root: &Path, words: &[&str]) -> Command {
    let mut command = sys::program("chroot", [root]);
    command
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn remove_outdated(cache: &Path, current: &Path) -> Result<()> {
    let mounts = sys::read(Path::new("/proc/self/mountinfo"))?;
    for entry in fs::read_dir(cache)
        .at(|| format!("list {}", cache.display()))?
        .flatten()
    {
        let path = entry.path();
        let outdated = entry.file_name().to_string_lossy().starts_with("root-")
            && path != current
            && !mounts.contains(&format!("lowerdir={},", path.display()));
        if outdated {
            sys::remove_tree(&path)?;
        }
    }
    Ok(())
}
