//! Software of a host: binaries of a release, packages and what holds them.

use super::host::Host;
use super::model::Blocked;
use crate::action::install::{Install, Source};
use crate::action::prepare::Hold;
use crate::desired::model::{Install as Method, VersionSpec};
use crate::observed::host::{FileFact, HostFacts, PackageManager};

impl Host<'_> {
    /// Packages that the package manager would upgrade behind our back (Q19). Those that are installed first are held then.
    pub(super) fn hold(&self) -> Option<Hold> {
        let Method::Package { names, .. } = &self.desired.etcd.install else {
            return None;
        };
        let mut names = package_names(names, self.facts);
        names.retain(|name| {
            self.facts.packages.contains_key(name) && !self.facts.held.contains(name)
        });
        (!names.is_empty()).then(|| Hold {
            manager: self.facts.package_manager(),
            names,
        })
    }

    /// The exact version that is wanted, if the file names one.
    fn exact_version(&self) -> Option<String> {
        match &self.desired.etcd.version {
            VersionSpec::Exact(version) => Some(version.to_string()),
            VersionSpec::Constraint(_) => None,
        }
    }

    pub(super) fn install(&self) -> Result<Option<Install>, Blocked> {
        let version = self.exact_version().unwrap_or_default();
        let replaces = self.facts.binary.is_some();
        let install = |source: Source| Install {
            version: version.clone(),
            bin_dir: self.layout.bin_dir.clone(),
            source,
            staged: self.facts.unit.is_up(),
            replaces,
        };
        match &self.desired.etcd.install {
            Method::Archive { .. } => match self.operator.archives.get(&self.facts.arch) {
                Some(Ok(archive)) => {
                    let same = archive.binaries.iter().all(|(name, sha256)| {
                        let path = format!("{}/{name}", self.layout.bin_dir);
                        self.facts
                            .files
                            .get(&path)
                            .and_then(FileFact::file)
                            .is_some_and(|stat| {
                                // Whoever owns it could replace it.
                                stat.sha256.as_ref() == Some(sha256)
                                    && stat.mode == 0o755
                                    && stat.owner == "root"
                                    && stat.group == "root"
                            })
                    });
                    Ok((!same).then(|| {
                        install(Source::Archive {
                            sha256: archive.sha256.clone(),
                            arch: self.facts.arch.clone(),
                        })
                    }))
                }
                Some(Err(_)) | None if self.binary_is_as_marked() => Ok(None),
                Some(Err(reason)) => Err(self.blocked(
                    format!("etcd cannot be installed: {reason}"),
                    "correct [etcd.install], or make the archive reachable",
                )),
                None => Err(self.blocked(
                    format!("there is no archive for architecture {}", self.facts.arch),
                    "use an {arch} placeholder in `archive`",
                )),
            },
            Method::Package {
                names,
                package_version,
            } => self.package(names, package_version.as_deref(), install),
            Method::Present { bin_dir } => match &self.facts.binary {
                None => Err(self.blocked(
                    format!("there is no etcd in {bin_dir}"),
                    "install it there, or use another install method",
                )),
                Some(binary) => {
                    let found = binary
                        .version
                        .as_deref()
                        .and_then(|version| version.parse::<semver::Version>().ok());
                    let fits = match (&self.desired.etcd.version, &found) {
                        (VersionSpec::Exact(wanted), Some(found)) => wanted == found,
                        (VersionSpec::Constraint(wanted), Some(found)) => wanted.matches(found),
                        (_, None) => false,
                    };
                    if fits {
                        return Ok(None);
                    }
                    Err(self.blocked(
                        format!(
                            "{} is version {}, which does not satisfy the cluster file",
                            binary.path,
                            binary.version.as_deref().unwrap_or("unknown")
                        ),
                        "install a version that does, or change `version`",
                    ))
                }
            },
        }
    }

    fn binary_is_as_marked(&self) -> bool {
        let (Some(marker), Some(binary)) = (self.marker(), &self.facts.binary) else {
            return false;
        };
        let marked = marker
            .files
            .get(&binary.path)
            .and_then(|file| file.sha256.as_ref());
        marked == Some(&binary.sha256) && binary.version == self.exact_version()
    }

    fn package(
        &self,
        names: &[String],
        package_version: Option<&str>,
        install: impl Fn(Source) -> Install,
    ) -> Result<Option<Install>, Blocked> {
        let wanted = self.exact_version();
        let missing = self.missing_packages();
        let as_wanted = self.other_packages().is_empty();
        if as_wanted && missing.is_empty() {
            return match &self.facts.binary {
                Some(_) => Ok(None),
                None => Err(self.blocked(
                    format!(
                        "its packages are installed, but {} is not there",
                        self.layout.etcd
                    ),
                    "install them again by the package manager, or name the package that brings it",
                )),
            };
        }
        let Some(version) = package_version.map(str::to_owned).or(wanted) else {
            return Err(self.blocked(
                "method = \"package\" needs an exact version",
                "set etcd.version to one version",
            ));
        };
        let manager = self.facts.package_manager();
        if !self.facts.tools.contains(manager.command()) {
            return Err(self.blocked(
                format!("it has no {}, which installs packages", manager.command()),
                "use method = \"archive\" or \"present\"",
            ));
        }
        Ok(Some(install(Source::Packages {
            manager,
            // What is as it should be is left alone: the repository may have a later build of it.
            packages: package_names(names, self.facts)
                .into_iter()
                .filter(|name| !as_wanted || missing.contains(name))
                .map(|name| (name, version.clone()))
                .collect(),
            unit: self.layout.unit.clone(),
        })))
    }

    /// Packages that the file asks for and that are not installed.
    pub fn missing_packages(&self) -> Vec<String> {
        let Method::Package { names, .. } = &self.desired.etcd.install else {
            return vec![];
        };
        let mut names = package_names(names, self.facts);
        names.retain(|name| !self.facts.packages.contains_key(name));
        names
    }

    /// Installed packages at another version than the file asks for, with that version.
    pub fn other_packages(&self) -> Vec<(&str, &str)> {
        let Method::Package {
            names,
            package_version,
        } = &self.desired.etcd.install
        else {
            return vec![];
        };
        let wanted = package_version.clone().or(self.exact_version());
        let names = package_names(names, self.facts);
        self.facts
            .packages
            .iter()
            .filter(|(name, version)| {
                names.contains(name)
                    && !wanted
                        .as_deref()
                        .is_some_and(|wanted| version_fits(wanted, version))
            })
            .map(|(name, version)| (name.as_str(), version.as_str()))
            .collect()
    }
}

/// The same rule by which the script chooses: revisions and rebuilds of a version are that version.
fn version_fits(wanted: &str, version: &str) -> bool {
    let without_epoch = version.split_once(':').map_or(version, |(_, rest)| rest);
    [version, without_epoch].into_iter().any(|version| {
        version
            .strip_prefix(wanted)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '+', '~']))
    })
}

/// The packages that bring etcd, by distribution.
pub fn package_names(names: &[String], facts: &HostFacts) -> Vec<String> {
    if !names.is_empty() {
        return names.to_vec();
    }
    if facts.package_manager() == PackageManager::Apt {
        vec!["etcd-server".into(), "etcd-client".into()]
    } else {
        vec!["etcd".into()]
    }
}
