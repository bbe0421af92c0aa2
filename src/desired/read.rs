//! Reads a TOML table into its mirror struct, one table at a time, so that one wrong value does not
//! hide what is wrong elsewhere.

use std::borrow::Cow;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::Error as ValueError;
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::diagnostic::Sink;

/// Bytes of the file.
pub type Span = Range<usize>;

/// A value of the file and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> From<Spanned<T>> for At<T> {
    fn from(spanned: Spanned<T>) -> Self {
        let span = spanned.span();
        At {
            value: spanned.into_inner(),
            span,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::<T>::deserialize(deserializer).map(At::from)
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A string of the file that must be one of the variants of `E`. It is kept as text until the table
/// is read, so that a wrong word does not hide what else is wrong in the table.
#[derive(Debug, Clone)]
pub struct Choice<E> {
    text: At<String>,
    variant: std::marker::PhantomData<E>,
}

impl<E: DeserializeOwned> Choice<E> {
    /// The variant, or an error that names the nearest.
    pub(crate) fn resolve(&self, sink: &mut Sink) -> Option<E> {
        let parsed: Result<E, ValueError> =
            E::deserialize(self.text.value.as_str().into_deserializer());
        if let Ok(variant) = parsed {
            return Some(variant);
        }
        let known = names_of::<E>();
        let list = known
            .iter()
            .map(|k| format!("`{k}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let error = sink
            .error("unknown value", &self.text.span)
            .label(format!("expected one of {list}"));
        if let Some(near) = nearest(&self.text.value, known.iter().copied()) {
            error.help(format!("did you mean \"{near}\"?"));
        }
        None
    }

    /// Where it stands.
    pub(crate) fn span(&self) -> &Span {
        &self.text.span
    }
}

impl<'de, E> Deserialize<'de> for Choice<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Choice {
            text: At::deserialize(deserializer)?,
            variant: std::marker::PhantomData,
        })
    }
}

impl<E: JsonSchema> JsonSchema for Choice<E> {
    fn inline_schema() -> bool {
        E::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        E::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        E::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        E::json_schema(generator)
    }
}

/// A table of the file on its way into its mirror struct.
#[derive(Debug)]
pub(crate) struct Section<'i> {
    /// Name in errors: `etcd.install`, `node`.
    pub(crate) path: String,
    /// The header, or the inline table.
    pub(crate) span: Span,
    /// The key that the table is the value of.
    pub(crate) key_span: Span,
    table: DeTable<'i>,
}

impl<'i> Section<'i> {
    /// The whole document.
    pub(crate) fn root(table: Spanned<DeTable<'i>>) -> Self {
        Section {
            path: String::new(),
            span: 0..0,
            key_span: 0..0,
            table: table.into_inner(),
        }
    }

    fn from_value(
        path: String,
        key_span: Span,
        value: Spanned<DeValue<'i>>,
        sink: &mut Sink,
    ) -> Option<Self> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(Section {
                path,
                span,
                key_span,
                table,
            }),
            other => {
                sink.error("wrong type", &span).label(format!(
                    "expected a table, found {}",
                    with_article(other.type_str())
                ));
                None
            }
        }
    }

    /// Name of a key of this table in errors.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Takes a key and its value out of the table.
    pub(crate) fn take(&mut self, key: &str) -> Option<(Span, Spanned<DeValue<'i>>)> {
        let (key, value) = self.table.remove_entry(key)?;
        Some((key.span(), value))
    }

    /// A value that stays in the table.
    pub(crate) fn peek(&self, key: &str) -> Option<&DeValue<'i>> {
        self.table.get(key).map(Spanned::get_ref)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.table.contains_key(*key))
    }

    /// All keys and values that are left.
    pub(crate) fn entries(self) -> impl Iterator<Item = (At<String>, Spanned<DeValue<'i>>)> {
        self.table.into_iter().map(|(key, value)| {
            let span = key.span();
            (
                At {
                    value: key.into_inner().into_owned(),
                    span,
                },
                value,
            )
        })
    }

    /// Takes a sub-table out of the table.
    pub(crate) fn take_table(&mut self, key: &str, sink: &mut Sink) -> Taken<Section<'i>> {
        let path = self.path_of(key);
        match self.take(key) {
            None => Taken::Absent,
            Some((key_span, value)) => {
                if let DeValue::Array(_) = value.get_ref() {
                    let span = if value.span().is_empty() {
                        key_span
                    } else {
                        value.span()
                    };
                    sink.error("wrong type", &span)
                        .label("expected one table, found an array")
                        .help(format!("write it once, as [{path}]"));
                    return Taken::Broken;
                }
                Section::from_value(path, key_span, value, sink)
                    .map_or(Taken::Broken, Taken::Present)
            }
        }
    }

    /// Takes an array of tables out of the table; an element that is not a table is reported and left out
    /// (its place in the result is `None`).
    pub(crate) fn take_tables(&mut self, key: &str, sink: &mut Sink) -> Vec<Option<Section<'i>>> {
        let path = self.path_of(key);
        let Some((key_span, value)) = self.take(key) else {
            return Vec::new();
        };
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(items) => items
                .into_iter()
                .map(|item| Section::from_value(path.clone(), key_span.clone(), item, sink))
                .collect(),
            other => {
                sink.error("wrong type", &span)
                    .label(format!(
                        "expected an array of tables, found {}",
                        with_article(other.type_str())
                    ))
                    .help(format!("write [[{path}]], once for each"));
                vec![None]
            }
        }
    }

    /// Reports unknown keys, then reads the rest into `T`; one type error at most.
    pub(crate) fn finish<T: DeserializeOwned>(mut self, sink: &mut Sink) -> Option<T> {
        let known = names_of::<T>();
        let mut unknown: Vec<At<String>> = Vec::new();
        for key in self.table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                unknown.push(At {
                    value: key.get_ref().to_string(),
                    span: key.span(),
                });
            }
        }
        for key in unknown {
            self.table.remove(key.value.as_str());
            self.report_unknown(&key, known, sink);
        }
        let whole = Spanned::new(self.span.clone(), DeValue::Table(self.table));
        match T::deserialize(ValueDeserializer::from(whole)) {
            Ok(value) => Some(value),
            Err(error) => {
                let span = error.span().unwrap_or(self.span);
                sink.error("wrong type", &span)
                    .label(plain_type_error(error.message()));
                None
            }
        }
    }

    fn report_unknown(&self, key: &At<String>, known: &[&str], sink: &mut Sink) {
        let place = if self.path.is_empty() {
            "the file".to_owned()
        } else {
            format!("[{}]", self.path)
        };
        let help = match nearest(&key.value, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.len() <= 14 => format!("known here: {}", known.join(", ")),
            None => "`quorate schema` and docs/cluster-file.md list every key".to_owned(),
        };
        sink.error("unknown key", &key.span)
            .label(format!("not a key of {place}"))
            .help(help);
    }
}

/// What became of a sub-table.
#[derive(Debug)]
pub(crate) enum Taken<T> {
    /// The file does not have it.
    Absent,
    /// It was reported.
    Broken,
    /// It can be used.
    Present(T),
}

impl<T> Taken<T> {
    pub(crate) fn and_then<U>(self, f: impl FnOnce(T) -> Option<U>) -> Taken<U> {
        match self {
            Taken::Absent => Taken::Absent,
            Taken::Broken => Taken::Broken,
            Taken::Present(t) => f(t).map_or(Taken::Broken, Taken::Present),
        }
    }

    pub(crate) fn ok(self) -> Option<T> {
        match self {
            Taken::Present(t) => Some(t),
            Taken::Absent | Taken::Broken => None,
        }
    }

    pub(crate) fn as_ref(&self) -> Taken<&T> {
        match self {
            Taken::Absent => Taken::Absent,
            Taken::Broken => Taken::Broken,
            Taken::Present(t) => Taken::Present(t),
        }
    }
}

pub(crate) fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}

/// serde's words for Rust's types, in TOML's.
fn plain_type_error(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    message
        .trim_start_matches("invalid type: ")
        .replace("expected i64", "expected an integer")
        .replace("expected a sequence", "expected an array")
        .replace("expected struct", "expected a table:")
        .replace(", expected", ": expected")
}

/// The fields of a struct or the variants of an enum, by the names that the file uses.
pub(crate) fn names_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Probe<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = ValueError;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ValueError> {
            Err(ValueError::custom("only names are asked for"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ValueError> {
            *self.0 = fields;
            Err(ValueError::custom("only names are asked for"))
        }
        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ValueError> {
            *self.0 = variants;
            Err(ValueError::custom("only names are asked for"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
            unit unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
        }
    }
    let mut names: &'static [&'static str] = &[];
    let _: Result<T, ValueError> = T::deserialize(Probe(&mut names));
    names
}

/// The known word that was most likely meant, if one is close.
pub(crate) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Long garbage is not worth comparing: the cost is quadratic, and no option is this long.
    if word.len() > 80 {
        return None;
    }
    let folded = word.to_lowercase().replace('_', "-");
    known
        .filter_map(|k| {
            let distance =
                strsim::damerau_levenshtein(&folded, &k.to_lowercase().replace('_', "-"));
            let limit = (k.len().max(word.len()) / 3).clamp(1, 4);
            (distance <= limit).then_some((distance, k))
        })
        .min()
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_is_close_or_nothing() {
        let known = ["name", "token", "data_dir"];
        assert_eq!(nearest("nmae", known.into_iter()), Some("name"));
        assert_eq!(nearest("data-dir", known.into_iter()), Some("data_dir"));
        assert_eq!(nearest("zzzz", known.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(10_000), known.into_iter()), None);
    }

    #[test]
    fn names_are_those_of_the_file() {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Example {
            one: Option<u8>,
            #[serde(rename = "two-three")]
            two: Option<u8>,
        }
        assert_eq!(names_of::<Example>(), ["one", "two-three"]);
    }
}
