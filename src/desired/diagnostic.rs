//! What is wrong or doubtful in a cluster file, and where.

use std::ops::Range;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but the operator should know.
    Warning,
}

/// Place in a file, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Location {
    /// Line.
    pub line: usize,
    /// Character in the line.
    pub column: usize,
}

/// A second place that belongs to the finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// Bytes of [`Diagnostic::source`].
    pub span: Range<usize>,
    /// What is said there.
    pub label: String,
}

/// One finding. Its text and its source never hold a secret: those are masked by the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Short and constant, to search for.
    pub summary: &'static str,
    /// A sentence or two with the reason; may be empty.
    pub detail: String,
    /// Name of the file, as it was given.
    pub file: String,
    /// Bytes of [`Diagnostic::source`] to underline.
    pub span: Range<usize>,
    /// What is said at the underlined text.
    pub label: String,
    /// Other places that belong to it.
    pub related: Vec<Related>,
    /// What to do.
    pub help: Option<String>,
    source: Arc<str>,
}

impl Diagnostic {
    /// An error about a file as a whole, such as that it cannot be read.
    pub fn whole_file(summary: &'static str, file: &str, detail: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            summary,
            detail: detail.into(),
            file: file.to_owned(),
            span: 0..0,
            label: String::new(),
            related: Vec::new(),
            help: None,
            source: Arc::from(""),
        }
    }

    /// The text that the spans refer to: the file's, with secrets masked.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where the underlined text starts.
    pub fn location(&self) -> Location {
        locate(&self.source, self.span.start)
    }

    /// Where the underlined text ends (exclusive).
    pub fn end_location(&self) -> Location {
        locate(&self.source, self.span.end)
    }

    pub(crate) fn label(&mut self, text: impl Into<String>) -> &mut Self {
        self.label = text.into();
        self
    }

    pub(crate) fn detail(&mut self, text: impl Into<String>) -> &mut Self {
        self.detail = text.into();
        self
    }

    pub(crate) fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }

    pub(crate) fn also(&mut self, span: &Range<usize>, label: impl Into<String>) -> &mut Self {
        self.related.push(Related {
            span: span.clone(),
            label: label.into(),
        });
        self
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct At<'a> {
            start: Location,
            end: Location,
            label: &'a str,
        }
        let related: Vec<At<'_>> = self
            .related
            .iter()
            .map(|r| At {
                start: locate(&self.source, r.span.start),
                end: locate(&self.source, r.span.end),
                label: &r.label,
            })
            .collect();
        let mut out = serializer.serialize_struct("Diagnostic", 9)?;
        out.serialize_field("severity", &self.severity)?;
        out.serialize_field("summary", self.summary)?;
        out.serialize_field("detail", &self.detail)?;
        out.serialize_field("file", &self.file)?;
        out.serialize_field("start", &self.location())?;
        out.serialize_field("end", &self.end_location())?;
        out.serialize_field("label", &self.label)?;
        out.serialize_field("related", &related)?;
        out.serialize_field("help", &self.help)?;
        out.end()
    }
}

fn locate(source: &str, offset: usize) -> Location {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &source[..offset];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    Location {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// Collects findings while a file is read.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    found: Vec<Diagnostic>,
}

impl Sink {
    /// Adds an error and returns it to be filled in.
    pub(crate) fn error(&mut self, summary: &'static str, span: &Range<usize>) -> &mut Diagnostic {
        self.push(Severity::Error, summary, span)
    }

    /// Adds a warning and returns it to be filled in.
    pub(crate) fn warning(
        &mut self,
        summary: &'static str,
        span: &Range<usize>,
    ) -> &mut Diagnostic {
        self.push(Severity::Warning, summary, span)
    }

    /// Whether an error was found so far.
    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// The findings so far, in the order they were made.
    pub(crate) fn found_mut(&mut self) -> impl Iterator<Item = &mut Diagnostic> {
        self.found.iter_mut()
    }

    fn push(
        &mut self,
        severity: Severity,
        summary: &'static str,
        span: &Range<usize>,
    ) -> &mut Diagnostic {
        let at = self.found.len();
        self.found.push(Diagnostic {
            severity,
            span: span.clone(),
            ..Diagnostic::whole_file(summary, "", "")
        });
        &mut self.found[at]
    }

    /// The findings in the order of the file, each bound to the masked source.
    /// `place` maps an offset of the real text to one of the masked text.
    pub(crate) fn finish(
        self,
        file: &str,
        source: &str,
        place: impl Fn(&Range<usize>) -> Range<usize>,
    ) -> Vec<Diagnostic> {
        let source: Arc<str> = Arc::from(source);
        let mut found = self.found;
        for d in &mut found {
            d.file = file.to_owned();
            d.span = place(&d.span);
            for r in &mut d.related {
                r.span = place(&r.span);
            }
            d.source = source.clone();
        }
        found.sort_by(|a, b| {
            (a.span.start, a.span.end, a.severity, a.summary, &a.label).cmp(&(
                b.span.start,
                b.span.end,
                b.severity,
                b.summary,
                &b.label,
            ))
        });
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_count_lines_and_characters_from_one() {
        let text = "a\nbäc = 1\n";
        assert_eq!(locate(text, 0), Location { line: 1, column: 1 });
        assert_eq!(locate(text, 2), Location { line: 2, column: 1 });
        assert_eq!(locate(text, 5), Location { line: 2, column: 3 });
        // In the middle of a character, and behind the end: the nearest place before.
        assert_eq!(locate(text, 4), Location { line: 2, column: 2 });
        assert_eq!(locate(text, 999), Location { line: 3, column: 1 });
    }

    #[test]
    fn findings_come_in_the_order_of_the_file() {
        let mut sink = Sink::default();
        sink.error("second", &(4..5));
        sink.warning("first", &(0..1))
            .label("x")
            .detail("y")
            .help("z");
        assert!(sink.has_errors());
        let found = sink.finish("f.toml", "a\nb\nc\n", Clone::clone);
        assert_eq!(
            found.iter().map(|d| d.summary).collect::<Vec<_>>(),
            ["first", "second"]
        );
        let json = serde_json::to_value(&found[1]).expect("plain data");
        assert_eq!(json["start"]["line"], 3);
        assert_eq!(json["file"], "f.toml");
    }
}
