//! The JSON Schema: as generated, complete, documented, and agreed with by the examples.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use quorate::command;
use quorate::desired::schema;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_file_is_the_generated_one() {
    let path = root().join("schemas/cluster.schema.json");
    let text = command::schema::text();
    if std::env::var_os("QUORATE_UPDATE").is_some() {
        fs::write(&path, &text).expect("written");
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == text,
        "schemas/cluster.schema.json is out of date: QUORATE_UPDATE=1 cargo test --test pure schema"
    );
}

/// Follows `$ref` and the `allOf` of one that carries a description.
fn resolve<'s>(schema: &'s Value, at: &'s Value) -> &'s Value {
    if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
        let pointer = reference.trim_start_matches('#');
        return resolve(
            schema,
            schema.pointer(pointer).expect("the reference is there"),
        );
    }
    match at.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => resolve(schema, only),
        _ => at,
    }
}

/// Every key of the file, by dotted path; `settings` is left to the option tables.
fn keys(schema: &Value, at: &Value, path: &str, found: &mut BTreeSet<String>) {
    let at = resolve(schema, at);
    for variant in at
        .get("anyOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        keys(schema, variant, path, found);
    }
    if let Some(items) = at.get("items") {
        keys(schema, items, path, found);
    }
    for (key, value) in at
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        assert!(
            value
                .get("description")
                .or_else(|| resolve(schema, value).get("description"))
                .is_some(),
            "{path} has no description"
        );
        if key != "settings" {
            keys(schema, value, &path, found);
        }
        found.insert(path);
    }
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let schema = schema::cluster_file();
    let mut known = BTreeSet::new();
    keys(&schema, &schema, "", &mut known);
    // Tables are documented by their headings, and shared ones once.
    let shared = |path: &String| {
        let secret = ["env", "file", "command", "prompt"]
            .iter()
            .any(|k| path.ends_with(&format!(".{k}")));
        secret || path.starts_with("node.ssh.")
    };
    known.retain(|path| !shared(path));

    let text =
        fs::read_to_string(root().join("docs/cluster-file.md")).expect("docs/cluster-file.md");
    let mut documented = BTreeSet::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            table = heading
                .trim_matches('`')
                .trim_matches(['[', ']'])
                .to_owned();
            if heading.starts_with("`[") {
                documented.insert(table.clone());
            }
            if table == "Top level" {
                table.clear();
            }
        } else if let Some(row) = line.strip_prefix("| `") {
            let key = row.split('`').next().unwrap_or_default();
            documented.insert(if table.is_empty() {
                key.to_owned()
            } else {
                format!("{table}.{key}")
            });
        }
    }
    documented.retain(|path| !path.starts_with("Secrets"));
    let missing: Vec<_> = known.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&known).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "not documented: {missing:?}\nno such key: {invented:?}"
    );
}

/// The part of JSON Schema that ours uses; a keyword that is not understood fails.
fn check(schema: &Value, at: &Value, value: &Value, path: &str) -> Result<(), String> {
    let rules = at.as_object().ok_or_else(|| format!("{path}: no schema"))?;
    let fail = |why: &str| Err(format!("{path}: {why}"));
    for (keyword, rule) in rules {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "definitions" => {}
            "$ref" => {
                let target =
                    schema.pointer(rule.as_str().unwrap_or_default().trim_start_matches('#'));
                check(
                    schema,
                    target.ok_or_else(|| format!("{path}: dangling {rule}"))?,
                    value,
                    path,
                )?;
            }
            "allOf" => {
                for part in rule.as_array().into_iter().flatten() {
                    check(schema, part, value, path)?;
                }
            }
            "anyOf" | "oneOf" => {
                let parts: Vec<Result<(), String>> = rule
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|part| check(schema, part, value, path))
                    .collect();
                let fits = parts.iter().filter(|p| p.is_ok()).count();
                if fits == 0 || (keyword == "oneOf" && fits != 1) {
                    return fail(&format!("{fits} of {keyword} fit: {parts:?}"));
                }
            }
            "type" => {
                let is = |kind: &str| match kind {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64(),
                    "number" => value.is_number(),
                    _ => false,
                };
                let fits = match rule {
                    Value::String(kind) => is(kind),
                    Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
                    _ => false,
                };
                if !fits {
                    return fail(&format!("is not {rule}"));
                }
            }
            "const" if value != rule => return fail(&format!("is not {rule}")),
            "enum" if !rule.as_array().is_some_and(|a| a.contains(value)) => {
                return fail(&format!("is none of {rule}"));
            }
            "minimum" if value.as_i64() < rule.as_i64() => return fail("too small"),
            "maximum" if value.as_i64() > rule.as_i64() => return fail("too large"),
            "minItems" if value.as_array().map(|a| a.len() as u64) < rule.as_u64() => {
                return fail("too few");
            }
            "maxItems" if value.as_array().map(|a| a.len() as u64) > rule.as_u64() => {
                return fail("too many");
            }
            "minProperties" if value.as_object().map(|o| o.len() as u64) < rule.as_u64() => {
                return fail("too few");
            }
            "required" => {
                for key in rule
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                {
                    if value.get(key).is_none() {
                        return fail(&format!("lacks {key}"));
                    }
                }
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(schema, rule, item, &format!("{path}[{at}]"))?;
                }
            }
            "properties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = rule.get(key) {
                        check(schema, rule, value, &format!("{path}.{key}"))?;
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(rule, &Value::Bool(false), "{path}");
                let known = rules.get("properties");
                for key in value.as_object().into_iter().flatten().map(|(key, _)| key) {
                    if known.and_then(|k| k.get(key)).is_none() {
                        return fail(&format!("unknown key {key}"));
                    }
                }
            }
            // Said with the keyword's guard above, or checked by the parser's own tests.
            "const" | "enum" | "minimum" | "maximum" | "minItems" | "maxItems"
            | "minProperties" | "pattern" => {}
            other => panic!("{path}: this check does not understand `{other}`"),
        }
    }
    Ok(())
}

fn against_schema(text: &str) -> Result<(), String> {
    let table: toml::Table = toml::from_str(text).map_err(|e| e.to_string())?;
    let value = serde_json::to_value(table).map_err(|e| e.to_string())?;
    let schema = schema::cluster_file();
    check(&schema, &schema, &value, "")
}

pub(crate) fn example_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("examples"))
        .expect("examples")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn the_schema_takes_every_example() {
    for file in example_files() {
        let text = fs::read_to_string(&file).expect("read");
        against_schema(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        assert!(
            text.starts_with("#:schema ../schemas/cluster.schema.json\n"),
            "{}",
            file.display()
        );
    }
}

#[test]
fn the_schema_refuses_what_the_parser_refuses() {
    let valid = fs::read_to_string(root().join("examples/three-nodes-tls.toml")).expect("read");
    against_schema(&valid).expect("valid");
    for (from, to) in [
        ("schema = 1", "schema = 2"),
        ("[cluster]", "[cluster]\nnmae = 1"),
        ("\"managed\"", "\"on\""),
        ("{ env = \"APP_ETCD_PASSWORD\" }", "\"hunter2\""),
        (
            "{ env = \"APP_ETCD_PASSWORD\" }",
            "{ env = \"A\", file = \"b\" }",
        ),
        (
            "{ prefix = \"/app/\",",
            "{ prefix = \"/app/\", key = \"a\",",
        ),
        ("quota-backend-bytes", "quota-backend-byte"),
        ("\"periodic\"", "\"hourly\""),
        ("[ssh]", "[ssh]\nport = 0"),
    ] {
        let changed = valid.replace(from, to);
        assert_ne!(changed, valid, "{from}");
        assert!(against_schema(&changed).is_err(), "the schema takes {to}");
        assert!(
            quorate::desired::parse(&changed, "f", Path::new("/"), None).is_err(),
            "the parser takes {to}"
        );
    }
}
