//! What differs between etcd's releases in a membership change, as measured on the real binaries.

use std::fmt;
use std::str::FromStr;

/// A release of etcd: major, minor, patch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(pub u8, pub u8, pub u8);

impl Release {
    /// Whether the strict check lets a member be added only while every voter has been connected for 5 s; later
    /// releases ask for a quorum of the voters that there will be.
    pub fn add_needs_every_voter(self) -> bool {
        match self.1 {
            ..5 => true,
            5 => self.2 < 30,
            6 => self.2 < 11,
            _ => false,
        }
    }

    /// Whether `member update` makes a learner a voter.
    pub fn update_promotes(self) -> bool {
        match self.1 {
            ..5 => true,
            5 => self.2 < 31,
            6 => self.2 < 12,
            _ => false,
        }
    }

    /// Learners that a cluster may have at a time.
    pub fn learners(self) -> usize {
        1
    }
}

impl FromStr for Release {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<u8> = text
            .split('.')
            .map(|part| part.parse().map_err(|_| format!("{text} is no release")))
            .collect::<Result<_, _>>()?;
        match numbers[..] {
            [major, minor, patch] => Ok(Self(major, minor, patch)),
            _ => Err(format!("{text} is no release")),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
