//! Performs what the scheduler commands.

pub mod script;
