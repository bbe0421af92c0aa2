//! Authentication: keys of the agent, key files. Everything within the connect phase's deadline.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::connect::{Link, Trouble};
use super::error::{Attempt, ConnectError};
use super::route::Route;
use super::ssh_config::Agent;

/// A private key, read.
pub(super) struct Key {
    path: PathBuf,
    pem: Zeroizing<String>,
    public: Option<Vec<u8>>,
    encrypted: bool,
}

impl Key {
    /// # Errors
    /// Why the file cannot be used.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| error.to_string())?);
        let pem = std::str::from_utf8(&bytes)
            .map_err(|_| "it is not a PEM or OpenSSH private key".to_owned())?;
        if !pem.contains("PRIVATE KEY-----") {
            return Err("it is not a PEM or OpenSSH private key".into());
        }
        let mut public = path.as_os_str().to_owned();
        public.push(".pub");
        let public = std::fs::read_to_string(public)
            .ok()
            .and_then(|line| public_blob(&line));
        Ok(Self {
            path: path.to_owned(),
            encrypted: encrypted(pem),
            pem: Zeroizing::new(pem.to_owned()),
            public,
        })
    }

    /// Whether a passphrase is needed.
    pub(super) fn encrypted(&self) -> bool {
        self.encrypted
    }
}

fn public_blob(line: &str) -> Option<Vec<u8>> {
    STANDARD.decode(line.split_ascii_whitespace().nth(1)?).ok()
}

/// OpenSSH's own format names the cipher after its magic; PEM says it in words.
fn encrypted(pem: &str) -> bool {
    if !pem.contains("BEGIN OPENSSH PRIVATE KEY") {
        return pem.contains("ENCRYPTED");
    }
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let Ok(bytes) = STANDARD.decode(body.trim()) else {
        return false;
    };
    let Some(rest) = bytes.strip_prefix(b"openssh-key-v1\0\0\0\0") else {
        return false;
    };
    rest.split_first()
        .is_some_and(|(length, rest)| rest.get(..usize::from(*length)) != Some(b"none"))
}

/// Logs in.
///
/// # Errors
/// [`ConnectError::AuthFailed`] with everything that was tried, or the reason of an interruption.
pub(super) fn authenticate(link: &mut Link, route: &Route) -> Result<(), ConnectError> {
    let mut tried = Tried::default();
    let wanted: Vec<&[u8]> = route
        .keys
        .iter()
        .filter_map(|key| key.public.as_deref())
        .collect();
    // The agent spares a passphrase. Under a chosen key it is asked for that key only, unless the
    // file cannot be opened without it.
    let locked = route
        .keys
        .iter()
        .any(|key| key.encrypted && route.passphrase.is_none());
    let only = route
        .only_keys
        .then_some(wanted.as_slice())
        .filter(|wanted| !(wanted.is_empty() && locked));
    if with_agent(link, route, only, &mut tried)? {
        return Ok(());
    }
    for key in &route.keys {
        let name = key.path.display().to_string();
        if key.encrypted && route.passphrase.is_none() {
            tried.keys.push(format!(
                "{name} (encrypted, and no ssh.passphrase is given)"
            ));
            continue;
        }
        match with_file(link, route, key) {
            Ok(()) => return Ok(()),
            Err(Trouble::Ssh {
                code: -16 | -48, ..
            }) if key.encrypted => {
                return Err(ConnectError::KeyFile {
                    node: route.node.clone(),
                    path: key.path.clone(),
                    reason: "the passphrase does not open it".into(),
                });
            }
            Err(Trouble::Ssh { code: -16, message }) => {
                tried.keys.push(format!("{name} ({message})"))
            }
            Err(trouble) => judge(link, route, trouble, name, &mut tried)?,
        }
    }
    Err(tried.failed(route))
}

/// What was tried so far.
#[derive(Default)]
struct Tried {
    keys: Vec<String>,
    note: Option<String>,
}

impl Tried {
    fn failed(&mut self, route: &Route) -> ConnectError {
        ConnectError::AuthFailed {
            node: route.node.clone(),
            address: route.address.clone(),
            attempt: Box::new(Attempt {
                user: route.user.clone(),
                tried: std::mem::take(&mut self.keys),
                note: self.note.take(),
            }),
        }
    }
}

/// A refusal goes into the list; a server that hangs up because of too many ends the attempt.
fn judge(
    link: &Link,
    route: &Route,
    trouble: Trouble,
    what: String,
    tried: &mut Tried,
) -> Result<(), ConnectError> {
    match trouble {
        // Refused; or this key's kind cannot be used.
        Trouble::Ssh {
            code: -18 | -19 | -33 | -51,
            ..
        } => {
            tried.keys.push(what);
            Ok(())
        }
        Trouble::Ssh {
            code: -13 | -43 | -7,
            ..
        }
        | Trouble::Lost(_)
            if !tried.keys.is_empty() =>
        {
            tried.keys.push(what);
            let limit = "sshd hung up: it allows fewer attempts (MaxAuthTries); name the key with ssh.identity";
            tried.note = Some(limit.into());
            Err(tried.failed(route))
        }
        trouble => Err(link.error(route, trouble)),
    }
}

fn with_file(link: &mut Link, route: &Route, key: &Key) -> Result<(), Trouble> {
    let passphrase = route
        .passphrase
        .as_ref()
        .filter(|_| key.encrypted)
        .map(SecretString::expose_secret);
    link.drive(|session| session.userauth_pubkey_memory(&route.user, None, &key.pem, passphrase))
}

fn with_agent(
    link: &mut Link,
    route: &Route,
    only: Option<&[&[u8]]>,
    tried: &mut Tried,
) -> Result<bool, ConnectError> {
    let socket = match &route.agent {
        Agent::None => return Ok(false),
        Agent::Environment => std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        Agent::Socket(path) => Some(path.clone()),
    };
    let Some(socket) = socket.filter(|socket| !socket.as_os_str().is_empty()) else {
        return Ok(false);
    };
    if only.is_some_and(<[_]>::is_empty) {
        return Ok(false);
    }
    let opened = link.session().agent().and_then(|mut agent| {
        agent.set_identity_path(&socket)?;
        agent.connect()?;
        agent.list_identities()?;
        let identities = agent.identities()?;
        Ok((agent, identities))
    });
    let (agent, mut identities) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tried.note = Some(format!(
                "the agent at {} does not answer: {}",
                socket.display(),
                error.message()
            ));
            return Ok(false);
        }
    };
    if let Some(only) = only {
        identities.retain(|identity| only.contains(&identity.blob()));
    }
    for identity in &identities {
        let name = format!(
            "{} of the agent",
            if identity.comment().is_empty() {
                "a key"
            } else {
                identity.comment()
            }
        );
        match link.drive(|_| agent.userauth(&route.user, identity)) {
            Ok(()) => return Ok(true),
            Err(trouble) => judge(link, route, trouble, name, tried)?,
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_recognised() {
        let openssh = |cipher: &str| {
            let mut bytes = b"openssh-key-v1\0".to_vec();
            bytes.extend_from_slice(&(cipher.len() as u32).to_be_bytes());
            bytes.extend_from_slice(cipher.as_bytes());
            bytes.extend_from_slice(&[0; 40]);
            let body = STANDARD.encode(bytes);
            format!(
                "-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"
            )
        };
        assert!(!encrypted(&openssh("none")));
        assert!(encrypted(&openssh("aes256-ctr")));
        assert!(encrypted("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA"));
        assert!(encrypted(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
        ));
        assert!(!encrypted("-----BEGIN PRIVATE KEY-----\nAAAA"));
        assert!(!encrypted("-----BEGIN OPENSSH PRIVATE KEY-----\n!"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(Key::read(&path).is_err());
        std::fs::write(&path, "ssh-ed25519 AAAA").unwrap();
        assert!(Key::read(&path).is_err());
    }
}
