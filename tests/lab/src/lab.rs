//! A lab: hosts on a network of their own, from boot to complete removal.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::cache::{lab_dir, state_dir};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::power::JOIN_AND_EXEC;
use crate::record::{Owner, Record};
use crate::serve::Server;
use crate::{keys, machine, net, releases, rootfs, sweep, sys};

/// What a lab should be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many hosts; they are called `etcd-1`, `etcd-2`…
    pub hosts: usize,
    /// The numbers of hosts, from 1, on which sudo asks `ops` for
    /// [`SUDO_PASSWORD`](crate::SUDO_PASSWORD); on all others it asks for nothing.
    pub password_sudo: Vec<usize>,
    /// Whether the lab stays when the process ends, until [`down`](crate::down).
    pub persistent: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts: 3,
            password_sudo: Vec::new(),
            persistent: false,
        }
    }
}

/// A lab that is up. Unless it is persistent or attached, dropping it removes it without a
/// trace; if its process is killed instead, the next [`Lab::up`] of whatever name does.
#[derive(Debug)]
pub struct Lab {
    name: String,
    hosts: Vec<Host>,
    owned: bool,
    server: Mutex<Option<Server>>,
}

impl Lab {
    /// Boots a lab's hosts, all at once, and returns when SSH answers on all of them (about a
    /// second and a half for three). Needs root and what `lab setup` makes.
    pub fn up(name: &str, options: Options) -> Result<Self> {
        net::check_name(name)?;
        machine::check()?;
        if options.hosts == 0 || options.hosts > net::MAX_HOSTS {
            return Err(Error::TooManyHosts {
                asked: options.hosts,
                max: net::MAX_HOSTS,
            });
        }
        machine::make_room();
        machine::mend_devices();
        let lower = rootfs::ready()?;
        let record = claim(name, &options)?;
        // From here on dropping it cleans up, also when the boot fails.
        let mut lab = Self::of_record(&record, true);
        Cgroup::of_lab(name)?.create_parent()?;
        Cgroup::of_lab(name)?.child(COMMANDS).create()?;
        net::lab_up(name)?;
        keys::make_client_key(&lab.dir())?;
        let known_hosts = in_parallel(&lab.hosts, |host| {
            host.prepare(&lower, &record)?;
            host.power_on()?;
            keys::known_hosts_lines(&keys::host_keys(host.index)?, &host.name, host.ip)
        })?;
        sys::write(&lab.known_hosts(), known_hosts.concat())?;
        lab.owned = !options.persistent;
        Ok(lab)
    }

    /// A lab that another process brought up; dropping it leaves it as it is.
    pub fn attach(name: &str) -> Result<Self> {
        machine::require_root()?;
        net::check_name(name)?;
        match Record::load(name)? {
            Some(record) if !record.is_abandoned()? => Ok(Self::of_record(&record, false)),
            _ => Err(Error::NotUp {
                name: name.to_owned(),
            }),
        }
    }

    fn of_record(record: &Record, owned: bool) -> Self {
        let hosts = record.hosts.iter().enumerate();
        Self {
            name: record.name.clone(),
            hosts: hosts
                .map(|(number, name)| Host::new(&record.name, number + 1, name))
                .collect(),
            owned,
            server: Mutex::new(None),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its hosts, `etcd-1` first.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// A host by name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .ok_or_else(|| Error::NoSuchHost {
                lab: self.name.clone(),
                host: name.to_owned(),
                known: self
                    .hosts
                    .iter()
                    .map(|host| host.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// Gives a host another address in place of the one it has, now and at every boot; its keys
    /// are known there too. Connections to the old one are dead, as when somebody renumbers it.
    pub fn renumber(&self, host: &str, address: Ipv4Addr) -> Result<()> {
        let host = self.host(host)?;
        let keys = keys::host_keys(host.index)?;
        let known = sys::read(&self.known_hosts())?;
        let lines = keys::known_hosts_lines(&keys, &host.name, address)?;
        sys::write(&self.known_hosts(), known + &lines)?;
        host.renumber(address)
    }

    /// Its directory, with the client's keys and `known_hosts`. A test may keep files there:
    /// they go with the lab.
    pub fn dir(&self) -> PathBuf {
        lab_dir(&self.name)
    }

    /// The client's private key, without a passphrase, accepted for root and `ops`.
    pub fn identity(&self) -> PathBuf {
        self.dir().join(keys::IDENTITY)
    }

    /// A `known_hosts` file with every key of every host, by name and address.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir().join(keys::KNOWN_HOSTS)
    }

    /// The lab's network namespace, as `ip netns` lists it.
    pub fn netns(&self) -> String {
        net::namespace(&self.name, None)
    }

    /// A program that will run in the lab's network, with the machine's files and the
    /// environment of this process. It ends with the lab at the latest.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let joins = Cgroup::of_lab(&self.name)?.child(COMMANDS).joins();
        let mut command = Command::new("sh");
        command
            .args(["-c", JOIN_AND_EXEC, "lab-command"])
            .args(joins)
            .args(["--", "nsenter"])
            .arg(format!(
                "--net={}",
                net::namespace_path(&self.netns()).display()
            ))
            .arg("--")
            .arg(program);
        Ok(command)
    }

    /// OpenSSH's client, in the lab's network, for a user of a host; arguments and the remote
    /// command can be added. It reads no configuration of the machine and never asks.
    pub fn ssh(&self, user: &str, host: &Host) -> Result<Command> {
        let mut command = self.command("ssh")?;
        command
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
            ])
            .args(["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10"])
            .arg("-o")
            .arg(format!(
                "UserKnownHostsFile={}",
                self.known_hosts().display()
            ))
            .arg("-i")
            .arg(self.identity())
            .arg(format!("{user}@{}", host.address()));
        Ok(command)
    }

    /// Runs a function on a thread in the lab's network. Sockets that it opens, and threads and
    /// processes that it starts (a tokio runtime, say), are in there too.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        net::inside(&self.netns(), work)
    }

    /// Serves the release tarballs (see [`releases`]) over HTTP on the lab's address, as the
    /// release site would, until the lab goes; the URL of their directory, without a slash.
    pub fn serve_releases(&self) -> Result<String> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            let root = releases::dir();
            *server = self.inside(|| Server::start(net::LAB_ADDRESS, &root))??;
        }
        Ok(self.releases_url())
    }

    /// Where [`Lab::serve_releases`] serves.
    pub fn releases_url(&self) -> String {
        format!("http://{}:{}", net::LAB_ADDRESS, crate::serve::PORT)
    }

    /// Starts a program in the background of a persistent lab; it ends with the lab.
    pub fn spawn_background(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<()> {
        let mut command = self.command("setsid")?;
        command
            .arg("--fork")
            .arg(program)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        sys::run(&mut command).map(drop)
    }

    /// Removes the lab now; dropping it does the same, but cannot return what went wrong.
    pub fn down(mut self) -> Result<()> {
        self.owned = false;
        sweep::destroy_own(&self.name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if let Err(error) = sweep::destroy_own(&self.name) {
            eprintln!("lab {}: clean-up is incomplete: {error}", self.name);
        }
    }
}

/// The control group of commands in the lab; those of hosts are called by their numbers.
const COMMANDS: &str = "commands";

/// Reserves the name, after the remnants of dead labs were removed.
fn claim(name: &str, options: &Options) -> Result<Record> {
    let _lock = sweep::lock()?;
    sweep::sweep()?;
    if let Some(record) = Record::load(name)? {
        return Err(record.owner.map_or_else(
            || Error::AlreadyUp {
                name: name.to_owned(),
            },
            |owner| Error::InUse {
                name: name.to_owned(),
                pid: owner.pid,
            },
        ));
    }
    let record = Record {
        name: name.to_owned(),
        owner: if options.persistent {
            None
        } else {
            Owner::this_process()
        },
        boot: sys::boot_id()?,
        hosts: (1..=options.hosts)
            .map(|number| format!("etcd-{number}"))
            .collect(),
        password_sudo: options.password_sudo.clone(),
    };
    let dir = lab_dir(name);
    sys::make_dir(&dir)?;
    sys::set_mode(state_dir(), 0o711)?;
    sys::set_mode(&dir, 0o700)?;
    record.save()?;
    Ok(record)
}

/// Does something for all hosts at once; the results in their order, or the first failure.
fn in_parallel<T: Send>(
    hosts: &[Host],
    work: impl Fn(&Host) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let running: Vec<_> = hosts
            .iter()
            .map(|host| {
                let work = &work;
                scope.spawn(move || work(host))
            })
            .collect();
        running
            .into_iter()
            .map(|handle| {
                handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}
