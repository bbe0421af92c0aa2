//! Observing: one session, one probe and one etcd channel per host, all hosts in parallel.

pub mod answer;
pub mod probe;
pub mod shell;
