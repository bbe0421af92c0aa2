//! Writing the marker, before and after a host is changed.

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, RunFacts, Verb};
use crate::observed::marker::{self, LastPlan, Marker};
use crate::runtime::{Content, Directory, FileWrite};

/// Writes the marker ahead of a change: old and new digests, and the frozen facts of a bootstrap (Q12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What is written.
    pub marker: Marker,
    /// Whether the host had no marker.
    pub fresh: bool,
    /// Directories in which an interrupted run may have left half a copy, and that it forgets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abandoned: Vec<String>,
}

/// Writes the marker after a change: what is there now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What is written.
    pub marker: Marker,
    /// Paths whose kept previous versions go.
    pub settled: Vec<String>,
    /// Directories in which an interrupted run may have left half a copy, and that it forgets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abandoned: Vec<String>,
}

impl Kind for Claim {
    fn verb(&self) -> Verb {
        if self.fresh {
            Verb::Create
        } else {
            Verb::Update
        }
    }
    fn progress(&self) -> &'static str {
        "Claiming"
    }
    fn summary(&self) -> String {
        if self.fresh {
            format!("claim the host for cluster {}", self.marker.cluster)
        } else {
            "write down what is about to change".into()
        }
    }
    fn operations(&self, run: &RunFacts) -> Vec<Operation> {
        let mut operations = sweep(&self.abandoned);
        operations.extend(write(&self.marker, run));
        operations
    }
}

impl Kind for Record {
    fn verb(&self) -> Verb {
        Verb::Update
    }
    fn progress(&self) -> &'static str {
        "Recording"
    }
    fn summary(&self) -> String {
        match self.marker.cluster_id {
            Some(id) => format!("write down the host's state as a member of cluster {id}"),
            None => "write down the host's state".into(),
        }
    }
    fn reads_membership(&self) -> bool {
        self.marker.member_id.is_none()
    }
    fn operations(&self, run: &RunFacts) -> Vec<Operation> {
        let mut operations = Vec::new();
        if !self.settled.is_empty() {
            operations.push(Operation::DropPrevious(self.settled.clone()));
        }
        operations.extend(sweep(&self.abandoned));
        operations.extend(write(&self.marker, run));
        operations.push(journal("applied", run));
        operations
    }
}

/// The operation that removes half copies, if there may be any.
fn sweep(abandoned: &[String]) -> Vec<Operation> {
    if abandoned.is_empty() {
        return vec![];
    }
    vec![Operation::Sweep(abandoned.to_vec())]
}

/// The line that a changed host keeps: who, what, which plan.
pub(super) fn journal(what: &str, run: &RunFacts) -> Operation {
    Operation::Journal(format!(
        "{what} plan {} by {}",
        run.fingerprint.get(..12).unwrap_or(&run.fingerprint),
        run.operator
    ))
}

/// The operations that write a marker.
pub(super) fn write(marker: &Marker, run: &RunFacts) -> Vec<Operation> {
    let mut marker = marker.clone();
    if let (None, Some(url)) = (marker.member_id, &marker.peer_url) {
        // What `member add` gave it is known since then only.
        let added = run
            .members
            .iter()
            .find(|member| member.peer_urls.contains(url));
        marker.member_id = added.map(|member| member.id);
    }
    if marker.authority.is_none() {
        marker.authority.clone_from(&run.authority);
    }
    marker.last_plan = Some(LastPlan {
        fingerprint: run.fingerprint.clone(),
        by: run.operator.clone(),
        at: run.at.clone(),
    });
    vec![
        Operation::MakeDirectory(Directory {
            path: marker::DIR.into(),
            mode: 0o755,
            owner: "root".into(),
            group: "root".into(),
        }),
        Operation::WriteFile(FileWrite {
            path: marker::PATH.into(),
            mode: 0o600,
            owner: "root".into(),
            group: "root".into(),
            content: Content::Text(marker.render()),
        }),
    ]
}
