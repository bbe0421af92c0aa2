//! What becomes of a state.

use super::*;

impl State {
    /// Goes on with a run, unless it is over.
    pub fn resume(&mut self, session: Option<Box<Session>>) {
        if let Some(session) = session {
            self.phase = Phase::Running(session);
        }
    }

    /// A run ends.
    pub fn over(&mut self, search: &Search, session: &Session) {
        for (id, outcome) in session.ended() {
            let kind = rules::name_of(&session.planned.actions[&id].kind);
            search
                .reached
                .note(format!("end: {kind}: {}", truth::word_of(&outcome)));
        }
        let undisturbed = session.clean && !session.lost && session.is_complete();
        self.phase = Phase::Idle(undisturbed);
    }

    /// Whether something is about to happen by itself.
    pub fn is_restless(&self) -> bool {
        let back = |host: &crate::model::host::Host| {
            host.on && matches!(host.run, Run::Failed(Exit::Killed | Exit::Panic))
        };
        !self.world.etcd.events().is_empty() || self.world.etcd.hosts.values().any(back)
    }

    /// Whether a plan for now differs from one for when all is back.
    pub(super) fn is_hurt(&self, search: &Search) -> bool {
        self.world.etcd.hosts.iter().any(|(name, host)| {
            !search.gone.contains(name)
                && (!host.on
                    || !host.mounted
                    || host.closed.is_some()
                    || matches!(host.run, Run::Failed(_)))
        })
    }

    /// Everything comes back and to rest.
    pub(super) fn heal(&mut self, search: &Search) {
        for name in self.world.hosts.keys().cloned().collect::<Vec<_>>() {
            if search.gone.contains(&name) {
                continue;
            }
            let host = self.world.etcd.host(&name);
            host.closed = None;
            let missing = !std::mem::replace(&mut host.mounted, true);
            if !host.on {
                self.world.power_on(&name);
            }
            if missing || matches!(self.world.etcd.hosts[&name].run, Run::Failed(_)) {
                let enabled = self.world.hosts[&name].enabled;
                if enabled {
                    self.world.start_unit(&name);
                }
            }
        }
        self.world.settle();
    }

    /// A host loses power.
    pub(super) fn power_off(&mut self, host: &str) {
        self.disturb(host);
        if let Phase::Running(session) = &mut self.phase {
            session.unlock(host);
        }
        if let Some(ghost) = &mut self.ghost {
            ghost.unlock(host);
        }
        self.world.etcd.power_off(host);
    }

    /// Something fails that we have not done: what was looked at may no longer be so.
    pub(super) fn disturb(&mut self, host: &str) {
        if let Phase::Running(session) = &mut self.phase {
            session.disturb(host);
        }
        if let Some(ghost) = &mut self.ghost {
            ghost.disturb(host);
        }
        if matches!(self.phase, Phase::Idle(true)) {
            self.phase = Phase::Idle(false);
        }
    }

    /// Tells runs of links that were not there before.
    pub(super) fn link(&mut self, before: &World) {
        if self.world.etcd.fresh().is_subset(&before.etcd.fresh()) {
            return;
        }
        if let Phase::Running(session) = &mut self.phase {
            session.link();
        }
        if let Some(ghost) = &mut self.ghost {
            ghost.link();
        }
    }

    /// Whether nothing happens by itself any more, except that time passes.
    pub(super) fn rests(&self) -> bool {
        let mut events = self.world.etcd.events().into_iter();
        events.all(|event| matches!(event, Event::Settle(_)))
    }

    /// What takes no time that anybody could use: telling one's name or, where that is all that is searched, coming to
    /// rest in the only way there is.
    pub(super) fn publish(&mut self, pace: Pace) {
        self.world.etcd.reconnect();
        if pace != Pace::Events {
            let mut ways = self.world.etcd.quiescent();
            if ways.len() == 1 || pace == Pace::RestsOneWay {
                self.world.etcd = ways.swap_remove(0);
            }
            return;
        }
        let told = |event: &Event| matches!(event, Event::Publish(..));
        while let Some(event) = self.world.etcd.events().into_iter().find(told) {
            self.world.etcd = self.world.etcd.after(&event).swap_remove(0);
        }
    }
}
