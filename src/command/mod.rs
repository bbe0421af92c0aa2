//! The commands, each a thin file.

pub mod apply;
pub mod fmt;
pub mod graph;
pub mod init;
pub mod plan;
mod runlog;
pub mod saved;
pub mod schema;
pub mod session;
pub mod show;
pub mod status;
pub mod validate;
