//! Quorate plans and applies etcd clusters over SSH.
pub mod desired;
