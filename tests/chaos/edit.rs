//! Edits of the cluster file. Drawing and making one is pure; what an operator does to hosts
//! beside the file is said by [`Edit::beside`].

use crate::cluster::{Cluster, DATA_DIR, OTHER_DIR, WAL_DIR};

/// What can be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Nothing,
    Setting,
    NodeSetting,
    ExtraSan,
    Add,
    Delete,
    Exchange,
    Replace,
    Move,
    PeerPort,
    ClientPort,
    Rename,
    DataDir,
    WalDir,
    Renew,
}

const ALL: &[Kind] = &[
    Kind::Nothing,
    Kind::Setting,
    Kind::NodeSetting,
    Kind::ExtraSan,
    Kind::Add,
    Kind::Delete,
    Kind::Exchange,
    Kind::Replace,
    Kind::Move,
    Kind::PeerPort,
    Kind::ClientPort,
    Kind::Rename,
    Kind::DataDir,
    Kind::WalDir,
    Kind::Renew,
];

/// The variable that names other kinds to draw from, such as `add,delete`.
pub const EDITS: &str = "QUORATE_CHAOS_EDITS";

/// The kinds that are drawn from.
pub fn kinds() -> Vec<Kind> {
    let Ok(names) = std::env::var(EDITS) else {
        return ALL.to_vec();
    };
    let named = |kind: &&Kind| {
        let name = format!("{kind:?}").to_lowercase();
        names == "all" || names.split(',').any(|word| word.to_lowercase() == name)
    };
    ALL.iter().filter(named).copied().collect()
}

/// An edit of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The file stays as it is.
    Nothing,
    /// An option of all members: a rolling restart.
    Setting {
        name: &'static str,
        value: String,
    },
    /// An option of one member.
    NodeSetting {
        node: String,
        name: &'static str,
        value: String,
    },
    /// A name in the certificate of one member.
    ExtraSan {
        node: String,
        san: String,
    },
    /// A new node on a spare host.
    Add {
        host: usize,
    },
    /// A node goes; its host may be dead, or go on running.
    Delete {
        node: String,
        dead: bool,
    },
    /// A node makes way for a new one on a spare host, in one edit.
    Exchange {
        node: String,
        dead: bool,
        host: usize,
    },
    /// A node whose host was set up anew, without marker, data and programs; or one that has lost
    /// nothing but its data, which the operator has to say.
    Replace {
        node: String,
        data_only: bool,
    },
    /// A host has another address.
    Move {
        node: String,
    },
    PeerPort {
        node: String,
        port: u16,
    },
    ClientPort {
        node: String,
        port: u16,
    },
    Rename {
        node: String,
        to: String,
    },
    /// The data goes to the other place.
    DataDir {
        node: String,
    },
    /// The WAL goes to a place of its own, or back.
    WalDir {
        node: String,
    },
    /// A healthy member makes way for a new one on its host, for the operator says so.
    Renew {
        node: String,
    },
}

/// What the operator does to a host before the file is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// It is switched off for good, and after the round set up anew.
    Bury(usize),
    /// Everything that the program put there is wiped away, the data too.
    Blank(usize),
    /// Its data is wiped away.
    Empty(usize),
    /// Its address is taken away, and it gets another.
    Renumber(usize, u8),
}

impl Edit {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Nothing => Kind::Nothing,
            Self::Setting { .. } => Kind::Setting,
            Self::NodeSetting { .. } => Kind::NodeSetting,
            Self::ExtraSan { .. } => Kind::ExtraSan,
            Self::Add { .. } => Kind::Add,
            Self::Delete { .. } => Kind::Delete,
            Self::Exchange { .. } => Kind::Exchange,
            Self::Replace { .. } => Kind::Replace,
            Self::Move { .. } => Kind::Move,
            Self::PeerPort { .. } => Kind::PeerPort,
            Self::ClientPort { .. } => Kind::ClientPort,
            Self::Rename { .. } => Kind::Rename,
            Self::DataDir { .. } => Kind::DataDir,
            Self::WalDir { .. } => Kind::WalDir,
            Self::Renew { .. } => Kind::Renew,
        }
    }

    /// One of the kinds that the cluster allows now.
    pub fn draw(rng: &mut fastrand::Rng, cluster: &Cluster, kinds: &[Kind]) -> Self {
        let possible: Vec<Kind> = kinds
            .iter()
            .copied()
            .filter(|kind| match kind {
                Kind::Add => !cluster.spare.is_empty() && cluster.nodes.len() < 5,
                Kind::Exchange => !cluster.spare.is_empty(),
                Kind::Delete => cluster.nodes.len() > 3,
                _ => true,
            })
            .collect();
        let Some(kind) = rng.choice(possible) else {
            return Self::Nothing;
        };
        let node = cluster.nodes[rng.usize(0..cluster.nodes.len())]
            .name
            .clone();
        let (name, value) = option(rng);
        let number = rng.u16(1..1000);
        match kind {
            Kind::Nothing => Self::Nothing,
            Kind::Setting => Self::Setting { name, value },
            Kind::NodeSetting => Self::NodeSetting { node, name, value },
            Kind::ExtraSan => Self::ExtraSan {
                node,
                san: format!("etcd-{number}.example"),
            },
            Kind::Add => Self::Add {
                host: cluster.spare[0],
            },
            Kind::Delete => Self::Delete {
                node,
                dead: rng.bool(),
            },
            Kind::Exchange => Self::Exchange {
                node,
                dead: rng.bool(),
                host: cluster.spare[0],
            },
            Kind::Replace => Self::Replace {
                node,
                data_only: rng.bool(),
            },
            Kind::Move => Self::Move { node },
            Kind::PeerPort => Self::PeerPort {
                node,
                port: 20_000 + number,
            },
            Kind::ClientPort => Self::ClientPort {
                node,
                port: 30_000 + number,
            },
            Kind::Rename => Self::Rename {
                node,
                to: format!("member-{number}"),
            },
            Kind::DataDir => Self::DataDir { node },
            Kind::WalDir => Self::WalDir { node },
            Kind::Renew => Self::Renew { node },
        }
    }

    /// Makes the edit.
    pub fn make(&self, cluster: &mut Cluster) {
        match self {
            Self::Nothing | Self::Replace { .. } | Self::Renew { .. } => {}
            Self::Setting { name, value } => {
                cluster.settings.insert((*name).to_owned(), value.clone());
            }
            Self::NodeSetting { node, name, value } => {
                if let Some(node) = cluster.node_mut(node) {
                    node.settings.insert((*name).to_owned(), value.clone());
                }
            }
            Self::ExtraSan { node, san } => {
                if let Some(node) = cluster.node_mut(node) {
                    node.sans = vec![san.clone()];
                }
            }
            Self::Add { host } => {
                cluster.join(*host);
            }
            Self::Delete { node, .. } => cluster.leave(node),
            Self::Exchange { node, host, .. } => {
                cluster.join(*host);
                cluster.leave(node);
            }
            Self::Move { node } => {
                if let Some(node) = cluster.node_mut(node) {
                    node.moves += 1;
                }
            }
            Self::PeerPort { node, port } => {
                if let Some(node) = cluster.node_mut(node) {
                    node.peer_port = *port;
                }
            }
            Self::ClientPort { node, port } => {
                if let Some(node) = cluster.node_mut(node) {
                    node.client_port = *port;
                }
            }
            Self::Rename { node, to } => {
                if let Some(node) = cluster.node_mut(node) {
                    node.name.clone_from(to);
                }
            }
            Self::DataDir { node } => {
                if let Some(node) = cluster.node_mut(node) {
                    let is_at_home = node.data_dir == DATA_DIR;
                    node.data_dir = if is_at_home { OTHER_DIR } else { DATA_DIR };
                }
            }
            Self::WalDir { node } => {
                if let Some(node) = cluster.node_mut(node) {
                    node.wal_dir = node.wal_dir.is_none().then_some(WAL_DIR);
                }
            }
        }
    }

    /// The host that has to be clean afterwards: that of a node which left, unless it is dead.
    pub fn vacates(&self, before: &Cluster) -> Option<usize> {
        match self {
            Self::Delete { node, dead: false }
            | Self::Exchange {
                node, dead: false, ..
            } => Some(before.node(node)?.host),
            _ => None,
        }
    }

    /// The node whose member is down because of what is done beside; faults leave the others alone.
    pub fn victim(&self) -> Option<&str> {
        match self {
            Self::Delete { node, dead: true }
            | Self::Exchange {
                node, dead: true, ..
            }
            | Self::Replace { node, .. }
            | Self::Move { node } => Some(node),
            _ => None,
        }
    }

    /// What is done to hosts, given the cluster before the edit.
    pub fn beside(&self, before: &Cluster) -> Option<Beside> {
        let node = before.node(self.victim()?)?;
        Some(match self {
            Self::Delete { .. } | Self::Exchange { .. } => Beside::Bury(node.host),
            Self::Move { .. } => Beside::Renumber(node.host, node.moves + 1),
            Self::Replace {
                data_only: true, ..
            } => Beside::Empty(node.host),
            _ => Beside::Blank(node.host),
        })
    }

    /// About how long it takes to apply, in milliseconds: faults and kills come in this time.
    pub fn takes(&self) -> u64 {
        match self.kind() {
            Kind::Nothing | Kind::ExtraSan => 2_000,
            Kind::Setting | Kind::NodeSetting => 5_000,
            _ => 15_000,
        }
    }

    /// Further words of the command line: what the file alone does not say.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Renew { node }
            | Self::Replace {
                node,
                data_only: true,
            } => vec!["--replace".to_owned(), node.clone()],
            _ => Vec::new(),
        }
    }
}

/// An option that costs a restart, with a value. Few entries to a snapshot make members that were
/// away catch up by snapshot.
fn option(rng: &mut fastrand::Rng) -> (&'static str, String) {
    match rng.u8(0..4) {
        0 => (
            "snapshot-count",
            [100, 1_000, 5_000][rng.usize(0..3)].to_string(),
        ),
        1 => ("max-txn-ops", rng.u32(128..4096).to_string()),
        2 => (
            "max-request-bytes",
            rng.u32(1_572_864..8_000_000).to_string(),
        ),
        _ => (
            "log-level",
            ["\"info\"", "\"warn\""][rng.usize(0..2)].to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_drawn_and_changes_what_it_says() {
        let mut rng = fastrand::Rng::with_seed(1);
        let cluster = Cluster::new(4, 6, true);
        for kind in ALL {
            let edit = Edit::draw(&mut rng, &cluster, &[*kind]);
            assert_eq!(edit.kind(), *kind);
            let mut after = cluster.clone();
            edit.make(&mut after);
            let beside_only = matches!(kind, Kind::Nothing | Kind::Replace | Kind::Renew);
            assert_eq!(after == cluster, beside_only, "{edit:?}");
            let at_hosts = edit.beside(&cluster).is_some();
            assert_eq!(at_hosts, edit.victim().is_some(), "{edit:?}");
        }
    }
}
