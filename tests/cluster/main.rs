//! Whole runs of the program on a lab's hosts: real sshd, systemd and etcd.

mod bootstrap;
mod destroy;
mod drift;
mod harness;
mod install;
mod membership;
mod moving;
mod refused;
mod rolling;
mod saved_plans;
mod secrets;
mod wal_dir;
mod writing;
