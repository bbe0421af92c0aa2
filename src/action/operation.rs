//! The small closed set of things that an action does on its host. A new kind of action rarely needs a new one.

use serde::{Deserialize, Serialize};

use super::restart::Move;
use crate::etcd::id::MemberId;
use crate::observed::host::PackageManager;
use crate::runtime::{Directory, FileWrite};

/// One thing to do on the host of an action. Consecutive operations travel as one script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Creates the system user and group unless they exist.
    EnsureUser(String),
    /// Removes the system user and its group.
    RemoveUser(String),
    /// Creates a directory, or corrects its mode and owner.
    MakeDirectory(Directory),
    /// Removes a directory if it is empty.
    RemoveDirectory(String),
    /// Writes a file atomically.
    WriteFile(FileWrite),
    /// Removes a file, if it is there.
    RemoveFile(String),
    /// Removes what an interrupted upload or unpacking left in these directories.
    Sweep(Vec<String>),
    /// Sends the release archive to a path on the host.
    Upload {
        /// Hex sha256 of the archive.
        sha256: String,
        /// Architecture that it is for.
        arch: String,
        /// Where to.
        to: String,
    },
    /// Unpacks the binaries of an uploaded archive and puts each in place atomically.
    Extract {
        /// The archive on the host.
        archive: String,
        /// Directory of the binaries.
        bin_dir: String,
        /// What is put before the name of each, to stage it.
        prefix: String,
    },
    /// Installs packages at an exact version and keeps the distribution from starting or upgrading anything (Q19).
    InstallPackages {
        /// What installs them.
        manager: PackageManager,
        /// `name` and exact version of each.
        packages: Vec<(String, String)>,
        /// Unit that the package would start.
        unit: String,
    },
    /// Keeps the package manager from upgrading installed packages.
    HoldPackages {
        /// What holds them.
        manager: PackageManager,
        /// Their names.
        names: Vec<String>,
    },
    /// Lets the package manager upgrade packages again.
    ReleasePackages {
        /// What held them.
        manager: PackageManager,
        /// Their names.
        names: Vec<String>,
    },
    /// Removes packages that we installed.
    RemovePackages {
        /// What removes them.
        manager: PackageManager,
        /// Their names.
        names: Vec<String>,
    },
    /// A verb of systemctl.
    Unit(UnitVerb, String),
    /// Fails if a `*.wal` file exists in the directory.
    AssertNoWal(String),
    /// Waits until a `*.wal` file exists in the directory.
    AwaitWal {
        /// The directory.
        dir: String,
        /// The unit whose member writes it.
        unit: String,
    },
    /// Renames a path within its directory; nothing happens where it does not exist.
    MoveAside {
        /// What.
        from: String,
        /// New name, in the same directory.
        to: String,
    },
    /// Deletes a tree of data: only what the operator named by `--purge-data` (Q7).
    PurgeData(String),
    /// Gives a tree of data to the service user.
    GiveToUser {
        /// The user.
        user: String,
        /// Its group.
        group: String,
        /// The tree.
        path: String,
    },
    /// Gives a tree to root, mode 0700 at its top.
    GiveToRoot(String),
    /// Gives to root what a user that goes has in a directory.
    Disown {
        /// The user.
        user: String,
        /// The directory.
        path: String,
    },
    /// Keeps what is at each path as `.NAME.quorate-previous`, unless that was kept before.
    KeepPrevious(Vec<String>),
    /// Puts staged files (`.NAME.quorate-staged`) in place.
    SwitchStaged(Vec<String>),
    /// Puts back what was kept.
    RestorePrevious(Vec<String>),
    /// Removes what was kept, and nothing that was staged.
    DropKept(Vec<String>),
    /// Removes what was kept.
    DropPrevious(Vec<String>),
    /// Leaves one line in the host's journal.
    Journal(String),
    /// Moves leadership away from a member, if it leads.
    MoveLeader(MemberId),
    /// Adds a learner with this peer URL, unless a member has it already.
    AddLearner(String),
    /// Promotes the learner with this peer URL, through the leader, unless it is a voter already.
    Promote(String),
    /// Removes a member by ID (Q6), unless it is gone already.
    RemoveMember(MemberId),
    /// Changes the peer URLs of a member by ID (Q6), unless it has them already.
    UpdateMember(MemberId, Vec<String>),
    /// Waits until every other member's host can dial these peer URLs of a member.
    AwaitDialable(MemberId, Vec<String>),
    /// Fails if a copy that moving a directory takes would not fit: before anything is stopped for it.
    AssertRoom(Move),
    /// Moves a directory of a stopped member's data; nothing happens where that has been done.
    Relocate(Move),
    /// Saves a snapshot on the operator's side and verifies it (Q13).
    SaveSnapshot,
}

impl Operation {
    /// Whether it stops a member that runs; in an undo, only one that the action has stopped before.
    pub fn stops(&self) -> bool {
        matches!(
            self,
            Self::Unit(
                UnitVerb::Restart
                    | UnitVerb::RestartAgain
                    | UnitVerb::Stop
                    | UnitVerb::StopAgain
                    | UnitVerb::StopForRestart,
                _
            )
        )
    }
}

/// Verbs of systemctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitVerb {
    /// `daemon-reload` (the unit is not used).
    DaemonReload,
    /// `reset-failed`.
    ResetFailed,
    /// `enable`.
    Enable,
    /// `disable`.
    Disable,
    /// `unmask`.
    Unmask,
    /// `start`, without waiting: `Type=notify` waits for a quorum.
    Start,
    /// `restart`, without waiting.
    Restart,
    /// `stop`.
    Stop,
    /// `stop`, as the first half of a [`UnitVerb::Restart`].
    StopForRestart,
    /// `stop`, if the run's [`UnitVerb::Restart`] has got as far as stopping it.
    StopAgain,
    /// `restart`, if the run's [`UnitVerb::Restart`] has got as far as stopping it.
    RestartAgain,
    /// Forgets an earlier [`UnitVerb::Restart`].
    ForgetRestart,
}
