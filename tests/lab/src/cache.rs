//! Where the lab keeps things: what is made once (the cache) and the labs that are up.

use std::env;
use std::path::{Path, PathBuf};

/// Root file systems, packages, binaries and releases: `$QUORATE_LAB_CACHE`, by default
/// `/var/cache/quorate-lab`. It may be deleted whenever no lab is up; `lab setup` makes it again.
pub fn cache_dir() -> PathBuf {
    env::var_os("QUORATE_LAB_CACHE").map_or_else(|| "/var/cache/quorate-lab".into(), PathBuf::from)
}

/// One directory per lab. Fixed, since the names of labs are the machine's: so are the
/// namespaces and control groups that bear them.
pub(crate) fn state_dir() -> &'static Path {
    Path::new("/var/lib/quorate-lab")
}

pub(crate) fn lab_dir(name: &str) -> PathBuf {
    state_dir().join(name)
}
