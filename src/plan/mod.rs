//! The planner: a pure function from desired and observed state to a plan.

mod bootstrap;
pub mod checker;
mod converge;
mod copies;
mod destroy;
mod files;
pub mod fingerprint;
pub mod graph;
mod host;
mod join;
mod leave;
mod listing;
mod markers;
mod member;
mod membership;
pub mod model;
mod moves;
mod refusal;
mod remains;
mod restarts;
mod seats;
mod software;
mod steps;
mod unlearnt;

use time::OffsetDateTime;

pub use model::{Blocked, FORMAT_VERSION, Goal, Intent, Plan, Summary};

use crate::action::Action;
use crate::desired::model::Desired;
use crate::observed::{HostState, Observed};
use crate::runtime;

/// Everything that the planning steps read.
pub(crate) struct Inputs<'a> {
    pub desired: &'a Desired,
    pub observed: &'a Observed,
    pub intent: &'a Intent,
    pub now: OffsetDateTime,
    pub addresses: markers::Addresses,
}

/// What the planning steps write.
#[derive(Clone, Default)]
pub(crate) struct Draft {
    pub actions: Vec<Action>,
    pub blocked: Vec<Blocked>,
    pub warnings: Vec<String>,
}

impl Draft {
    pub(crate) fn block(
        &mut self,
        node: Option<&str>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.blocked.push(Blocked {
            node: node.map(str::to_owned),
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }
}

/// Plans. The same input gives the same plan, byte for byte.
pub fn plan(desired: &Desired, observed: &Observed, intent: &Intent, now: OffsetDateTime) -> Plan {
    let mut inputs = Inputs {
        desired,
        observed,
        intent,
        now,
        addresses: markers::Addresses::new(desired, observed, &observed.others),
    };
    let mut draft = Draft::default();
    if intent.goal.is_destroy() {
        destroy::plan(&inputs, &mut draft);
    } else {
        not_yet(&inputs, &mut draft);
        authority_is_here(&inputs, &mut draft);
        if draft.blocked.is_empty() {
            match converge::situation(&inputs) {
                converge::Situation::Blank => bootstrap::plan(&inputs, &mut draft),
                converge::Situation::Living => converge::plan(&mut inputs, &mut draft),
            }
        }
    }
    let Draft {
        actions,
        mut blocked,
        mut warnings,
    } = draft;
    let actions = match graph::sort(actions)
        .map_err(|error| error.to_string())
        .and_then(|actions| {
            checker::check(&actions).map_err(|faults| faults.join("; "))?;
            Ok(actions)
        }) {
        Ok(actions) => actions,
        Err(fault) => {
            blocked.push(Blocked {
                node: None,
                reason: format!("the plan contradicts itself: {fault}"),
                remedy:
                    "report this as a bug of quorate, with the cluster file; nothing was changed"
                        .into(),
            });
            Vec::new()
        }
    };
    blocked.sort();
    blocked.dedup();
    warnings.sort();
    warnings.dedup();
    let facts = fingerprint::facts(desired, observed);
    Plan {
        format_version: FORMAT_VERSION.into(),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        created_at: now.unix_timestamp(),
        intent: intent.clone(),
        desired: desired.clone(),
        actions,
        blocked,
        warnings,
        fingerprint: fingerprint::fingerprint(&facts),
        facts,
    }
}

/// What the file may say and this version does not do.
fn not_yet(inputs: &Inputs<'_>, draft: &mut Draft) {
    if let Some(kind) = runtime::unsupported(inputs.desired.etcd.runtime) {
        draft.block(
            None,
            format!("runtime = \"{kind}\" is not supported by this version"),
            "use runtime = \"systemd\"",
        );
    }
    if inputs.desired.auth.is_some() {
        draft.block(
            None,
            "[auth] is not applied by this version",
            "take [auth] out of the cluster file and manage users with etcdctl for now",
        );
    }
    let files = crate::desired::model::TlsMode::Files;
    if inputs.desired.tls.client == files || inputs.desired.tls.peer == files {
        draft.block(
            None,
            "tls = \"files\" is not supported by this version",
            "use \"managed\" or \"off\"",
        );
    }
    if inputs.desired.nodes.iter().any(|node| node.learner) {
        draft.block(
            None,
            "learner nodes are not supported by this version",
            "take `learner = true` out of the cluster file",
        );
    }
}

/// Hosts that bear our certificates while the authority is not here are never issued new ones.
fn authority_is_here(inputs: &Inputs<'_>, draft: &mut Draft) {
    use crate::observed::host::FileFact;
    if let Some(authority) = &inputs.observed.operator.authority {
        // Another authority is a rotation, in phases of its own (Q15): never a side effect of a wrong directory.
        let cluster = &inputs.desired.cluster;
        let ours = inputs.observed.generation(&cluster.name, &cluster.token);
        for (node, facts) in inputs.observed.known() {
            let marker = facts
                .marker
                .get()
                .filter(|marker| ours.is_none_or(|ours| ours.nonce == marker.generation.nonce));
            let Some(trusted) = marker.and_then(|marker| marker.authority.as_ref()) else {
                continue;
            };
            if *trusted != authority.current.fingerprint_sha256 {
                draft.block(
                    Some(node),
                    format!(
                        "its member trusts another authority than the one in {}",
                        inputs.desired.tls.ca.dir.display()
                    ),
                    "put the authority's files there that the cluster was set up with; this version does not replace it",
                );
            }
        }
        return;
    }
    for (node, facts) in inputs.observed.known() {
        let bears = facts.marker.get().is_some()
            && facts
                .files
                .values()
                .filter_map(FileFact::file)
                .any(|stat| stat.certificate.is_some());
        if bears {
            draft.block(
                Some(node),
                "it bears certificates of an authority that is not here",
                format!(
                    "put the authority's files into {} (ask whoever set the cluster up), or correct tls.ca.dir",
                    inputs.desired.tls.ca.dir.display()
                ),
            );
        }
    }
}

/// Blocks each unknown host with its own story.
pub(crate) fn block_unknown(inputs: &Inputs<'_>, draft: &mut Draft, remedy: &str) {
    for (node, state) in &inputs.observed.hosts {
        if let HostState::Unknown(unknown) = state {
            draft.block(Some(node), unknown.detail(), remedy);
        }
    }
}
