//! The commands, each a thin file.

pub mod apply;
mod aside;
mod execute;
pub mod fmt;
pub mod graph;
mod holder;
pub mod init;
mod locking;
pub mod out;
pub mod plan;
mod runlog;
pub mod saved;
pub mod schema;
mod screen;
pub mod session;
pub mod show;
mod signals;
pub mod status;
pub mod validate;
