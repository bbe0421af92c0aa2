//! How a member is run. A runtime turns a node of the file into a [`Layout`]: rendered files, unit, user, data and
//! WAL paths, option channel. Nothing else in the program knows a unit name or a managed path.

pub mod layout;
pub mod systemd;

pub use layout::{Content, Directory, FileWrite, Layout, Profile, StartDropIn};

use crate::desired::model::{Desired, Node, RuntimeKind};

/// What a node of this cluster looks like on its host.
pub fn layout(desired: &Desired, node: &Node) -> Layout {
    match desired.etcd.runtime {
        RuntimeKind::Systemd | RuntimeKind::ContainerLinux | RuntimeKind::SensuBackend => {
            systemd::layout(desired, node)
        }
    }
}

/// Why a runtime cannot be used yet, if it cannot.
pub fn unsupported(kind: RuntimeKind) -> Option<&'static str> {
    match kind {
        RuntimeKind::Systemd => None,
        RuntimeKind::ContainerLinux => Some("container-linux"),
        RuntimeKind::SensuBackend => Some("sensu-backend"),
    }
}
