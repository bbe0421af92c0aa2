//! What the machine must be.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::error::{Error, Result};
use crate::sys;

const PROGRAMS: &[&str] = &[
    "systemd-nspawn",
    "debootstrap",
    "ip",
    "nft",
    "nsenter",
    "ssh-keygen",
    "mkfs.ext4",
    "losetup",
    "setsid",
    "dpkg-scanpackages",
];

/// Root, or an error that says so.
pub(crate) fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Error::NotRoot)
    }
}

/// Root on a Debian machine that has every program the lab starts.
pub fn check() -> Result<()> {
    require_root()?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if field(&release, "ID") != Some("debian") {
        return Err(Error::NotDebian {
            found: field(&release, "PRETTY_NAME")
                .unwrap_or("another system")
                .to_owned(),
        });
    }
    let missing: Vec<_> = PROGRAMS
        .iter()
        .copied()
        .filter(|program| !sys::has_program(program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::MissingPrograms {
        programs: missing.join(", "),
    })
}

fn field<'a>(release: &'a str, key: &str) -> Option<&'a str> {
    release
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim_matches('"'))
}

/// Every systemd needs some twenty inotify instances, and the kernel's default of 128 is enough for seven hosts. Only
/// ever raised; a machine that does not let us has the hosts that it has.
pub fn make_room() {
    const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
    let limit = fs::read_to_string(INSTANCES);
    let limit = limit.ok().and_then(|text| text.trim().parse::<u64>().ok());
    if limit.is_some_and(|limit| limit < 1024) {
        let _ = fs::write(INSTANCES, "1024");
    }
}

/// systemd-nspawn gives its hosts the devices of the machine with the modes that they have there. A `/dev/null` that
/// only root can write to, as a program run as root may leave it, is one that no other user of a host can write to.
pub fn mend_devices() {
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        let path = format!("/dev/{device}");
        let Ok(mode) = fs::metadata(&path).map(|metadata| metadata.permissions().mode() & 0o7777)
        else {
            continue;
        };
        if mode != 0o666 && fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).is_ok() {
            eprintln!("lab: {path} had mode {mode:04o}, which hosts take over; it is 0666 again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn os_release_fields_are_found_whole_and_unquoted() {
        let release = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID_LIKE=x\nID=debian\n";
        assert_eq!(field(release, "ID"), Some("debian"));
        assert_eq!(field(release, "PRETTY_NAME"), Some("Debian GNU/Linux 12"));
        assert_eq!(field(release, "VERSION"), None);
    }
}
