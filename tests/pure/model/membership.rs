//! The membership as the raft log makes it, entry by entry.

use std::collections::{BTreeMap, BTreeSet};

use quorate::etcd::id::MemberId;

use super::calls::Refusal;
use super::release::Release;
use super::shared::Shared;

/// A member as the membership lists it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Line {
    pub url: String,
    /// A bootstrap names all members; who is added has none until it has started.
    pub name: String,
    /// Whether it has started once and told its client URLs.
    pub published: bool,
    pub learner: bool,
}

/// Who the members are.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Membership {
    pub members: Shared<BTreeMap<MemberId, Line>>,
    pub removed: Shared<BTreeSet<MemberId>>,
}

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    Add {
        id: MemberId,
        url: String,
        learner: bool,
    },
    Promote(MemberId),
    Remove(MemberId),
    Update(MemberId, String),
    /// A member that has started tells its name.
    Publish(MemberId, String),
    /// Some acknowledged writes.
    Write,
    /// So many that who lacks them is far behind.
    Burst,
}

pub fn quorum_of(voters: usize) -> usize {
    voters / 2 + 1
}

impl Membership {
    pub fn voters(&self) -> impl Iterator<Item = MemberId> {
        self.members
            .iter()
            .filter(|(_, line)| !line.learner)
            .map(|(id, _)| *id)
    }

    pub fn quorum(&self) -> usize {
        quorum_of(self.voters().count())
    }

    pub fn is_voter(&self, id: MemberId) -> bool {
        self.members.get(&id).is_some_and(|line| !line.learner)
    }

    /// Voters that etcd takes for started, without one: those that have names.
    pub fn started_without(&self, id: Option<MemberId>) -> usize {
        self.voters()
            .filter(|voter| Some(*voter) != id && !self.members[voter].name.is_empty())
            .count()
    }

    /// What etcd says of an entry when it applies it; a refused one changes nothing.
    pub fn check(&self, entry: &Entry, release: Release) -> Result<(), Refusal> {
        let known = |id: &MemberId| self.members.get(id).ok_or(Refusal::NotFound);
        let free = |url: &String, of: Option<&MemberId>| {
            let taken = self
                .members
                .iter()
                .any(|(id, line)| line.url == *url && Some(id) != of);
            if taken {
                Err(Refusal::UrlExists)
            } else {
                Ok(())
            }
        };
        match entry {
            Entry::Add { url, learner, .. } => {
                free(url, None)?;
                let learners = self.members.values().filter(|line| line.learner).count();
                if *learner && learners >= release.learners() {
                    return Err(Refusal::TooManyLearners);
                }
                Ok(())
            }
            Entry::Promote(id) if known(id)?.learner => Ok(()),
            Entry::Promote(_) => Err(Refusal::NotALearner),
            Entry::Remove(id) => known(id).map(|_| ()),
            Entry::Update(id, url) => {
                known(id)?;
                free(url, Some(id))
            }
            Entry::Publish(..) | Entry::Write | Entry::Burst => Ok(()),
        }
    }

    /// Applies an entry that was checked.
    pub fn apply(&mut self, entry: &Entry, release: Release) {
        if self.check(entry, release).is_err() {
            return;
        }
        match entry {
            Entry::Add { id, url, learner } => {
                let line = Line {
                    url: url.clone(),
                    name: String::new(),
                    published: false,
                    learner: *learner,
                };
                self.members.insert(*id, line);
            }
            Entry::Remove(id) => {
                self.members.remove(id);
                self.removed.insert(*id);
            }
            Entry::Promote(id) => self.change(*id, |line| line.learner = false),
            Entry::Update(id, url) => self.change(*id, |line| {
                line.url.clone_from(url);
                line.learner &= !release.update_promotes();
            }),
            Entry::Publish(id, name) => self.change(*id, |line| {
                line.name.clone_from(name);
                line.published = true;
            }),
            Entry::Write | Entry::Burst => {}
        }
    }

    fn change(&mut self, id: MemberId, how: impl FnOnce(&mut Line)) {
        if let Some(line) = self.members.get_mut(&id) {
            how(line);
        }
    }
}
