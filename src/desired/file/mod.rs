//! The cluster file as it is written: a mirror of its tables in which every key is optional and every
//! value knows where it stands. The doc comments of the keys are the descriptions of the JSON Schema.

pub mod auth;
pub mod cluster;
pub mod etcd;
pub mod node;
pub mod secret;
pub mod ssh;
pub mod tls;

use schemars::JsonSchema;
use serde::Deserialize;

use super::diagnostic::Sink;
use super::read::{At, Section, Taken};

/// A cluster file of Quorate: the etcd cluster that its hosts are to form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ClusterFile")]
pub struct File {
    /// Version of this format; always 1.
    #[schemars(required, extend("const" = 1))]
    pub schema: Option<At<i64>>,
    /// What the cluster is called.
    #[schemars(required)]
    pub cluster: Option<cluster::Cluster>,
    /// Version, runtime, directories, options and installation of etcd.
    #[schemars(required)]
    pub etcd: Option<etcd::Etcd>,
    /// How the hosts are reached. A node's own `ssh` table overrides it key by key; what is absent from
    /// both comes from `ssh -G` where OpenSSH is installed.
    pub ssh: Option<ssh::Ssh>,
    /// The members to have.
    #[schemars(required, length(min = 1))]
    pub node: Option<Vec<node::Node>>,
    /// Transport security. Without this table everything is plain HTTP.
    pub tls: Option<tls::Tls>,
    /// Users, roles and whether authentication is on. Without this table they are left alone.
    pub auth: Option<auth::Auth>,
}

/// What was read of the file, table by table.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) schema: Option<At<i64>>,
    /// Whether the top level itself could be read.
    pub(crate) root_read: bool,
    pub(crate) cluster: Taken<cluster::Cluster>,
    pub(crate) etcd: Taken<etcd::Etcd>,
    pub(crate) ssh: Taken<ssh::Ssh>,
    /// `None` for a node that could not be read.
    pub(crate) nodes: Vec<Option<node::Node>>,
    pub(crate) tls: Taken<tls::Tls>,
    pub(crate) auth: Taken<auth::Auth>,
}

pub(crate) fn read(mut root: Section<'_>, sink: &mut Sink) -> Tables {
    let cluster = root
        .take_table("cluster", sink)
        .and_then(|t| cluster::read(t, sink));
    let etcd = root
        .take_table("etcd", sink)
        .and_then(|t| etcd::read(t, sink));
    let ssh = root
        .take_table("ssh", sink)
        .and_then(|t| ssh::read(t, sink));
    let nodes = root
        .take_tables("node", sink)
        .into_iter()
        .map(|t| t.and_then(|t| node::read(t, sink)))
        .collect();
    let tls = root
        .take_table("tls", sink)
        .and_then(|t| tls::read(t, sink));
    let auth = root
        .take_table("auth", sink)
        .and_then(|t| auth::read(t, sink));
    let file = root.finish::<File>(sink);
    Tables {
        root_read: file.is_some(),
        schema: file.and_then(|f| f.schema),
        cluster,
        etcd,
        ssh,
        nodes,
        tls,
        auth,
    }
}
