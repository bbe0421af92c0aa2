//! Snapshots on the operator's side (Q13).

use std::path::Path;

use super::{Trouble, trouble};
use crate::apply::perform::Context;
use crate::remote::EtcdClient;
use crate::render::event::{Event, Severity};

/// Snapshots of a cluster that stay on the operator's side.
const KEEP: usize = 10;

/// Saves a verified snapshot, and removes those that are too many.
pub(super) async fn save(context: &Context, client: &EtcdClient) -> Result<(), Trouble> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(dir) = &context.snapshots else {
        return Err(Trouble::Lasting(
            "there is no directory for the snapshot: set HOME or XDG_STATE_HOME".into(),
        ));
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Trouble::Lasting(format!("cannot make {}: {error}", dir.display())))?;
    let path = dir.join(format!(
        "{}-{}.db",
        context.desired.cluster.name, context.run_id
    ));
    let saved = client.snapshot(&path).await.map_err(trouble)?;
    prune(dir, &context.desired.cluster.name, &path);
    (context.sink)(&Event::Message {
        severity: Severity::Info,
        summary: format!("Saved a snapshot of {} bytes", saved.size),
        detail: path.display().to_string(),
    });
    Ok(())
}

/// Removes the oldest of the snapshots that runs for this cluster have saved, beyond [`KEEP`]; never the new one, whatever
/// the clock said when it was written.
fn prune(dir: &Path, cluster: &str, new: &Path) {
    let is_ours = |name: &str| {
        let run = name
            .strip_prefix(cluster)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.strip_suffix(".db"));
        run.is_some_and(|run| run.len() == 16 && run.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_ours))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, path)| path != new)
        .collect();
    found.sort();
    for (_, path) in found.iter().rev().skip(KEEP - 1) {
        // One that stays is no harm.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_snapshots_of_this_cluster_go() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        for run in 0..KEEP + 2 {
            touch(&format!("demo-{run:016x}.db"));
        }
        touch("demo-2-0000000000000000.db");
        touch("demo-by-hand.db");
        // The clock has been set back since the others.
        let new = dir.path().join(format!("demo-{:016x}.db", KEEP + 1));
        let file = std::fs::File::options().write(true).open(&new).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        prune(dir.path(), "demo", &new);
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, KEEP + 2, "the other cluster's, and the one by hand");
        assert!(new.exists());
    }
}
