//! `docs/architecture.md` leads to places that exist, and leaves no module out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn paths_in_the_architecture_exist() {
    let paths = paths(&architecture());
    assert!(paths.len() > 50, "only {} paths are mentioned", paths.len());
    let missing: Vec<&String> = paths
        .iter()
        .filter(|path| !root().join(path).exists())
        .collect();
    assert!(
        missing.is_empty(),
        "docs/architecture.md mentions what is not there: {missing:?}"
    );
}

#[test]
fn every_module_is_in_the_architecture() {
    let text = architecture();
    let mentioned = paths(&text);
    for entry in fs::read_dir(root().join("src")).expect("src") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        let path = format!("src/{name}");
        if name != "lib.rs" {
            assert!(
                mentioned.contains(&path),
                "docs/architecture.md does not mention `{path}`"
            );
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let docs = root().join("docs");
    for entry in fs::read_dir(&docs).expect("docs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a readable page");
        for link in links(&text) {
            assert!(
                docs.join(&link).exists(),
                "{} links to {link}",
                path.display()
            );
        }
    }
}

#[test]
fn the_test_can_fail() {
    assert_eq!(
        paths(
            "`src/a.rs` and `Plan`, `tests/b/`, `src`, src/c.rs\n```text\nsrc/d.rs\n```\n`docs/x.md`"
        ),
        BTreeSet::from(["docs/x.md", "src/a.rs", "tests/b"].map(str::to_owned))
    );
    assert_eq!(
        links("[a](b.md) [c](https://h/d.md) [e](f.md#g) [h](#i)"),
        ["b.md", "f.md"]
    );
}

/// What stands in backticks and is a path of the repository.
fn paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        for quoted in line.split('`').skip(1).step_by(2).filter(|_| !fenced) {
            let first = quoted.split('/').next().unwrap_or_default();
            let known = ["docs", "examples", "schemas", "scripts", "src", "tests"].contains(&first);
            if known && quoted.contains('/') && !quoted.contains(char::is_whitespace) {
                found.insert(quoted.trim_end_matches('/').to_owned());
            }
        }
    }
    found
}

/// Targets of links to other pages, without their anchors.
fn links(text: &str) -> Vec<String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .map(str::to_owned)
        .collect()
}

fn architecture() -> String {
    fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
