//! Where a member's data lies on its host, who looks for it there, and whether the others can dial it.

use super::*;

use quorate::action::restart::Move;
use quorate::observed::Whereabouts;
use quorate::observed::data::{self, Sightings};
use quorate::observed::host::DataDir;
use quorate::runtime::place_in;

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
        let place = place_in(environment).expect("a data directory");
        Self {
            member: place.member(),
            wal: place.wal(),
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

    /// Where the data of a host is: `member/` and WAL.
    pub fn data_at(&self, name: &str) -> (String, String) {
        let places = self.hosts[name].places.as_ref().expect("data");
        (places.member.clone(), places.wal.clone())
    }

    /// Somebody puts it there.
    pub fn put_data(&mut self, name: &str, (member, wal): (String, String)) {
        let host = self.hosts.get_mut(name).expect("a host");
        host.places = Some(Places { member, wal });
    }

    /// What a probe finds of the data, looked for where the process, or the marker, has it and where the file wants it.
    pub(super) fn located(
        &self,
        name: &str,
        marker: &MarkerState,
        running: Option<&Process>,
    ) -> (DataDir, Whereabouts) {
        let data = self.etcd.data_dir(name);
        if data == DataDir::Empty {
            return (data, Whereabouts::default());
        }
        let layout = self.layout(name);
        let at = self.hosts[name].places.clone();
        let Places { member, wal } = at.unwrap_or_else(|| Places::wanted(layout));
        let mut seen = Sightings::default();
        seen.directories.insert(member);
        match data {
            DataDir::Wal(identity) => seen.wals.extend([(wal, Ok(identity))]),
            DataDir::Unreadable(error) => seen.wals.extend([(wal, Err(error))]),
            DataDir::Empty | DataDir::NoWal => {}
        }
        let running = running.and_then(|process| place_in(&process.environment));
        let places = data::places(running, marker.get(), layout.place());
        seen.locate(&places, &layout.place())
    }

    /// Moves a directory of data, whoever uses it; taken back it is as far as it had come.
    pub(super) fn relocate(&mut self, name: &str, moved: &Move) -> Result<(), String> {
        if moved.back && !self.hosts[name].restarted {
            return Ok(());
        }
        let half = data::moving(&moved.from);
        let (from, to) = match moved.back {
            false if !self.has_data(name, &moved.from) => {
                return Err(format!("{} is not there any more", moved.from));
            }
            false => (&moved.from, &moved.to),
            true if self.has_data(name, &moved.from) => return Ok(()),
            true if self.has_data(name, &half) => (&half, &moved.from),
            true => (&moved.to, &moved.from),
        };
        let host = self.hosts.get_mut(name).expect("a host");
        let places = host.places.as_mut().expect("data");
        for path in [&mut places.member, &mut places.wal] {
            let rest = path.strip_prefix(from.as_str());
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
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
