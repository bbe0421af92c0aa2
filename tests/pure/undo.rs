//! A restart that fails is taken back only where that costs nobody the quorum.

use quorate::action::{Action, ActionId, ActionKind, Operation, UnitVerb};
use quorate::apply::script::{EtcdCall, Materials, Step, steps};
use quorate::observed::etcd::ClusterView;
use quorate::plan::Plan;
use quorate::runtime::Profile;
use quorate::schedule::{Command, Event, GATE_DEADLINE_MS, Outcome, Scheduler};
use secrecy::SecretString;

use crate::drive::{CONVERGE, desired, plan_for, run};
use crate::world::World;

struct NoSecrets;

impl Materials for NoSecrets {
    fn authority(&self) -> Result<String, String> {
        Err("no authority".into())
    }
    fn pair(&mut self, _: Profile) -> Result<(String, SecretString), String> {
        Err("no authority".into())
    }
}

fn changed(edit: fn(&mut quorate::desired::Desired)) -> (World, Plan) {
    let mut world = World::new(desired(3));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    edit(world.desired_mut());
    let plan = plan_for(&world, CONVERGE, "n1");
    (world, plan)
}

fn another_setting(desired: &mut quorate::desired::Desired) {
    for node in &mut desired.nodes {
        node.settings.insert("snapshot-count".into(), "5000".into());
    }
}

/// A run that has come to its first restart.
struct Session {
    scheduler: Scheduler,
    restarting: Action,
    at: u64,
}

impl Session {
    fn new(world: &World, plan: &Plan) -> Self {
        let mut scheduler = Scheduler::new(&plan.actions, 32);
        let mut commands = scheduler.on(Event::Started { at: 0 });
        for at in 1..1000 {
            match commands.remove(0) {
                Command::Run(id) if id.0.ends_with(".restart") => {
                    let mut actions = plan.actions.iter();
                    let restarting = actions.find(|action| action.id == id);
                    return Self {
                        scheduler,
                        restarting: restarting.expect("planned").clone(),
                        at,
                    };
                }
                Command::Run(id) => {
                    let result = Ok(());
                    commands.extend(scheduler.on(Event::Ran { at, id, result }));
                }
                Command::Look(id, _) => commands.extend(scheduler.on(Event::Looked {
                    at,
                    id,
                    view: world.view(),
                    hopeless: None,
                })),
                _ => {}
            }
        }
        panic!("no restart")
    }

    fn id(&self) -> ActionId {
        self.restarting.id.clone()
    }

    fn ran(&mut self, result: Result<(), String>) -> Vec<Command> {
        self.at += 1;
        let (at, id) = (self.at, self.id());
        self.scheduler.on(Event::Ran { at, id, result })
    }

    fn balked(&mut self, refused: bool) -> Vec<Command> {
        self.at += 1;
        let (at, id, why) = (self.at, self.id(), "not safe".into());
        self.scheduler.on(Event::Balked {
            at,
            id,
            why,
            refused,
            untouched: false,
        })
    }

    fn looked(&mut self, world: &World) -> Vec<Command> {
        self.looked_at(world.view())
    }

    fn looked_at(&mut self, view: ClusterView) -> Vec<Command> {
        self.told(view, None)
    }

    fn told(&mut self, view: ClusterView, hopeless: Option<String>) -> Vec<Command> {
        self.at += 1;
        self.scheduler.on(Event::Looked {
            at: self.at,
            id: self.id(),
            view,
            hopeless,
        })
    }

    fn outcome(&self) -> Outcome {
        let ended = self.scheduler.ended();
        let found = ended.into_iter().find(|(id, _)| *id == self.id());
        found.expect("it has ended").1
    }
}

/// Who is at work or not, an undo stops the member: the cluster is asked before.
#[test]
fn operations_that_fail_are_taken_back_if_the_cluster_can_spare_the_member() {
    let (mut world, plan) = changed(another_setting);
    let mut session = Session::new(&world, &plan);
    let id = session.id();
    let look = [Command::Look(id.clone(), 0)];
    assert_eq!(session.ran(Err("it failed".into())), look);
    assert_eq!(session.looked(&world), [Command::Undo(id)]);

    let mut session = Session::new(&world, &plan);
    session.ran(Err("it failed".into()));
    let here = session.restarting.node.clone();
    let other = world.hosts.keys().find(|name| Some(*name) != here.as_ref());
    world.kill(&other.expect("another").clone());
    // It may be an election.
    let again = [Command::Look(session.id(), 100)];
    assert_eq!(session.looked(&world), again);
    session.at += 10_000;
    let commands = session.looked(&world);
    assert!(
        !commands
            .iter()
            .any(|command| matches!(command, Command::Undo(_))),
        "{commands:?}"
    );
    let Outcome::Failed(why) = session.outcome() else {
        panic!("{:?}", session.outcome())
    };
    assert!(why.contains("left as it is"), "{why}");
}

/// One that was down takes nothing away when it is worked on, and may be what the quorum hangs on when it has come up.
#[test]
fn a_member_that_was_down_and_has_come_up_is_not_stopped_to_take_it_back() {
    let (mut world, _) = changed(|desired| {
        for node in &mut desired.nodes {
            node.data_dir = "/srv/etcd".into();
        }
    });
    for name in ["etcd-2", "etcd-3"] {
        world.kill(name);
    }
    let plan = plan_for(&world, CONVERGE, "n1");
    let mut session = Session::new(&world, &plan);
    let ActionKind::Restart(restart) = &session.restarting.kind else {
        panic!("{:?}", session.restarting)
    };
    assert!(restart.is_down, "{restart:?}");
    let here = session.restarting.node.clone().expect("a node");
    for operation in World::operations(&session.restarting) {
        world.perform(&here, &operation).expect("it works");
    }
    let look = [Command::Look(session.id(), 0)];
    assert_eq!(session.ran(Err("nobody heard of its end".into())), look);
    let again = [Command::Look(session.id(), 100)];
    assert_eq!(session.looked(&world), again);
    session.at += 10_000;
    let commands = session.looked(&world);
    let undoes = |command: &Command| matches!(command, Command::Undo(_));
    assert!(!commands.iter().any(undoes), "{commands:?}");
    let Outcome::Failed(why) = session.outcome() else {
        panic!("{:?}", session.outcome())
    };
    assert!(why.contains("left as it is"), "{why}");
}

/// An undo stops the member: one look that misses it is not enough to say that it is down.
#[test]
fn a_gate_that_fails_is_looked_at_again_before_anything_is_taken_back() {
    let (mut world, plan) = changed(another_setting);
    let mut session = Session::new(&world, &plan);
    let id = session.id();
    session.ran(Ok(()));
    world.kill(&session.restarting.node.clone().expect("a node"));
    session.at += GATE_DEADLINE_MS;
    let again = [Command::Look(id.clone(), 100)];
    assert_eq!(session.looked(&world), again);
    session.at += 10_000;
    assert_eq!(session.looked(&world), [Command::Undo(id)]);
}

/// What it ran with may be of no use any more, such as the address of a host that has another.
#[test]
fn a_unit_that_crashes_on_what_was_put_back_is_not_waited_for() {
    let (mut world, plan) = changed(another_setting);
    let mut session = Session::new(&world, &plan);
    session.ran(Ok(()));
    world.kill(&session.restarting.node.clone().expect("a node"));
    session.at += GATE_DEADLINE_MS;
    session.looked(&world);
    session.at += 10_000;
    assert_eq!(session.looked(&world), [Command::Undo(session.id())]);
    session.ran(Ok(()));
    assert_eq!(session.looked(&world), [Command::Look(session.id(), 100)]);
    session.told(world.view(), Some("the unit has crashed".into()));
    let Outcome::Failed(why) = session.outcome() else {
        panic!("{:?}", session.outcome())
    };
    assert!(why.contains("it was put back, but"), "{why}");
    assert!(why.ends_with("the unit has crashed"), "{why}");
}

#[test]
fn a_member_that_catches_up_has_its_time() {
    let (world, plan) = changed(another_setting);
    let mut session = Session::new(&world, &plan);
    session.ran(Ok(()));
    let mut view = world.view();
    let here = session.restarting.node.clone();
    for (node, status) in view.statuses.values_mut() {
        status.raft_index += 50_000;
        if Some(&*node) != here.as_ref() {
            status.raft_applied_index += 50_000;
        }
    }
    session.at += 3 * GATE_DEADLINE_MS;
    let again = Command::Look(session.id(), 100);
    assert_eq!(session.looked_at(view.clone()).last(), Some(&again));
    // One look misses it, and it answers the next.
    let mut silent = view.clone();
    silent
        .statuses
        .retain(|_, (node, _)| Some(&*node) != here.as_ref());
    assert_eq!(
        session.looked_at(silent.clone()),
        std::slice::from_ref(&again)
    );
    assert_eq!(session.looked_at(view).last(), Some(&again));
    assert_eq!(session.looked_at(silent), [again]);
    session.looked(&world);
    assert_eq!(session.outcome(), Outcome::Done);
}

/// Nothing was stopped, so that nothing is stopped to take it back.
#[test]
fn what_ended_before_the_member_was_stopped_is_put_back_at_once() {
    let (mut world, plan) = changed(another_setting);
    let before = Session::new(&world, &plan);
    let here = before.restarting.node.clone();
    let other = world.hosts.keys().find(|name| Some(*name) != here.as_ref());
    let healthy = world.clone();
    world.kill(&other.expect("another").clone());
    for refused in [true, false] {
        let mut session = Session::new(&healthy, &plan);
        assert_eq!(session.balked(refused), [Command::Undo(session.id())]);
        session.ran(Ok(()));
        session.looked(&world);
        match session.outcome() {
            Outcome::Refused(_) => assert!(refused),
            Outcome::Undone(_) => assert!(!refused),
            other => panic!("{other:?}"),
        }
    }
}

/// What may take long comes before the last look at the cluster, which comes right before the script that stops it.
#[test]
fn one_script_stops_the_member_and_nothing_else_is_waited_for_in_it() {
    let edits: [fn(&mut quorate::desired::Desired); 2] = [another_setting, |desired| {
        desired.nodes[0].peer_port = 3380;
        desired.nodes[0].data_dir = "/srv/etcd".into();
    }];
    for edit in edits {
        let (_, plan) = changed(edit);
        let restart = plan
            .actions
            .iter()
            .find(|action| matches!(action.kind, ActionKind::Restart(_)))
            .expect("a restart");
        let steps = steps(&World::operations(restart), "run", &mut NoSecrets).expect("no secrets");
        let stops = |step: &Step| matches!(step, Step::Script { stops: true, .. });
        let at = steps.iter().position(stops).expect("it stops");
        assert_eq!(steps.iter().filter(|step| stops(step)).count(), 1);
        let lasting = |step: &Step| {
            matches!(
                step,
                Step::Etcd(EtcdCall::MoveLeader(_) | EtcdCall::Update(..)) | Step::Upload { .. }
            )
        };
        assert!(!steps[at..].iter().any(lasting));
        assert!(steps[..at].iter().any(lasting));
    }
}

/// Without the member there may be no quorum to learn where it is, and without the others it does not stay down.
#[test]
fn a_member_is_back_before_the_membership_is_set_back() {
    let (_, plan) = changed(|desired| desired.nodes[0].peer_port = 3380);
    let undo = plan
        .actions
        .iter()
        .find(|action| matches!(action.kind, ActionKind::Restart(_)))
        .expect("a restart")
        .kind
        .as_kind()
        .undo();
    let at = |wanted: fn(&Operation) -> bool| undo.iter().position(wanted).expect("it is there");
    let back = at(|operation| matches!(operation, Operation::Unit(UnitVerb::RestartAgain, _)));
    let told = at(|operation| matches!(operation, Operation::UpdateMember(..)));
    assert!(back < told, "{undo:?}");
}

/// Neither is a member stopped, nor do the others look for it elsewhere, to find out that there is no room for its data.
#[test]
fn room_comes_before_all_else_and_before_what_is_put_back() {
    let (_, plan) = changed(|desired| {
        desired.nodes[0].peer_port = 3380;
        desired.nodes[0].data_dir = "/srv/etcd".into();
    });
    let restart = plan
        .actions
        .iter()
        .find(|action| matches!(action.kind, ActionKind::Restart(_)))
        .expect("a restart");
    let room = |operation: &Operation| matches!(operation, Operation::AssertRoom(_));
    let all = World::operations(restart);
    let asked = all.iter().rposition(room).expect("it is asked for");
    let costs = |operation: &Operation| {
        let tells = matches!(
            operation,
            Operation::UpdateMember(..) | Operation::MoveLeader(_) | Operation::WriteFile(_)
        );
        tells || operation.stops()
    };
    assert_eq!(all[asked..].iter().filter(|one| costs(one)).count(), 6);
    assert!(!all[..asked].iter().any(costs));
    let undo = restart.kind.as_kind().undo();
    assert!(undo.first().is_some_and(room), "{undo:?}");
}

/// Asked once more right before it would be stopped, which only goes for what may have been stopped.
#[test]
fn what_cannot_be_spared_when_it_is_to_be_stopped_again_is_left_as_it_is() {
    let (world, plan) = changed(another_setting);
    let mut session = Session::new(&world, &plan);
    assert_eq!(session.balked(false), [Command::Undo(session.id())]);
    assert!(!session.scheduler.stops_again(&session.id()));
    let mut session = Session::new(&world, &plan);
    session.ran(Err("it failed".into()));
    assert_eq!(session.looked(&world), [Command::Undo(session.id())]);
    assert!(session.scheduler.stops_again(&session.id()));
    session.balked(true);
    let left = "it failed; it is left as it is: not safe".to_owned();
    assert_eq!(session.outcome(), Outcome::Failed(left));
}

/// What was done to nobody is taken back from nobody.
#[test]
fn what_has_touched_nothing_is_not_taken_back() {
    let (world, plan) = changed(another_setting);
    let mut session = Session::new(&world, &plan);
    session.at += 1;
    let balked = Event::Balked {
        at: session.at,
        id: session.id(),
        why: "the first script ended".into(),
        refused: false,
        untouched: true,
    };
    let commands = session.scheduler.on(balked);
    let is_undo = |command: &Command| matches!(command, Command::Undo(_));
    assert!(!commands.iter().any(is_undo), "{commands:?}");
    assert!(matches!(session.outcome(), Outcome::Failed(_)));
}
