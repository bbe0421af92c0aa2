//! What the cluster file and OpenSSH's settings together say about reaching a host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::authenticate::Key;
use super::error::{Address, ConnectError};
use super::ssh_config::{self, Agent, Jump};
use super::target::Target;
use crate::desired::model::Ssh;
use crate::secret::SecretSource;

/// Everything that the connect phase needs; secrets are fetched, so that a prompt costs no
/// connect time.
pub(super) struct Route {
    pub(super) node: String,
    pub(super) address: Address,
    /// Name under which the host key is known.
    pub(super) key_name: String,
    pub(super) user: String,
    pub(super) keys: Vec<Key>,
    /// Only these keys may be used.
    pub(super) only_keys: bool,
    pub(super) passphrase: Option<SecretString>,
    pub(super) agent: Agent,
    pub(super) known_hosts: Vec<PathBuf>,
    /// Where new keys go.
    pub(super) new_keys: PathBuf,
    pub(super) timeout: Duration,
    pub(super) sudo: bool,
    pub(super) sudo_password: Option<SecretString>,
    pub(super) jump: Option<Target>,
}

/// Resolves what is open. Blocks: it runs `ssh -G`, reads key files and fetches secrets.
///
/// # Errors
/// What makes a connection pointless.
pub(super) fn resolve(
    target: &Target,
    secrets: &dyn SecretSource,
    jumped: bool,
) -> Result<Route, ConnectError> {
    let Target { node, ssh } = target;
    let settings = |reason: String| ConnectError::Settings {
        node: node.clone(),
        reason,
    };
    let config = ssh_config::lookup(&ssh.host, ssh.user.as_deref(), ssh.port).map_err(settings)?;
    let host = config.hostname.clone().unwrap_or_else(|| ssh.host.clone());
    let user = ssh.user.clone().or(config.user).or_else(local_user);
    let user =
        user.ok_or_else(|| settings("there is no user to log in as: set ssh.user".into()))?;
    let jump = match (&ssh.jump, &config.proxy_jump, config.proxy_command) {
        (Some(jump), _, _) => Some(jump),
        (None, Some(jump), _) => Some(jump),
        (None, None, true) => {
            return Err(settings(format!(
                "OpenSSH reaches {} by a ProxyCommand, which is not supported: use ssh.jump",
                ssh.host
            )));
        }
        (None, None, false) => None,
    };
    let jump = match jump {
        Some(_) if jumped => {
            return Err(settings(
                "the jump host has a jump host itself; one is supported".into(),
            ));
        }
        Some(jump) => Some(jump_target(node, ssh, Jump::parse(jump).map_err(settings)?)),
        None => None,
    };
    let (keys, only_keys) = match &ssh.identity {
        Some(path) => (vec![chosen(node, path)?], true),
        // Default keys that are not there, or no keys, are no error.
        None => (
            config
                .identities
                .iter()
                .filter_map(|path| Key::read(path).ok())
                .collect(),
            config.identities_only,
        ),
    };
    let secret = |reference, purpose: String| {
        secrets
            .resolve(reference, &purpose)
            .map_err(|reason| ConnectError::Secret {
                node: node.clone(),
                reason,
            })
    };
    let passphrase = match &ssh.passphrase {
        Some(reference) if keys.iter().any(Key::encrypted) => {
            let path = ssh.identity.as_deref().map(Path::display);
            let of = path.map_or_else(String::new, |path| format!(" of {path}"));
            Some(secret(reference, format!("passphrase{of}"))?)
        }
        _ => None,
    };
    let sudo_password = match &ssh.sudo_password {
        Some(reference) if ssh.sudo => Some(secret(reference, format!("sudo password of {user}"))?),
        _ => None,
    };
    let known_hosts = match &ssh.known_hosts {
        Some(path) => vec![path.clone()],
        None => config
            .user_known_hosts
            .iter()
            .chain(&config.global_known_hosts)
            .cloned()
            .collect(),
    };
    let new_keys = ssh
        .known_hosts
        .clone()
        .or_else(|| config.user_known_hosts.first().cloned());
    Ok(Route {
        node: node.clone(),
        key_name: config.host_key_alias.unwrap_or_else(|| host.clone()),
        address: Address {
            host,
            port: ssh.port.or(config.port).unwrap_or(22),
        },
        user,
        keys,
        only_keys,
        passphrase,
        agent: config.agent,
        known_hosts,
        new_keys: new_keys.unwrap_or_else(|| PathBuf::from("known_hosts")),
        timeout: ssh.connect_timeout,
        sudo: ssh.sudo,
        sudo_password,
        jump,
    })
}

fn chosen(node: &str, path: &Path) -> Result<Key, ConnectError> {
    Key::read(path).map_err(|reason| ConnectError::KeyFile {
        node: node.to_owned(),
        path: path.to_owned(),
        reason,
    })
}

/// The jump host: the file's key and known_hosts serve for it too; its user is OpenSSH's, as with
/// `ssh -J`.
fn jump_target(node: &str, ssh: &Ssh, jump: Jump) -> Target {
    let ssh = Ssh {
        host: jump.host,
        port: jump.port,
        user: jump.user,
        sudo: false,
        sudo_password: None,
        jump: None,
        ..ssh.clone()
    };
    Target {
        node: node.to_owned(),
        ssh,
    }
}

fn local_user() -> Option<String> {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|user| !user.is_empty())
}
