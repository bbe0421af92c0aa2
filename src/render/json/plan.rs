//! The JSON form of a plan, for programs. A saved plan is another file: it holds what apply needs.

use schemars::JsonSchema;
use serde::Serialize;

use super::super::plan::is_issued;
use crate::action::{self, Action, ActionKind};
use crate::plan::{self, Goal, Plan};

/// Version of this form.
pub const FORMAT_VERSION: &str = "1.0";

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlanDocument {
    /// Version of the form: a new minor adds, a new major changes.
    pub format_version: String,
    /// Version of quorate that made the plan.
    pub tool_version: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// What it works towards.
    pub goal: GoalName,
    /// Name of the cluster.
    pub cluster: String,
    /// How many objects are added, changed and destroyed.
    pub summary: Counts,
    /// The actions, each after those that it needs; ties by name.
    pub actions: Vec<ActionDocument>,
    /// What cannot be done, and why.
    pub blocked: Vec<BlockedDocument>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Digest of the facts that steered the plan.
    pub fingerprint: String,
}

/// What a plan works towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoalName {
    /// Hosts and etcd as the file says.
    Converge,
    /// Nothing of ours left on any host.
    Destroy,
}

impl From<&Goal> for GoalName {
    fn from(goal: &Goal) -> Self {
        match goal {
            Goal::Converge { .. } => Self::Converge,
            Goal::Destroy { .. } => Self::Destroy,
        }
    }
}

/// How many objects are added, changed and destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// New.
    pub add: usize,
    /// Changed in place.
    pub change: usize,
    /// Gone.
    pub destroy: usize,
}

impl From<plan::Summary> for Counts {
    fn from(summary: plan::Summary) -> Self {
        Self {
            add: summary.add,
            change: summary.change,
            destroy: summary.destroy,
        }
    }
}

/// What an action does to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Something new.
    Create,
    /// Something changes in place.
    Update,
    /// Something goes.
    Destroy,
}

impl From<action::Verb> for Verb {
    fn from(verb: action::Verb) -> Self {
        match verb {
            action::Verb::Create => Self::Create,
            action::Verb::Update => Self::Update,
            action::Verb::Destroy => Self::Destroy,
        }
    }
}

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ActionDocument {
    /// Its name, such as `node.etcd-1.start`.
    pub id: String,
    /// The node whose host it works on; null for steps that only talk to etcd.
    pub node: Option<String>,
    /// Its kind, such as `configure`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it does to its object.
    pub verb: Verb,
    /// What it does, in one line.
    pub summary: String,
    /// Why it is there.
    pub because: Vec<String>,
    /// Actions that must be done before.
    pub needs: Vec<String>,
    /// Attributes that change.
    pub changes: Vec<ChangeDocument>,
    /// Fault tolerance around the step; null where it stops no voter.
    pub margin: Option<MarginDocument>,
    /// What clients that write notice; null where it touches no member that serves them.
    pub write_stall: Option<WriteStall>,
    /// How it can be taken back; null where nobody would ask.
    pub way_back: Option<String>,
}

/// What clients that write notice of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteStall {
    /// Nothing.
    None,
    /// Nothing beyond a handover of the leadership.
    Handover,
    /// No write is accepted until the member is back.
    Outage,
}

impl From<action::Stall> for WriteStall {
    fn from(stall: action::Stall) -> Self {
        match stall {
            action::Stall::None => Self::None,
            action::Stall::Handover => Self::Handover,
            action::Stall::Outage => Self::Outage,
        }
    }
}

/// An attribute that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangeDocument {
    /// Its name, or the path of a file.
    pub name: String,
    /// What it is; null where it does not exist or is not shown.
    pub before: Option<String>,
    /// What it will be; null where it goes or is not known yet.
    pub after: Option<String>,
    /// Whether `after` is only known when it is issued: certificates and their keys.
    pub after_unknown: bool,
    /// Why a certificate is issued.
    pub reason: Option<String>,
    /// Whether somebody changed it behind our back.
    pub drift: bool,
}

/// Fault tolerance around a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MarginDocument {
    /// Voters of the membership.
    pub voters: usize,
    /// Healthy voters before.
    pub before: usize,
    /// Healthy voters while the step runs.
    pub during: usize,
    /// Quorum while the step runs, of the membership that it makes.
    pub needs: usize,
}

/// Something that cannot be done now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BlockedDocument {
    /// Node; null for the whole cluster.
    pub node: Option<String>,
    /// What is blocked and why.
    pub reason: String,
    /// What the operator can do.
    pub remedy: String,
}

/// The JSON form of a plan.
pub fn plan(plan: &Plan) -> PlanDocument {
    PlanDocument {
        format_version: FORMAT_VERSION.into(),
        tool_version: plan.tool_version.clone(),
        created_at: time::OffsetDateTime::from_unix_timestamp(plan.created_at)
            .map(super::event::rfc3339)
            .unwrap_or_default(),
        goal: (&plan.intent.goal).into(),
        cluster: plan.desired.cluster.name.clone(),
        summary: plan.summary().into(),
        actions: plan.actions.iter().map(action).collect(),
        blocked: plan
            .blocked
            .iter()
            .map(|blocked| BlockedDocument {
                node: blocked.node.clone(),
                reason: blocked.reason.clone(),
                remedy: blocked.remedy.clone(),
            })
            .collect(),
        warnings: plan.warnings.clone(),
        fingerprint: plan.fingerprint.clone(),
    }
}

fn action(action: &Action) -> ActionDocument {
    let kind = action.kind.as_kind();
    ActionDocument {
        id: action.id.0.clone(),
        node: action.node.clone(),
        kind: kind_name(&action.kind).into(),
        verb: kind.verb().into(),
        summary: kind.summary(),
        because: action.because.clone(),
        needs: action.needs.iter().map(ToString::to_string).collect(),
        changes: action
            .changes
            .iter()
            .map(|change| {
                let issued = is_issued(action, change);
                // For what is issued the planner says in `before` why it is.
                let (before, reason) = if issued {
                    (None, change.before.clone())
                } else {
                    (change.before.clone(), None)
                };
                ChangeDocument {
                    name: change.name.clone(),
                    before,
                    after: change.after.clone(),
                    after_unknown: issued,
                    reason,
                    drift: change.drift,
                }
            })
            .collect(),
        margin: action.margin.map(|margin| MarginDocument {
            voters: margin.voters,
            before: margin.before,
            during: margin.during,
            needs: margin.needs,
        }),
        write_stall: kind.stall(action.margin.as_ref()).map(Into::into),
        way_back: kind.way_back().map(str::to_owned),
    }
}

/// The kind's name, as in a saved plan.
pub(in super::super) fn kind_name(kind: &ActionKind) -> &'static str {
    match kind {
        ActionKind::Claim(_) => "claim",
        ActionKind::Record(_) => "record",
        ActionKind::Prepare(_) => "prepare",
        ActionKind::Install(_) => "install",
        ActionKind::Configure(_) => "configure",
        ActionKind::Bootstrap(_) => "bootstrap",
        ActionKind::Form(_) => "form",
        ActionKind::Snapshot(_) => "snapshot",
        ActionKind::Add(_) => "add",
        ActionKind::Join(_) => "join",
        ActionKind::Promote(_) => "promote",
        ActionKind::Remove(_) => "remove",
        ActionKind::Tell(_) => "tell",
        ActionKind::Enable(_) => "enable",
        ActionKind::Start(_) => "start",
        ActionKind::Restart(_) => "restart",
        ActionKind::Stop(_) => "stop",
        ActionKind::SetAside(_) => "set_aside",
        ActionKind::Clean(_) => "clean",
    }
}
