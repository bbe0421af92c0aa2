//! What can be compared of a state: what an onlooker sees of each member.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Model;
use crate::model::host::Run;
use crate::model::membership::Entry;
use crate::model::start::Exit;

/// A member of the membership, without its ID, which is random.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Line {
    pub url: String,
    pub name: String,
    pub published: bool,
    pub learner: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Off,
    Ended(Exit),
    /// It runs, and does not answer clients.
    Silent,
    Answers {
        /// Peer URL of the member that it follows.
        leader: Option<String>,
        learner: bool,
        /// Its own view; learners do not tell.
        members: Option<BTreeSet<Line>>,
        /// Whether it holds every acknowledged write.
        complete: bool,
    },
}

/// What the model says would be seen, by host.
pub fn of_model(model: &Model) -> BTreeMap<String, Seen> {
    let seen = |name: &String| (name.clone(), of_host(model, name));
    model.hosts.keys().map(seen).collect()
}

fn of_host(model: &Model, name: &str) -> Seen {
    match model.hosts[name].run {
        Run::Off => return Seen::Off,
        Run::Failed(exit) => return Seen::Ended(exit),
        Run::Up => {}
    }
    let (cluster, member) = model.member_on(name).expect("its data");
    let raft = &model.rafts[&cluster];
    let peer = &raft.peers[&member];
    if !peer.serving {
        return Seen::Silent;
    }
    let status = raft.status(member);
    let write = |entry: &Entry| matches!(entry, Entry::Write | Entry::Burst);
    let lost = raft.faults.contains(&crate::model::raft::Fault::Lost);
    let lacks = match peer.blank {
        None => raft.log[peer.position.into()..].iter().any(write),
        Some(_) => true,
    };
    let url = |id| raft.tip().members.get(&id).map(|line| line.url.clone());
    Seen::Answers {
        leader: (status.leader.0 != 0).then(|| url(status.leader)).flatten(),
        learner: status.is_learner,
        members: (!status.is_learner).then(|| {
            let members = raft.applied(member).members;
            members
                .values()
                .map(|line| Line {
                    url: line.url.clone(),
                    name: line.name.clone(),
                    published: line.published,
                    learner: line.learner,
                })
                .collect()
        }),
        complete: !lost && !lacks,
    }
}
