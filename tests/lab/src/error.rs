//! What can go wrong, each with what to do about it.

use std::io;
use std::process::ExitStatus;

/// The result of everything the lab does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the lab.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Namespaces and mounts need root.
    #[error("the lab makes namespaces and mounts: run it as root")]
    NotRoot,
    /// The hosts are built by debootstrap from the machine's own apt mirror.
    #[error(
        "the lab needs a Debian machine (with systemd-nspawn and debootstrap); this is {found}"
    )]
    NotDebian {
        /// What `/etc/os-release` says instead.
        found: String,
    },
    /// A program of the machine is missing.
    #[error("missing on this machine: {programs}; run tests/lab/bootstrap.sh as root")]
    MissingPrograms {
        /// Their names, by comma.
        programs: String,
    },
    /// Nothing was set up yet.
    #[error("there is no root file system for the hosts at {path}; run `lab setup` as root")]
    NotSetUp {
        /// Where it should be.
        path: String,
    },
    /// The kernel has no unified control groups, or too old ones.
    #[error("no cgroup2 hierarchy with cgroup.kill is mounted; the lab needs Linux 5.14 or later")]
    NoCgroup,
    /// A lab's name is also part of other names.
    #[error("lab name {name:?}: use 1 to 32 of a-z, 0-9 and -")]
    BadName {
        /// The name that was given.
        name: String,
    },
    /// More hosts than the lab has addresses for.
    #[error("a lab has 1 to {max} hosts, not {asked}")]
    TooManyHosts {
        /// How many were asked for.
        asked: usize,
        /// How many are possible.
        max: usize,
    },
    /// Another living process owns a lab of that name.
    #[error("lab {name} is in use by process {pid}; choose another name or end that process")]
    InUse {
        /// The lab.
        name: String,
        /// Its owner.
        pid: u32,
    },
    /// A lab that stays until `lab down` has that name.
    #[error("lab {name} is already up; `lab down --name {name}` removes it")]
    AlreadyUp {
        /// The lab.
        name: String,
    },
    /// No such lab.
    #[error("lab {name} is not up; `lab up --name {name}` starts it")]
    NotUp {
        /// The lab.
        name: String,
    },
    /// No such host.
    #[error("lab {lab} has no host {host}; it has {known}")]
    NoSuchHost {
        /// The lab.
        lab: String,
        /// The name that was given.
        host: String,
        /// The names it has.
        known: String,
    },
    /// A version that is neither in the cache nor made by any recipe.
    #[error(
        "no etcd {version} in the release cache (there are: {known}); `lab binaries {version}` makes it where it can"
    )]
    NoSuchRelease {
        /// The version that was asked for.
        version: String,
        /// The versions there are.
        known: String,
    },
    /// A host did something else than was expected of it.
    #[error("{host}: {message}")]
    Host {
        /// The host.
        host: String,
        /// What happened, and what to look at.
        message: String,
    },
    /// A program of the machine failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, trimmed.
        stderr: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The refusal.
        source: io::Error,
    },
    /// A record of the lab does not parse.
    #[error("{path} is damaged: {source}; `lab clean` removes the lab")]
    Record {
        /// The file.
        path: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Something is not as the lab needs it.
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub(crate) fn host(host: &str, message: impl Into<String>) -> Self {
        Self::Host {
            host: host.to_owned(),
            message: message.into(),
        }
    }
}

/// Adds to a refusal of the operating system what was being done.
pub(crate) trait Context<T> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            what: what(),
            source: source.into(),
        })
    }
}
