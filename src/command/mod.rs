//! The commands, each a thin file.

pub mod apply;
pub mod fmt;
pub mod graph;
mod holder;
pub mod init;
pub mod plan;
mod runlog;
pub mod saved;
pub mod schema;
mod screen;
pub mod session;
pub mod show;
pub mod status;
pub mod validate;
