//! The operator's own certificate, a cache beside the authority.

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;

use super::authority::{Authority, AuthorityCertificate};
use super::error::PkiError;
use super::files::{self, PRIVATE};
use super::key::PrivateKey;
use super::leaf::{Issued, issue};
use crate::desired::model::KeyKind;
use crate::observed::certificate::{
    CertificateFacts, Names, Profile, ReissueReason, Wanted, parse_certificate, reasons_to_issue,
};

/// Its common name: etcd's user `root`, without whom authentication cannot be turned on.
pub const OPERATOR_NAME: &str = "root";
/// Its validity, 30 days.
pub const OPERATOR_VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// It is issued anew when less than 7 days are left.
pub const OPERATOR_RENEW_BEFORE: Duration = Duration::from_secs(7 * 86_400);

const CERTIFICATE: &str = "operator.crt";
const KEY: &str = "operator.key";

/// A certificate with which the tool speaks to etcd.
#[derive(Debug)]
pub struct OperatorCertificate {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key, PKCS8.
    pub key_pem: SecretString,
    /// What it says.
    pub facts: CertificateFacts,
    /// Why it should be issued anew; empty for one that is as it should be.
    pub reasons: Vec<ReissueReason>,
}

impl OperatorCertificate {
    /// Whether etcd would still take it, even if it should be issued anew.
    pub fn works(&self) -> bool {
        self.reasons.iter().all(|reason| {
            matches!(
                reason,
                ReissueReason::ExpiresSoon { .. }
                    | ReissueReason::KeyKindDiffers { .. }
                    | ReissueReason::ForeignAuthority { former: true, .. }
            )
        })
    }
}

/// Reads the cached certificate, without the authority's key; none when there is none, or when it
/// is no matching pair, as for a moment while somebody else replaces it.
///
/// # Errors
/// When a file cannot be read, or others can read the key.
pub fn load_operator(
    dir: &Path,
    ca: &AuthorityCertificate,
    key: KeyKind,
    now: OffsetDateTime,
) -> Result<Option<OperatorCertificate>, PkiError> {
    let (cert_path, key_path) = (dir.join(CERTIFICATE), dir.join(KEY));
    let Some((cert_pem, key_pem, facts)) = load_pair(&cert_path, &key_path)? else {
        return Ok(None);
    };
    let reasons = reasons_to_issue(&facts, &wanted(key), ca.facts(), now);
    Ok(Some(OperatorCertificate {
        cert_pem,
        key_pem,
        facts,
        reasons,
    }))
}

/// The operator's certificate: the cached one, or a new one in its place when that is missing,
/// foreign, not as wanted, or has less than [`OPERATOR_RENEW_BEFORE`] left. `open` is called only
/// to issue. Where it fails a cached one that still works will do; the second value says why there is
/// no new one.
///
/// # Errors
/// As of [`load_operator`], of `open` and of [`issue`]; when a file cannot be written.
pub fn ensure_operator(
    dir: &Path,
    ca: &AuthorityCertificate,
    key: KeyKind,
    now: OffsetDateTime,
    open: impl FnOnce() -> Result<Authority, PkiError>,
) -> Result<(OperatorCertificate, Option<PkiError>), PkiError> {
    let cached = load_operator(dir, ca, key, now)?;
    let cached = match cached {
        Some(cached) if cached.reasons.is_empty() => return Ok((cached, None)),
        cached => cached.filter(OperatorCertificate::works),
    };
    let authority = match (open(), cached) {
        (Ok(authority), _) => authority,
        // Who has no key, or no passphrase at hand, need not be kept from looking.
        (Err(error), Some(cached)) => return Ok((cached, Some(error))),
        (Err(error), None) => return Err(error),
    };
    let wanted = wanted(key);
    let issued = issue(
        &authority,
        wanted.profile,
        &wanted.names,
        key,
        wanted.validity,
        now,
    )?;
    replace_pair(&dir.join(CERTIFICATE), PRIVATE, &dir.join(KEY), &issued)?;
    // What is returned is what was issued, not what is on disk, where another operator may have
    // replaced one half by now. Whoever reads the mix finds no pair and issues again.
    let issued = OperatorCertificate {
        cert_pem: issued.cert_pem,
        key_pem: issued.key_pem,
        facts: issued.facts,
        reasons: Vec::new(),
    };
    Ok((issued, None))
}

/// Puts a certificate and its key in place of those that are there.
pub(super) fn replace_pair(
    cert_path: &Path,
    cert_mode: u32,
    key_path: &Path,
    issued: &Issued,
) -> Result<(), PkiError> {
    let key = issued.key_pem.expose_secret().as_bytes();
    files::replace_all(&[
        (key_path, key, PRIVATE),
        (cert_path, issued.cert_pem.as_bytes(), cert_mode),
    ])
}

/// Reads a certificate and its key; none when either is missing or they are no pair.
pub(super) fn load_pair(
    cert_path: &Path,
    key_path: &Path,
) -> Result<Option<(String, SecretString, CertificateFacts)>, PkiError> {
    let Some(cert_pem) = files::read_public(cert_path)? else {
        return Ok(None);
    };
    let Some(key) = files::read_private(key_path)? else {
        return Ok(None);
    };
    let (Ok(facts), Ok(key)) = (parse_certificate(&cert_pem), PrivateKey::from_pem(&key)) else {
        return Ok(None);
    };
    Ok((key.spki_sha256() == facts.spki_sha256).then(|| (cert_pem, key.to_pem(), facts)))
}

fn wanted(key: KeyKind) -> Wanted {
    Wanted {
        profile: Profile::Client,
        names: Names::only_cn(OPERATOR_NAME),
        key,
        validity: OPERATOR_VALIDITY,
        renew_before: OPERATOR_RENEW_BEFORE,
    }
}
