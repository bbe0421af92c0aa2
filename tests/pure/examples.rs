//! The examples are valid, without warnings unless they say so, and in canonical form.

use std::fs;
use std::path::Path;

use quorate::command::fmt;
use quorate::desired;
use quorate::render::diagnostic;

use crate::schema::example_files;

#[test]
fn every_example_is_valid() {
    let files = example_files();
    assert!(files.len() >= 5, "{} examples", files.len());
    for file in files {
        let name = file.display().to_string();
        let text = fs::read_to_string(&file).expect("read");
        let parsed = desired::parse(
            &text,
            &name,
            Path::new("/cluster"),
            Some(Path::new("/home/ops")),
        );
        let (_, warnings) =
            parsed.unwrap_or_else(|found| panic!("{}", diagnostic::render(&found, false)));
        let mut said: Vec<&str> = text
            .lines()
            .filter_map(|l| l.strip_prefix("# warning: "))
            .collect();
        let mut given: Vec<&str> = warnings.iter().map(|d| d.summary).collect();
        said.sort_unstable();
        given.sort_unstable();
        assert_eq!(said, given, "{name}");
    }
}

#[test]
fn every_example_is_in_canonical_form() {
    for file in example_files() {
        let text = fs::read_to_string(&file).expect("read");
        let formatted = fmt::format(&text, "f").expect("formats");
        if std::env::var_os("QUORATE_UPDATE").is_some() {
            fs::write(&file, &formatted).expect("written");
        }
        assert!(
            fs::read_to_string(&file).expect("read") == formatted,
            "{} is not formatted: QUORATE_UPDATE=1 cargo test --test pure examples",
            file.display()
        );
    }
}
