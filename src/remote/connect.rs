//! From a target to a session: TCP, handshake, host key, authentication.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use super::actor::{Actor, drain, wait};
use super::authenticate::authenticate;
use super::error::{ConnectError, HostKey};
use super::host::{Host, Shared};
use super::known_hosts::{KnownHosts, Place, Verdict, append, fingerprint, key_type};
use super::process::blocked;
use super::route::{Route, resolve};
use super::script::Sudo;
use super::target::{Policy, Target};
use super::wire::{Net, Wire};
use super::work::{Command, Counters};
use crate::secret::SecretSource;

/// Logins at jump hosts that go on at once: sshd's MaxStartups drops what comes beyond ten.
static JUMP_LOGINS: Semaphore = Semaphore::const_new(6);

/// Signature algorithms for host keys, ours first in default of known ones. SHA-1 is not among them.
const HOST_KEYS: [(&str, &str); 5] = [
    ("ssh-ed25519", "ssh-ed25519"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
    ("ssh-rsa", "rsa-sha2-512,rsa-sha2-256"),
];

/// Connects, checks the host key and logs in.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(
    target: Target,
    secrets: Arc<dyn SecretSource>,
    policy: &Policy,
) -> Result<Host, ConnectError> {
    let policy = *policy;
    let route = resolved(target, secrets.clone(), false).await?;
    let Some(jump) = route.jump.clone() else {
        return establish(route, policy, None).await;
    };
    let jumped = |source| ConnectError::Jump {
        node: route.node.clone(),
        source: Box::new(source),
    };
    let bastion = {
        let _turn = JUMP_LOGINS.acquire().await;
        let through = resolved(jump, secrets, true).await.map_err(jumped)?;
        establish(through, policy, None).await.map_err(jumped)?
    };
    // sshd switches Nagle's algorithm off with the first command; without it every exchange through
    // the tunnel would wait 40 ms.
    bastion.warm(route.timeout).await.map_err(|error| {
        jumped(ConnectError::Protocol {
            node: route.node.clone(),
            address: route.address.clone(),
            reason: error.to_string(),
        })
    })?;
    let stream = bastion
        .raw_tunnel(&route.address.host, route.address.port, route.timeout)
        .await
        .map_err(|source| ConnectError::JumpTunnel {
            node: route.node.clone(),
            source,
        })?;
    establish(route, policy, Some((bastion, stream))).await
}

async fn resolved(
    target: Target,
    secrets: Arc<dyn SecretSource>,
    jumped: bool,
) -> Result<Route, ConnectError> {
    let node = target.node.clone();
    tokio::task::spawn_blocking(move || resolve(&target, &*secrets, jumped))
        .await
        .unwrap_or(Err(ConnectError::Abandoned { node }))
}

/// Starts the thread and waits until it has logged in.
async fn establish(
    mut route: Route,
    policy: Policy,
    through: Option<(Host, UnixStream)>,
) -> Result<Host, ConnectError> {
    let (node, timeout) = (route.node.clone(), route.timeout);
    let address = route.address.clone();
    let protocol = |reason: String| ConnectError::Protocol {
        node: node.clone(),
        address: address.clone(),
        reason,
    };
    let local = |error: std::io::Error| protocol(error.to_string());
    let (wake, woken) = UnixStream::pair().map_err(local)?;
    wake.set_nonblocking(true).map_err(local)?;
    woken.set_nonblocking(true).map_err(local)?;
    let (commands, receiver) = channel();
    let counters = Arc::new(Counters::default());
    let sudo_password = route.sudo_password.take();
    let host = Host::new(Shared {
        node: node.clone(),
        commands,
        wake,
        counters: counters.clone(),
        next: AtomicU64::new(0),
        sudo: match (route.sudo && route.user != "root", &sudo_password) {
            (false, _) => Sudo::No,
            (true, None) => Sudo::WithoutPassword,
            (true, Some(_)) => Sudo::WithPassword,
        },
        password: sudo_password,
    });
    let (answer, result) = oneshot::channel();
    let thread = move || {
        // The jump host's session lives as long as this one.
        let (bastion, stream) = through.unzip();
        match log_in(&route, policy, stream, &receiver, &woken) {
            Ok((session, wire)) => {
                let actor = Actor::new(route.node, session, wire, receiver, woken, counters);
                if answer.send(Ok(())).is_ok() {
                    actor.run();
                }
            }
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
        drop(bastion);
    };
    std::thread::Builder::new()
        .name(format!("ssh {node}"))
        .stack_size(1 << 20)
        .spawn(thread)
        .map_err(local)?;
    // The thread keeps its own time; this bounds what it cannot: name service and agent.
    match tokio::time::timeout(timeout + Duration::from_millis(500), result).await {
        Ok(Ok(Ok(()))) => Ok(host),
        Ok(Ok(Err(error))) => Err(error),
        Ok(Err(_)) => Err(ConnectError::Abandoned { node }),
        Err(_) => Err(ConnectError::Timeout {
            node,
            address,
            seconds: timeout.as_secs(),
            phase: "waiting for the name service or the agent",
        }),
    }
}

/// A session that is being set up.
pub(super) struct Link<'a> {
    session: ssh2::Session,
    wire: Wire,
    deadline: Instant,
    commands: &'a Receiver<Command>,
    wake: &'a UnixStream,
    phase: &'static str,
}

/// What interrupts the setup.
#[derive(Debug)]
pub(super) enum Trouble {
    /// libssh2's error.
    Ssh { code: i32, message: String },
    /// The connection ended.
    Lost(String),
    /// Too late.
    Late,
    /// Nobody waits any more.
    Abandoned,
}

impl Link<'_> {
    pub(super) fn session(&self) -> &ssh2::Session {
        &self.session
    }

    /// Repeats `operation` until libssh2 need not wait any more.
    pub(super) fn drive<T>(
        &mut self,
        mut operation: impl FnMut(&mut ssh2::Session) -> Result<T, ssh2::Error>,
    ) -> Result<T, Trouble> {
        loop {
            let unread = self.wire.unread();
            match operation(&mut self.session) {
                Err(error) if blocked(&error) => {}
                Ok(value) => {
                    // What it wrote last must leave, too.
                    self.wire.pump().map_err(Trouble::Lost)?;
                    return Ok(value);
                }
                Err(error) => {
                    let ssh2::ErrorCode::Session(code) = error.code() else {
                        return Err(Trouble::Lost(error.message().to_owned()));
                    };
                    // What it wrote before is sent, or found to be pointless.
                    let _ = self.wire.pump();
                    return Err(Trouble::Ssh {
                        code,
                        message: error.message().to_owned(),
                    });
                }
            }
            if self.wire.unread() != unread {
                continue;
            }
            while !self.wire.pump().map_err(Trouble::Lost)? {
                if Instant::now() >= self.deadline {
                    return Err(Trouble::Late);
                }
                wait(&self.wire, self.wake, self.deadline);
                drain(self.wake);
                match self.commands.try_recv() {
                    Err(TryRecvError::Empty) => {}
                    // Nothing but an end can come before the handle is handed out.
                    _ => return Err(Trouble::Abandoned),
                }
            }
        }
    }

    pub(super) fn error(&self, route: &Route, trouble: Trouble) -> ConnectError {
        let (node, address) = (route.node.clone(), route.address.clone());
        match trouble {
            Trouble::Ssh { message, .. } => ConnectError::Protocol {
                node,
                address,
                reason: message,
            },
            Trouble::Lost(reason) => ConnectError::Protocol {
                node,
                address,
                reason,
            },
            Trouble::Late => ConnectError::Timeout {
                node,
                address,
                seconds: route.timeout.as_secs(),
                phase: self.phase,
            },
            Trouble::Abandoned => ConnectError::Abandoned { node },
        }
    }
}

fn log_in(
    route: &Route,
    policy: Policy,
    through: Option<UnixStream>,
    commands: &Receiver<Command>,
    wake: &UnixStream,
) -> Result<(ssh2::Session, Wire), ConnectError> {
    let deadline = Instant::now() + route.timeout;
    let protocol = |reason: String| ConnectError::Protocol {
        node: route.node.clone(),
        address: route.address.clone(),
        reason,
    };
    let net = match through {
        Some(stream) => Net::Tunnel(stream),
        None => Net::Tcp(dial(route, deadline)?),
    };
    let (wire, inner) = Wire::new(net).map_err(|error| protocol(error.to_string()))?;
    let mut session = ssh2::Session::new().map_err(|error| protocol(error.message().to_owned()))?;
    session.set_tcp_stream(inner);
    session.set_blocking(false);
    let known =
        KnownHosts::read(&route.known_hosts).map_err(|(file, error)| ConnectError::KnownHosts {
            node: route.node.clone(),
            file,
            reason: error.to_string(),
        })?;
    let preference = host_key_preference(&known.key_types(&route.key_name, route.address.port));
    session
        .method_pref(ssh2::MethodType::HostKey, &preference)
        .map_err(|error| protocol(error.message().to_owned()))?;
    let mut link = Link {
        session,
        wire,
        deadline,
        commands,
        wake,
        phase: "shaking hands",
    };
    link.drive(ssh2::Session::handshake)
        .map_err(|trouble| link.error(route, trouble))?;
    check_host_key(&link.session, route, policy, &known)?;
    link.phase = "logging in";
    authenticate(&mut link, route)?;
    Ok((link.session, link.wire))
}

/// Types of known keys first, so that a host is not taken for changed because it also has others.
fn host_key_preference(known: &[&str]) -> String {
    let is_known = |(kind, _): &&(&str, &str)| known.contains(kind);
    let first = HOST_KEYS.iter().filter(is_known);
    let rest = HOST_KEYS.iter().filter(|entry| !is_known(entry));
    first
        .chain(rest)
        .map(|(_, algorithms)| *algorithms)
        .collect::<Vec<_>>()
        .join(",")
}

fn check_host_key(
    session: &ssh2::Session,
    route: &Route,
    policy: Policy,
    known: &KnownHosts,
) -> Result<(), ConnectError> {
    let (node, address) = (route.node.clone(), route.address.clone());
    let Some((key, _)) = session.host_key() else {
        return Err(ConnectError::Protocol {
            node,
            address,
            reason: "the server shows no host key".into(),
        });
    };
    let verdict = known.judge(&route.key_name, route.address.port, key);
    let shown = Box::new(HostKey {
        key_type: key_type(key).unwrap_or("unknown").to_owned(),
        fingerprint: fingerprint(key),
        authority: matches!(verdict, Verdict::Unknown { authority: true }),
    });
    match verdict {
        Verdict::Known => Ok(()),
        Verdict::Revoked(Place { file, line }) => Err(ConnectError::HostKeyRevoked {
            node,
            address,
            key: shown,
            file,
            line,
        }),
        Verdict::Changed(Place { file, line }) => Err(ConnectError::HostKeyChanged {
            node,
            address,
            key: shown,
            file,
            line,
        }),
        Verdict::Unknown { .. } if policy.accept_new_host_keys => {
            append(&route.new_keys, &route.key_name, route.address.port, key).map_err(|error| {
                ConnectError::KnownHosts {
                    node,
                    file: route.new_keys.clone(),
                    reason: error.to_string(),
                }
            })
        }
        Verdict::Unknown { .. } => Err(ConnectError::HostKeyUnknown {
            node,
            address,
            key: shown,
            file: route.new_keys.clone(),
        }),
    }
}

/// TCP, to the first address that answers; each gets its share of the time that is left.
fn dial(route: &Route, deadline: Instant) -> Result<TcpStream, ConnectError> {
    let (node, address) = (route.node.clone(), route.address.clone());
    let addresses: Vec<SocketAddr> = match (address.host.as_str(), address.port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(ConnectError::Unresolvable {
                node,
                address,
                reason: error.to_string(),
            });
        }
    };
    let mut last = None;
    for (at, candidate) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(candidate, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        None => ConnectError::Unresolvable {
            node,
            address,
            reason: "it has no address".into(),
        },
        Some(error) => match error.kind() {
            ErrorKind::ConnectionRefused => ConnectError::Refused { node, address },
            ErrorKind::TimedOut | ErrorKind::WouldBlock => ConnectError::Timeout {
                node,
                address,
                seconds: route.timeout.as_secs(),
                phase: "connecting",
            },
            _ => ConnectError::Unreachable {
                node,
                address,
                reason: error.to_string(),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_come_first_and_sha1_never() {
        let order = host_key_preference(&["ssh-rsa", "ecdsa-sha2-nistp384", "odd"]);
        assert_eq!(
            order,
            "ecdsa-sha2-nistp384,rsa-sha2-512,rsa-sha2-256,ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp521"
        );
        assert!(host_key_preference(&[]).starts_with("ssh-ed25519,"));
    }
}
