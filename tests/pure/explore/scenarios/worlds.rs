//! Worlds to begin with, and what an operator may ask for.

use super::*;
use crate::drive::{desired_at, plan_for, run};
use crate::model::host::Data;

/// The release where it makes no difference.
const RELEASE: &str = "3.5.16";

/// Hosts with nothing on them.
pub fn blank(hosts: usize) -> World {
    World::new(desired_at(RELEASE, hosts))
}

/// A cluster of the first so many of some hosts, under a file that names only them.
pub fn living(hosts: usize, nodes: usize) -> World {
    living_at(RELEASE, hosts, nodes)
}

pub fn living_at(release: &str, hosts: usize, nodes: usize) -> World {
    let mut world = World::new(desired_at(release, hosts));
    world.name_first(nodes);
    let plan = plan_for(&world, CONVERGE, "n");
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world
}

/// The same, and then the file names another number of them.
pub fn edited(hosts: usize, nodes: usize, wanted: usize) -> World {
    edited_at(RELEASE, hosts, nodes, wanted)
}

pub fn edited_at(release: &str, hosts: usize, nodes: usize, wanted: usize) -> World {
    let mut world = living_at(release, hosts, nodes);
    world.name_first(wanted);
    world
}

/// Another port for the peers of each.
pub fn readdressed(mut world: World) -> World {
    for node in &mut world.desired_mut().nodes {
        node.peer_port = 2390;
    }
    world
}

/// Another data directory for each.
pub fn moved(mut world: World) -> World {
    for node in &mut world.desired_mut().nodes {
        node.data_dir = "/srv/etcd".into();
    }
    world
}

/// A directory of its own for each WAL.
pub fn wal_apart(mut world: World) -> World {
    for node in &mut world.desired_mut().nodes {
        node.wal_dir = Some("/srv/wal".into());
    }
    world
}

pub fn changed(mut world: World) -> World {
    for node in &mut world.desired_mut().nodes {
        node.settings.insert("snapshot-count".into(), "5000".into());
    }
    world
}

pub fn damaged() -> World {
    let mut world = living(3, 3);
    world.kill("etcd-2");
    world.etcd.host("etcd-2").data = Data::Corrupt;
    world
}

/// Of the members by ID, the second leaves, and the first has got its name.
pub fn namesakes() -> World {
    let mut world = living(4, 4);
    let mut members: Vec<(MemberId, String)> = world
        .hosts
        .keys()
        .map(|name| (world.etcd.member_on(name).expect("data").1, name.clone()))
        .collect();
    members.sort();
    let (first, leaver) = (members[0].0, members[1].1.clone());
    world.by_hand(Entry::Publish(first, leaver.clone()));
    let stay: Vec<&str> = members.iter().map(|(_, name)| name.as_str()).collect();
    let stay: Vec<&str> = stay.into_iter().filter(|name| *name != leaver).collect();
    world.name_only(&stay);
    world
}

/// Somebody removes a member by hand; its host keeps its data.
pub fn removed_by_hand() -> World {
    let mut world = living(3, 3);
    let (_, member) = world.etcd.member_on("etcd-3").expect("data");
    world.by_hand(Entry::Remove(member));
    world
}

pub fn replace(name: &str) -> Goal {
    Goal::Converge {
        allow_downtime: false,
        replace: vec![name.into()],
    }
}

pub fn downtime() -> Goal {
    Goal::Converge {
        allow_downtime: true,
        replace: vec![],
    }
}
