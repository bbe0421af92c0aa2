//! Members that are down, and whose new address nobody could learn: a quorum comes first. And those that are not down.

use std::collections::BTreeSet;

use super::converge::change_of;
use super::host::Host;
use super::member::{Cluster, First};
use super::{Blocked, Draft};
use crate::action::start::Start;
use crate::action::{Action, ActionId, ActionKind};
use crate::etcd::id::MemberId;
use crate::observed::etcd::{EtcdState, Member};
use crate::observed::host::FileFact;
use crate::runtime::{self, Content};
use crate::safety;

/// Whether it is one of them: up at its new address nobody would find it, and where too many are there is never a quorum
/// again. Until there is one it runs where the others look for it.
pub(super) fn waits(
    draft: &mut Draft,
    host: &Host<'_>,
    cluster: &Cluster<'_>,
    member: MemberId,
    first: &mut First,
) -> bool {
    let listens_there = listens_there(host);
    let Some(from) = unlearnt(host, cluster, member).filter(|_| listens_there != Some(true)) else {
        return false;
    };
    let unit = &host.facts.unit;
    let is_startable = unit.load == "loaded" && listens_there.is_some();
    if is_startable {
        first.starting.push(member);
        draft.actions.push(Action {
            id: ActionId::of_node(&host.node.name, "start"),
            node: Some(host.node.name.clone()),
            kind: ActionKind::Start(Start {
                unit: host.layout.unit.clone(),
                member,
            }),
            because: vec![],
            needs: BTreeSet::new(),
            changes: vec![change_of("state", Some(unit.active.clone()), "active")],
            margin: None,
        });
    }
    let why = match waits_for(cluster, member) {
        Some(other) => format!("member {other} is half-way to another address"),
        None => "there is no quorum that could learn another".into(),
    };
    draft.blocked.push(host.blocked(
        format!(
            "it is down, its peer URL was {from}, it is to be {}, and {why}",
            host.layout.peer_url
        ),
        if is_startable {
            "it is started as it was; if another program has its port, stop that; then plan again"
        } else {
            "set its address back in the cluster file and apply; change it when there is a quorum"
        },
    ));
    true
}

/// A member that answers though its unit is not up: it only looks as if it were down, and its data is in use.
pub(super) fn runs_astray(host: &Host<'_>, member: MemberId) -> Option<Blocked> {
    let unit = &host.facts.unit;
    let EtcdState::Answered(answer) = &host.facts.etcd else {
        return None;
    };
    // Systemd starts one that cannot bind again and again: between two starts there is no process.
    let runs = unit.is_up() && unit.environment.is_some();
    let is_ending = unit.active == "deactivating";
    (!runs && !is_ending && answer.status.member_id == member).then(|| {
        host.blocked(
            format!(
                "member {member} answers, though {} is {}: it was started by other means",
                host.layout.unit, unit.active
            ),
            "stop that process and plan again, and its unit starts it; not while the others are no quorum without it",
        )
    })
}

/// Where the others look for a member that is down, if that is to change and cannot. Of two voters one learns it from the
/// other afterwards.
fn unlearnt(host: &Host<'_>, cluster: &Cluster<'_>, member: MemberId) -> Option<String> {
    let view = cluster.view;
    let is_healthy = |voter: &&Member| cluster.diagnosis.unhealthy(voter.id).is_none();
    let voters = view.voters().count();
    let healthy = view.voters().filter(is_healthy).count();
    let learns = voters > 0 && (voters <= 2 || healthy >= safety::quorum(voters));
    // Between two starts of a unit that fails again and again there is no process.
    let runs = host.facts.unit.is_up() && host.facts.unit.environment.is_some();
    if runs || (learns && waits_for(cluster, member).is_none()) {
        return None;
    }
    let from = match view.member(member) {
        Some(listed) => listed.peer_urls.join(","),
        None => host.marker()?.peer_url.clone()?,
    };
    (from != host.layout.peer_url).then_some(from)
}

/// Another member that nobody can dial perhaps: a second one would take the quorum with it.
fn waits_for(cluster: &Cluster<'_>, member: MemberId) -> Option<MemberId> {
    let mut others = cluster.under_way.iter().filter(|id| **id != member);
    others.next().copied()
}

/// Whether the configuration on the disk has a member listen for its peers where the file does; `None` where there is
/// none. What a run has switched there already, the membership has most likely learnt.
fn listens_there(host: &Host<'_>) -> Option<bool> {
    let is_configuration = |text: &str| text.contains("ETCD_NAME=");
    let mut files = host.layout.files.iter();
    let path = files.find_map(|file| match &file.content {
        Content::Text(text) if is_configuration(text) => Some(&file.path),
        _ => None,
    })?;
    let there = host.facts.files.get(path).and_then(FileFact::file)?;
    Some(there.text.as_deref().is_none_or(|text| {
        let variables = runtime::parse_environment(text);
        host.layout.listens_for_its_peers(&variables)
    }))
}
