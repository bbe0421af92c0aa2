//! What becomes of a cluster, one scenario after the other.

use crate::Result;
use crate::report::Budget;

/// Milliseconds that Quorate's gap may be longer than the script's.
const MORE: f64 = 50.0;
/// Milliseconds that members who come may cost.
const COMING: f64 = 100.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    GrowFromOne,
    Nothing,
    Settings,
    PeerPort,
    Replace,
    Exchange,
    Grow,
    SettingsOfFive,
    RemoveLeader,
    Shrink,
}

/// A cluster as both sites have it; nodes are called as their hosts.
#[derive(Clone, Debug)]
pub struct Cluster {
    nodes: Vec<String>,
    pub peer_port: u16,
    pub snapshot_count: u32,
}

/// From one cluster to another.
pub struct Change {
    pub after: Cluster,
    /// The node whose host is rebuilt before it begins.
    pub dead: Option<String>,
    /// What the script is told, beside the members.
    pub by_hand: Vec<Step>,
}

/// A step of the script.
pub enum Step {
    Set(String),
    PeerPort(u16),
    Join(String),
    Leave(String),
    Replace(String),
}

impl Cluster {
    /// What a round begins with: three members, or one where that is to grow.
    pub fn before(scenarios: &[Scenario]) -> Self {
        let first = scenarios.first() == Some(&Scenario::GrowFromOne);
        Self {
            nodes: (1..=if first { 1 } else { 3 }).map(node).collect(),
            peer_port: 2380,
            // So few that a restarted member has little to read again: every write is one entry.
            snapshot_count: 5000,
        }
    }

    pub fn names(&self) -> impl Iterator<Item = String> {
        self.nodes.iter().cloned()
    }

    pub fn has(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node == name)
    }

    /// Hosts that it has not had come in, until there are so many members; who they are.
    fn grow(&mut self, members: usize) -> Vec<String> {
        let others = (1..=5).map(node).filter(|name| !self.has(name));
        let new: Vec<String> = others.take(members - self.nodes.len()).collect();
        self.nodes.extend(new.iter().cloned());
        new
    }

    pub fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.nodes.retain(|node| node != name);
        other
    }
}

fn node(number: usize) -> String {
    format!("etcd-{number}")
}

impl Scenario {
    /// In the order in which a round takes a cluster through them.
    pub const ALL: [Self; 10] = [
        Self::GrowFromOne,
        Self::Nothing,
        Self::Settings,
        Self::PeerPort,
        Self::Replace,
        Self::Exchange,
        Self::Grow,
        Self::SettingsOfFive,
        Self::RemoveLeader,
        Self::Shrink,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::GrowFromOne => "grow-from-one",
            Self::Nothing => "nothing",
            Self::Settings => "settings",
            Self::PeerPort => "peer-port",
            Self::Replace => "replace",
            Self::Exchange => "exchange",
            Self::Grow => "grow",
            Self::SettingsOfFive => "settings-of-five",
            Self::RemoveLeader => "remove-leader",
            Self::Shrink => "shrink",
        }
    }

    /// In the table.
    pub fn what(self) -> &'static str {
        match self {
            Self::GrowFromOne => "from one member to two to three",
            Self::Nothing => "nothing is done for 10 s",
            Self::Settings => "a setting of three members",
            Self::PeerPort => "the peer port of three members, in place",
            Self::Replace => "a dead member of three, its host rebuilt",
            Self::Exchange => "a living follower of three makes way for a blank host",
            Self::Grow => "from three members to four to five",
            Self::SettingsOfFive => "a setting of five members",
            Self::RemoveLeader => "the leader of five is removed",
            Self::Shrink => "a follower is removed",
        }
    }

    /// Whether it is of five members, which `Grow` leaves behind.
    pub fn is_of_five(self) -> bool {
        matches!(self, Self::SettingsOfFive | Self::RemoveLeader)
    }

    /// Which endpoints count by themselves.
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::Settings | Self::PeerPort | Self::SettingsOfFive => {
                "the worst endpoint, its own restart included"
            }
            Self::Nothing => "the worst endpoint",
            _ => "the worst endpoint of those that stay",
        }
    }

    pub fn budget(self) -> Option<Budget> {
        let comes = matches!(
            self,
            Self::GrowFromOne | Self::Replace | Self::Exchange | Self::Grow
        );
        let most = comes.then_some(COMING);
        (self != Self::Nothing).then_some(Budget { more: MORE, most })
    }

    /// Whether members come or go.
    pub fn changes_members(self) -> bool {
        !matches!(
            self,
            Self::Nothing | Self::Settings | Self::PeerPort | Self::SettingsOfFive
        )
    }

    /// What it makes of a cluster that a node leads.
    pub fn change(self, before: &Cluster, leader: &str) -> Result<Change> {
        let mut after = before.clone();
        let mut dead = None;
        let follower = || {
            let mut names = before.names();
            names.find(|name| name != leader).ok_or("nobody follows")
        };
        let by_hand = match self {
            Self::Nothing => vec![],
            Self::Settings | Self::SettingsOfFive => {
                after.snapshot_count += 1;
                let set = format!("ETCD_SNAPSHOT_COUNT={}", after.snapshot_count);
                vec![Step::Set(set)]
            }
            Self::PeerPort => {
                after.peer_port += 1000;
                vec![Step::PeerPort(after.peer_port)]
            }
            Self::Replace => {
                let follower = follower()?;
                dead = Some(follower.clone());
                vec![Step::Replace(follower)]
            }
            Self::Exchange => {
                let (new, old) = (after.grow(before.nodes.len() + 1), follower()?);
                after = after.without(&old);
                let joins = new.into_iter().map(Step::Join);
                joins.chain([Step::Leave(old)]).collect()
            }
            Self::GrowFromOne => after.grow(3).into_iter().map(Step::Join).collect(),
            Self::Grow => after.grow(5).into_iter().map(Step::Join).collect(),
            Self::Shrink => {
                let old = follower()?;
                after = before.without(&old);
                vec![Step::Leave(old)]
            }
            Self::RemoveLeader => {
                after = before.without(leader);
                vec![Step::Leave(leader.to_owned())]
            }
        };
        Ok(Change {
            after,
            dead,
            by_hand,
        })
    }
}
