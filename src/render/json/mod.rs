//! What other programs read: versioned JSON, in an order that does not change from run to run.
//!
//! A new minor of a format adds; a new major changes, and has to be rejected by who does not know it. Consumers of
//! the event stream show `@message` where they do not know the `type`.

pub mod event;
pub mod plan;
pub mod schema;
mod stream;

use serde::Serialize;

/// The pretty form of a document, with a newline at the end.
pub fn document(value: &impl Serialize) -> String {
    // Only maps with keys that are not text, and writers that fail, make this fail: there are none.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// The form on one line, with a newline at the end.
pub fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}
