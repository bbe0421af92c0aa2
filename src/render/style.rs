//! How text looks: colours, width, and what is never passed on to a terminal.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style as Ansi};

/// Something new.
pub(super) const GREEN: Ansi = AnsiColor::Green.on_default();
/// Something that changes, and warnings.
pub(super) const YELLOW: Ansi = AnsiColor::Yellow.on_default();
/// Something that goes, and errors.
pub(super) const RED: Ansi = AnsiColor::Red.on_default();
/// Remarks.
pub(super) const GREY: Ansi = AnsiColor::BrightBlack.on_default();
/// Headings.
pub(super) const BOLD: Ansi = Ansi::new().bold();

/// Columns of a terminal that does not say how wide it is, and of what is not a terminal.
pub const DEFAULT_WIDTH: usize = 80;

/// Below this no line is broken: there would be nothing but breaks.
const MIN_WIDTH: usize = 40;

/// How text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether ANSI colours are used. `NO_COLOR` and pipes are the caller's to ask about.
    pub color: bool,
    /// Columns after which prose is broken. Attributes and contents of files are never cut.
    pub width: usize,
}

impl Style {
    /// No colours, 80 columns.
    pub const PLAIN: Self = Self {
        color: false,
        width: DEFAULT_WIDTH,
    };

    /// The style for what is written to a stream: colours where it is a terminal that takes them and `NO_COLOR` is
    /// not set. `width` is the terminal's, where it is known.
    pub fn of_stream(stream: &impl anstream::stream::RawStream, width: Option<u16>) -> Self {
        Self {
            color: anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never,
            // Some terminals say 0.
            width: width
                .filter(|width| *width > 0)
                .map_or(DEFAULT_WIDTH, usize::from),
        }
    }

    /// Text in a colour, if colours are used.
    pub(super) fn paint(self, ansi: Ansi, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("{ansi}{text}{ansi:#}")
        } else {
            text.to_owned()
        }
    }

    /// Breaks prose at blanks. Every line after the first starts with `indent`; `used` columns of the first are taken.
    pub(super) fn wrap(self, used: usize, indent: &str, text: &str) -> String {
        let width = self.width.max(MIN_WIDTH);
        let mut wrapped = String::new();
        let mut column = used;
        for (number, word) in clean(text).split_whitespace().enumerate() {
            let length = word.chars().count();
            if number > 0 {
                if column + 1 + length > width {
                    wrapped.push('\n');
                    wrapped.push_str(indent);
                    column = indent.chars().count();
                } else {
                    wrapped.push(' ');
                    column += 1;
                }
            }
            wrapped.push_str(word);
            column += length;
        }
        wrapped
    }
}

impl Default for Style {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// Text without control characters. What a host sends must not move the cursor of who reads the plan.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || is_bidi(c);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        if is_bad(c) {
            cleaned.extend(c.escape_unicode());
        } else {
            cleaned.push(c);
        }
    }
    Cow::Owned(cleaned)
}

/// A value in quotes, on one line.
pub(super) fn quote(text: &str) -> String {
    let inner = clean(text).replace('\n', "\\n").replace('\t', "\\t");
    format!("\"{inner}\"")
}

/// Characters that reorder what follows them on the screen.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `3 files`, `1 file`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Bytes in the unit that fits, as etcd's own tools print them in spirit: `20 MiB`, `1.5 GiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = number as f64;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 || (scaled - scaled.round()).abs() < 0.05 {
        format!("{scaled:.0} {}", UNITS[unit])
    } else {
        format!("{scaled:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_broken_at_blanks_and_long_words_stay_whole() {
        let style = Style {
            color: false,
            width: 40,
        };
        let text = "a word that is followed by /a/path/that/is/longer/than/forty/columns/and/stays";
        assert_eq!(
            style.wrap(2, "  ", text),
            "a word that is followed by\n  /a/path/that/is/longer/than/forty/columns/and/stays"
        );
    }

    #[test]
    fn what_a_host_sends_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r"), "a\\u{1b}[2Jb\\u{d}");
        assert_eq!(clean("\u{202e}x"), "\\u{202e}x");
        assert_eq!(clean("a\n\tb ü"), "a\n\tb ü");
        assert_eq!(quote("a\nb"), "\"a\\nb\"");
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(20 << 20), "20 MiB");
        assert_eq!(bytes(1536 << 20), "1.5 GiB");
        assert_eq!(bytes(u64::MAX), "16777216 TiB");
    }
}
