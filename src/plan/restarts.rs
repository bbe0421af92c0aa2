//! Restarts: why a running member needs one, and in which order they may go.

use std::collections::BTreeSet;

use super::Draft;
use super::host::{Differences, FileDifference, Host};
use super::member::First;
use super::steps::Changes;
use crate::action::restart::Restart;
use crate::action::{Action, ActionId, ActionKind, Margin, Precondition};
use crate::etcd::id::MemberId;
use crate::observed::etcd::ClusterView;
use crate::observed::host::{FileFact, FileStat};
use crate::runtime::{Content, FileWrite, Layout};
use crate::safety;

/// Files that a running member reads only when it starts.
pub(super) fn switches(layout: &Layout, file: &FileDifference) -> bool {
    !matches!(
        file.write.content,
        Content::Certificate(_) | Content::Key(_)
    ) && layout
        .files
        .iter()
        .any(|known| known.path == file.write.path)
}

/// Why the running process is not what it should be; empty where none runs or it is.
pub(super) fn restart_reasons(
    host: &Host<'_>,
    differences: &Differences,
    warnings: &mut Vec<String>,
) -> Vec<String> {
    let facts = host.facts;
    let mut reasons = Vec::new();
    if let Some(environment) = &facts.unit.environment {
        let wanted = &host.layout.environment;
        for (variable, value) in wanted {
            match environment.get(variable) {
                Some(found) if found == value => {}
                Some(found) => reasons.push(format!("runs with {variable}={found}")),
                None => reasons.push(format!("runs without {variable}")),
            }
        }
        for (variable, found) in environment {
            if !wanted.contains_key(variable) && !Layout::is_bootstrap_only(variable) {
                reasons.push(format!("runs with {variable}={found}"));
            }
        }
    }
    let mut others = facts
        .unit
        .drop_ins
        .iter()
        .filter(|path| **path != host.layout.start_drop_in.path && !is_of_every_service(path));
    warnings.extend(others.clone().map(|path| {
        format!(
            "{}: {path} changes {}, and Quorate does not compare what it sets: take it away if nobody needs it",
            host.node.name, host.layout.unit
        )
    }));
    // What comes from elsewhere comes back with every start: restarts would not end.
    let drop_in = others.next();
    // Without one there is little else than a run that was cut off, whatever the clocks said.
    let is_owed = is_behind(host, differences) || (drop_in.is_none() && is_pending(host));
    if !reasons.is_empty() && !is_owed {
        let (node, unit) = (&host.node.name, &host.layout.unit);
        let differs = reasons.join(", ");
        warnings.push(match drop_in {
            Some(drop_in) => {
                format!("{node}: {drop_in} changes what the member runs with ({differs}): take that out of it")
            }
            None => format!(
                "{node}: {unit} was started on its files and differs from them all the same ({differs}): see `systemctl \
                 show-environment` and DefaultEnvironment in system.conf, take it out there and restart the unit"
            ),
        });
        reasons.clear();
    }
    if let Some(running) = &facts.unit.running_sha256 {
        let wanted = match host.operator.archives.get(&facts.arch) {
            Some(Ok(archive)) => archive.binaries.get("etcd"),
            _ => facts.binary.as_ref().map(|binary| &binary.sha256),
        };
        if wanted.is_some_and(|wanted| wanted != running) {
            reasons.push("runs another binary".into());
        }
    }
    for file in &differences.files {
        if matches!(file.write.content, Content::Authority) && file.was_in_force {
            reasons.push(format!("was started with another {}", file.write.path));
        }
    }
    let unit_path = host
        .layout
        .files
        .iter()
        .map(|file| file.path.as_str())
        .find(|path| path.ends_with(&format!("/{}", host.layout.unit)));
    if let (Some(path), true) = (unit_path, facts.unit.is_up()) {
        let differs = differences
            .files
            .iter()
            .find(|file| file.write.path == path);
        let pending = facts
            .marker
            .get()
            .and_then(|marker| marker.files.get(path))
            .is_some_and(|file| file.previous.is_some());
        let written_since = match (
            facts.files.get(path).and_then(FileFact::file),
            facts.unit.started_at,
        ) {
            (Some(stat), Some(started_at)) => stat.changed_at >= started_at,
            _ => false,
        };
        if differs.is_some_and(|file| file.asked_for || file.was_in_force)
            || (pending && written_since)
        {
            reasons.push(format!(
                "was started by another version of {}",
                host.layout.unit
            ));
        }
    }
    reasons
}

/// Whether a drop-in is what the distribution, or what made the container, gives every service.
fn is_of_every_service(drop_in: &str) -> bool {
    let places = ["/usr/lib/", "/run/"];
    places.iter().any(|place| drop_in.starts_with(place)) && drop_in.contains("/service.d/")
}

/// Whether the process was started with other texts than are wanted: they differ, or somebody wrote them since.
fn is_behind(host: &Host<'_>, differences: &Differences) -> bool {
    let mut differing = differences.files.iter();
    let started_at = host.facts.unit.started_at;
    let written_since = |file: &FileWrite| {
        let there = host.facts.files.get(&file.path).and_then(FileFact::file);
        let is_text = matches!(file.content, Content::Text(_));
        // Times are in seconds: what was written in the one of the start may have come after it.
        let is_newer = |stat: &FileStat| started_at.is_none_or(|at| stat.changed_at >= at);
        is_text && there.is_some_and(is_newer)
    };
    differing.any(|file| switches(&host.layout, file))
        || host.layout.files.iter().any(written_since)
}

/// Whether a run was cut off after it had written down that it changes what the process is started with.
fn is_pending(host: &Host<'_>) -> bool {
    let marker = host.facts.marker.get();
    let mut files = host.layout.files.iter();
    files.any(|file| {
        let marked = marker.and_then(|marker| marker.files.get(&file.path));
        marked.is_some_and(|marked| marked.previous.is_some())
    })
}

/// A member that listens elsewhere than the membership says looks healthy over the links of the others, until too many
/// do: while file and membership differ, no member is restarted, save those whose restart mends that.
pub(super) fn no_restarts(draft: &mut Draft, first: &First, changes: &Changes) {
    let nodes: BTreeSet<String> = draft
        .actions
        .iter()
        .filter(|action| {
            restart_of(action).is_some_and(|restart| !first.mending.contains(&restart.member))
        })
        .filter_map(|action| action.node.clone())
        .collect();
    for node in nodes {
        draft.actions.retain(|action| {
            action.node.as_ref() != Some(&node) || changes.steps.contains(&action.id)
        });
        draft.block(
            Some(&node),
            "its restart waits until the membership is that of the cluster file",
            "see above; then plan again",
        );
    }
}

fn restart_of(action: &Action) -> Option<&Restart> {
    match &action.kind {
        ActionKind::Restart(restart) => Some(restart),
        _ => None,
    }
}

fn ids<'a>(
    actions: &'a [Action],
    wanted: impl Fn(&Action) -> bool + 'a,
) -> impl Iterator<Item = ActionId> + 'a {
    actions
        .iter()
        .filter(move |action| wanted(action))
        .map(|action| action.id.clone())
}

impl First {
    fn mends(&self, action: &Action) -> bool {
        match &action.kind {
            ActionKind::Restart(restart) => self.mending.contains(&restart.member),
            ActionKind::Tell(_) => true,
            _ => false,
        }
    }

    /// Orders what comes before all else, and names it.
    pub fn mend(&mut self, draft: &mut Draft, view: &ClusterView) -> BTreeSet<ActionId> {
        let starts: BTreeSet<ActionId> = ids(&draft.actions, |action| {
            matches!(action.kind, ActionKind::Start(_))
        })
        .collect();
        let (mut refused, mut waiting) = (Vec::new(), Vec::new());
        for action in draft.actions.iter_mut().filter(|action| self.mends(action)) {
            let is_free = action.kind.as_kind().precondition() == Precondition::None;
            // What is down itself may be what the others need for a quorum.
            if !(is_free && restart_of(action).is_some()) {
                action.needs.extend(starts.iter().cloned());
            }
            if is_free {
                continue;
            }
            let Some(restart) = restart_of(action) else {
                continue;
            };
            let (member, allowed) = (restart.member, restart.allow_downtime);
            let verdict = safety::may_stop(view, member, &self.starting, allowed);
            if verdict.is_err() && self.unwell.contains(&member) {
                // It has its turn with all others.
                waiting.push(member);
            } else if let Some(why) = judged(action, verdict) {
                refused.push((member, why));
            }
        }
        for (member, why) in refused {
            // It stays away, and nobody may count on it.
            self.mending.remove(&member);
            refuse(draft, vec![Some(why)], &BTreeSet::new());
        }
        for member in waiting {
            self.mending.remove(&member);
            self.unwell.remove(&member);
        }
        // One that nobody may be able to dial looks healthy over the links of the others, until too many go.
        let is_unwell = |action: &Action| {
            restart_of(action).is_some_and(|restart| self.unwell.contains(&restart.member))
        };
        let before: BTreeSet<ActionId> = ids(&draft.actions, |action| {
            let is_down = restart_of(action).is_some_and(|restart| restart.is_down);
            self.mends(action) && !is_unwell(action) && !is_down
        })
        .collect();
        for action in draft.actions.iter_mut().filter(|action| is_unwell(action)) {
            action.needs.extend(before.iter().cloned());
        }
        let mended = ids(&draft.actions, |action| self.mends(action));
        starts.iter().cloned().chain(mended).collect()
    }
}

/// The order of restarts: dead members start and half-way ones are mended before the membership changes, all others are
/// restarted after it.
pub(super) struct Restarts<'a> {
    pub view: &'a ClusterView,
    pub first: &'a First,
}

impl Restarts<'_> {
    fn mends(&self, action: &Action) -> bool {
        self.first.mends(action)
    }

    /// Orders all others. A restart that would take the quorum is blocked.
    pub fn order(&self, draft: &mut Draft, changes: &Changes) {
        let others = |action: &Action| restart_of(action).is_some() && !self.mends(action);
        let mended = ids(&draft.actions, |action| {
            self.mends(action) || matches!(action.kind, ActionKind::Start(_))
        });
        let before: BTreeSet<ActionId> = mended.chain(changes.last.iter().cloned()).collect();
        // Whoever is ready first would go first: only when all can go is there a choice, and the leader goes last (Q5).
        let restarted: BTreeSet<&String> = draft
            .actions
            .iter()
            .filter(|action| others(action))
            .filter_map(|action| action.node.as_ref())
            .collect();
        let staged: BTreeSet<ActionId> = ids(&draft.actions, |action| {
            let here = action.node.as_ref();
            here.is_some_and(|node| restarted.contains(node))
                && !matches!(action.kind, ActionKind::Restart(_) | ActionKind::Record(_))
                && !changes.steps.contains(&action.id)
        })
        .collect();
        let verdicts: Vec<_> = draft
            .actions
            .iter_mut()
            .filter(|action| others(action))
            .filter_map(|action| {
                action.needs.extend(before.iter().cloned());
                action.needs.extend(staged.iter().cloned());
                let restart = restart_of(action)?;
                let (member, allowed) = (restart.member, restart.allow_downtime);
                let verdict = match &changes.forecast {
                    Some(forecast) => forecast.may_stop(member, allowed),
                    None => {
                        let back: Vec<MemberId> = self.first.back().collect();
                        safety::may_stop(self.view, member, &back, allowed)
                    }
                };
                Some(judged(action, verdict))
            })
            .collect();
        refuse(draft, verdicts, &changes.steps);
        let left: BTreeSet<ActionId> = ids(&draft.actions, |_| true).collect();
        for action in &mut draft.actions {
            action.needs.retain(|need| left.contains(need));
        }
    }
}

/// A node whose restart is refused, with reason and remedy.
type Refused = (String, String, &'static str);

fn judged(action: &mut Action, verdict: Result<Margin, safety::Unsafe>) -> Option<Refused> {
    let refusal = match verdict {
        Ok(margin) => {
            action.margin = Some(margin);
            return None;
        }
        Err(refusal) => refusal,
    };
    let remedy = match refusal {
        safety::Unsafe::TooSmall(_) => {
            "accept the interruption with --allow-downtime, or grow the cluster to three members"
        }
        safety::Unsafe::MembershipUnknown => {
            "make hosts reachable and start members that are down; where all of them run and wait for each other, stop \
             their units by hand and plan again: they are started as the cluster file has them"
        }
        _ => "repair the other members first, and plan again",
    };
    let unit = restart_of(action).map(|restart| restart.unit.clone());
    Some((
        action.node.clone().unwrap_or_default(),
        format!(
            "{} cannot be restarted: {refusal}",
            unit.unwrap_or_default()
        ),
        remedy,
    ))
}

fn refuse(draft: &mut Draft, verdicts: Vec<Option<Refused>>, steps: &BTreeSet<ActionId>) {
    for (node, reason, remedy) in verdicts.into_iter().flatten() {
        // Without its restart a host is left alone: half a change would come to life at the next crash (Q15).
        draft
            .actions
            .retain(|action| action.node.as_deref() != Some(&node) || steps.contains(&action.id));
        draft.block(Some(&node), reason, remedy);
    }
}
