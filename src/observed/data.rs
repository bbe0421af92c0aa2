//! Where a member's data is: in one of its directories or, where a run that moved it was cut off, between two of them.
//!
//! Across file systems a directory `NAME` is `NAME.quorate-moving` while it is copied, the copy is
//! `.quorate-part-NAME-STAMP` beside its new name, and once that is whole the original is put aside as
//! `NAME.quorate-STAMP` (`q_relocate` in `src/apply/prelude.sh`). So at any moment exactly one of them counts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::host::DataDir;
use super::marker::Marker;
use crate::etcd::wal::WalIdentity;

/// Directories that a member has for its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Data directory.
    pub data_dir: String,
    /// Separate directory for the WAL, which is in `wal/` there.
    pub wal_dir: Option<String>,
}

impl Place {
    /// The `member/` directory.
    pub fn member(&self) -> String {
        format!("{}/member", self.data_dir)
    }

    /// What etcd is given as its WAL directory, if that is a separate one: it makes `wal.tmp` beside it and renames
    /// that, which takes a parent that it may write to, on the same disk.
    pub fn separate_wal(&self) -> Option<String> {
        self.wal_dir.as_ref().map(|dir| format!("{dir}/wal"))
    }

    /// Directory that holds `*.wal`.
    pub fn wal(&self) -> String {
        let inside = || format!("{}/wal", self.member());
        self.separate_wal().unwrap_or_else(inside)
    }

    /// Whether some of what was found is here.
    pub fn holds(&self, found: &Whereabouts) -> bool {
        let is_in = |path: &Option<String>, directory: Option<&String>| {
            let parent = path.as_deref().and_then(|path| path.rsplit_once('/'));
            parent.is_some_and(|(parent, _)| directory.is_some_and(|dir| dir == parent))
        };
        is_in(&found.member, Some(&self.data_dir)) || is_in(&found.wal, self.wal_dir.as_ref())
    }

    /// Where data that never moved was found.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts {
            member: Some(self.member()),
            wal: Some(self.wal()),
            ..Whereabouts::default()
        }
    }
}

/// Places where the data may be, the one that counts first. What runs knows better than a marker that an interrupted
/// run left, and data leaves a former place only by moving, which the marker says ahead: what lies where the file wants
/// it by another way may be an old copy, while the disk that counts is not mounted (Q10).
pub fn places(running: Option<Place>, marker: Option<&Marker>, wanted: Place) -> Vec<Place> {
    match (running, marker) {
        (Some(place), _) => vec![place],
        (None, Some(marker)) => marker.places(),
        (None, None) => vec![wanted],
    }
}

/// Name of a directory while it is copied to another file system.
pub fn moving(name: &str) -> String {
    format!("{name}.quorate-moving")
}

/// Where the parts of a member's data were found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Whereabouts {
    /// Its `member/`, by whatever name.
    pub member: Option<String>,
    /// Its directory of `*.wal`, which may be inside.
    pub wal: Option<String>,
    /// Whose data is where this should be, if it is that of another cluster.
    pub taken: Option<WalIdentity>,
    /// Who has some of what is in these, where that is not the service user.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub strangers: BTreeMap<String, String>,
}

/// Directories that a probe came upon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sightings {
    /// All that may be data, by whatever name.
    pub directories: BTreeSet<String>,
    /// What the WAL says in those that hold one.
    pub wals: BTreeMap<String, Result<WalIdentity, String>>,
    /// Who has some of what is in these, where that is not the service user.
    pub strangers: BTreeMap<String, String>,
}

impl Sightings {
    /// Adds those of another probe.
    pub fn extend(&mut self, other: Self) {
        self.directories.extend(other.directories);
        self.wals.extend(other.wals);
        self.strangers.extend(other.strangers);
    }

    /// Tells what counts of what may be in these places, and whether something else is where it should be.
    pub fn locate(&self, places: &[Place], wanted: &Place) -> (DataDir, Whereabouts) {
        let members = places.iter().map(Place::member).collect();
        let member = self.find(members, |path| self.directories.contains(path));
        let inside = member.as_ref().map(|member| format!("{member}/wal"));
        let own = places.iter().filter_map(|place| {
            let separate = place.separate_wal();
            separate.or_else(|| inside.clone())
        });
        let homes = own.chain(inside.clone()).collect();
        let wal = self.find(homes, |path| self.wals.contains_key(path));
        let data = match wal.as_ref().and_then(|wal| self.wals.get(wal)) {
            Some(Ok(identity)) => DataDir::Wal(*identity),
            Some(Err(error)) => DataDir::Unreadable(error.clone()),
            None if member.is_some() => DataDir::NoWal,
            None => DataDir::Empty,
        };
        let taken = match (&data, self.wals.get(&wanted.wal())) {
            (DataDir::Wal(_), Some(Ok(there))) if wal.as_ref() != Some(&wanted.wal()) => {
                Some(*there)
            }
            _ => None,
        };
        let mut strangers = self.strangers.clone();
        strangers.retain(|path, _| [&member, &wal].contains(&&Some(path.clone())));
        let found = Whereabouts {
            member,
            wal,
            taken,
            strangers,
        };
        (data, found)
    }

    /// The first that is there by one of these names, whole or while it is copied; else a whole copy.
    fn find(&self, names: Vec<String>, is_there: impl Fn(&String) -> bool) -> Option<String> {
        let original = names.iter().find_map(|name| {
            let mut either = [name.clone(), moving(name)].into_iter();
            either.find(|path| is_there(path))
        });
        original.or_else(|| {
            let mut copies = names.iter().filter_map(|name| self.whole_copy(name));
            copies.find(|path| is_there(path))
        })
    }

    /// The copy that is about to get this name, if its original was put aside elsewhere: it is whole by then.
    fn whole_copy(&self, name: &str) -> Option<String> {
        let (directory, base) = name.rsplit_once('/')?;
        let prefix = format!("{directory}/.quorate-part-{base}-");
        let is_whole = |copy: &&String| {
            let stamp = copy.strip_prefix(&prefix);
            let original = stamp.map(|stamp| format!("{base}.quorate-{stamp}"));
            self.directories.iter().any(|path| {
                let there = path.rsplit_once('/');
                there.is_some_and(|(at, name)| at != directory && original.as_deref() == Some(name))
            })
        };
        self.directories.iter().find(is_whole).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::id::{ClusterId, MemberId};

    fn place(data_dir: &str, wal_dir: Option<&str>) -> Place {
        Place {
            data_dir: data_dir.into(),
            wal_dir: wal_dir.map(String::from),
        }
    }

    fn identity(cluster: u64) -> WalIdentity {
        WalIdentity {
            cluster_id: ClusterId(cluster),
            member_id: MemberId(1),
        }
    }

    /// A WAL is in each of these that is called so.
    fn seen(directories: &[&str]) -> Sightings {
        let mut seen = Sightings::default();
        for directory in directories {
            seen.directories.insert((*directory).into());
            if directory.contains("wal") {
                let wal = (*directory).into();
                seen.wals.insert(wal, Ok(identity(1)));
            }
        }
        seen
    }

    /// Every state that a move from /a to /b goes through, in the order in which it does.
    #[test]
    fn at_any_moment_of_a_move_one_directory_counts() {
        let places = [place("/a", None), place("/b", None)];
        let states: [(&[&str], &str); 6] = [
            (&["/a/member"], "/a/member"),
            // What an earlier life left at the new place, before and after it is set aside.
            (&["/a/member", "/b/member"], "/a/member"),
            (
                &["/a/member.quorate-moving", "/b/member.quorate-1"],
                "/a/member.quorate-moving",
            ),
            (
                &[
                    "/a/member.quorate-moving",
                    "/b/member.quorate-1",
                    "/b/.quorate-part-member-1",
                ],
                "/a/member.quorate-moving",
            ),
            (
                &["/a/member.quorate-1", "/b/.quorate-part-member-1"],
                "/b/.quorate-part-member-1",
            ),
            (&["/a/member.quorate-1", "/b/member"], "/b/member"),
        ];
        for (directories, counts) in states {
            let mut all: Vec<String> = Vec::new();
            for directory in directories {
                all.extend([(*directory).to_owned(), format!("{directory}/wal")]);
            }
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let seen = seen(&all);
            // Whether the file still asks for it, or it was taken back.
            for wanted in &places {
                let (data, found) = seen.locate(&places, wanted);
                assert_eq!(data, DataDir::Wal(identity(1)), "{directories:?}");
                assert_eq!(found.member.as_deref(), Some(counts), "{directories:?}");
                assert_eq!(found.wal, Some(format!("{counts}/wal")), "{directories:?}");
            }
        }
    }

    #[test]
    fn an_old_copy_where_the_file_wants_the_data_does_not_count() {
        let (old, new) = (place("/a", None), place("/b", None));
        let running = Some(old.clone());
        assert_eq!(places(running, None, new.clone()), [old]);
        assert_eq!(places(None, None, new.clone()), [new]);
    }

    #[test]
    fn strangers_are_told_of_what_counts() {
        let mut seen = seen(&["/a/member", "/a/member/wal", "/b/member"]);
        for path in ["/a/member", "/b/member"] {
            seen.strangers.insert(path.into(), "root (0)".into());
        }
        let (_, found) = seen.locate(&[place("/a", None)], &place("/a", None));
        assert_eq!(
            found.strangers.into_keys().collect::<Vec<_>>(),
            ["/a/member"]
        );
    }

    #[test]
    fn half_a_copy_never_counts() {
        let places = [place("/a", None), place("/b", None)];
        // The disk of the original is not mounted, an earlier move left something, or what was in the way was set aside.
        for directories in [
            &["/b/.quorate-part-member-2"][..],
            &["/a/member.quorate-1", "/b/.quorate-part-member-2"],
            &["/b/member.quorate-2", "/b/.quorate-part-member-2"],
        ] {
            let (data, found) = seen(directories).locate(&places, &places[0]);
            assert_eq!(data, DataDir::Empty, "{directories:?}");
            assert_eq!(found, Whereabouts::default(), "{directories:?}");
        }
    }

    #[test]
    fn a_wal_is_found_apart_from_its_member() {
        let (inside, apart) = (place("/a", None), place("/a", Some("/w")));
        let locate = |directories: &[&str], places: &[Place]| {
            let (_, found) = seen(directories).locate(places, &places[0]);
            (
                found.member.unwrap_or_default(),
                found.wal.unwrap_or_default(),
            )
        };
        let is = |member: &str, wal: &str| (member.to_owned(), wal.to_owned());
        let both = [inside, apart.clone()];
        for wal in ["/a/member/wal", "/a/member/wal.quorate-moving", "/w/wal"] {
            assert_eq!(locate(&["/a/member", wal], &both), is("/a/member", wal));
        }
        // Somebody adopts a host whose file has always said so.
        assert_eq!(
            locate(&["/a/member", "/a/member/wal"], &[apart]),
            is("/a/member", "/a/member/wal")
        );
        let elsewhere = [place("/a", None), place("/b", Some("/w"))];
        assert_eq!(
            locate(&["/b/member", "/b/member/wal"], &elsewhere),
            is("/b/member", "/b/member/wal")
        );
    }

    #[test]
    fn data_of_another_cluster_at_the_new_place_is_told() {
        let places = [place("/a", None), place("/b", None)];
        let mut seen = seen(&["/a/member", "/a/member/wal", "/b/member"]);
        seen.wals.insert("/b/member/wal".into(), Ok(identity(2)));
        let (data, found) = seen.locate(&places, &places[1]);
        assert_eq!(data, DataDir::Wal(identity(1)));
        assert_eq!(found.taken, Some(identity(2)));
        // A copy of our own as well.
        let copied = ["/a/member", "/a/member/wal", "/b/member", "/b/member/wal"];
        let (_, found) = self::seen(&copied).locate(&places, &places[1]);
        assert_eq!(found.wal.as_deref(), Some("/a/member/wal"));
        assert_eq!(found.taken, Some(identity(1)));
    }
}
