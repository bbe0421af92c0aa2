//! `quorate validate`: reads the cluster file and says what is wrong with it.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::desired::{self, Desired, Diagnostic};
use crate::render::diagnostic;

/// Reads a cluster file from disk.
///
/// # Errors
/// The findings of [`desired::parse`]; a file that cannot be read is one too.
pub fn load(path: &Path) -> Result<(Desired, Vec<Diagnostic>), Vec<Diagnostic>> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        vec![Diagnostic::whole_file(
            "cannot read file",
            &shown,
            error.to_string(),
        )]
    })?;
    // Absolute, so that what is resolved against it means the same wherever it is used.
    let base = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let base = std::path::absolute(&base).unwrap_or(base);
    let home = std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from);
    desired::parse(&text, &shown, &base, home.as_deref())
}

/// Checks the file; findings go to `err`. Returns the exit code: 0 or 1.
///
/// # Errors
/// Only when `err` cannot be written.
pub fn run(path: &Path, colour: bool, err: &mut dyn Write) -> std::io::Result<u8> {
    let (found, code) = match load(path) {
        Ok((_, warnings)) => (warnings, 0),
        Err(found) => (found, 1),
    };
    err.write_all(diagnostic::render(&found, colour).as_bytes())?;
    Ok(code)
}
