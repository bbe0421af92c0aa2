//! `quorate fmt`: the canonical form of a cluster file, comments and order kept.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use taplo::formatter::{self, Options};

use crate::desired::{self, Diagnostic};
use crate::render::diagnostic;

/// Name of standard input in messages.
const STDIN: &str = "<stdin>";

/// The canonical form of `text`.
///
/// # Errors
/// All syntax errors. Unknown keys and the like are no hindrance.
pub fn format(text: &str, path: &str) -> Result<String, Vec<Diagnostic>> {
    let before = desired::syntax(text, path)?;
    let options = Options {
        align_entries: true,
        align_comments: true,
        align_single_comments: false,
        array_auto_expand: true,
        array_auto_collapse: false,
        inline_table_expand: false,
        column_width: 110,
        allowed_blank_lines: 1,
        ..Options::default()
    };
    // What aligns with what can change once lines have moved.
    let mut formatted = text.to_owned();
    for _ in 0..4 {
        let next = formatter::format(&formatted, options.clone());
        if next == formatted {
            break;
        }
        formatted = next;
    }
    // The formatter is not ours: its result is used only if it still says the same.
    match desired::syntax(&formatted, path) {
        Ok(after) if after == before => Ok(formatted),
        _ => Err(vec![Diagnostic::whole_file(
            "cannot format",
            path,
            "the formatter would change its meaning; please report this file",
        )]),
    }
}

/// Formats files in place, or with `check` only names those that are not in canonical form (on `out`).
/// `-` is standard input, whose canonical form goes to `out`. Returns the exit code: 0, or 1 for a file that
/// cannot be read or, with `check`, is not in canonical form.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn run(
    paths: &[PathBuf],
    check: bool,
    colour: bool,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let mut code = 0;
    for path in paths {
        let is_stdin = path.as_os_str() == "-";
        let shown = if is_stdin {
            STDIN.to_owned()
        } else {
            path.display().to_string()
        };
        let text = if is_stdin {
            let mut text = String::new();
            input.read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(path)
        };
        let result = text
            .map_err(|e| {
                vec![Diagnostic::whole_file(
                    "cannot read file",
                    &shown,
                    e.to_string(),
                )]
            })
            .and_then(|text| Ok((format(&text, &shown)?, text)));
        let (formatted, text) = match result {
            Ok(pair) => pair,
            Err(found) => {
                err.write_all(diagnostic::render(&found, colour).as_bytes())?;
                code = 1;
                continue;
            }
        };
        if check {
            if formatted != text {
                writeln!(out, "{shown}")?;
                code = 1;
            }
        } else if is_stdin {
            out.write_all(formatted.as_bytes())?;
        } else if formatted != text {
            match replace(path, &formatted) {
                Ok(()) => writeln!(out, "{shown}")?,
                Err(e) => {
                    let found = Diagnostic::whole_file("cannot write file", &shown, e.to_string());
                    err.write_all(diagnostic::render(&[found], colour).as_bytes())?;
                    code = 1;
                }
            }
        }
    }
    Ok(code)
}

/// Replaces the content at once; a symbolic link stays one, and so do the permissions.
fn replace(path: &Path, content: &str) -> std::io::Result<()> {
    let real = std::fs::canonicalize(path)?;
    let dir = real.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".quorate-fmt-")
        .tempfile_in(dir)?;
    file.write_all(content.as_bytes())?;
    file.as_file()
        .set_permissions(std::fs::metadata(&real)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(&real).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_on(path: &Path, check: bool, input: &str) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(
            &[path.to_path_buf()],
            check,
            false,
            &mut input.as_bytes(),
            &mut out,
            &mut err,
        )
        .expect("vectors take everything");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (code, text(out), text(err))
    }

    #[test]
    fn keeps_comments_and_order_and_stays() {
        let text = "# top\n\n\n\nschema=1\n[cluster]\nname='a' # why\ntoken  =   \"b\"\n[etcd]\nx=[ 1,2 ]\n";
        let once = format(text, "f").expect("formats");
        assert_eq!(
            once,
            "# top\n\nschema = 1\n[cluster]\nname  = 'a' # why\ntoken = \"b\"\n[etcd]\nx = [1, 2]\n"
        );
        assert_eq!(format(&once, "f").as_deref(), Ok(once.as_str()));
    }

    #[test]
    fn check_names_the_file_and_leaves_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("cluster.toml");
        std::fs::write(&file, "a=1\n").expect("written");
        let (code, out, _) = run_on(&file, true, "");
        assert_eq!((code, out.trim()), (1, file.display().to_string().as_str()));
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "a=1\n");
        assert_eq!(run_on(&file, false, "").0, 0);
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "a = 1\n");
        assert_eq!(run_on(&file, true, ""), (0, String::new(), String::new()));
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("real.toml"), dir.path().join("link.toml"));
        std::fs::write(&file, "a=1\n").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        assert_eq!(run_on(&link, false, "").0, 0);
        assert!(
            std::fs::symlink_metadata(&link)
                .expect("there")
                .is_symlink()
        );
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "a = 1\n");
    }

    #[test]
    fn standard_input_goes_to_standard_output() {
        assert_eq!(
            run_on(Path::new("-"), false, "a=1"),
            (0, "a = 1\n".to_owned(), String::new())
        );
        assert_eq!(
            run_on(Path::new("-"), true, "a=1"),
            (1, format!("{STDIN}\n"), String::new())
        );
        let (code, out, err) = run_on(Path::new("-"), false, "a=");
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("invalid TOML"), "{err}");
        let (code, _, err) = run_on(Path::new("/nonexistent/x.toml"), false, "");
        assert!(code == 1 && err.contains("cannot read file"), "{err}");
    }
}
