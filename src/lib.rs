//! Quorate plans and applies etcd clusters over SSH.

pub mod action;
pub mod desired;
pub mod etcd;
pub mod observed;
pub mod pki;
pub mod plan;
pub mod runtime;
pub mod safety;
pub mod schedule;
