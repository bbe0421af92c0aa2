//! The transport against a real sshd.

mod fleet;
mod logins;
mod members;
mod scripts;
mod sshd;
mod tunnels;
mod uploads;
mod wires;
