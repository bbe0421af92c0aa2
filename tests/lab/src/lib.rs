//! Throwaway hosts for tests, demo and benchmarks: systemd containers with sshd, addresses and
//! journals of their own on a network of their own, on one Debian machine as root.
//!
//! ```no_run
//! use quorate_lab::{Cut, Lab, Options, PEER_PORT};
//!
//! let lab = Lab::up("example", Options { hosts: 3, ..Options::default() })?;
//! let first = &lab.hosts()[0];
//! first.partition(&Cut::Ports(vec![PEER_PORT]))?;
//! first.power_off()?;
//! first.power_on()?;
//! first.heal()?;
//! let status = lab.ssh("root", first)?.arg("systemctl is-system-running").status();
//! # drop(status);
//! # Ok::<(), quorate_lab::Error>(())
//! ```
//!
//! The process that brought a lab up owns it; the lab goes when [`Lab`] is dropped, or when the
//! next lab finds that its owner is dead.
#![warn(missing_docs)]

mod cache;
mod cgroup;
mod disk;
mod error;
mod faults;
mod host;
mod keys;
mod lab;
mod machine;
mod net;
mod packages;
mod power;
mod record;
pub mod releases;
mod rootfs;
mod rpm;
mod serve;
mod setup;
mod sweep;
mod sys;

pub use cache::cache_dir;
pub use error::{Error, Result};
pub use faults::{Cut, PEER_PORT};
pub use host::{Host, Output};
pub use lab::{Lab, Options};
pub use net::LAB_ADDRESS;
pub use rpm::has_rpm;
pub use setup::setup;
pub use sweep::{Status, clean, down, status};

/// What sudo asks `ops` for, on the hosts where it asks.
pub const SUDO_PASSWORD: &str = "lab";
