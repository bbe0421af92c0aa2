//! Findings in a cluster file, as rustc would show them.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::desired::{Diagnostic, Severity};

/// Renders findings one after the other, an empty line after each; with ANSI colours if `colour`.
pub fn render(found: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    // A fixed width: the same text on every terminal, and in the tests.
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(140);
    found.iter().map(|d| one(d, &renderer) + "\n\n").collect()
}

fn one(d: &Diagnostic, renderer: &Renderer) -> String {
    let level = match d.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level
        .primary_title(d.summary)
        .elements(Vec::<Origin<'_>>::new());
    let source = d.source();
    if d.span.is_empty() && d.span.start == 0 {
        // About the file as a whole.
        group = group.element(Origin::path(d.file.as_str()));
    } else {
        let mut snippet = Snippet::source(source).path(d.file.as_str()).annotation(
            AnnotationKind::Primary
                .span(on_one_line(source, &d.span))
                .label(d.label.as_str()),
        );
        for related in &d.related {
            snippet = snippet.annotation(
                AnnotationKind::Context
                    .span(on_one_line(source, &related.span))
                    .label(related.label.as_str()),
            );
        }
        group = group.element(snippet);
    }
    if !d.detail.is_empty() {
        group = group.element(Level::NOTE.message(d.detail.as_str()));
    }
    if let Some(help) = &d.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

/// A span that the renderer can underline: within the text, on character boundaries, and only the first
/// line of what goes over several.
fn on_one_line(source: &str, span: &Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(source.len());
        while !source.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    let end = floor(span.end.max(start));
    let line_end = source[start..end].find('\n').map_or(end, |i| start + i);
    start..line_end
}
