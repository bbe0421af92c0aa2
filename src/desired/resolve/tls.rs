//! `[tls]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::etcd::choose;
use super::{Paths, values};
use crate::desired::diagnostic::Sink;
use crate::desired::file::tls as file;
use crate::desired::model::{
    CaEncryption, CaSpec, ClientCert, KeyKind, LeafSpec, Tls, TlsFiles, TlsMode,
};
use crate::desired::read::{At, Span};

const DAY: u64 = 86_400;
/// humantime's year, so that `"1y"` in the file is the default.
const YEAR: u64 = 31_557_600;

pub(crate) fn resolve(
    table: Option<&file::Tls>,
    paths: &Paths<'_>,
    sink: &mut Sink,
) -> Option<Tls> {
    let Some(table) = table else {
        return Some(Tls {
            client: TlsMode::Off,
            peer: TlsMode::Off,
            ca: ca_defaults(paths),
            leaf: leaf_defaults(),
            client_certs: Vec::new(),
            files: None,
        });
    };
    let client = choose(table.client.as_ref(), TlsMode::Off, sink);
    let peer = choose(table.peer.as_ref(), TlsMode::Off, sink);
    let ca = ca(table.ca.as_ref(), paths, sink);
    let leaf = leaf(table.leaf.as_ref(), sink);
    if let (Some(ca), Some(leaf)) = (&ca, &leaf) {
        leaf_within_ca(table, ca, leaf, sink);
    }
    let client_certs = client_certs(table, ca.as_ref(), client, sink);
    let modes = [client, peer];
    let files = match &table.files {
        None => {
            for (mode, at) in [(client, &table.client), (peer, &table.peer)] {
                if let (Some(TlsMode::Files), Some(at)) = (mode, at) {
                    sink.error("missing table", at.span())
                        .label("needs [tls.files], with the paths");
                    return None;
                }
            }
            None
        }
        Some(files) => {
            if !modes.contains(&Some(TlsMode::Files)) && modes.iter().all(Option::is_some) {
                sink.warning("unused table", &files.header)
                    .label("neither `client` nor `peer` is `files`");
            }
            Some(self::files(files, client, peer, paths, sink)?)
        }
    };
    let (client, peer) = (client?, peer?);
    let uses_authority = client == TlsMode::Managed || peer == TlsMode::Managed;
    if !uses_authority {
        let unused = [
            (
                table
                    .ca
                    .as_ref()
                    .and_then(|c| c.dir.as_ref())
                    .map(|d| d.span.clone()),
                "`ca`",
            ),
            (
                table
                    .leaf
                    .as_ref()
                    .and_then(|l| l.validity.as_ref())
                    .map(|v| v.span.clone()),
                "`leaf`",
            ),
        ];
        for (span, what) in unused {
            if let Some(span) = span {
                sink.warning("unused key", &span).label(format!(
                    "{what} has no effect: neither `client` nor `peer` is `managed`"
                ));
            }
        }
    }
    Some(Tls {
        client,
        peer,
        ca: ca?,
        leaf: leaf?,
        client_certs: client_certs?,
        files,
    })
}

fn ca_defaults(paths: &Paths<'_>) -> CaSpec {
    CaSpec {
        dir: paths.base_dir.join("pki"),
        key: KeyKind::EcdsaP256,
        validity: Duration::from_secs(10 * YEAR),
        encryption: None,
    }
}

fn leaf_defaults() -> LeafSpec {
    LeafSpec {
        key: KeyKind::EcdsaP256,
        validity: Duration::from_secs(YEAR),
        renew_before: Duration::from_secs(30 * DAY),
    }
}

fn ca(table: Option<&file::Ca>, paths: &Paths<'_>, sink: &mut Sink) -> Option<CaSpec> {
    let defaults = ca_defaults(paths);
    let Some(table) = table else {
        return Some(defaults);
    };
    let dir = table
        .dir
        .as_ref()
        .map_or(Some(defaults.dir), |d| values::local_path(d, paths, sink));
    let key = choose(table.key.as_ref(), defaults.key, sink);
    let validity = table
        .validity
        .as_ref()
        .map_or(Some(defaults.validity), |v| values::duration(v, sink));
    let encryption = match &table.encryption {
        None => Some(None),
        Some(table) => encryption(table, paths, sink).map(Some),
    };
    Some(CaSpec {
        dir: dir?,
        key: key?,
        validity: validity?,
        encryption: encryption?,
    })
}

fn encryption(
    table: &file::Encryption,
    paths: &Paths<'_>,
    sink: &mut Sink,
) -> Option<CaEncryption> {
    if table.broken {
        return None;
    }
    match (&table.passphrase, &table.recipient, &table.identity) {
        (Some(passphrase), None, None) => {
            values::secret(passphrase, paths, sink).map(CaEncryption::Passphrase)
        }
        (None, Some(recipient), Some(identity)) => {
            let good = recipient.value.len() == 62
                && recipient.value.starts_with("age1")
                && recipient
                    .value
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            if !good {
                sink.error("bad recipient", &recipient.span)
                    .label("expected an age X25519 recipient: `age1` and 58 characters");
            }
            let identity = values::secret(identity, paths, sink)?;
            good.then(|| CaEncryption::Recipient {
                recipient: recipient.value.clone(),
                identity,
            })
        }
        _ => {
            sink.error("bad encryption", &table.header)
                .label("expected either `passphrase`, or `recipient` and `identity`");
            None
        }
    }
}

fn leaf(table: Option<&file::Leaf>, sink: &mut Sink) -> Option<LeafSpec> {
    let defaults = leaf_defaults();
    let Some(table) = table else {
        return Some(defaults);
    };
    let key = choose(table.key.as_ref(), defaults.key, sink);
    let validity = table
        .validity
        .as_ref()
        .map_or(Some(defaults.validity), |v| values::duration(v, sink));
    // A short validity would otherwise contradict a default that nobody wrote.
    let default_renewal =
        validity.map_or(defaults.renew_before, |v| defaults.renew_before.min(v / 3));
    let renew_before = table
        .renew_before
        .as_ref()
        .map_or(Some(default_renewal), |v| values::duration(v, sink));
    let leaf = LeafSpec {
        key: key?,
        validity: validity?,
        renew_before: renew_before?,
    };
    if leaf.renew_before >= leaf.validity
        && let Some(at) = &table.renew_before
    {
        let error = sink
            .error("bad validity", &at.span)
            .label("not shorter than the validity: every certificate would always be due");
        if let Some(validity) = &table.validity {
            error.also(&validity.span, "the validity");
        }
        return None;
    }
    Some(leaf)
}

fn leaf_within_ca(table: &file::Tls, ca: &CaSpec, leaf: &LeafSpec, sink: &mut Sink) {
    if leaf.validity <= ca.validity {
        return;
    }
    let leaf_at = table.leaf.as_ref().and_then(|l| l.validity.as_ref());
    let ca_at = table.ca.as_ref().and_then(|c| c.validity.as_ref());
    let Some(at) = leaf_at.or(ca_at) else { return };
    let error = sink
        .error("bad validity", &at.span)
        .label("a certificate would outlive its authority");
    if let (Some(_), Some(ca)) = (leaf_at, ca_at) {
        error.also(&ca.span, "the authority's validity");
    }
}

fn client_certs(
    table: &file::Tls,
    ca: Option<&CaSpec>,
    mode: Option<TlsMode>,
    sink: &mut Sink,
) -> Option<Vec<ClientCert>> {
    let mut first: BTreeMap<&str, &Span> = BTreeMap::new();
    let mut certs = Vec::new();
    let mut good = true;
    for cert in table.client_cert.iter().flatten() {
        let Some(name) = values::require(cert.name.as_ref(), "name", &cert.header, sink) else {
            good = false;
            continue;
        };
        // The name is also the file's.
        let fits = (1..=64).contains(&name.value.len())
            && !name.value.starts_with(['.', '-'])
            && name
                .value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._@-".contains(c));
        if !fits {
            good = false;
            sink.error("bad name", &name.span)
                .label("expected letters, digits, `.`, `_`, `@` and `-`");
        }
        if let Some(other) = first.insert(&name.value, &name.span) {
            good = false;
            sink.error("duplicate name", &name.span)
                .label("two certificates have it")
                .also(other, "first here");
        }
        let validity = cert
            .validity
            .as_ref()
            .map(|v| (v, values::duration(v, sink)));
        if let Some((_, None)) = validity {
            good = false;
        }
        if let (Some((at, Some(validity))), Some(ca)) = (&validity, ca)
            && *validity > ca.validity
        {
            good = false;
            sink.error("bad validity", &at.span)
                .label("the certificate would outlive its authority");
        }
        if mode.is_some_and(|m| m != TlsMode::Managed) {
            sink.warning("unused table", &cert.header)
                .label("issued only where `client` is `managed`");
        }
        certs.push(ClientCert {
            name: name.value.clone(),
            validity: validity.and_then(|(_, v)| v),
        });
    }
    certs.sort_by(|a, b| a.name.cmp(&b.name));
    good.then_some(certs)
}

fn files(
    table: &file::Files,
    client: Option<TlsMode>,
    peer: Option<TlsMode>,
    paths: &Paths<'_>,
    sink: &mut Sink,
) -> Option<TlsFiles> {
    let is_files = |mode| mode == Some(TlsMode::Files);
    let any = is_files(client) || is_files(peer);
    let mut good = true;
    let mut path = |at: &Option<At<String>>,
                    key: &str,
                    needed: bool,
                    per_node: bool,
                    sink: &mut Sink| match at {
        Some(at) => match file_path(at, per_node, paths, sink) {
            Some(path) => path,
            None => {
                good = false;
                String::new()
            }
        },
        None => {
            if needed {
                good = false;
                sink.error("missing key", &table.header)
                    .label(format!("needs `{key}`"));
            }
            String::new()
        }
    };
    let files = TlsFiles {
        ca: path(&table.ca, "ca", any, false, sink),
        server_cert: path(
            &table.server_cert,
            "server_cert",
            is_files(client),
            true,
            sink,
        ),
        server_key: path(
            &table.server_key,
            "server_key",
            is_files(client),
            true,
            sink,
        ),
        peer_cert: path(&table.peer_cert, "peer_cert", is_files(peer), true, sink),
        peer_key: path(&table.peer_key, "peer_key", is_files(peer), true, sink),
        client_cert: path(
            &table.client_cert,
            "client_cert",
            is_files(client),
            false,
            sink,
        ),
        client_key: path(
            &table.client_key,
            "client_key",
            is_files(client),
            false,
            sink,
        ),
    };
    good.then_some(files)
}

fn file_path(
    at: &At<String>,
    per_node: bool,
    paths: &Paths<'_>,
    sink: &mut Sink,
) -> Option<String> {
    let rest = at.value.replace("{node}", "");
    if rest.contains(['{', '}']) || (!per_node && rest != at.value) {
        sink.error("unknown placeholder", &at.span)
            .label(if per_node {
                "known is {node}, the name of the node"
            } else {
                "it is one file for all nodes"
            });
        return None;
    }
    let path = values::local_path(at, paths, sink)?;
    match path.to_str() {
        Some(path) => Some(path.to_owned()),
        None => {
            sink.error("bad path", &at.span)
                .label("the cluster file's directory is not UTF-8");
            None
        }
    }
}
