//! A host's power: boot, loss, return.

use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::{net, sys};

const BOOT_LIMIT: Duration = Duration::from_secs(60);
const NSPAWN_DIR: &str = "/run/systemd/nspawn";

/// Joins control groups up to `--`, then becomes the program after it.
pub(crate) const JOIN_AND_EXEC: &str =
    "while [ \"$1\" != -- ]; do echo 0 >\"$1\" || exit 125; shift; done; shift; exec \"$@\"";

impl Host {
    /// Takes the host's power: its cable is dead and all its processes are gone at once, without
    /// a goodbye to anyone. Files stay as they are, also those not yet synced: the machine keeps
    /// its page cache.
    pub fn power_off(&self) -> Result<()> {
        net::host_unplug(&self.lab, self.index)?;
        let cgroup = self.cgroup()?;
        cgroup.kill()?;
        cgroup.remove()?;
        // Sockets of the dead in the old namespace would go on talking when the cable is back.
        net::remove(&self.namespace())?;
        forget_machine(&self.namespace(), &self.root());
        Ok(())
    }

    /// Boots the host, `/run` fresh and all else as it was, and waits until sshd accepts root
    /// and `ops`. On a host that is on nothing happens. A partition is still in force.
    pub fn power_on(&self) -> Result<()> {
        if self.is_on() {
            return Ok(());
        }
        self.power_off()?;
        net::host_up(&self.lab, self.index, self.address())?;
        self.apply_partition()?;
        let exited = self.start()?;
        self.wait_ready(&exited)
    }

    /// Takes the power and gives it back.
    pub fn reboot(&self) -> Result<()> {
        self.power_off()?;
        self.power_on()
    }

    /// Starts the container; the flag becomes true when it ends.
    fn start(&self) -> Result<Arc<AtomicBool>> {
        let cgroup = self.cgroup()?;
        cgroup.create()?;
        let log = self.dir().join("console.log");
        let console = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .at(|| format!("open {}", log.display()))?;
        let errors = console.try_clone().at(|| "share the console".to_owned())?;
        let mut command = sys::program("sh", ["-c", JOIN_AND_EXEC, "lab-host"]);
        command
            .args(cgroup.joins())
            .args(["--", "setsid", "systemd-nspawn", "-q"])
            .args(["--register=no", "--keep-unit", "--resolv-conf=off"])
            .args([
                "--capability=CAP_SYS_TIME,CAP_NET_ADMIN",
                "--boot",
                "--console=pipe",
            ])
            .arg(format!(
                "--network-namespace-path={}",
                net::namespace_path(&self.namespace()).display()
            ))
            .arg(format!("--machine={}", self.namespace()))
            .arg(format!("--hostname={}", self.name))
            .arg(format!("--directory={}", self.root().display()))
            .args(self.disk_binds()?)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            // Without it /proc/sys is read-only and sysctl fails.
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "yes")
            .current_dir("/")
            .stdout(Stdio::from(console))
            .stderr(Stdio::from(errors));
        let mut child = command.spawn().at(|| format!("boot {}", self.name))?;
        let exited = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&exited);
        thread::spawn(move || {
            let _ = child.wait();
            flag.store(true, Ordering::Release);
        });
        Ok(exited)
    }

    fn wait_ready(&self, exited: &AtomicBool) -> Result<()> {
        let address = SocketAddr::from((self.address(), 22));
        let ready = net::inside(&self.namespace(), || {
            sys::wait_until(BOOT_LIMIT, || {
                exited.load(Ordering::Acquire) || greets(&address)
            }) && sys::wait_until(BOOT_LIMIT, || {
                // While this file is there, sshd lets nobody in but root.
                exited.load(Ordering::Acquire)
                    || self.init().is_some_and(|init| {
                        !Path::new(&format!("/proc/{init}/root/run/nologin")).exists()
                    })
            })
        })?;
        if ready && !exited.load(Ordering::Acquire) {
            return Ok(());
        }
        let console = self.console();
        let tail: Vec<_> = console.lines().rev().take(10).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        Err(Error::host(
            &self.name,
            format!(
                "did not boot to SSH; its console ends:\n{}",
                tail.join("\n")
            ),
        ))
    }
}

fn greets(address: &SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(address, Duration::from_secs(1)) else {
        return false;
    };
    let mut greeting = [0; 4];
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .is_ok()
        && stream.read_exact(&mut greeting).is_ok()
        && &greeting == b"SSH-"
}

/// Removes what systemd-nspawn leaves on the machine when it is killed. The root file system
/// must still be mounted: it names the lock.
pub(crate) fn forget_machine(machine: &str, root: &Path) {
    let dir = Path::new(NSPAWN_DIR).join("propagate").join(machine);
    let _ = unmount(&dir, UnmountFlags::DETACH);
    let _ = fs::remove_dir(&dir);
    if let Ok(metadata) = fs::metadata(root) {
        let lock = format!("inode-{}:{}", metadata.dev(), metadata.ino());
        let _ = fs::remove_file(Path::new(NSPAWN_DIR).join("locks").join(lock));
    }
}
