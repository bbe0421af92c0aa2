//! Versions of etcd: which minors are known, and which patches are bad and why.

use std::fmt;

use semver::{Version, VersionReq};
use serde::Serialize;

/// A minor of etcd, such as 3.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Minor {
    /// 3.
    pub major: u64,
    /// 4 to 7.
    pub minor: u64,
}

impl Minor {
    /// The minor of a version.
    pub fn of(version: &Version) -> Self {
        Minor {
            major: version.major,
            minor: version.minor,
        }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

const fn v3(minor: u64) -> Minor {
    Minor { major: 3, minor }
}

/// The minors whose options, hops and faults are known here, oldest first.
pub const KNOWN_MINORS: [Minor; 4] = [v3(4), v3(5), v3(6), v3(7)];

/// The version for a new cluster.
pub const RECOMMENDED: &str = "3.6.14";

/// What to do about a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may be run, and the operator is told.
    Warn,
    /// It is not run.
    Refuse,
}

/// A range of patches of one minor with something to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The minor.
    pub minor: Minor,
    /// First patch.
    pub from: u64,
    /// Last patch, inclusive.
    pub to: u64,
    /// What to do.
    pub verdict: Verdict,
    /// Why, as the end of the sentence "etcd 3.5.2 …".
    pub reason: &'static str,
    /// The patch of the same minor to use instead.
    pub instead: u64,
    /// Where that is written.
    pub source: &'static str,
}

const fn note(
    minor: u64,
    from: u64,
    to: u64,
    verdict: Verdict,
    instead: u64,
    reason: &'static str,
    source: &'static str,
) -> Note {
    Note {
        minor: v3(minor),
        from,
        to,
        verdict,
        reason,
        instead,
        source,
    }
}

/// Every range that is known to be bad, worst first.
pub const NOTES: &[Note] = &[
    note(
        5,
        0,
        2,
        Verdict::Refuse,
        33,
        "can silently lose and diverge data when a member is killed",
        "etcd CHANGELOG-3.5, 3.5.3: data inconsistency; postmortem v3.5-data-inconsistency",
    ),
    note(
        5,
        0,
        5,
        Verdict::Warn,
        33,
        "can lose data when it crashes during a defragmentation",
        "etcd CHANGELOG-3.5, 3.5.6",
    ),
    note(
        5,
        5,
        5,
        Verdict::Warn,
        33,
        "can diverge when a member joins a cluster with auth enabled",
        "etcd CHANGELOG-3.5, 3.5.6",
    ),
    note(
        4,
        20,
        21,
        Verdict::Warn,
        45,
        "can diverge when a member joins a cluster with auth enabled",
        "etcd CHANGELOG-3.4, 3.4.22",
    ),
    note(
        4,
        0,
        21,
        Verdict::Warn,
        45,
        "is older than 3.4.22, the least that etcd recommends for production",
        "etcd CHANGELOG README",
    ),
    note(
        5,
        3,
        5,
        Verdict::Warn,
        33,
        "is older than 3.5.6, the least that etcd recommends for production",
        "etcd CHANGELOG README",
    ),
    note(
        4,
        0,
        45,
        Verdict::Warn,
        45,
        "belongs to a minor that gets no fixes any more (3.4.45 was the last)",
        "etcd CHANGELOG-3.4",
    ),
    note(
        5,
        6,
        32,
        Verdict::Warn,
        33,
        "lacks fixes of authentication, of permissions and of a TLS denial of service",
        "etcd CHANGELOG-3.5, 3.5.28 and 3.5.33",
    ),
    note(
        6,
        0,
        13,
        Verdict::Warn,
        14,
        "lacks fixes of authentication, of permissions and of a TLS denial of service",
        "etcd CHANGELOG-3.6, 3.6.9 and 3.6.14",
    ),
    note(
        7,
        0,
        0,
        Verdict::Warn,
        1,
        "lacks fixes of permissions and of a TLS denial of service",
        "etcd CHANGELOG-3.7, 3.7.1",
    ),
];

/// What is to be said about this very version, worst first.
pub fn notes(version: &Version) -> impl Iterator<Item = &'static Note> {
    let (minor, patch) = (Minor::of(version), version.patch);
    NOTES
        .iter()
        .filter(move |n| n.minor == minor && (n.from..=n.to).contains(&patch))
}

/// Whether the minor of this version is known. The first patch of the oldest is the floor, 3.4.0.
pub fn is_known(version: &Version) -> bool {
    KNOWN_MINORS.contains(&Minor::of(version))
}

/// The known minors of which a version can satisfy the constraint.
pub fn minors_matching(constraint: &VersionReq) -> Vec<Minor> {
    // No minor of etcd has come near this many patches; the constraint may name any of them.
    const PATCHES: u64 = 200;
    KNOWN_MINORS
        .into_iter()
        .filter(|m| (0..PATCHES).any(|p| constraint.matches(&Version::new(m.major, m.minor, p))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).expect("a version")
    }

    #[test]
    fn the_worst_is_said_first() {
        let verdicts: Vec<Verdict> = notes(&version("3.5.1")).map(|n| n.verdict).collect();
        assert_eq!(verdicts, [Verdict::Refuse, Verdict::Warn]);
        assert_eq!(notes(&version("3.5.33")).count(), 0);
        assert_eq!(notes(&version("3.6.14")).count(), 0);
        assert_eq!(notes(&version("3.4.45")).count(), 1);
    }

    #[test]
    fn nothing_is_said_about_the_recommended_version() {
        assert_eq!(notes(&version(RECOMMENDED)).count(), 0);
        assert!(is_known(&version(RECOMMENDED)));
    }

    #[test]
    fn every_note_names_a_better_patch() {
        for n in NOTES {
            assert!(n.from <= n.to, "{n:?}");
            let better = Version::new(n.minor.major, n.minor.minor, n.instead);
            assert!(notes(&better).all(|b| b.verdict < Verdict::Refuse), "{n:?}");
            assert!(n.instead >= n.to || n.minor == v3(4), "{n:?}");
        }
    }

    #[test]
    fn constraints_select_minors() {
        let matching =
            |text: &str| minors_matching(&VersionReq::parse(text).expect("a constraint"));
        assert_eq!(matching("~3.5"), [v3(5)]);
        assert_eq!(matching(">=3.5.4, <3.7"), [v3(5), v3(6)]);
        assert_eq!(matching("<3"), []);
        assert!(!is_known(&version("3.3.27")));
        assert!(!is_known(&version("3.8.0")));
    }
}
