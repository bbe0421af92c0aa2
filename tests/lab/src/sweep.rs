//! Clean-up: by name alone, complete, and repeatable from any half-done state.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use crate::cache::{lab_dir, state_dir};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::record::Record;
use crate::{machine, net, power, sys};

/// Held while labs are claimed or swept.
pub(crate) fn lock() -> Result<File> {
    sys::make_dir(state_dir())?;
    sys::lock(&state_dir().join(".lock"))
}

/// Removes what is left of labs whose owners are gone; their names. Labs of living owners and
/// labs that stay until `lab down` are left alone.
pub fn clean() -> Result<Vec<String>> {
    machine::require_root()?;
    let _lock = lock()?;
    sweep()
}

/// [`clean`] for the holder of the lock.
pub(crate) fn sweep() -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for name in names() {
        let abandoned = match Record::load(&name) {
            Ok(Some(record)) => record.is_abandoned()?,
            // Records are written under the lock: one that is missing or cut short is a remnant.
            Ok(None) | Err(Error::Record { .. }) => true,
            Err(error) => return Err(error),
        };
        if abandoned {
            destroy(&name)?;
            swept.push(name);
        }
    }
    Ok(swept)
}

/// Takes down a lab that has no living owner, or fails naming the owner.
pub fn down(name: &str) -> Result<()> {
    machine::require_root()?;
    net::check_name(name)?;
    let _lock = lock()?;
    if let Ok(Some(record)) = Record::load(name)
        && let Some(owner) = &record.owner
        && !record.is_abandoned()?
    {
        return Err(Error::InUse {
            name: name.to_owned(),
            pid: owner.pid,
        });
    }
    destroy(name)
}

/// A lab of this machine.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Who keeps it up, in words.
    pub owner: String,
}

/// All labs of this machine, remnants included.
pub fn status() -> Result<Vec<Status>> {
    names()
        .into_iter()
        .map(|name| {
            let owner = match Record::load(&name) {
                Ok(Some(record)) if record.is_abandoned()? => "abandoned; `lab clean`".to_owned(),
                Ok(Some(Record {
                    owner: Some(owner), ..
                })) => format!("process {}", owner.pid),
                Ok(Some(_)) => "until `lab down`".to_owned(),
                Ok(None) | Err(_) => "remnants; `lab clean`".to_owned(),
            };
            Ok(Status { name, owner })
        })
        .collect()
}

/// The names of all labs that left a trace: directories, namespaces, control groups.
pub(crate) fn names() -> BTreeSet<String> {
    let mut names: BTreeSet<String> = entries(state_dir())
        .filter(|name| net::check_name(name).is_ok())
        .collect();
    let groups = Cgroup::parents();
    for dir in groups
        .iter()
        .map(PathBuf::as_path)
        .chain([net::netns_dir()])
    {
        names.extend(entries(dir).filter_map(|entry| {
            let name = entry.strip_prefix("ql.")?.split('.').next()?;
            net::check_name(name).ok().map(|()| name.to_owned())
        }));
    }
    names
}

fn entries(dir: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
}

/// Removes every trace of a lab, for the holder of the lock. The directory with the record goes last, so that a
/// destruction that failed is found and finished later.
fn destroy(name: &str) -> Result<()> {
    take_down(name)?;
    sys::remove_tree(&lab_dir(name))
}

/// The same for the owner, who takes the lock only at the end: a sweep never meets a directory whose record has gone
/// before the rest.
pub(crate) fn destroy_own(name: &str) -> Result<()> {
    take_down(name)?;
    let _lock = lock()?;
    sys::remove_tree(&lab_dir(name))
}

/// Everything but the directory.
fn take_down(name: &str) -> Result<()> {
    let cgroup = Cgroup::of_lab(name)?;
    cgroup.kill()?;
    let dir = lab_dir(name);
    let hosts = dir.join("hosts");
    for index in entries(&hosts) {
        let machine = format!("{}.{index}", net::namespace(name, None));
        power::forget_machine(&machine, &hosts.join(index).join("root"));
    }
    for namespace in net::namespaces(name) {
        net::remove(&namespace)?;
    }
    unmount_below(&dir)?;
    cgroup.remove()
}

fn unmount_below(dir: &Path) -> Result<()> {
    for point in mounts_below(dir)?.iter().rev() {
        // Killed processes may hold it for a moment more.
        let gone = sys::wait_until(Duration::from_secs(5), || {
            unmount(point, UnmountFlags::empty()).is_ok()
        });
        if !gone {
            let _ = unmount(point, UnmountFlags::DETACH);
        }
    }
    match mounts_below(dir)?.first() {
        None => Ok(()),
        Some(point) => Err(Error::Other(format!(
            "{} cannot be unmounted; unmount it and run `lab clean`",
            point.display()
        ))),
    }
}

/// Mount points below a directory, in the order in which they were mounted.
fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(sys::read(Path::new("/proc/self/mountinfo"))?
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(dir))
        .collect())
}
