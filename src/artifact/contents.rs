//! A look into the archive: which binaries it holds, and for which machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::digest::{self, CopyError};

/// The binaries of a release; `etcd` itself has to be there.
const BINARIES: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];
/// Uncompressed; releases have a tenth of it, and no archive may keep us busy for ever.
const LARGEST: u64 = 1 << 30;
/// Bytes of an ELF header up to its machine.
const HEADER: usize = 20;

/// `amd64` or `arm64`, and what its ELF files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    /// The architecture's name in release files.
    pub(super) arch: &'static str,
    /// `e_machine`.
    elf: u16,
}

const MACHINES: [Machine; 2] = [
    Machine {
        arch: "amd64",
        elf: 62,
    },
    Machine {
        arch: "arm64",
        elf: 183,
    },
];

impl Machine {
    /// The machine of this name.
    pub(super) fn of(arch: &str) -> Option<Self> {
        MACHINES.into_iter().find(|machine| machine.arch == arch)
    }
}

/// Hex digests of the binaries in a `.tar.gz`, by file name; else what is wrong with it.
pub(super) fn binaries(
    archive: &Path,
    machine: Machine,
) -> Result<BTreeMap<String, String>, String> {
    let file = File::open(archive).map_err(|error| format!("it cannot be opened: {error}"))?;
    read(file, machine)
}

fn read(file: impl Read, machine: Machine) -> Result<BTreeMap<String, String>, String> {
    let unpacked = MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, file));
    let mut archive = tar::Archive::new(Bounded {
        inner: unpacked,
        left: LARGEST,
    });
    let mut found = BTreeMap::new();
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let kind = entry.header().entry_type();
        let Some(name) = entry.path().ok().and_then(|path| binary(&path)) else {
            continue;
        };
        if !kind.is_file() {
            return Err(format!("`{name}` in it is no regular file"));
        }
        let mut head = Head::default();
        let (digest, _) = digest::copy(&mut entry, &mut head, LARGEST, &mut |_| {}).map_err(
            |error| match error {
                CopyError::Read(error) | CopyError::Write(error) => broken(&error),
                CopyError::TooLarge => format!("`{name}` in it is larger than any binary of etcd"),
            },
        )?;
        if name == "etcd" {
            head.check(machine)?;
        }
        if found.insert(name.to_owned(), digest).is_some() {
            return Err(format!("it holds `{name}` twice"));
        }
    }
    // The checksum of the stream comes after what tar reads.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| broken(&error))?;
    if found.contains_key("etcd") {
        Ok(found)
    } else {
        Err("it holds no `etcd` in the directory at its top".to_owned())
    }
}

/// The binary that an entry is: in the one directory at the top, which hosts strip (`tar --strip-components=1`).
fn binary(path: &Path) -> Option<&'static str> {
    let (dir, name) = path.to_str()?.split_once('/')?;
    BINARIES
        .into_iter()
        .find(|binary| *binary == name && !matches!(dir, "" | ".."))
}

fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut off".to_owned(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            format!("it is no intact .tar.gz ({error})")
        }
        _ => format!("it cannot be read: {error}"),
    }
}

/// Fails once more has been read than is allowed.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it unpacks to more than 1 GiB")
        })?;
        Ok(count)
    }
}

/// Keeps the first bytes of a file.
#[derive(Default)]
struct Head(Vec<u8>);

impl io::Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let missing = HEADER.saturating_sub(self.0.len());
        self.0.extend(bytes.iter().take(missing));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Head {
    /// 64-bit, little-endian ELF of the machine (elf(5)).
    fn check(&self, machine: Machine) -> Result<(), String> {
        let [0x7f, b'E', b'L', b'F', 2, 1, .., low, high] = self.0.as_slice() else {
            return Err("`etcd` in it is no 64-bit Linux binary".to_owned());
        };
        let found = u16::from_le_bytes([*low, *high]);
        if self.0.len() < HEADER {
            return Err("`etcd` in it is cut off".to_owned());
        }
        if found == machine.elf {
            return Ok(());
        }
        Err(match MACHINES.iter().find(|known| known.elf == found) {
            Some(known) => format!("`etcd` in it is for {}, not {}", known.arch, machine.arch),
            None => format!(
                "`etcd` in it is for another machine (ELF {found}), not {}",
                machine.arch
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn elf(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    fn pack(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            builder
                .append_data(&mut header, path, *content)
                .expect("appended");
        }
        builder
            .into_inner()
            .and_then(GzEncoder::finish)
            .expect("packed")
    }

    fn look(archive: &[u8]) -> Result<BTreeMap<String, String>, String> {
        read(archive, Machine::of("amd64").expect("a machine"))
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn finds_the_binaries() {
        let etcd = elf(62);
        let archive = pack(&[
            ("etcd-v3/", tar::EntryType::Directory, b""),
            ("etcd-v3/README.md", FILE, b"read me"),
            ("etcd-v3/etcd", FILE, &etcd),
            ("etcd-v3/etcdctl", FILE, b"ctl"),
            ("etcd-v3/Documentation/etcdutl", FILE, b"a page"),
        ]);
        let found = look(&archive).expect("binaries");
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found["etcd"], digest::of(&etcd));
        assert_eq!(found["etcdctl"], digest::of(b"ctl"));
    }

    #[test]
    fn says_what_is_wrong() {
        let etcd = elf(62);
        for (entries, expected) in [
            (
                vec![("x/etcdctl", FILE, b"ctl".as_slice())],
                "holds no `etcd` in the directory",
            ),
            // Hosts would not find these.
            (vec![("etcd", FILE, &etcd)], "holds no `etcd`"),
            (vec![("x/bin/etcd", FILE, &etcd)], "holds no `etcd`"),
            (
                vec![("x/etcd", tar::EntryType::Symlink, b"".as_slice())],
                "no regular file",
            ),
            (
                vec![("x/etcd", FILE, b"#!/bin/sh".as_slice())],
                "no 64-bit Linux binary",
            ),
            (vec![("x/etcd", FILE, &etcd[..19])], "cut off"),
            (vec![("x/etcd", FILE, &elf(183))], "for arm64, not amd64"),
            (vec![("x/etcd", FILE, &elf(40))], "another machine (ELF 40)"),
            (
                vec![("x/etcd", FILE, &etcd), ("y/etcd", FILE, &etcd)],
                "twice",
            ),
        ] {
            let error = look(&pack(&entries)).expect_err("refused");
            assert!(error.contains(expected), "{error}");
        }
        for garbage in [b"".as_slice(), b"<html>", &[0; 2048]] {
            let error = look(garbage).expect_err("refused");
            assert!(
                error.contains("cut off") || error.contains("no intact"),
                "{error}"
            );
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let archive = pack(&[("x/etcd", FILE, &elf(62))]);
        for length in 0..archive.len() {
            assert!(
                look(&archive[..length]).is_err(),
                "{length} of {}",
                archive.len()
            );
        }
        look(&archive).expect("whole");
    }
}
