//! The validated desired state: every default is resolved, every name is checked, and nothing here
//! refers to the file's text any more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the cluster file asks for. Nodes are sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Directory of the cluster file; relative paths of the file start there.
    pub base_dir: PathBuf,
    /// Name and token of the cluster.
    pub cluster: Cluster,
    /// Version, runtime and installation of etcd.
    pub etcd: Etcd,
    /// The members to have, sorted by name.
    pub nodes: Vec<Node>,
    /// Transport security.
    pub tls: Tls,
    /// Users and roles, when the file has an `[auth]` table.
    pub auth: Option<Auth>,
}

/// `[cluster]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Name of the cluster: `[a-z0-9][a-z0-9.-]*`, at most 63 characters.
    pub name: String,
    /// Prefix of `--initial-cluster-token`; each bootstrap appends its own nonce.
    pub token: String,
}

/// `[etcd]` without what is resolved per node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Etcd {
    /// The version to run.
    pub version: VersionSpec,
    /// What advertised URLs are made of.
    pub advertise: Advertise,
    /// How a member is run.
    pub runtime: RuntimeKind,
    /// Where the binaries come from.
    pub install: Install,
}

/// The version to run: exact, or under `present` a constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionSpec {
    /// This very version.
    Exact(semver::Version),
    /// Any version that satisfies the constraint (only with `present`).
    Constraint(semver::VersionReq),
}

/// What advertised URLs are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Advertise {
    /// `ip` of the node.
    Ip,
    /// `fqdn` of the node.
    Fqdn,
}

/// How a member is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeKind {
    /// `etcd.service`, configured by `/etc/etcd/etcd.conf`.
    Systemd,
    /// A drop-in of `etcd-member.service`.
    ContainerLinux,
    /// The etcd inside `sensu-backend`.
    SensuBackend,
}

/// `[etcd.install]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Install {
    /// A release archive, fetched once on the operator's side and uploaded.
    Archive {
        /// URL or local path, with `{version}` and `{arch}` (amd64, arm64) placeholders.
        location: String,
        /// How the archive is verified.
        checksum: Checksum,
    },
    /// The distribution's package, by apt, dnf or yum.
    Package {
        /// Package names, such as `etcd-server` and `etcd-client` (defaults depend on the distribution when empty).
        names: Vec<String>,
        /// The exact version in the package manager's own spelling, such as `3.4.23+dfsg-4`;
        /// when absent, the one whose upstream part is the version of the file.
        package_version: Option<String>,
    },
    /// The binaries are there already.
    Present {
        /// Directory that holds `etcd`.
        bin_dir: String,
    },
}

/// How an archive is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// Hex digest per architecture (`amd64`, `arm64`); a single digest of the file stands for every one (key `*`).
    Sha256(BTreeMap<String, String>),
    /// URL or path of a `SHA256SUMS` file; the default is the one beside the archive.
    Sums(String),
}

/// One member to have, with every default of the file resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// etcd's `--name`.
    pub name: String,
    /// Address that is listened on and, by default, advertised.
    pub ip: IpAddr,
    /// Full name for certificates and, if asked for, URLs.
    pub fqdn: Option<String>,
    /// Stays a learner.
    pub learner: bool,
    /// Client port, default 2379.
    pub client_port: u16,
    /// Peer port, default 2380.
    pub peer_port: u16,
    /// Addresses of the client listener; default: `ip` and 127.0.0.1.
    pub listen: Vec<IpAddr>,
    /// Data directory, an absolute path.
    pub data_dir: String,
    /// Separate WAL directory, an absolute path.
    pub wal_dir: Option<String>,
    /// Further names and addresses in the server certificate.
    pub extra_sans: Vec<String>,
    /// etcd options by flag name without dashes in front, in etcd's own spelling of values
    /// (sizes in bytes, booleans as `true`/`false`), the cluster's merged with the node's.
    pub settings: BTreeMap<String, String>,
    /// How the host is reached.
    pub ssh: Ssh,
}

/// How a host is reached. What is `None` comes from `ssh -G` where OpenSSH is installed, else OpenSSH's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// Name or address to connect to; default: the node's `ip`.
    pub host: String,
    /// Port.
    pub port: Option<u16>,
    /// User.
    pub user: Option<String>,
    /// Private key file, `~` expanded, relative paths resolved; the agent and OpenSSH's default keys otherwise.
    pub identity: Option<PathBuf>,
    /// Passphrase of the key file.
    pub passphrase: Option<SecretRef>,
    /// Whether commands run through sudo.
    pub sudo: bool,
    /// Password for sudo.
    pub sudo_password: Option<SecretRef>,
    /// `[user@]host[:port]` of one jump host.
    pub jump: Option<String>,
    /// known_hosts file; OpenSSH's own otherwise.
    pub known_hosts: Option<PathBuf>,
    /// Time allowed for TCP connection, handshake and authentication; default 10 s.
    pub connect_timeout: Duration,
}

/// Where a secret comes from. The secret itself is never part of the desired state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// Environment variable of the operator's shell.
    Env(String),
    /// File on the operator's side, path resolved.
    File(PathBuf),
    /// Command run by `sh -c` on the operator's side; its standard output without the last newline.
    Command(String),
    /// Asked on the terminal, once a run.
    Prompt,
}

/// `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Between clients and members.
    pub client: TlsMode,
    /// Between members.
    pub peer: TlsMode,
    /// The managed authority.
    pub ca: CaSpec,
    /// Certificates of members and people.
    pub leaf: LeafSpec,
    /// Certificates for people and programs.
    pub client_certs: Vec<ClientCert>,
    /// Operator-side files under `files`.
    pub files: Option<TlsFiles>,
}

/// Where certificates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Plain HTTP.
    Off,
    /// Issued and renewed by Quorate.
    Managed,
    /// Brought by the operator.
    Files,
}

/// The managed authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaSpec {
    /// Directory on the operator's side, resolved.
    pub dir: PathBuf,
    /// Key of the authority.
    pub key: KeyKind,
    /// Validity of its certificate.
    pub validity: Duration,
    /// How the CA key is encrypted at rest, if it is.
    pub encryption: Option<CaEncryption>,
}

/// Encryption of the CA key by age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaEncryption {
    /// age passphrase.
    Passphrase(SecretRef),
    /// age X25519 recipient, and the identity file that opens it.
    Recipient {
        /// `age1…`
        recipient: String,
        /// File with the `AGE-SECRET-KEY-1…` line.
        identity: SecretRef,
    },
}

/// Certificates of members and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafSpec {
    /// Key of each certificate.
    pub key: KeyKind,
    /// Validity.
    pub validity: Duration,
    /// Renewal is planned when less than this is left.
    pub renew_before: Duration,
}

/// Kind of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// RSA with 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
}

/// `[[tls.client_cert]]`: a certificate for a person or program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCert {
    /// Common name, which is the etcd user name.
    pub name: String,
    /// Validity, else that of `leaf`.
    pub validity: Option<Duration>,
}

/// Operator-side certificate files; `{node}` in a path is the node's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// CA bundle.
    pub ca: String,
    /// Server certificate.
    pub server_cert: String,
    /// Server key.
    pub server_key: String,
    /// Peer certificate.
    pub peer_cert: String,
    /// Peer key.
    pub peer_key: String,
    /// The operator's own client certificate.
    pub client_cert: String,
    /// The operator's own client key.
    pub client_key: String,
}

/// `[auth]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// Whether authentication is on.
    pub enabled: bool,
    /// Roles by name.
    pub roles: BTreeMap<String, Vec<Grant>>,
    /// Users by name.
    pub users: BTreeMap<String, AuthUser>,
}

/// A permission of a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// Which keys.
    pub keys: GrantKeys,
    /// What may be done.
    pub access: Access,
}

/// Keys of a grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKeys {
    /// One key.
    Key(String),
    /// Every key that starts with this.
    Prefix(String),
    /// From the first, inclusive, to the second, exclusive.
    Range(String, String),
    /// Every key from this one on.
    FromKey(String),
}

/// What a grant permits.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Both.
    Readwrite,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthUser {
    /// Names of its roles.
    pub roles: Vec<String>,
    /// Its password; without one only a certificate logs in.
    pub password: Option<SecretRef>,
}
