//! etcd as `etcd.service`: options in `/etc/etcd/etcd.conf`, a hardened unit that refuses to start without a WAL.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::layout::{Content, Directory, FileWrite, Layout, Profile, StartDropIn};
use crate::desired::model::{Advertise, Desired, Install, Node, TlsMode};
use crate::observed::data::Place;

const UNIT: &str = "etcd.service";
const USER: &str = "etcd";
const CONFIG_DIR: &str = "/etc/etcd";
const CONFIG: &str = "/etc/etcd/etcd.conf";
const TLS_DIR: &str = "/etc/etcd/tls";
const START_DROP_IN: &str = "/run/systemd/system/etcd.service.d/50-quorate-start.conf";
const START_ENVIRONMENT: &str = "/run/quorate/etcd-start.env";

/// The layout of one node.
pub fn layout(desired: &Desired, node: &Node) -> Layout {
    let bin_dir = match &desired.etcd.install {
        Install::Archive { .. } => "/usr/local/bin".to_owned(),
        Install::Package { .. } => "/usr/bin".to_owned(),
        Install::Present { bin_dir } => bin_dir.clone(),
    };
    let etcd = format!("{bin_dir}/etcd");
    let urls = Urls::new(desired, node);
    let environment = environment(desired, node, &urls);
    let mut config = environment.clone();
    // Read only on an empty data directory, where the unit does not start without its drop-in; `new` is what makes
    // etcd refuse when that start is a mistake (playbook section 0).
    config.insert("ETCD_INITIAL_ADVERTISE_PEER_URLS".into(), urls.peer.clone());
    config.insert("ETCD_INITIAL_CLUSTER_STATE".into(), "new".into());

    let managed_tls = [desired.tls.client, desired.tls.peer]
        .iter()
        .any(|mode| *mode != TlsMode::Off);
    let mut directories = vec![directory(CONFIG_DIR, 0o755, "root")];
    let mut files = Vec::new();
    if managed_tls {
        // Root writes there: the member may look, and must not be able to put a link in its way.
        directories.push(Directory {
            group: USER.into(),
            ..directory(TLS_DIR, 0o750, "root")
        });
        files.extend(certificates(desired));
    }
    directories.push(directory(&node.data_dir, 0o700, USER));
    if let Some(wal_dir) = &node.wal_dir {
        directories.push(directory(wal_dir, 0o700, USER));
    }
    files.push(text(CONFIG, render_environment(&config)));
    files.push(text(
        &format!("/etc/systemd/system/{UNIT}"),
        unit(desired, node, &etcd),
    ));

    Layout {
        unit: UNIT.into(),
        user: USER.into(),
        group: USER.into(),
        bin_dir,
        etcd,
        data_dir: node.data_dir.clone(),
        wal_dir: node.wal_dir.clone(),
        directories,
        files,
        start_drop_in: StartDropIn {
            path: START_DROP_IN.into(),
            text: format!(
                "# Lifts the assertion for one start on an empty data directory.\n\
                 [Unit]\nAssertPathExistsGlob=\n\n[Service]\nEnvironmentFile={START_ENVIRONMENT}\n"
            ),
            environment_path: START_ENVIRONMENT.into(),
        },
        environment,
        client_url: urls.client,
        peer_url: urls.peer,
        client_port: node.client_port,
        peer_port: node.peer_port,
    }
}

fn place(node: &Node) -> Place {
    Place {
        data_dir: node.data_dir.clone(),
        wal_dir: node.wal_dir.clone(),
    }
}

/// The advertised peer URL of one node.
pub fn peer_url(desired: &Desired, node: &Node) -> String {
    Urls::new(desired, node).peer
}

/// The environment file of a start on an empty data directory.
pub fn start_environment(initial_cluster: &str, token: &str, state: &str) -> String {
    render_environment(&BTreeMap::from([
        (
            "ETCD_INITIAL_CLUSTER".to_owned(),
            initial_cluster.to_owned(),
        ),
        ("ETCD_INITIAL_CLUSTER_STATE".to_owned(), state.to_owned()),
        ("ETCD_INITIAL_CLUSTER_TOKEN".to_owned(), token.to_owned()),
    ]))
}

struct Urls {
    client: String,
    peer: String,
    listen_client: String,
    listen_peer: String,
}

impl Urls {
    fn new(desired: &Desired, node: &Node) -> Self {
        let name = match (desired.etcd.advertise, &node.fqdn) {
            (Advertise::Fqdn, Some(fqdn)) => fqdn.clone(),
            _ => host(node.ip),
        };
        let client = scheme(desired.tls.client);
        let peer = scheme(desired.tls.peer);
        Self {
            client: format!("{client}://{name}:{}", node.client_port),
            peer: format!("{peer}://{name}:{}", node.peer_port),
            listen_client: node
                .listen
                .iter()
                .map(|ip| format!("{client}://{}:{}", host(*ip), node.client_port))
                .collect::<Vec<_>>()
                .join(","),
            listen_peer: format!("{peer}://{}:{}", host(node.ip), node.peer_port),
        }
    }
}

fn scheme(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Off => "http",
        TlsMode::Managed | TlsMode::Files => "https",
    }
}

/// An address as it stands in a URL.
fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn environment(desired: &Desired, node: &Node, urls: &Urls) -> BTreeMap<String, String> {
    let mut options: BTreeMap<String, String> = node
        .settings
        .iter()
        .map(|(option, value)| (variable(option), value.clone()))
        .collect();
    let mut set = |option: &str, value: &str| {
        options.insert(variable(option), value.to_owned());
    };
    set("name", &node.name);
    set("data-dir", &node.data_dir);
    if let Some(wal) = place(node).separate_wal() {
        set("wal-dir", &wal);
    }
    set("listen-client-urls", &urls.listen_client);
    set("listen-peer-urls", &urls.listen_peer);
    set("advertise-client-urls", &urls.client);
    if desired.tls.client != TlsMode::Off {
        set("cert-file", &certificate_path(Profile::Server));
        set("key-file", &key_path(Profile::Server));
        set("trusted-ca-file", &authority_path());
        set("client-cert-auth", "true");
    }
    if desired.tls.peer != TlsMode::Off {
        set("peer-cert-file", &certificate_path(Profile::Peer));
        set("peer-key-file", &key_path(Profile::Peer));
        set("peer-trusted-ca-file", &authority_path());
        set("peer-client-cert-auth", "true");
    }
    options
}

fn variable(option: &str) -> String {
    let name = option.chars().map(|c| match c {
        '-' => '_',
        c => c.to_ascii_uppercase(),
    });
    "ETCD_".chars().chain(name).collect()
}

fn authority_path() -> String {
    format!("{TLS_DIR}/ca.crt")
}

fn certificate_path(profile: Profile) -> String {
    format!("{TLS_DIR}/{}.crt", stem(profile))
}

fn key_path(profile: Profile) -> String {
    format!("{TLS_DIR}/{}.key", stem(profile))
}

fn stem(profile: Profile) -> &'static str {
    match profile {
        Profile::Server => "server",
        Profile::Peer => "peer",
        Profile::Client => "client",
    }
}

fn certificates(desired: &Desired) -> Vec<FileWrite> {
    let mut files = vec![FileWrite {
        path: authority_path(),
        mode: 0o644,
        owner: "root".into(),
        group: "root".into(),
        content: Content::Authority,
    }];
    for (profile, mode) in [
        (Profile::Server, desired.tls.client),
        (Profile::Peer, desired.tls.peer),
    ] {
        if mode == TlsMode::Off {
            continue;
        }
        files.push(FileWrite {
            path: certificate_path(profile),
            mode: 0o644,
            owner: "root".into(),
            group: "root".into(),
            content: Content::Certificate(profile),
        });
        files.push(FileWrite {
            path: key_path(profile),
            mode: 0o400,
            owner: USER.into(),
            group: USER.into(),
            content: Content::Key(profile),
        });
    }
    files
}

fn directory(path: &str, mode: u32, owner: &str) -> Directory {
    Directory {
        path: path.into(),
        mode,
        owner: owner.into(),
        group: owner.into(),
    }
}

fn text(path: &str, text: String) -> FileWrite {
    FileWrite {
        path: path.into(),
        mode: 0o644,
        owner: "root".into(),
        group: "root".into(),
        content: Content::Text(text),
    }
}

/// systemd.exec(5), `EnvironmentFile=`: double quotes, with backslash before what they would interpret.
fn render_environment(variables: &BTreeMap<String, String>) -> String {
    let mut out = String::from(
        "# Managed by quorate: edits are undone by the next apply. Change the cluster file instead.\n",
    );
    for (name, value) in variables {
        let mut quoted = String::new();
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '`' | '$') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        let _ = writeln!(out, "{name}=\"{quoted}\"");
    }
    out
}

/// Reads what [`render_environment`] wrote.
pub fn parse_environment(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| {
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or(value);
            let mut plain = String::new();
            let mut escaped = false;
            for c in value.chars() {
                if c == '\\' && !escaped {
                    escaped = true;
                } else {
                    plain.push(c);
                    escaped = false;
                }
            }
            (name.trim().to_owned(), plain)
        })
        .collect()
}

fn unit(desired: &Desired, node: &Node, etcd: &str) -> String {
    let wal_glob = format!("{}/*.wal", place(node).wal());
    let mut data = node.data_dir.clone();
    if let Some(wal_dir) = &node.wal_dir {
        data.push(' ');
        data.push_str(wal_dir);
    }
    format!(
        "\
# Managed by quorate: edits are undone by the next apply. Change the cluster file instead.
[Unit]
Description=etcd member {name} of {cluster}
Documentation=https://etcd.io/docs/
Wants=network-online.target
After=network-online.target
RequiresMountsFor={data}
# A member that has lost its data must not come back empty: it would vote without memory.
AssertPathExistsGlob={wal_glob}

[Service]
Type=notify
User={USER}
Group={USER}
EnvironmentFile={CONFIG}
ExecStart={etcd}
Restart=always
RestartSec=5s
TimeoutStartSec=0
TimeoutStopSec=30s
LimitNOFILE=65536
UMask=0077
CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
ReadWritePaths={data}
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
",
        name = node.name,
        cluster = desired.cluster.name,
    )
}
