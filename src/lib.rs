//! Quorate plans and applies etcd clusters over SSH.
pub mod command;
pub mod desired;
pub mod etcd;
pub mod render;
