//! The certificate that is wanted, and the reasons why the one that is there is not it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{CaFacts, CertificateFacts, FoundCertificate, PublicKeyKind};
use crate::desired::model::{KeyKind, Node};

const DAY: i64 = 86_400;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// `--cert-file` of a member. It bears clientAuth too: the member is its own gateway's client,
    /// and `--client-cert-auth` refuses the JSON gateway without.
    Server,
    /// `--peer-cert-file` of a member, which is both ends of a peer connection.
    Peer,
    /// A person or program.
    Client,
}

impl Profile {
    /// The extended key usages of the profile, neither more nor less.
    pub fn extended_key_usages(self) -> &'static [&'static str] {
        match self {
            Self::Server | Self::Peer => &["clientAuth", "serverAuth"],
            Self::Client => &["clientAuth"],
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Peer => "peer",
            Self::Client => "client",
        })
    }
}

/// The names of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Names {
    /// Common name; etcd's user name under client certificate authentication.
    pub cn: String,
    /// DNS names, lower case, without a trailing dot.
    pub dns: BTreeSet<String>,
    /// IP addresses.
    pub ips: BTreeSet<IpAddr>,
}

impl Names {
    /// A common name and no alternative names, as a client needs.
    pub fn only_cn(cn: impl Into<String>) -> Self {
        Self {
            cn: cn.into(),
            dns: BTreeSet::new(),
            ips: BTreeSet::new(),
        }
    }

    /// Adds a name, as an IP address where it is one (also in brackets), else as a DNS name.
    pub fn add(&mut self, name: &str) {
        let name = name.trim();
        let bare = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(name);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            self.add_ip(ip);
        } else {
            let name = name.strip_suffix('.').unwrap_or(name);
            if !name.is_empty() {
                self.dns.insert(name.to_ascii_lowercase());
            }
        }
    }

    /// Adds an address, unless it is the unspecified one, which nobody connects to.
    pub fn add_ip(&mut self, ip: IpAddr) {
        // Go compares an IPv4-mapped address as the IPv4 address that it is.
        let ip = ip.to_canonical();
        if !ip.is_unspecified() {
            self.ips.insert(ip);
        }
    }
}

/// The names of a member's server and peer certificate: node name, full name, address, the
/// addresses it listens on, loopback by name and address, and `extra_sans`.
///
/// The peer certificate bears the same: etcd checks the source address of a peer against them.
pub fn member_names(node: &Node) -> Names {
    let mut names = Names::only_cn(&node.name);
    names.add(&node.name);
    names.add("localhost");
    names.add_ip(Ipv4Addr::LOCALHOST.into());
    names.add_ip(Ipv6Addr::LOCALHOST.into());
    names.add_ip(node.ip);
    node.listen.iter().for_each(|ip| names.add_ip(*ip));
    if let Some(fqdn) = &node.fqdn {
        names.add(fqdn);
    }
    node.extra_sans.iter().for_each(|name| names.add(name));
    names
}

/// The certificate to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// What it is for.
    pub profile: Profile,
    /// Its names.
    pub names: Names,
    /// Its key.
    pub key: KeyKind,
    /// How long a new one is valid.
    pub validity: Duration,
    /// It is renewed when less than this is left.
    pub renew_before: Duration,
}

/// Why a certificate has to be issued anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum ReissueReason {
    /// Its time is over.
    Expired,
    /// Less than `renew_before` is left.
    ExpiresSoon {
        /// Whole days left.
        days: i64,
    },
    /// Its time has not come, by the clock that `now` is from.
    NotYetValid,
    /// The current authority did not sign it.
    ForeignAuthority {
        /// Who says to have signed it.
        issuer: String,
        /// Signed by a former authority that the bundle still trusts: it works until that is taken out.
        former: bool,
    },
    /// Its names are not those wanted. Too many are as bad as too few: a certificate that still
    /// bears the name of another host can stand in for it. The common name appears as `CN=…`.
    NamesDiffer {
        /// Wanted and not there.
        missing: Vec<String>,
        /// There and not wanted.
        extra: Vec<String>,
    },
    /// It has another kind of key.
    KeyKindDiffers {
        /// The kind that is there.
        found: PublicKeyKind,
        /// The kind that is wanted.
        wanted: PublicKeyKind,
    },
    /// Its usages are not those of the profile, or it may sign certificates.
    ProfileDiffers {
        /// Usages wanted and not there.
        missing: Vec<String>,
        /// Usages there and not wanted; `CA:TRUE` among them.
        extra: Vec<String>,
    },
}

impl fmt::Display for ReissueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("it has expired"),
            Self::ExpiresSoon { days: 0 } => f.write_str("it expires within a day"),
            Self::ExpiresSoon { days: 1 } => f.write_str("it expires in 1 day"),
            Self::ExpiresSoon { days } => write!(f, "it expires in {days} days"),
            Self::NotYetValid => f.write_str("it is not valid yet"),
            Self::ForeignAuthority { issuer, former } => {
                let which = if *former { "former" } else { "foreign" };
                write!(f, "it was issued by a {which} authority ({issuer})")
            }
            Self::NamesDiffer { missing, extra } => differ(f, "names", missing, extra),
            Self::KeyKindDiffers { found, wanted } => {
                write!(f, "its key is {found}, wanted is {wanted}")
            }
            Self::ProfileDiffers { missing, extra } => differ(f, "key usages", missing, extra),
        }
    }
}

fn differ(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    missing: &[String],
    extra: &[String],
) -> fmt::Result {
    write!(f, "its {what} differ:")?;
    if !missing.is_empty() {
        write!(f, " lacks {}", missing.join(", "))?;
    }
    if !extra.is_empty() {
        let comma = if missing.is_empty() { "" } else { ";" };
        write!(f, "{comma} has {} in excess", extra.join(", "))?;
    }
    Ok(())
}

impl FoundCertificate {
    /// Every reason to issue `wanted` anew in place of this one; none means that it stays.
    ///
    /// A renewal is only a reason where it gains time: a certificate that ends with its authority
    /// stays as it is, and `renew_before` counts at most as half of the validity. Otherwise each run
    /// would issue again what the run before has issued.
    pub fn reasons_to_issue(
        &self,
        wanted: &Wanted,
        ca: &CaFacts,
        now: OffsetDateTime,
    ) -> Vec<ReissueReason> {
        let found = &self.facts;
        let now = now.unix_timestamp();
        let mut reasons = Vec::from_iter(time_reason(found, wanted, ca, now));
        if !self.is_signed_by(&ca.current) {
            reasons.push(ReissueReason::ForeignAuthority {
                issuer: found.issuer.clone(),
                former: ca.former.iter().any(|old| self.is_signed_by(old)),
            });
        }
        if !has_names(found, &wanted.names) {
            let (missing, extra) = difference(&wanted_names(&wanted.names), &found_names(found));
            if !(missing.is_empty() && extra.is_empty()) {
                reasons.push(ReissueReason::NamesDiffer { missing, extra });
            }
        }
        let key = PublicKeyKind::Known(wanted.key);
        if found.key != key {
            reasons.push(ReissueReason::KeyKindDiffers {
                found: found.key.clone(),
                wanted: key,
            });
        }
        let usages = wanted.profile.extended_key_usages();
        let usages = usages.iter().map(|usage| (*usage).to_owned()).collect();
        let (missing, mut extra) = difference(&usages, &found.extended_key_usages);
        if found.is_ca {
            extra.push("CA:TRUE".to_owned());
        }
        if !(missing.is_empty() && extra.is_empty()) {
            reasons.push(ReissueReason::ProfileDiffers { missing, extra });
        }
        reasons
    }
}

fn time_reason(
    found: &CertificateFacts,
    wanted: &Wanted,
    ca: &CaFacts,
    now: i64,
) -> Option<ReissueReason> {
    if now < found.not_before {
        return Some(ReissueReason::NotYetValid);
    }
    if now > found.not_after {
        return Some(ReissueReason::Expired);
    }
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let validity = seconds(wanted.validity);
    let renew_before = seconds(wanted.renew_before).min(validity / 2);
    let left = found.not_after.saturating_sub(now);
    let new_end = now.saturating_add(validity).min(ca.current.not_after);
    (left < renew_before && new_end > found.not_after)
        .then_some(ReissueReason::ExpiresSoon { days: left / DAY })
}

/// The quick answer, where the names come in the same order.
fn has_names(found: &CertificateFacts, names: &Names) -> bool {
    (&found.common_name, &found.dns, &found.ips) == (&names.cn, &names.dns, &names.ips)
        && found.other_names.is_empty()
}

fn wanted_names(names: &Names) -> BTreeSet<String> {
    let cn = std::iter::once(format!("CN={}", names.cn));
    cn.chain(names.dns.iter().cloned())
        .chain(names.ips.iter().map(ToString::to_string))
        .collect()
}

fn found_names(found: &CertificateFacts) -> BTreeSet<String> {
    let cn = std::iter::once(format!("CN={}", found.common_name));
    cn.chain(found.dns.iter().cloned())
        .chain(found.ips.iter().map(ToString::to_string))
        .chain(found.other_names.iter().cloned())
        .collect()
}

fn difference(wanted: &BTreeSet<String>, found: &BTreeSet<String>) -> (Vec<String>, Vec<String>) {
    (
        wanted.difference(found).cloned().collect(),
        found.difference(wanted).cloned().collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::model::Ssh;

    fn node() -> Node {
        Node {
            name: "etcd-1".to_owned(),
            ip: "10.0.0.1".parse().unwrap(),
            fqdn: Some("Etcd-1.Example.com.".to_owned()),
            learner: false,
            client_port: 2379,
            peer_port: 2380,
            listen: vec!["10.0.0.1".parse().unwrap(), "0.0.0.0".parse().unwrap()],
            data_dir: "/var/lib/etcd".to_owned(),
            wal_dir: None,
            extra_sans: [
                "192.0.2.7",
                "[fd00::7]",
                "::ffff:192.0.2.8",
                "vip.example.com",
                " ",
            ]
            .map(str::to_owned)
            .to_vec(),
            settings: Default::default(),
            ssh: Ssh {
                host: "10.0.0.1".to_owned(),
                port: None,
                user: None,
                identity: None,
                passphrase: None,
                sudo: false,
                sudo_password: None,
                jump: None,
                known_hosts: None,
                connect_timeout: Duration::from_secs(10),
            },
        }
    }

    #[test]
    fn a_member_is_known_by_all_its_names() {
        let names = member_names(&node());
        assert_eq!(names.cn, "etcd-1");
        let dns: Vec<_> = names.dns.iter().map(String::as_str).collect();
        assert_eq!(
            dns,
            [
                "etcd-1",
                "etcd-1.example.com",
                "localhost",
                "vip.example.com"
            ]
        );
        let ips: Vec<_> = names.ips.iter().map(ToString::to_string).collect();
        assert_eq!(
            ips,
            [
                "10.0.0.1",
                "127.0.0.1",
                "192.0.2.7",
                "192.0.2.8",
                "::1",
                "fd00::7"
            ]
        );
    }

    #[test]
    fn a_name_that_is_an_address_is_an_address() {
        let mut names = Names::only_cn("x");
        names.add("10.0.0.9");
        names.add("10.0.0.999");
        assert!(names.ips.contains(&"10.0.0.9".parse::<IpAddr>().unwrap()));
        assert!(names.dns.contains("10.0.0.999"));
    }

    #[test]
    fn reasons_read_well() {
        let text = |reason: ReissueReason| reason.to_string();
        assert_eq!(
            text(ReissueReason::ExpiresSoon { days: 1 }),
            "it expires in 1 day"
        );
        let differ = ReissueReason::NamesDiffer {
            missing: vec!["a".to_owned(), "b".to_owned()],
            extra: vec!["c".to_owned()],
        };
        assert_eq!(
            text(differ),
            "its names differ: lacks a, b; has c in excess"
        );
        let key = ReissueReason::KeyKindDiffers {
            found: PublicKeyKind::Other("rsa-4096".to_owned()),
            wanted: PublicKeyKind::Known(KeyKind::EcdsaP256),
        };
        assert_eq!(text(key), "its key is rsa-4096, wanted is ecdsa-p256");
    }
}
