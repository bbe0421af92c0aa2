//! `[etcd.install]`.

use std::collections::BTreeMap;

use super::{Paths, values};
use crate::desired::diagnostic::Sink;
use crate::desired::file::etcd::{Etcd, Install as Table, Method, Sha256};
use crate::desired::model::{Checksum, Install, RuntimeKind};
use crate::desired::read::{At, Span};

pub(crate) fn resolve(
    etcd: &Etcd,
    runtime: Option<RuntimeKind>,
    paths: &Paths<'_>,
    sink: &mut Sink,
) -> Option<Install> {
    let Some(table) = &etcd.install else {
        if etcd.install_broken {
            return None;
        }
        return match runtime? {
            // Their etcd comes with the system or the backend.
            RuntimeKind::ContainerLinux => Some(Install::Present {
                bin_dir: "/usr/bin".to_owned(),
            }),
            RuntimeKind::SensuBackend => Some(Install::Present {
                bin_dir: "/usr/sbin".to_owned(),
            }),
            RuntimeKind::Systemd => {
                sink.error("missing table", &etcd.header)
                    .label("needs [etcd.install], which says where the binaries come from")
                    .help(
                        "if etcd is installed already, add\n[etcd.install]\nmethod = \"present\"",
                    );
                None
            }
        };
    };
    let method =
        values::require(table.method.as_ref(), "method", &table.header, sink)?.resolve(sink)?;
    foreign_keys(table, method, sink);
    match method {
        Method::Archive => archive(table, paths, sink),
        Method::Package => package(table, etcd.version.as_ref(), sink),
        Method::Present => {
            let bin_dir = match &table.bin_dir {
                None => Some("/usr/bin".to_owned()),
                Some(dir) => bin_dir(dir, sink),
            };
            Some(Install::Present { bin_dir: bin_dir? })
        }
    }
}

/// Keys of another method do nothing, which nobody means.
fn foreign_keys(table: &Table, method: Method, sink: &mut Sink) {
    let sha256 = table.sha256.as_ref().and_then(|s| match s {
        Sha256::One(at) => Some(at.span.clone()),
        Sha256::PerArch(list) => list.first().map(|(arch, _)| arch.span.clone()),
    });
    let text = |at: &Option<At<String>>| at.as_ref().map(|a| a.span.clone());
    let packages = table
        .packages
        .as_ref()
        .and_then(|p| p.first())
        .map(|p| p.span.clone());
    let keys: [(&str, Method, Option<Span>); 6] = [
        ("archive", Method::Archive, text(&table.archive)),
        ("sha256", Method::Archive, sha256),
        ("sums", Method::Archive, text(&table.sums)),
        ("packages", Method::Package, packages),
        (
            "package_version",
            Method::Package,
            text(&table.package_version),
        ),
        ("bin_dir", Method::Present, text(&table.bin_dir)),
    ];
    for (key, of, span) in keys {
        if let (Some(span), true) = (span, of != method) {
            let error = sink.error("key of another method", &span).label(format!(
                "`{key}` belongs to method \"{}\"",
                format!("{of:?}").to_lowercase()
            ));
            if let Some(at) = &table.method {
                error.also(at.span(), "the method is chosen here");
            }
        }
    }
}

fn archive(table: &Table, paths: &Paths<'_>, sink: &mut Sink) -> Option<Install> {
    let at = values::require(table.archive.as_ref(), "archive", &table.header, sink)?;
    let location = location(at, paths, sink);
    if table.sha256.is_some() && table.sums.is_some() {
        if let Some(sums) = &table.sums {
            sink.error("two checksums", &sums.span)
                .label("`sha256` is given already");
        }
        return None;
    }
    let checksum = match (&table.sha256, &table.sums) {
        (Some(sha256), _) => digests(sha256, sink),
        (None, Some(sums)) => self::location(sums, paths, sink).map(Checksum::Sums),
        (None, None) => location.as_deref().map(|l| Checksum::Sums(beside(l))),
    };
    let (location, checksum) = (location?, checksum?);
    if let Checksum::Sums(sums) = &checksum
        && sums.starts_with("http://")
    {
        sink.warning("checksum not authenticated", &at.span)
            .label("archive and sums come over plain HTTP, where both can be replaced")
            .help("give `sha256`, or use https");
    }
    Some(Install::Archive { location, checksum })
}

/// `SHA256SUMS` in the directory of the archive.
fn beside(location: &str) -> String {
    let path = location.split(['?', '#']).next().unwrap_or(location);
    match path.rsplit_once('/') {
        Some((dir, _)) => format!("{dir}/SHA256SUMS"),
        None => "SHA256SUMS".to_owned(),
    }
}

/// A URL, or a path on the operator's side, with known placeholders.
fn location(at: &At<String>, paths: &Paths<'_>, sink: &mut Sink) -> Option<String> {
    let text = &at.value;
    let mut rest = text.as_str();
    while let Some(open) = rest.find(['{', '}']) {
        let placeholder = rest[open..]
            .find('}')
            .map(|close| &rest[open..=open + close]);
        match placeholder {
            Some(known @ ("{version}" | "{arch}")) => rest = &rest[open + known.len()..],
            Some(other) => {
                let other = if other.len() > 1 { other } else { "}" };
                sink.error("unknown placeholder", &at.span)
                    .label(format!("`{other}`; known are {{version}} and {{arch}}"));
                return None;
            }
            None => {
                sink.error("unknown placeholder", &at.span)
                    .label("`{` without `}`");
                return None;
            }
        }
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let good = matches!(scheme, "https" | "http")
            && !rest.is_empty()
            && !rest.starts_with('/')
            && !text.contains(char::is_whitespace);
        if !good {
            sink.error("bad location", &at.span)
                .label("expected an https URL, or a path");
            return None;
        }
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.contains('@') {
            sink.error("secret in the open", &at.span)
                .label("a URL of the file holds no user or password");
            return None;
        }
        return Some(text.clone());
    }
    let path = values::local_path(at, paths, sink)?;
    match path.to_str() {
        Some(path) => Some(path.to_owned()),
        None => {
            sink.error("bad path", &at.span)
                .label("the cluster file's directory is not UTF-8");
            None
        }
    }
}

fn digests(sha256: &Sha256, sink: &mut Sink) -> Option<Checksum> {
    let mut digests = BTreeMap::new();
    let mut good = true;
    let mut add = |arch: &str, digest: &At<String>, sink: &mut Sink| {
        let hex = digest.value.to_ascii_lowercase();
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            digests.insert(arch.to_owned(), hex);
        } else {
            good = false;
            sink.error("bad checksum", &digest.span).label(format!(
                "expected 64 hex digits, found {} characters",
                digest.value.chars().count()
            ));
        }
    };
    match sha256 {
        Sha256::One(digest) => add("*", digest, sink),
        Sha256::PerArch(list) => {
            for (arch, digest) in list {
                if matches!(arch.value.as_str(), "amd64" | "arm64") {
                    add(&arch.value, digest, sink);
                } else {
                    sink.error("unknown architecture", &arch.span)
                        .label("expected `amd64` or `arm64`");
                }
            }
        }
    }
    good.then_some(Checksum::Sha256(digests))
}

/// Whether a package's version, without its epoch, is a package of this release.
fn is_package_of(version: &str, release: &str) -> bool {
    let without_epoch = version.split_once(':').map_or(version, |(_, rest)| rest);
    let rest = without_epoch.strip_prefix(release);
    rest.is_some_and(|rest| {
        let more = rest.strip_prefix('.').unwrap_or(rest);
        !more.starts_with(|c: char| c.is_ascii_digit())
    })
}

fn package(table: &Table, version: Option<&At<String>>, sink: &mut Sink) -> Option<Install> {
    let mut good = true;
    let mut word = |at: &At<String>, what: &'static str, extra: &str, sink: &mut Sink| {
        let fits = at.value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && at.value.len() <= 128
            && at
                .value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
        if !fits {
            good = false;
            sink.error(what, &at.span)
                .label("expected the package manager's own spelling");
        }
        at.value.clone()
    };
    let names = table
        .packages
        .iter()
        .flatten()
        .map(|p| word(p, "bad package name", "+-._", sink))
        .collect();
    let package_version = table
        .package_version
        .as_ref()
        .map(|v| word(v, "bad package version", "+-._:~^", sink));
    if let (Some(package), Some(version), true) = (&table.package_version, version, good)
        && version.value.parse::<semver::Version>().is_ok()
        && !is_package_of(&package.value, &version.value)
    {
        good = false;
        sink.error("a package of another version", &package.span)
            .label("has another upstream part than `version`")
            .also(&version.span, "the version is chosen here");
    }
    good.then_some(Install::Package {
        names,
        package_version,
    })
}

/// Binaries may be where data may not.
fn bin_dir(at: &At<String>, sink: &mut Sink) -> Option<String> {
    let text = at.value.trim_end_matches('/');
    let good = text.starts_with('/')
        && !text.split('/').any(|part| part == "." || part == "..")
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c));
    if !good {
        sink.error("bad directory", &at.span)
            .label("expected an absolute path, without `..`");
    }
    good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_and_rebuilds_are_packages_of_a_release() {
        for (version, fits) in [
            ("3.5.16", true),
            ("1:3.5.16-1.el9", true),
            ("3.5.16+dfsg-4~bpo1", true),
            ("3.5.16.dfsg-4", true),
            ("3.5.160-1", false),
            ("3.5.16.1-1", false),
            ("3.5.17-1", false),
            ("3:5.16", false),
        ] {
            assert_eq!(is_package_of(version, "3.5.16"), fits, "{version}");
        }
    }
}
