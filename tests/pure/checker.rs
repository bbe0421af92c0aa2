//! The checker of plans accepts what the planner makes, and finds every single thing that is broken in it.

mod hosts;
mod membership;
pub mod plans;

use std::collections::BTreeSet;

use quorate::action::{Action, ActionId, Margin};
use quorate::plan::checker::check;

type Actions = Vec<Action>;

/// What has to be found, and what breaks the plan.
type Break = (&'static str, fn(&mut Actions));

fn id(short: &str) -> ActionId {
    match short.starts_with("cluster.") {
        true => ActionId(short.into()),
        false => ActionId(format!("node.{short}")),
    }
}

fn get<'a>(actions: &'a mut Actions, short: &str) -> &'a mut Action {
    let names: Vec<String> = actions.iter().map(|action| action.id.0.clone()).collect();
    let mut found = actions.iter_mut().filter(|action| action.id == id(short));
    found
        .next()
        .unwrap_or_else(|| panic!("{short} in {names:?}"))
}

fn margin<'a>(actions: &'a mut Actions, short: &str) -> &'a mut Margin {
    get(actions, short).margin.as_mut().expect("a margin")
}

fn drop(actions: &mut Actions, short: &str) {
    get(actions, short);
    let gone = id(short);
    actions.retain(|action| action.id != gone);
    for action in actions {
        action.needs.remove(&gone);
    }
}

/// Everything that comes before an action, by whatever way.
fn all_before(actions: &Actions, of: &ActionId) -> BTreeSet<ActionId> {
    let mut all = BTreeSet::new();
    let mut open = vec![of.clone()];
    while let Some(next) = open.pop() {
        let found = actions.iter().find(|action| action.id == next);
        for need in found.into_iter().flat_map(|action| &action.needs) {
            if all.insert(need.clone()) {
                open.push(need.clone());
            }
        }
    }
    all
}

/// Takes every way from one action to another that comes before it, and no more than that.
fn free(actions: &mut Actions, short: &str, other: &str) {
    let other = id(other);
    let mut needs = all_before(actions, &id(short));
    assert!(
        needs.remove(&other),
        "{short} does not wait for {other} as it is"
    );
    needs.retain(|need| !all_before(actions, need).contains(&other));
    get(actions, short).needs = needs;
}

/// Checks that the plan is good, and each of its broken forms is not, for the reason that is given.
fn each_is_found(plan: &Actions, breaks: &[Break]) {
    assert_eq!(check(plan), Ok(()));
    let missed: Vec<_> = breaks
        .iter()
        .filter_map(|(expected, break_it)| {
            let mut broken = plan.clone();
            break_it(&mut broken);
            let faults = check(&broken).err().unwrap_or_default();
            (!faults.iter().any(|fault| fault == expected)).then_some((expected, faults))
        })
        .collect();
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

#[test]
fn what_the_planner_makes_is_accepted() {
    for (name, plan) in plans::all() {
        assert!(!plan.is_empty(), "{name}");
        assert_eq!(check(&plan.actions), Ok(()), "{name}");
    }
}

#[test]
fn every_need_is_an_action_that_comes_before() {
    each_is_found(
        &plans::growth().actions,
        &[
            ("two actions are called node.etcd-4.add", |plan| {
                let again = get(plan, "etcd-4.add").clone();
                plan.push(again);
            }),
            (
                "node.etcd-4.add does not come after node.etcd-9.add",
                |plan| {
                    get(plan, "etcd-4.add").needs.insert(id("etcd-9.add"));
                },
            ),
            (
                "node.etcd-4.add does not come after node.etcd-4.record",
                |plan| {
                    get(plan, "etcd-4.add").needs.insert(id("etcd-4.record"));
                },
            ),
            (
                "node.etcd-4.add does not come after node.etcd-4.add",
                |plan| {
                    get(plan, "etcd-4.add").needs.insert(id("etcd-4.add"));
                },
            ),
            (
                "node.etcd-4.record does not come after node.etcd-4.promote",
                |plan| {
                    plan.reverse();
                },
            ),
        ],
    );
}
