//! The desired state: reads the cluster file, checks it, and resolves every default.

pub mod diagnostic;
pub mod file;
mod mask;
pub mod model;
pub mod read;
mod resolve;
pub mod schema;

use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

pub use diagnostic::{Diagnostic, Location, Related, Severity};
pub use model::Desired;

use diagnostic::Sink;
use read::Section;

/// Larger files are refused: the parser's own structures are many times the text's size.
pub const MAX_BYTES: usize = 4 << 20;

/// Reads a cluster file.
///
/// `path` is its name in errors, `base_dir` the directory where its relative paths start, and `home` the
/// directory that `~/` stands for. Nothing is read from disk.
///
/// # Errors
/// All syntax errors; else every unknown key, one type error per table, and all cross-field errors of the
/// tables that could be read, in the order of the file, with the warnings among them.
/// On success the second value holds the warnings.
pub fn parse(
    text: &str,
    path: &str,
    base_dir: &Path,
    home: Option<&Path>,
) -> Result<(Desired, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut sink = Sink::default();
    if text.len() > MAX_BYTES {
        return Err(vec![too_large(text, path)]);
    }
    let Ok(table) = read_toml(text, &mut sink) else {
        return Err(syntax_errors(text, path, sink));
    };
    let masked = mask::document(text, table.get_ref());
    let tables = file::read(Section::root(table), &mut sink);
    for d in sink.found_mut() {
        // serde's type errors quote the value.
        if masked.hides(&d.span) {
            d.label = "not what is expected here".to_owned();
        }
    }
    let desired = resolve::resolve(&tables, &resolve::Paths { base_dir, home }, &mut sink);
    let failed = sink.has_errors();
    let found = sink.finish(path, masked.text(), |span| masked.place(span));
    match desired {
        Some(desired) if !failed => Ok((desired, found)),
        _ => Err(found),
    }
}

/// The plain content of a TOML text.
///
/// # Errors
/// All syntax errors.
pub(crate) fn syntax(text: &str, path: &str) -> Result<toml::Table, Vec<Diagnostic>> {
    let mut sink = Sink::default();
    if text.len() > MAX_BYTES {
        return Err(vec![too_large(text, path)]);
    }
    if read_toml(text, &mut sink).is_err() {
        return Err(syntax_errors(text, path, sink));
    }
    // Numbers that no integer type holds are correct TOML for the parser, but not here.
    toml::from_str(text)
        .map_err(|e| vec![Diagnostic::whole_file("invalid TOML", path, e.message())])
}

fn too_large(text: &str, path: &str) -> Diagnostic {
    let detail = format!(
        "{} bytes; a cluster file has at most {MAX_BYTES}",
        text.len()
    );
    Diagnostic::whole_file("file too large", path, detail)
}

fn syntax_errors(text: &str, path: &str, mut sink: Sink) -> Vec<Diagnostic> {
    let masked = mask::lines(text);
    for d in sink.found_mut() {
        if masked.hides(&d.span) {
            d.label = "not valid here".to_owned();
        }
    }
    sink.finish(path, masked.text(), |span| masked.place(span))
}

fn read_toml<'t>(text: &'t str, sink: &mut Sink) -> Result<Spanned<DeTable<'t>>, ()> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(table);
    }
    let mut lines_seen = std::collections::BTreeSet::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let span = span.start.min(text.len())..span.end.min(text.len());
        // The parser recovers inside a line and then trips over the rest of it.
        let line = text.as_bytes()[..span.start]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        if !lines_seen.insert(line) {
            continue;
        }
        let message = error
            .message()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        sink.error("invalid TOML", &span).label(message);
    }
    Err(())
}
