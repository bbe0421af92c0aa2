//! How a member is run. A runtime turns a node of the file into a [`Layout`]: rendered files, unit, user, data and
//! WAL paths, option channel. Nothing else in the program knows a unit name or a managed path.

mod layout;
mod systemd;

pub use layout::{
    Content, Directory, FileWrite, Layout, POLICY, POLICY_PATH, Profile, StartDropIn, place_in,
};

use crate::desired::model::{Desired, Node, RuntimeKind};

/// What a node of this cluster looks like on its host.
pub fn layout(desired: &Desired, node: &Node) -> Layout {
    match desired.etcd.runtime {
        RuntimeKind::Systemd | RuntimeKind::ContainerLinux | RuntimeKind::SensuBackend => {
            systemd::layout(desired, node)
        }
    }
}

/// The advertised peer URL of a node: what the membership knows it by.
pub fn peer_url(desired: &Desired, node: &Node) -> String {
    match desired.etcd.runtime {
        RuntimeKind::Systemd | RuntimeKind::ContainerLinux | RuntimeKind::SensuBackend => {
            systemd::peer_url(desired, node)
        }
    }
}

/// The environment of a start on an empty data directory, in the form of the file that the start drop-in names.
pub fn start_environment(initial_cluster: &str, token: &str, state: &str) -> String {
    systemd::start_environment(initial_cluster, token, state)
}

/// The variables of a configuration that this program rendered; other lines are passed over.
pub fn parse_environment(text: &str) -> std::collections::BTreeMap<String, String> {
    systemd::parse_environment(text)
}

/// Why a runtime cannot be used yet, if it cannot.
pub fn unsupported(kind: RuntimeKind) -> Option<&'static str> {
    match kind {
        RuntimeKind::Systemd => None,
        RuntimeKind::ContainerLinux => Some("container-linux"),
        RuntimeKind::SensuBackend => Some("sensu-backend"),
    }
}
