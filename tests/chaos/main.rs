//! Chaos: random edits of the cluster file, drift made by hand, `kill -9` of the program and faults
//! of hosts, all at once, while clients write. Afterwards nothing that was acknowledged may be
//! lost, and running the program again must be all the cleaning that there is.
//!
//! `campaign.rs` runs rounds until the time is over; `round.rs` draws a round, `scene.rs` plays it.
//! What can happen is in `edit.rs`, `drift.rs` and `fault.rs`, what must hold in `verdict.rs` and
//! in the crate `quorate-writers`; `checks.rs` shows that those checks find what they are for.

mod campaign;
mod checks;
mod cluster;
mod drift;
mod edit;
mod fault;
mod operator;
mod round;
mod scene;
mod verdict;
