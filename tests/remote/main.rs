//! The transport against a real sshd.

mod logins;
mod scripts;
mod sshd;
mod tunnels;
mod uploads;
