//! `[cluster]`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::desired::diagnostic::Sink;
use crate::desired::read::{At, Section, Span};

/// What the cluster is called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Name of the cluster, in markers, logs and certificates: `[a-z0-9][a-z0-9.-]*`, at most 63 characters.
    #[schemars(required, regex(pattern = "^[a-z0-9][a-z0-9.-]{0,62}$"))]
    pub name: Option<At<String>>,
    /// Prefix of etcd's `--initial-cluster-token`; each bootstrap or restore appends its own nonce.
    /// Default: the name of the cluster.
    pub token: Option<At<String>>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
}

pub(crate) fn read(table: Section<'_>, sink: &mut Sink) -> Option<Cluster> {
    let header = table.span.clone();
    let cluster = table.finish::<Cluster>(sink)?;
    Some(Cluster { header, ..cluster })
}
