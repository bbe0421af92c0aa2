//! What can go wrong with certificate files, with the file and the remedy.

use std::io;
use std::path::PathBuf;

/// An error of the authority's directory or of issuing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, such as `read`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A private key that others can read.
    #[error("others can read the private key {} (mode {mode:04o}): run `chmod 600 {}`", path.display(), path.display())]
    LooseMode {
        /// The key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory in which anybody can put another authority.
    #[error("anybody can write to {}: run `chmod 700 {}`", path.display(), path.display())]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A symbolic link where a file has to be.
    #[error("{} is a symbolic link or no regular file: put the file itself there", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not what its name says.
    #[error("{} is not usable: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What opens the authority's key could not be had.
    #[error("{why}")]
    Secret {
        /// What is wrong with which reference.
        why: String,
    },
    /// There is no authority at all.
    #[error("there is no certificate authority in {}: get the directory from whoever set the cluster up", dir.display())]
    NoAuthority {
        /// The directory.
        dir: PathBuf,
    },
    /// A certificate without key.
    #[error("{} has no key beside it: put {} there, or let an operator who has it issue", certificate.display(), key.display())]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// The key that is not there.
        key: PathBuf,
    },
    /// A plain and an encrypted key.
    #[error("there are two keys, {} and {}: remove the one that does not belong to ca.crt", plain.display(), encrypted.display())]
    TwoKeys {
        /// `ca.key`.
        plain: PathBuf,
        /// `ca.key.age`.
        encrypted: PathBuf,
    },
    /// Key and certificate of two authorities.
    #[error("{} is not the key of {}: put the key there that belongs to it", key.display(), certificate.display())]
    KeyMismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
    /// An encrypted key, and nothing to open it.
    #[error("{} is encrypted: say in `[tls] ca` how it is opened (passphrase, or recipient and identity)", path.display())]
    KeyIsEncrypted {
        /// The key.
        path: PathBuf,
    },
    /// A plain key where the cluster file wants it encrypted.
    #[error("{} is not encrypted, but `[tls] ca` says it is: run `age --encrypt --armor {option} --output {} {}` and remove the plain one", path.display(), encrypted.display(), path.display())]
    KeyIsPlain {
        /// The key.
        path: PathBuf,
        /// Where the encrypted one belongs.
        encrypted: PathBuf,
        /// `age`'s option that fits.
        option: String,
    },
    /// The passphrase is wrong.
    #[error("the passphrase does not open {}: check the secret that `[tls] ca` refers to", path.display())]
    WrongPassphrase {
        /// The key.
        path: PathBuf,
    },
    /// The identity is not one of those that the key is encrypted for.
    #[error("the age identity does not open {}: it was encrypted for another recipient", path.display())]
    WrongIdentity {
        /// The key.
        path: PathBuf,
    },
    /// A key would be encrypted so that it could not be opened, or hardly protected.
    #[error("the authority's key cannot be encrypted: {why}")]
    Protection {
        /// Why.
        why: String,
    },
    /// The authority's time is over, or has not come.
    #[error("{} is not valid now (from {not_before} to {not_after}): check this machine's clock, or replace the authority", path.display())]
    AuthorityNotValid {
        /// The certificate.
        path: PathBuf,
        /// Start of its validity.
        not_before: String,
        /// End of its validity.
        not_after: String,
    },
    /// A name that cannot be in a certificate or be a file's name.
    #[error("`{name}` cannot be {place}: {why}")]
    BadName {
        /// The name.
        name: String,
        /// Where it was to go.
        place: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A validity that is no time or ends after the calendar.
    #[error("the validity of {what} is not usable: {why}")]
    BadValidity {
        /// Of what.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// Key generation, encoding or signing failed.
    #[error("cannot {action}: {why}")]
    Crypto {
        /// What was attempted.
        action: &'static str,
        /// The library's words.
        why: String,
    },
}
