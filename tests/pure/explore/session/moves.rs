//! What a run can do next, and doing it.

use super::*;

use quorate::schedule::Spare;

impl Session {
    pub fn moves(&self, search: &Search, state: &State) -> Vec<Move> {
        let mut moves = Vec::new();
        let pending = state.is_restless();
        for (id, progress) in &self.running {
            let (world, next) = self.ahead(&state.world, id, progress);
            let node = self.planned.actions[id].node.as_deref().unwrap_or_default();
            let may_end = !pending || state.budget.delays > 0;
            let choices = match &next {
                Next::Read => {
                    let reads = world.members_now().is_some();
                    if !reads && may_end {
                        moves.push(Move::GiveUp(id.clone()));
                    }
                    usize::from(reads)
                }
                Next::Operation(operation, _) if is_call(operation) => {
                    let spared = self.is_spared(&state.world, id, progress, operation);
                    let attempts = world.attempts(operation);
                    // It is asked for again and again, but what is done already is only found to be so.
                    let moves_on = |(attempt, after): &(Attempt, World)| match attempt {
                        Attempt::Done => true,
                        Attempt::Again => spared && *after != world,
                        Attempt::Refused(_) => spared,
                    };
                    let busy = attempts.iter().enumerate();
                    let busy = busy.filter(|(_, one)| moves_on(one));
                    let busy: Vec<usize> = busy.map(|(at, _)| at).collect();
                    moves.extend(busy.iter().map(|at| Move::Operate(id.clone(), *at)));
                    if busy.is_empty() && may_end {
                        moves.push(Move::GiveUp(id.clone()));
                    }
                    0
                }
                Next::Operation(operation, _)
                    if !self.is_spared(&state.world, id, progress, operation) =>
                {
                    moves.push(Move::Balk(id.clone()));
                    0
                }
                Next::Operation(operation, at) => {
                    let outcomes = world.outcomes(node, operation);
                    if state.budget.failures > 0 && !self.lost && self.is_last(id, progress, *at) {
                        let heard = outcomes.iter().enumerate();
                        let heard = heard.filter(|(_, (result, _))| result.is_ok());
                        moves.extend(heard.map(|(at, _)| Move::Unheard(id.clone(), at)));
                    }
                    outcomes.len()
                }
                Next::End => 1,
            };
            moves.extend((0..choices).map(|choice| Move::Operate(id.clone(), choice)));
            if state.budget.failures > 0 && !self.lost && !matches!(next, Next::End) {
                moves.push(Move::Fail(id.clone()));
            }
        }
        let vain = !pending && self.is_waiting_in_vain(search, state);
        for id in &self.looks {
            let precondition = self.planned.actions[id].kind.as_kind().precondition();
            if matches!(precondition, Precondition::MayChange(_)) {
                moves.push(Move::Wait(id.clone()));
            } else {
                moves.push(Move::Look(id.clone()));
            }
            // What never passes by itself has to end as well.
            if !self.lost && (state.budget.delays > 0 || vain) {
                moves.push(Move::Late(id.clone()));
            }
        }
        moves
    }

    /// Whether no look at what there is now changes anything.
    fn is_waiting_in_vain(&self, search: &Search, state: &State) -> bool {
        self.running.is_empty()
            && self.looks.iter().all(|id| {
                let precondition = self.planned.actions[id].kind.as_kind().precondition();
                let how = if matches!(precondition, Precondition::MayChange(_)) {
                    Move::Wait(id.clone())
                } else {
                    Move::Look(id.clone())
                };
                let mut next = state.clone();
                match self.clone().take(search, &mut next, how) {
                    Some(Some(after)) => after.looks == self.looks && after.running.is_empty(),
                    Some(None) => false,
                    None => true,
                }
            })
    }

    /// Takes a step of a run. The outer `None` means that nothing changes, the inner one that the run is over.
    pub fn take(
        mut self,
        search: &Search,
        state: &mut State,
        what: Move,
    ) -> Option<Option<Box<Self>>> {
        match what {
            Move::Look(id) => {
                self.looks.remove(&id);
                Some(self.look(search, state, id))
            }
            Move::Late(id) => {
                if state.budget.delays > 0 {
                    state.budget.delays -= 1;
                }
                self.clean = false;
                self.now += LATE_MS;
                self.looks.remove(&id);
                Some(self.look(search, state, id))
            }
            Move::Wait(id) => {
                let before = (self.looks.clone(), self.running.clone());
                let mut session = Box::new(self);
                for _ in 0..LOOKS {
                    if !session.looks.remove(&id) {
                        break;
                    }
                    session.now += 1_000;
                    if session.now - session.linked > SETTLED_MS {
                        state.world.pass_time();
                        session.young = false;
                    }
                    match session.look(search, state, id.clone()) {
                        Some(next) => session = next,
                        None => return Some(None),
                    }
                }
                let after = (session.looks.clone(), session.running.clone());
                (after != before).then_some(Some(session))
            }
            Move::Fail(id) => {
                self.fails(state, &id);
                let progress = self.running.remove(&id)?;
                let (before, next) = self.ahead(&state.world, &id, &progress);
                let mut at = progress.done;
                if let Next::Operation(_, reached) = next {
                    at = reached;
                    let step = step_of(&self.work(&id, &progress), at);
                    // What is in the script that fails is not done.
                    if step.start == at {
                        state.world = before;
                    }
                }
                let why = "it failed".to_owned();
                Some(self.failed_at(search, state, id, &progress, (at, why)))
            }
            Move::Unheard(id, choice) => {
                self.fails(state, &id);
                search
                    .reached
                    .note("unheard: what was done counts as failed");
                self.operate(search, state, id, (choice, false))
            }
            Move::Balk(id) => {
                self.clean = false;
                self.running.remove(&id);
                search.reached.note("balk: the member is needed");
                let why = "not safe".to_owned();
                Some(self.balk(search, state, id, (why, true)))
            }
            Move::GiveUp(id) => {
                if state.is_restless() {
                    state.budget.delays = state.budget.delays.saturating_sub(1);
                }
                self.clean = false;
                let progress = self.running.remove(&id)?;
                let (before, next) = self.ahead(&state.world, &id, &progress);
                let why = "after 60 s".to_owned();
                let Next::Operation(operation, at) = next else {
                    return Some(self.ran(search, state, id, Err(why)));
                };
                let spared = self.is_spared(&state.world, &id, &progress, &operation);
                state.world = before;
                if !spared {
                    return Some(self.balk(search, state, id, (why, true)));
                }
                Some(self.failed_at(search, state, id, &progress, (at, why)))
            }
            Move::Operate(id, choice) => self.operate(search, state, id, (choice, true)),
        }
    }

    /// Something of an action fails.
    fn fails(&mut self, state: &mut State, id: &ActionId) {
        state.budget.failures -= 1;
        self.clean = false;
        self.excused.extend(self.planned.actions[id].node.clone());
    }

    /// Whether no later operation of the same script touches a member.
    fn is_last(&self, id: &ActionId, progress: &Progress, at: usize) -> bool {
        let work = self.work(id, progress);
        let step = step_of(&work, at);
        !matches!(work[at], Operation::AwaitDialable(..))
            && !work[at + 1..step.end].iter().any(touches_member)
    }

    /// Reports a script or call that failed: as one before the member is stopped, where it was, or where it is not known.
    fn failed_at(
        self,
        search: &Search,
        state: &mut State,
        id: ActionId,
        progress: &Progress,
        (at, why): (usize, String),
    ) -> Option<Box<Self>> {
        let work = self.work(&id, progress);
        let step = step_of(&work, at);
        let spare = Spare::after(&self.planned.actions[&id], &work[..step.end]);
        if spare.is_none() || progress.undo {
            return self.ran(search, state, id, Err(why));
        }
        self.balk(search, state, id, (why, false))
    }

    fn balk(
        self,
        search: &Search,
        state: &mut State,
        id: ActionId,
        (why, refused): (String, bool),
    ) -> Option<Box<Self>> {
        let at = self.now;
        let balked = Event::Balked {
            at,
            id,
            why,
            refused,
            untouched: false,
        };
        self.feed(search, state, balked)
    }

    /// Whether a member that is about to be disturbed may be, as the hosts are asked right before.
    fn is_spared(
        &self,
        world: &World,
        id: &ActionId,
        progress: &Progress,
        operation: &Operation,
    ) -> bool {
        let spare = self.spare(id, progress);
        let asked = spare.filter(|_| match progress.undo {
            true => operation.stops(),
            false => Spare::precedes(operation),
        });
        asked.is_none_or(|spare| spare.ask_again(&world.view()).is_ok())
    }

    /// What an action asks, or its undo, that has not stopped its member yet.
    fn spare(&self, id: &ActionId, progress: &Progress) -> Option<Spare> {
        let action = &self.planned.actions[id];
        let work = self.work(id, progress);
        let done = &work[..progress.done];
        if progress.undo {
            let undo = Spare::of_undo(action).filter(|_| self.scheduler.stops_again(id));
            return undo.filter(|_| !done.iter().any(Operation::stops));
        }
        Spare::after(action, done)
    }

    fn operate(
        mut self,
        search: &Search,
        state: &mut State,
        id: ActionId,
        (choice, heard): (usize, bool),
    ) -> Option<Option<Box<Self>>> {
        let mut progress = self.running[&id].clone();
        let (world, next) = self.ahead(&state.world, &id, &progress);
        let all = match next {
            Next::Read => {
                progress.members = Some(Arc::new(world.members_now()?));
                self.running.insert(id, progress);
                return Some(Some(Box::new(self)));
            }
            _ => self.work(&id, &progress),
        };
        let mut result = Ok(());
        let mut done = all.len();
        let reach = match &next {
            Next::Operation(_, at) => *at,
            _ => all.len().saturating_sub(1),
        };
        let node = self.planned.actions[&id].node.clone().unwrap_or_default();
        let is_script = |at: usize| all.get(at).is_some_and(|operation| !is_apart(operation));
        let unlocked = self.unlocked.contains(&node) && (progress.done..=reach).any(is_script);
        // To read costs no proof.
        let is_found = matches!(&next, Next::Operation(operation, at) if *at == progress.done
            && is_call(operation) && world.attempts(operation)[choice] == (Attempt::Done, world.clone()));
        let proves = |at: usize| begins(&all, at) && !is_found;
        if unlocked || (self.lost && (progress.done..=reach).any(proves)) {
            // Every script, and every call, proves first that the lock is still this run's.
            search
                .reached
                .note("guard: a run without the lock is refused");
            self.running.remove(&id);
            let (at, why) = (progress.done, "the lock is another run's".to_owned());
            return Some(self.failed_at(search, state, id, &progress, (at, why)));
        }
        state.world = world;
        if let Next::Operation(operation, at) = next {
            let before = state.world.clone();
            if Spare::precedes(&operation) && self.spare(&id, &progress).is_some() {
                // It has just been asked for.
                self.stale = false;
            }
            let action = &self.planned.actions[&id];
            done = at + 1;
            if operation.stops() && !progress.undo {
                self.stopped.insert(id.clone());
            }
            if is_call(&operation) {
                let (attempt, after) = before.attempts(&operation).swap_remove(choice);
                state.world = after;
                match attempt {
                    Attempt::Done => {}
                    Attempt::Again => done = at,
                    Attempt::Refused(why) => result = Err(why),
                }
            } else {
                let mut outcomes = before.outcomes(&node, &operation);
                (result, state.world) = outcomes.swap_remove(choice);
            }
            let broken = rules::operation(
                search,
                &before,
                &state.world,
                action,
                &operation,
                self.stale,
            );
            let unasked = progress.undo && !self.stopped.contains(&id);
            let broken = broken.or_else(|| rules::undo(&before, &state.world, action, unasked));
            state.broken = state.broken.take().or(broken);
            if !heard {
                for operation in &all[done..step_of(&all, at).end] {
                    state.world = state.world.outcomes(&node, operation).swap_remove(0).1;
                }
                result = Err("nobody heard how it ended".into());
            }
        }
        if let Err(why) = result {
            self.running.remove(&id);
            let at = done.saturating_sub(1);
            return Some(self.failed_at(search, state, id, &progress, (at, why)));
        }
        progress.done = done;
        self.running.insert(id.clone(), progress);
        if done < all.len() {
            return Some(Some(Box::new(self)));
        }
        self.running.remove(&id);
        Some(self.ran(search, state, id, Ok(())))
    }
}
