//! Private keys, wiped from memory when they are dropped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData as _};
use secrecy::SecretString;
use secrecy::zeroize::{Zeroize as _, Zeroizing};

use super::error::PkiError;
use crate::desired::model::KeyKind;
use crate::observed::certificate::sha256_hex;

/// A key pair that is wiped on drop and has no debug output.
pub struct PrivateKey(KeyPair);

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PrivateKey {
    /// A new key.
    pub fn generate(kind: KeyKind) -> Result<Self, PkiError> {
        let algorithm = match kind {
            // 2048 bits is what rcgen makes of this one.
            KeyKind::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
            KeyKind::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        };
        KeyPair::generate_for(algorithm)
            .map(Self)
            .map_err(|error| PkiError::Crypto {
                action: "generate a key",
                why: error.to_string(),
            })
    }

    /// Reads the first private key of a PEM text: PKCS8, and what cfssl and openssl write besides
    /// (SEC1, PKCS1).
    ///
    /// # Errors
    /// In words, without any of the text.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let pem = std::str::from_utf8(pem).map_err(|_| "it is not text".to_owned())?;
        let der = decode(pem)?;
        KeyPair::try_from(der.as_slice())
            .map(Self)
            .map_err(|_| "its private key is of a kind that is not supported".to_owned())
    }

    /// The key as PEM.
    pub fn to_pem(&self) -> SecretString {
        const HEAD: &str = "-----BEGIN PRIVATE KEY-----\n";
        const TAIL: &str = "-----END PRIVATE KEY-----\n";
        let lines = self.0.serialized_der().chunks(48);
        // Exactly as long as it will be, so that nothing is moved and left behind.
        let body: usize = lines
            .clone()
            .map(|line| line.len().div_ceil(3) * 4 + 1)
            .sum();
        let mut pem = String::with_capacity(HEAD.len() + body + TAIL.len());
        pem.push_str(HEAD);
        for line in lines {
            STANDARD.encode_string(line, &mut pem);
            pem.push('\n');
        }
        pem.push_str(TAIL);
        SecretString::from(pem)
    }

    /// SHA-256 of the public half, as in
    /// [`CertificateFacts::spki_sha256`](crate::observed::certificate::CertificateFacts::spki_sha256).
    pub fn spki_sha256(&self) -> String {
        sha256_hex(&self.0.subject_public_key_info())
    }

    /// The pair, for signing.
    pub fn pair(&self) -> &KeyPair {
        &self.0
    }
}

fn decode(pem: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    const KINDS: [&str; 3] = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];
    let none = || "there is no unencrypted PEM private key in it".to_owned();
    let (start, kind) = KINDS
        .iter()
        .filter_map(|kind| {
            let head = format!("-----BEGIN {kind}-----");
            pem.find(&head).map(|at| (at + head.len(), kind))
        })
        .min()
        .ok_or_else(none)?;
    let rest = &pem[start..];
    let end = rest
        .find(&format!("-----END {kind}-----"))
        .ok_or_else(none)?;
    let mut text = Zeroizing::new(String::with_capacity(end));
    text.extend(rest[..end].chars().filter(|c| !c.is_ascii_whitespace()));
    STANDARD
        .decode(text.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| "its private key is not valid base64".to_owned())
}
