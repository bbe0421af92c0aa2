//! Replaces what may be a secret in the text that errors quote.
//!
//! An error underlines text of the file and shows the whole line, so a secret that an operator wrote
//! where a reference belongs would be printed by the very error that refuses it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

const MASK: &str = "***";

/// Keys whose value must be a reference; in their tables these keys hold references, not secrets.
const REFERENCES: [&str; 4] = ["env", "file", "command", "prompt"];

/// The text with secrets masked, and how places move.
#[derive(Debug)]
pub(crate) struct Masked {
    text: String,
    /// Masked ranges of the real text, in order and apart from each other, with the length of their mask.
    holes: Vec<(Range<usize>, usize)>,
}

impl Masked {
    /// Masks the ranges in `text`. The number of lines stays.
    fn new(text: &str, mut ranges: Vec<Range<usize>>) -> Self {
        ranges.sort_by_key(|r| (r.start, r.end));
        let mut out = String::with_capacity(text.len());
        let mut holes = Vec::new();
        let mut done = 0;
        for range in ranges {
            let start = range.start.max(done);
            if start >= range.end || text.get(start..range.end).is_none() {
                continue;
            }
            out.push_str(&text[done..start]);
            let before = out.len();
            out.push_str(MASK);
            let lines = text[start..range.end].matches('\n').count();
            out.extend(std::iter::repeat_n('\n', lines));
            holes.push((start..range.end, out.len() - before));
            done = range.end;
        }
        out.push_str(&text[done..]);
        Masked { text: out, holes }
    }

    /// The masked text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// A range of the real text in the masked text; what touches a mask covers all of it.
    pub(crate) fn place(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.offset(range.start, false);
        let end = self.offset(range.end, true).max(start);
        start..end
    }

    /// Whether the range touches masked text.
    pub(crate) fn hides(&self, range: &Range<usize>) -> bool {
        self.holes
            .iter()
            .any(|(hole, _)| hole.start < range.end && range.start < hole.end)
    }

    fn offset(&self, real: usize, is_end: bool) -> usize {
        let mut removed = 0;
        let mut added = 0;
        for (hole, length) in &self.holes {
            if real <= hole.start {
                break;
            }
            if real < hole.end {
                let here = hole.start - removed + added;
                return if is_end { here + length } else { here };
            }
            removed += hole.len();
            added += length;
        }
        (real - removed + added).min(self.text.len())
    }
}

/// Masks by the structure of a file that could be parsed, and by its lines.
pub(crate) fn document(text: &str, table: &DeTable<'_>) -> Masked {
    let mut ranges = key_material(text);
    walk(table, false, &mut ranges);
    Masked::new(text, ranges)
}

/// Masks by lines, for a text that could not be parsed.
pub(crate) fn lines(text: &str) -> Masked {
    let mut ranges = key_material(text);
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end_matches(['\n', '\r']).len();
        let shown = &text[start..end];
        // Everything behind the first `=` after a telling word goes, whatever it is: in a broken file nobody
        // knows where the value ends. A line that only refers is worth showing.
        let lower = shown.to_ascii_lowercase();
        if let Some(at) = TELLING.iter().filter_map(|w| lower.find(w)).min() {
            let refers = REFERENCES
                .iter()
                .any(|r| lower[at..].contains(&format!("{r} =")));
            if let (Some(eq), false) = (shown[at..].find('='), refers) {
                let value = at + eq + 1;
                let value = value + shown[value..].len() - shown[value..].trim_start().len();
                ranges.push(start + value..end);
            }
        }
        start += line.len();
    }
    Masked::new(text, ranges)
}

const TELLING: [&str; 3] = ["pass", "secret", "credential"];

fn is_telling(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    TELLING.iter().any(|w| key.contains(w))
}

fn walk(table: &DeTable<'_>, secret: bool, ranges: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if is_telling(name) {
            // A table refers, by known keys; anything else is the secret itself.
            hide(value, true, ranges);
        } else if secret && (!REFERENCES.contains(&name) || is_misused(name, value.get_ref())) {
            hide(value, false, ranges);
        } else {
            match value.get_ref() {
                DeValue::Table(inner) => walk(inner, name == "identity", ranges),
                DeValue::Array(items) => items.iter().for_each(|item| {
                    if let DeValue::Table(inner) = item.get_ref() {
                        walk(inner, false, ranges);
                    }
                }),
                _ => {}
            }
        }
    }
}

/// `prompt = "hunter2"` and `env = "hunter2!"`: what cannot be a reference is likely the secret.
fn is_misused(name: &str, value: &DeValue<'_>) -> bool {
    match (name, value) {
        ("prompt", DeValue::Boolean(_)) => false,
        ("prompt", _) => true,
        ("env", DeValue::String(text)) => !is_env_name(text),
        ("env", _) => true,
        _ => false,
    }
}

/// Whether an environment variable can have this name.
pub(crate) fn is_env_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn hide(value: &Spanned<DeValue<'_>>, may_refer: bool, ranges: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(inner) if may_refer => walk(inner, true, ranges),
        // A boolean is a setting (`password_auth = false`), and tables by header have no text of their own.
        DeValue::Boolean(_) => {}
        DeValue::Table(inner) => inner.values().for_each(|v| hide(v, false, ranges)),
        DeValue::Array(items) if value.span().is_empty() => {
            items.iter().for_each(|v| hide(v, false, ranges));
        }
        _ => ranges.push(value.span()),
    }
}

/// Private keys and the credentials of URLs, wherever they stand.
fn key_material(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for (at, found) in text.match_indices("://") {
        let start = at + found.len();
        let rest = &text[start..];
        let authority = rest
            .find(|c: char| "/\"'?#".contains(c) || c.is_whitespace())
            .unwrap_or(rest.len());
        if let Some(at) = rest[..authority].rfind('@') {
            ranges.push(start..start + at);
        }
    }
    for marker in ["AGE-SECRET-KEY-", "PRIVATE KEY-----"] {
        for (at, _) in text.match_indices(marker) {
            let rest = &text[at..];
            let end = if marker.starts_with("AGE") {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
                    .unwrap_or(rest.len())
            } else {
                // To the quotes that close the string, or the end of the text.
                rest.find("\"\"\"")
                    .or_else(|| rest.find("'''"))
                    .or_else(|| rest.find('"'))
                    .unwrap_or(rest.len())
            };
            ranges.push(at..at + end);
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        let table = DeTable::parse(text).expect("toml").into_inner();
        document(text, &table).text().to_owned()
    }

    #[test]
    fn secrets_are_masked_and_references_stay() {
        for text in [
            "password = \"hunter2\"\n",
            "[a]\nPassPhrase = 'hunter2'\nx = 1\n",
            "a = [{ passwort = \"hunter2\" }]\n",
            "sudo_password = { value = \"hunter2\" }\n",
            "password = { prompt = \"hunter2\" }\n",
            "[x.password]\nliteral = \"hunter2\"\n",
            "password = [\"hunter2\"]\n",
            "password = { env = \"hunter2!\" }\n",
            "password = { x = { env = \"hunter2\" } }\n",
            "identity = { x = \"hunter2\" }\n",
            "key = \"AGE-SECRET-KEY-hunter2\"\n",
            "archive = \"https://ops:hunter2@example.com/x\"\n",
            "key = \"\"\"-----BEGIN PRIVATE KEY-----\nhunter2\n\"\"\"\n",
        ] {
            let masked = masked(text);
            assert!(!masked.contains("hunter2"), "{masked}");
            assert_eq!(
                masked.matches('\n').count(),
                text.matches('\n').count(),
                "{masked}"
            );
        }
        let fine = "password = { env = \"NAME\" }\n[x.password]\nfile = \"p\"\n[y.identity]\nprompt = true\n";
        assert_eq!(masked(fine), fine);
    }

    #[test]
    fn secrets_of_broken_files_are_masked() {
        for text in [
            "password = \"hunter2\nx = 1\n",
            "x = { passphrase = hunter2 }",
            "Secret='hunter2'\n=",
        ] {
            assert!(!lines(text).text().contains("hunter2"), "{text}");
        }
        let fine = "password = { env = \"NAME\"\n";
        assert_eq!(lines(fine).text(), fine);
    }

    #[test]
    fn places_move_with_the_text() {
        let text = "a = { password = \"hunter2\", b = 3 }";
        let table = DeTable::parse(text).expect("toml").into_inner();
        let masked = document(text, &table);
        let b = text.find("b = 3").expect("there");
        assert_eq!(&masked.text()[masked.place(&(b..b + 5))], "b = 3");
        let secret = text.find("\"hunter2\"").expect("there");
        assert_eq!(
            &masked.text()[masked.place(&(secret + 3..secret + 5))],
            "***"
        );
        assert!(masked.hides(&(secret + 3..secret + 5)));
        assert!(!masked.hides(&(b..b + 5)));
    }
}
