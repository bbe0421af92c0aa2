//! What befalls a host, and how it ends.

use std::net::Ipv4Addr;

use quorate_lab::{Cut, Host};

use crate::cluster::DATA_DIR;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its power is away for a while.
    PowerLoss,
    /// Its power is away for a moment.
    Reboot,
    /// It comes back without its data disk.
    MissingDisk,
    /// It hangs.
    Freeze,
    /// It is cut off from everything, one way or both.
    Cut(Way),
    /// Its member is cut off from the other members, by their peer ports; clients and SSH get through.
    CutFromPeers(Vec<u16>),
    /// It is cut off from one other host only.
    CutFrom(Ipv4Addr),
    /// `kill -9` of the member.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Both,
    In,
    Out,
}

impl Fault {
    pub fn draw(rng: &mut fastrand::Rng, others: &[Ipv4Addr], peer_ports: &[u16]) -> Self {
        match rng.u8(0..10) {
            0 | 1 => Self::PowerLoss,
            2 => Self::Reboot,
            3 => Self::MissingDisk,
            4 | 5 => Self::Freeze,
            6 => Self::Cut([Way::Both, Way::In, Way::Out][rng.usize(0..3)]),
            7 => Self::CutFromPeers(peer_ports.to_vec()),
            8 if !others.is_empty() => Self::CutFrom(others[rng.usize(0..others.len())]),
            _ => Self::Kill,
        }
    }

    /// What it is called in the summary.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PowerLoss => "power loss",
            Self::Reboot => "reboot",
            Self::MissingDisk => "reboot without data disk",
            Self::Freeze => "freeze",
            Self::Cut(Way::Both) => "partition",
            Self::Cut(_) => "partition one way",
            Self::CutFromPeers(_) => "partition from peers",
            Self::CutFrom(_) => "partition from one host",
            Self::Kill => "kill -9 of etcd",
        }
    }

    pub fn begin(&self, host: &Host) -> quorate_lab::Result<()> {
        match self {
            Self::PowerLoss => host.power_off(),
            Self::Reboot => host.reboot(),
            Self::MissingDisk => {
                host.power_off()?;
                host.unmount_data_disk(DATA_DIR)?;
                host.power_on()
            }
            Self::Freeze => host.freeze(),
            Self::Cut(way) => host.partition(&match way {
                Way::Both => Cut::All,
                Way::In => Cut::Incoming,
                Way::Out => Cut::Outgoing,
            }),
            Self::CutFromPeers(ports) => host.partition(&Cut::Ports(ports.clone())),
            Self::CutFrom(other) => host.partition(&Cut::Hosts(vec![*other])),
            // One that is not running cannot be killed.
            Self::Kill => host.exec("pkill -9 -x etcd").map(drop),
        }
    }

    pub fn end(&self, host: &Host) -> quorate_lab::Result<()> {
        match self {
            Self::PowerLoss => host.power_on(),
            Self::MissingDisk => host.mount_data_disk(DATA_DIR),
            Self::Freeze => host.thaw(),
            Self::Cut(_) | Self::CutFromPeers(_) | Self::CutFrom(_) => host.heal(),
            Self::Reboot | Self::Kill => Ok(()),
        }
    }
}
