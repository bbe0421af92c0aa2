//! The lab's network: a namespace with a bridge, and a namespace per host joined to it. Nothing
//! in them has a route to the machine or beyond, so labs share one address range.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Context, Error, Result};
use crate::sys;

/// The lab's own address, on its bridge.
pub const LAB_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Addresses .11 to .250 are hosts.
pub(crate) const MAX_HOSTS: usize = 240;

const NETNS_DIR: &str = "/run/netns";

/// The address of a lab's nth host, from 1.
pub(crate) fn host_address(index: usize) -> Ipv4Addr {
    let last = u8::try_from(10 + index).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, 77, 0, last)
}

/// The network namespace of a lab or of one of its hosts; also the name of control groups and
/// machines. Names of labs have no dot, so that `ql.a.1` belongs to lab `a` and to no other.
pub(crate) fn namespace(lab: &str, host: Option<usize>) -> String {
    host.map_or_else(|| format!("ql.{lab}"), |index| format!("ql.{lab}.{index}"))
}

pub(crate) fn netns_dir() -> &'static Path {
    Path::new(NETNS_DIR)
}

pub(crate) fn namespace_path(namespace: &str) -> PathBuf {
    netns_dir().join(namespace)
}

/// A program that runs in a network namespace, with the machine's file system as it is.
pub(crate) fn program_in<S: AsRef<std::ffi::OsStr>>(namespace: &str, words: &[S]) -> Command {
    let mut command = sys::program(
        "nsenter",
        [format!("--net={}", namespace_path(namespace).display())],
    );
    command.arg("--").args(words);
    command
}

/// Runs a function on a thread of its own in a network namespace. Sockets that it opens, threads
/// and processes that it starts are in there too.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = namespace_path(namespace);
    let netns = File::open(&path).at(|| format!("open {}", path.display()))?;
    thread::scope(|scope| {
        let handle = scope.spawn(|| {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
                .at(|| format!("enter {}", path.display()))?;
            Ok(work())
        });
        handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes the lab's namespace with its bridge.
pub(crate) fn lab_up(lab: &str) -> Result<()> {
    let namespace = namespace(lab, None);
    add_namespace(&namespace)?;
    ip_batch(
        &namespace,
        &format!(
            "link set lo up\n\
             link add br0 type bridge forward_delay 0\n\
             addr add {LAB_ADDRESS}/24 dev br0\n\
             link set br0 up\n"
        ),
    )
}

/// Makes a host's namespace and plugs it into the lab's bridge, always with the same hardware
/// address, as a host that comes back has it.
pub(crate) fn host_up(lab: &str, index: usize, address: Ipv4Addr) -> Result<()> {
    let outer = namespace(lab, None);
    let inner = namespace(lab, Some(index));
    let [a, b, c, d] = host_address(index).octets();
    add_namespace(&inner)?;
    ip_batch(
        &outer,
        &format!(
            "link add port{index} type veth peer name host0 netns {inner} \
             address 02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}\n\
             link set port{index} master br0 up\n"
        ),
    )?;
    ip_batch(
        &inner,
        &format!(
            "link set lo up\n\
             addr add {address}/24 dev host0\n\
             link set host0 up\n"
        ),
    )
}

/// Gives a running host another address in place of all that it has.
pub(crate) fn renumber(lab: &str, index: usize, address: Ipv4Addr) -> Result<()> {
    let inner = namespace(lab, Some(index));
    ip_batch(
        &inner,
        &format!("addr flush dev host0\naddr add {address}/24 dev host0\n"),
    )
}

/// Pulls a host's plug: nothing that its dying processes still send arrives anywhere.
pub(crate) fn host_unplug(lab: &str, index: usize) -> Result<()> {
    let outer = namespace(lab, None);
    if !namespace_path(&outer).exists() || !namespace_path(&namespace(lab, Some(index))).exists() {
        return Ok(());
    }
    // Deleting one end deletes the other.
    let _ = ip_batch(&outer, &format!("link del port{index}\n"));
    Ok(())
}

/// Removes a namespace; the devices in it go with it.
pub(crate) fn remove(namespace: &str) -> Result<()> {
    if namespace_path(namespace).exists() {
        sys::run(&mut sys::program("ip", ["netns", "del", namespace]))?;
    }
    Ok(())
}

/// All namespaces of a lab that exist, its hosts' first.
pub(crate) fn namespaces(lab: &str) -> Vec<String> {
    let own = namespace(lab, None);
    let prefix = format!("{own}.");
    let mut found: Vec<_> = fs::read_dir(netns_dir())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| *name == own || name.starts_with(&prefix))
        .collect();
    found.sort_by_key(|name| std::cmp::Reverse(name.len()));
    found
}

fn add_namespace(name: &str) -> Result<()> {
    sys::run(&mut sys::program("ip", ["netns", "add", name])).map(drop)
}

fn ip_batch(namespace: &str, lines: &str) -> Result<()> {
    let mut command = sys::program("ip", ["-n", namespace, "-batch", "-"]);
    sys::run_with_input(&mut command, lines.as_bytes()).map(drop)
}

/// Names of labs are parts of other names.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fine = (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-');
    if fine {
        Ok(())
    } else {
        Err(Error::BadName {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{check_name, host_address, namespace};

    #[test]
    fn names_of_different_labs_never_meet() {
        assert_eq!(namespace("a", Some(1)), "ql.a.1");
        assert_eq!(namespace("a-1", None), "ql.a-1");
        for bad in ["", "a.b", "A", "-a", "a/b", &"x".repeat(33)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_name("apply-3").is_ok());
    }

    #[test]
    fn hosts_have_addresses_up_to_the_limit() {
        assert_eq!(host_address(1).to_string(), "10.77.0.11");
        assert_eq!(host_address(super::MAX_HOSTS).to_string(), "10.77.0.250");
    }
}
