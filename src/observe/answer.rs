//! Reads the answer of a probe. Nothing a host says makes this panic; what makes no sense is an error.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::probe::{ProbeSpec, Remembered};
use crate::etcd::wal;
use crate::observed::certificate::{FoundCertificate, parse_certificate};
use crate::observed::data::{Sightings, Whereabouts};
use crate::observed::etcd::EtcdState;
use crate::observed::host::{
    BinaryFact, DataDir, FileFact, FileStat, FilesystemFact, HostFacts, HostUnknown, Listener, Os,
    UnitFact,
};
use crate::observed::marker::MarkerState;

/// Commands without which nothing can be done on a host.
const NEEDED: [&str; 8] = [
    "base64",
    "findmnt",
    "flock",
    "mktemp",
    "sha256sum",
    "stat",
    "systemctl",
    "timeout",
];

/// What a probe found, and what is worth remembering for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The facts; what etcd says is not among them yet.
    pub facts: HostFacts,
    /// What there is in the places where data was looked for.
    pub sightings: Sightings,
    /// Large files.
    pub remembered: BTreeMap<String, Remembered>,
}

/// Reads the answer. `operator_ms` is the operator's clock, Unix milliseconds, half-way between question and answer.
pub fn read(text: &str, spec: &ProbeSpec, operator_ms: i64) -> Result<Answer, HostUnknown> {
    let mut reader = Reader::default();
    let mut ended = false;
    for line in text.lines() {
        let (key, rest) = line.split_once('\t').unwrap_or((line, ""));
        if key == "end" {
            ended = true;
            break;
        }
        reader.line(key, rest);
    }
    if !ended {
        return Err(HostUnknown::Probe(format!(
            "the probe was cut off after {} lines",
            text.lines().count()
        )));
    }
    reader.finish(spec, operator_ms)
}

#[derive(Default)]
struct Reader {
    clock: Option<i64>,
    boot: String,
    uid: Option<u32>,
    kernel: String,
    systemd: bool,
    os: Os,
    tools: BTreeSet<String>,
    stats: BTreeMap<String, (String, FileStat, String)>,
    sums: BTreeMap<String, String>,
    versions: BTreeMap<String, String>,
    texts: BTreeMap<String, String>,
    marker: Option<Option<String>>,
    user: bool,
    unit: UnitFact,
    packages: BTreeMap<String, String>,
    held: BTreeSet<String>,
    locks: Vec<String>,
    filesystem: FilesystemFact,
    sightings: Sightings,
    listeners: Vec<Listener>,
}

impl Reader {
    fn line(&mut self, key: &str, rest: &str) {
        let fields: Vec<&str> = rest.split('\t').collect();
        match (key, fields.as_slice()) {
            ("clock", [ms]) => self.clock = ms.parse().ok(),
            ("boot", [boot]) => self.boot = (*boot).into(),
            ("uid", [uid]) => self.uid = uid.parse().ok(),
            ("arch", [kernel]) => self.kernel = (*kernel).into(),
            ("systemd", _) => self.systemd = true,
            ("os", [id, version, like]) => {
                self.os = Os {
                    id: (*id).into(),
                    version_id: (*version).into(),
                    id_like: like.split_whitespace().map(String::from).collect(),
                };
            }
            ("tool", [tool]) => {
                self.tools.insert((*tool).into());
            }
            ("stat", [kind, mode, owner, group, size, changed, identity, path]) => {
                let stat = FileStat {
                    mode: u32::from_str_radix(mode, 8).unwrap_or(0),
                    owner: (*owner).into(),
                    group: (*group).into(),
                    size: size.parse().unwrap_or(0),
                    changed_at: changed.parse().unwrap_or(0),
                    ..FileStat::default()
                };
                self.stats
                    .insert((*path).into(), ((*kind).into(), stat, (*identity).into()));
            }
            ("sha", [sum, path]) if sum.len() == 64 => {
                self.sums.insert((*path).into(), (*sum).into());
            }
            ("version", [version, path]) => {
                self.versions.insert((*path).into(), (*version).into());
            }
            ("text", [content, path]) => {
                if let Some(text) = decode(content) {
                    self.texts.insert((*path).into(), text);
                }
            }
            ("marker", [content]) => self.marker = Some(decode(content)),
            ("user", _) => self.user = true,
            ("unit", [line]) => self.unit_line(line),
            ("environ", [content]) => {
                self.unit.environment = decode(content).map(|text| {
                    text.lines()
                        .filter_map(|line| line.split_once('='))
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect()
                });
            }
            ("running", [sum]) => {
                self.unit.running_sha256 = (sum.len() == 64).then(|| (*sum).to_owned());
            }
            ("started", [at]) => self.unit.started_at = at.parse().ok(),
            ("package", ["installed", name, version, want]) => {
                self.packages.insert((*name).into(), (*version).into());
                if *want == "hold" {
                    self.held.insert((*name).into());
                }
            }
            ("locks", [content]) => self.locks.extend(decode(content)),
            ("df", [line]) => {
                let columns: Vec<&str> = line.split_whitespace().collect();
                if let [_, _, _, free, _, mount @ ..] = columns.as_slice() {
                    self.filesystem.free = free.parse::<u64>().unwrap_or(0).saturating_mul(1024);
                    self.filesystem.mount = mount.join(" ");
                }
            }
            ("findmnt", [line]) => {
                for pair in shlex::split(line).unwrap_or_default() {
                    match pair.split_once('=') {
                        Some(("TARGET", value)) => self.filesystem.mount = value.into(),
                        Some(("FSTYPE", value)) => self.filesystem.fstype = value.into(),
                        Some(("UUID", value)) if !value.is_empty() => {
                            self.filesystem.uuid = Some(value.into())
                        }
                        _ => {}
                    }
                }
            }
            ("data", [path]) => {
                self.sightings.directories.insert((*path).into());
            }
            ("owner", [owner, path]) => {
                let strangers = &mut self.sightings.strangers;
                strangers.insert((*path).into(), (*owner).into());
            }
            ("wal", [content, path]) => {
                let head = STANDARD.decode(content).unwrap_or_default();
                let identity = wal::identity(&head).map_err(|error| error.to_string());
                self.sightings.wals.insert((*path).into(), identity);
            }
            ("listen", [port, ours, owner]) => {
                if let Ok(port) = u16::from_str_radix(port, 16) {
                    self.listeners.push(Listener {
                        port,
                        ours: *ours == "1",
                        owner: (*owner).into(),
                    });
                }
            }
            _ => {}
        }
    }

    fn unit_line(&mut self, line: &str) {
        let unit = &mut self.unit;
        match line.split_once('=') {
            Some(("LoadState", value)) => unit.load = value.into(),
            Some(("ActiveState", value)) => unit.active = value.into(),
            Some(("SubState", value)) => unit.sub = value.into(),
            Some(("UnitFileState", value)) => unit.file_state = value.into(),
            Some(("FragmentPath", value)) => unit.fragment = value.into(),
            Some(("DropInPaths", value)) => {
                unit.drop_ins = value.split_whitespace().map(String::from).collect();
            }
            Some(("NRestarts", value)) => unit.restarts = value.parse().unwrap_or(0),
            Some(("NeedDaemonReload", value)) => unit.need_reload = value == "yes",
            _ => {}
        }
    }

    fn finish(mut self, spec: &ProbeSpec, operator_ms: i64) -> Result<Answer, HostUnknown> {
        let unsupported = |what: String| Err(HostUnknown::Unsupported(what));
        let (system, machine) = self.kernel.split_once(' ').unwrap_or((&self.kernel, ""));
        if system != "Linux" {
            return unsupported(format!(
                "it runs {system}; Quorate needs Linux with systemd"
            ));
        }
        if !self.systemd {
            return unsupported("systemd is not its init; Quorate needs Linux with systemd".into());
        }
        if self.uid != Some(0) {
            return Err(HostUnknown::Privilege(
                "the user that logs in is not root: set ssh.sudo = true, or log in as root".into(),
            ));
        }
        let missing: Vec<&str> = NEEDED
            .into_iter()
            .filter(|tool| !self.tools.contains(*tool))
            .collect();
        if !missing.is_empty() {
            return unsupported(format!(
                "it lacks {}: install coreutils and util-linux",
                missing.join(", ")
            ));
        }
        if self.unit.load.is_empty() {
            return Err(HostUnknown::Probe(
                "systemd does not say what it knows of the unit: see `systemctl status` there, and whether its root file \
                 system is full or read-only"
                    .into(),
            ));
        }
        let arch = match machine {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
        .to_owned();
        let mut remembered = BTreeMap::new();
        for path in &spec.large {
            let version = self
                .versions
                .get(path)
                .filter(|version| !version.is_empty());
            // What did not tell its version is asked again.
            if *path == spec.etcd && version.is_none() {
                continue;
            }
            if let (Some((_, _, identity)), Some(sum)) = (self.stats.get(path), self.sums.get(path))
            {
                remembered.insert(
                    path.clone(),
                    Remembered {
                        stat: identity.clone(),
                        sha256: sum.clone(),
                        version: version.cloned(),
                    },
                );
            }
        }
        let binary = self.sums.get(&spec.etcd).map(|sha256| BinaryFact {
            path: spec.etcd.clone(),
            version: self
                .versions
                .get(&spec.etcd)
                .filter(|version| !version.is_empty())
                .cloned(),
            sha256: sha256.clone(),
        });
        let files = spec
            .large
            .iter()
            .chain(spec.texts.keys())
            .chain(&spec.certificates)
            .chain(&spec.others)
            .map(|path| (path.clone(), self.file(spec, path)))
            .collect();
        let locked = self
            .packages
            .keys()
            .filter(|name| self.locks.iter().any(|list| locks(list, name)));
        self.held.extend(locked.cloned());
        self.listeners.sort();
        self.listeners.dedup_by_key(|listener| listener.port);
        self.unit.drop_ins.sort();
        let (data, whereabouts) = match spec.places.first() {
            Some(wanted) => self.sightings.locate(&spec.places, wanted),
            None => (DataDir::Empty, Whereabouts::default()),
        };
        Ok(Answer {
            facts: HostFacts {
                os: self.os,
                arch,
                tools: self.tools,
                user: self.user,
                files,
                unit: self.unit,
                binary,
                packages: self.packages,
                held: self.held,
                data,
                whereabouts,
                marker: match self.marker {
                    None => MarkerState::Absent,
                    Some(None) => MarkerState::Unreadable("it is not text".into()),
                    Some(Some(text)) => MarkerState::parse(&text),
                },
                filesystem: self.filesystem,
                boot: self.boot,
                clock_offset_ms: self
                    .clock
                    .map_or(0, |clock| clock.saturating_sub(operator_ms)),
                listeners: self.listeners,
                etcd: EtcdState::Silent,
            },
            sightings: self.sightings,
            remembered,
        })
    }

    fn file(&self, spec: &ProbeSpec, path: &str) -> FileFact {
        let Some((kind, stat, _)) = self.stats.get(path) else {
            return FileFact::Absent;
        };
        let mut stat = stat.clone();
        match kind.as_str() {
            "directory" => FileFact::Directory(stat),
            "regular file" | "regular empty file" => {
                stat.sha256 = self.sums.get(path).cloned();
                let text = self.texts.get(path);
                if spec
                    .certificates
                    .iter()
                    .any(|certificate| certificate == path)
                {
                    let found = parse_certificate(text.map_or("", String::as_str));
                    let authority = spec.authority.as_deref();
                    stat.certificate =
                        Some(found.map(|facts| FoundCertificate::new(facts, authority)));
                } else {
                    stat.text = text.cloned();
                }
                FileFact::File(stat)
            }
            other => FileFact::Other(other.into()),
        }
    }
}

/// Whether a list of the versionlock plugin of dnf 4 (`etcd-0:3.5.16-1.*`), yum (`0:etcd-3.5.16-1.*`) or dnf 5 (TOML)
/// locks a package.
fn locks(list: &str, package: &str) -> bool {
    list.lines().map(str::trim).any(|line| {
        let named = line
            .strip_prefix("name")
            .and_then(|rest| rest.trim_start().strip_prefix('='))
            .is_some_and(|name| name.trim().trim_matches(['"', '\'']) == package);
        // Lines with `!` exclude a version, and lock none.
        let without_epoch = line.split_once(':').filter(|(epoch, _)| {
            !epoch.is_empty() && epoch.chars().all(|digit| digit.is_ascii_digit())
        });
        named
            || [Some(line), without_epoch.map(|(_, rest)| rest)]
                .into_iter()
                .flatten()
                .filter_map(|line| line.strip_prefix(package)?.strip_prefix('-'))
                .any(|version| version.starts_with(|c: char| c.is_ascii_digit() || c == '*'))
    })
}

fn decode(content: &str) -> Option<String> {
    STANDARD
        .decode(content)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::data::Place;
    use proptest::prelude::*;

    fn spec() -> ProbeSpec {
        ProbeSpec {
            unit: "etcd.service".into(),
            user: "etcd".into(),
            etcd: "/usr/local/bin/etcd".into(),
            large: vec!["/usr/local/bin/etcd".into()],
            texts: BTreeMap::from([("/etc/etcd/etcd.conf".into(), "0".repeat(64))]),
            certificates: vec![],
            others: vec!["/var/lib/etcd".into()],
            packages: vec![],
            places: vec![Place {
                data_dir: "/var/lib/etcd".into(),
                wal_dir: None,
            }],
            ports: [2379, 2380],
            remembered: BTreeMap::new(),
            authority: None,
        }
    }

    #[test]
    fn this_machine_answers_the_probe() {
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(spec().script())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.ends_with("end\n"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.contains("arch\tLinux "));
    }

    /// Whoever may write the file could have root run anything.
    #[test]
    fn the_binary_is_not_asked_as_root_and_asked_again_when_it_is_silent() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd");
        let open = |path: &std::path::Path| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        open(dir.path());
        let etcd = path.display().to_string();
        let spec = ProbeSpec {
            user: "root".into(),
            large: vec![etcd.clone()],
            etcd,
            ..spec()
        };
        let ask = |answer: &str| {
            // It reads what it is given: nothing, and not the rest of the probe.
            let script = format!("#!/bin/sh\nread line\n{answer}\n");
            std::fs::write(&path, script).unwrap();
            open(&path);
            let mut reader = Reader::default();
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(spec.script())
                .output()
                .unwrap();
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                let (key, rest) = line.split_once('\t').unwrap_or((line, ""));
                reader.line(key, rest);
            }
            reader.systemd = true;
            reader.unit.load = "not-found".into();
            reader.uid = Some(0);
            reader.tools = NEEDED.map(String::from).into();
            reader.finish(&spec, 0).unwrap()
        };
        let answer = ask("echo \"etcd Version: user $(id -u)\"");
        let version = answer.facts.binary.unwrap().version.unwrap();
        assert!(version.parse::<u32>().unwrap() != 0, "{version}");
        assert_eq!(answer.remembered[&spec.etcd].version, Some(version));
        let silent = ask("exit 1");
        assert_eq!(silent.facts.binary.unwrap().version, None);
        assert!(silent.remembered.is_empty());
    }

    #[test]
    fn a_cut_off_answer_is_no_answer() {
        assert!(matches!(
            read("clock\t1\nuid\t0\n", &spec(), 0),
            Err(HostUnknown::Probe(_))
        ));
    }

    #[test]
    fn holds_of_every_package_manager_are_seen() {
        let tools: String = NEEDED
            .iter()
            .map(|tool| format!("tool\t{tool}\n"))
            .collect();
        let held = |packages: &str, list: &str| {
            let answer = format!(
                "arch\tLinux x86_64\nuid\t0\nsystemd\t1\nunit\tLoadState=loaded\n{tools}{packages}locks\t{}\nend\n",
                STANDARD.encode(list)
            );
            let facts = read(&answer, &spec(), 0).unwrap().facts;
            assert!(!facts.packages.is_empty());
            facts.held.into_iter().collect::<Vec<_>>().join(" ")
        };
        let apt = "package\tinstalled\tetcd-client\t3.4.23-4\tinstall\n\
                   package\tinstalled\tetcd-server\t3.4.23-4\thold\n\
                   package\tconfig-files\tetcd\t3.4.23-4\thold\n";
        assert_eq!(held(apt, ""), "etcd-server");
        let rpm = "package\tinstalled\tetcd\t3.5.16-1\t\n";
        for (list, expected) in [
            ("# Added lock on Sat\netcd-0:3.5.16-1.lab.*\n", "etcd"),
            ("0:etcd-3.5.16-1.el7.*\n", "etcd"),
            ("etcd-*\n", "etcd"),
            ("version = \"1.0\"\n[[packages]]\nname = \"etcd\"\n", "etcd"),
            ("", ""),
            ("!etcd-0:3.5.16-1.lab.*\n# etcd-0:3.5.16\n", ""),
            ("etcd-client-0:3.5.16-1.lab.*\n", ""),
            ("[[packages]]\nname = \"etcd-client\"\n", ""),
        ] {
            assert_eq!(held(rpm, list), expected, "{list:?}");
        }
    }

    #[test]
    fn not_root_and_not_systemd_are_said() {
        let tools: String = NEEDED
            .iter()
            .map(|tool| format!("tool\t{tool}\n"))
            .collect();
        let answer = format!("arch\tLinux x86_64\nuid\t1000\nsystemd\t1\n{tools}end\n");
        assert!(matches!(
            read(&answer, &spec(), 0),
            Err(HostUnknown::Privilege(_))
        ));
        let answer = format!("arch\tLinux x86_64\nuid\t0\n{tools}end\n");
        assert!(matches!(
            read(&answer, &spec(), 0),
            Err(HostUnknown::Unsupported(_))
        ));
        // A unit of which nothing is said is no unit that is not there.
        let answer = format!("arch\tLinux x86_64\nuid\t0\nsystemd\t1\n{tools}end\n");
        assert!(
            matches!(read(&answer, &spec(), 0), Err(HostUnknown::Probe(why)) if why.contains("the unit"))
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "([a-z]{2,7}\t?[ -~]{0,20}\t?[ -~]{0,20}\n){0,20}(end\n)?") {
            let _ = read(&text, &spec(), 0);
        }
    }
}
