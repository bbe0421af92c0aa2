//! The plan as data.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{Action, Verb};
use crate::desired::model::Desired;

/// Version of the saved and printed form. A new minor adds, a new major changes.
pub const FORMAT_VERSION: &str = "1.0";

/// What the operator wants done with the cluster file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Converge or destroy.
    pub goal: Goal,
    /// Fresh randomness for a new generation, should the plan be a bootstrap.
    pub nonce: String,
}

/// What a plan works towards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Hosts and etcd as the file says.
    Converge {
        /// The operator accepts that a cluster of one or two members is away during a restart.
        allow_downtime: bool,
        /// Nodes whose members are given up and replaced by new ones on the same host (Q9, Q10).
        #[serde(default)]
        replace: Vec<String>,
    },
    /// Nothing of ours left on any host.
    Destroy {
        /// Data is deleted instead of moved aside.
        purge_data: bool,
    },
}

impl Goal {
    /// Whether the operator gave up the member of this node.
    pub fn replaces(&self, node: &str) -> bool {
        matches!(self, Self::Converge { replace, .. } if replace.iter().any(|name| name == node))
    }

    /// Whether the plan is a destroy plan.
    pub fn is_destroy(&self) -> bool {
        matches!(self, Self::Destroy { .. })
    }
}

/// A plan: everything that apply will do, in an order that leaves no choice of substance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`FORMAT_VERSION`].
    pub format_version: String,
    /// Version of the program that made it; only that version applies it.
    pub tool_version: String,
    /// Unix seconds at which it was made.
    pub created_at: i64,
    /// What the operator wanted.
    pub intent: Intent,
    /// The desired state that it works towards.
    pub desired: Desired,
    /// Actions, each after those that it needs; ties by name.
    pub actions: Vec<Action>,
    /// What cannot be done, and why.
    pub blocked: Vec<Blocked>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// The facts that steered it, by name.
    pub facts: BTreeMap<String, String>,
    /// Digest of those facts.
    pub fingerprint: String,
}

/// Something that cannot be done now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blocked {
    /// Node, or `None` for the whole cluster.
    pub node: Option<String>,
    /// What is blocked and why.
    pub reason: String,
    /// What the operator can do.
    pub remedy: String,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{node}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// How many objects are added, changed and destroyed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// New.
    pub add: usize,
    /// Changed in place.
    pub change: usize,
    /// Gone.
    pub destroy: usize,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Counts actions by what they do.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for action in &self.actions {
            match action.kind.as_kind().verb() {
                Verb::Create => summary.add += 1,
                Verb::Update => summary.change += 1,
                Verb::Destroy => summary.destroy += 1,
            }
        }
        summary
    }

    /// The first fact that differs from another observation: its name, then and now.
    pub fn changed_fact<'a>(
        &'a self,
        now: &'a BTreeMap<String, String>,
    ) -> Option<(&'a str, Option<&'a str>, Option<&'a str>)> {
        self.facts
            .keys()
            .chain(now.keys())
            .find(|name| self.facts.get(*name) != now.get(*name))
            .map(|name| {
                (
                    name.as_str(),
                    self.facts.get(name).map(String::as_str),
                    now.get(name).map(String::as_str),
                )
            })
    }
}
