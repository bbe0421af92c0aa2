//! What is made once per machine.

use crate::error::Result;
use crate::releases::Release;
use crate::{keys, machine, releases, rootfs, rpm};

/// Host keys for this many hosts are made ahead.
const USUAL_HOSTS: usize = 5;

/// Makes what labs need and is not there yet: the hosts' root file system, their keys and the
/// usual etcd releases. Idempotent; the releases there are then.
pub fn setup(say: impl Fn(&str)) -> Result<Vec<Release>> {
    machine::check()?;
    say("root file system of the hosts");
    let root = rootfs::ensure()?;
    say("host keys");
    for index in 1..=USUAL_HOSTS {
        keys::host_keys(index)?;
    }
    say("dnf and rpm");
    // Only the hosts that live by them need them.
    if let Err(error) = rpm::ensure(&root) {
        say(&format!(
            "SKIPPED dnf and rpm, and the tests with them: {error}"
        ));
    }
    say("etcd releases");
    releases::ensure_default()
}
