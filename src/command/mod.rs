//! The commands, each a thin file.
pub mod validate;
