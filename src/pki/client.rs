//! Certificates for people and programs, with what `etcdctl` needs to use them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use super::authority::{Authority, AuthorityCertificate};
use super::error::PkiError;
use super::files::{self, PRIVATE, PUBLIC};
use super::leaf::issue;
use super::operator::{load_pair, replace_pair};
use crate::desired::model::KeyKind;
use crate::observed::certificate::{Names, Profile, ReissueReason, Wanted, reasons_to_issue};

const DIRECTORY: &str = "clients";

/// A certificate to write for a person or program.
#[derive(Debug, Clone)]
pub struct NewClient<'a> {
    /// Common name, which is the etcd user name and that of the files.
    pub name: &'a str,
    /// Key.
    pub key: KeyKind,
    /// Validity.
    pub validity: Duration,
    /// It is issued anew when less than this is left.
    pub renew_before: Duration,
    /// Client URLs of the members.
    pub endpoints: &'a [String],
}

/// The files of a client, by absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// Certificate.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Shell assignments for `etcdctl`, to be sourced.
    pub environment: PathBuf,
    /// Why the certificate was issued anew; none when it stayed. Empty for the first one.
    pub issued: Option<Vec<ReissueReason>>,
}

/// Sees to it that `clients/NAME.{crt,key,env}` beside the authority are there and as wanted.
/// `open` is called only to issue.
///
/// # Errors
/// When the name cannot be that of a file or certificate; as of `open` and [`issue`]; when a file
/// cannot be read or written, or others can read the key.
pub fn ensure_client(
    dir: &Path,
    ca: &AuthorityCertificate,
    client: &NewClient<'_>,
    now: OffsetDateTime,
    open: impl FnOnce() -> Result<Authority, PkiError>,
) -> Result<ClientFiles, PkiError> {
    check_file_name(client.name)?;
    let clients = files::absolute(&dir.join(DIRECTORY))?;
    let file = |extension| clients.join(format!("{}.{extension}", client.name));
    let (certificate, key, environment) = (file("crt"), file("key"), file("env"));
    files::ensure_directory(&clients)?;

    let wanted = Wanted {
        profile: Profile::Client,
        names: Names::only_cn(client.name),
        key: client.key,
        validity: client.validity,
        renew_before: client.renew_before,
    };
    let reasons = load_pair(&certificate, &key)?
        .map(|(_, _, facts)| reasons_to_issue(&facts, &wanted, ca.facts(), now));
    let issued = match reasons {
        Some(reasons) if reasons.is_empty() => None,
        reasons => {
            let issued = issue(
                &open()?,
                wanted.profile,
                &wanted.names,
                wanted.key,
                wanted.validity,
                now,
            )?;
            replace_pair(&certificate, PUBLIC, &key, &issued)?;
            Some(reasons.unwrap_or_default())
        }
    };

    let ca_path = files::absolute(ca.path())?;
    let content = environment_file(client, &ca_path, &certificate, &key)?;
    if files::read_public(&environment)?.as_deref() != Some(content.as_str()) {
        files::replace(&environment, content.as_bytes(), PRIVATE)?;
    }
    Ok(ClientFiles {
        certificate,
        key,
        environment,
        issued,
    })
}

fn environment_file(
    client: &NewClient<'_>,
    ca: &Path,
    certificate: &Path,
    key: &Path,
) -> Result<String, PkiError> {
    let lines = [
        ("ETCDCTL_API", "3".to_owned()),
        ("ETCDCTL_ENDPOINTS", client.endpoints.join(",")),
        ("ETCDCTL_CACERT", text(ca)?),
        ("ETCDCTL_CERT", text(certificate)?),
        ("ETCDCTL_KEY", text(key)?),
    ];
    let mut content = String::from("# Written by Quorate. Source it, then run etcdctl.\n");
    for (name, value) in lines {
        let quoted = shlex::try_quote(&value).map_err(|_| PkiError::BadName {
            name: value.clone(),
            place: "a shell word",
            why: "it has a NUL byte",
        })?;
        content.push_str(&format!("export {name}={quoted}\n"));
    }
    Ok(content)
}

fn text(path: &Path) -> Result<String, PkiError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| PkiError::BadName {
            name: path.display().to_string(),
            place: "in a file for the shell",
            why: "it is not UTF-8",
        })
}

fn check_file_name(name: &str) -> Result<(), PkiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    let why = if name.is_empty() {
        "it is empty"
    } else if name.starts_with(['.', '-']) {
        "it starts with a dot or dash"
    } else if !name.chars().all(plain) {
        "only ASCII letters, digits and . _ @ - are allowed"
    } else {
        return Ok(());
    };
    Err(PkiError::BadName {
        name: name.to_owned(),
        place: "the name of a file",
        why,
    })
}
