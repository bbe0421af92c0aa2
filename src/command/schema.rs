//! `quorate schema`: the JSON Schema of the cluster file.

use std::io::Write;

use crate::desired::schema;

/// The schema as text, with a newline at the end.
pub fn text() -> String {
    // A `Value` has string keys only, which is all that could go wrong.
    let mut text = serde_json::to_string_pretty(&schema::cluster_file()).unwrap_or_default();
    text.push('\n');
    text
}

/// Prints the schema. Returns the exit code, 0.
///
/// # Errors
/// Only when `out` cannot be written.
pub fn run(out: &mut dyn Write) -> std::io::Result<u8> {
    out.write_all(text().as_bytes())?;
    Ok(0)
}
