//! Whether a history of one register is linearizable: whether every operation can be thought to
//! have happened at one moment between its invocation and its return, so that each saw what the
//! one before it left.
//!
//! Wing & Gong's search in Lowe's just-in-time form: events are gone through in the order of
//! time, with the set of all states that the register could be in (its value, and which of the
//! pending operations have happened already). An operation is made to happen at the latest when
//! it returns. States met again are not searched again, so that the work is bounded by the
//! operations that overlap, not by the length of the history. An operation without return may
//! happen at any time after its invocation, or never.
//!
//! Stateright's `LinearizabilityTester` is made for the few operations of a model: it copies what is left of the history
//! for each of them, goes one call deeper, and does not know a state that it meets again. On short histories it has the
//! same verdicts, which a test holds this one against.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

/// What an operation did if it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It saw this value.
    Read(u64),
    /// It wrote this value.
    Write(u64),
    /// It saw the first value and wrote the second.
    Swap(u64, u64),
}

/// An operation of a history. Times are of one clock; its unit does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it did.
    pub effect: Effect,
    /// When it was invoked.
    pub invoked: u64,
    /// When it returned; `None` when nobody knows whether it happened.
    pub returned: Option<u64>,
}

/// An operation that cannot have happened when it says it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The operation, an index of the history.
    pub operation: usize,
    /// Values that the register may have had then.
    pub possible: Vec<u64>,
    /// Those that were pending beside it.
    pub pending: Vec<usize>,
    /// Set when the search was given up instead: too much is pending at a time.
    pub undecided: bool,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.undecided {
            return write!(f, "given up at operation {}", self.operation);
        }
        write!(
            f,
            "operation {} cannot have happened: the register can only have been {:?}, with {:?} pending",
            self.operation, self.possible, self.pending
        )
    }
}

/// States that are searched at one return before it is given up.
const LIMIT: usize = 100_000;

/// The register's value, and the pending operations that have happened, sorted.
type State = (u64, Vec<usize>);

/// Checks a history of one register, which begins with a value.
///
/// # Errors
/// The first operation that does not fit.
pub fn linearizable(start: u64, history: &[Event]) -> Result<(), Violation> {
    // At the same time invocations come first: such operations overlap.
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(history.len() * 2);
    for (index, event) in history.iter().enumerate() {
        moments.push((event.invoked, false, index));
        moments.extend(
            event
                .returned
                .map(|at| (at.max(event.invoked), true, index)),
        );
    }
    moments.sort_unstable();
    let mut pending: BTreeSet<usize> = BTreeSet::new();
    let mut states: HashSet<State> = HashSet::from([(start, Vec::new())]);
    for (_, returns, index) in moments {
        if !returns {
            pending.insert(index);
            continue;
        }
        let after = having_happened(index, &states, &pending, history);
        pending.remove(&index);
        states = match after {
            Some(after) if !after.is_empty() => after,
            after => {
                let possible: BTreeSet<u64> = states.iter().map(|(value, _)| *value).collect();
                return Err(Violation {
                    operation: index,
                    possible: possible.into_iter().collect(),
                    pending: pending.into_iter().collect(),
                    undecided: after.is_none(),
                });
            }
        };
    }
    Ok(())
}

/// All states that can be reached from these in which an operation has happened; it is forgotten
/// in them, since it is not pending any more. `None` when there are too many.
fn having_happened(
    wanted: usize,
    states: &HashSet<State>,
    pending: &BTreeSet<usize>,
    history: &[Event],
) -> Option<HashSet<State>> {
    let mut reached = HashSet::new();
    let mut seen: HashSet<State> = states.clone();
    let mut open: Vec<State> = states.iter().cloned().collect();
    while let Some((value, happened)) = open.pop() {
        if let Ok(at) = happened.binary_search(&wanted) {
            let mut happened = happened;
            happened.remove(at);
            reached.insert((value, happened));
            continue;
        }
        for next in pending {
            let Err(at) = happened.binary_search(next) else {
                continue;
            };
            let Some(value) = applied(history[*next].effect, value) else {
                continue;
            };
            let mut happened = happened.clone();
            happened.insert(at, *next);
            let state = (value, happened);
            if seen.len() >= LIMIT {
                return None;
            }
            if seen.insert(state.clone()) {
                open.push(state);
            }
        }
    }
    Some(reached)
}

/// The value afterwards; `None` when this cannot happen to a register of this value.
fn applied(effect: Effect, value: u64) -> Option<u64> {
    match effect {
        Effect::Read(seen) => (seen == value).then_some(value),
        Effect::Write(new) => Some(new),
        Effect::Swap(expected, new) => (expected == value).then_some(new),
    }
}

#[cfg(test)]
mod tests {
    use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

    use super::Effect::{Read, Swap, Write};
    use super::*;

    fn op(effect: Effect, invoked: u64, returned: u64) -> Event {
        Event {
            effect,
            invoked,
            returned: Some(returned),
        }
    }

    fn open(effect: Effect, invoked: u64) -> Event {
        Event {
            effect,
            invoked,
            returned: None,
        }
    }

    fn fails_at(history: &[Event]) -> usize {
        let violation = linearizable(0, history).expect_err("not linearizable");
        assert!(!violation.undecided);
        violation.operation
    }

    #[test]
    fn what_overlaps_may_happen_in_either_order() {
        let history = [
            op(Write(1), 0, 10),
            op(Write(2), 5, 15),
            op(Read(1), 20, 30),
        ];
        assert_eq!(linearizable(0, &history), Ok(()));
        let history = [
            op(Write(1), 0, 10),
            op(Write(2), 5, 15),
            op(Read(2), 20, 30),
        ];
        assert_eq!(linearizable(0, &history), Ok(()));
        let history = [op(Read(0), 0, 40), op(Write(1), 5, 15), op(Read(1), 20, 30)];
        assert_eq!(linearizable(0, &history), Ok(()));
    }

    #[test]
    fn a_stale_read_is_found() {
        assert_eq!(fails_at(&[op(Write(1), 0, 10), op(Read(0), 20, 30)]), 1);
        // Two readers beside one write must agree on when it happened.
        let history = [
            op(Write(1), 0, 100),
            op(Read(1), 10, 20),
            op(Read(0), 30, 40),
        ];
        assert_eq!(fails_at(&history), 2);
    }

    #[test]
    fn a_lost_write_is_found() {
        let history = [
            op(Write(1), 0, 10),
            op(Write(2), 20, 30),
            op(Read(1), 40, 50),
        ];
        assert_eq!(fails_at(&history), 2);
    }

    #[test]
    fn two_swaps_from_one_value_are_found() {
        let history = [
            op(Write(1), 0, 10),
            op(Swap(1, 2), 20, 40),
            op(Swap(1, 3), 20, 40),
        ];
        assert_eq!(fails_at(&history), 2);
        // Not so if something put the value back.
        let history = [history[0], history[1], history[2], op(Write(1), 15, 60)];
        assert_eq!(linearizable(0, &history), Ok(()));
    }

    #[test]
    fn values_out_of_nowhere_are_found() {
        assert_eq!(fails_at(&[op(Write(1), 0, 10), op(Read(7), 5, 20)]), 1);
    }

    #[test]
    fn what_is_unknown_happens_at_any_later_time_or_never() {
        let lost = [open(Write(1), 0), op(Read(0), 20, 30)];
        assert_eq!(linearizable(0, &lost), Ok(()));
        let late = [open(Write(1), 0), op(Read(0), 20, 30), op(Read(1), 40, 50)];
        assert_eq!(linearizable(0, &late), Ok(()));
        let twice = [open(Write(1), 0), op(Read(1), 20, 30), op(Read(0), 40, 50)];
        assert_eq!(fails_at(&twice), 2);
        let early = [op(Read(1), 0, 10), open(Write(1), 20)];
        assert_eq!(fails_at(&early), 0);
    }

    /// Five clients, thousands of operations, one of them wrong.
    #[test]
    fn long_histories_are_checked_at_once() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut value = 0;
        let mut history = Vec::new();
        for number in 1..=20_000_u64 {
            // Happened at 10 × number, and overlaps its neighbours.
            let at = number * 10;
            let effect = match rng.u32(0..3) {
                0 => Read(value),
                1 => Write(number),
                _ => Swap(value, number),
            };
            if !matches!(effect, Read(_)) {
                value = number;
            }
            history.push(op(effect, at - rng.u64(0..25).min(at), at + rng.u64(0..25)));
        }
        let begun = std::time::Instant::now();
        assert_eq!(linearizable(0, &history), Ok(()));
        let took = begun.elapsed();
        assert!(took.as_secs() < 20, "{took:?}");
        history.push(op(Read(5), 150_000, 150_001));
        assert_eq!(fails_at(&history), 20_000);
    }

    /// The register, for another checker.
    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Register(u64);

    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    enum Call {
        Read,
        Write(u64),
        Swap(u64, u64),
    }

    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    enum Answer {
        Value(u64),
        Done(bool),
    }

    impl SequentialSpec for Register {
        type Op = Call;
        type Ret = Answer;

        fn invoke(&mut self, call: &Call) -> Answer {
            match *call {
                Call::Read => Answer::Value(self.0),
                Call::Write(value) => {
                    self.0 = value;
                    Answer::Done(true)
                }
                Call::Swap(expected, value) => {
                    let swaps = self.0 == expected;
                    if swaps {
                        self.0 = value;
                    }
                    Answer::Done(swaps)
                }
            }
        }
    }

    /// Stateright's verdict; each operation is of a client of its own.
    fn is_linearizable_elsewhere(history: &[Event]) -> bool {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (index, event) in history.iter().enumerate() {
            moments.push((event.invoked, false, index));
            moments.extend(event.returned.map(|at| (at, true, index)));
        }
        moments.sort_unstable();
        let mut tester = LinearizabilityTester::new(Register(0));
        for (_, returns, index) in moments {
            let (call, answer) = match history[index].effect {
                Read(value) => (Call::Read, Answer::Value(value)),
                Write(value) => (Call::Write(value), Answer::Done(true)),
                Swap(expected, value) => (Call::Swap(expected, value), Answer::Done(true)),
            };
            let fed = if returns {
                tester.on_return(index, answer)
            } else {
                tester.on_invoke(index, call)
            };
            fed.expect("one operation at a time");
        }
        tester.is_consistent()
    }

    #[test]
    fn verdicts_on_short_histories_are_those_of_another_checker() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut linear = 0;
        for _ in 0..4_000 {
            let history: Vec<Event> = (0..rng.usize(1..7))
                .map(|_| {
                    let effect = match rng.u32(0..3) {
                        0 => Read(rng.u64(0..3)),
                        1 => Write(rng.u64(0..3)),
                        _ => Swap(rng.u64(0..3), rng.u64(0..3)),
                    };
                    let invoked = rng.u64(0..20);
                    let returned = (rng.u32(0..4) > 0).then(|| invoked + rng.u64(0..12));
                    Event {
                        effect,
                        invoked,
                        returned,
                    }
                })
                .collect();
            let verdict = linearizable(0, &history).is_ok();
            linear += usize::from(verdict);
            assert_eq!(verdict, is_linearizable_elsewhere(&history), "{history:?}");
        }
        assert!((400..3_600).contains(&linear), "{linear} of 4000");
    }

    #[test]
    fn a_search_without_end_is_given_up_and_said() {
        let mut history: Vec<Event> = (1..=40).map(|value| open(Write(value), 0)).collect();
        history.push(op(Read(77), 10, 20));
        let violation = linearizable(0, &history).expect_err("77 was never written");
        assert!(violation.undecided, "{violation}");
    }
}
