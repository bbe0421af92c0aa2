//! That deliberate bugs of the library break a rule: each is put into the very planner and scheduler that are searched.

use std::sync::Mutex;

use quorate::sabotage::Bug;

use super::checks::search;
use super::scenarios;
use super::search::Reached;

/// Each bug, and where it shows: a scenario and what goes wrong in it.
const BUGS: [(Bug, &str, &str); 33] = [
    (
        Bug::RestartWithoutMargin,
        "change of settings of 3",
        "member or host dies",
    ),
    (
        Bug::StopUnasked,
        "change of settings of 3",
        "member or host dies",
    ),
    (
        Bug::UndoUnasked,
        "2 of 3 crash, and settings change",
        "operation fails",
    ),
    (
        Bug::QuorumOffByOne,
        "change of settings of 3",
        "member or host dies",
    ),
    (
        Bug::SilentIsHealthy,
        "change of settings of 3",
        "member or host dies",
    ),
    (
        Bug::GateAlwaysPasses,
        "change of settings of 3",
        "operator dies",
    ),
    (
        Bug::TwoStepsAtOnce,
        "change of settings of 3",
        "operator dies",
    ),
    (
        Bug::FailureFreezesNothing,
        "change of settings of 3",
        "operation fails",
    ),
    (
        Bug::LockLossIgnored,
        "change of settings of 3",
        "lock is lost",
    ),
    (
        Bug::UndoWithoutLock,
        "change of settings of 3",
        "lock is lost",
    ),
    (
        Bug::VoterInsteadOfLearner,
        "growth from 1 to 2",
        "operator dies",
    ),
    (Bug::ChangeUnsettled, "growth from 1 to 3", "operator dies"),
    (
        Bug::ChangeUnhealthy,
        "growth from 3 to 5",
        "member or host dies",
    ),
    (
        Bug::RemovalUnchecked,
        "shrink from 3 to 2",
        "member or host dies",
    ),
    (
        Bug::RemovalByName,
        "a member bears the name of one that leaves",
        "operator dies",
    ),
    (
        Bug::SetAsideBeforeRemoval,
        "shrink from 3 to 2",
        "operator dies",
    ),
    (
        Bug::StopBeforeRemoval,
        "shrink from 5 to 3",
        "member or host dies",
    ),
    (
        Bug::MissingMountIsBlank,
        "growth from 3 to 5",
        "disk is missing",
    ),
    (Bug::FreshNonce, "bootstrap of 3", "operator dies"),
    (
        Bug::UnreachableIsGone,
        "a host of 3 is unreachable, and settings change",
        "operator dies",
    ),
    (Bug::HalfWayLast, "growth from 1 to 3", "operator dies"),
    (Bug::UnorderedSteps, "growth from 1 to 3", "operator dies"),
    (
        Bug::FailedStays,
        "replacement of a rebuilt host of 3",
        "operator dies",
    ),
    (
        Bug::LeaverForgotten,
        "shrink from 5 to 3",
        "member or host dies",
    ),
    (
        Bug::RecordBeforeClean,
        "shrink from 3 to 2",
        "operator dies",
    ),
    (
        Bug::JoiningIsBlank,
        "growth from 1 to 2",
        "member or host dies",
    ),
    (
        Bug::MembersDoNotSteer,
        "growth from 3 to 5",
        "member or host dies",
    ),
    (Bug::DestroyPurges, "destroy of 3", "operator dies"),
    (
        Bug::AddressUnheard,
        "another peer port for 3, one of which a firewall closes",
        "operator dies",
    ),
    (
        Bug::HalfWayAddressWaits,
        "another peer port for 3, one of them half-way",
        "operator dies",
    ),
    (
        Bug::MoveWhileRunning,
        "another data directory for 3",
        "operator dies",
    ),
    (
        Bug::WalFirst,
        "another port and directories for 3, one of them dead",
        "member or host dies",
    ),
    (
        Bug::SnapshotUnneeded,
        "shrink from 3 to 2",
        "operation fails",
    ),
];

#[test]
fn every_deliberate_bug_breaks_a_rule() {
    let open = Mutex::new(BUGS.to_vec());
    let missed: Mutex<Vec<String>> = Mutex::default();
    let work = || {
        loop {
            let Some((bug, scenario, anomaly)) = open.lock().expect("no panic").pop() else {
                return;
            };
            let mut all = scenarios::all(&Reached::default());
            all.retain(|search| search.name == scenario && search.anomaly == anomaly);
            let mut one = all.pop().expect("a scenario of that name");
            one.bug = Some(bug);
            let found = search(one);
            match found.broken {
                Some((broken, steps)) => eprintln!(
                    "{bug:?}: {} ({scenario}, {anomaly}, {} steps, {} states)",
                    broken.rule,
                    steps.len(),
                    found.states,
                ),
                None => missed.lock().expect("no panic").push(format!(
                    "{bug:?} in {} states of {scenario}, {anomaly}",
                    found.states
                )),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let missed = missed.into_inner().expect("no panic");
    assert!(missed.is_empty(), "nothing was broken by {missed:#?}");
}
