//! The transport against a real sshd.

mod scripts;
mod sshd;
