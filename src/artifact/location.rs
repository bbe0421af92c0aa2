//! Where an archive or its sums are: a URL or a path, placeholders filled in.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::ArtifactError;

/// A location without placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// `http://` or `https://`.
    Url(String),
    /// A file of the operator's side.
    Path(PathBuf),
}

impl Location {
    /// Fills in `{version}` and `{arch}` and tells URLs from paths.
    pub(super) fn resolve(
        template: &str,
        version: &semver::Version,
        arch: &str,
        base_dir: &Path,
    ) -> Result<Self, ArtifactError> {
        let text = template
            .replace("{version}", &version.to_string())
            .replace("{arch}", arch);
        let refuse = |why| {
            Err(ArtifactError::Location {
                location: without_query(&text).to_owned(),
                why,
            })
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.is_empty() || text.contains('\0') {
                return refuse("expected a URL or a path");
            }
            let Some(below) = text.strip_prefix("~/") else {
                return Ok(Self::Path(base_dir.join(&text)));
            };
            return match std::env::home_dir() {
                Some(home) => Ok(Self::Path(home.join(below))),
                None => {
                    refuse("the home directory is not known: set HOME, or write the path in full")
                }
            };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Ok(Self::Url(text)),
            "file" => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return refuse(
                        "a file URL needs an absolute path, as in file:///srv/etcd.tar.gz",
                    );
                }
                Ok(Self::Path(PathBuf::from(percent_decode(path))))
            }
            _ => refuse("expected an http, https or file URL, or a path"),
        }
    }

    /// The last part of the path, which is what sums are listed by.
    pub(super) fn file_name(&self) -> String {
        let name = match self {
            Self::Url(url) => percent_decode(path_of(url)),
            Self::Path(path) => path.to_string_lossy().into_owned(),
        };
        name.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// For people and logs: a URL's query may hold a signature, so it is left out.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(without_query(url)),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

fn without_query(text: &str) -> &str {
    if text.contains("://") {
        path_of(text)
    } else {
        text
    }
}

fn path_of(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// `%2B` becomes `+`; what is no escape stays as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, after @ ..] => {
                let mut byte = [0];
                hex::decode_to_slice([*high, *low], &mut byte)
                    .ok()
                    .map(|()| (byte[0], after))
            }
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(template: &str) -> Result<Location, String> {
        let version = semver::Version::new(3, 5, 16);
        Location::resolve(template, &version, "arm64", Path::new("/base"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn placeholders_are_filled_in() {
        let url = resolve("https://h/v{version}/etcd-v{version}-linux-{arch}.tar.gz?sig=secret")
            .expect("a location");
        assert_eq!(url.file_name(), "etcd-v3.5.16-linux-arm64.tar.gz");
        assert_eq!(
            url.to_string(),
            "https://h/v3.5.16/etcd-v3.5.16-linux-arm64.tar.gz"
        );
        assert_eq!(
            resolve("https://h/a%2Bb%zz")
                .expect("a location")
                .file_name(),
            "a+b%zz"
        );
    }

    #[test]
    fn paths_start_at_the_cluster_file() {
        for (template, path) in [
            ("etcd-{arch}.tgz", "/base/etcd-arm64.tgz"),
            ("/srv/{version}.tgz", "/srv/3.5.16.tgz"),
            ("file:///srv/a%20b", "/srv/a b"),
            ("file://localhost/srv/x", "/srv/x"),
        ] {
            assert_eq!(
                resolve(template),
                Ok(Location::Path(path.into())),
                "{template}"
            );
        }
        let home = std::env::home_dir().expect("a home directory");
        assert_eq!(resolve("~/x"), Ok(Location::Path(home.join("x"))));
    }

    #[test]
    fn other_schemes_are_refused() {
        for bad in ["ftp://h/x", "file://h/x", "", "s3://bucket/x?key=secret"] {
            let error = resolve(bad).expect_err("no location");
            assert!(
                error.starts_with("cannot use") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
