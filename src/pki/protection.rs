//! The authority's key at rest: plain, or encrypted by age.

use std::path::Path;

use age::{DecryptError, Identity, scrypt, x25519};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::error::PkiError;

/// Work factor for passphrases, the one age itself uses: about a second. Fixed, because measured on
/// a busy machine it would come out too low. An unoptimised build takes minutes for it.
const WORK_FACTOR: u8 = if cfg!(debug_assertions) { 10 } else { 18 };
/// The largest that is accepted; a file that wants more was made to keep us busy.
const LARGEST_WORK_FACTOR: u8 = 22;

/// How the key of the authority is protected at rest, with the secrets that open it.
pub enum KeyProtection {
    /// `ca.key`, by its mode alone.
    Plain,
    /// `ca.key.age`, by a passphrase.
    Passphrase(SecretString),
    /// `ca.key.age`, for an X25519 recipient.
    Recipient {
        /// `age1…`
        recipient: String,
        /// Text with the `AGE-SECRET-KEY-1…` line of that recipient; other lines are ignored.
        identity: SecretString,
    },
}

impl KeyProtection {
    /// Encrypts; the result is armored. Checked first is that it can be opened again.
    pub(super) fn seal(&self, plain: &[u8]) -> Result<Zeroizing<Vec<u8>>, PkiError> {
        let sealed = match self {
            Self::Plain => return Ok(Zeroizing::new(plain.to_vec())),
            Self::Passphrase(passphrase) => {
                if passphrase.expose_secret().is_empty() {
                    return Err(refused("the passphrase is empty"));
                }
                let mut recipient = scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK_FACTOR);
                age::encrypt_and_armor(&recipient, plain)
            }
            Self::Recipient {
                recipient,
                identity,
            } => {
                let parsed: x25519::Recipient = recipient
                    .trim()
                    .parse()
                    .map_err(|why| refused(&format!("`{recipient}` is no recipient: {why}")))?;
                let own = identities(identity).any(|id| id.to_public() == parsed);
                if !own {
                    return Err(refused(&format!(
                        "the identity is not that of {recipient}, so it could not open the key again"
                    )));
                }
                age::encrypt_and_armor(&parsed, plain)
            }
        };
        sealed
            .map(|text| Zeroizing::new(text.into_bytes()))
            .map_err(|why| refused(&why.to_string()))
    }

    /// Decrypts what was read from `path`.
    pub(super) fn unseal(
        &self,
        sealed: &[u8],
        path: &Path,
    ) -> Result<Zeroizing<Vec<u8>>, PkiError> {
        let opened = match self {
            Self::Plain => {
                return Err(PkiError::KeyIsEncrypted {
                    path: path.to_path_buf(),
                });
            }
            Self::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(LARGEST_WORK_FACTOR);
                decrypt(&mut std::iter::once(&identity as &dyn Identity), sealed)
            }
            Self::Recipient { identity, .. } => {
                let identities: Vec<_> = identities(identity).collect();
                decrypt(&mut identities.iter().map(|id| id as &dyn Identity), sealed)
            }
        };
        opened.map_err(|error| self.refusal(error, path))
    }

    fn refusal(&self, error: DecryptError, path: &Path) -> PkiError {
        let path = path.to_path_buf();
        match (error, self) {
            (
                DecryptError::NoMatchingKeys
                | DecryptError::KeyDecryptionFailed
                | DecryptError::DecryptionFailed,
                Self::Passphrase(_),
            ) => PkiError::WrongPassphrase { path },
            (DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed, _) => {
                PkiError::WrongIdentity { path }
            }
            // Its own words for this one speak of this machine's speed, which does not matter here.
            (DecryptError::ExcessiveWork { required, .. }, _) => PkiError::Malformed {
                path,
                why: format!(
                    "its passphrase work factor of {required} is above {LARGEST_WORK_FACTOR}"
                ),
            },
            (error, _) => PkiError::Malformed {
                path,
                why: format!("age cannot decrypt it: {error}"),
            },
        }
    }

    /// age's command line option that encrypts likewise.
    pub(super) fn age_option(&self) -> String {
        match self {
            Self::Recipient { recipient, .. } => format!("--recipient {recipient}"),
            _ => "--passphrase".to_owned(),
        }
    }
}

fn decrypt(
    identities: &mut dyn Iterator<Item = &dyn Identity>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    use std::io::Read as _;
    let decryptor = age::Decryptor::new_buffered(age::armor::ArmoredReader::new(sealed))?;
    let mut reader = decryptor.decrypt(identities)?;
    // As long as the plain text can be, so that it is never moved.
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len() + 64));
    reader.read_to_end(&mut plain).map_err(DecryptError::Io)?;
    Ok(plain)
}

fn identities(text: &SecretString) -> impl Iterator<Item = x25519::Identity> + '_ {
    let lines = text.expose_secret().lines().map(str::trim);
    lines.filter_map(|line| line.parse().ok())
}

fn refused(why: &str) -> PkiError {
    PkiError::Protection {
        why: why.to_owned(),
    }
}
