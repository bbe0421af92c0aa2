//! SSH keys: the client's per lab, the hosts' kept in the cache, since RSA keys take long.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::cache::cache_dir;
use crate::error::{Context, Result};
use crate::sys;

pub(crate) const IDENTITY: &str = "id_ed25519";
pub(crate) const AUTHORIZED_KEYS: &str = "authorized_keys";
pub(crate) const KNOWN_HOSTS: &str = "known_hosts";

const HOST_KEYS: [(&str, &str); 3] = [("ed25519", "256"), ("ecdsa", "256"), ("rsa", "2048")];

/// Makes the key pair that root and `ops` accept on all hosts of the lab.
pub(crate) fn make_client_key(dir: &Path) -> Result<()> {
    let identity = dir.join(IDENTITY);
    keygen("ed25519", "256", &identity, "lab")?;
    let public = sys::read(&identity.with_extension("pub"))?;
    sys::write(&dir.join(AUTHORIZED_KEYS), public)
}

/// The directory with the host keys of a lab's nth host, made when first asked for.
pub(crate) fn host_keys(index: usize) -> Result<PathBuf> {
    let all = cache_dir().join("host-keys");
    let dir = all.join(index.to_string());
    if dir.is_dir() {
        return Ok(dir);
    }
    sys::make_dir(&all)?;
    sys::set_mode(&all, 0o700)?;
    let building = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(&all)
        .at(|| format!("make a directory in {}", all.display()))?;
    for (kind, bits) in HOST_KEYS {
        let key = building.path().join(format!("ssh_host_{kind}_key"));
        keygen(kind, bits, &key, &format!("etcd-{index}"))?;
    }
    match fs::rename(building.path(), &dir) {
        // Another lab was quicker.
        Err(_) if dir.is_dir() => Ok(dir),
        renamed => renamed
            .at(|| format!("name {}", dir.display()))
            .map(|()| dir),
    }
}

/// The lines of `known_hosts` for a host: every key, by name and by address.
pub(crate) fn known_hosts_lines(keys: &Path, name: &str, address: Ipv4Addr) -> Result<String> {
    let mut lines = String::new();
    for (kind, _) in HOST_KEYS {
        let public = sys::read(&keys.join(format!("ssh_host_{kind}_key.pub")))?;
        let mut words = public.split_whitespace();
        let (kind, key) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        lines.push_str(&format!("{name},{address} {kind} {key}\n"));
    }
    Ok(lines)
}

fn keygen(kind: &str, bits: &str, path: &Path, comment: &str) -> Result<()> {
    sys::run(
        sys::program("ssh-keygen", ["-q", "-N", "", "-t", kind, "-b", bits])
            .args(["-C", comment, "-f"])
            .arg(path),
    )
    .map(drop)
}
