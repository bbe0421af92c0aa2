//! From what the file says to what it means: defaults, and every check that needs more than one key.

mod auth;
mod etcd;
mod install;
mod members;
mod node;
mod settings;
mod ssh;
mod tls;
mod values;

use std::path::Path;

pub(crate) use settings::reserved as reserved_option;

use super::diagnostic::Sink;
use super::file::{Tables, cluster};
use super::model::{Cluster, Desired};
use super::read::Taken;

/// Where paths of the file start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paths<'a> {
    /// Directory of the cluster file.
    pub(crate) base_dir: &'a Path,
    /// What `~/` stands for, if known.
    pub(crate) home: Option<&'a Path>,
}

pub(crate) fn resolve(tables: &Tables, paths: &Paths<'_>, sink: &mut Sink) -> Option<Desired> {
    schema(tables, sink);
    let cluster = match tables.cluster.as_ref() {
        Taken::Present(table) => resolve_cluster(table, sink),
        Taken::Broken => None,
        Taken::Absent => {
            missing_table("cluster", "[cluster]\nname = \"demo\"", sink);
            None
        }
    };
    let etcd_table = match tables.etcd.as_ref() {
        Taken::Present(table) => Some(table),
        Taken::Broken => None,
        Taken::Absent => {
            missing_table("etcd", "[etcd]\nversion = \"3.5.33\"", sink);
            None
        }
    };
    let etcd = etcd_table.map(|table| etcd::resolve(table, paths, sink));
    let tls = match tables.tls.as_ref() {
        Taken::Present(table) => tls::resolve(Some(table), paths, sink),
        Taken::Absent => tls::resolve(None, paths, sink),
        Taken::Broken => None,
    };
    let ssh_broken = matches!(tables.ssh, Taken::Broken);
    let ssh = match tables.ssh.as_ref() {
        Taken::Present(table) => Some(table),
        Taken::Absent | Taken::Broken => None,
    };
    if let Some(table) = ssh {
        ssh::check_shared(table, paths, sink);
    }
    let nodes = members::resolve(tables, etcd_table, etcd.as_ref(), ssh, paths, sink);
    let auth = match tables.auth.as_ref() {
        Taken::Present(table) => auth::resolve(table, tls.as_ref(), paths, sink).map(Some),
        Taken::Absent => Some(None),
        Taken::Broken => None,
    };
    if ssh_broken {
        return None;
    }
    Some(Desired {
        base_dir: paths.base_dir.to_path_buf(),
        cluster: cluster?,
        etcd: etcd?.model?,
        nodes: nodes?,
        tls: tls?,
        auth: auth?,
    })
}

fn schema(tables: &Tables, sink: &mut Sink) {
    match &tables.schema {
        Some(schema) if schema.value == 1 => {}
        Some(schema) => {
            sink.error("unknown schema", &schema.span)
                .label("this version of quorate reads schema 1")
                .help(if schema.value > 1 {
                    "use a newer quorate"
                } else {
                    "write schema = 1"
                });
        }
        None if tables.root_read => {
            sink.error("missing key", &(0..0))
                .detail("`schema` says which format the file has")
                .help("write schema = 1 as the first line");
        }
        None => {}
    }
}

fn missing_table(name: &str, example: &str, sink: &mut Sink) {
    sink.error("missing table", &(0..0))
        .detail(format!("the file has no [{name}]"))
        .help(format!("add\n{example}"));
}

fn resolve_cluster(table: &cluster::Cluster, sink: &mut Sink) -> Option<Cluster> {
    let name = values::require(table.name.as_ref(), "name", &table.header, sink)
        .and_then(|name| values::name(name, sink));
    let token = match &table.token {
        None => name.clone(),
        Some(token) => {
            let good = !token.value.is_empty()
                && token.value.len() <= 128
                && token
                    .value
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            if !good {
                sink.error("bad token", &token.span)
                    .label("expected 1 to 128 letters, digits, `.`, `_` or `-`");
            }
            good.then(|| token.value.clone())
        }
    };
    Some(Cluster {
        name: name?,
        token: token?,
    })
}
