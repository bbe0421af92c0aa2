//! Every state that the real planner and scheduler can bring the model of etcd into, together with operators who die
//! or lose the lock, hosts and disks that fail, and a writer; searched by stateright.
//!
//! - `search`: what a state is, and what may happen in it.
//! - `session`: one run of a plan: the scheduler itself, and how far each action is.
//! - `rules`: the invariants, restated on the model.
//! - `truth`: whether the reason of whatever is blocked is true.
//! - `scenarios`: what is searched.
//! - `checks`: that no rule is broken, and that every part of the library is reached.
//! - `bugs`: that deliberate bugs of the library break a rule.

#[cfg(feature = "sabotage")]
mod bugs;
mod checks;
mod rules;
mod scenarios;
mod search;
mod session;
mod truth;

#[path = "../drive.rs"]
mod drive;
#[path = "../model/mod.rs"]
mod model;
#[path = "../world/mod.rs"]
mod world;
