//! Quorate plans and applies etcd clusters over SSH.

pub mod action;
pub mod apply;
pub mod artifact;
pub mod cli;
pub mod command;
pub mod desired;
pub mod error;
pub mod etcd;
pub mod observe;
pub mod observed;
pub mod pki;
pub mod plan;
pub mod remote;
pub mod render;
pub mod runtime;
pub mod sabotage;
pub mod safety;
pub mod schedule;
pub mod secret;
