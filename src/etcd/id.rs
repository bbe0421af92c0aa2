//! Cluster and member IDs, as etcd derives them.
//!
//! Source: etcd `server/etcdserver/api/membership` (`computeMemberID`, `genID`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::{Digest, Sha1};

macro_rules! id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Written as etcdctl does: hexadecimal without padding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                u64::from_str_radix(text, 16).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(MemberId, "ID of a member.");
id!(ClusterId, "ID of a cluster.");

/// The ID that etcd gives a member of a static bootstrap.
pub fn bootstrap_member_id<'a>(
    peer_urls: impl IntoIterator<Item = &'a str>,
    token: &str,
) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.into_iter().collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    MemberId(first_eight(&hash.finalize()))
}

/// The ID of a cluster that was bootstrapped with these members.
pub fn bootstrap_cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<u64> = members.into_iter().map(|id| id.0).collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    ClusterId(first_eight(&hash.finalize()))
}

fn first_eight(digest: &[u8]) -> u64 {
    digest
        .iter()
        .take(8)
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_etcds_own_default_member() {
        // What every etcd prints for `etcd` without flags: name=default, http://localhost:2380, token etcd-cluster.
        let member = bootstrap_member_id(["http://localhost:2380"], "etcd-cluster");
        assert_eq!(member.to_string(), "8e9e05c52164694d");
        assert_eq!(
            bootstrap_cluster_id([member]).to_string(),
            "cdf818194e3a8c32"
        );
    }

    #[test]
    fn text_form_is_unpadded_hex() {
        assert_eq!(MemberId(0xabc).to_string(), "abc");
        assert_eq!("abc".parse::<MemberId>(), Ok(MemberId(0xabc)));
        assert!("xyz".parse::<MemberId>().is_err());
    }
}
