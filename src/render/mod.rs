//! What the operator sees. Functions take data and a [`Style`] and give text; only [`progress`] writes.

pub mod diagnostic;
pub mod event;
pub mod explain;
pub mod graph;
pub mod health;
pub mod json;
pub mod plan;
pub mod progress;
pub mod report;
pub mod status;
pub mod style;

pub use style::Style;
