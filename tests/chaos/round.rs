//! A round: what is edited, what befalls which host when, and when the program is killed. All of
//! it is drawn beforehand from the seed, the round's number and the cluster, so that it can be
//! drawn again.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use crate::cluster::Cluster;
use crate::drift::Drift;
use crate::edit::{Edit, Kind};
use crate::fault::Fault;

/// A fault, in milliseconds since the start of the round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blow {
    pub host: usize,
    pub fault: Fault,
    pub begin: u64,
    pub length: u64,
}

/// A drift, likewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meddling {
    pub host: usize,
    pub drift: Drift,
    pub at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub number: u64,
    pub edit: Edit,
    /// Whether more hosts are hit than the cluster tolerates.
    pub outage: bool,
    pub blows: Vec<Blow>,
    pub meddling: Vec<Meddling>,
    /// The program is started and killed after so many milliseconds, once for each.
    pub kills: Vec<u64>,
    /// Between two requests of a client, in milliseconds.
    pub pace: u64,
}

impl Round {
    pub fn draw(seed: u64, number: u64, cluster: &Cluster, kinds: &[Kind]) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let edit = Edit::draw(&mut rng, cluster, kinds);
        let outage = rng.u8(0..6) == 0;
        let victims = victims(&mut rng, cluster, &edit, outage);
        // The host of a blank or dead member has nothing to be hit.
        let untouchable = edit.victim().and_then(|name| cluster.node(name));
        let targets: Vec<usize> = victims
            .iter()
            .copied()
            .filter(|host| untouchable.is_none_or(|node| node.host != *host))
            .collect();
        let span = edit.takes();
        let blows = blows(&mut rng, cluster, &targets, outage, span);
        let meddling = meddling(
            &mut rng,
            cluster,
            &targets,
            &blows,
            untouchable.map(|node| node.host),
        );
        Self {
            number,
            edit,
            outage,
            blows,
            meddling,
            kills: (0..rng.usize(0..4)).map(|_| rng.u64(20..span)).collect(),
            pace: if rng.bool() { 10 } else { 1 },
        }
    }
}

/// The hosts whose members may be away: no more than the cluster tolerates before and after the
/// edit, or in an outage at least one more.
fn victims(
    rng: &mut fastrand::Rng,
    cluster: &Cluster,
    edit: &Edit,
    outage: bool,
) -> BTreeSet<usize> {
    let mut after = cluster.clone();
    edit.make(&mut after);
    let tolerates = cluster.tolerates().min(after.tolerates());
    let wanted = if outage {
        rng.usize(tolerates + 1..=cluster.nodes.len())
    } else {
        rng.usize(0..=tolerates)
    };
    // A host that joins can be hit like the others.
    let nodes = cluster.nodes.iter().chain(&after.nodes);
    let hosts: BTreeSet<usize> = nodes.map(|node| node.host).collect();
    let mut hosts: Vec<usize> = hosts.into_iter().collect();
    rng.shuffle(&mut hosts);
    let given = edit
        .victim()
        .and_then(|name| cluster.node(name))
        .map(|node| node.host);
    let mut victims: BTreeSet<usize> = given.into_iter().collect();
    for host in hosts {
        if victims.len() < wanted {
            victims.insert(host);
        }
    }
    victims
}

fn blows(
    rng: &mut fastrand::Rng,
    cluster: &Cluster,
    targets: &[usize],
    outage: bool,
    span: u64,
) -> Vec<Blow> {
    let ports: BTreeSet<u16> = cluster.nodes.iter().map(|node| node.peer_port).collect();
    let ports: Vec<u16> = ports.into_iter().collect();
    let mut blows = Vec::new();
    let together = rng.u64(0..span);
    for host in targets {
        let others: Vec<Ipv4Addr> = cluster
            .nodes
            .iter()
            .filter(|node| node.host != *host)
            .map(crate::cluster::Node::ip)
            .collect();
        // One after the other on one host; in an outage the first of all hosts at once.
        let mut begin = if outage { together } else { rng.u64(0..span) };
        for _ in 0..rng.usize(1..=2) {
            let blow = Blow {
                host: *host,
                fault: Fault::draw(rng, &others, &ports),
                begin,
                length: rng.u64(500..8_000),
            };
            begin += blow.length + rng.u64(200..3_000);
            blows.push(blow);
        }
    }
    blows
}

fn meddling(
    rng: &mut fastrand::Rng,
    cluster: &Cluster,
    targets: &[usize],
    blows: &[Blow],
    untouchable: Option<usize>,
) -> Vec<Meddling> {
    let mut all = Vec::new();
    for _ in 0..rng.usize(0..3) {
        let node = &cluster.nodes[rng.usize(0..cluster.nodes.len())];
        if Some(node.host) == untouchable {
            continue;
        }
        let harmful = targets.contains(&node.host);
        let drift = Drift::draw(rng, cluster.tls, harmful);
        // A host without marker and data is a new one, and nobody could tell that its disk comes back.
        let loses_disk = blows
            .iter()
            .any(|blow| blow.host == node.host && blow.fault == Fault::MissingDisk);
        if drift != Drift::Marker || !loses_disk {
            all.push(Meddling {
                host: node.host,
                drift,
                at: rng.u64(0..5_000),
            });
        }
    }
    all
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}: {:?}", self.number, self.edit)?;
        if self.outage {
            f.write_str("; outage")?;
        }
        for blow in &self.blows {
            let Blow {
                host,
                fault,
                begin,
                length,
            } = blow;
            write!(
                f,
                "; host {} {fault:?} at {begin} ms for {length} ms",
                host + 1
            )?;
        }
        for Meddling { host, drift, at } in &self.meddling {
            write!(f, "; host {} {drift:?} at {at} ms", host + 1)?;
        }
        write!(
            f,
            "; kills after {:?} ms; pace {} ms",
            self.kills, self.pace
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_drawn_again_the_same() {
        let cluster = Cluster::new(3, 3, true);
        let draw = |number| Round::draw(5, number, &cluster, &crate::edit::kinds());
        assert_eq!(draw(2), draw(2));
        assert_ne!(draw(2), draw(3));
    }

    #[test]
    fn only_outages_hit_more_than_is_tolerated() {
        let all = [
            Kind::Nothing,
            Kind::Setting,
            Kind::Delete,
            Kind::Replace,
            Kind::Move,
        ];
        let mut outages = 0;
        for seed in 0..2_000 {
            let cluster = Cluster::new(3 + (seed % 3) as usize, 6, true);
            let round = Round::draw(seed, 1, &cluster, &all);
            let mut after = cluster.clone();
            round.edit.make(&mut after);
            let mut hit: BTreeSet<usize> = round.blows.iter().map(|blow| blow.host).collect();
            let name = round.edit.victim();
            hit.extend(
                name.and_then(|name| cluster.node(name))
                    .map(|node| node.host),
            );
            let tolerates = cluster.tolerates().min(after.tolerates());
            if round.outage {
                outages += 1;
            } else {
                assert!(hit.len() <= tolerates, "{round}");
            }
            for meddling in &round.meddling {
                let harmless = [Drift::Comment, Drift::Modes, Drift::Disabled];
                assert!(hit.contains(&meddling.host) || harmless.contains(&meddling.drift));
            }
        }
        assert!((200..600).contains(&outages), "{outages}");
    }
}
