//! What can go wrong between us and a host, in words that name the host and the remedy.

use std::path::PathBuf;

/// `host:port`, with brackets around an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or address, as connected to.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A host key, as shown by the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Its type, such as `ssh-ed25519`.
    pub key_type: String,
    /// `SHA256:` and base64.
    pub fingerprint: String,
    /// The host is covered by a `@cert-authority` line only, which is not supported.
    pub authority: bool,
}

impl std::fmt::Display for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.key_type, self.fingerprint)?;
        if self.authority {
            write!(f, "; @cert-authority lines are not supported")?;
        }
        Ok(())
    }
}

/// A failed authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The user.
    pub user: String,
    /// The keys that were tried.
    pub tried: Vec<String>,
    /// What else is to be said.
    pub note: Option<String>,
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "as {}; tried: ", self.user)?;
        if self.tried.is_empty() {
            write!(
                f,
                "nothing, since there is neither a usable key file nor an agent with keys"
            )?;
        } else {
            write!(f, "{}", self.tried.join(", "))?;
        }
        self.note.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

/// Why no SSH session came about. Every message names the node and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("{node}: cannot resolve {address}: {reason}")]
    Unresolvable {
        node: String,
        address: Address,
        reason: String,
    },
    /// There is no route, or the network says so.
    #[error("{node}: cannot reach {address}: {reason}")]
    Unreachable {
        node: String,
        address: Address,
        reason: String,
    },
    /// Nothing listens there.
    #[error(
        "{node}: {address} refuses connections: sshd does not listen there, or a firewall rejects them"
    )]
    Refused { node: String, address: Address },
    /// Connection, handshake and authentication took too long.
    #[error(
        "{node}: no SSH session with {address} within {seconds} s (while {phase}); raise ssh.connect_timeout if the network is that slow"
    )]
    Timeout {
        node: String,
        address: Address,
        seconds: u64,
        phase: &'static str,
    },
    /// The host key is in no known_hosts file; `file` is where it belongs.
    #[error("{node}: the host key of {address} is not known ({key}); compare the fingerprint with the host's own, then add the key to {file}, or allow new keys with --accept-new-host-keys", file = .file.display())]
    HostKeyUnknown {
        node: String,
        address: Address,
        key: Box<HostKey>,
        file: PathBuf,
    },
    /// The host shows another key than the known one, which is here.
    #[error("{node}: THE HOST KEY OF {address} HAS CHANGED: it shows {key}, but {file}:{line} has another; if the host was rebuilt, remove that line, else somebody may be in between", file = .file.display())]
    HostKeyChanged {
        node: String,
        address: Address,
        key: Box<HostKey>,
        file: PathBuf,
        line: usize,
    },
    /// The host shows a key that is marked as revoked here.
    #[error("{node}: {address} shows the host key {key}, which {file}:{line} marks as revoked: give the host new keys", file = .file.display())]
    HostKeyRevoked {
        node: String,
        address: Address,
        key: Box<HostKey>,
        file: PathBuf,
        line: usize,
    },
    /// A known_hosts file cannot be read or written.
    #[error("{node}: {file}: {reason}", file = .file.display())]
    KnownHosts {
        node: String,
        file: PathBuf,
        reason: String,
    },
    /// The server accepted nothing that we have.
    #[error("{node}: {address} does not let us in {attempt}")]
    AuthFailed {
        node: String,
        address: Address,
        attempt: Box<Attempt>,
    },
    /// The key file cannot be used.
    #[error("{node}: the key file {path} cannot be used: {reason}", path = .path.display())]
    KeyFile {
        node: String,
        path: PathBuf,
        reason: String,
    },
    /// A secret cannot be resolved.
    #[error("{node}: {reason}")]
    Secret { node: String, reason: String },
    /// The settings contradict themselves or ask for what is not supported.
    #[error("{node}: {reason}")]
    Settings { node: String, reason: String },
    /// The other side does not speak SSH as expected.
    #[error("{node}: the SSH handshake with {address} failed: {reason}")]
    Protocol {
        node: String,
        address: Address,
        reason: String,
    },
    /// The jump host could not be used.
    #[error("{node}: through the jump host: {source}")]
    Jump {
        node: String,
        source: Box<ConnectError>,
    },
    /// The jump host does not open a connection to the host.
    #[error("{node}: {source}")]
    JumpTunnel { node: String, source: TunnelError },
    /// The connection was given up by ourselves.
    #[error("{node}: the connection was given up")]
    Abandoned { node: String },
}

/// Why a request to a connected host failed. What a script answers, also with a failing status, is
/// no such error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The connection broke; whether the request took effect is unknown.
    #[error("{node}: the SSH connection was lost: {reason}")]
    Lost { node: String, reason: String },
    /// The session was closed by ourselves.
    #[error("{node}: the SSH session is closed")]
    Closed { node: String },
    /// No answer in time; the process on the host is ended there as well.
    #[error("{node}: no answer within {seconds} s")]
    Deadline { node: String, seconds: u64 },
    /// The process ended, or goes on, without anybody saying how.
    #[error(
        "{node}: sshd closed the session before the command's exit status came: see ChannelTimeout in its sshd_config"
    )]
    NoStatus { node: String },
    /// sshd opens no further session.
    #[error("{node}: sshd opens no further session on this connection: raise MaxSessions there")]
    Sessions { node: String },
    /// More output than is kept.
    #[error("{node}: more than {limit} bytes of output")]
    OutputTooLarge { node: String, limit: usize },
    /// sudo did not run the command.
    #[error("{node}: {problem}")]
    Sudo { node: String, problem: SudoProblem },
    /// The login shell did not run the command.
    #[error("{node}: the login shell did not run the command ({status}){}", if .text.is_empty() { String::new() } else { format!(": {}", .text) })]
    Shell {
        node: String,
        status: String,
        text: String,
    },
    /// An upload failed; the destination is as it was.
    #[error("{node}: cannot upload {path}: {reason}")]
    Upload {
        node: String,
        path: String,
        reason: String,
    },
    /// The operator's own file cannot be read.
    #[error("cannot read {path}: {reason}", path = .path.display())]
    Local { path: PathBuf, reason: String },
}

/// What keeps sudo from running a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SudoProblem {
    /// There is no sudo.
    #[error("sudo is not installed: install it, or log in as root with ssh.sudo = false")]
    Absent,
    /// A password is wanted and none is configured.
    #[error("sudo asks for a password: set ssh.sudo_password, or allow NOPASSWD")]
    PasswordNeeded,
    /// The password was refused.
    #[error("sudo does not accept the password")]
    WrongPassword,
    /// sudoers does not allow it.
    #[error("sudo does not allow this user to run commands as root: {0}")]
    NotPermitted(String),
    /// sudoers wants a terminal.
    #[error("sudo wants a terminal: remove requiretty from sudoers for this user")]
    RequireTty,
    /// sudo waits for something that we do not know.
    #[error("sudo does not start the command: {0}")]
    Other(String),
}

/// Why a tunnel did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// sshd does not forward.
    #[error(
        "{node}: sshd forbids the tunnel to {address}: allow it with AllowTcpForwarding and PermitOpen, and without DisableForwarding"
    )]
    Prohibited { node: String, address: Address },
    /// The host itself cannot connect there.
    #[error("{node}: nothing answers at {address} as seen from the SSH server")]
    Refused { node: String, address: Address },
    /// No answer in time.
    #[error("{node}: the tunnel to {address} did not open within {seconds} s")]
    Timeout {
        node: String,
        address: Address,
        seconds: u64,
    },
    /// The session itself failed.
    #[error(transparent)]
    Session(#[from] RemoteError),
}
