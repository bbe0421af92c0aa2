//! Data disks: file systems of their own on a host, which survive its power loss and can be
//! forgotten at boot.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::sys;

/// A data disk as the host's directory records it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Disk {
    path: String,
    /// Whether it is mounted, now or at the next boot.
    mounted: bool,
}

impl Host {
    /// Gives the host a new ext4 file system of this size in MiB on a block device of its own
    /// and mounts it on a directory, now and at every boot.
    pub fn add_data_disk(&self, path: &str, size_mib: u64) -> Result<()> {
        let mut disks = self.disks()?;
        if disks.iter().any(|disk| disk.path == path) {
            return Err(Error::host(
                &self.name,
                format!("has a data disk on {path}"),
            ));
        }
        let number = disks.len();
        let image = self.disk_dir(number).with_extension("img");
        sys::make_dir(&self.disk_dir(number))?;
        sys::run(sys::program("truncate", ["-s", &format!("{size_mib}M")]).arg(&image))?;
        // No blocks kept for root: a full disk is full for everyone.
        sys::run(sys::program("mkfs.ext4", ["-q", "-b", "4096", "-m", "0"]).arg(&image))?;
        sys::run(
            sys::program("mount", ["-o", "loop"])
                .arg(&image)
                .arg(self.disk_dir(number)),
        )?;
        disks.push(Disk {
            path: path.to_owned(),
            mounted: false,
        });
        self.save_disks(&disks)?;
        self.mount_data_disk(path)
    }

    /// Mounts a data disk, now and at every boot.
    pub fn mount_data_disk(&self, path: &str) -> Result<()> {
        let number = self.set_mounted(path, true)?;
        if !self.is_on() {
            return Ok(());
        }
        let device = self.loop_device(number)?;
        let script = r#"set -e
mountpoint -q "$2" && exit 0
test -b "$1" || mknod -m 660 "$1" b 7 "${1#/dev/loop}"
mkdir -p "$2"
mount "$1" "$2"
"#;
        self.disk_script(script, &[&device, path])
    }

    /// Unmounts a data disk, now and at every boot, as if its entry in fstab had gone: the
    /// directory below it is empty. Fails like umount(8) while something uses it.
    pub fn unmount_data_disk(&self, path: &str) -> Result<()> {
        self.set_mounted(path, false)?;
        if !self.is_on() {
            return Ok(());
        }
        self.disk_script("! mountpoint -q \"$1\" || umount \"$1\"", &[path])
    }

    /// Options of systemd-nspawn that show the host its disks at boot.
    pub(crate) fn disk_binds(&self) -> Result<Vec<String>> {
        let mut options = Vec::new();
        for (number, disk) in self.disks()?.iter().enumerate() {
            options.push(format!("--bind={}", self.loop_device(number)?));
            if disk.mounted {
                options.push(format!(
                    "--bind={}:{}",
                    self.disk_dir(number).display(),
                    disk.path
                ));
            }
        }
        Ok(options)
    }

    fn disk_script(&self, script: &str, arguments: &[&str]) -> Result<()> {
        let output = self.exec_with_input(script, arguments, b"")?;
        if output.success() {
            return Ok(());
        }
        Err(Error::host(
            &self.name,
            format!(
                "data disk {}: {}",
                arguments.join(" "),
                output.stderr.trim()
            ),
        ))
    }

    fn set_mounted(&self, path: &str, mounted: bool) -> Result<usize> {
        let mut disks = self.disks()?;
        let number = disks
            .iter()
            .position(|disk| disk.path == path)
            .ok_or_else(|| Error::host(&self.name, format!("has no data disk on {path}")))?;
        disks[number].mounted = mounted;
        self.save_disks(&disks)?;
        Ok(number)
    }

    /// The machine's block device behind a disk; the machine keeps it mounted all the time.
    fn loop_device(&self, number: usize) -> Result<String> {
        let output = sys::run(
            sys::program("findmnt", ["-n", "-o", "SOURCE", "--mountpoint"])
                .arg(self.disk_dir(number)),
        )?;
        Ok(sys::text(&output.stdout).trim().to_owned())
    }

    fn disk_dir(&self, number: usize) -> PathBuf {
        self.dir().join(format!("disk-{number}"))
    }

    fn disks_file(&self) -> PathBuf {
        self.dir().join("disks.json")
    }

    fn disks(&self) -> Result<Vec<Disk>> {
        let Ok(text) = fs::read_to_string(self.disks_file()) else {
            return Ok(Vec::new());
        };
        serde_json::from_str(&text).map_err(|source| self.damaged(source))
    }

    fn save_disks(&self, disks: &[Disk]) -> Result<()> {
        let text = serde_json::to_string_pretty(disks).map_err(|source| self.damaged(source))?;
        sys::write(&self.disks_file(), text + "\n")
    }

    fn damaged(&self, source: serde_json::Error) -> Error {
        Error::Record {
            path: self.disks_file().display().to_string(),
            source,
        }
    }
}
