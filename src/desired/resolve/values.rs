//! Checks of single values.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Paths;
use crate::desired::diagnostic::Sink;
use crate::desired::file::secret::Secret;
use crate::desired::mask::is_env_name;
use crate::desired::model::SecretRef;
use crate::desired::read::{At, Span};

/// A key that must be there; the error underlines the header of its table.
pub(crate) fn require<'t, T>(
    value: Option<&'t T>,
    key: &str,
    header: &Span,
    sink: &mut Sink,
) -> Option<&'t T> {
    if value.is_none() {
        sink.error("missing key", header)
            .label(format!("needs `{key}`"));
    }
    value
}

/// Name of a cluster or node.
pub(crate) fn name(at: &At<String>, sink: &mut Sink) -> Option<String> {
    let text = &at.value;
    let first = text.chars().next();
    let good = first.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.len() <= 63
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-');
    if good {
        return Some(text.clone());
    }
    let error = sink.error("bad name", &at.span);
    if text.len() > 63 {
        error.label(format!("{} characters; at most 63", text.chars().count()));
    } else {
        error.label("expected lower-case letters, digits, `.` and `-`, a letter or digit first");
    }
    None
}

/// A host name of certificates and URLs.
pub(crate) fn host_name(at: &At<String>, what: &'static str, sink: &mut Sink) -> Option<String> {
    let good = is_host_name(&at.value);
    if !good {
        sink.error(what, &at.span)
            .label("expected a host name: letters, digits, `.` and `-`");
    }
    good.then(|| at.value.to_ascii_lowercase())
}

pub(crate) fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        })
}

/// An address, v4 or v6.
pub(crate) fn ip(at: &At<String>, sink: &mut Sink) -> Option<IpAddr> {
    let parsed = at.value.parse().ok();
    if parsed.is_none() {
        let error = sink
            .error("bad address", &at.span)
            .label("expected an IPv4 or IPv6 address");
        if at.value.contains('/') {
            error.help("write the address without a prefix length");
        } else if at.value.starts_with('[') {
            error.help("write the address without brackets");
        }
    }
    parsed
}

/// A port.
pub(crate) fn port(at: &At<i64>, sink: &mut Sink) -> Option<u16> {
    let port = u16::try_from(at.value).ok().filter(|p| *p != 0);
    if port.is_none() {
        sink.error("bad port", &at.span)
            .label("expected 1 to 65535");
    }
    port
}

/// A span of time such as `10y`, `30d`, `43800h` or `10s`; never zero, at most a hundred years.
pub(crate) fn duration(at: &At<String>, sink: &mut Sink) -> Option<Duration> {
    const CENTURY: Duration = Duration::from_secs(100 * 366 * 86_400);
    let parsed = humantime::parse_duration(&at.value).ok();
    match parsed {
        Some(d) if !d.is_zero() && d <= CENTURY => Some(d),
        Some(d) => {
            sink.error("bad duration", &at.span).label(if d.is_zero() {
                "expected more than nothing"
            } else {
                "expected at most 100 years"
            });
            None
        }
        None => {
            sink.error("bad duration", &at.span).label(
                "expected a number with a unit, such as \"10y\", \"90d\", \"12h\" or \"10s\"",
            );
            None
        }
    }
}

/// A path on the operator's side, `~/` expanded and made to start at the cluster file.
pub(crate) fn local_path(at: &At<String>, paths: &Paths<'_>, sink: &mut Sink) -> Option<PathBuf> {
    let text = at.value.as_str();
    if text.is_empty() || text.contains('\0') {
        sink.error("bad path", &at.span).label("expected a path");
        return None;
    }
    if let Some(rest) = text.strip_prefix("~/").or((text == "~").then_some("")) {
        let home = paths.home.map(|home| home.join(rest));
        if home.is_none() {
            sink.error("bad path", &at.span)
                .label("`~` cannot be expanded: the home directory is not known")
                .help("set HOME, or write the path in full");
        }
        return home;
    }
    if text.starts_with('~') {
        sink.error("bad path", &at.span)
            .label("home directories of others are not looked up")
            .help("write the path in full, or with `~/` for your own");
        return None;
    }
    Some(paths.base_dir.join(Path::new(text)))
}

/// Directories of the system that a member's data must not be, nor be in.
const SYSTEM_TREES: [&str; 13] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys",
    "/usr", "/var/run",
];
/// Directories that hold others' directories: not usable themselves.
const SHARED_DIRS: [&str; 16] = [
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/srv",
    "/tmp",
    "/var",
    "/var/backups",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/opt",
    "/var/spool",
    "/var/tmp",
    "/data",
];
/// Emptied by the system.
const VOLATILE_TREES: [&str; 2] = ["/tmp", "/var/tmp"];

/// A directory on the hosts, without a slash at the end.
pub(crate) fn host_dir(at: &At<String>, what: &'static str, sink: &mut Sink) -> Option<String> {
    let text = at.value.trim_end_matches('/');
    let problem = if at.value.is_empty() || !at.value.starts_with('/') {
        Some("expected an absolute path")
    } else if text.is_empty() {
        Some("this is the root directory")
    } else if text.split('/').any(|part| part == ".." || part == ".") {
        Some("`.` and `..` are not allowed in it")
    } else if text.contains("//") {
        Some("has an empty part (`//`)")
    } else if text.len() > 200 {
        Some("is longer than 200 characters")
    } else if !text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-+@=:,".contains(c))
    {
        // It goes into systemd units, environment files and scripts, each with an own idea of quoting.
        Some("expected letters, digits and ./_-+@=:, only")
    } else if SYSTEM_TREES.iter().any(|tree| is_or_in(text, tree)) {
        Some("belongs to the operating system")
    } else if VOLATILE_TREES.iter().any(|tree| is_or_in(text, tree)) {
        Some("is emptied by the operating system")
    } else if SHARED_DIRS.contains(&text) {
        Some("is shared with others: use a directory in it")
    } else {
        None
    };
    match problem {
        None => Some(text.to_owned()),
        Some(problem) => {
            sink.error(what, &at.span).label(problem);
            None
        }
    }
}

/// Whether `path` is `dir` or inside it; both absolute and without a slash at the end.
pub(crate) fn is_or_in(path: &str, dir: &str) -> bool {
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A secret reference.
pub(crate) fn secret(table: &Secret, paths: &Paths<'_>, sink: &mut Sink) -> Option<SecretRef> {
    let given = [
        table.env.is_some(),
        table.file.is_some(),
        table.command.is_some(),
        table.prompt.is_some(),
    ];
    match given.iter().filter(|g| **g).count() {
        1 => {}
        0 => {
            sink.error("bad secret reference", &table.key)
                .label("expected one of `env`, `file`, `command`, `prompt`");
            return None;
        }
        _ => {
            sink.error("bad secret reference", &table.key)
                .label("expected only one of `env`, `file`, `command`, `prompt`");
            return None;
        }
    }
    if let Some(env) = &table.env {
        let good = is_env_name(&env.value);
        if !good {
            // Whoever writes something else here may have written the secret: only the key is shown.
            sink.error("bad secret reference", &table.key)
                .label("`env` expects the name of an environment variable");
        }
        return good.then(|| SecretRef::Env(env.value.clone()));
    }
    if let Some(file) = &table.file {
        return local_path(file, paths, sink).map(SecretRef::File);
    }
    if let Some(command) = &table.command {
        let good = !command.value.trim().is_empty() && !command.value.contains('\0');
        if !good {
            sink.error("bad secret reference", &command.span)
                .label("expected a command");
        }
        return good.then(|| SecretRef::Command(command.value.clone()));
    }
    match &table.prompt {
        Some(prompt) if prompt.value => Some(SecretRef::Prompt),
        Some(prompt) => {
            sink.error("bad secret reference", &prompt.span)
                .label("expected `true`");
            None
        }
        None => None,
    }
}
