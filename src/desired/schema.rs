//! The JSON Schema of the cluster file, for editors and for other programs that write one.

use schemars::generate::SchemaSettings;
use schemars::{Schema, json_schema};
use serde_json::{Map, Value, json};

use super::file::File;
use super::resolve::reserved_option;
use crate::etcd::option::{self, Kind};

/// The schema, in draft 7, which editors of TOML understand.
pub fn cluster_file() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    tidy(&mut schema);
    schema
}

/// `settings`: every option of every known minor that is the file's to set.
pub(crate) fn settings() -> Schema {
    let mut properties: Map<String, Value> = Map::new();
    for table in option::tables() {
        for option in table
            .options
            .iter()
            .filter(|o| reserved_option(o.name).is_none())
        {
            let entry = properties
                .entry(option.name)
                .or_insert_with(|| json!({ "description": "", "any": [] }));
            let schema = value_schema(&option.kind);
            if let Some(list) = entry.get_mut("any").and_then(Value::as_array_mut)
                && !list.contains(&schema)
            {
                list.push(schema);
            }
            let minors = entry["description"].as_str().unwrap_or_default();
            let minors = if minors.is_empty() {
                format!("Option of etcd {}", table.minor)
            } else {
                format!("{minors}, {}", table.minor)
            };
            entry["description"] = Value::String(minors);
        }
    }
    for entry in properties.values_mut() {
        let minors = entry["description"].as_str().unwrap_or_default().to_owned();
        let mut any = entry["any"].as_array().cloned().unwrap_or_default();
        let mut merged = if any.len() == 1 {
            any.remove(0)
        } else {
            json!({ "anyOf": any })
        };
        merged["description"] = Value::String(format!("{minors}."));
        *entry = merged;
    }
    json_schema!({
        "type": "object",
        "description": "etcd options by flag name without dashes in front, checked against the list of the version.",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn value_schema(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int => json!({ "type": "integer" }),
        Kind::Uint(None) => json!({ "type": "integer", "minimum": 0 }),
        Kind::Uint(Some((from, to))) => {
            json!({ "type": "integer", "minimum": from, "maximum": to })
        }
        Kind::Float => json!({ "type": "number" }),
        Kind::Duration => {
            json!({ "type": "string", "pattern": "^(0|([0-9.]+(ns|us|µs|μs|ms|s|m|h))+)$" })
        }
        Kind::Retention => json!({ "type": ["string", "integer"] }),
        Kind::Size => json!({ "type": ["string", "integer"] }),
        Kind::Text => json!({ "type": "string" }),
        Kind::List => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
        Kind::Enum(words) => json!({ "enum": words }),
    }
}

/// TOML has no null: an optional key is absent. Doc comments are wrapped, and editors wrap by themselves.
/// `format` names Rust's types.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            // As a keyword these are strings; as names of keys they are schemas.
            if map.get("format").is_some_and(Value::is_string) {
                map.remove("format");
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(any)) = map.get_mut("anyOf") {
                any.retain(|s| s != &json!({ "type": "null" }));
                if let [only] = any.as_slice() {
                    // A description beside `$ref` is ignored in draft 7, so the reference keeps its wrapper.
                    let only = only.clone();
                    map.remove("anyOf");
                    map.insert("allOf".to_owned(), Value::Array(vec![only]));
                }
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
