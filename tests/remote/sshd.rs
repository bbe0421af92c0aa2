//! A real sshd on a loopback port, with its own keys and configuration, run in the foreground and
//! ended by its process ID. HOME is its own directory, so that root's `.bashrc` costs no time.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::desired::model::{SecretRef, Ssh};
use quorate::remote::{ConnectError, Host, Policy, Target, connect};
use quorate::secret::Resolver;

/// More than any process takes to begin.
pub const LONG: Duration = Duration::from_secs(60);

/// Whether tests against a real sshd can run here; says so by name when not.
pub fn available(test: &str) -> bool {
    let root = std::fs::metadata("/proc/self")
        .is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    let there = Path::new("/usr/sbin/sshd").exists();
    if !root || !there {
        eprintln!("SKIPPED {test}: needs root and /usr/sbin/sshd (package openssh-server)");
    }
    root && there
}

pub struct Sshd {
    pub dir: tempfile::TempDir,
    pub port: u16,
    child: Child,
}

pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub fn keygen(path: &Path, kind: &[&str], passphrase: &str) {
    let status = Command::new("ssh-keygen")
        .args([
            "-q",
            "-N",
            passphrase,
            "-C",
            &path.file_name().unwrap().to_string_lossy(),
        ])
        .args(kind)
        .arg("-f")
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

impl Sshd {
    /// Starts one with `extra` lines of configuration; waits until it listens.
    pub fn start(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        keygen(&path("host_ed25519"), &["-t", "ed25519"], "");
        keygen(&path("host_ecdsa"), &["-t", "ecdsa"], "");
        keygen(&path("id"), &["-t", "ed25519"], "");
        std::fs::copy(path("id.pub"), path("authorized_keys")).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let port = free_port();
        let config = format!(
            "{extra}\nListenAddress 127.0.0.1:{port}\nHostKey {0}/host_ed25519\nHostKey {0}/host_ecdsa\n\
             AuthorizedKeysFile {0}/authorized_keys\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nSetEnv HOME={0}\nMaxStartups 100\n",
            dir.path().display()
        );
        std::fs::write(path("sshd_config"), config).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let sshd = Self { port, child, dir };
        let deadline = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                Instant::now() < deadline,
                "sshd does not listen: {}",
                sshd.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        sshd.trust("host_ed25519");
        sshd
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Writes a known_hosts file with this key of the host.
    pub fn trust(&self, key: &str) {
        let public = std::fs::read_to_string(self.path(&format!("{key}.pub"))).unwrap();
        std::fs::write(
            self.path("known_hosts"),
            format!("[127.0.0.1]:{} {public}", self.port),
        )
        .unwrap();
    }

    pub fn ssh(&self) -> Ssh {
        Ssh {
            host: "127.0.0.1".into(),
            port: Some(self.port),
            user: Some("root".into()),
            identity: Some(self.path("id")),
            passphrase: None,
            sudo: false,
            sudo_password: None,
            jump: None,
            known_hosts: Some(self.path("known_hosts")),
            connect_timeout: Duration::from_secs(10),
        }
    }

    pub async fn connect(&self) -> Host {
        match reach(self.ssh()).await {
            Ok(host) => host,
            Err(error) => panic!("{error}\n{}", self.log()),
        }
    }
}

pub async fn reach(ssh: Ssh) -> Result<Host, ConnectError> {
    let target = Target {
        node: "node-1".into(),
        ssh,
    };
    connect(target, Arc::new(Resolver::new()), &Policy::default()).await
}

pub fn secret(text: &str) -> SecretRef {
    SecretRef::Command(format!("echo '{text}'"))
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
