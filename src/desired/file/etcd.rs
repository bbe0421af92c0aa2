//! `[etcd]`, `[etcd.settings]` and `[etcd.install]`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use toml::de::DeValue;

use crate::desired::diagnostic::Sink;
use crate::desired::model::{Advertise, RuntimeKind};
use crate::desired::read::{At, Choice, Section, Span, Taken, with_article};

/// Version, runtime, directories, options and installation of etcd.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// The version to run, such as `3.5.33`; with `method = "present"` it may be a constraint, such as `~3.5`.
    #[schemars(required)]
    pub version: Option<At<String>>,
    /// What advertised URLs are made of.
    #[schemars(extend("default" = "ip"))]
    pub advertise: Option<Choice<Advertise>>,
    /// How a member is run.
    #[schemars(extend("default" = "systemd"))]
    pub runtime: Option<Choice<RuntimeKind>>,
    /// Data directory, an absolute path.
    #[schemars(extend("default" = "/var/lib/etcd"))]
    pub data_dir: Option<At<String>>,
    /// Separate WAL directory, an absolute path. Default: none, the WAL is in the data directory.
    pub wal_dir: Option<At<String>>,
    /// Client port.
    #[schemars(range(min = 1, max = 65535), extend("default" = 2379))]
    pub client_port: Option<At<i64>>,
    /// Peer port.
    #[schemars(range(min = 1, max = 65535), extend("default" = 2380))]
    pub peer_port: Option<At<i64>>,
    /// Every other etcd option, by flag name without dashes in front.
    pub settings: Option<Settings>,
    /// Where the binaries come from.
    pub install: Option<Install>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) install_broken: bool,
}

/// How etcd gets onto the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A release archive, fetched once on the operator's side and uploaded.
    Archive,
    /// The distribution's package, by apt, dnf or yum.
    Package,
    /// The binaries are there already.
    Present,
}

/// Where the binaries come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// How etcd gets onto the hosts.
    #[schemars(required)]
    pub method: Option<Choice<Method>>,
    /// With `archive`: URL or path of the release archive, with `{version}` and `{arch}` (amd64, arm64)
    /// in the places of these.
    pub archive: Option<At<String>>,
    /// With `archive`: its SHA-256, one for all or a table by architecture. Default: looked up in `sums`.
    pub sha256: Option<Sha256>,
    /// With `archive`: URL or path of a file of SHA-256 sums. Default: `SHA256SUMS` beside the archive.
    pub sums: Option<At<String>>,
    /// With `package`: names of the packages. Default: those of the distribution.
    pub packages: Option<Vec<At<String>>>,
    /// With `package`: the exact version in the package manager's spelling, such as `3.4.23+dfsg-4`.
    /// Default: the one whose upstream part is `version`.
    pub package_version: Option<At<String>>,
    /// With `present`: directory that holds `etcd`.
    #[schemars(extend("default" = "/usr/bin"))]
    pub bin_dir: Option<At<String>>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
}

/// A digest for every architecture, or one for each.
#[derive(Debug)]
pub enum Sha256 {
    /// One for all.
    One(At<String>),
    /// By architecture.
    PerArch(Vec<(At<String>, At<String>)>),
}

impl<'de> Deserialize<'de> for Sha256 {
    /// Never gives a value: the reader takes the key out of its table before.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok(Sha256::PerArch(Vec::new()))
    }
}

impl JsonSchema for Sha256 {
    fn schema_name() -> Cow<'static, str> {
        "Sha256".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let digest = json_schema!({"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"});
        json_schema!({
            "anyOf": [
                digest,
                {
                    "type": "object",
                    "properties": {
                        "amd64": {"description": "SHA-256 of the archive for x86-64.", "type": "string", "pattern": "^[0-9A-Fa-f]{64}$"},
                        "arm64": {"description": "SHA-256 of the archive for 64-bit ARM.", "type": "string", "pattern": "^[0-9A-Fa-f]{64}$"},
                    },
                    "additionalProperties": false,
                    "minProperties": 1,
                },
            ],
        })
    }
}

/// etcd options by flag name.
#[derive(Debug, Default)]
pub struct Settings {
    /// In the order of the file's table.
    pub entries: Vec<(At<String>, At<Scalar>)>,
}

/// A value of an option as the file spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(String),
    /// A number with a fraction.
    Float(String),
    /// A string.
    Text(String),
    /// A list of strings, for options that take comma-separated values.
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Settings {
    /// Never gives a value: the reader takes the key out of its table before.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok(Settings::default())
    }
}

impl JsonSchema for Settings {
    fn schema_name() -> Cow<'static, str> {
        "Settings".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        crate::desired::schema::settings()
    }
}

/// Takes `settings` out of a table.
pub(crate) fn take_settings(table: &mut Section<'_>, sink: &mut Sink) -> Option<Settings> {
    let section = table.take_table("settings", sink).ok()?;
    let mut entries = Vec::new();
    for (key, value) in section.entries() {
        let span = value.span();
        let scalar = match value.into_inner() {
            DeValue::String(s) => Some(Scalar::Text(s.into_owned())),
            DeValue::Boolean(b) => Some(Scalar::Bool(b)),
            DeValue::Integer(i) if i.radix() == 10 => Some(Scalar::Int(i.as_str().to_owned())),
            DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix())
                .ok()
                .map(|v| Scalar::Int(v.to_string())),
            DeValue::Float(f) => Some(Scalar::Float(f.as_str().to_owned())),
            DeValue::Array(items) => items
                .into_iter()
                .map(|item| item.into_inner().as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map(Scalar::List),
            DeValue::Datetime(_) | DeValue::Table(_) => None,
        };
        match scalar {
            Some(value) => entries.push((key, At { value, span })),
            None => {
                let span = if span.is_empty() { key.span } else { span };
                sink.error("wrong type", &span)
                    .label("expected a string, a number, a boolean or an array of strings");
            }
        }
    }
    Some(Settings { entries })
}

fn take_sha256(table: &mut Section<'_>, sink: &mut Sink) -> Taken<Sha256> {
    let Some((_, value)) = table.take("sha256") else {
        return Taken::Absent;
    };
    let span = value.span();
    match value.into_inner() {
        DeValue::String(s) => Taken::Present(Sha256::One(At {
            value: s.into_owned(),
            span,
        })),
        DeValue::Table(entries) => {
            let mut per_arch = Vec::new();
            let mut broken = false;
            for (arch, digest) in entries {
                let arch_at = At {
                    span: arch.span(),
                    value: arch.into_inner().into_owned(),
                };
                let digest_span = digest.span();
                match digest.into_inner() {
                    DeValue::String(s) => per_arch.push((
                        arch_at,
                        At {
                            value: s.into_owned(),
                            span: digest_span,
                        },
                    )),
                    other => {
                        broken = true;
                        sink.error("wrong type", &digest_span).label(format!(
                            "expected a string, found {}",
                            with_article(other.type_str())
                        ));
                    }
                }
            }
            if broken {
                Taken::Broken
            } else {
                Taken::Present(Sha256::PerArch(per_arch))
            }
        }
        other => {
            sink.error("wrong type", &span).label(format!(
                "expected a string or a table, found {}",
                with_article(other.type_str())
            ));
            Taken::Broken
        }
    }
}

fn read_install(mut table: Section<'_>, sink: &mut Sink) -> Option<Install> {
    let header = table.span.clone();
    let sha256 = take_sha256(&mut table, sink);
    let install = table.finish::<Install>(sink)?;
    if matches!(sha256, Taken::Broken) {
        return None;
    }
    Some(Install {
        header,
        sha256: sha256.ok(),
        ..install
    })
}

pub(crate) fn read(mut table: Section<'_>, sink: &mut Sink) -> Option<Etcd> {
    let header = table.span.clone();
    let settings = take_settings(&mut table, sink);
    let install = table
        .take_table("install", sink)
        .and_then(|t| read_install(t, sink));
    let install_broken = matches!(install, Taken::Broken);
    let etcd = table.finish::<Etcd>(sink)?;
    Some(Etcd {
        settings,
        install: install.ok(),
        header,
        install_broken,
        ..etcd
    })
}
