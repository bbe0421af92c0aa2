//! What operations do to a host.

use super::*;

impl World {
    /// Performs one operation, and lets etcd come to rest; `Err` is what a script would say.
    pub fn perform(&mut self, name: &str, operation: &Operation) -> Result<(), String> {
        if is_call(operation) {
            for _ in 0..8 {
                let (attempt, next) = self.attempts(operation).swap_remove(0);
                *self = next;
                self.settle();
                match attempt {
                    Attempt::Done => return Ok(()),
                    Attempt::Again => {}
                    Attempt::Refused(why) => return Err(why),
                }
            }
            return Err(format!("{operation:?} takes no effect"));
        }
        let (result, next) = self.outcomes(name, operation).swap_remove(0);
        *self = next;
        self.settle();
        result
    }

    /// Everything that may come of one operation.
    pub fn outcomes(&self, name: &str, operation: &Operation) -> Vec<(Result<(), String>, Self)> {
        let mut next = self.clone();
        match operation {
            Operation::MoveLeader(member) => return next.move_leader(*member),
            Operation::AwaitDialable(member, urls) => {
                let dialable = self.is_dialable(*member, urls);
                let result = dialable.then_some(()).ok_or("it cannot be dialed".into());
                return vec![(result, next)];
            }
            _ => {}
        }
        if !self.etcd.hosts[name].is_reachable() {
            return vec![(Err("the host cannot be reached".into()), next)];
        }
        match operation {
            Operation::Unit(verb, _) => next.unit(name, *verb),
            operation => {
                let result = next.operate(name, operation);
                vec![(result, next)]
            }
        }
    }

    fn operate(&mut self, name: &str, operation: &Operation) -> Result<(), String> {
        self.clock += 10;
        let now = self.clock;
        let layout = self.layout(name).clone();
        let running = self.is_running(name);
        match operation {
            Operation::Relocate(moved) => return self.relocate(name, moved),
            Operation::AssertNoWal(dir) if self.has_wal(name, dir) => {
                return Err("there is a WAL".into());
            }
            Operation::AwaitWal { dir, .. } if !self.has_wal(name, dir) => {
                return Err("no WAL appears".into());
            }
            Operation::MoveAside { from: dir, .. } | Operation::PurgeData(dir)
                if self.has_data(name, dir) =>
            {
                if running {
                    return Err("data of a running member is moved".into());
                }
                let aside = matches!(operation, Operation::MoveAside { .. });
                self.etcd.clear(name, aside);
                self.hosts.get_mut(name).expect("a host").places = None;
                return Ok(());
            }
            Operation::RemoveDirectory(path) if self.has_data(name, path) => return Ok(()),
            _ => {}
        }
        let host = self.hosts.get_mut(name).expect("a host");
        match operation {
            Operation::EnsureUser(_) => host.user = true,
            Operation::RemoveUser(_) => host.user = false,
            Operation::MakeDirectory(directory) => {
                host.files.insert(
                    directory.path.clone(),
                    Entry {
                        mode: directory.mode,
                        owner: directory.owner.clone(),
                        text: None,
                        changed_at: now,
                    },
                );
            }
            Operation::RemoveDirectory(path) => {
                let inside = format!("{path}/");
                if !host.files.keys().any(|file| file.starts_with(&inside)) {
                    host.files.remove(path);
                }
            }
            Operation::WriteFile(file) => {
                // Of a certificate or a key only that it is there.
                let text = match &file.content {
                    Content::Text(text) => text.clone(),
                    other => format!("{other:?}"),
                };
                host.files.insert(
                    file.path.clone(),
                    Entry {
                        mode: file.mode,
                        owner: file.owner.clone(),
                        text: Some(text.into()),
                        changed_at: now,
                    },
                );
            }
            Operation::RemoveFile(path) => {
                host.files.remove(path);
            }
            Operation::Extract {
                bin_dir, prefix, ..
            } => {
                for name in archive().binaries.keys() {
                    let path = if prefix.is_empty() {
                        format!("{bin_dir}/{name}")
                    } else {
                        staged(&format!("{bin_dir}/{name}"))
                    };
                    host.files.insert(
                        path,
                        Entry {
                            mode: 0o755,
                            owner: "root".into(),
                            text: Some(name.clone().into()),
                            changed_at: now,
                        },
                    );
                }
            }
            Operation::SwitchStaged(paths) => {
                for path in paths {
                    if let Some(entry) = host.files.remove(&staged(path)) {
                        host.files.insert(path.clone(), entry);
                    }
                }
            }
            Operation::KeepPrevious(paths) => {
                for path in paths {
                    if let Some(entry) = host.files.get(path).cloned() {
                        host.files.entry(previous(path)).or_insert(entry);
                    }
                }
            }
            Operation::RestorePrevious(paths) => {
                for path in paths {
                    if let Some(entry) = host.files.remove(&previous(path)) {
                        let changed_at = now;
                        let entry = Entry {
                            changed_at,
                            ..entry
                        };
                        host.files.insert(path.clone(), entry);
                    }
                }
            }
            Operation::DropPrevious(paths) | Operation::DropKept(paths) => {
                for path in paths {
                    host.files.remove(&previous(path));
                }
            }
            Operation::InstallPackages { packages, .. } => {
                for (name, version) in packages {
                    if name == "etcd-server" {
                        host.files.insert(
                            layout.etcd.clone(),
                            Entry {
                                mode: 0o755,
                                owner: "root".into(),
                                text: Some(format!("etcd {version}").into()),
                                changed_at: now,
                            },
                        );
                    }
                    host.packages.insert(name.clone(), version.clone());
                    host.held.insert(name.clone());
                }
            }
            Operation::HoldPackages { names, .. } => host.held.extend(names.iter().cloned()),
            Operation::ReleasePackages { names, .. } => {
                host.held.retain(|name| !names.contains(name));
            }
            Operation::RemovePackages { .. }
            | Operation::UpdateMember(..)
            | Operation::AddLearner(_)
            | Operation::Promote(_)
            | Operation::RemoveMember(_)
            | Operation::SaveSnapshot => {
                return Err("not in this model".into());
            }
            Operation::AssertNoWal(_)
            | Operation::AwaitWal { .. }
            | Operation::MoveAside { .. }
            | Operation::Upload { .. }
            | Operation::GiveToUser { .. }
            | Operation::GiveToRoot(_)
            | Operation::Disown { .. }
            | Operation::Sweep(_)
            | Operation::PurgeData(_)
            | Operation::Journal(_) => {}
            Operation::Unit(..)
            | Operation::MoveLeader(_)
            | Operation::AwaitDialable(..)
            | Operation::Relocate(_) => unreachable!("done before"),
            Operation::AssertRoom(_) => {}
        }
        Ok(())
    }

    /// The operations of an action, on the membership of now where it asks for that.
    pub fn operations_now(&self, action: &Action) -> Vec<Operation> {
        let kind = action.kind.as_kind();
        let asks = kind.reads_membership();
        let members = asks.then(|| self.members_now()).flatten();
        kind.operations(&RunFacts {
            members: members.unwrap_or_default(),
            ..RunFacts::default()
        })
    }

    /// The operations of an action.
    pub fn operations(action: &Action) -> Vec<Operation> {
        action.kind.as_kind().operations(&RunFacts::default())
    }

    /// Moves leadership off a member, as `apply` does: to any other voter that can take it.
    fn move_leader(self, member: MemberId) -> Vec<(Result<(), String>, Self)> {
        let mut moved = Vec::new();
        let leads = |(_, raft): &(_, &crate::model::raft::Raft)| raft.leader == Some(member);
        let Some((cluster, raft)) = self.etcd.rafts.iter().find(leads) else {
            return vec![(Ok(()), self)];
        };
        // It cannot be asked, and keeps the lead.
        let host = self.etcd.host_of(*cluster, member);
        if host.is_some_and(|host| !self.etcd.hosts[host].is_reachable()) {
            return vec![(Ok(()), self)];
        }
        for to in raft.tip().voters().filter(|to| *to != member) {
            for (result, raft) in raft.move_leader(member, to) {
                let mut next = self.clone();
                next.etcd.rafts.insert(*cluster, raft);
                if result.is_ok() {
                    moved.push((Ok(()), next));
                }
            }
        }
        if moved.is_empty() {
            let small = raft.tip().voters().count() <= 2;
            let why = format!("leadership did not move off member {member}");
            moved.push((if small { Ok(()) } else { Err(why) }, self));
        }
        moved
    }

    /// A verb of systemctl.
    pub(super) fn unit(mut self, name: &str, verb: UnitVerb) -> Vec<(Result<(), String>, Self)> {
        self.clock += 10;
        let host = self.hosts.get_mut(name).expect("a host");
        match verb {
            UnitVerb::DaemonReload => self.read_unit(name),
            UnitVerb::ResetFailed => {}
            UnitVerb::ForgetRestart => host.restarted = false,
            UnitVerb::Enable | UnitVerb::Disable => {
                host.enabled = verb == UnitVerb::Enable;
                self.read_unit(name);
            }
            UnitVerb::Unmask => host.masked = false,
            UnitVerb::StopAgain | UnitVerb::RestartAgain if !host.restarted => {}
            UnitVerb::Stop | UnitVerb::StopForRestart | UnitVerb::StopAgain => {
                if verb == UnitVerb::StopForRestart {
                    host.restarted = true;
                }
                host.process = None;
                self.etcd.stop(name, true);
            }
            UnitVerb::Restart | UnitVerb::RestartAgain => {
                host.restarted = verb == UnitVerb::Restart;
                host.process = None;
                self.etcd.stop(name, true);
                return self.start(name);
            }
            UnitVerb::Start => return self.start(name),
        }
        vec![(Ok(()), self)]
    }

    /// The unit starts, as what lies on the host tells it.
    fn start(mut self, name: &str) -> Vec<(Result<(), String>, Self)> {
        if self.is_running(name) {
            return vec![(Ok(()), self)];
        }
        if self.hosts[name].asserts.is_none() {
            self.read_unit(name);
        }
        let layout = self.layout(name);
        let host = &self.hosts[name];
        let text = |path: &str| host.files.get(path).and_then(|entry| entry.text.clone());
        let mut texts = layout.files.iter();
        let config = texts.find(|file| matches!(file.content, Content::Text(_)));
        let config = config.and_then(|file| text(&file.path));
        let Some(config) = config else {
            return vec![(Err("no configuration".into()), self)];
        };
        let Some(binary) = text(&layout.etcd) else {
            return vec![(Err("no binary".into()), self)];
        };
        let mut environment = variables(&config);
        let lifted = text(&layout.start_drop_in.path).is_some();
        let start = text(&layout.start_drop_in.environment_path).filter(|_| lifted);
        let blank = self.etcd.member_on(name).is_none();
        let mut initial = None;
        if let (true, Some(start)) = (blank, &start) {
            environment.extend(variables(start));
            initial = Some(initial_of(&environment));
        }
        let places = Places::of(&environment);
        let asserted = self.hosts[name].asserts.clone();
        let asserted = asserted.is_none_or(|dir| self.has_wal(name, &dir));
        if !lifted && !blank && !asserted {
            return vec![(Err("assertion failed: there is no WAL".into()), self)];
        }
        if !blank && self.is_torn(name, &places) {
            // On an empty directory it ends, for it is told of no cluster; on one half of its data it does not.
            if lifted || self.has_wal(name, &places.wal) {
                self.forget(name);
            }
            self.etcd.host(name).run = Run::Failed(Exit::WrongInitialCluster);
            return vec![(Ok(()), self)];
        }
        let process = Process {
            binary: sha256(&*binary).into(),
            started_at: self.clock,
            environment: Arc::new(environment),
        };
        let host = self.etcd.host(name);
        host.url = process.environment["ETCD_INITIAL_ADVERTISE_PEER_URLS"].clone();
        self.etcd
            .start(name, &process.environment["ETCD_NAME"], initial.as_ref())
            .into_iter()
            .map(|(begun, etcd)| {
                let mut next = Self {
                    etcd,
                    ..self.clone()
                };
                let machine = next.hosts.get_mut(name).expect("a host");
                if begun == Err(Exit::NoWal) {
                    return (Err("assertion failed: there is no WAL".into()), next);
                }
                if blank && next.etcd.hosts[name].seen() != Data::Absent {
                    machine.places = Some(places.clone());
                }
                machine
                    .starts
                    .push(if blank { "bootstrap" } else { "start" });
                machine.process = Some(process.clone());
                (Ok(()), next)
            })
            .collect()
    }
}

fn previous(path: &str) -> String {
    format!("{path}.previous")
}

fn staged(path: &str) -> String {
    format!("{path}.staged")
}

fn variables(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

/// The `initial-*` of a start.
fn initial_of(environment: &BTreeMap<String, String>) -> Initial {
    Initial {
        existing: environment["ETCD_INITIAL_CLUSTER_STATE"] == "existing",
        cluster: environment["ETCD_INITIAL_CLUSTER"]
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, url)| (name.to_owned(), url.to_owned()))
            .collect(),
        token: environment["ETCD_INITIAL_CLUSTER_TOKEN"].clone(),
    }
}
