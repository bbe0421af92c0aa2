//! What the machine must be.

use std::fs;

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
