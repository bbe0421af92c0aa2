//! What a unit that is waited for does, and whether that is in vain.

use std::collections::BTreeMap;
use std::time::Duration;

use super::perform::Context;
use crate::action::Action;
use crate::observe::shell::word;

/// Time for a look at a unit.
const LOOK: Duration = Duration::from_secs(10);
/// Restarts of a unit by systemd, while it is waited for, after which that is in vain.
const MAX_RESTARTS: u32 = 2;

/// A unit on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub node: String,
    /// How often systemd has started it again since somebody else last did; it forgets that only then.
    pub restarts: u32,
    /// Whether nobody starts it any more.
    pub gave_up: bool,
    /// The end of its journal.
    pub journal: String,
}

/// Looks at the units that an action waits for. Hosts that do not answer are left out.
pub(super) async fn look(context: Context, action: Action) -> Vec<Seen> {
    let Some(unit) = action.kind.as_kind().watched_unit() else {
        return vec![];
    };
    let nodes: Vec<&str> = match &action.node {
        Some(node) => vec![node],
        None => {
            let all = context.desired.nodes.iter();
            all.map(|node| node.name.as_str()).collect()
        }
    };
    let unit = word(unit);
    let script = format!(
        "systemctl show {unit} -p NRestarts -p ActiveState\ntimeout 4 journalctl -q --no-pager -o cat -n 8 -u {unit} | cut -c 1-300\n"
    );
    let mut seen = Vec::new();
    for node in nodes {
        let Ok(host) = context.fleet.host(node).await else {
            continue;
        };
        if let Ok(output) = host.script(script.as_bytes(), LOOK).await {
            seen.push(read(node, &String::from_utf8_lossy(&output.stdout)));
        }
    }
    seen
}

fn read(node: &str, text: &str) -> Seen {
    let mut restarts = 0;
    let mut gave_up = false;
    let mut journal = Vec::new();
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("NRestarts=") {
            restarts = count.parse().unwrap_or(0);
        } else if let Some(state) = line.strip_prefix("ActiveState=") {
            gave_up = state == "failed" || state == "inactive";
        } else {
            journal.push(line);
        }
    }
    Seen {
        node: node.to_owned(),
        restarts,
        gave_up,
        journal: journal.join("\n"),
    }
}

/// Counts of units that were started anew by what is judged: each crash is of that.
pub(super) fn fresh(seen: &[Seen]) -> BTreeMap<String, u32> {
    seen.iter().map(|unit| (unit.node.clone(), 0)).collect()
}

/// Why units will not come: one has given up, or crashes again and again while it is waited for. `first` is how often each
/// had been restarted when it was first looked at: what it went through before says nothing of what it does now.
pub(super) fn hopeless(first: &mut BTreeMap<String, u32>, seen: &[Seen]) -> Option<String> {
    seen.iter().find_map(|unit| {
        let first = first.entry(unit.node.clone()).or_insert(unit.restarts);
        let crashes = unit.restarts.saturating_sub(*first);
        let state = if unit.gave_up {
            "has stopped".to_owned()
        } else if crashes >= MAX_RESTARTS {
            format!("has crashed {crashes} times")
        } else {
            return None;
        };
        Some(format!(
            "on {} the unit {state}; its journal ends with\n{}",
            unit.node, unit.journal
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: &str, restarts: u32) -> [Seen; 1] {
        let text = format!("NRestarts={restarts}\nActiveState={state}\nstarting\npanic");
        [read("etcd-1", &text)]
    }

    #[test]
    fn only_crashes_while_it_is_waited_for_count() {
        let mut first = BTreeMap::new();
        // It crashed before, and runs now.
        for _ in 0..5 {
            assert_eq!(hopeless(&mut first, &seen("active", 7)), None);
        }
        assert_eq!(hopeless(&mut first, &seen("activating", 8)), None);
        let why = hopeless(&mut first, &seen("activating", 9)).expect("two more");
        assert!(
            why.starts_with("on etcd-1 the unit has crashed 2 times"),
            "{why}"
        );
        assert!(why.ends_with("starting\npanic"), "{why}");
    }

    #[test]
    fn a_unit_that_nobody_starts_any_more_is_not_waited_for() {
        for state in ["failed", "inactive"] {
            assert!(hopeless(&mut BTreeMap::new(), &seen(state, 0)).is_some());
        }
    }
}
