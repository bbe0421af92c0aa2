//! What is to be reached, and the rules for it.

use crate::desired::model::Ssh;

/// A host to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name of the node, for messages.
    pub node: String,
    /// How it is reached.
    pub ssh: Ssh,
}

/// Rules for all connections of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Write the keys of hosts that no known_hosts file mentions into it. Changed and revoked keys
    /// are refused all the same.
    pub accept_new_host_keys: bool,
}
