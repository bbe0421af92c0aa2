//! OpenSSH's settings for a host, as `ssh -G` prints them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Time for `ssh -G`: it may run commands of the operator's `Match exec`.
const PATIENCE: Duration = Duration::from_secs(3);
/// Its output is some kilobytes.
const LIMIT: u64 = 256 * 1024;

/// What OpenSSH would use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SshConfig {
    pub(super) hostname: Option<String>,
    pub(super) host_key_alias: Option<String>,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) identities: Vec<PathBuf>,
    pub(super) identities_only: bool,
    pub(super) agent: Agent,
    pub(super) user_known_hosts: Vec<PathBuf>,
    pub(super) global_known_hosts: Vec<PathBuf>,
    pub(super) proxy_jump: Option<String>,
    pub(super) proxy_command: bool,
}

/// Which agent to ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Agent {
    /// That of `SSH_AUTH_SOCK`.
    #[default]
    Environment,
    /// None.
    None,
    /// The one behind this socket.
    Socket(PathBuf),
}

/// OpenSSH's defaults, for machines without it.
pub(super) fn defaults() -> SshConfig {
    let in_ssh = |name: &str| expand(&format!("~/.ssh/{name}"));
    SshConfig {
        identities: ["id_rsa", "id_ecdsa", "id_ed25519"]
            .into_iter()
            .filter_map(in_ssh)
            .collect(),
        user_known_hosts: ["known_hosts", "known_hosts2"]
            .into_iter()
            .filter_map(in_ssh)
            .collect(),
        global_known_hosts: vec![
            "/etc/ssh/ssh_known_hosts".into(),
            "/etc/ssh/ssh_known_hosts2".into(),
        ],
        ..SshConfig::default()
    }
}

/// Asks `ssh -G`; falls back to the defaults where there is no OpenSSH. Blocks for a bounded time.
///
/// # Errors
/// What `ssh -G` says of a configuration that it does not understand.
pub(super) fn lookup(
    host: &str,
    user: Option<&str>,
    port: Option<u16>,
) -> Result<SshConfig, String> {
    let mut command = Command::new("ssh");
    command.arg("-G");
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    // A host that begins with a dash is no option.
    command
        .arg("--")
        .arg(host)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(defaults()),
        Err(error) => return Err(format!("cannot run ssh -G: {error}")),
    };
    let stdout = child.stdout.take().map(reader);
    let stderr = child.stderr.take().map(reader);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "ssh -G {host} did not end within {} s",
                    PATIENCE.as_secs()
                ));
            }
            Err(error) => return Err(format!("ssh -G: {error}")),
        }
    };
    let text = |reader: Option<std::thread::JoinHandle<String>>| {
        reader
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default()
    };
    if status.success() {
        Ok(parse(&text(stdout)))
    } else {
        Err(format!("ssh -G {host}: {}", text(stderr).trim()))
    }
}

fn reader(source: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is judged by the exit status.
        let _ = source.take(LIMIT).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn parse(text: &str) -> SshConfig {
    let mut config = SshConfig::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once(' ') else {
            continue;
        };
        let value = value.trim();
        let none = value.eq_ignore_ascii_case("none");
        match key.to_ascii_lowercase().as_str() {
            "hostname" => config.hostname = Some(value.to_owned()),
            "hostkeyalias" if !none => config.host_key_alias = Some(value.to_owned()),
            "user" => config.user = Some(value.to_owned()),
            "port" => config.port = value.parse().ok(),
            "identityfile" if !none => config.identities.extend(expand(value)),
            "identitiesonly" => config.identities_only = value == "yes",
            "identityagent" if none => config.agent = Agent::None,
            "identityagent" if value == "SSH_AUTH_SOCK" => {}
            "identityagent" => {
                let path = match value.strip_prefix('$') {
                    Some(name) => std::env::var_os(name).map(PathBuf::from),
                    None => expand(value),
                };
                config.agent = path.map_or(Agent::None, Agent::Socket);
            }
            "userknownhostsfile" if !none => config.user_known_hosts = files(value),
            "globalknownhostsfile" if !none => config.global_known_hosts = files(value),
            "proxyjump" if !none => config.proxy_jump = Some(value.to_owned()),
            "proxycommand" if !none => config.proxy_command = true,
            _ => {}
        }
    }
    config
}

fn files(value: &str) -> Vec<PathBuf> {
    value.split_ascii_whitespace().filter_map(expand).collect()
}

/// Expands `~` and `%d`; a path with other placeholders is left out, since it cannot be right.
fn expand(path: &str) -> Option<PathBuf> {
    let home = || std::env::home_dir().filter(|home| home.is_absolute());
    let path = match path.strip_prefix("~/") {
        Some(rest) => return Some(home()?.join(rest)),
        None => path,
    };
    let path = match path.strip_prefix("%d/") {
        Some(rest) => return Some(home()?.join(rest)),
        None => path.replace("%%", "%"),
    };
    (!path.contains('%') && Path::new(&path).is_absolute()).then(|| path.into())
}

/// `[user@]host[:port]`, also as an `ssh://` URL, of a jump host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl Jump {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not [user@]host[:port]");
        if text.contains(',') {
            return Err(format!(
                "`{text}` names several jump hosts; one is supported"
            ));
        }
        let rest = text
            .strip_prefix("ssh://")
            .unwrap_or(text)
            .trim_end_matches('/');
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) if !user.is_empty() => (Some(user.to_owned()), rest),
            Some(_) => return Err(bad()),
            None => (None, rest),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(bad)?;
                match after {
                    "" => (host, None),
                    after => (host, Some(after.strip_prefix(':').ok_or_else(bad)?)),
                }
            }
            // More than one colon is a bare IPv6 address.
            None => match rest.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (rest, None),
            },
        };
        let port = match port {
            Some(port) => Some(
                port.parse::<u16>()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(bad)?,
            ),
            None => None,
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '[' || c == ']' || c == '/';
        if host.is_empty() || host.starts_with('-') || host.contains(odd) {
            return Err(bad());
        }
        Ok(Self {
            user,
            host: host.to_owned(),
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_output_is_understood() {
        let config = parse(
            "host x\nuser ops\nhostname 10.0.0.1\nport 2222\nidentitiesonly yes\n\
             identityfile /a/key\nidentityfile /b/%h\nidentityfile ~/.ssh/id_x\nproxyjump none\n\
             userknownhostsfile /a/kh /b/kh\nglobalknownhostsfile none\nidentityagent none\nodd\n",
        );
        assert_eq!(config.user.as_deref(), Some("ops"));
        assert_eq!(config.hostname.as_deref(), Some("10.0.0.1"));
        assert_eq!(config.port, Some(2222));
        assert!(config.identities_only);
        assert_eq!(config.identities[0], Path::new("/a/key"));
        assert_eq!(config.identities.len(), 2);
        assert!(config.identities[1].ends_with(".ssh/id_x"));
        assert_eq!(
            config.user_known_hosts,
            [Path::new("/a/kh"), Path::new("/b/kh")]
        );
        assert!(config.global_known_hosts.is_empty());
        assert_eq!(config.agent, Agent::None);
        assert_eq!(config.proxy_jump, None);
    }

    #[test]
    fn jumps() {
        let jump = |text: &str| Jump::parse(text).map(|jump| (jump.user, jump.host, jump.port));
        assert_eq!(jump("b"), Ok((None, "b".into(), None)));
        assert_eq!(
            jump("u@b:2222"),
            Ok((Some("u".into()), "b".into(), Some(2222)))
        );
        assert_eq!(
            jump("ssh://u@b:22/"),
            Ok((Some("u".into()), "b".into(), Some(22)))
        );
        assert_eq!(
            jump("u@[fe80::1]:22"),
            Ok((Some("u".into()), "fe80::1".into(), Some(22)))
        );
        assert_eq!(jump("fe80::1"), Ok((None, "fe80::1".into(), None)));
        for bad in [
            "", "@b", "b:", "b:0", "b:x", "[b", "a,b", "-oX", "[b]x", "a b",
        ] {
            assert!(jump(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC*") {
            parse(&text);
            let _ = Jump::parse(&text);
        }
    }
}
