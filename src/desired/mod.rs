//! The desired state.
pub mod model;
