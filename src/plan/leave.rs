//! Hosts that the cluster file no longer names: their members leave, then they are cleaned.

use std::collections::{BTreeMap, BTreeSet};

use super::membership::Seat;
use super::{Draft, Inputs, destroy, markers};
use crate::action::{ActionId, ActionKind};
use crate::etcd::id::MemberId;
use crate::observed::HostState;
use crate::observed::etcd::ClusterView;
use crate::observed::host::DataDir;
use crate::observed::marker::{Generation, MarkerState};
use crate::sabotage::{self, Bug};

/// Which hosts are out of the file, by the member whose data they hold, and which need not be known any more.
pub(super) struct Leaving {
    /// Hosts to clean, with the member that has to be removed before.
    pub hosts: BTreeMap<String, Option<MemberId>>,
    /// Names of hosts that cannot be looked at: whoever deleted them from the file has said that they are gone (Q9).
    pub gone: BTreeMap<String, String>,
    /// Names of hosts that are none of this cluster's any more.
    pub others: BTreeSet<String>,
    /// Hosts that bear something of a member, and nothing says what of it is ours; with the member whose data it is.
    pub unmarked: BTreeMap<String, Option<MemberId>>,
    /// Names of those of them whose marker a newer version wrote.
    pub newer: BTreeSet<String>,
}

/// Finds them.
pub(super) fn leaving(inputs: &Inputs<'_>, view: &ClusterView, generation: &Generation) -> Leaving {
    let mut leaving = Leaving {
        hosts: BTreeMap::new(),
        gone: BTreeMap::new(),
        others: inputs.observed.others.clone(),
        unmarked: BTreeMap::new(),
        newer: BTreeSet::new(),
    };
    let named: BTreeSet<&String> = inputs.desired.nodes.iter().map(|node| &node.name).collect();
    for (name, state) in &inputs.observed.hosts {
        if named.contains(name) {
            continue;
        }
        match state {
            HostState::Unknown(unknown) => {
                let why = unknown.detail().to_owned();
                leaving.gone.insert(name.clone(), why);
            }
            HostState::Known(facts)
                if facts.marker.get().is_none() && !markers::is_clean(facts) =>
            {
                let member = match &facts.data {
                    DataDir::Wal(wal) => Some(wal.member_id),
                    _ => None,
                };
                leaving.unmarked.insert(name.clone(), member);
                if matches!(facts.marker, MarkerState::Newer(_)) {
                    leaving.newer.insert(name.clone());
                }
            }
            HostState::Known(facts) => {
                let Some(marker) = facts.marker.get().filter(|marker| {
                    marker.cluster == inputs.desired.cluster.name
                        && marker.generation.nonce == generation.nonce
                }) else {
                    continue;
                };
                // One that was added and has never started is known by its address alone.
                let by_url = marker.peer_url.as_ref().and_then(|url| {
                    let mut members = view.members.iter();
                    members.find(|member| member.peer_urls.contains(url))
                });
                let listed = |id: &MemberId| view.member(*id).is_some();
                let marked = marker.member_id.or(by_url.map(|member| member.id));
                let member = match &facts.data {
                    // Another disk may be mounted: as long as either is a member, it is not touched.
                    DataDir::Wal(wal) => marked.filter(listed).or(Some(wal.member_id)),
                    _ => marked,
                };
                leaving.hosts.insert(name.clone(), member);
            }
        }
    }
    leaving
}

impl Leaving {
    /// Who leaves stays where no member answers, and a run that starts them is not the end of it.
    pub fn wait_for_members(&self, draft: &mut Draft) {
        let names: Vec<&str> = self.names().map(String::as_str).collect();
        if !names.is_empty() {
            draft.block(
                None,
                format!(
                    "the cluster file does not name {} any more, and no member could say who is one",
                    names.join(", ")
                ),
                "apply again once members answer: this plan starts those that it can",
            );
        }
    }

    /// All of them.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        let known = self.hosts.keys().chain(self.gone.keys());
        known.chain(&self.others).chain(self.unmarked.keys())
    }

    /// Those that need not be known any more once the plan is done: hosts that it cleans, and hosts that are gone once
    /// none of the members that should leave stays: nobody can tell whose it is then.
    pub fn settled(
        &self,
        draft: &mut Draft,
        view: &ClusterView,
        stay: usize,
        seats: &BTreeMap<String, Seat>,
        removals: &BTreeMap<MemberId, ActionId>,
    ) -> BTreeSet<String> {
        let mut settled: BTreeSet<String> = draft
            .actions
            .iter()
            .filter(|action| matches!(action.kind, ActionKind::Clean(_)))
            .filter_map(|action| action.node.clone())
            .collect();
        if view.members.is_empty() || stay > 0 {
            return settled;
        }
        settled.extend(self.others.iter().cloned());
        // The member of a node that is blocked may still be on the host that the node was on.
        let may_be_held = |name: &str| {
            let node = name.split_once('@').map(|(node, _)| node);
            node.is_some_and(|node| seats.get(node) == Some(&Seat::Blocked))
        };
        for (name, why) in self.gone.iter().filter(|(name, _)| !may_be_held(name)) {
            draft.warnings.push(format!(
                "{name}: its host cannot be looked at ({why}) and is not cleaned. Should it come back, its member ends \
                 by itself; take etcd and /etc/quorate off it by hand"
            ));
            settled.insert(name.clone());
        }
        let stays = |id: &MemberId| view.member(*id).is_some() && !removals.contains_key(id);
        for (name, member) in &self.unmarked {
            if may_be_held(name) || self.newer.contains(name) || member.as_ref().is_some_and(stays)
            {
                continue;
            }
            draft.warnings.push(format!(
                "{name}: its host has no marker that can be read, which would say what on it is ours, and is not cleaned. \
                 Its member ends by itself; take etcd and /etc/quorate off it by hand, and move its data"
            ));
            settled.insert(name.clone());
        }
        settled
    }

    /// Plans the cleaning of each host whose member goes or has gone. `removals` are the planned ones by member; `readable`
    /// is what has to be done before the membership can be read, `None` where nothing that is planned helps.
    pub(super) fn clean(
        &self,
        inputs: &Inputs<'_>,
        draft: &mut Draft,
        view: &ClusterView,
        removals: &BTreeMap<MemberId, ActionId>,
        readable: Option<&BTreeSet<ActionId>>,
    ) {
        for name in &self.newer {
            draft.block(
                Some(name),
                "the cluster file does not name it any more, and a newer version wrote its marker",
                "use a newer quorate",
            );
        }
        for (name, member) in &self.hosts {
            let needs = match member.and_then(|id| removals.get(&id)) {
                Some(removal) => BTreeSet::from([removal.clone()]),
                // Its member stays for now, or nobody can say whether it has gone, and so does everything on the host.
                None if member
                    .is_some_and(|id| view.member(id).is_some() || view.members.is_empty())
                    && !sabotage::on(Bug::StopBeforeRemoval) =>
                {
                    continue;
                }
                None if member.is_none() => BTreeSet::new(),
                None => match readable {
                    Some(before) => before.clone(),
                    None => {
                        draft.block(
                            Some(name),
                            "the cluster file does not name it any more, and no quorum could say who is a member",
                            "apply again once a quorum of members is healthy",
                        );
                        continue;
                    }
                },
            };
            let Some(facts) = inputs.observed.facts(name) else {
                continue;
            };
            let Some(marker) = facts.marker.get() else {
                continue;
            };
            let stays = |id: &MemberId| Some(*id) != *member && view.member(*id).is_some();
            if let DataDir::Wal(wal) = &facts.data
                && stays(&wal.member_id)
            {
                draft.block(
                    Some(name),
                    format!(
                        "the cluster file does not name it any more, and it holds the data of member {}, which is \
                         another one",
                        wal.member_id
                    ),
                    "put that disk back into the host that it belongs to, and plan again",
                );
                continue;
            }
            if member.is_none() && facts.data != DataDir::Empty {
                draft.block(
                    Some(name),
                    "the cluster file does not name it any more, and nobody can say whose data it holds",
                    "move that data away by hand if it is not needed, and plan again",
                );
                continue;
            }
            let from = draft.actions.len();
            destroy::host(inputs, draft, name, facts, marker);
            for action in &mut draft.actions[from..] {
                if !sabotage::on(Bug::SetAsideBeforeRemoval) {
                    action.needs.extend(needs.iter().cloned());
                }
                action.because = vec!["the cluster file does not name it any more".into()];
                match &mut action.kind {
                    ActionKind::SetAside(set_aside) => set_aside.member = *member,
                    ActionKind::Stop(stop) => stop.member = *member,
                    _ => {}
                }
            }
            if facts.data == DataDir::Empty && member.is_none() {
                without_set_aside(draft, name);
            }
        }
    }
}

/// On a host that has never had a member there is no data, and nobody could say whose it is.
fn without_set_aside(draft: &mut Draft, node: &str) {
    let id = ActionId::of_node(node, "set-aside");
    draft.actions.retain(|action| action.id != id);
    for action in &mut draft.actions {
        action.needs.remove(&id);
    }
}
