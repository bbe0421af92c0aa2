//! A cluster as its file describes it, as data that edits change. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use quorate_lab::{Lab, releases};

/// Where the data is at first, on a disk of its own.
pub const DATA_DIR: &str = "/var/lib/etcd";
/// Where it may move to, on the host's own file system.
pub const OTHER_DIR: &str = "/srv/etcd";
/// Where the WAL may be instead.
pub const WAL_DIR: &str = "/srv/wal";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// The lab's host, from 0.
    pub host: usize,
    /// How many times the host has been given another address.
    pub moves: u8,
    pub client_port: u16,
    pub peer_port: u16,
    pub data_dir: &'static str,
    pub wal_dir: Option<&'static str>,
    pub settings: BTreeMap<String, String>,
    pub sans: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub tls: bool,
    pub settings: BTreeMap<String, String>,
    pub nodes: Vec<Node>,
    /// Hosts of the lab that are no node, those first that have been none for longest.
    pub spare: Vec<usize>,
    /// How many times those of them have moved that were a node: they stay where they are.
    pub moved: BTreeMap<usize, u8>,
    /// The number of the next new node's name.
    pub next: usize,
}

impl Node {
    fn new(number: usize, host: usize) -> Self {
        Self {
            name: format!("etcd-{number}"),
            host,
            moves: 0,
            client_port: 2379,
            peer_port: 2380,
            data_dir: DATA_DIR,
            wal_dir: None,
            settings: BTreeMap::new(),
            sans: Vec::new(),
        }
    }

    /// The host's address: the lab's own, or one of those that it moves to.
    pub fn ip(&self) -> Ipv4Addr {
        address(self.host, self.moves)
    }

    pub fn url(&self, tls: bool) -> String {
        let scheme = if tls { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.ip(), self.client_port)
    }

    pub fn peer_url(&self, tls: bool) -> String {
        let scheme = if tls { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.ip(), self.peer_port)
    }
}

/// The address of a host after it has moved so many times; the lab's hosts begin at .11.
pub fn address(host: usize, moves: u8) -> Ipv4Addr {
    let last = 11 + host + 20 * usize::from(moves % 10);
    Ipv4Addr::new(10, 77, 0, u8::try_from(last).unwrap_or(u8::MAX))
}

impl Cluster {
    pub fn new(nodes: usize, hosts: usize, tls: bool) -> Self {
        Self {
            tls,
            settings: BTreeMap::new(),
            nodes: (0..nodes).map(|host| Node::new(host + 1, host)).collect(),
            spare: (nodes..hosts).collect(),
            moved: BTreeMap::new(),
            next: nodes + 1,
        }
    }

    /// How many members may be down.
    pub fn tolerates(&self) -> usize {
        (self.nodes.len() - 1) / 2
    }

    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    pub fn node_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.name == name)
    }

    /// A new node on a spare host.
    pub fn join(&mut self, host: usize) -> &Node {
        self.spare.retain(|spare| *spare != host);
        let mut node = Node::new(self.next, host);
        node.moves = self.moved.remove(&host).unwrap_or_default();
        self.nodes.push(node);
        self.next += 1;
        &self.nodes[self.nodes.len() - 1]
    }

    /// A node is none any more.
    pub fn leave(&mut self, name: &str) {
        if let Some(at) = self.nodes.iter().position(|node| node.name == name) {
            let node = self.nodes.remove(at);
            self.spare.push(node.host);
            self.moved.insert(node.host, node.moves);
        }
    }

    /// The file.
    pub fn text(&self, lab: &Lab) -> Result<String, String> {
        let version = releases::tested();
        let release = releases::ensure(&version).map_err(|error| error.to_string())?;
        let mut text = format!(
            "schema = 1\n\n[cluster]\nname = \"chaos\"\ntoken = \"chaos\"\n\n[etcd]\nversion = \"{version}\"\n\n\
             [etcd.settings]\n{}\n[etcd.install]\nmethod = \"archive\"\n\
             archive = {:?}\n\n[ssh]\nuser = \"root\"\nidentity = {:?}\nknown_hosts = {:?}\n\
             connect_timeout = \"3s\"\n\n",
            lines(&self.settings),
            release.tarball,
            lab.identity(),
            lab.known_hosts(),
        );
        if self.tls {
            text.push_str(
                "[tls]\nclient = \"managed\"\npeer = \"managed\"\n\n[[tls.client_cert]]\nname = \"writer\"\n\n",
            );
        }
        for node in &self.nodes {
            let _ = write!(
                text,
                "[[node]]\nname = \"{}\"\nip = \"{}\"\nclient_port = {}\npeer_port = {}\ndata_dir = {:?}\n\
                 extra_sans = {:?}\n",
                node.name,
                node.ip(),
                node.client_port,
                node.peer_port,
                node.data_dir,
                node.sans,
            );
            if let Some(wal_dir) = node.wal_dir {
                let _ = writeln!(text, "wal_dir = {wal_dir:?}");
            }
            if !node.settings.is_empty() {
                let _ = write!(text, "[node.settings]\n{}", lines(&node.settings));
            }
            text.push('\n');
        }
        Ok(text)
    }
}

fn lines(settings: &BTreeMap<String, String>) -> String {
    settings
        .iter()
        .map(|(name, value)| format!("{name} = {value}\n"))
        .collect()
}
