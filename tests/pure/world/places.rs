//! Where a member's data lies on its host, who looks for it there, and whether the others can dial it.

use super::*;

use quorate::action::restart::Move;
use quorate::observed::host::DataDir;
use quorate::runtime::{directories_in, member_in, wal_files_in};

use crate::model::raft::Fault;

/// The directories that data is in: `member/`, and that of `*.wal`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Places {
    pub member: String,
    pub wal: String,
}

impl Places {
    /// Those that a file asks for.
    pub fn wanted(layout: &Layout) -> Self {
        Self {
            member: layout.member_dir(),
            wal: layout.wal_files_dir(),
        }
    }

    /// Those of a process with these variables.
    pub fn of(environment: &BTreeMap<String, String>) -> Self {
        let (data_dir, wal_dir) = directories_in(environment).expect("a data directory");
        Self {
            member: member_in(&data_dir),
            wal: wal_files_in(&data_dir, wal_dir.as_deref()),
        }
    }
}

impl World {
    /// Whether a directory holds `*.wal`.
    pub(super) fn has_wal(&self, name: &str, dir: &str) -> bool {
        let places = self.hosts[name].places.as_ref();
        self.etcd.member_on(name).is_some() && places.is_some_and(|places| places.wal == dir)
    }

    /// Whether a directory, or one in it, holds data.
    pub(super) fn has_data(&self, name: &str, dir: &str) -> bool {
        let within = |path: &String| path == dir || path.starts_with(&format!("{dir}/"));
        let places = self.hosts[name].places.as_ref();
        self.etcd.hosts[name].seen() != Data::Absent
            && places.is_some_and(|places| within(&places.member) || within(&places.wal))
    }

    /// What a probe finds that looks into these directories.
    fn found_in(&self, name: &str, data_dir: &str, wal_dir: Option<&str>) -> DataDir {
        let Some(places) = &self.hosts[name].places else {
            return self.etcd.data_dir(name);
        };
        let member = member_in(data_dir);
        let wals = [wal_files_in(data_dir, wal_dir), format!("{member}/wal")];
        if wals.contains(&places.wal) {
            self.etcd.data_dir(name)
        } else if places.member == member && self.has_data(name, &member) {
            DataDir::NoWal
        } else {
            DataDir::Empty
        }
    }

    /// The data of a host, looked for where the file has it and where the process, or the marker, has it.
    pub(super) fn data_dir(
        &self,
        name: &str,
        marker: &MarkerState,
        running: Option<&Process>,
    ) -> DataDir {
        let layout = self.layout(name);
        let now = self.found_in(name, &layout.data_dir, layout.wal_dir.as_deref());
        let running = running.and_then(|process| directories_in(&process.environment));
        let marked = marker.get();
        let former =
            running.or_else(|| marked.map(|known| (known.data_dir.clone(), known.wal_dir.clone())));
        match former {
            Some((data_dir, wal_dir)) => {
                let there = self.found_in(name, &data_dir, wal_dir.as_deref());
                DataDir::where_it_is(there, now)
            }
            None => now,
        }
    }

    /// Moves a directory of data, whoever uses it. What has been moved stays where it is.
    pub(super) fn relocate(&mut self, name: &str, moved: &Move) -> Result<(), String> {
        let (from, to) = if moved.back {
            (&moved.to, &moved.from)
        } else {
            (&moved.from, &moved.to)
        };
        if !self.has_data(name, from) {
            return Ok(());
        }
        let host = self.hosts.get_mut(name).expect("a host");
        let places = host.places.as_mut().expect("data");
        for path in [&mut places.member, &mut places.wal] {
            if let Some(rest) = path.strip_prefix(from.as_str()) {
                *path = format!("{to}{rest}");
            }
        }
        Ok(())
    }

    /// systemd reads the unit: the directory in which it looks for `*.wal` before it starts.
    pub(super) fn read_unit(&mut self, name: &str) {
        let unit = self.layout(name).unit.clone();
        let host = self.hosts.get_mut(name).expect("a host");
        let mut files = host.files.iter();
        let text = files
            .find(|(path, _)| path.ends_with(&format!("/{unit}")))
            .and_then(|(_, entry)| entry.text.clone());
        let lines = text.iter().flat_map(|text| text.lines());
        let mut globs = lines.filter_map(|line| line.strip_prefix("AssertPathExistsGlob="));
        let dir = globs.find_map(|glob| glob.strip_suffix("/*.wal"));
        host.asserts = dir.map(str::to_owned);
    }

    /// Data of which a process that starts with these variables would find one half, or none of what there is.
    pub(super) fn is_torn(&self, name: &str, places: &Places) -> bool {
        let own = &self.hosts[name].places;
        let has = self.etcd.hosts[name].seen() != Data::Absent;
        has && own.as_ref().is_some_and(|own| own != places)
    }

    /// A voter that begins without what it has promised.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some((cluster, member)) = self.etcd.member_on(name) {
            self.etcd
                .raft(cluster)
                .faults
                .insert(Fault::Amnesia(member));
        }
    }

    /// Whether the others can dial a member at one of these addresses.
    pub fn is_dialable(&self, member: MemberId, urls: &[String]) -> bool {
        let mut clusters = self.etcd.rafts.keys();
        let found = clusters.find_map(|cluster| self.etcd.host_of(*cluster, member));
        found.is_some_and(|name| {
            let host = &self.etcd.hosts[name];
            host.run == Run::Up && host.is_connected() && urls.iter().any(|url| host.is_at(url))
        })
    }
}
