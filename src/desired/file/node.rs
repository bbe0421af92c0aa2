//! `[[node]]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::etcd::{Settings, take_settings};
use super::ssh::{self, Ssh};
use crate::desired::diagnostic::Sink;
use crate::desired::read::{At, Section, Span};

/// One member to have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// etcd's `--name`: `[a-z0-9][a-z0-9.-]*`, at most 63 characters.
    #[schemars(required, regex(pattern = "^[a-z0-9][a-z0-9.-]{0,62}$"))]
    pub name: Option<At<String>>,
    /// Address, v4 or v6, that is listened on and, by default, advertised.
    #[schemars(required)]
    pub ip: Option<At<String>>,
    /// Full name, for certificates and, with `advertise = "fqdn"`, for URLs.
    pub fqdn: Option<At<String>>,
    /// Stays a learner: it receives all data, has no vote, and does not count for quorum.
    #[schemars(extend("default" = false))]
    pub learner: Option<At<bool>>,
    /// Client port. Default: that of `[etcd]`.
    #[schemars(range(min = 1, max = 65535))]
    pub client_port: Option<At<i64>>,
    /// Peer port. Default: that of `[etcd]`.
    #[schemars(range(min = 1, max = 65535))]
    pub peer_port: Option<At<i64>>,
    /// Addresses of the client listener. Default: `ip` and 127.0.0.1.
    pub listen: Option<Vec<At<String>>>,
    /// Data directory, an absolute path. Default: that of `[etcd]`.
    pub data_dir: Option<At<String>>,
    /// Separate WAL directory, an absolute path. Default: that of `[etcd]`.
    pub wal_dir: Option<At<String>>,
    /// Further names and addresses in the server certificate.
    pub extra_sans: Option<Vec<At<String>>>,
    /// etcd options of this member by flag name; they override those of `[etcd.settings]`.
    pub settings: Option<Settings>,
    /// How this host is reached; overrides `[ssh]` key by key.
    pub ssh: Option<Ssh>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
}

pub(crate) fn read(mut table: Section<'_>, sink: &mut Sink) -> Option<Node> {
    let settings = take_settings(&mut table, sink);
    let ssh = table
        .take_table("ssh", sink)
        .and_then(|t| ssh::read(t, sink))
        .ok();
    let header = table.span.clone();
    let node = table.finish::<Node>(sink)?;
    Some(Node {
        settings,
        ssh,
        header,
        ..node
    })
}
