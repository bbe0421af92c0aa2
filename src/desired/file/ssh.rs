//! `[ssh]`, and the `ssh` table of a node.

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::{self, Secret};
use crate::desired::diagnostic::Sink;
use crate::desired::read::{At, Section};

/// How a host is reached. Host keys are always checked.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// Name or address to connect to, only in a node's table. Default: the node's `ip`.
    pub host: Option<At<String>>,
    /// Port. Default: from `ssh -G`, else 22.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<At<i64>>,
    /// User. Default: from `ssh -G`, else the operator's own name.
    pub user: Option<At<String>>,
    /// Private key file; a relative path starts at the cluster file, `~/` at the home directory.
    /// Default: the agent, then OpenSSH's default keys.
    pub identity: Option<At<String>>,
    /// Passphrase of the key file.
    pub passphrase: Option<Secret>,
    /// Whether commands run through sudo.
    #[schemars(extend("default" = false))]
    pub sudo: Option<At<bool>>,
    /// Password for sudo.
    pub sudo_password: Option<Secret>,
    /// One jump host: `[user@]host[:port]`.
    pub jump: Option<At<String>>,
    /// known_hosts file. Default: OpenSSH's own.
    pub known_hosts: Option<At<String>>,
    /// Time allowed for TCP connection, handshake and authentication.
    #[schemars(extend("default" = "10s"))]
    pub connect_timeout: Option<At<String>>,
}

pub(crate) fn read(mut table: Section<'_>, sink: &mut Sink) -> Option<Ssh> {
    let passphrase = secret::take(&mut table, "passphrase", sink).ok();
    let sudo_password = secret::take(&mut table, "sudo_password", sink).ok();
    let ssh = table.finish::<Ssh>(sink)?;
    Some(Ssh {
        passphrase,
        sudo_password,
        ..ssh
    })
}
