//! Members that come, go and are half-way: what a plan touches, and what it leaves alone because something else stands
//! in the way.

use quorate::action::{ActionId, ActionKind, marker::Claim};
use quorate::etcd::id::MemberId;
use quorate::etcd::wal::WalIdentity;
use quorate::observed::etcd::EtcdState;
use quorate::observed::host::DataDir;
use quorate::observed::marker::{MarkerState, Phase};
use quorate::observed::{HostState, HostUnknown, Observed};
use quorate::plan::{self, Goal, Intent, Plan};
use time::OffsetDateTime;

use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::drive::run_with;
use crate::world::World;

/// A living cluster of three, and what is observed of it.
pub fn living() -> Observed {
    let mut world = World::new(desired(3));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world.observe()
}

/// A plan for the nodes with these numbers.
pub fn plan_of(nodes: &[usize], observed: &Observed, goal: Goal) -> Plan {
    let mut file = desired(5);
    file.nodes.retain(|node| {
        nodes
            .iter()
            .any(|number| node.name == format!("etcd-{number}"))
    });
    let intent = Intent {
        goal,
        nonce: "n1".into(),
    };
    plan::plan(&file, observed, &intent, OffsetDateTime::UNIX_EPOCH)
}

pub fn unreachable(observed: &mut Observed, node: &str) {
    let state = HostState::Unknown(HostUnknown::Unreachable("no route".into()));
    observed.hosts.insert(node.into(), state);
}

pub fn ids(plan: &Plan) -> Vec<&str> {
    plan.actions
        .iter()
        .map(|action| action.id.0.as_str())
        .collect()
}

pub fn reasons(plan: &Plan) -> String {
    format!("{:?}", plan.blocked)
}

/// Every known member lists this one as a learner.
pub fn make_learner(observed: &mut Observed, node: &str) {
    for state in observed.hosts.values_mut() {
        let HostState::Known(facts) = state else {
            continue;
        };
        if let EtcdState::Answered(answer) = &mut facts.etcd {
            for member in answer.members.iter_mut().flatten() {
                member.is_learner |= member.name == node;
            }
        }
    }
}

#[test]
fn no_voter_is_stopped_while_its_successor_cannot_come() {
    let mut observed = living();
    unreachable(&mut observed, "etcd-4");
    let plan = plan_of(&[1, 4], &observed, CONVERGE);
    assert!(reasons(&plan).contains("no route"), "{}", reasons(&plan));
    let disturbing = |id: &&str| !id.ends_with(".record");
    assert!(!ids(&plan).iter().any(disturbing), "{:?}", ids(&plan));
}

#[test]
fn no_voter_is_stopped_while_nobody_can_say_who_votes() {
    let mut observed = living();
    for state in observed.hosts.values_mut() {
        if let HostState::Known(facts) = state {
            facts.etcd = EtcdState::Silent;
        }
    }
    let plan = plan_of(&[1, 2], &observed, CONVERGE);
    assert!(
        !ids(&plan).iter().any(|id| id.starts_with("node.etcd-3.")),
        "{:?}",
        ids(&plan)
    );
}

#[test]
fn a_host_is_not_forgotten_before_its_member_is_gone() {
    let mut observed = living();
    unreachable(&mut observed, "etcd-2");
    unreachable(&mut observed, "etcd-3");
    let plan = plan_of(&[1, 2], &observed, CONVERGE);
    assert!(
        reasons(&plan).contains("are needed to change"),
        "{}",
        reasons(&plan)
    );
    for action in &plan.actions {
        if let ActionKind::Record(record) = &action.kind {
            assert!(
                record.marker.addresses.contains_key("etcd-3"),
                "{}",
                action.id
            );
        }
    }
    // With the quorum back its removal is planned, and what is written down waits for that.
    let mut observed = living();
    unreachable(&mut observed, "etcd-3");
    let plan = plan_of(&[1, 2], &observed, CONVERGE);
    assert!(
        ids(&plan).contains(&"node.etcd-3.remove"),
        "{:?}",
        ids(&plan)
    );
    let record = plan
        .actions
        .iter()
        .find(|action| action.id.0 == "node.etcd-1.record");
    let needs = &record.expect("written down").needs;
    assert!(
        needs.iter().any(|need| need.0 == "node.etcd-3.remove"),
        "{needs:?}"
    );
}

/// Whether a member has gone is read linearizably, which takes a quorum.
#[test]
fn a_host_is_cleaned_when_somebody_can_tell_that_its_member_is_gone() {
    let mut observed = living();
    for state in observed.hosts.values_mut() {
        if let HostState::Known(facts) = state
            && let EtcdState::Answered(answer) = &mut facts.etcd
        {
            let members = answer.members.as_mut().expect("a list");
            members.retain(|member| member.name != "etcd-3");
        }
    }
    let cleans = |observed: &Observed| {
        let plan = plan_of(&[1, 2], observed, CONVERGE);
        let mut actions = plan.actions.into_iter();
        actions.find(|action| action.id.0 == "node.etcd-3.clean")
    };
    assert!(cleans(&observed).is_some());
    // One that is started brings the quorum back.
    let mut down = observed.clone();
    if let Some(HostState::Known(facts)) = down.hosts.get_mut("etcd-2") {
        facts.etcd = EtcdState::Silent;
        facts.unit.active = "inactive".into();
    }
    let clean = cleans(&down).expect("planned");
    let mut needs = clean.needs.iter();
    assert!(needs.any(|need| need.0 == "node.etcd-2.start"));
    unreachable(&mut observed, "etcd-2");
    assert!(cleans(&observed).is_none());
}

#[test]
fn a_node_that_was_only_claimed_can_be_taken_out_again() {
    let observed = living();
    // What a run that was cut off left on the blank host of etcd-4.
    let blank = World::new(desired(4)).observe().hosts["etcd-4"].clone();
    let mut grown = observed.clone();
    grown.hosts.insert("etcd-4".into(), blank);
    let growth = plan_of(&[1, 2, 3, 4], &grown, CONVERGE);
    let claim = growth.actions.iter().find_map(|action| match &action.kind {
        ActionKind::Claim(Claim { marker, .. }) if marker.node == "etcd-4" => Some(marker.clone()),
        _ => None,
    });
    let marker = claim.expect("the host is claimed");
    assert_eq!(marker.generation.phase, Phase::Frozen);
    if let Some(HostState::Known(facts)) = grown.hosts.get_mut("etcd-4") {
        facts.marker = MarkerState::Present(Box::new(marker));
        facts.unit.load = "loaded".into();
        assert_eq!(facts.data, DataDir::Empty);
    }
    let plan = plan_of(&[1, 2, 3], &grown, CONVERGE);
    assert!(plan.blocked.is_empty(), "{}", reasons(&plan));
    assert!(
        ids(&plan).contains(&"node.etcd-4.clean"),
        "{:?}",
        ids(&plan)
    );
    assert!(
        !ids(&plan).contains(&"node.etcd-4.set-aside"),
        "{:?}",
        ids(&plan)
    );
}

#[test]
fn a_learner_gets_its_vote_also_when_settings_change() {
    let mut observed = living();
    make_learner(&mut observed, "etcd-3");
    let mut file = desired(3);
    for node in &mut file.nodes {
        node.settings.insert("snapshot-count".into(), "5000".into());
    }
    let intent = Intent {
        goal: CONVERGE,
        nonce: "n1".into(),
    };
    let plan = plan::plan(&file, &observed, &intent, OffsetDateTime::UNIX_EPOCH);
    assert!(plan.blocked.is_empty(), "{}", reasons(&plan));
    let promote = ids(&plan)
        .iter()
        .position(|id| *id == "node.etcd-3.promote");
    let restart = ids(&plan)
        .iter()
        .position(|id| *id == "node.etcd-1.restart");
    assert!(promote.is_some() && promote < restart, "{:?}", ids(&plan));
    let margin = |id: &str| {
        let action = plan.actions.iter().find(|action| action.id.0 == id);
        action.and_then(|action| action.margin).expect("a margin")
    };
    // Two voters cannot lose one; three can.
    let margin = margin("node.etcd-1.restart");
    assert_eq!((margin.voters, margin.during, margin.needs), (3, 2, 2));
}

/// systemd starts it again within seconds, or goes on for ever: either way it does not run now.
#[test]
fn a_member_between_two_attempts_of_systemd_is_started() {
    let mut observed = living();
    if let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-3") {
        facts.etcd = EtcdState::Silent;
        facts.unit.active = "activating".into();
        facts.unit.sub = "auto-restart".into();
        facts.unit.environment = None;
        facts.unit.started_at = None;
    }
    let plan = plan_of(&[1, 2, 3], &observed, CONVERGE);
    let verbs: Vec<&str> = ids(&plan);
    assert_eq!(verbs, ["node.etcd-3.start", "node.etcd-3.record"]);
    let before = plan.actions[0].changes[0].before.as_deref();
    assert_eq!(before, Some("auto-restart"));
    // What it is started with is not written while it may come up by itself any moment (Q15).
    let mut file = desired(3);
    for node in &mut file.nodes {
        node.settings.insert("snapshot-count".into(), "4321".into());
    }
    let intent = Intent {
        goal: CONVERGE,
        nonce: "n1".into(),
    };
    let edited = plan::plan(&file, &observed, &intent, OffsetDateTime::UNIX_EPOCH);
    let verbs: Vec<&str> = ids(&edited);
    assert!(verbs.contains(&"node.etcd-3.restart"), "{verbs:?}");
    assert!(!verbs.contains(&"node.etcd-3.configure"), "{verbs:?}");
    if let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-3") {
        facts.unit.sub = "start".into();
    }
    assert!(plan_of(&[1, 2, 3], &observed, CONVERGE).is_empty());
}

/// The run that starts them is not the whole of it, and must not look as if it were.
#[test]
fn who_leaves_while_nobody_answers_is_told_of() {
    let mut observed = living();
    for node in ["etcd-1", "etcd-2"] {
        if let Some(HostState::Known(facts)) = observed.hosts.get_mut(node) {
            facts.etcd = EtcdState::Silent;
            facts.unit.active = "inactive".into();
            facts.unit.environment = None;
        }
    }
    unreachable(&mut observed, "etcd-3");
    let plan = plan_of(&[1, 2], &observed, CONVERGE);
    let starts = |id: &&str| id.ends_with(".start");
    assert_eq!(ids(&plan).into_iter().filter(starts).count(), 2);
    assert!(
        reasons(&plan).contains("does not name etcd-3 any more, and no member could say"),
        "{}",
        reasons(&plan)
    );
}

/// The same where one answers that has no leader: it has one again when the other is back, or nobody can say.
#[test]
fn who_leaves_without_a_quorum_is_cleaned_once_there_is_one_or_told_of() {
    let mut observed = living();
    // It is no member any more, and one of two answers.
    for (_, state) in observed.hosts.iter_mut() {
        let HostState::Known(facts) = state else {
            continue;
        };
        if let EtcdState::Answered(answer) = &mut facts.etcd {
            let members = answer.members.iter_mut();
            members.for_each(|members| members.retain(|member| member.name != "etcd-3"));
            answer.status.leader = MemberId(0);
        }
    }
    for node in ["etcd-2", "etcd-3"] {
        if let Some(HostState::Known(facts)) = observed.hosts.get_mut(node) {
            facts.etcd = EtcdState::Silent;
            facts.unit.active = "inactive".into();
            facts.unit.environment = None;
        }
    }
    let plan = plan_of(&[1, 2], &observed, CONVERGE);
    assert!(plan.blocked.is_empty(), "{}", reasons(&plan));
    let clean = plan
        .actions
        .iter()
        .find(|action| action.id.0 == "node.etcd-3.stop");
    let needs = &clean.expect("it is stopped").needs;
    let start = ActionId::of_node("etcd-2", "start");
    assert!(needs.contains(&start), "{needs:?}");
    unreachable(&mut observed, "etcd-2");
    let plan = plan_of(&[1, 2], &observed, CONVERGE);
    assert!(plan.actions.is_empty(), "{:?}", ids(&plan));
    assert!(
        reasons(&plan).contains("no quorum could say who is a member"),
        "{}",
        reasons(&plan)
    );
}

#[test]
fn a_learner_that_crashes_for_ever_goes_and_comes_back() {
    let mut observed = living();
    make_learner(&mut observed, "etcd-3");
    if let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-3") {
        facts.etcd = EtcdState::Silent;
        facts.unit.active = "activating".into();
        facts.unit.restarts = 7;
    }
    let plan = plan_of(&[1, 2, 3], &observed, CONVERGE);
    assert!(plan.blocked.is_empty(), "{}", reasons(&plan));
    let at = |verb: &str| {
        let id = format!("node.etcd-3.{verb}");
        let found = ids(&plan).iter().position(|other| **other == id);
        found.unwrap_or_else(|| panic!("{id} in {:?}", ids(&plan)))
    };
    assert!(at("remove") < at("set-aside") && at("set-aside") < at("add"));
    assert!(at("add") < at("join") && at("join") < at("promote"));
}

/// While it is there no other learner can be added, and it is all that the dead one's removal may have to wait for (Q3).
#[test]
fn a_learner_that_cannot_finish_goes_before_dead_voters() {
    let mut world = World::new(desired(5));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    let mut observed = world.observe();
    make_learner(&mut observed, "etcd-4");
    if let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-4") {
        facts.etcd = EtcdState::Silent;
        facts.unit.active = "activating".into();
        facts.unit.restarts = 7;
    }
    unreachable(&mut observed, "etcd-5");
    let plan = plan_of(&[1, 2, 3, 4], &observed, CONVERGE);
    assert!(plan.blocked.is_empty(), "{}", reasons(&plan));
    let removes = ids(&plan);
    let removes: Vec<_> = removes
        .iter()
        .filter(|id| id.ends_with(".remove"))
        .collect();
    assert_eq!(removes, [&"node.etcd-4.remove", &"node.etcd-5.remove"]);
    let needs = |id: &str, need: &str| {
        let mut actions = plan.actions.iter();
        let action = actions.find(|action| action.id.0 == id).expect("planned");
        assert!(
            action.needs.iter().any(|other| other.0 == need),
            "{action:?}"
        );
    };
    needs("cluster.snapshot", "node.etcd-4.remove");
    needs("node.etcd-5.remove", "cluster.snapshot");
    // Its next member comes when all that go are gone.
    needs("node.etcd-4.stop", "node.etcd-5.remove");
}

#[test]
fn a_host_of_another_cluster_does_not_join() {
    let observed = living();
    let mut other = World::new(desired(4)).observe().hosts["etcd-4"].clone();
    let HostState::Known(from) = &observed.hosts["etcd-1"] else {
        panic!("known");
    };
    let mut marker = from.marker.get().expect("a marker").clone();
    marker.generation.nonce = "another".into();
    marker.generation.phase = Phase::Frozen;
    marker.node = "etcd-4".into();
    if let HostState::Known(facts) = &mut other {
        facts.marker = MarkerState::Present(Box::new(marker));
    }
    let mut grown = observed;
    grown.hosts.insert("etcd-4".into(), other);
    let plan = plan_of(&[1, 2, 3, 4], &grown, CONVERGE);
    assert!(
        reasons(&plan).contains("another generation"),
        "{}",
        reasons(&plan)
    );
    assert!(
        !ids(&plan).iter().any(|id| id.starts_with("node.etcd-4.")),
        "{:?}",
        ids(&plan)
    );
}

/// A half-way learner that gets its vote counts once, also when it is restarted after that.
#[test]
fn a_promoted_learner_counts_once() {
    let mut world = World::new(desired(2));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    for node in &mut world.desired_mut().nodes {
        node.settings.insert("snapshot-count".into(), "5000".into());
    }
    let mut observed = world.observe();
    make_learner(&mut observed, "etcd-2");
    let intent = Intent {
        goal: CONVERGE,
        nonce: "n1".into(),
    };
    let now = OffsetDateTime::UNIX_EPOCH;
    let plan = plan::plan(world.desired(), &observed, &intent, now);
    for node in ["etcd-1", "etcd-2"] {
        let blocked = plan.blocked.iter().any(|blocked| {
            blocked.node.as_deref() == Some(node) && blocked.remedy.contains("--allow-downtime")
        });
        assert!(blocked, "{node}: {}", reasons(&plan));
    }
}

/// What lay at the new place before would meet the new member's first start.
#[test]
fn a_replaced_member_finds_nothing_at_either_place() {
    let observed = living();
    let mut file = desired(3);
    file.nodes[1].data_dir = "/data/etcd".into();
    let goal = Goal::Converge {
        allow_downtime: false,
        replace: vec!["etcd-2".into()],
    };
    let nonce = "n1".into();
    let intent = Intent { goal, nonce };
    let plan = plan::plan(&file, &observed, &intent, OffsetDateTime::UNIX_EPOCH);
    let moves = plan.actions.iter().find_map(|action| match &action.kind {
        ActionKind::SetAside(set_aside) => Some(&set_aside.moves),
        _ => None,
    });
    let moves = moves.unwrap_or_else(|| panic!("{}", reasons(&plan)));
    let from: Vec<&str> = moves.iter().map(|(from, _)| from.as_str()).collect();
    assert_eq!(from, ["/var/lib/etcd/member", "/data/etcd/member"]);
}

/// Its unit was restarted more than once before it served, and nobody counts that against it now.
#[test]
fn a_learner_that_crashed_at_first_gets_its_vote() {
    let mut world = World::new(desired(2));
    world.name_first(1);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world.name_first(2);
    let plan = plan_for(&world, CONVERGE, "n1");
    let hopeless = |id: &ActionId| id.0.ends_with(".promote").then(|| "it crashed".to_owned());
    let ended = run_with(&mut world, &plan, &mut |_| 0, usize::MAX, &hopeless);
    assert!(
        ended,
        "its unit says nothing of how long others are healthy"
    );
    assert_eq!(world.view().voters().count(), 2);
}

/// It may crash before it is removed, and would come up on half a change.
#[test]
fn a_member_that_is_replaced_runs_on_its_own_files_to_the_end() {
    let observed = living();
    let mut file = desired(3);
    for node in &mut file.nodes {
        node.settings.insert("snapshot-count".into(), "5000".into());
    }
    let goal = Goal::Converge {
        allow_downtime: false,
        replace: vec!["etcd-2".into()],
    };
    let nonce = "n1".into();
    let intent = Intent { goal, nonce };
    let plan = plan::plan(&file, &observed, &intent, OffsetDateTime::UNIX_EPOCH);
    let at = |verb: &str| {
        let id = format!("node.etcd-2.{verb}");
        let found = ids(&plan).iter().position(|other| **other == id);
        found.unwrap_or_else(|| panic!("{id} in {:?}: {}", ids(&plan), reasons(&plan)))
    };
    assert!(at("stop") < at("configure") && at("configure") < at("add"));
}

/// A host that was reinstalled with its disk kept has stale data and no unit: there is one to stop when it is written.
#[test]
fn a_host_is_ready_before_its_former_member_makes_way() {
    let mut observed = living();
    let mut blank = World::new(desired(4)).observe().hosts["etcd-4"].clone();
    let Some(DataDir::Wal(ours)) = observed.facts("etcd-1").map(|facts| facts.data.clone()) else {
        panic!("a member has data");
    };
    if let HostState::Known(facts) = &mut blank {
        facts.data = DataDir::Wal(WalIdentity {
            member_id: MemberId(99),
            ..ours
        });
    }
    observed.hosts.insert("etcd-4".into(), blank);
    let plan = plan_of(&[1, 2, 3, 4], &observed, CONVERGE);
    let stop = plan
        .actions
        .iter()
        .find(|action| action.id.0 == "node.etcd-4.stop");
    let needs = &stop.expect("it is stopped").needs;
    for verb in ["claim", "configure"] {
        let id = format!("node.etcd-4.{verb}");
        assert!(needs.iter().any(|need| need.0 == id), "{id}: {needs:?}");
    }
}
