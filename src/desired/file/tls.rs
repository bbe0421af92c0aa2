//! `[tls]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::{self, Secret};
use crate::desired::diagnostic::Sink;
use crate::desired::model::{KeyKind, TlsMode};
use crate::desired::read::{At, Choice, Section, Span};

/// Transport security.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Between clients and members.
    #[schemars(extend("default" = "off"))]
    pub client: Option<Choice<TlsMode>>,
    /// Between members.
    #[schemars(extend("default" = "off"))]
    pub peer: Option<Choice<TlsMode>>,
    /// The managed certificate authority.
    pub ca: Option<Ca>,
    /// Managed certificates of members and people.
    pub leaf: Option<Leaf>,
    /// A managed certificate for a person or program.
    pub client_cert: Option<Vec<ClientCert>>,
    /// Certificate files of the operator's own, used where `client` or `peer` is `files`.
    pub files: Option<Files>,
}

/// The managed certificate authority.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ca {
    /// Directory on the operator's side; a relative path starts at the cluster file.
    #[schemars(extend("default" = "pki"))]
    pub dir: Option<At<String>>,
    /// Key of the authority.
    #[schemars(extend("default" = "ecdsa-p256"))]
    pub key: Option<Choice<KeyKind>>,
    /// Validity of its certificate, such as `10y`.
    #[schemars(extend("default" = "10y"))]
    pub validity: Option<At<String>>,
    /// Encryption of the CA key at rest. Default: none.
    pub encryption: Option<Encryption>,
}

/// Encryption of the CA key by age: a passphrase, or a recipient and the identity that opens it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["passphrase"]}, {"required": ["recipient", "identity"]}]))]
pub struct Encryption {
    /// age passphrase.
    pub passphrase: Option<Secret>,
    /// age X25519 recipient, `age1…`.
    pub recipient: Option<At<String>>,
    /// Where the matching `AGE-SECRET-KEY-1…` line comes from.
    pub identity: Option<Secret>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) broken: bool,
}

/// Managed certificates of members and people.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leaf {
    /// Key of each certificate.
    #[schemars(extend("default" = "ecdsa-p256"))]
    pub key: Option<Choice<KeyKind>>,
    /// Validity, such as `1y`, `90d` or `43800h`.
    #[schemars(extend("default" = "1y"))]
    pub validity: Option<At<String>>,
    /// Renewal is planned when less than this is left.
    #[schemars(extend("default" = "30d"))]
    pub renew_before: Option<At<String>>,
}

/// A managed certificate for a person or program.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCert {
    /// Common name, which is the etcd user's name.
    #[schemars(required)]
    pub name: Option<At<String>>,
    /// Validity. Default: that of `leaf`.
    pub validity: Option<At<String>>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
}

/// Certificate files of the operator's own. `{node}` in a path is the node's name; relative paths start at
/// the cluster file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// CA bundle.
    #[schemars(required)]
    pub ca: Option<At<String>>,
    /// Server certificate of each node.
    pub server_cert: Option<At<String>>,
    /// Key of the server certificate.
    pub server_key: Option<At<String>>,
    /// Peer certificate of each node.
    pub peer_cert: Option<At<String>>,
    /// Key of the peer certificate.
    pub peer_key: Option<At<String>>,
    /// Client certificate of the operator, best with common name `root`.
    pub client_cert: Option<At<String>>,
    /// Key of the operator's client certificate.
    pub client_key: Option<At<String>>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
}

pub(crate) fn read(mut table: Section<'_>, sink: &mut Sink) -> Option<Tls> {
    let ca = table
        .take_table("ca", sink)
        .and_then(|t| read_ca(t, sink))
        .ok();
    let leaf = table
        .take_table("leaf", sink)
        .and_then(|t| t.finish::<Leaf>(sink))
        .ok();
    let client_cert = table
        .take_tables("client_cert", sink)
        .into_iter()
        .flatten()
        .filter_map(|t| {
            let header = t.span.clone();
            t.finish::<ClientCert>(sink)
                .map(|c| ClientCert { header, ..c })
        })
        .collect();
    let files = table
        .take_table("files", sink)
        .and_then(|t| {
            let header = t.span.clone();
            t.finish::<Files>(sink).map(|f| Files { header, ..f })
        })
        .ok();
    let tls = table.finish::<Tls>(sink)?;
    Some(Tls {
        ca,
        leaf,
        client_cert: Some(client_cert),
        files,
        ..tls
    })
}

fn read_ca(mut table: Section<'_>, sink: &mut Sink) -> Option<Ca> {
    let encryption = table.take_table("encryption", sink).and_then(|mut t| {
        let header = t.key_span.clone();
        let passphrase = secret::take(&mut t, "passphrase", sink);
        let identity = secret::take(&mut t, "identity", sink);
        let broken = matches!(passphrase, crate::desired::read::Taken::Broken)
            || matches!(identity, crate::desired::read::Taken::Broken);
        let encryption = t.finish::<Encryption>(sink)?;
        Some(Encryption {
            passphrase: passphrase.ok(),
            identity: identity.ok(),
            header,
            broken,
            ..encryption
        })
    });
    let ca = table.finish::<Ca>(sink)?;
    Some(Ca {
        encryption: encryption.ok(),
        ..ca
    })
}
