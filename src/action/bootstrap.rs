//! First start of a member of a new cluster, on an empty data directory (Q11, Q12).

use serde::{Deserialize, Serialize};

use super::{Kind, Operation, RunFacts, UnitVerb, Verb};
use crate::observed::marker::Marker;
use crate::runtime::{Content, Directory, FileWrite, StartDropIn};

/// Starts a member with the frozen facts of its bootstrap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The unit.
    pub unit: String,
    /// `--initial-cluster`.
    pub initial_cluster: String,
    /// `--initial-cluster-token`.
    pub token: String,
    /// Lifts the WAL assertion for this one start.
    pub drop_in: StartDropIn,
    /// Directory in which the WAL appears.
    pub wal_dir: String,
    /// What an interrupted start may have left, and where it goes.
    pub leftover: (String, String),
    /// The marker once the member has its WAL.
    pub marker: Marker,
}

impl Kind for Bootstrap {
    fn verb(&self) -> Verb {
        Verb::Create
    }
    fn progress(&self) -> &'static str {
        "Starting"
    }
    fn summary(&self) -> String {
        format!(
            "start {} for the first time, token {}",
            self.unit, self.token
        )
    }
    fn is_member_action(&self) -> bool {
        true
    }
    fn operations(&self, run: &RunFacts) -> Vec<Operation> {
        let environment =
            crate::runtime::start_environment(&self.initial_cluster, &self.token, "new");
        first_start(
            &FirstStart {
                unit: &self.unit,
                environment,
                drop_in: &self.drop_in,
                wal_dir: &self.wal_dir,
                leftover: &self.leftover,
                marker: &self.marker,
            },
            run,
        )
    }
}

/// A start on an empty data directory, of a bootstrap or right after a `member add` (Q11).
pub(super) struct FirstStart<'a> {
    pub unit: &'a str,
    pub environment: String,
    pub drop_in: &'a StartDropIn,
    pub wal_dir: &'a str,
    pub leftover: &'a (String, String),
    pub marker: &'a Marker,
}

pub(super) fn first_start(start: &FirstStart<'_>, run: &RunFacts) -> Vec<Operation> {
    let unit = || start.unit.to_owned();
    let drop_in_dir = parent(&start.drop_in.path);
    let mut operations = vec![
        Operation::AssertNoWal(start.wal_dir.to_owned()),
        // An earlier attempt may still be starting, with facts that are no longer those of this start.
        Operation::Unit(UnitVerb::Stop, unit()),
        Operation::AssertNoWal(start.wal_dir.to_owned()),
        Operation::MoveAside {
            from: start.leftover.0.clone(),
            to: start.leftover.1.clone(),
        },
        Operation::MakeDirectory(root_directory(
            parent(&start.drop_in.environment_path),
            // The locks are in there, and who can open a lock can hold it.
            0o700,
        )),
        Operation::MakeDirectory(root_directory(drop_in_dir.clone(), 0o755)),
        Operation::WriteFile(root_file(
            &start.drop_in.environment_path,
            start.environment.clone(),
        )),
        Operation::WriteFile(root_file(&start.drop_in.path, start.drop_in.text.clone())),
        Operation::Unit(UnitVerb::Enable, unit()),
        Operation::Unit(UnitVerb::DaemonReload, unit()),
        Operation::Unit(UnitVerb::ResetFailed, unit()),
        Operation::Unit(UnitVerb::Start, unit()),
        // The same script lifts the assertion and puts it back, so that an operator who is cut off in between
        // leaves no host on which a member could start empty again.
        Operation::AwaitWal {
            dir: start.wal_dir.to_owned(),
            unit: unit(),
        },
        Operation::RemoveFile(start.drop_in.path.clone()),
        Operation::RemoveFile(start.drop_in.environment_path.clone()),
        Operation::RemoveDirectory(drop_in_dir),
        Operation::Unit(UnitVerb::DaemonReload, unit()),
    ];
    operations.extend(super::marker::write(start.marker, run));
    operations
}

fn parent(path: &str) -> String {
    path.rsplit_once('/')
        .map_or("/", |(directory, _)| directory)
        .to_owned()
}

fn root_directory(path: String, mode: u32) -> Directory {
    Directory {
        path,
        mode,
        owner: "root".into(),
        group: "root".into(),
    }
}

fn root_file(path: &str, text: String) -> FileWrite {
    FileWrite {
        path: path.into(),
        mode: 0o644,
        owner: "root".into(),
        group: "root".into(),
        content: Content::Text(text),
    }
}
