//! Quorate and its peers: how each is started, and what is checked afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use quorate_lab::{Host, Lab, releases};

use crate::{Result, measure, setup};

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    Quorate,
    Shell,
    Ansible,
    Pyinfra,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Quorate => "quorate",
            Self::Shell => "shell",
            Self::Ansible => "ansible",
            Self::Pyinfra => "pyinfra",
        }
    }
}

/// Everything away that any of them puts on a host.
pub const WIPE: &str = "
systemctl disable -q --now etcd 2>/dev/null
systemctl reset-failed etcd 2>/dev/null
rm -rf /var/lib/etcd /etc/etcd /etc/quorate /run/quorate /opt/etcd* /usr/local/bin/etcd* \
    /usr/local/bin/.etcd* /usr/local/bin/.quorate* /etc/systemd/system/etcd.service* \
    /run/systemd/system/etcd.service.d
if id -u etcd >/dev/null 2>&1; then userdel etcd; fi
if getent group etcd >/dev/null; then groupdel etcd; fi
systemctl daemon-reload
sync -f /
";

/// The hosts, and files for every peer.
pub struct Bench<'a> {
    pub lab: &'a Lab,
    quorate: PathBuf,
    archive: PathBuf,
    sha256: String,
    version: String,
    /// `tests/bench`.
    here: PathBuf,
    /// Goes with the lab.
    work: PathBuf,
}

impl<'a> Bench<'a> {
    pub fn new(lab: &'a Lab, quorate: &Path) -> Result<Self> {
        let release = releases::find("3.5")?;
        let work = lab.dir().join("bench");
        fs::create_dir_all(&work)?;
        let output = Command::new("sha256sum").arg(&release.tarball).output()?;
        let sha256 = String::from_utf8(output.stdout)?;
        let bench = Self {
            lab,
            quorate: quorate
                .canonicalize()
                .map_err(|error| format!("{}: {error}", quorate.display()))?,
            sha256: sha256
                .split(' ')
                .next()
                .ok_or("sha256sum says nothing")?
                .to_owned(),
            archive: release.tarball,
            version: release.version,
            here: Path::new(env!("CARGO_MANIFEST_DIR")).to_owned(),
            work,
        };
        fs::write(bench.cluster_file(), bench.cluster_text())?;
        fs::write(bench.work.join("inventory.ini"), bench.ansible_inventory())?;
        fs::write(bench.work.join("inventory.py"), bench.pyinfra_inventory())?;
        fs::write(bench.work.join("login.sh"), bench.login_script())?;
        fs::set_permissions(&bench.work, fs::Permissions::from_mode(0o700))?;
        Ok(bench)
    }

    /// A file of this run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    fn cluster_file(&self) -> PathBuf {
        self.file("cluster.toml")
    }

    /// The cluster file without nodes.
    pub fn cluster_head(&self) -> String {
        format!(
            r#"schema = 1

[cluster]
name = "demo"
token = "demo-1"

[etcd]
version = "{version}"

[etcd.install]
method = "archive"
archive = "{archive}"
sha256 = "{sha256}"

[ssh]
user = "root"
identity = "{identity}"
known_hosts = "{known_hosts}"

[tls]
client = "managed"
peer = "managed"
"#,
            version = self.version,
            archive = self.archive.display(),
            sha256 = self.sha256,
            identity = self.lab.identity().display(),
            known_hosts = self.lab.known_hosts().display(),
        )
    }

    fn cluster_text(&self) -> String {
        let nodes = self.lab.hosts().iter().map(|host| {
            format!(
                "\n[[node]]\nname = \"{}\"\nip = \"{}\"\n",
                host.name, host.ip
            )
        });
        self.cluster_head() + &nodes.collect::<String>()
    }

    fn ansible_inventory(&self) -> String {
        let hosts = self
            .lab
            .hosts()
            .iter()
            .map(|host| format!("{} ansible_host={}\n", host.name, host.ip));
        format!(
            "[etcd]\n{}\n[etcd:vars]\nansible_user=root\nansible_ssh_private_key_file={}\n\
             ansible_ssh_common_args=-o UserKnownHostsFile={}\netcd_version={}\netcd_archive={}\n\
             etcd_pki={}\n",
            hosts.collect::<String>(),
            self.lab.identity().display(),
            self.lab.known_hosts().display(),
            self.version,
            self.archive.display(),
            self.file("certificates").display(),
        )
    }

    fn pyinfra_inventory(&self) -> String {
        let hosts = self.lab.hosts().iter().map(|host| {
            format!(
                "        (\"{}\", {{\"ssh_hostname\": \"{1}\", \"address\": \"{1}\"}}),\n",
                host.name, host.ip
            )
        });
        format!(
            "etcd = (\n    [\n{}    ],\n    {{\n        \"ssh_user\": \"root\",\n        \
             \"ssh_key\": \"{}\",\n        \"ssh_known_hosts_file\": \"{}\",\n        \
             \"version\": \"{}\",\n        \"archive\": \"{}\",\n        \"pki\": \"{}\",\n    }},\n)\n",
            hosts.collect::<String>(),
            self.lab.identity().display(),
            self.lab.known_hosts().display(),
            self.version,
            self.archive.display(),
            self.file("certificates").display(),
        )
    }

    /// Three logins at once, with nothing that OpenSSH could save: no agent, no configuration.
    fn login_script(&self) -> String {
        let mut text = "set -e\n".to_owned();
        for host in self.lab.hosts() {
            text.push_str(&format!(
                "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes \
                 -o UserKnownHostsFile={} -i {} root@{} true & jobs=\"$jobs $!\"\n",
                self.lab.known_hosts().display(),
                self.lab.identity().display(),
                host.ip
            ));
        }
        text + "for job in $jobs; do wait \"$job\"; done\n"
    }

    /// A program in the lab's network, without anything of the machine's user.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.lab.command(program)?;
        command
            .env_remove("SSH_AUTH_SOCK")
            .env("HOME", &self.work)
            .env("XDG_CACHE_HOME", self.file("cache"))
            .env("XDG_STATE_HOME", self.file("state"))
            .current_dir(&self.work);
        Ok(command)
    }

    /// Quorate under a cluster file.
    pub fn quorate(&self, file: &Path, words: &[&str]) -> Result<Command> {
        let mut command = self.command(&self.quorate.to_string_lossy())?;
        command.arg("--file").arg(file).args(words);
        Ok(command)
    }

    fn nodes(&self) -> impl Iterator<Item = String> {
        let hosts = self.lab.hosts().iter();
        hosts.map(|host| format!("{}={}", host.name, host.ip))
    }

    /// A script of `shell/`, with its authority as the first argument and all that it wants to know of the lab.
    pub fn script(&self, name: &str) -> Result<Command> {
        let script = self.here.join("shell").join(name);
        let mut command = self.command(&script.to_string_lossy())?;
        command
            .arg(self.file("pki-shell"))
            .env("ARCHIVE", &self.archive)
            .env("SHA256", &self.sha256)
            .env("IDENTITY", self.lab.identity())
            .env("KNOWN_HOSTS", self.lab.known_hosts());
        Ok(command)
    }

    fn shell(&self) -> Result<Command> {
        let mut command = self.script("bootstrap.sh")?;
        command.args(self.nodes());
        Ok(command)
    }

    fn ansible(&self, words: &[&str]) -> Result<Command> {
        let program = setup::venv().join("bin/ansible-playbook");
        let mut command = self.command(&program.to_string_lossy())?;
        command
            .env("ANSIBLE_CONFIG", self.here.join("ansible/ansible.cfg"))
            .env("LC_ALL", "C.UTF-8")
            .arg("-i")
            .arg(self.file("inventory.ini"))
            .arg(self.here.join("ansible/site.yml"))
            .args(words);
        Ok(command)
    }

    fn pyinfra(&self) -> Result<Command> {
        let program = setup::venv().join("bin/pyinfra");
        let mut command = self.command(&program.to_string_lossy())?;
        command
            .env("LC_ALL", "C.UTF-8")
            .arg("-y")
            .arg(self.file("inventory.py"))
            .arg("deploy.py")
            .current_dir(self.here.join("pyinfra"));
        Ok(command)
    }

    /// Certificates for Ansible and pyinfra, which get them ready-made.
    pub fn make_certificates(&self) -> Result<()> {
        let mut command = Command::new(self.here.join("shell/certificates.sh"));
        command.arg(self.file("certificates")).args(self.nodes());
        measure::time(&mut command).map(drop)
    }

    /// Hosts as they were before anybody was there; Quorate's and the script's authorities go too.
    pub fn wipe(&self) -> Result<()> {
        self.on_all(|host| host.run(WIPE).map(drop))?;
        for authority in ["pki", "pki-shell"] {
            let path = self.file(authority);
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        // Connections that Ansible keeps are of the run before.
        let control = self.file(".ansible/cp");
        if control.exists() {
            for socket in fs::read_dir(&control)? {
                let mut exit = self.command("ssh")?;
                exit.arg("-F").arg("none").arg("-o");
                exit.arg(format!("ControlPath={}", socket?.path().display()));
                let _ = exit.args(["-O", "exit", "host"]).output();
            }
        }
        Ok(())
    }

    pub fn on_all(
        &self,
        work: impl Fn(&Host) -> quorate_lab::Result<()> + Sync,
    ) -> quorate_lab::Result<()> {
        thread::scope(|scope| {
            let running: Vec<_> = self
                .lab
                .hosts()
                .iter()
                .map(|host| scope.spawn(|| work(host)))
                .collect();
            running.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    /// From blank hosts to a healthy cluster.
    pub fn first(&self, peer: Peer) -> Result<Duration> {
        let mut command = match peer {
            Peer::Quorate => self.quorate(&self.cluster_file(), &["apply", "--auto-approve"])?,
            Peer::Shell => self.shell()?,
            Peer::Ansible => self.ansible(&[])?,
            Peer::Pyinfra => self.pyinfra()?,
        };
        measure::time(&mut command)
    }

    /// Once more, with nothing to do.
    pub fn second(&self, peer: Peer) -> Result<Vec<(&'static str, Duration)>> {
        Ok(match peer {
            // The first one hashes what has just been put there, and remembers.
            Peer::Quorate => vec![("quorate, first", self.plan()?), ("quorate", self.plan()?)],
            Peer::Shell => vec![],
            Peer::Ansible => {
                let (took, said) = measure::run(&mut self.ansible(&[])?)?;
                if said.matches("changed=0").count() != self.lab.hosts().len() {
                    return Err(format!("the role's second run changes something:\n{said}").into());
                }
                let check = measure::time(&mut self.ansible(&["--check"])?)?;
                vec![("ansible", took), ("ansible --check", check)]
            }
            Peer::Pyinfra => vec![("pyinfra", measure::time(&mut self.pyinfra()?)?)],
        })
    }

    /// `quorate plan`; any change that it wants is an error.
    pub fn plan(&self) -> Result<Duration> {
        measure::time(&mut self.quorate(&self.cluster_file(), &["plan", "--detailed-exitcode"])?)
    }

    /// `ssh HOST true` on every host at once.
    pub fn parallel_login(&self) -> Result<Duration> {
        let mut command = self.command("sh")?;
        measure::time(command.arg(self.file("login.sh")))
    }

    /// Whether the result is what everybody was to bring about.
    pub fn verify(&self, peer: Peer) -> Result<()> {
        let script = format!(
            "set -e\n\
             etcd --version | grep -q 'etcd Version: {}'\n\
             systemctl is-active -q etcd\n\
             systemctl is-enabled -q etcd\n\
             [ \"$(stat -c %U:%a /var/lib/etcd)\" = etcd:700 ]\n\
             [ \"$(stat -c %U:%a /etc/etcd/tls/server.key)\" = etcd:400 ]\n\
             [ \"$(ps -o user= -C etcd)\" = etcd ]\n\
             etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/tls/ca.crt \
             --cert=/etc/etcd/tls/server.crt --key=/etc/etcd/tls/server.key member list \
             | grep -c started",
            self.version
        );
        for host in self.lab.hosts() {
            let members = host
                .run(&script)
                .map_err(|error| format!("after {}: {error}", peer.name()))?;
            if members.trim() != self.lab.hosts().len().to_string() {
                return Err(format!(
                    "after {}: {} sees {members} members",
                    peer.name(),
                    host.name
                )
                .into());
            }
        }
        Ok(())
    }
}
