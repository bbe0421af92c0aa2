//! What a probe would see.

use super::*;
use crate::model::release::Release;
use quorate::observed::marker::SshAddress;

impl World {
    /// What etcd says.
    pub fn view(&self) -> ClusterView {
        let states: Vec<(String, EtcdState)> = self
            .hosts
            .keys()
            .map(|name| (name.clone(), self.etcd(name)))
            .collect();
        ClusterView::gather(states.iter().map(|(name, state)| (name.as_str(), state)))
    }

    pub(super) fn etcd(&self, name: &str) -> EtcdState {
        self.etcd.etcd(name, false, "http://somewhere")
    }

    /// What a probe of every host would find.
    pub fn observe(&self) -> Observed {
        let mut observed = Observed::default();
        if matches!(self.desired.etcd.install, Install::Archive { .. }) {
            let archives = &mut observed.operator.archives;
            archives.insert("amd64".into(), Ok(archive()));
        }
        for node in &self.desired.nodes {
            let state = self.state(&node.name);
            observed.hosts.insert(node.name.clone(), state);
        }
        let strangers = self.strangers(&observed);
        observed.take_in(&self.desired, strangers);
        observed
    }

    fn state(&self, name: &str) -> HostState {
        if self.etcd.hosts.get(name).is_some_and(Host::is_reachable) {
            return HostState::Known(Box::new(self.facts(name)));
        }
        let why = "no route".into();
        HostState::Unknown(quorate::observed::HostUnknown::Unreachable(why))
    }

    /// The hosts that markers name and the file does not: of nodes that it has no more, or has elsewhere now.
    fn strangers(&self, observed: &Observed) -> BTreeMap<String, HostState> {
        let nodes = || self.desired.nodes.iter();
        let of_marker = |(name, address): (&String, &SshAddress)| {
            if nodes().any(|node| node.ssh.host == address.host) {
                return None;
            }
            let is_named = nodes().any(|node| node.name == *name);
            Some(match is_named {
                true => former(name, &address.host),
                false => name.clone(),
            })
        };
        let markers = observed.known().filter_map(|(_, facts)| facts.marker.get());
        let names: BTreeSet<String> = markers
            .flat_map(|marker| marker.addresses.iter().filter_map(of_marker))
            .collect();
        let state = |name: String| (name.clone(), self.state(&name));
        names.into_iter().map(state).collect()
    }

    fn facts(&self, name: &str) -> HostFacts {
        let host = &self.hosts[name];
        let run = self.etcd.hosts[name].run;
        let process = host.process.as_ref().filter(|_| run == Run::Up);
        let layout = self.layout(name);
        let mut paths: BTreeSet<String> =
            layout.files.iter().map(|file| file.path.clone()).collect();
        paths.extend(
            layout
                .directories
                .iter()
                .map(|directory| directory.path.clone()),
        );
        paths.extend(
            archive()
                .binaries
                .keys()
                .map(|binary| format!("{}/{binary}", layout.bin_dir)),
        );
        paths.insert(layout.start_drop_in.path.clone());
        paths.insert(layout.start_drop_in.environment_path.clone());
        let unit_path = layout
            .files
            .iter()
            .map(|file| file.path.clone())
            .find(|path| path.ends_with(&layout.unit))
            .expect("a unit file");
        let file_state = match (
            host.masked,
            host.enabled,
            host.files.contains_key(&unit_path),
        ) {
            (true, _, _) => "masked",
            (_, _, false) => "",
            (_, true, _) => "enabled",
            (_, false, _) => "disabled",
        };
        let text = host.files.get(marker::PATH);
        let marker = match text.and_then(|entry| entry.text.as_ref()) {
            Some(text) => text.marker().clone(),
            None => MarkerState::Absent,
        };
        let (data, whereabouts) = self.located(name, &marker, process);
        HostFacts {
            os: Os {
                id: "debian".into(),
                ..Os::default()
            },
            arch: "amd64".into(),
            tools: ["tar", "gzip", "apt-get"].map(String::from).into(),
            user: host.user,
            files: paths
                .into_iter()
                .map(|path| (path.clone(), fact(host.files.get(&path))))
                .collect(),
            unit: UnitFact {
                load: if host.files.contains_key(&unit_path) {
                    "loaded"
                } else {
                    "not-found"
                }
                .into(),
                active: match run {
                    Run::Up => "active",
                    // systemd starts it again and again.
                    Run::Failed(_) => "activating",
                    Run::Off => "inactive",
                }
                .into(),
                sub: match run {
                    Run::Up => "running",
                    // What ends at once is between two attempts nearly all the time.
                    Run::Failed(_) => "auto-restart",
                    Run::Off => "dead",
                }
                .into(),
                file_state: file_state.into(),
                environment: process.map(|process| (*process.environment).clone()),
                running_sha256: process.map(|process| process.binary.to_string()),
                started_at: process.map(|process| process.started_at),
                ..UnitFact::default()
            },
            binary: host
                .files
                .get(&layout.etcd)
                .and_then(|entry| entry.text.as_ref())
                .map(|text| BinaryFact {
                    path: layout.etcd.clone(),
                    version: Some(version_of(text, self.etcd.hosts[name].release)),
                    sha256: text.sha256().to_owned(),
                }),
            packages: host.packages.clone(),
            held: host.held.clone(),
            data,
            whereabouts,
            marker,
            filesystem: FilesystemFact {
                mount: "/".into(),
                uuid: Some(
                    if self.etcd.hosts[name].mounted {
                        "disk"
                    } else {
                        "root"
                    }
                    .into(),
                ),
                free: 1 << 40,
                ..FilesystemFact::default()
            },
            boot: name.into(),
            clock_offset_ms: 0,
            listeners: vec![],
            etcd: self.etcd(name),
        }
    }
}

fn fact(entry: Option<&Entry>) -> FileFact {
    let Some(entry) = entry else {
        return FileFact::Absent;
    };
    let stat = FileStat {
        mode: entry.mode,
        owner: entry.owner.clone(),
        group: entry.owner.clone(),
        size: entry.text.as_ref().map_or(0, |text| text.len() as u64),
        changed_at: entry.changed_at,
        sha256: entry.text.as_ref().map(|text| text.sha256().to_owned()),
        text: entry.text.as_deref().map(str::to_owned),
        certificate: None,
    };
    if entry.text.is_some() {
        FileFact::File(stat)
    } else {
        FileFact::Directory(stat)
    }
}

/// What a binary says when it is asked: it is a text such as `etcd 3.5.16-1`, or one of the archive's.
fn version_of(binary: &str, archive: Release) -> String {
    let Some((_, version)) = binary.split_once(' ') else {
        return archive.to_string();
    };
    let upstream = version
        .split_once('-')
        .map_or(version, |(upstream, _)| upstream);
    upstream.to_owned()
}
