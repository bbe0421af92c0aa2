//! Changes of the membership, one after the other, each forecast from the one before (Q1 to Q4, Q13).

use std::collections::{BTreeMap, BTreeSet};

use super::Draft;
use super::host::Host;
use super::join::Joining;
use super::membership::{Leaver, Roster, Seat};
use crate::action::promote::Promote;
use crate::action::remove::Remove;
use crate::action::snapshot::Snapshot;
use crate::action::{Action, ActionId, ActionKind, Margin};
use crate::etcd::id::MemberId;
use crate::observed::etcd::ClusterView;
use crate::sabotage::{self, Bug};
use crate::safety::{self, Unsafe, quorum};

/// What the steps amount to.
#[derive(Default)]
pub(super) struct Changes {
    /// Planned removals by member.
    pub removals: BTreeMap<MemberId, ActionId>,
    /// The steps.
    pub steps: BTreeSet<ActionId>,
    /// The last step, or what the steps would have waited for.
    pub last: BTreeSet<ActionId>,
    /// Voters as they will be after them; `None` where there is no step.
    pub forecast: Option<Forecast>,
}

/// Voters as they will be after the steps so far.
pub(super) struct Forecast {
    voters: BTreeSet<MemberId>,
    healthy: BTreeSet<MemberId>,
    /// Voters that joined on the way: healthy, or the plan does not get that far.
    joined: usize,
}

impl Forecast {
    fn voters(&self) -> usize {
        self.voters.len() + self.joined
    }
    fn healthy(&self) -> usize {
        self.healthy.len() + self.joined
    }
    fn all_healthy(&self) -> bool {
        self.healthy() == self.voters()
    }
    /// Q1, for a member that is restarted when all steps are done.
    pub fn may_stop(&self, member: MemberId, allow_downtime: bool) -> Result<Margin, Unsafe> {
        let lives = self.healthy.contains(&member);
        let is_voter = self.voters.contains(&member);
        let during = self.healthy() - usize::from(lives);
        let margin = self.margin(during, quorum(self.voters()));
        safety::may_stop_at(margin, !is_voter && self.joined == 0, allow_downtime)
    }

    fn margin(&self, during: usize, needs: usize) -> Margin {
        Margin {
            voters: self.voters(),
            before: self.healthy(),
            during,
            needs,
        }
    }
}

struct Steps<'a> {
    draft: &'a mut Draft,
    hosts: &'a BTreeMap<&'a str, Host<'a>>,
    view: &'a ClusterView,
    forecast: Forecast,
    /// What the next step waits for: the step before it.
    before: BTreeSet<ActionId>,
    changes: Changes,
    snapshot: Option<ActionId>,
}

/// Why the steps end early.
struct Stop(String, &'static str);

/// Plans the steps. `starting` are voters that earlier actions bring back, `before` those actions.
pub(super) fn plan(
    draft: &mut Draft,
    hosts: &BTreeMap<&str, Host<'_>>,
    view: &ClusterView,
    roster: &Roster,
    joinings: Vec<Joining>,
    starting: &[MemberId],
    before: BTreeSet<ActionId>,
) -> (Changes, bool) {
    let voters: BTreeSet<MemberId> = view.voters().map(|voter| voter.id).collect();
    let diagnosis = safety::Diagnosis::of(view);
    let healthy = voters
        .iter()
        .copied()
        .filter(|id| diagnosis.unhealthy(*id).is_none() || starting.contains(id))
        .collect();
    let mut steps = Steps {
        draft,
        hosts,
        view,
        forecast: Forecast {
            voters,
            healthy,
            joined: 0,
        },
        before,
        changes: Changes::default(),
        snapshot: None,
    };
    let finished = match steps.run(roster, joinings) {
        Ok(()) => true,
        Err(Stop(reason, remedy)) => {
            steps.draft.block(None, reason, remedy);
            false
        }
    };
    let Steps {
        mut changes,
        before,
        forecast,
        ..
    } = steps;
    changes.last = before;
    changes.forecast = (!changes.steps.is_empty()).then_some(forecast);
    (changes, finished)
}

/// The margin around a promotion: one vote more, and perhaps one more needed.
fn with_its_vote(margin: Margin) -> Margin {
    Margin {
        during: margin.during + 1,
        needs: quorum(margin.voters + 1),
        ..margin
    }
}

impl Steps<'_> {
    fn run(&mut self, roster: &Roster, joinings: Vec<Joining>) -> Result<(), Stop> {
        let failed: Vec<(MemberId, String)> = roster
            .seats
            .iter()
            .filter_map(|(node, seat)| match seat {
                Seat::Vacant { failed: Some(id) } => Some((*id, node.clone())),
                _ => None,
            })
            .collect();
        let is_learner = |seat: &Seat| matches!(seat, Seat::Learner { .. });
        if !failed.is_empty()
            || !roster.leavers.is_empty()
            || !joinings.is_empty()
            || roster.seats.values().any(is_learner)
        {
            self.has_quorum()?;
        }
        self.not_too_many(roster, &failed, joinings.len())?;
        let (learners, voters): (Vec<&Leaver>, Vec<&Leaver>) =
            roster.leavers.iter().partition(|leaver| leaver.learner);
        for leaver in learners {
            self.remove(
                leaver,
                "a learner that cannot finish goes before anything else",
            )?;
        }
        // The node of a failed learner stays, and its next member joins last.
        let (failed_learners, failed): (Vec<_>, Vec<_>) = failed
            .into_iter()
            .partition(|(id, _)| !self.forecast.voters.contains(id));
        for (member, node) in failed_learners {
            let leaver = self.named(member, &node);
            self.remove(
                &leaver,
                "a learner that cannot finish goes before anything else",
            )?;
        }
        let (living, dead): (Vec<&Leaver>, Vec<&Leaver>) = voters
            .into_iter()
            .partition(|leaver| self.forecast.healthy.contains(&leaver.member));
        for leaver in dead {
            self.remove(
                leaver,
                "the cluster file does not name it any more, and it is down",
            )?;
        }
        let (spared, lost): (Vec<_>, Vec<_>) = failed
            .into_iter()
            .partition(|(id, _)| self.forecast.healthy.contains(id));
        for (member, node) in lost {
            if sabotage::on(Bug::FailedStays) {
                continue;
            }
            let leaver = self.named(member, &node);
            self.remove(&leaver, "a failed member goes before its replacement comes")?;
        }
        // Half-way learners first: while there is one, no other can be added.
        for (node, seat) in &roster.seats {
            if let Seat::Learner {
                member,
                has_data: true,
            } = seat
            {
                self.finish(node, *member)?;
            }
        }
        let (half_way, rest): (Vec<Joining>, Vec<Joining>) = joinings
            .into_iter()
            .partition(|joining| joining.add.is_none());
        let (half_way, rest) = if sabotage::on(Bug::HalfWayLast) {
            (rest, half_way)
        } else {
            (half_way, rest)
        };
        for joining in half_way.into_iter().chain(rest) {
            if let Some((member, node)) = spared.iter().find(|(_, node)| *node == joining.node) {
                let leaver = self.named(*member, node);
                self.remove(
                    &leaver,
                    "the operator replaces it, on the same host and address",
                )?;
            }
            self.join(joining)?;
        }
        for leaver in living {
            self.remove(leaver, "the cluster file does not name it any more")?;
        }
        Ok(())
    }

    fn named(&self, member: MemberId, node: &str) -> Leaver {
        Leaver {
            member,
            name: node.to_owned(),
            learner: self
                .view
                .member(member)
                .is_some_and(|found| found.is_learner),
        }
    }

    /// A majority of new members would make the cluster another one under the same name.
    fn not_too_many(
        &self,
        roster: &Roster,
        failed: &[(MemberId, String)],
        joining: usize,
    ) -> Result<(), Stop> {
        let is_voter = |(id, _): &&(MemberId, String)| self.forecast.voters.contains(id);
        let going = failed.iter().filter(is_voter).count()
            + roster
                .leavers
                .iter()
                .filter(|leaver| !leaver.learner)
                .count();
        let voters = self.forecast.voters.len();
        // Of one or two, one at a time can only be half of them.
        if going > 1.max(voters / 2) && joining > 0 {
            return Err(Stop(
                format!(
                    "{going} of {voters} voters would be replaced in one edit, a majority of them"
                ),
                "replace fewer at a time: edit, apply, and edit again",
            ));
        }
        Ok(())
    }

    fn push(&mut self, mut action: Action) -> ActionId {
        if !sabotage::on(Bug::UnorderedSteps) {
            action.needs.extend(self.before.iter().cloned());
        }
        let id = action.id.clone();
        self.changes.steps.insert(id.clone());
        self.before = BTreeSet::from([id.clone()]);
        self.draft.actions.push(action);
        id
    }

    /// Without one nothing is changed, whatever is to be.
    fn has_quorum(&self) -> Result<(), Stop> {
        let (voters, healthy) = (self.forecast.voters(), self.forecast.healthy());
        if healthy >= quorum(voters) {
            return Ok(());
        }
        Err(Stop(
            format!(
                "{healthy} of {voters} voters answer healthy here, {} are needed to change the membership",
                quorum(voters)
            ),
            "bring members back that have their data, and hosts that cannot be asked; nothing is given up meanwhile",
        ))
    }

    fn remove(&mut self, leaver: &Leaver, because: &str) -> Result<(), Stop> {
        self.has_quorum()?;
        let forecast = &self.forecast;
        let (voters, healthy) = (forecast.voters(), forecast.healthy());
        let lives = forecast.healthy.contains(&leaver.member);
        let margin = if leaver.learner {
            forecast.margin(healthy, quorum(voters))
        } else {
            let left = healthy - usize::from(lives);
            let needs = quorum(voters.saturating_sub(1));
            if left < needs || (lives && !forecast.all_healthy()) {
                return Err(Stop(
                    format!(
                        "{} cannot be removed: {left} healthy voters would be left of {}, and {} of {voters} are healthy now",
                        leaver.name,
                        voters.saturating_sub(1),
                        healthy
                    ),
                    "repair the other members first, and plan again",
                ));
            }
            forecast.margin(left, needs)
        };
        if !leaver.learner && self.snapshot.is_none() {
            let snapshot = self.push(Action {
                id: ActionId::of_cluster("snapshot"),
                node: None,
                kind: ActionKind::Snapshot(Snapshot {}),
                because: vec!["members are removed: what is there now is kept first".into()],
                needs: BTreeSet::new(),
                changes: vec![],
                margin: None,
            });
            self.snapshot = Some(snapshot);
            if sabotage::on(Bug::SnapshotUnneeded) {
                self.before.clear();
            }
        }
        let started = !leaver.name.contains("://");
        let of_node = ActionId::of_node(&leaver.name, "remove");
        let id = self.push(Action {
            // A node that moved twice may have left two members of its name behind.
            id: if started && !self.changes.steps.contains(&of_node) {
                of_node
            } else {
                ActionId(format!("member.{}.remove", leaver.member))
            },
            node: started.then(|| leaver.name.clone()),
            kind: ActionKind::Remove(Remove {
                member: self.target(leaver),
                name: leaver.name.clone(),
                learner: leaver.learner,
            }),
            because: vec![because.to_owned()],
            needs: BTreeSet::new(),
            changes: vec![],
            margin: Some(margin),
        });
        self.forecast.voters.remove(&leaver.member);
        self.forecast.healthy.remove(&leaver.member);
        self.changes.removals.insert(leaver.member, id);
        Ok(())
    }

    /// A member goes by its ID: several may have one name.
    fn target(&self, leaver: &Leaver) -> MemberId {
        let mut members = self.view.members.iter();
        match members.find(|member| member.name == leaver.name) {
            Some(first) if sabotage::on(Bug::RemovalByName) => first.id,
            _ => leaver.member,
        }
    }

    fn may_grow(&self, node: &str) -> Result<Margin, Stop> {
        let forecast = &self.forecast;
        if !forecast.all_healthy() {
            return Err(Stop(
                format!(
                    "{node} cannot join: {} of {} voters are healthy, and all have to be",
                    forecast.healthy(),
                    forecast.voters()
                ),
                "repair the others first, or take out of the cluster file what is gone for ever",
            ));
        }
        Ok(forecast.margin(forecast.healthy(), quorum(forecast.voters())))
    }

    /// Gives a half-way learner that runs, or is started, its vote.
    fn finish(&mut self, node: &str, member: MemberId) -> Result<(), Stop> {
        let margin = self.may_grow(node)?;
        let (Some(listed), Some(host)) = (self.view.member(member), self.hosts.get(node)) else {
            return Ok(());
        };
        self.push(Action {
            id: ActionId::of_node(node, "promote"),
            node: Some(node.to_owned()),
            kind: ActionKind::Promote(Promote {
                unit: host.layout.unit.clone(),
                peer_url: listed.peer_urls.join(","),
            }),
            because: vec!["it was added by a run that was cut off".into()],
            needs: BTreeSet::new(),
            changes: vec![],
            margin: Some(with_its_vote(margin)),
        });
        self.forecast.voters.insert(member);
        self.forecast.healthy.insert(member);
        Ok(())
    }

    fn join(&mut self, joining: Joining) -> Result<(), Stop> {
        let margin = self.may_grow(&joining.node)?;
        let ready: BTreeSet<ActionId> = joining
            .prepare
            .iter()
            .map(|action| action.id.clone())
            .collect();
        // Replacement hosts are ready before anything is removed (Q3).
        if let Some(first) = self.snapshot.clone() {
            for action in &mut self.draft.actions {
                if action.id == first {
                    action.needs.extend(ready.iter().cloned());
                }
            }
        }
        self.draft.actions.extend(joining.prepare);
        for mut action in joining.vacate {
            // A host is claimed before it changes, and the unit that is stopped may be one that is written first.
            action.needs.extend(ready.iter().cloned());
            self.push(action);
        }
        if let Some(mut add) = joining.add {
            add.needs.extend(ready.iter().cloned());
            add.margin = Some(margin);
            self.push(add);
        }
        let mut join = joining.join;
        join.needs.extend(ready);
        self.push(join);
        let mut promote = joining.promote;
        promote.margin = Some(with_its_vote(margin));
        let promoted = self.push(promote);
        let mut record = joining.record;
        record.needs.insert(promoted);
        self.draft.actions.push(record);
        self.forecast.joined += 1;
        Ok(())
    }
}
