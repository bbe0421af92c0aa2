//! `quorate init`: a commented cluster file from names and addresses, and a `.gitignore` for `pki/`.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::desired::model::TlsMode;
use crate::desired::{self, Severity};
use crate::etcd::version::RECOMMENDED;
use crate::render::diagnostic;

/// What to write.
#[derive(Debug, Clone)]
pub struct Request {
    /// Name of the cluster.
    pub cluster: String,
    /// Members in this order, as `name=ip`.
    pub nodes: Vec<(String, IpAddr)>,
    /// Transport security, for clients and peers.
    pub tls: TlsMode,
    /// Version of etcd; the recommended one otherwise.
    pub version: Option<String>,
}

/// Arguments of `init`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Members, as NAME=IP
    #[arg(required = true, value_name = "NAME=IP", value_parser = node)]
    pub nodes: Vec<(String, IpAddr)>,
    /// Name of the cluster
    #[arg(long, default_value = "etcd")]
    pub cluster: String,
    /// Transport security
    #[arg(long, default_value = "managed", value_parser = ["managed", "off"])]
    pub tls: String,
    /// Version of etcd
    #[arg(long, value_name = "VERSION")]
    pub etcd_version: Option<String>,
}

/// Runs `init`.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn run_args(
    file: &Path,
    args: &Args,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, crate::error::Failure> {
    let request = Request {
        cluster: args.cluster.clone(),
        nodes: args.nodes.clone(),
        tls: if args.tls == "off" {
            TlsMode::Off
        } else {
            TlsMode::Managed
        },
        version: args.etcd_version.clone(),
    };
    Ok(run(file, &request, out, err)?)
}

/// Reads one `name=ip` pair of the command line.
///
/// # Errors
/// What is wrong with it.
pub fn node(pair: &str) -> Result<(String, IpAddr), String> {
    let (name, ip) = pair
        .split_once('=')
        .ok_or_else(|| format!("`{pair}` is not NAME=IP, such as etcd-1=10.0.0.1"))?;
    let ip = ip
        .parse()
        .map_err(|_| format!("`{ip}` of `{name}` is not an IPv4 or IPv6 address"))?;
    Ok((name.to_owned(), ip))
}

/// The text of the cluster file.
///
/// # Errors
/// What is wrong with the request, rendered as errors of the file that it would give.
pub fn text(request: &Request) -> Result<String, String> {
    // Quoted by the serializer: what the operator typed cannot break out of its string.
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let version = request.version.as_deref().unwrap_or(RECOMMENDED);
    let mut out = String::new();
    let _ = write!(
        out,
        r#"#:schema ./cluster.schema.json
# The etcd cluster that these hosts are to form. `quorate plan` says what that takes, `quorate apply` does it.
# Every key is described in docs/cluster-file.md; `quorate schema > cluster.schema.json` lets editors complete.

schema = 1

[cluster]
name = {name}

[etcd]
version = {version}
# data_dir = "/var/lib/etcd"
# runtime = "systemd" # systemd | container-linux | sensu-backend
# advertise = "ip" # ip | fqdn

# Any other option of etcd, by the name of its flag.
[etcd.settings]
# etcd stops taking writes when its database is larger than this.
quota-backend-bytes = "2GiB"
# Without compaction the database keeps every revision, and reaches the quota.
auto-compaction-mode = "periodic"
auto-compaction-retention = "1h"

# Where the binaries come from: a release archive, a package of the distribution, or they are there already.
[etcd.install]
method = "present"
# method = "package"
# method = "archive"
# archive = "etcd-v{{version}}-linux-{{arch}}.tar.gz" # or an https URL; SHA256SUMS is expected beside it

# How the hosts are reached. What is absent comes from ~/.ssh/config.
[ssh]
# user = "ops"
# identity = "~/.ssh/id_ed25519"
# jump = "bastion.example.com"
sudo = true
# sudo_password = {{ prompt = true }}
"#,
        name = quoted(&request.cluster),
        version = quoted(version),
    );
    for (name, ip) in &request.nodes {
        let _ = write!(out, "\n[[node]]\nname = {}\nip = \"{ip}\"\n", quoted(name));
    }
    out.push_str(match request.tls {
        TlsMode::Off => NO_TLS,
        TlsMode::Managed => MANAGED,
        TlsMode::Files => FILES,
    });
    check(&out)?;
    super::fmt::format(&out, "cluster.toml").map_err(|found| diagnostic::render(&found, false))
}

fn check(text: &str) -> Result<(), String> {
    match desired::parse(text, "cluster.toml", Path::new("."), None) {
        Ok(_) => Ok(()),
        Err(mut found) => {
            found.retain(|d| d.severity == Severity::Error);
            Err(diagnostic::render(&found, false))
        }
    }
}

const NO_TLS: &str = r#"
# Plain HTTP: whoever reaches the ports reads and writes everything. "managed" issues and renews certificates.
[tls]
client = "off"
peer = "off"
"#;

const MANAGED: &str = r#"
# Certificates from an authority in pki/, which is to be kept and shared among the operators: see pki/.gitignore.
[tls]
client = "managed"
peer = "managed"
ca = { dir = "pki", validity = "10y" }
leaf = { validity = "1y", renew_before = "30d" }

# A certificate for a person or program.
# [[tls.client_cert]]
# name = "app"

# [auth]
# enabled = true
#
# [[auth.user]]
# name = "root" # logs in by certificate
#
# [[auth.role]]
# name = "app"
# grant = [{ prefix = "/app/", access = "readwrite" }]
#
# [[auth.user]]
# name = "app"
# roles = ["app"]
# password = { env = "APP_ETCD_PASSWORD" }
"#;

const FILES: &str = r#"
# Certificates of your own; {node} is the name of the node.
[tls]
client = "files"
peer = "files"

[tls.files]
ca = "pki/ca.crt"
server_cert = "pki/{node}.crt"
server_key = "pki/{node}.key"
peer_cert = "pki/{node}-peer.crt"
peer_key = "pki/{node}-peer.key"
client_cert = "pki/operator.crt"
client_key = "pki/operator.key"
"#;

/// What may go under version control: certificates of the authority and of clients, and the key of the authority
/// only when it is encrypted.
pub const GITIGNORE: &str = "\
# Private keys do not go under version control. ca.key.age is the encrypted key of the authority:
# set `encryption` in [tls.ca], or keep ca.key where all operators, and nobody else, can read it.
*
!/.gitignore
!/ca.crt
!/ca.key.age
!/clients/
!/clients/*.crt
";

/// Writes the cluster file and, with TLS, `pki/.gitignore` beside it. Neither is overwritten. Returns the exit
/// code, 0 or 1; files are named on `out`, errors on `err`.
///
/// # Errors
/// Only when `out` or `err` cannot be written.
pub fn run(
    file: &Path,
    request: &Request,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let text = match text(request) {
        Ok(text) => text,
        Err(errors) => {
            write!(err, "{errors}")?;
            return Ok(1);
        }
    };
    if let Err(error) = create(file, &text) {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => writeln!(
                err,
                "error: {} exists already; it is not overwritten",
                file.display()
            )?,
            _ => writeln!(err, "error: cannot write {}: {error}", file.display())?,
        }
        return Ok(1);
    }
    writeln!(out, "{}", file.display())?;
    if request.tls == TlsMode::Off {
        return Ok(0);
    }
    let pki: PathBuf = file.parent().unwrap_or(Path::new("")).join("pki");
    let ignore = pki.join(".gitignore");
    match std::fs::create_dir_all(&pki).and_then(|()| create(&ignore, GITIGNORE)) {
        Ok(()) => writeln!(out, "{}", ignore.display())?,
        // Somebody's own is as good.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            writeln!(err, "error: cannot write {}: {error}", ignore.display())?;
            return Ok(1);
        }
    }
    Ok(0)
}

fn create(path: &Path, content: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(tls: TlsMode) -> Request {
        let nodes = ["etcd-1=10.0.0.1", "etcd-2=10.0.0.2", "etcd-3=2001:db8::3"];
        Request {
            cluster: "demo".to_owned(),
            nodes: nodes.iter().map(|n| node(n).expect("a pair")).collect(),
            tls,
            version: None,
        }
    }

    #[test]
    fn what_it_writes_is_valid_canonical_and_without_warnings() {
        for tls in [TlsMode::Off, TlsMode::Managed, TlsMode::Files] {
            let text = text(&request(tls)).expect("valid");
            let (desired, warnings) =
                desired::parse(&text, "cluster.toml", Path::new("/srv"), None).expect("valid");
            assert_eq!(warnings, []);
            assert_eq!((desired.nodes.len(), desired.tls.client), (3, tls));
            assert_eq!(
                super::super::fmt::format(&text, "f").as_deref(),
                Ok(text.as_str())
            );
            // What is commented out works, too, once it is not.
            let commented = text.find("# [[tls.client_cert]]").map(|at| &text[at..]);
            if let Some(block) = commented {
                let live: String = block
                    .lines()
                    .map(|l| {
                        l.strip_prefix("# ")
                            .or(l.strip_prefix('#'))
                            .unwrap_or(l)
                            .to_owned()
                            + "\n"
                    })
                    .collect();
                let whole = text.replace(block, &live);
                let parsed = desired::parse(&whole, "cluster.toml", Path::new("/srv"), None);
                assert!(parsed.is_ok_and(|(d, _)| d.auth.is_some_and(|a| a.users.len() == 2)));
            }
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("cluster.toml");
        let go = || {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = run(&file, &request(TlsMode::Managed), &mut out, &mut err).expect("vectors");
            (code, String::from_utf8_lossy(&err).into_owned())
        };
        assert_eq!(go(), (0, String::new()));
        assert!(dir.path().join("pki/.gitignore").exists());
        let before = std::fs::read(&file).expect("read");
        let (code, err) = go();
        assert!(code == 1 && err.contains("not overwritten"), "{err}");
        assert_eq!(std::fs::read(&file).expect("read"), before);
    }

    #[test]
    fn bad_requests_are_refused() {
        assert!(node("etcd-1").is_err());
        assert!(node("etcd-1=nowhere").is_err());
        let mut bad = request(TlsMode::Off);
        bad.nodes[1].0 = "a\"\nevil = 1".to_owned();
        assert!(text(&bad).is_err_and(|e| e.contains("bad name")));
        let mut bad = request(TlsMode::Off);
        bad.version = Some("3.5.1".to_owned());
        assert!(text(&bad).is_err_and(|e| e.contains("bad version")));
    }
}
