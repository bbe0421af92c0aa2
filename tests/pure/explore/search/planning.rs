//! The operator plans.

use super::*;

impl Search {
    /// What the operator asks for: a replacement as long as the member is there.
    pub fn goal_for(&self, world: &World) -> Goal {
        let Goal::Converge { replace, .. } = &self.goal else {
            return self.goal.clone();
        };
        let is_there = |name: &String| {
            let (cluster, raft) = self.world.etcd.rafts.iter().next()?;
            // A node that moves has its member on its former host.
            let of_node = |host: &str| host.split('@').next() == Some(name);
            let hosts = self.world.etcd.hosts.iter();
            let hosts = hosts.filter(|(host, _)| of_node(host));
            let urls: Vec<&String> = hosts.map(|(_, host)| &host.url).collect();
            let tip = raft.tip();
            let mut members = tip.members.iter();
            let (id, _) = members.find(|(_, line)| urls.contains(&&line.url))?;
            let now = world.etcd.rafts.get(cluster)?.tip();
            now.members.get(id).map(drop)
        };
        if replace.iter().all(|name| is_there(name).is_some()) {
            self.goal.clone()
        } else {
            crate::drive::CONVERGE
        }
    }

    pub(super) fn planned(&self, state: &mut State) -> Planned {
        let nonce = format!("n{}-{}", state.recounts, state.runs);
        let key = (state.world.clone(), nonce.clone());
        let known = self.plans.lock().expect("no panic").get(&key).cloned();
        if let Some(plan) = known {
            return plan;
        }
        let intent = Intent {
            goal: self.goal_for(&state.world),
            nonce: nonce.clone(),
        };
        let observed = state.world.observe();
        let plan = plan::plan(
            state.world.desired(),
            &observed,
            &intent,
            OffsetDateTime::UNIX_EPOCH,
        );
        let mut broken = truth::of_plan(self, &state.world, &plan);
        let plan = Planned::from(plan);
        // Whatever steers a plan is in its fingerprint, or a plan that has gone stale would be applied.
        let mut steered = self.steered.lock().expect("no panic");
        let key_of_facts = (plan.plan.fingerprint.clone(), nonce);
        let other = steered.entry(key_of_facts).or_insert_with(|| plan.clone());
        let same = other.plan.blocked == plan.plan.blocked && other.actions == plan.actions;
        if !same && broken.is_none() {
            let says = |plan: &Planned| format!("{:?} {:?}", plan.plan.actions, plan.plan.blocked);
            let (one, two) = (says(other), says(&plan));
            let what = format!("the same facts, and another plan:\n{one}\n{two}");
            broken = Some(Broken::new(rules::STALE, what));
        }
        drop(steered);
        if broken.is_some() {
            state.broken = broken;
        } else {
            self.plans
                .lock()
                .expect("no panic")
                .insert(key, plan.clone());
        }
        plan
    }

    /// Plans; what is blocked although nothing is wrong, or never ends, breaks a rule.
    pub(super) fn plan(&self, state: &mut State, healed: bool) {
        let complete = matches!(state.phase, Phase::Idle(true));
        state.phase = Phase::Idle(false);
        state.world = state.world.clone().canonical();
        let planned = self.planned(state);
        let plan = &planned.plan;
        if state.broken.is_some() {
            return;
        }
        let left: Vec<_> = plan.actions.iter().map(|action| &action.id.0).collect();
        let blocked: Vec<_> = plan.blocked.iter().map(|one| &one.reason).collect();
        if complete && healed && !plan.is_empty() {
            let what = format!("a plan after convergence is not empty: {left:?}");
            state.broken = Some(Broken::new(rules::EMPTY, what));
        } else if healed && plan.is_empty() && !blocked.is_empty() {
            let has_quorum =
                |world: &World| world.etcd.rafts.values().any(|raft| raft.has_quorum());
            if has_quorum(&self.world) && !has_quorum(&state.world) {
                let what = format!("everything is back, and there is none: {blocked:?}");
                state.broken = Some(Broken::new(rules::QUORUM, what));
            } else if self.may_block {
                state.phase = Phase::Blocked;
            } else {
                let what = format!("blocked, though nothing is wrong: {blocked:?}");
                state.broken = Some(Broken::new(rules::CONVERGES, what));
            }
        } else if healed && plan.is_empty() {
            state.phase = Phase::Converged;
            state.broken = rules::converged(self, &state.world);
        } else if plan.is_empty() {
            // Nothing can be done until something comes back.
        } else if healed && state.runs >= 3 + self.budget.all() {
            let what = format!("there is no end: {left:?} {blocked:?}");
            state.broken = Some(Broken::new(rules::CONVERGES, what));
        } else {
            state.runs = (state.runs + 1).min(3 + self.budget.all());
            Session::begin(self, state, planned);
        }
    }
}
