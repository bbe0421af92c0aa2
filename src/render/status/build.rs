//! The status of a cluster from what was observed.

use std::collections::BTreeSet;

use super::{FORMAT_VERSION, MemberHealth, MemberRow, Role, StatusReport};
use crate::desired::model::{Desired, Node};
use crate::etcd::id::MemberId;
use crate::observed::etcd::{Alarm, ClusterView, EtcdState, Member, MemberStatus};
use crate::observed::host::{DataDir, FileFact};
use crate::observed::{HostFacts, HostState, Observed};
use crate::render::health::Health;
use crate::runtime::{self, Content, Layout};
use crate::safety;

/// etcd's own quota where the file sets none: 2 GiB (`quota-backend-bytes`).
const DEFAULT_QUOTA: u64 = 2 << 30;
const DAY: i64 = 86_400;

impl StatusReport {
    /// Builds it from the file and what was observed. `now` is in Unix seconds.
    pub fn new(desired: &Desired, observed: &Observed, now: i64) -> Self {
        let view = observed.cluster();
        let mut known: BTreeSet<MemberId> = BTreeSet::new();
        let mut members = Vec::new();
        let mut problems = Vec::new();
        for node in &desired.nodes {
            let layout = runtime::layout(desired, node);
            let state = observed.hosts.get(&node.name);
            let member = member_of(node, &layout, &view);
            known.extend(member.map(|member| member.id));
            compare(node, &layout, member, &view, &mut problems);
            members.push(row(node, &layout, state, member, &view, now));
        }
        for member in view
            .members
            .iter()
            .filter(|member| !known.contains(&member.id))
        {
            problems.push(format!(
                "member {} is not in the cluster file",
                called(member)
            ));
            members.push(stranger(member, &view));
        }
        match view.cluster_ids.as_slice() {
            [] | [_] => {}
            ids => problems.push(format!(
                "members of several clusters answered: {}",
                ids.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            )),
        }
        let healthy = !view.members.is_empty()
            && problems.is_empty()
            && members
                .iter()
                .all(|row| row.health == MemberHealth::Healthy);
        Self {
            format_version: FORMAT_VERSION.into(),
            tool_version: env!("CARGO_PKG_VERSION").into(),
            cluster: desired.cluster.name.clone(),
            healthy,
            health: Health::of(&view),
            members,
            problems,
        }
    }
}

/// The member that is this node's: the one that answers there, else by name, else by its peer URL.
fn member_of<'a>(node: &Node, layout: &Layout, view: &'a ClusterView) -> Option<&'a Member> {
    view.status_of_node(&node.name)
        .and_then(|status| view.member(status.member_id))
        .or_else(|| view.members.iter().find(|member| member.name == node.name))
        .or_else(|| {
            view.members
                .iter()
                .find(|member| member.peer_urls.contains(&layout.peer_url))
        })
}

/// What of the membership differs from the file.
fn compare(
    node: &Node,
    layout: &Layout,
    member: Option<&Member>,
    view: &ClusterView,
    problems: &mut Vec<String>,
) {
    if view.members.is_empty() {
        return;
    }
    let name = &node.name;
    let Some(member) = member else {
        problems.push(format!("{name} is not a member of the cluster"));
        return;
    };
    if member.peer_urls != [layout.peer_url.clone()] {
        problems.push(format!(
            "{name} has the peer URL {}, the cluster file asks for {}",
            member.peer_urls.join(","),
            layout.peer_url
        ));
    }
    if member.is_learner != node.learner {
        let (is, asked) = if member.is_learner {
            ("a learner", "a voter")
        } else {
            ("a voter", "a learner")
        };
        problems.push(format!("{name} is {is}, the cluster file asks for {asked}"));
    }
    if member.name != *name {
        problems.push(format!("{name} runs as member {}", called(member)));
    }
}

fn called(member: &Member) -> String {
    if member.name.is_empty() {
        format!(
            "{} (never started, {})",
            member.id,
            member.peer_urls.join(",")
        )
    } else {
        format!("{} ({})", member.id, member.name)
    }
}

fn row(
    node: &Node,
    layout: &Layout,
    state: Option<&HostState>,
    member: Option<&Member>,
    view: &ClusterView,
    now: i64,
) -> MemberRow {
    let facts = state.and_then(HostState::facts);
    let (health, error) = health(state, member, view);
    let status = view.status_of_node(&node.name);
    let mut row = MemberRow {
        node: Some(node.name.clone()),
        name: member
            .map(|member| member.name.clone())
            .filter(|name| !name.is_empty()),
        id: status
            .map(|status| status.member_id)
            .or(member.map(|member| member.id))
            .or_else(|| facts.and_then(identity))
            .map(|id| id.to_string()),
        role: role(member, view),
        health,
        error,
        certificate_days_left: facts.and_then(|facts| days_left(facts, layout, now)),
        ..empty(quota(node))
    };
    if let Some(status) = status {
        measure(&mut row, status, view);
    }
    row.alarms = alarms(row.id.as_deref(), view);
    // An alarm is about one member, and etcd reports it from everywhere: the one is not healthy for it.
    if row.health == MemberHealth::Healthy && !row.alarms.is_empty() {
        row.health = MemberHealth::Unhealthy;
    }
    row
}

/// A member that only etcd knows.
fn stranger(member: &Member, view: &ClusterView) -> MemberRow {
    let health = match view.statuses.get(&member.id) {
        None => MemberHealth::Unknown,
        Some(_) if safety::unhealthy(view, member.id).is_none() => MemberHealth::Healthy,
        Some(_) => MemberHealth::Unhealthy,
    };
    let mut row = MemberRow {
        name: Some(member.name.clone()).filter(|name| !name.is_empty()),
        id: Some(member.id.to_string()),
        role: role(Some(member), view),
        health,
        error: Some("not in the cluster file".into()),
        ..empty(None)
    };
    if let Some((_, status)) = view.statuses.get(&member.id) {
        measure(&mut row, status, view);
    }
    row.alarms = alarms(row.id.as_deref(), view);
    row
}

fn empty(quota: Option<u64>) -> MemberRow {
    MemberRow {
        node: None,
        name: None,
        id: None,
        role: Role::Unknown,
        version: None,
        health: MemberHealth::Unknown,
        error: None,
        raft_lag: None,
        db_size: None,
        db_in_use: None,
        db_quota: quota,
        db_quota_used: None,
        alarms: Vec::new(),
        certificate_days_left: None,
    }
}

fn measure(row: &mut MemberRow, status: &MemberStatus, view: &ClusterView) {
    row.version = Some(status.version.clone());
    row.raft_lag = view
        .leader()
        .and_then(|leader| view.statuses.get(&leader))
        .map(|(_, leader)| safety::lag(leader, status));
    row.db_size = u64::try_from(status.db_size).ok();
    row.db_in_use = u64::try_from(status.db_size_in_use).ok();
    row.db_quota_used = match (row.db_size, row.db_quota) {
        // To a tenth: what is beyond is noise.
        (Some(size), Some(quota)) if quota > 0 => {
            Some((size as f64 / quota as f64 * 1000.0).round() / 10.0)
        }
        _ => None,
    };
}

fn health(
    state: Option<&HostState>,
    member: Option<&Member>,
    view: &ClusterView,
) -> (MemberHealth, Option<String>) {
    let facts = match state {
        None => {
            return (
                MemberHealth::Unreachable,
                Some("the host was not asked".into()),
            );
        }
        Some(HostState::Unknown(unknown)) => {
            let text = format!("{}: {}", unknown.word(), unknown.detail());
            return (MemberHealth::Unreachable, Some(text));
        }
        Some(HostState::Known(facts)) => facts,
    };
    match &facts.etcd {
        EtcdState::Silent if facts.unit.is_between_attempts() => {
            let text = "its process ended, and systemd will start it again".to_owned();
            (MemberHealth::Silent, Some(text))
        }
        EtcdState::Silent if facts.unit.is_up() => {
            let text = format!("its unit is {}, and does not answer", facts.unit.active);
            (MemberHealth::Silent, Some(text))
        }
        EtcdState::Silent => (MemberHealth::Silent, Some(stopped(facts))),
        EtcdState::Unknown(why) => (MemberHealth::Unknown, Some(why.clone())),
        EtcdState::Answered(answer) => {
            let id = answer.status.member_id;
            let mut wrong: Vec<String> = safety::unhealthy(view, id).into_iter().collect();
            if member.is_none() && !view.members.is_empty() {
                wrong.push("it is not in the membership that the others have".into());
            }
            // Alarms are told of the members that they are about.
            let errors = answer.status.errors.iter();
            for error in errors.filter(|error| Alarm::parse(error).is_none()) {
                if !wrong.contains(error) {
                    wrong.push(error.clone());
                }
            }
            if wrong.is_empty() {
                (MemberHealth::Healthy, None)
            } else {
                (MemberHealth::Unhealthy, Some(wrong.join("; ")))
            }
        }
    }
}

fn stopped(facts: &HostFacts) -> String {
    match (facts.unit.load.as_str(), &facts.data) {
        ("not-found" | "", DataDir::Empty) => "etcd is not set up".into(),
        ("not-found" | "", _) => "there is data, and no unit".into(),
        _ => format!("its unit is {}", facts.unit.active),
    }
}

fn identity(facts: &HostFacts) -> Option<MemberId> {
    match &facts.data {
        DataDir::Wal(wal) => Some(wal.member_id),
        _ => facts.marker.get().and_then(|marker| marker.member_id),
    }
}

fn role(member: Option<&Member>, view: &ClusterView) -> Role {
    match member {
        _ if view.members.is_empty() => Role::Unknown,
        None => Role::None,
        Some(member) if member.is_learner => Role::Learner,
        Some(member) if view.leader() == Some(member.id) => Role::Leader,
        Some(_) => Role::Voter,
    }
}

fn alarms(id: Option<&str>, view: &ClusterView) -> Vec<String> {
    view.alarms
        .iter()
        .filter(|alarm| Some(alarm.member_id.to_string().as_str()) == id)
        .map(|alarm| alarm.kind.clone())
        .collect()
}

/// The quota in bytes: 0 is etcd's default, a negative one is none.
fn quota(node: &Node) -> Option<u64> {
    match node
        .settings
        .get("quota-backend-bytes")
        .map(|text| text.parse::<i64>())
    {
        None | Some(Ok(0)) => Some(DEFAULT_QUOTA),
        Some(Ok(bytes)) => u64::try_from(bytes).ok(),
        Some(Err(_)) => None,
    }
}

fn days_left(facts: &HostFacts, layout: &Layout, now: i64) -> Option<i64> {
    layout
        .files
        .iter()
        .filter(|file| matches!(file.content, Content::Certificate(_)))
        .filter_map(|file| facts.files.get(&file.path).and_then(FileFact::file))
        .filter_map(|stat| stat.certificate.as_ref()?.as_ref().ok())
        .map(|certificate| (certificate.facts.not_after - now).div_euclid(DAY))
        .min()
}
