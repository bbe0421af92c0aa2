//! The registers of a run: each one's history, cut down to what the checker needs.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Operation, Reply, Request, Run};
use crate::linear::{Effect, Event, linearizable};

/// What is wrong with registers, one line each. `last` is what was read from each of them after
/// the run.
pub(crate) fn violations(run: &Run, last: &BTreeMap<usize, u64>) -> Vec<String> {
    let mut histories: BTreeMap<usize, Vec<&Operation>> = BTreeMap::new();
    for operation in run.all() {
        if let Some(register) = register(&operation.request) {
            histories.entry(register).or_default().push(operation);
        }
    }
    let mut found = Vec::new();
    for (register, mut operations) in histories {
        operations.sort_by_key(|operation| operation.invoked);
        let last = last.get(&register).copied();
        if let Err(what) = judge(&operations, last) {
            found.push(format!("register {register}: {what}"));
        }
    }
    found
}

fn register(request: &Request) -> Option<usize> {
    match request {
        Request::Insert { .. } => None,
        Request::Read { register }
        | Request::Write { register, .. }
        | Request::Swap { register, .. } => Some(*register),
    }
}

fn judge(operations: &[&Operation], last: Option<u64>) -> Result<(), String> {
    let mut events = Vec::new();
    let mut sources = Vec::new();
    for operation in operations {
        if let Some(event) = event(operation)? {
            events.push(event);
            sources.push(Some(*operation));
        }
    }
    if let Some(value) = last {
        let after = operations.iter().map(|operation| nanos(operation.returned));
        let after = after.max().unwrap_or(0) + 1;
        events.push(Event {
            effect: Effect::Read(value),
            invoked: after,
            returned: Some(after),
        });
        sources.push(None);
    }
    let (events, kept) = settle(&events);
    linearizable(0, &events).map_err(|violation| {
        let name = |index: usize| match sources[kept[index]] {
            Some(operation) => format!("{operation:?}"),
            None => "the read after the run".to_owned(),
        };
        let beside: Vec<String> = violation.pending.iter().map(|index| name(*index)).collect();
        format!(
            "{violation}; that is {}; beside it: {}",
            name(violation.operation),
            beside.join("; ")
        )
    })
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1)
}

/// `None` for what had and will have no effect that anybody could see.
fn event(operation: &Operation) -> Result<Option<Event>, String> {
    let effect = match (operation.request, operation.reply) {
        (_, Reply::Refused)
        | (Request::Insert { .. }, _)
        | (Request::Read { .. }, Reply::Unknown | Reply::Done) => return Ok(None),
        (Request::Read { .. } | Request::Write { .. }, Reply::Found(value)) => Effect::Read(value),
        (Request::Swap { expected, .. }, Reply::Found(value)) if expected == value => {
            return Err(format!(
                "a swap was not done though it could be: {operation:?}"
            ));
        }
        (Request::Swap { .. }, Reply::Found(value)) => Effect::Read(value),
        (Request::Write { value, .. }, Reply::Done | Reply::Unknown) => Effect::Write(value),
        (
            Request::Swap {
                expected, value, ..
            },
            Reply::Done | Reply::Unknown,
        ) => Effect::Swap(expected, value),
    };
    Ok(Some(Event {
        effect,
        invoked: nanos(operation.invoked),
        returned: (operation.reply != Reply::Unknown).then(|| nanos(operation.returned)),
    }))
}

/// Decides about what is unknown. No value is written twice, so a write whose value somebody saw
/// has happened, before that one returned. One that nobody saw can be left out: whoever came
/// between it and the next write would have seen its value. (Swaps that were not done say what
/// they saw; they count as reads.) Also the indexes of the events that are left.
fn settle(events: &[Event]) -> (Vec<Event>, Vec<usize>) {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let mut known = events.to_vec();
    // Whoever saw a value may be unknown itself until its own value is found to have been seen.
    loop {
        for event in &known {
            let (Effect::Read(value) | Effect::Swap(value, _), Some(returned)) =
                (event.effect, event.returned)
            else {
                continue;
            };
            let first = seen.entry(value).or_insert(returned);
            *first = (*first).min(returned);
        }
        let mut settled = false;
        for event in known.iter_mut().filter(|event| event.returned.is_none()) {
            let (Effect::Write(value) | Effect::Swap(_, value)) = event.effect else {
                continue;
            };
            event.returned = seen.get(&value).copied();
            settled |= event.returned.is_some();
        }
        if !settled {
            break;
        }
    }
    let kept: Vec<usize> = (0..known.len())
        .filter(|index| known[*index].returned.is_some())
        .collect();
    (kept.iter().map(|index| known[*index]).collect(), kept)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn op(request: Request, invoked: u64, returned: u64, reply: Reply) -> Operation {
        Operation {
            client: 0,
            request,
            invoked: Duration::from_millis(invoked),
            returned: Duration::from_millis(returned),
            reply,
        }
    }

    const READ: Request = Request::Read { register: 3 };

    fn write(value: u64) -> Request {
        Request::Write { register: 3, value }
    }

    fn swap(expected: u64, value: u64) -> Request {
        Request::Swap {
            register: 3,
            expected,
            value,
        }
    }

    fn run(operations: Vec<Operation>) -> Run {
        Run {
            operations: vec![operations],
            ..Run::default()
        }
    }

    fn wrong(operations: Vec<Operation>, last: u64) -> usize {
        violations(&run(operations), &BTreeMap::from([(3, last)])).len()
    }

    #[test]
    fn a_history_of_all_kinds_is_fine() {
        let history = vec![
            op(write(1), 0, 10, Reply::Done),
            op(swap(1, 2), 20, 30, Reply::Done),
            op(swap(1, 3), 40, 50, Reply::Found(2)),
            op(write(4), 60, 70, Reply::Unknown),
            op(swap(2, 5), 80, 90, Reply::Unknown),
            op(write(6), 95, 96, Reply::Refused),
            op(READ, 100, 110, Reply::Found(4)),
        ];
        assert_eq!(wrong(history.clone(), 4), 0);
        // What was refused must not be there, nor may what came before come back.
        assert_eq!(wrong(history.clone(), 6), 1);
        assert_eq!(wrong(history, 2), 1);
    }

    #[test]
    fn a_write_that_was_acknowledged_and_is_gone_after_the_run_is_found() {
        assert_eq!(wrong(vec![op(write(1), 0, 10, Reply::Done)], 0), 1);
        assert_eq!(wrong(vec![op(write(1), 0, 10, Reply::Unknown)], 0), 0);
    }

    #[test]
    fn an_unknown_swap_that_another_built_on_has_happened() {
        let history = vec![
            op(swap(0, 1), 0, 10, Reply::Unknown),
            op(swap(1, 2), 20, 30, Reply::Unknown),
            op(READ, 40, 50, Reply::Found(2)),
        ];
        assert_eq!(wrong(history.clone(), 2), 0);
        let mut impossible = history;
        impossible.push(op(swap(1, 7), 60, 70, Reply::Done));
        assert_eq!(wrong(impossible, 7), 1);
    }

    #[test]
    fn a_swap_that_ought_to_have_been_done_is_found() {
        assert_eq!(wrong(vec![op(swap(0, 1), 0, 10, Reply::Found(0))], 0), 1);
    }

    #[test]
    fn hundreds_of_unknown_writes_cost_nothing() {
        let mut history: Vec<Operation> = (1..400)
            .map(|value| op(write(value), value * 10, value * 10 + 2000, Reply::Unknown))
            .collect();
        history.push(op(READ, 8000, 8001, Reply::Found(17)));
        history.push(op(READ, 9000, 9001, Reply::Found(20)));
        assert_eq!(wrong(history.clone(), 20), 0);
        assert_eq!(wrong(history, 17), 1);
    }
}
