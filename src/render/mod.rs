//! What the operator sees.

pub mod diagnostic;
