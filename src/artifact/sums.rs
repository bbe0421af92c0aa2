//! `SHA256SUMS` as sha256sum writes it.

use super::error::ArtifactError;

/// A `SHA256SUMS` of all releases together would still be smaller, in bytes.
pub(super) const LARGEST: u64 = 1 << 20;

/// One line of a `SHA256SUMS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Hex digest, in lower case.
    pub sha256: String,
    /// The file, with whatever directories were in front of it.
    pub path: &'a str,
}

/// The lines that are checksums: `<hex>  name` or `<hex> *name`; others are passed over.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(|line| {
        let (digest, path) = line.trim().split_once([' ', '\t'])?;
        let path = path.trim_start();
        let path = path.strip_prefix('*').unwrap_or(path);
        let good = digest.len() == 64
            && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !path.is_empty();
        good.then(|| Line {
            sha256: digest.to_ascii_lowercase(),
            path,
        })
    })
}

/// The digest of a file: of the line that has just its name, else of the one that has it in a directory.
pub(super) fn look_up(text: &str, file: &str, sums: &str) -> Result<String, ArtifactError> {
    let plain = |line: &Line<'_>| line.path.strip_prefix("./").unwrap_or(line.path) == file;
    let below = |line: &Line<'_>| line.path.rsplit('/').next() == Some(file);
    let mut found: Vec<Line<'_>> = lines(text).filter(plain).collect();
    if found.is_empty() {
        found = lines(text).filter(below).collect();
    }
    found.dedup_by(|a, b| a.sha256 == b.sha256);
    match found.as_slice() {
        [only] => Ok(only.sha256.clone()),
        [] => Err(ArtifactError::NoEntry {
            sums: sums.to_owned(),
            file: file.to_owned(),
            hint: match lines(text).next() {
                Some(_) => "",
                None => ", nor of anything else",
            },
        }),
        _ => Err(ArtifactError::TwoEntries {
            sums: sums.to_owned(),
            file: file.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn find(text: &str) -> Result<String, String> {
        look_up(text, "etcd.tar.gz", "SUMS").map_err(|error| error.to_string())
    }

    #[test]
    fn the_usual_forms() {
        let a = Ok(A.to_ascii_lowercase());
        for text in [
            format!("{A}  etcd.tar.gz\n"),
            format!("{A} *etcd.tar.gz"),
            format!("{A}  ./etcd.tar.gz\r\n{B}  other\r\n"),
            format!("# sums\n\n{A}\trelease/v3/etcd.tar.gz\n"),
            format!("{B}  old/etcd.tar.gz\n{A}  etcd.tar.gz\n"),
            format!("{A}  x/etcd.tar.gz\n{A}  y/etcd.tar.gz\n"),
        ] {
            assert_eq!(find(&text), a, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = find(&format!("{B}  not-etcd.tar.gz\n")).expect_err("nothing there");
        assert!(
            error.starts_with("SUMS has no checksum of `etcd.tar.gz`: check"),
            "{error}"
        );
        let error = find("<html>404</html>").expect_err("nothing there");
        assert!(error.contains("nor of anything else"), "{error}");
        let error = find(&format!("{A}  x/etcd.tar.gz\n{B}  y/etcd.tar.gz\n"));
        assert!(error.expect_err("two").contains("has two checksums"));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), file in any::<String>()) {
            let _ = look_up(&text, &file, "SUMS");
        }

        #[test]
        fn finds_its_own_lines(
            names in prop::collection::btree_set("[a-z0-9.+-]{1,12}", 1..6),
            pick in any::<prop::sample::Index>(),
            seed in any::<[u8; 8]>(),
            ending in prop::sample::select(vec!["\n", "\r\n"]),
            mark in prop::sample::select(vec!["  ", " *"]),
            noise in "[^\n]{0,40}",
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let digest = |name: &str| super::super::digest::of(&[name.as_bytes(), &seed].concat());
            let mut text = format!("#{noise}{ending}");
            for name in &names {
                text += &format!("{}{mark}{name}{ending}", digest(name));
            }
            let name = pick.get(&names);
            prop_assert_eq!(look_up(&text, name, "SUMS").ok(), Some(digest(name)));
        }
    }
}
