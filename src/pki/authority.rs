//! The authority: made once, opened to issue.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose,
};
use secrecy::ExposeSecret as _;
use time::{OffsetDateTime, UtcOffset};

use super::error::PkiError;
use super::files::{self, PRIVATE, PUBLIC};
use super::key::PrivateKey;
use super::leaf::{serial_number, start};
use super::protection::KeyProtection;
use crate::desired::model::KeyKind;
use crate::observed::certificate::{CaFacts, CertificateFacts};

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const ENCRYPTED_KEY: &str = "ca.key.age";
const SUFFIX: &str = " CA";
/// RFC 5280, upper bound of a common name (`ub-common-name`).
pub(super) const LONGEST_COMMON_NAME: usize = 64;

/// What a new authority is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewAuthority<'a> {
    /// Name of the cluster; ` CA` is added for the common name.
    pub cluster: &'a str,
    /// Its key.
    pub key: KeyKind,
    /// How long its certificate is valid from now.
    pub validity: Duration,
}

/// The public half of an authority: enough to judge certificates, not to issue any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityCertificate {
    path: PathBuf,
    pem: String,
    facts: CaFacts,
}

impl AuthorityCertificate {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole bundle, as members are to trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What it says.
    pub fn facts(&self) -> &CaFacts {
        &self.facts
    }

    /// The certificate that signs.
    pub fn current(&self) -> &CertificateFacts {
        &self.facts.current
    }
}

/// An authority with its key open. The key is wiped on drop, and there is no debug output:
///
/// ```compile_fail
/// fn show<T: std::fmt::Debug>() {}
/// show::<quorate::pki::Authority>();
/// ```
pub struct Authority {
    certificate: AuthorityCertificate,
    key: PrivateKey,
}

impl Authority {
    /// Reads `ca.crt` of the directory, which may hold several certificates, the current one first;
    /// none when it is not there. No key is touched.
    ///
    /// # Errors
    /// When the file cannot be read, or anything in it is not the certificate of an authority.
    pub fn load_certificate(dir: &Path) -> Result<Option<AuthorityCertificate>, PkiError> {
        files::check_directory(dir)?;
        let path = dir.join(CERTIFICATE);
        let Some(pem) = files::read_public(&path)? else {
            return Ok(None);
        };
        match CaFacts::parse(&pem) {
            Ok(facts) => Ok(Some(AuthorityCertificate { path, pem, facts })),
            Err(why) => Err(PkiError::Malformed { path, why }),
        }
    }

    /// Opens the authority of the directory, only to issue.
    ///
    /// # Errors
    /// When certificate or key are missing, do not belong together, or the key is readable by
    /// others or does not open.
    pub fn open_key(dir: &Path, protection: &KeyProtection) -> Result<Self, PkiError> {
        let certificate = Self::load_certificate(dir)?.ok_or_else(|| PkiError::NoAuthority {
            dir: dir.to_path_buf(),
        })?;
        let (path, key) = read_key(dir, protection)?;
        match key {
            Some(key) => Self::join(certificate, key, path),
            None => Err(PkiError::KeyMissing {
                certificate: certificate.path,
                key: path,
            }),
        }
    }

    /// Opens the authority of the directory, or makes one where there is none.
    ///
    /// Safe for two operators at once: key and certificate are each put in place whole and only
    /// where there was none, the key first, so whoever comes second takes over what the first has
    /// put there. A key without certificate, which an interruption in between leaves, gets one.
    /// Nothing is ever overwritten.
    ///
    /// # Errors
    /// As of [`Authority::open_key`]; when a new key cannot be protected as asked; when the
    /// directory cannot be written to.
    pub fn create_or_open(
        dir: &Path,
        new: &NewAuthority<'_>,
        protection: &KeyProtection,
        now: OffsetDateTime,
    ) -> Result<Self, PkiError> {
        files::ensure_directory(dir)?;
        if Self::load_certificate(dir)?.is_some() {
            return Self::open_key(dir, protection);
        }
        // Before a key is made that would be left without certificate.
        let end = end(new.validity, now)?;
        let (path, key) = match read_key(dir, protection)? {
            (path, Some(key)) => (path, key),
            (path, None) => {
                let content = {
                    let key = PrivateKey::generate(new.key)?;
                    protection.seal(key.to_pem().expose_secret().as_bytes())?
                };
                files::publish(&path, &content, PRIVATE)?;
                // What counts is what is there now: ours, or that of whoever was first. It also
                // shows that what was written can be opened.
                match read_key(dir, protection)? {
                    (path, Some(key)) => (path, key),
                    (path, None) => return Err(vanished(path)),
                }
            }
        };
        let pem = self_signed(new, &key, now, end)?;
        let cert_path = dir.join(CERTIFICATE);
        files::publish(&cert_path, pem.as_bytes(), PUBLIC)?;
        let certificate = Self::load_certificate(dir)?.ok_or_else(|| vanished(cert_path))?;
        Self::join(certificate, key, path)
    }

    fn join(
        certificate: AuthorityCertificate,
        key: PrivateKey,
        key_path: PathBuf,
    ) -> Result<Self, PkiError> {
        if key.spki_sha256() == certificate.current().spki_sha256 {
            Ok(Self { certificate, key })
        } else {
            Err(PkiError::KeyMismatch {
                key: key_path,
                certificate: certificate.path,
            })
        }
    }

    /// The public half.
    pub fn certificate(&self) -> &AuthorityCertificate {
        &self.certificate
    }

    pub(super) fn key(&self) -> &PrivateKey {
        &self.key
    }
}

/// Reads the key that the directory has; with its path, or the one it would have.
fn read_key(
    dir: &Path,
    protection: &KeyProtection,
) -> Result<(PathBuf, Option<PrivateKey>), PkiError> {
    let (plain, encrypted) = (dir.join(KEY), dir.join(ENCRYPTED_KEY));
    let (is_plain, is_encrypted) = (files::exists(&plain)?, files::exists(&encrypted)?);
    let wants_plain = matches!(protection, KeyProtection::Plain);
    if is_plain && is_encrypted {
        return Err(PkiError::TwoKeys { plain, encrypted });
    }
    if is_plain && !wants_plain {
        return Err(PkiError::KeyIsPlain {
            path: plain,
            encrypted,
            option: protection.age_option(),
        });
    }
    if is_encrypted && wants_plain {
        return Err(PkiError::KeyIsEncrypted { path: encrypted });
    }
    let (path, pem) = if wants_plain {
        let pem = files::read_private(&plain)?;
        (plain, pem)
    } else {
        // Made to be under version control, which does not keep modes: anybody may read it.
        let pem = match files::read_public(&encrypted)? {
            Some(sealed) => Some(protection.unseal(sealed.as_bytes(), &encrypted)?),
            None => None,
        };
        (encrypted, pem)
    };
    match pem.map(|pem| PrivateKey::from_pem(&pem)).transpose() {
        Ok(key) => Ok((path, key)),
        Err(why) => Err(PkiError::Malformed { path, why }),
    }
}

fn end(validity: Duration, now: OffsetDateTime) -> Result<OffsetDateTime, PkiError> {
    let unusable = |why| PkiError::BadValidity {
        what: "the authority",
        why,
    };
    if validity < Duration::from_secs(1) {
        return Err(unusable("it is zero"));
    }
    time::Duration::try_from(validity)
        .ok()
        .and_then(|validity| now.checked_add(validity))
        .and_then(|end| end.checked_to_offset(UtcOffset::UTC))
        .ok_or_else(|| unusable("it ends after the year 9999"))
}

fn self_signed(
    new: &NewAuthority<'_>,
    key: &PrivateKey,
    now: OffsetDateTime,
    end: OffsetDateTime,
) -> Result<String, PkiError> {
    let mut params = CertificateParams::default();
    params.not_before = start(now);
    params.not_after = end;
    params.serial_number = Some(serial_number()?);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name(new.cluster));
    // No authority below this one: it signs leaves only.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .self_signed(key.pair())
        .map(|certificate| certificate.pem())
        .map_err(|error| PkiError::Crypto {
            action: "sign the authority's certificate",
            why: error.to_string(),
        })
}

/// The cluster's name and ` CA`; the name is cut where a common name would be too long.
fn common_name(cluster: &str) -> String {
    let room = LONGEST_COMMON_NAME - SUFFIX.len();
    let name: String = cluster.chars().take(room).collect();
    name + SUFFIX
}

fn vanished(path: PathBuf) -> PkiError {
    PkiError::Io {
        action: "read",
        path,
        source: std::io::ErrorKind::NotFound.into(),
    }
}
