//! A host, as far as its member depends on it: power, network, disk, what lies on it, and whether a process runs.

use quorate::etcd::id::{ClusterId, MemberId};

use super::release::Release;
use super::start::Exit;

/// Who reaches it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reach {
    Fine,
    /// The operator does not, the other members do.
    Unreachable,
    /// Nobody does.
    Isolated,
}

/// What a data directory holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Data {
    Absent,
    /// `member/` without a WAL.
    NoWal,
    Wal {
        cluster: ClusterId,
        member: MemberId,
    },
    Corrupt,
}

/// What the unit does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Run {
    Off,
    Up,
    /// The process ended by itself; systemd starts it again and again.
    Failed(Exit),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Host {
    /// Where its member listens for the others.
    pub url: String,
    /// A peer URL of this host that a firewall keeps the others from.
    pub closed: Option<String>,
    pub release: Release,
    pub on: bool,
    pub reach: Reach,
    pub mounted: bool,
    /// On the disk that belongs there.
    pub data: Data,
    /// In the empty directory that is seen while that disk is not mounted.
    pub beneath: Data,
    pub aside: Vec<Data>,
    pub run: Run,
}

impl Host {
    pub fn new(url: &str, release: Release) -> Self {
        Self {
            url: url.into(),
            closed: None,
            release,
            on: true,
            reach: Reach::Fine,
            mounted: true,
            data: Data::Absent,
            beneath: Data::Absent,
            aside: vec![],
            run: Run::Off,
        }
    }

    /// The data directory as whoever looks sees it.
    pub fn seen(&self) -> Data {
        if self.mounted {
            self.data
        } else {
            self.beneath
        }
    }

    pub fn seen_mut(&mut self) -> &mut Data {
        if self.mounted {
            &mut self.data
        } else {
            &mut self.beneath
        }
    }

    /// Whether others reach a process here at this peer URL.
    pub fn is_at(&self, url: &str) -> bool {
        self.url == url && self.closed.as_deref() != Some(url)
    }

    /// Whether other members can talk with a process here.
    pub fn is_connected(&self) -> bool {
        self.on && self.reach != Reach::Isolated
    }

    /// Whether the operator can.
    pub fn is_reachable(&self) -> bool {
        self.on && self.reach == Reach::Fine
    }
}
