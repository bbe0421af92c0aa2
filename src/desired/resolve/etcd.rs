//! `[etcd]`: the version, and what nodes inherit.

use semver::{Version, VersionReq};

use super::{Paths, install, values};
use crate::desired::diagnostic::Sink;
use crate::desired::file::etcd::{self, Method, Scalar};
use crate::desired::model::{Advertise, Etcd, RuntimeKind, VersionSpec};
use crate::desired::read::{At, Choice};
use crate::etcd::version::{self, KNOWN_MINORS, Minor, Verdict};

/// `[etcd]`, resolved as far as it goes.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// Complete, if everything in it is right.
    pub(crate) model: Option<Etcd>,
    /// The version, if it is right.
    pub(crate) version: Option<VersionSpec>,
    pub(crate) advertise: Advertise,
    /// `None` where the file's own value is wrong.
    pub(crate) data_dir: Option<String>,
    pub(crate) client_port: Option<u16>,
    pub(crate) peer_port: Option<u16>,
    /// etcd's `max-learners`, from 3.6 on.
    pub(crate) max_learners: u64,
}

pub(crate) fn resolve(table: &etcd::Etcd, paths: &Paths<'_>, sink: &mut Sink) -> Resolved {
    let advertise = choose(table.advertise.as_ref(), Advertise::Ip, sink);
    let runtime = choose(table.runtime.as_ref(), RuntimeKind::Systemd, sink);
    let method = table.install.as_ref().and_then(|i| i.method.as_ref());
    // Method errors are reported where the table is resolved.
    let method = method.and_then(|m| m.resolve(&mut Sink::default()));
    let may_constrain = match (&table.install, runtime) {
        (Some(_), _) => method == Some(Method::Present),
        (None, runtime) => !table.install_broken && runtime != Some(RuntimeKind::Systemd),
    };
    let version = values::require(table.version.as_ref(), "version", &table.header, sink)
        .and_then(|v| version_spec(v, may_constrain, sink));
    let install = install::resolve(table, runtime, paths, sink);
    let data_dir = match &table.data_dir {
        None => Some(default_data_dir(runtime).to_owned()),
        Some(dir) => values::host_dir(dir, "bad data directory", sink),
    };
    let client_port = table
        .client_port
        .as_ref()
        .map_or(Some(2379), |p| values::port(p, sink));
    let peer_port = table
        .peer_port
        .as_ref()
        .map_or(Some(2380), |p| values::port(p, sink));
    let model = (|| {
        Some(Etcd {
            version: version.clone()?,
            advertise: advertise?,
            runtime: runtime?,
            install: install?,
        })
    })();
    Resolved {
        model,
        version,
        advertise: advertise.unwrap_or(Advertise::Ip),
        data_dir,
        client_port,
        peer_port,
        max_learners: max_learners(table),
    }
}

/// Its type is checked with the other settings; etcd's default is 1.
fn max_learners(table: &etcd::Etcd) -> u64 {
    let entries = table.settings.iter().flat_map(|s| &s.entries);
    entries
        .filter(|(key, _)| key.value == "max-learners")
        .find_map(|(_, value)| match &value.value {
            Scalar::Int(n) | Scalar::Text(n) => n.parse().ok(),
            _ => None,
        })
        .unwrap_or(1)
}

/// Where each runtime's packages keep their data.
pub(crate) fn default_data_dir(runtime: Option<RuntimeKind>) -> &'static str {
    match runtime {
        Some(RuntimeKind::SensuBackend) => "/var/lib/sensu/sensu-backend/etcd/data",
        _ => "/var/lib/etcd",
    }
}

/// The choice of the file, or the default where it makes none.
pub(crate) fn choose<E: serde::de::DeserializeOwned>(
    choice: Option<&Choice<E>>,
    default: E,
    sink: &mut Sink,
) -> Option<E> {
    match choice {
        None => Some(default),
        Some(choice) => choice.resolve(sink),
    }
}

fn version_spec(at: &At<String>, may_constrain: bool, sink: &mut Sink) -> Option<VersionSpec> {
    let text = at.value.trim();
    let text_without_v = text.strip_prefix('v').unwrap_or(text);
    if let Ok(exact) = Version::parse(text_without_v) {
        return exact_version(exact, at, sink).map(VersionSpec::Exact);
    }
    // `3.5` would be `^3.5` to semver, which includes 3.6: not what an operator of etcd means by it.
    let is_minor = text_without_v.split('.').count() == 2
        && text_without_v
            .split('.')
            .all(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_digit()));
    let constraint = if is_minor {
        format!("~{text_without_v}")
    } else {
        text.to_owned()
    };
    let Ok(constraint) = VersionReq::parse(&constraint) else {
        sink.error("bad version", &at.span)
            .label("expected a version of etcd, such as \"3.5.33\"");
        return None;
    };
    if !may_constrain {
        sink.error("version not exact", &at.span)
            .label("a constraint is for binaries that are there already")
            .detail("what is installed must be one and the same version on every member")
            .help("write all three parts, such as \"3.5.33\"");
        return None;
    }
    if version::minors_matching(&constraint).is_empty() {
        sink.error("unknown version", &at.span)
            .label("no known version of etcd satisfies it")
            .help(format!("known are {}", known_minors()));
        return None;
    }
    Some(VersionSpec::Constraint(constraint))
}

fn known_minors() -> String {
    KNOWN_MINORS
        .iter()
        .map(Minor::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn exact_version(exact: Version, at: &At<String>, sink: &mut Sink) -> Option<Version> {
    if !version::is_known(&exact) {
        let oldest = KNOWN_MINORS[0];
        let error = sink.error("unknown version", &at.span);
        if Minor::of(&exact) < oldest {
            error.label(format!(
                "older than {oldest}.0, the oldest that quorate manages"
            ));
        } else {
            error
                .label(format!("known are {}", known_minors()))
                .detail("what is safe to do differs from minor to minor, so an unknown one is not touched")
                .help("use a newer quorate");
        }
        return None;
    }
    if !exact.pre.is_empty() {
        sink.warning("pre-release", &at.span)
            .label("not meant for production");
    }
    let mut refused = false;
    for note in version::notes(&exact) {
        let found = match note.verdict {
            Verdict::Refuse => {
                refused = true;
                sink.error("bad version", &at.span)
            }
            Verdict::Warn => sink.warning("version not recommended", &at.span),
        };
        found.label(format!("etcd {exact} {}", note.reason));
        if note.instead > exact.patch {
            found.help(format!("use {}.{}", note.minor, note.instead));
        }
        if refused {
            break;
        }
    }
    // A refused version is still the one whose options are checked; the error is enough to stop.
    Some(exact)
}
