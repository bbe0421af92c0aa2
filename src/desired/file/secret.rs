//! References to secrets. The secret itself never stands in the file.

use schemars::JsonSchema;
use serde::Deserialize;
use toml::de::DeValue;

use crate::desired::diagnostic::Sink;
use crate::desired::read::{At, Section, Span, Taken, names_of};

/// Where a secret comes from: exactly one of these keys. The secret itself never stands in the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["env"]}, {"required": ["file"]}, {"required": ["command"]}, {"required": ["prompt"]},
]))]
pub struct Secret {
    /// Environment variable of the operator's shell.
    pub env: Option<At<String>>,
    /// File on the operator's side; a relative path starts at the cluster file, `~/` at the home directory.
    pub file: Option<At<String>>,
    /// Command run by `sh -c` on the operator's side; its standard output without the last newline.
    pub command: Option<At<String>>,
    /// `true`: asked on the terminal, once a run.
    pub prompt: Option<At<bool>>,
    /// The key that the reference belongs to.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) key: Span,
}

/// Takes a secret reference out of `table`. A literal in its place is reported by its key alone.
pub(crate) fn take(table: &mut Section<'_>, key: &str, sink: &mut Sink) -> Taken<Secret> {
    let is_table = match table.peek(key) {
        None => return Taken::Absent,
        Some(value) => matches!(value, DeValue::Table(_)),
    };
    if is_table {
        return table.take_table(key, sink).and_then(|mut section| {
            let span = section.key_span.clone();
            section.span = span.clone();
            // With nothing but unknown keys those are the error, not that the known ones are missing.
            let foreign = !section.is_empty() && !section.has_any(names_of::<Secret>());
            let secret = section.finish::<Secret>(sink)?;
            (!foreign).then_some(Secret {
                key: span,
                ..secret
            })
        });
    }
    if let Some((span, _)) = table.take(key) {
        sink.error("secret in the open", &span)
            .label("must say where the secret comes from, not what it is")
            .detail("the cluster file is kept under version control, so it never holds a secret")
            .help(format!(
                "write {key} = {{ env = \"NAME\" }}, {{ file = \"PATH\" }} or {{ command = \"COMMAND\" }}; \
                 if the secret was committed, change it"
            ));
    }
    Taken::Broken
}
