//! That no rule is broken, and that every part of the library is reached.

use std::sync::Mutex;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use super::rules::{self, Broken};
use super::scenarios;
use super::search::{Reached, Search};
use super::truth;

/// Kinds of action, all of which have to be begun.
const KINDS: [&str; 19] = [
    "claim",
    "record",
    "prepare",
    "install",
    "configure",
    "bootstrap",
    "form",
    "snapshot",
    "add",
    "join",
    "promote",
    "remove",
    "enable",
    "start",
    "restart",
    "tell",
    "stop",
    "setaside",
    "clean",
];

/// What else has to be come by.
const OTHERS: [&str; 29] = [
    "balk: the member is needed",
    "end: snapshot: failed",
    "end: add: refused",
    "end: promote: refused",
    "end: remove: refused",
    "end: restart: refused",
    "end: setaside: refused",
    "end: restart: put back",
    "end: restart: failed",
    "end: restart: not started",
    "end: bootstrap: failed",
    "end: join: failed",
    "end: form: failed",
    "undo: restart",
    "guard: a run without the lock is refused",
    "lock: lost",
    "lock: its loss is told",
    "operator: dies",
    "member: killed",
    "host: powered off",
    "disk: not mounted",
    "unheard: what was done counts as failed",
    "wait: does not answer",
    "wait: has no leader",
    "wait: has not answered healthy",
    "wait: stopping it would leave",
    "wait: voters are healthy",
    "wait: no member could say",
    "wait: members answer",
];

fn expected() -> impl Iterator<Item = String> {
    let begun = KINDS.iter().map(|kind| format!("run: {kind}"));
    let blocked = truth::REASONS
        .iter()
        .map(|reason| format!("blocked: {reason}"));
    let others = OTHERS.iter().map(|what| (*what).to_owned());
    begun.chain(blocked).chain(others)
}

/// What a search came to.
pub struct Found {
    pub states: usize,
    pub broken: Option<(Broken, Vec<String>)>,
    pub ends: bool,
}

/// Searches everything.
pub fn search(search: Search) -> Found {
    let mut builder = search.checker().finish_when(HasDiscoveries::AnyFailures);
    if let Some(seconds) = std::env::var("QUORATE_EXPLORE_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
    {
        builder = builder.timeout(std::time::Duration::from_secs(seconds));
    }
    let checker = builder.spawn_bfs().join();
    let broken = checker.discovery("no rule is broken").map(|path| {
        let broken = path.last_state().broken.clone().expect("a rule");
        assert!(
            rules::ALL.contains(&broken.rule),
            "{} is a rule",
            broken.rule
        );
        let steps = path
            .into_actions()
            .iter()
            .map(ToString::to_string)
            .collect();
        (broken, steps)
    });
    Found {
        states: checker.unique_state_count(),
        ends: checker.discovery("it comes to an end").is_some(),
        broken,
    }
}

#[test]
fn no_rule_is_broken_and_everything_is_reached() {
    let reached = Reached::default();
    let all_begun = Instant::now();
    let only = std::env::var("QUORATE_EXPLORE_ONLY").unwrap_or_default();
    let mut all = scenarios::all(&reached);
    all.retain(|search| format!("{}, {}", search.name, search.anomaly).contains(&only));
    all.reverse();
    let open = Mutex::new(all);
    let faults: Mutex<Vec<String>> = Mutex::default();
    let total = Mutex::new(0);
    let work = || {
        loop {
            let Some(next) = open.lock().expect("no panic").pop() else {
                return;
            };
            let name = format!("{}, {}", next.name, next.anomaly);
            let begun = Instant::now();
            let found = search(next);
            eprintln!(
                "{:7} states  {:5.1} s  {name}",
                found.states,
                begun.elapsed().as_secs_f32()
            );
            *total.lock().expect("no panic") += found.states;
            if let Some((broken, steps)) = found.broken {
                let steps = steps.join("\n  ");
                let fault = format!("{name}: {}: {}\nafter\n  {steps}", broken.rule, broken.how);
                eprintln!("{fault}");
                faults.lock().expect("no panic").push(fault);
            } else if !found.ends {
                faults
                    .lock()
                    .expect("no panic")
                    .push(format!("{name}: it never ends"));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    eprintln!(
        "{:7} states in all, {:.0} s",
        total.into_inner().expect("no panic"),
        all_begun.elapsed().as_secs_f32()
    );
    for (what, count) in reached.counts() {
        eprintln!("{count:7} × {what}");
    }
    let faults = faults.into_inner().expect("no panic");
    if only.is_empty() {
        let counts = reached.counts();
        let missing: Vec<String> = expected()
            .filter(|what| !counts.contains_key(what))
            .collect();
        assert!(missing.is_empty(), "nothing came by {missing:?}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}
