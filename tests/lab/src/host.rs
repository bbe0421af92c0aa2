//! One host of a lab: its identity, commands and files.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::lab_dir;
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::keys;
use crate::record::Record;
use crate::{net, sys};

const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A host: a systemd container with an address, sshd, a journal and a root file system of its
/// own. All that is known of it is on disk and in the kernel, so that clones and other processes
/// see the same host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its host name, `etcd-1` and so on.
    pub name: String,
    /// The address in the lab that it begins with; see [`Host::address`].
    pub ip: Ipv4Addr,
    pub(crate) lab: String,
    pub(crate) index: usize,
}

/// How a command on a host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code; `None` when a signal killed it.
    pub code: Option<i32>,
    /// What it wrote, as text.
    pub stdout: String,
    /// What it complained about, as text.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: sys::text(&output.stdout),
            stderr: sys::text(&output.stderr),
        }
    }
}

impl Host {
    pub(crate) fn new(lab: &str, index: usize, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ip: net::host_address(index),
            lab: lab.to_owned(),
            index,
        }
    }

    /// Runs a shell script as root on the host, by way of its namespaces: it needs neither
    /// network nor sshd, and works on a frozen or partitioned host. What it starts and leaves
    /// behind is not frozen with the host, but ends with its power.
    pub fn exec(&self, script: &str) -> Result<Output> {
        self.exec_with_input(script, &[], b"")
    }

    /// Like [`Host::exec`], with arguments `$1`… and standard input.
    pub fn exec_with_input(
        &self,
        script: &str,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<Output> {
        let init = self
            .init()
            .ok_or_else(|| Error::host(&self.name, "is off, so that nothing can run on it"))?;
        let mut command =
            sys::program("nsenter", ["-t", &init.to_string(), "-a", "-r", "-w", "--"]);
        shell(&mut command, script, arguments);
        sys::output_with_input(&mut command, input).map(Output::from)
    }

    /// Runs a shell script as root on the host; what it wrote, or an error unless it exits 0.
    pub fn run(&self, script: &str) -> Result<String> {
        let output = self.exec(script)?;
        self.succeeded(script, output)
    }

    /// The content of a file, whether the host is on or off.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let mut command = self.shell_on_or_off("cat -- \"$1\"", &[path]);
        let output = sys::output_with_input(&mut command, b"")?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(Error::host(
            &self.name,
            format!("reading {path}: {}", sys::text(&output.stderr).trim()),
        ))
    }

    /// Writes a file of root with this mode, making its directory, whether the host is on or off.
    pub fn write_file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let script = "umask 022; mkdir -p -- \"$(dirname -- \"$1\")\" && umask 077 && \
                      cat > \"$1\" && chmod \"$2\" \"$1\"";
        let mut command = self.shell_on_or_off(script, &[path, &format!("{mode:o}")]);
        let output = sys::output_with_input(&mut command, content.as_ref())?;
        self.succeeded(&format!("write {path}"), output.into())
            .map(drop)
    }

    /// Whether its init runs.
    pub fn is_on(&self) -> bool {
        self.init().is_some()
    }

    /// The address that it has: another than at first after [`Lab::renumber`](crate::Lab::renumber).
    pub fn address(&self) -> Ipv4Addr {
        let text = fs::read_to_string(self.address_file()).unwrap_or_default();
        text.trim().parse().unwrap_or(self.ip)
    }

    pub(crate) fn renumber(&self, address: Ipv4Addr) -> Result<()> {
        sys::write(&self.address_file(), format!("{address}\n"))?;
        if self.is_on() {
            net::renumber(&self.lab, self.index, address)?;
        }
        Ok(())
    }

    fn address_file(&self) -> PathBuf {
        self.dir().join("address")
    }

    /// What its init wrote to the console, over all boots.
    pub fn console(&self) -> String {
        fs::read(self.dir().join("console.log"))
            .map(|bytes| sys::text(&bytes))
            .unwrap_or_default()
    }

    pub(crate) fn succeeded(&self, what: &str, output: Output) -> Result<String> {
        if output.success() {
            return Ok(output.stdout);
        }
        Err(Error::host(
            &self.name,
            format!(
                "`{what}` ended with {}: {}",
                output
                    .code
                    .map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}")),
                output.stderr.trim()
            ),
        ))
    }

    /// A shell in the host's namespaces, or while it is off in its root file system.
    fn shell_on_or_off(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = match self.init() {
            Some(init) => {
                sys::program("nsenter", ["-t", &init.to_string(), "-a", "-r", "-w", "--"])
            }
            None => sys::program("chroot", [self.root()]),
        };
        shell(&mut command, script, arguments);
        command
    }

    pub(crate) fn init(&self) -> Option<u32> {
        self.cgroup().ok()?.init()
    }

    pub(crate) fn cgroup(&self) -> Result<Cgroup> {
        Ok(Cgroup::of_lab(&self.lab)?.child(&self.index.to_string()))
    }

    /// Its network namespace; also its name as a machine.
    pub(crate) fn namespace(&self) -> String {
        net::namespace(&self.lab, Some(self.index))
    }

    pub(crate) fn dir(&self) -> PathBuf {
        lab_dir(&self.lab)
            .join("hosts")
            .join(self.index.to_string())
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir().join("root")
    }

    /// Makes the host's own layer over the common root file system.
    pub(crate) fn prepare(&self, lower: &Path, record: &Record) -> Result<()> {
        let dir = self.dir();
        let [upper, work, root] = ["upper", "work", "root"].map(|name| dir.join(name));
        for made in [&upper, &work, &root] {
            sys::make_dir(made)?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        sys::run(sys::program("mount", ["-t", "overlay", "-o", &options, "overlay"]).arg(&root))?;
        let etc = root.join("etc");
        sys::write(&etc.join("hostname"), format!("{}\n", self.name))?;
        sys::write(&etc.join("hosts"), hosts_file(record))?;
        sys::write(&etc.join("machine-id"), "")?;
        let keys = keys::host_keys(self.index)?;
        for entry in fs::read_dir(&keys).at(|| format!("list {}", keys.display()))? {
            let entry = entry.at(|| format!("list {}", keys.display()))?;
            copy(&entry.path(), &etc.join("ssh").join(entry.file_name()))?;
        }
        let authorized = lab_dir(&self.lab).join(keys::AUTHORIZED_KEYS);
        for home in ["root", "home/ops"] {
            let ssh = root.join(home).join(".ssh");
            let installed = ssh.join("authorized_keys");
            copy(&authorized, &installed)?;
            sys::set_mode(&installed, 0o600)?;
            own_like(&ssh, &installed)?;
        }
        let tag = if record.password_sudo.contains(&self.index) {
            ""
        } else {
            "NOPASSWD: "
        };
        let sudoers = etc.join("sudoers.d/ops");
        sys::write(&sudoers, format!("ops ALL=(ALL:ALL) {tag}ALL\n"))?;
        sys::set_mode(&sudoers, 0o440)
    }
}

fn shell(command: &mut Command, script: &str, arguments: &[&str]) {
    command
        .args(["sh", "-c", script, "sh"])
        .args(arguments)
        .env_clear()
        .env("PATH", ROOT_PATH)
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8");
}

fn hosts_file(record: &Record) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n".to_owned();
    for (number, name) in record.hosts.iter().enumerate() {
        text.push_str(&format!("{} {name}\n", net::host_address(number + 1)));
    }
    text
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .at(|| format!("copy {} to {}", from.display(), to.display()))
        .map(drop)
}

fn own_like(model: &Path, path: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let model = fs::metadata(model).at(|| format!("look at {}", model.display()))?;
    chown(path, Some(model.uid()), Some(model.gid())).at(|| format!("chown {}", path.display()))
}
