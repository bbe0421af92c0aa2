//! Hosts that the cluster file no longer names: their members leave, then they are cleaned.

use std::collections::{BTreeMap, BTreeSet};

use super::membership::Roster;
use super::{Draft, Inputs, destroy};
use crate::action::{ActionId, ActionKind};
use crate::etcd::id::MemberId;
use crate::observed::HostState;
use crate::observed::host::DataDir;
use crate::observed::marker::Generation;

/// Which hosts are out of the file, by the member whose data they hold, and which need not be known any more.
pub(super) struct Leaving {
    /// Hosts to clean, with the member that has to be removed before.
    pub hosts: BTreeMap<String, Option<MemberId>>,
    /// Names of hosts that cannot be looked at: whoever deleted them from the file has said that they are gone (Q9).
    pub gone: BTreeSet<String>,
}

/// Finds them.
pub(super) fn leaving(inputs: &Inputs<'_>, generation: &Generation) -> Leaving {
    let mut leaving = Leaving {
        hosts: BTreeMap::new(),
        gone: BTreeSet::new(),
    };
    let named: BTreeSet<&String> = inputs.desired.nodes.iter().map(|node| &node.name).collect();
    for (name, state) in &inputs.observed.hosts {
        if named.contains(name) {
            continue;
        }
        match state {
            HostState::Unknown(_) => {
                leaving.gone.insert(name.clone());
            }
            HostState::Known(facts) => {
                let Some(marker) = facts.marker.get().filter(|marker| {
                    marker.cluster == inputs.desired.cluster.name
                        && marker.generation.nonce == generation.nonce
                }) else {
                    continue;
                };
                let member = match &facts.data {
                    DataDir::Wal(wal) => Some(wal.member_id),
                    _ => marker.member_id,
                };
                leaving.hosts.insert(name.clone(), member);
            }
        }
    }
    leaving
}

impl Leaving {
    /// Plans the cleaning of each host whose member goes or has gone. `removals` are the planned ones by member.
    pub(super) fn clean(
        &self,
        inputs: &Inputs<'_>,
        draft: &mut Draft,
        roster: &Roster,
        removals: &BTreeMap<MemberId, ActionId>,
    ) {
        for (name, member) in &self.hosts {
            let needs = match member.and_then(|id| removals.get(&id)) {
                Some(removal) => BTreeSet::from([removal.clone()]),
                // Its member stays for now, and so does everything on the host.
                None if roster
                    .leavers
                    .iter()
                    .any(|leaver| Some(leaver.member) == *member || leaver.name == *name) =>
                {
                    continue;
                }
                None => BTreeSet::new(),
            };
            let Some(facts) = inputs.observed.facts(name) else {
                continue;
            };
            let Some(marker) = facts.marker.get() else {
                continue;
            };
            let from = draft.actions.len();
            destroy::host(inputs, draft, name, facts, marker);
            for action in &mut draft.actions[from..] {
                action.needs.extend(needs.iter().cloned());
                action.because = vec!["the cluster file does not name it any more".into()];
                if let ActionKind::SetAside(set_aside) = &mut action.kind {
                    set_aside.member = *member;
                }
            }
        }
    }
}
