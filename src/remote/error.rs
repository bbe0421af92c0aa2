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

/// Why no SSH session came about.
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
    /// The host key is in no known_hosts file.
    #[error("{node}: the host key of {address} is not known ({key_type} {fingerprint}); compare the fingerprint with the host's and add the key to {file}, or allow new keys with --accept-new-host-keys", file = .file.display())]
    HostKeyUnknown {
        node: String,
        address: Address,
        key_type: String,
        fingerprint: String,
        file: PathBuf,
        note: String,
    },
    /// The host shows another key than the known one.
    #[error("{node}: THE HOST KEY OF {address} HAS CHANGED: it shows {key_type} {fingerprint}, but {file}:{line} has another; if the host was rebuilt, remove that line, else somebody may be in between", file = .file.display())]
    HostKeyChanged {
        node: String,
        address: Address,
        key_type: String,
        fingerprint: String,
        file: PathBuf,
        line: usize,
    },
    /// The host shows a key that is marked as revoked.
    #[error("{node}: {address} shows the key {fingerprint}, which {file}:{line} marks as revoked", file = .file.display())]
    HostKeyRevoked {
        node: String,
        address: Address,
        fingerprint: String,
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
    #[error("{node}: {address} does not let {user} in; tried: {}{}", if .tried.is_empty() { "nothing, since there is neither a key file nor an agent with keys".to_owned() } else { .tried.join(", ") }, if .note.is_empty() { String::new() } else { format!("; {}", .note) })]
    AuthFailed {
        node: String,
        address: Address,
        user: String,
        tried: Vec<String>,
        note: String,
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
