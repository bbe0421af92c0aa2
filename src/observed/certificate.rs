//! Certificates as facts: what one says, and who signed it.
//!
//! Nothing here touches files or the clock; PEM text comes in, facts go out.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
};
use x509_parser::parse_x509_certificate;
use x509_parser::pem::Pem;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::desired::model::KeyKind;

mod wanted;

pub use wanted::{Names, Profile, ReissueReason, Wanted, member_names};

/// What a certificate says, without judgement.
///
/// `spki_sha256` is the digest of the public key as the certificate carries it (DER of
/// `SubjectPublicKeyInfo`): two certificates share it exactly when they share the key. It can be
/// compared with that of a private key only where the key can be read, which is on the operator's
/// side; a host may have no tool to derive it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateFacts {
    /// Common name of the subject; empty when it has none.
    pub common_name: String,
    /// DNS names, lower case.
    pub dns: BTreeSet<String>,
    /// IP addresses.
    pub ips: BTreeSet<IpAddr>,
    /// Alternative names of any other kind, such as `URI:spiffe://…`.
    pub other_names: BTreeSet<String>,
    /// Distinguished name of the issuer, for people.
    pub issuer: String,
    /// Authority key identifier, hex.
    pub authority_key_id: Option<String>,
    /// Subject key identifier, hex.
    pub subject_key_id: Option<String>,
    /// Serial number, hex without leading zero bytes.
    pub serial: String,
    /// Start of the validity, Unix seconds.
    pub not_before: i64,
    /// End of the validity, Unix seconds.
    pub not_after: i64,
    /// Extended key usages: `serverAuth`, `clientAuth`, `anyExtendedKeyUsage`, or a dotted OID.
    pub extended_key_usages: BTreeSet<String>,
    /// Kind of the public key.
    pub key: PublicKeyKind,
    /// SHA-256 of the whole certificate, hex.
    pub fingerprint_sha256: String,
    /// SHA-256 of the public key, hex.
    pub spki_sha256: String,
    /// Whether it may sign certificates (basic constraints).
    pub is_ca: bool,
    /// The certificate itself, for signature checks.
    #[serde(skip)]
    der: Der,
}

impl CertificateFacts {
    /// The certificate's DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.der.0
    }
}

/// Certificate bytes that do not flood debug output.
#[derive(Clone, PartialEq, Eq)]
struct Der(Vec<u8>);

impl fmt::Debug for Der {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Der({} bytes)", self.0.len())
    }
}

/// Kind of a public key that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PublicKeyKind {
    /// One that Quorate can issue.
    Known(KeyKind),
    /// Any other, in words.
    Other(String),
}

impl fmt::Display for PublicKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Known(KeyKind::Rsa2048) => "rsa-2048",
            Self::Known(KeyKind::EcdsaP256) => "ecdsa-p256",
            Self::Known(KeyKind::EcdsaP384) => "ecdsa-p384",
            Self::Other(words) => words,
        })
    }
}

/// A certificate that was found, and whose signature it bears. Checking a signature is most of what judging a certificate
/// costs, so it is done once, where the certificate is read, for all hosts in parallel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundCertificate {
    /// What it says.
    pub facts: CertificateFacts,
    /// Fingerprint of the authority that signed it, of those that are known here.
    signed_by: Option<String>,
}

impl FoundCertificate {
    /// Checks its signature against an authority, current and former ones.
    pub fn new(facts: CertificateFacts, authority: Option<&CaFacts>) -> Self {
        let signed_by = authority
            .into_iter()
            .flat_map(|ca| std::iter::once(&ca.current).chain(&ca.former))
            .find(|ca| verify_issued_by(&facts, ca))
            .map(|ca| ca.fingerprint_sha256.clone());
        Self { facts, signed_by }
    }

    /// Whether this authority is the one that signed it.
    fn is_signed_by(&self, ca: &CertificateFacts) -> bool {
        self.signed_by.as_ref() == Some(&ca.fingerprint_sha256)
    }
}

/// [`FoundCertificate::reasons_to_issue`] for a single certificate, whose signature is checked now.
pub fn reasons_to_issue(
    found: &CertificateFacts,
    wanted: &Wanted,
    ca: &CaFacts,
    now: OffsetDateTime,
) -> Vec<ReissueReason> {
    FoundCertificate::new(found.clone(), Some(ca)).reasons_to_issue(wanted, ca, now)
}

/// The authority as its certificate file tells: the current one, and those that are still trusted
/// while a rotation is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaFacts {
    /// The one that signs.
    pub current: CertificateFacts,
    /// Further certificates of the bundle, in its order.
    pub former: Vec<CertificateFacts>,
    /// SHA-256 of the whole bundle as it was read, hex: members are to trust that and nothing else.
    pub sha256: String,
}

impl CaFacts {
    /// Facts of a bundle of PEM certificates, the first of which is current.
    ///
    /// # Errors
    /// In words, when a block does not parse, there is none, or one of them is no authority.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let mut all = parse_bundle(pem)?;
        if let Some(wrong) = all.iter().find(|facts| !facts.is_ca) {
            return Err(format!(
                "the certificate of `{}` is not one of an authority (no CA:TRUE)",
                wrong.common_name
            ));
        }
        let former = all.split_off(1);
        match all.pop() {
            Some(current) => Ok(Self {
                current,
                former,
                sha256: sha256_hex(pem.as_bytes()),
            }),
            None => Err("there is no certificate in it".to_owned()),
        }
    }
}

/// Reads the first certificate of a PEM text; what precedes and follows it is ignored.
///
/// # Errors
/// In words, when there is none or it does not parse.
pub fn parse_certificate(pem: &str) -> Result<CertificateFacts, String> {
    certificates(pem)
        .next()
        .unwrap_or_else(|| Err("there is no certificate in it".to_owned()))
}

/// Reads every certificate of a PEM text; at least one.
///
/// # Errors
/// In words, when there is none or one does not parse.
pub fn parse_bundle(pem: &str) -> Result<Vec<CertificateFacts>, String> {
    let all = certificates(pem).collect::<Result<Vec<_>, _>>()?;
    if all.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(all)
}

/// Whether `ca` may sign and did sign `leaf`: names, key identifiers and the signature itself.
pub fn verify_issued_by(leaf: &CertificateFacts, ca: &CertificateFacts) -> bool {
    let (Ok((_, signed)), Ok((_, signer))) = (
        parse_x509_certificate(leaf.der()),
        parse_x509_certificate(ca.der()),
    ) else {
        return false;
    };
    // etcd's TLS compares the encoded names byte by byte, so do we.
    ca.is_ca
        && signed.issuer().as_raw() == signer.subject().as_raw()
        && match (&leaf.authority_key_id, &ca.subject_key_id) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        }
        // RFC 5280 4.1.1.2; the algorithm outside of the signed part is under no signature.
        && signed.signature_algorithm == signed.tbs_certificate.signature
        && signed.verify_signature(Some(signer.public_key())).is_ok()
}

/// Hex SHA-256.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn certificates(pem: &str) -> impl Iterator<Item = Result<CertificateFacts, String>> + '_ {
    let mut broken = false;
    Pem::iter_from_buffer(pem.as_bytes())
        .take_while(move |block| {
            // The reader may not advance past a block that it cannot read.
            let go_on = !broken;
            broken = block.is_err();
            go_on
        })
        .filter_map(|block| match block {
            Ok(block) if block.label == "CERTIFICATE" => Some(facts(&block.contents)),
            Ok(_) => None,
            Err(error) => Some(Err(format!("it is not readable PEM: {error}"))),
        })
}

fn facts(der: &[u8]) -> Result<CertificateFacts, String> {
    let (rest, certificate) = parse_x509_certificate(der)
        .map_err(|error| format!("the certificate does not parse: {error}"))?;
    if !rest.is_empty() {
        return Err("the certificate is followed by other bytes".to_owned());
    }
    let mut facts = CertificateFacts {
        common_name: common_name(certificate.subject()),
        dns: BTreeSet::new(),
        ips: BTreeSet::new(),
        other_names: BTreeSet::new(),
        issuer: certificate.issuer().to_string(),
        authority_key_id: None,
        subject_key_id: None,
        serial: serial(certificate.raw_serial()),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        extended_key_usages: BTreeSet::new(),
        key: key_kind(certificate.public_key()),
        fingerprint_sha256: sha256_hex(der),
        spki_sha256: sha256_hex(certificate.public_key().raw),
        is_ca: certificate.is_ca(),
        der: Der(der.to_vec()),
    };
    read_extensions(&certificate, &mut facts)?;
    Ok(facts)
}

fn read_extensions(
    certificate: &X509Certificate<'_>,
    facts: &mut CertificateFacts,
) -> Result<(), String> {
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                facts.authority_key_id = id.key_identifier.as_ref().map(|id| hex::encode(id.0));
            }
            ParsedExtension::SubjectKeyIdentifier(id) => {
                facts.subject_key_id = Some(hex::encode(id.0));
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let named = [
                    (usage.any, "anyExtendedKeyUsage"),
                    (usage.server_auth, "serverAuth"),
                    (usage.client_auth, "clientAuth"),
                    (usage.code_signing, "codeSigning"),
                    (usage.email_protection, "emailProtection"),
                    (usage.time_stamping, "timeStamping"),
                    (usage.ocsp_signing, "OCSPSigning"),
                ];
                let set = named.iter().filter(|(set, _)| *set);
                facts
                    .extended_key_usages
                    .extend(set.map(|(_, name)| (*name).to_owned()));
                facts
                    .extended_key_usages
                    .extend(usage.other.iter().map(ToString::to_string));
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    read_name(name, facts);
                }
            }
            ParsedExtension::ParseError { .. } => {
                return Err(format!(
                    "its extension {} does not parse",
                    extension.oid.to_id_string()
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_name(name: &GeneralName<'_>, facts: &mut CertificateFacts) {
    match name {
        GeneralName::DNSName(name) => {
            facts.dns.insert(name.to_ascii_lowercase());
        }
        GeneralName::IPAddress(bytes) => {
            if let Ok(four) = <[u8; 4]>::try_from(*bytes) {
                facts.ips.insert(IpAddr::from(four));
            } else if let Ok(sixteen) = <[u8; 16]>::try_from(*bytes) {
                facts.ips.insert(IpAddr::from(sixteen));
            } else {
                facts
                    .other_names
                    .insert(format!("IP:{}", hex::encode(bytes)));
            }
        }
        GeneralName::URI(uri) => {
            facts.other_names.insert(format!("URI:{uri}"));
        }
        GeneralName::RFC822Name(mail) => {
            facts.other_names.insert(format!("email:{mail}"));
        }
        GeneralName::DirectoryName(name) => {
            facts.other_names.insert(format!("dirName:{name}"));
        }
        GeneralName::RegisteredID(oid) | GeneralName::OtherName(oid, _) => {
            facts
                .other_names
                .insert(format!("otherName:{}", oid.to_id_string()));
        }
        GeneralName::X400Address(_) | GeneralName::EDIPartyName(_) | GeneralName::Invalid(..) => {
            facts.other_names.insert("unreadable name".to_owned());
        }
    }
}

fn common_name(name: &X509Name<'_>) -> String {
    name.iter_common_name()
        .next()
        .and_then(|cn| cn.as_str().ok())
        .unwrap_or_default()
        .to_owned()
}

fn serial(raw: &[u8]) -> String {
    let start = raw.iter().position(|byte| *byte != 0).unwrap_or(raw.len());
    hex::encode(&raw[start..])
}

fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> PublicKeyKind {
    let algorithm = &spki.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        return match spki.parsed() {
            Ok(PublicKey::RSA(key)) if key.key_size() == 2048 => {
                PublicKeyKind::Known(KeyKind::Rsa2048)
            }
            Ok(PublicKey::RSA(key)) => PublicKeyKind::Other(format!("rsa-{}", key.key_size())),
            _ => PublicKeyKind::Other("unreadable rsa".to_owned()),
        };
    }
    let curve = spki
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok());
    match curve {
        Some(curve) if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
            if curve == OID_EC_P256 {
                PublicKeyKind::Known(KeyKind::EcdsaP256)
            } else if curve == OID_NIST_EC_P384 {
                PublicKeyKind::Known(KeyKind::EcdsaP384)
            } else {
                PublicKeyKind::Other(format!("ecdsa on {}", curve.to_id_string()))
            }
        }
        _ => PublicKeyKind::Other(algorithm.to_id_string()),
    }
}
