//! `invalid/NAME.toml` gives exactly the errors of `invalid/NAME.stderr`.
//! `QUORATE_UPDATE=1 cargo test --test pure invalid_files` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use quorate::desired;
use quorate::render::diagnostic;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pure/invalid")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory())
        .expect("the directory is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

#[test]
fn errors_are_exact() {
    let update = std::env::var_os("QUORATE_UPDATE").is_some();
    let mut wrong = Vec::new();
    let inputs = files("toml");
    assert!(inputs.len() >= 40, "{} invalid files", inputs.len());
    for input in inputs {
        let text = fs::read_to_string(&input).expect("read");
        let name = input
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let Err(found) = desired::parse(
            &text,
            &name,
            Path::new("/cluster"),
            Some(Path::new("/home/ops")),
        ) else {
            wrong.push(format!("{name} is valid"));
            continue;
        };
        assert!(
            found.iter().any(|d| d.severity == desired::Severity::Error),
            "{name}"
        );
        let rendered = diagnostic::render(&found, false);
        let leaked = ["hunter2", "HUNTER2"]
            .iter()
            .any(|secret| rendered.contains(secret));
        assert!(!leaked, "{name} shows a secret:\n{rendered}");
        let json = serde_json::to_string(&found)
            .expect("plain data")
            .to_lowercase();
        assert!(!json.contains("hunter2"), "{name} has a secret in its JSON");
        let expected = input.with_extension("stderr");
        if update {
            fs::write(&expected, &rendered).expect("written");
        } else if fs::read_to_string(&expected).unwrap_or_default() != rendered {
            wrong.push(format!("{name}:\n{rendered}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn no_expectation_is_left_over() {
    for expected in files("stderr") {
        assert!(
            expected.with_extension("toml").exists(),
            "{}",
            expected.display()
        );
    }
}
