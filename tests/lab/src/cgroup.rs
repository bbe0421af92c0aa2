//! Every process of a lab lives in control groups that bear the lab's name. That is how a host
//! is frozen or loses its power at once, and how nothing outlives a lab, whoever started it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::sys;

/// The groups of one lab or of one of its hosts: one in the unified hierarchy, which freezes and
/// kills, and one in systemd's own hierarchy where the machine has such a thing (hybrid layout):
/// without it the hosts' systemd instances would share one tree.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    unified: PathBuf,
    named: Option<PathBuf>,
}

impl Cgroup {
    /// The groups of a lab, there or not.
    pub(crate) fn of_lab(lab: &str) -> Result<Self> {
        let mounts = sys::read(Path::new("/proc/self/mountinfo"))?;
        let (unified, named) = hierarchies(&mounts);
        let name = crate::net::namespace(lab, None);
        Ok(Self {
            unified: unified.ok_or(Error::NoCgroup)?.join(&name),
            named: named.map(|dir| dir.join(&name)),
        })
    }

    /// The directories in which the groups of all labs are.
    pub(crate) fn parents() -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (unified, named) = hierarchies(&mounts);
        unified.into_iter().chain(named).collect()
    }

    /// The groups below these.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self {
            unified: self.unified.join(name),
            named: self.named.as_ref().map(|dir| dir.join(name)),
        }
    }

    /// Makes the groups, which then must not hold processes themselves but only below them, so
    /// that limits reach the hosts. Where limits are not delegated the hosts work without them.
    pub(crate) fn create_parent(&self) -> Result<()> {
        self.create()?;
        for dir in [self.unified.parent(), Some(self.unified.as_path())] {
            let control = dir.map(|dir| dir.join("cgroup.subtree_control"));
            for controller in ["+cpu", "+memory", "+pids", "+io"] {
                let _ = control.as_ref().map(|file| fs::write(file, controller));
            }
        }
        Ok(())
    }

    /// Makes the groups.
    pub(crate) fn create(&self) -> Result<()> {
        for dir in self.dirs() {
            sys::make_dir(dir)?;
        }
        if self.unified.join("cgroup.kill").exists() {
            Ok(())
        } else {
            Err(Error::NoCgroup)
        }
    }

    /// The files that a process writes 0 to in order to join.
    pub(crate) fn joins(&self) -> Vec<PathBuf> {
        self.dirs().map(|dir| dir.join("cgroup.procs")).collect()
    }

    fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.unified].into_iter().chain(&self.named)
    }

    pub(crate) fn exists(&self) -> bool {
        self.unified.is_dir()
    }

    /// Kills every process in the groups at once, frozen or not, and waits for their end.
    pub(crate) fn kill(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        let file = self.unified.join("cgroup.kill");
        // Again and again: a command may be just about to join.
        let mut refused = None;
        let empty = sys::wait_until(Duration::from_secs(20), || {
            refused = fs::write(&file, "1").err();
            !self.event("populated")
        });
        if let Some(error) = refused {
            return Err(error).at(|| format!("write {}", file.display()));
        }
        if empty {
            Ok(())
        } else {
            Err(Error::Other(format!(
                "processes in {} survive SIGKILL; they hang in the kernel",
                self.unified.display()
            )))
        }
    }

    /// Stops every process in the groups, as if the host hung, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        let file = self.unified.join("cgroup.freeze");
        fs::write(&file, if frozen { "1" } else { "0" })
            .at(|| format!("write {}", file.display()))?;
        if sys::wait_until(Duration::from_secs(10), || self.event("frozen") == frozen) {
            Ok(())
        } else {
            Err(Error::Other(format!(
                "{} does not become frozen={frozen}",
                self.unified.display()
            )))
        }
    }

    fn event(&self, key: &str) -> bool {
        fs::read_to_string(self.unified.join("cgroup.events"))
            .unwrap_or_default()
            .lines()
            .any(|line| {
                line.strip_prefix(key)
                    .is_some_and(|rest| rest.trim() == "1")
            })
    }

    /// Removes the groups with all groups below them; they must be empty of processes.
    pub(crate) fn remove(&self) -> Result<()> {
        for dir in self.dirs() {
            if dir.is_dir() {
                // A killed process leaves its group a moment after it is counted out.
                let gone = sys::wait_until(Duration::from_secs(5), || remove_groups(dir));
                if !gone {
                    return Err(Error::Other(format!("{} cannot be removed", dir.display())));
                }
            }
        }
        Ok(())
    }

    /// The process that is number 1 in a PID namespace of its own: the host's init.
    pub(crate) fn init(&self) -> Option<u32> {
        let payload = self.unified.join("payload");
        let mut found = Vec::new();
        collect_processes(&payload.join("init.scope"), &mut found);
        collect_processes(&payload, &mut found);
        found.into_iter().find(|pid| is_init(*pid))
    }
}

fn is_init(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .is_some_and(|ids| {
            let ids: Vec<_> = ids.split_whitespace().collect();
            ids.len() > 1 && ids.last() == Some(&"1")
        })
}

fn subgroups(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

fn collect_processes(dir: &Path, found: &mut Vec<u32>) {
    let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    found.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()));
    for group in subgroups(dir) {
        collect_processes(&group, found);
    }
}

fn remove_groups(dir: &Path) -> bool {
    for group in subgroups(dir) {
        remove_groups(&group);
    }
    fs::remove_dir(dir).is_ok()
}

/// Mount points of the unified hierarchy and of systemd's named one.
fn hierarchies(mountinfo: &str) -> (Option<PathBuf>, Option<PathBuf>) {
    let mut unified = None;
    let mut named = None;
    for line in mountinfo.lines() {
        let Some((head, tail)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = head.split(' ').nth(4) else {
            continue;
        };
        if !point.starts_with("/sys/fs/cgroup") {
            continue;
        }
        if tail.starts_with("cgroup2 ") {
            unified.get_or_insert_with(|| PathBuf::from(point));
        } else if tail.starts_with("cgroup ") && tail.contains("name=systemd") {
            named.get_or_insert_with(|| PathBuf::from(point));
        }
    }
    (unified, named)
}

#[cfg(test)]
mod tests {
    use super::hierarchies;
    use std::path::PathBuf;

    #[test]
    fn both_layouts_of_control_groups_are_understood() {
        let hybrid = "32 25 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      33 32 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      34 32 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            hierarchies(hybrid),
            (
                Some(PathBuf::from("/sys/fs/cgroup/unified")),
                Some(PathBuf::from("/sys/fs/cgroup/systemd"))
            )
        );
        let unified = "32 25 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(
            hierarchies(unified),
            (Some(PathBuf::from("/sys/fs/cgroup")), None)
        );
        assert_eq!(hierarchies(""), (None, None));
    }
}
