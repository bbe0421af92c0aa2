//! The parser takes any text without a panic, and what it accepts keeps its promises.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use quorate::command::fmt;
use quorate::desired::{self, Severity};
use quorate::render::diagnostic;

use crate::schema::example_files;

/// Parses, renders both ways and formats; whatever the text is, nothing panics and every place is in the text.
fn survives(text: &str) {
    let home = Some(Path::new("/home/ops"));
    let result = desired::parse(text, "f.toml", Path::new("/cluster"), home);
    let found = match &result {
        Ok((desired, warnings)) => {
            assert!(warnings.iter().all(|d| d.severity == Severity::Warning));
            assert!(desired.nodes.windows(2).all(|pair| pair[0].name < pair[1].name));
            assert!(desired.nodes.iter().all(|n| n.client_port != n.peer_port && n.data_dir.starts_with('/')));
            warnings
        }
        Err(found) => {
            assert!(found.iter().any(|d| d.severity == Severity::Error));
            found
        }
    };
    for d in found {
        assert!(d.span.start <= d.span.end && d.span.end <= d.source().len(), "{d:?}");
        assert!(d.location() <= d.end_location());
    }
    assert_eq!(diagnostic::render(found, false).is_empty(), found.is_empty());
    diagnostic::render(found, true);
    if let Ok(once) = fmt::format(text, "f.toml") {
        assert_eq!(fmt::format(&once, "f.toml").as_deref(), Ok(once.as_str()), "fmt is not idempotent");
    }
}

fn sources() -> Vec<String> {
    let mut files = example_files();
    let invalid = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pure/invalid");
    files.extend(
        fs::read_dir(invalid)
            .expect("invalid files")
            .map(|e| e.expect("an entry").path())
            .filter(|p| p.extension().is_some_and(|e| e == "toml")),
    );
    files.sort();
    files.iter().map(|f| fs::read_to_string(f).expect("read")).collect()
}

#[test]
fn invalid_files_are_survived_by_everything() {
    sources().iter().for_each(|text| survives(text));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        survives(&text);
    }

    #[test]
    fn any_lines(lines in proptest::collection::vec(
        prop_oneof![
            "\\[{1,2}(cluster|etcd|etcd\\.settings|etcd\\.install|node|ssh|tls|tls\\.ca|auth|auth\\.user)\\]{1,2}",
            "(schema|name|ip|version|method|settings|ssh|password|client|ca|listen|roles|enabled|sha256) ?= ?(1|-9|true|\"[a-z0-9./{}~@:]{0,12}\"|\\[\"?[a-z0-9.]{0,5}\"?\\]|\\{[a-z]{1,4} = \"x\"\\}|1979-05-27|0x7f|1e3)",
            "#.{0,20}",
        ], 0..30)) {
        survives(&lines.join("\n"));
    }

    #[test]
    fn mutated_files(which in any::<prop::sample::Index>(), cuts in proptest::collection::vec(
        (any::<prop::sample::Index>(), 0_usize..40, prop_oneof![
            Just(String::new()), "[\\[\\]{}=\",.#\n 0-9a-zé-]{0,6}", Just("\"\"\"".to_owned()),
        ]), 1..5)) {
        let sources = sources();
        let mut text = sources[which.index(sources.len())].clone();
        for (at, length, insert) in cuts {
            if text.is_empty() {
                break;
            }
            let mut start = at.index(text.len());
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            let mut end = (start + length).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(start..end, &insert);
        }
        survives(&text);
    }

    #[test]
    fn no_secret_in_an_error(secret in "[a-zA-Z0-9]{12}", key in "(passphrase|sudo_password|password|Password|pass)", form in 0_usize..6, broken in any::<bool>()) {
        let value = match form {
            0 => format!("\"{secret}\""),
            1 => format!("'{secret}'"),
            2 => format!("[\"{secret}\"]"),
            3 => format!("{{ value = \"{secret}\" }}"),
            4 => format!("{{ prompt = \"{secret}\" }}"),
            _ => format!("\"\"\"\n{secret}\"\"\""),
        };
        let syntax = if broken { "x =\n" } else { "" };
        let text = format!("schema = 1\n{syntax}[ssh]\nuser = 1\n{key} = {value}\n");
        if let Err(found) = desired::parse(&text, "f.toml", Path::new("/cluster"), None) {
            let shown = diagnostic::render(&found, false);
            prop_assert!(!shown.contains(&secret), "{}", shown);
            let json = serde_json::to_string(&found).expect("plain data");
            prop_assert!(!json.contains(&secret), "{}", json);
        }
    }
}

#[test]
fn a_thousand_nodes_are_read_quickly() {
    let mut text = String::from(
        "schema = 1\n[cluster]\nname = \"big\"\n[etcd]\nversion = \"3.5.33\"\n[etcd.install]\nmethod = \"present\"\n\
         [etcd.settings]\nquota-backend-bytes = \"4GiB\"\npre-vote = true\n[ssh]\nuser = \"ops\"\n",
    );
    for i in 0..1000 {
        text += &format!("[[node]]\nname = \"n-{i:04}\"\nip = \"10.0.{}.{}\"\n", i / 250, i % 250 + 1);
    }
    let start = std::time::Instant::now();
    let (desired, _) = desired::parse(&text, "f.toml", Path::new("/"), None).expect("valid");
    assert_eq!(desired.nodes.len(), 1000);
    // Generous, for a busy machine: what is quadratic here takes far longer.
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
