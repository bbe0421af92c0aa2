//! Quorate plans and applies etcd clusters over SSH.
pub mod desired;
pub mod remote;
pub mod secret;
