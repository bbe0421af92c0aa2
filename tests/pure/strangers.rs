//! Hosts that only markers know: which of them are still this cluster's.

use quorate::action::ActionKind;
use quorate::etcd::id::{ClusterId, MemberId};
use quorate::etcd::wal::WalIdentity;
use quorate::observed::etcd::EtcdState;
use quorate::observed::host::DataDir;
use quorate::observed::marker::{MarkerState, SshAddress};
use quorate::observed::{HostFacts, HostState, Observed};

use crate::comings::{ids, living, plan_of, reasons, unreachable};
use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::seats::plan_with;
use crate::world::World;

/// Hosts are of one boot each.
fn booted(mut observed: Observed) -> Observed {
    for (name, state) in &mut observed.hosts {
        if let HostState::Known(facts) = state {
            facts.boot.clone_from(name);
        }
    }
    observed
}

fn known(observed: &Observed, node: &str) -> HostFacts {
    observed.facts(node).expect("known").clone()
}

/// A living cluster whose markers still name etcd-5.
fn haunted() -> Observed {
    let mut observed = booted(living());
    for state in observed.hosts.values_mut() {
        if let HostState::Known(facts) = state
            && let MarkerState::Present(marker) = &mut facts.marker
        {
            let mut addresses = (*marker.addresses).clone();
            let address = SshAddress {
                host: "10.0.0.5".into(),
                port: None,
                user: None,
                peer_url: Some("http://10.0.0.5:2380".into()),
            };
            addresses.insert("etcd-5".into(), address);
            marker.addresses = addresses.into();
        }
    }
    observed
}

fn take_in(observed: &mut Observed, name: &str, facts: HostFacts) -> Vec<String> {
    let stranger = HostState::Known(Box::new(facts));
    observed.take_in(&desired(3), [(name.to_owned(), stranger)].into())
}

/// One machine under two addresses would be locked twice, and the second time in vain.
#[test]
fn a_host_under_a_second_address_is_told_before_it_has_a_marker() {
    let mut observed = booted(living());
    let new = booted(World::new(desired(4)).observe());
    observed
        .hosts
        .insert("etcd-4".into(), new.hosts["etcd-4"].clone());
    let data = known(&observed, "etcd-3").data;
    for data in [DataDir::Empty, data] {
        let mut twin = known(&new, "etcd-4");
        twin.data = data;
        let state = HostState::Known(Box::new(twin.clone()));
        observed.hosts.insert("etcd-4".into(), state);
        let out = take_in(&mut observed, "etcd-4@10.0.0.4", twin);
        assert_eq!(out, ["etcd-4@10.0.0.4"]);
        assert!(observed.aliases.contains("etcd-4@10.0.0.4"));
    }
    let mut copy = known(&observed, "etcd-4");
    copy.boot = "another".into();
    assert!(take_in(&mut observed, "etcd-4@10.0.0.44", copy).is_empty());
}

/// It was cleaned while others could not be told, and belongs to somebody else now.
#[test]
fn a_host_that_serves_another_cluster_is_forgotten() {
    let other = {
        let mut facts = known(&booted(World::new(desired(5)).observe()), "etcd-5");
        facts.etcd = known(&living(), "etcd-1").etcd;
        facts
    };
    let marked = {
        let mut facts = other.clone();
        let mut marker = known(&living(), "etcd-1")
            .marker
            .get()
            .expect("one")
            .clone();
        marker.cluster = "other".into();
        marker.generation.nonce = "other".into();
        facts.marker = MarkerState::Present(Box::new(marker));
        facts
    };
    for facts in [other, marked] {
        let mut observed = haunted();
        assert_eq!(take_in(&mut observed, "etcd-5", facts), ["etcd-5"]);
        let plan = plan_of(&[1, 2, 3], &observed, CONVERGE);
        assert!(plan.blocked.is_empty(), "{}", reasons(&plan));
        let mut records = 0;
        for action in &plan.actions {
            let ActionKind::Record(record) = &action.kind else {
                panic!("{}", action.id)
            };
            assert!(!record.marker.addresses.contains_key("etcd-5"));
            records += 1;
        }
        assert_eq!(records, 3);
    }
    // One that lost its marker alone still has a member's data.
    let mut lost = known(&haunted(), "etcd-3");
    (lost.marker, lost.boot) = (MarkerState::Absent, "fifth".into());
    assert!(take_in(&mut haunted(), "etcd-5", lost).is_empty());
}

/// As long as its member has to leave, its address is what that is known by.
#[test]
fn it_is_not_forgotten_before_its_member_is_gone() {
    let mut observed = haunted();
    let blank = known(&booted(World::new(desired(5)).observe()), "etcd-5");
    take_in(&mut observed, "etcd-5", blank);
    unreachable(&mut observed, "etcd-2");
    unreachable(&mut observed, "etcd-3");
    let plan = plan_of(&[1, 2], &observed, CONVERGE);
    assert!(!plan.blocked.is_empty());
    for action in &plan.actions {
        if let ActionKind::Record(record) = &action.kind {
            assert!(record.marker.addresses.contains_key("etcd-5"));
        }
    }
}

/// What is left on etcd-4 of an earlier cluster of the same name, which was destroyed while that host was off.
fn stale(observed: &Observed) -> HostState {
    let mut facts = known(observed, "etcd-3");
    let mut marker = facts.marker.get().expect("a marker").clone();
    marker.node = "etcd-4".into();
    marker.generation.nonce = "earlier".into();
    marker.generation.token = "demo-earlier".into();
    marker.cluster_id = Some(ClusterId(7));
    marker.member_id = Some(MemberId(8));
    facts.marker = MarkerState::Present(Box::new(marker));
    facts.data = DataDir::Wal(WalIdentity {
        cluster_id: ClusterId(7),
        member_id: MemberId(8),
    });
    facts.etcd = EtcdState::Silent;
    facts.unit.active = "inactive".into();
    HostState::Known(Box::new(facts))
}

/// A destroy would take the cluster that most hosts bear, which is the one that lives.
#[test]
fn a_host_of_an_earlier_generation_stands_in_nobodys_way() {
    let living = booted(living());
    for name in ["etcd-4", "etcd-0"] {
        let mut observed = living.clone();
        observed.hosts.insert(name.into(), stale(&living));
        if let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-2") {
            facts.etcd = EtcdState::Silent;
            facts.unit.active = "inactive".into();
        }
        let mut file = desired(4);
        file.nodes[3].name = name.into();
        let plan = plan_with(&file, &observed);
        assert!(
            ids(&plan).contains(&"node.etcd-2.start"),
            "{}",
            reasons(&plan)
        );
        let blocked: Vec<_> = plan.blocked.iter().collect();
        assert_eq!(blocked.len(), 1, "{blocked:?}");
        assert_eq!(blocked[0].node.as_deref(), Some(name));
        assert!(
            blocked[0].remedy.contains("names this node alone"),
            "{blocked:?}"
        );
    }
    // Where nobody answers, the most hosts may as well bear the one that is no more.
    let mut observed = living.clone();
    observed.hosts.insert("etcd-4".into(), stale(&living));
    for state in observed.hosts.values_mut() {
        if let HostState::Known(facts) = state {
            facts.etcd = EtcdState::Silent;
            facts.unit.active = "inactive".into();
        }
    }
    let plan = plan_with(&desired(4), &observed);
    assert!(plan.is_empty(), "{:?}", ids(&plan));
    assert!(
        reasons(&plan).contains("which of them lives"),
        "{}",
        reasons(&plan)
    );
}

/// Its member is known by its address alone then.
#[test]
fn a_host_that_lost_its_marker_is_not_forgotten_before_its_member_has_left() {
    let torn = MarkerState::Unreadable("it is torn".into());
    for marker in [MarkerState::Absent, torn] {
        for is_well in [true, false] {
            let mut observed = booted(living());
            if let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-3") {
                facts.marker = marker.clone();
            }
            if !is_well {
                unreachable(&mut observed, "etcd-2");
            }
            let plan = plan_of(&[1, 2], &observed, CONVERGE);
            let removed = ids(&plan).contains(&"node.etcd-3.remove");
            assert_eq!(removed, is_well, "{}", reasons(&plan));
            for action in &plan.actions {
                if let ActionKind::Record(record) = &action.kind {
                    let is_known = record.marker.addresses.contains_key("etcd-3");
                    assert_eq!(is_known, !is_well);
                }
            }
            let mut warnings = plan.warnings.iter();
            let told =
                warnings.any(|warning| warning.starts_with("etcd-3: its host has no marker"));
            assert_eq!(told, is_well, "{:?}", plan.warnings);
        }
    }
}

/// How many hosts bear a cluster says less of which one lives than who answers.
#[test]
fn who_answers_lives() {
    let mut world = World::new(desired(3));
    world.name_first(1);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    let old = booted(living());
    let mut observed = booted(world.observe());
    for name in ["etcd-2", "etcd-3"] {
        observed.hosts.insert(name.into(), stale(&old));
    }
    let plan = plan_with(&desired(3), &observed);
    let mut nodes: Vec<_> = plan
        .blocked
        .iter()
        .filter_map(|one| one.node.as_deref())
        .collect();
    nodes.dedup();
    assert_eq!(nodes, ["etcd-2", "etcd-3"], "{}", reasons(&plan));
}

fn elsewhere() -> quorate::desired::Desired {
    let mut file = desired(3);
    file.nodes[1].ip = "10.0.0.22".parse().expect("an address");
    file.nodes[1].ssh.host = "10.0.0.22".into();
    file
}

/// A backup of a host has its name as well: nobody is told to delete what runs.
#[test]
fn a_copy_at_the_new_address_is_not_called_the_original() {
    let mut observed = booted(living());
    let old = known(&observed, "etcd-2");
    let mut copy = old.clone();
    copy.etcd = EtcdState::Silent;
    copy.unit.active = "inactive".into();
    copy.unit.environment = None;
    copy.boot = "restored".into();
    for (name, facts) in [("etcd-2", copy), ("etcd-2@10.0.0.2", old)] {
        observed
            .hosts
            .insert(name.into(), HostState::Known(Box::new(facts)));
    }
    let plan = plan_with(&elsewhere(), &observed);
    let mut blocked = plan.blocked.iter();
    let blocked = blocked.find(|one| one.node.as_deref() == Some("etcd-2"));
    let blocked = blocked.unwrap_or_else(|| panic!("{:?}", ids(&plan)));
    assert!(!blocked.remedy.contains("there, not here"), "{blocked:?}");
}

/// A host without marker whose member is a voter is not to be taken apart by hand.
#[test]
fn the_former_host_of_a_blocked_node_is_not_called_done() {
    let mut observed = booted(living());
    let mut old = known(&observed, "etcd-2");
    old.marker = MarkerState::Absent;
    unreachable(&mut observed, "etcd-2");
    observed
        .hosts
        .insert("etcd-2@10.0.0.2".into(), HostState::Known(Box::new(old)));
    let plan = plan_with(&elsewhere(), &observed);
    let mut warnings = plan.warnings.iter();
    assert!(
        !warnings.any(|warning| warning.contains("by hand")),
        "{:?}",
        plan.warnings
    );
}
