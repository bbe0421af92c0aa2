//! Certificates that the authority issues.

use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use secrecy::SecretString;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::authority::{Authority, LONGEST_COMMON_NAME};
use super::error::PkiError;
use super::key::PrivateKey;
use crate::desired::model::KeyKind;
use crate::observed::certificate::{
    CertificateFacts, Names, Profile, parse_certificate, verify_issued_by,
};

/// How far the start of every validity lies in the past, for clocks that lag.
pub const BACKDATE: time::Duration = time::Duration::hours(1);

/// A certificate and its key.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key, PKCS8.
    pub key_pem: SecretString,
    /// What the certificate says.
    pub facts: CertificateFacts,
}

/// Issues a certificate with a new key, valid from [`BACKDATE`] before `now` until `validity` after
/// it, or until the authority ends if that is earlier.
///
/// # Errors
/// When a name cannot be in a certificate, the validity is zero, or the authority is not valid at
/// `now`.
pub fn issue(
    authority: &Authority,
    profile: Profile,
    names: &Names,
    kind: KeyKind,
    validity: Duration,
    now: OffsetDateTime,
) -> Result<Issued, PkiError> {
    let mut params = CertificateParams::default();
    params.not_before = start(now);
    params.not_after = end(authority, validity, now)?;
    params.serial_number = Some(serial_number()?);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, checked_common_name(&names.cn)?);
    params.subject_alt_names = alternative_names(names)?;
    params.is_ca = IsCa::ExplicitNoCa;
    // keyEncipherment means something for RSA only; cfssl sets both for every key, so do we.
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = match profile {
        Profile::Server | Profile::Peer => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
        Profile::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;

    let ca = authority.certificate().current();
    let failed = |error: rcgen::Error| PkiError::Crypto {
        action: "sign a certificate",
        why: error.to_string(),
    };
    let signer =
        Issuer::from_ca_cert_der(&ca.der().into(), authority.key().pair()).map_err(failed)?;
    let key = PrivateKey::generate(kind)?;
    let cert_pem = params.signed_by(key.pair(), &signer).map_err(failed)?.pem();
    let facts = parse_certificate(&cert_pem).map_err(|why| PkiError::Crypto {
        action: "read back a certificate",
        why,
    })?;
    // The issuer's name is encoded anew, which for the subject of an authority made elsewhere may
    // come out differently. Better found out here than by etcd.
    if !verify_issued_by(&facts, ca) {
        return Err(PkiError::Crypto {
            action: "sign a certificate",
            why: format!(
                "the subject of {} cannot be reproduced as an issuer",
                authority.certificate().path().display()
            ),
        });
    }
    Ok(Issued {
        cert_pem,
        key_pem: key.to_pem(),
        facts,
    })
}

/// A random serial number: 20 bytes, positive.
pub(super) fn serial_number() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|error| PkiError::Crypto {
        action: "get random bytes",
        why: error.to_string(),
    })?;
    // RFC 5280 4.1.2.2: positive and at most 20 bytes. The second bit keeps it at 20.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Where a validity starts that is issued now.
pub(super) fn start(now: OffsetDateTime) -> OffsetDateTime {
    let start = now.saturating_sub(BACKDATE);
    start.checked_to_offset(UtcOffset::UTC).unwrap_or(start)
}

fn end(
    authority: &Authority,
    validity: Duration,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, PkiError> {
    if validity < Duration::from_secs(1) {
        return Err(PkiError::BadValidity {
            what: "a certificate",
            why: "it is zero",
        });
    }
    let certificate = authority.certificate();
    let ca = certificate.current();
    let unix = now.unix_timestamp();
    let limit = OffsetDateTime::from_unix_timestamp(ca.not_after);
    match limit {
        Ok(limit) if ca.not_before <= unix && unix < ca.not_after => {
            let wanted = time::Duration::try_from(validity)
                .ok()
                .and_then(|validity| now.checked_add(validity))
                .and_then(|end| end.checked_to_offset(UtcOffset::UTC));
            Ok(wanted.map_or(limit, |wanted| wanted.min(limit)))
        }
        _ => Err(PkiError::AuthorityNotValid {
            path: certificate.path().to_path_buf(),
            not_before: date(ca.not_before),
            not_after: date(ca.not_after),
        }),
    }
}

fn date(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix.to_string())
}

fn checked_common_name(cn: &str) -> Result<&str, PkiError> {
    let why = if cn.is_empty() {
        "it is empty"
    } else if cn.chars().count() > LONGEST_COMMON_NAME {
        "it has more than 64 characters"
    } else if cn.chars().any(char::is_control) {
        "it has control characters"
    } else {
        return Ok(cn);
    };
    Err(PkiError::BadName {
        name: cn.to_owned(),
        place: "a common name",
        why,
    })
}

fn alternative_names(names: &Names) -> Result<Vec<SanType>, PkiError> {
    let dns = names.dns.iter().map(|name| {
        let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        Ia5String::try_from(name.as_str())
            .ok()
            .filter(|_| fits)
            .map(SanType::DnsName)
            .ok_or_else(|| PkiError::BadName {
                name: name.clone(),
                place: "a DNS name",
                why: "only ASCII without spaces is (write international names as xn--…)",
            })
    });
    let ips = names.ips.iter().map(|ip| Ok(SanType::IpAddress(*ip)));
    dns.chain(ips).collect()
}
