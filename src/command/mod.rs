//! The commands, each a thin file.

pub mod fmt;
pub mod init;
pub mod schema;
pub mod validate;
