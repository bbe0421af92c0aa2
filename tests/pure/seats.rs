//! Whose a member is, and who knows it: nobody is given up because of an address or a name, and what is blocked has a way
//! out.

use quorate::action::ActionKind;
use quorate::desired::model::Desired;
use quorate::etcd::id::MemberId;
use quorate::observed::etcd::{EtcdState, Member};
use quorate::observed::marker::{Marker, MarkerState};
use quorate::observed::{HostFacts, HostState, Observed};
use quorate::plan::{self, Intent, Plan};
use time::OffsetDateTime;

use crate::comings::{ids, living, plan_of, reasons, unreachable};
use crate::crashes::{CONVERGE, desired};
use crate::world::World;

fn facts<'a>(observed: &'a mut Observed, node: &str) -> &'a mut HostFacts {
    match observed.hosts.get_mut(node) {
        Some(HostState::Known(facts)) => facts,
        other => panic!("{node} is not known: {other:?}"),
    }
}

/// A host on which nothing has ever been done.
fn blank(node: &str) -> HostState {
    World::new(desired(5)).observe().hosts[node].clone()
}

/// Every member lists this one as well.
fn list(observed: &mut Observed, member: &Member) {
    for state in observed.hosts.values_mut() {
        if let HostState::Known(facts) = state
            && let EtcdState::Answered(answer) = &mut facts.etcd
        {
            let members = answer.members.as_mut().expect("a list");
            members.push(member.clone());
        }
    }
}

fn member(id: u64, name: &str, url: &str, is_learner: bool) -> Member {
    Member {
        id: MemberId(id),
        name: name.into(),
        peer_urls: vec![url.into()],
        client_urls: vec![],
        is_learner,
    }
}

pub fn plan_with(file: &Desired, observed: &Observed) -> Plan {
    let intent = Intent {
        goal: CONVERGE,
        nonce: "n1".into(),
    };
    plan::plan(file, observed, &intent, OffsetDateTime::UNIX_EPOCH)
}

fn remedies(plan: &Plan, node: &str) -> String {
    let of_node = plan.blocked.iter();
    let of_node = of_node.filter(|blocked| blocked.node.as_deref() == Some(node));
    of_node.map(|blocked| blocked.remedy.as_str()).collect()
}

fn removes(plan: &Plan) -> Vec<MemberId> {
    let removed = plan.actions.iter().filter_map(|action| match &action.kind {
        ActionKind::Remove(remove) => Some(remove.member),
        _ => None,
    });
    removed.collect()
}

/// The markers that a plan writes last, by node.
fn settle(observed: &mut Observed, plan: &Plan) {
    for action in &plan.actions {
        if let ActionKind::Record(record) = &action.kind
            && observed.facts(&record.marker.node).is_some()
        {
            let marker = MarkerState::Present(Box::new(record.marker.clone()));
            facts(observed, &record.marker.node).marker = marker;
        }
    }
}

/// What a run that was cut off has claimed.
fn claimed(plan: &Plan, node: &str) -> Marker {
    let mut claims = plan.actions.iter().filter_map(|action| match &action.kind {
        ActionKind::Claim(claim) if claim.marker.node == node => Some(claim.marker.clone()),
        _ => None,
    });
    claims.next().expect("a claim")
}

/// Unreachable is not gone (Q9), whoever gets its address.
#[test]
fn an_address_that_another_node_gets_gives_nobody_up() {
    let mut observed = living();
    unreachable(&mut observed, "etcd-2");
    observed.hosts.insert("etcd-4".into(), blank("etcd-4"));
    let mut file = desired(4);
    for (node, ip) in [(1, "10.0.0.22"), (3, "10.0.0.2")] {
        file.nodes[node].ip = ip.parse().expect("an address");
        file.nodes[node].ssh.host = ip.into();
    }
    let plan = plan_with(&file, &observed);
    assert_eq!(removes(&plan), [], "{:?}", ids(&plan));
    assert!(
        reasons(&plan).contains("which is etcd-2's"),
        "{}",
        reasons(&plan)
    );
    // Whoever says that it is gone is believed.
    file.nodes.remove(1);
    let plan = plan_with(&file, &observed);
    assert_eq!(removes(&plan).len(), 1, "{}", reasons(&plan));
}

/// Anybody can give a member a name of the file (Q6).
#[test]
fn a_member_is_not_known_by_a_name_of_the_file() {
    for id in [1, u64::MAX] {
        let mut observed = living();
        list(
            &mut observed,
            &member(id, "etcd-3", "http://10.0.0.33:2380", false),
        );
        let plan = plan_of(&[1, 2, 3], &observed, CONVERGE);
        assert_eq!(removes(&plan), [], "{:?}", ids(&plan));
        assert!(
            reasons(&plan).contains("neither in the cluster file"),
            "{}",
            reasons(&plan)
        );
    }
}

/// It has no name yet, and only its own host knew more of it than its address.
#[test]
fn a_learner_that_never_started_goes_with_its_host() {
    let mut observed = living();
    observed.hosts.insert("etcd-4".into(), blank("etcd-4"));
    let growth = plan_of(&[1, 2, 3, 4], &observed, CONVERGE);
    settle(&mut observed, &growth);
    unreachable(&mut observed, "etcd-4");
    list(&mut observed, &member(7, "", "http://10.0.0.4:2380", true));
    for nodes in [&[1, 2, 3, 4][..], &[1, 2, 3]] {
        let plan = plan_of(nodes, &observed, CONVERGE);
        assert_eq!(removes(&plan), [MemberId(7)], "{}", reasons(&plan));
    }
}

/// A host that was claimed and got no further has no data that could be missing.
#[test]
fn what_never_started_may_get_another_disk() {
    let mut observed = living();
    observed.hosts.insert("etcd-4".into(), blank("etcd-4"));
    let growth = plan_of(&[1, 2, 3, 4], &observed, CONVERGE);
    let facts = facts(&mut observed, "etcd-4");
    facts.marker = MarkerState::Present(Box::new(claimed(&growth, "etcd-4")));
    facts.filesystem.uuid = Some("another".into());
    let plan = plan_of(&[1, 2, 3, 4], &observed, CONVERGE);
    assert!(
        ids(&plan).contains(&"node.etcd-4.add"),
        "{}",
        reasons(&plan)
    );
    // Once it was added it may have been started.
    list(&mut observed, &member(7, "", "http://10.0.0.4:2380", true));
    let plan = plan_of(&[1, 2, 3, 4], &observed, CONVERGE);
    assert!(
        reasons(&plan).contains("has run there"),
        "{}",
        reasons(&plan)
    );
}

/// Without a marker a host that lacks its disk is taken for a blank one (Q10): the way out must not lead there.
#[test]
fn a_marker_is_only_removed_where_the_data_tells_as_much() {
    use quorate::observed::host::DataDir;
    let torn = MarkerState::Unreadable("it is torn".into());
    let newer = MarkerState::parse(r#"{"version": 99}"#);
    for (marker, is_there, remedy) in [
        (&torn, true, "remove /etc/quorate/marker.json"),
        (&torn, false, "restore /etc/quorate/marker.json"),
        (&newer, true, "use a newer quorate"),
        (&newer, false, "use a newer quorate"),
    ] {
        let mut observed = living();
        let facts = facts(&mut observed, "etcd-2");
        facts.marker = marker.clone();
        if !is_there {
            facts.data = DataDir::Empty;
        }
        let plan = plan_of(&[1, 2, 3], &observed, CONVERGE);
        let remedies = remedies(&plan, "etcd-2");
        assert!(remedies.starts_with(remedy), "{is_there} {remedies}");
    }
}

/// Once nobody names the host that it was on, nobody looks there any more.
#[test]
fn the_former_host_of_a_node_that_is_blocked_is_not_forgotten() {
    let mut file = desired(3);
    file.nodes[0].ip = "10.0.0.11".parse().expect("an address");
    file.nodes[0].ssh.host = "10.0.0.11".into();
    for is_up in [true, false] {
        let mut observed = living();
        observed.hosts.insert("etcd-1".into(), blank("etcd-1"));
        if !is_up {
            unreachable(&mut observed, "etcd-1");
        }
        unreachable(&mut observed, "etcd-1@10.0.0.1");
        let plan = plan_with(&file, &observed);
        let blocked = remedies(&plan, "etcd-1");
        assert!(blocked.contains("reachable"), "{blocked}");
        let mut records = 0;
        for action in &plan.actions {
            if let ActionKind::Record(record) = &action.kind {
                let addresses = &record.marker.addresses;
                assert!(addresses.contains_key("etcd-1@10.0.0.1"), "{is_up}");
                records += 1;
            }
        }
        assert_eq!(records, 2, "{:?}", ids(&plan));
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    }
}

/// Nobody edited anything: what stands in the way is the quorum, and no edit brings it back.
#[test]
fn two_of_three_rebuilt_hosts_are_no_edit() {
    let mut observed = living();
    for node in ["etcd-2", "etcd-3"] {
        observed.hosts.insert(node.into(), blank(node));
    }
    let plan = plan_of(&[1, 2, 3], &observed, CONVERGE);
    let reasons = reasons(&plan);
    assert!(!reasons.contains("in one edit"), "{reasons}");
    assert!(
        reasons.contains("1 of 3 voters answer healthy here"),
        "{reasons}"
    );
}

/// Another member's disk may be in a host that leaves (Q7).
#[test]
fn data_of_a_member_that_stays_is_not_set_aside_with_a_host_that_leaves() {
    let mut world = World::new(desired(5));
    let plan = crate::crashes::plan_for(&world, CONVERGE, "n0");
    assert!(crate::crashes::run(
        &mut world,
        &plan,
        &mut |_| 0,
        usize::MAX
    ));
    let mut observed = world.observe();
    let data = facts(&mut observed, "etcd-1").data.clone();
    unreachable(&mut observed, "etcd-1");
    let host = facts(&mut observed, "etcd-2");
    host.data = data;
    host.etcd = EtcdState::Silent;
    let plan = plan_of(&[1, 3, 4, 5], &observed, CONVERGE);
    assert_eq!(removes(&plan).len(), 1, "{}", reasons(&plan));
    let touches = |id: &&str| id.starts_with("node.etcd-2.") && !id.ends_with(".remove");
    assert!(!ids(&plan).iter().any(touches), "{:?}", ids(&plan));
    assert!(
        reasons(&plan).contains("which is another one"),
        "{}",
        reasons(&plan)
    );
}

/// What a first start that was cut off has left may be unreadable, and the marker does not know its member yet.
#[test]
fn a_half_way_learner_with_unreadable_data_can_be_given_up() {
    use quorate::observed::host::DataDir;
    use quorate::plan::Goal;
    let mut observed = living();
    observed.hosts.insert("etcd-4".into(), blank("etcd-4"));
    let growth = plan_of(&[1, 2, 3, 4], &observed, CONVERGE);
    let host = facts(&mut observed, "etcd-4");
    host.marker = MarkerState::Present(Box::new(claimed(&growth, "etcd-4")));
    host.data = DataDir::Unreadable("it is torn".into());
    host.unit.load = "loaded".into();
    let replace = || Goal::Converge {
        allow_downtime: false,
        replace: vec!["etcd-4".into()],
    };
    // Nobody could say whose it is.
    for goal in [CONVERGE, replace()] {
        let plan = plan_of(&[1, 2, 3, 4], &observed, goal);
        let remedies = remedies(&plan, "etcd-4");
        assert!(remedies.contains("move that data away"), "{remedies}");
    }
    list(&mut observed, &member(7, "", "http://10.0.0.4:2380", true));
    let plan = plan_of(&[1, 2, 3, 4], &observed, replace());
    assert!(plan.blocked.is_empty(), "{}", reasons(&plan));
    assert_eq!(removes(&plan), [MemberId(7)]);
    assert!(ids(&plan).contains(&"node.etcd-4.set-aside"));
}
