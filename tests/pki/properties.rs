//! What holds for every input: parsing never panics, and one issue settles every reason to.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use quorate::desired::model::KeyKind;
use quorate::observed::certificate::{
    CaFacts, Names, Profile, PublicKeyKind, ReissueReason, Wanted, parse_bundle, parse_certificate,
    reasons_to_issue, verify_issued_by,
};
use quorate::pki::{Authority, KeyProtection, NewAuthority, issue};
use time::OffsetDateTime;

use crate::support::{DAY, KINDS, names};

const CA_DAYS: u32 = 1000;

fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

/// One authority for all cases, valid for [`CA_DAYS`] from [`start`].
fn shared() -> &'static Authority {
    static SHARED: OnceLock<Authority> = OnceLock::new();
    SHARED.get_or_init(|| {
        let home = tempfile::tempdir().unwrap();
        let new = NewAuthority {
            cluster: "demo",
            key: KeyKind::EcdsaP256,
            validity: DAY * CA_DAYS,
        };
        Authority::create_or_open(home.path(), &new, &KeyProtection::Plain, start())
            .unwrap_or_else(|error| panic!("{error}"))
    })
}

fn wanted() -> Wanted {
    Wanted {
        profile: Profile::Server,
        names: names(),
        key: KeyKind::EcdsaP256,
        validity: DAY * 365,
        renew_before: DAY * 30,
    }
}

fn made(wanted: &Wanted, now: OffsetDateTime) -> quorate::observed::certificate::CertificateFacts {
    issue(
        shared(),
        wanted.profile,
        &wanted.names,
        wanted.key,
        wanted.validity,
        now,
    )
    .unwrap()
    .facts
}

fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

fn signed_part(der: &[u8]) -> Vec<u8> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    certificate.tbs_certificate.as_ref().to_vec()
}

fn consume(text: &str) {
    let ca = shared().certificate().facts();
    if let Ok(facts) = parse_certificate(text) {
        let _ = reasons_to_issue(&facts, &wanted(), ca, start());
        let _ = verify_issued_by(&facts, &facts);
        let _ = format!("{facts:?}");
    }
    let _ = parse_bundle(text);
    let _ = CaFacts::parse(text);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_taken(text in ".{0,400}") {
        consume(&text);
        consume(&format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"));
    }

    #[test]
    fn any_bytes_are_taken(der in proptest::collection::vec(any::<u8>(), 0..400)) {
        consume(&pem(&der));
    }

    #[test]
    fn a_damaged_certificate_is_taken_but_does_not_verify(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        static LEAF: OnceLock<Vec<u8>> = OnceLock::new();
        let original = LEAF.get_or_init(|| made(&wanted(), start()).der().to_vec());
        let mut der = original.clone();
        for (at, change) in changes {
            let at = at.index(der.len());
            der[at] ^= change;
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len()));
        }
        consume(&pem(&der));
        if let Ok(facts) = parse_certificate(&pem(&der))
            && verify_issued_by(&facts, shared().certificate().current())
        {
            // Only bytes outside of the signed part can change without being noticed.
            prop_assert_eq!(signed_part(&der), signed_part(original));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the file says and however old the authority is: what was issued stays for at least
    /// half of its validity, or until it ends with its authority.
    #[test]
    fn one_issue_settles_it(
        day in 0..CA_DAYS,
        validity in 2..2_000_000_000u64,
        renew_before in 0..2_000_000_000u64,
        client in any::<bool>(),
        part in 0.0..=1.0f64,
        sans in proptest::collection::vec(prop_oneof![
            "[a-zA-Z0-9-]{1,20}(\\.[a-zA-Z]{1,5}){0,3}\\.?",
            any::<IpAddr>().prop_map(|ip| ip.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        ], 0..6),
    ) {
        let mut wanted = wanted();
        if client {
            wanted.profile = Profile::Client;
            wanted.names = Names::only_cn("root");
        }
        sans.iter().for_each(|name| wanted.names.add(name));
        wanted.validity = Duration::from_secs(validity);
        wanted.renew_before = Duration::from_secs(renew_before);
        let now = start() + DAY * day;
        let facts = made(&wanted, now);
        prop_assert_eq!(reasons_to_issue(&facts, &wanted, shared().certificate().facts(), now), []);
        let left = u64::try_from(facts.not_after - now.unix_timestamp()).unwrap();
        let stays = (validity / 2).min(left) as f64 * part;
        let later = now + Duration::from_secs(stays as u64);
        prop_assert_eq!(reasons_to_issue(&facts, &wanted, shared().certificate().facts(), later), []);
        prop_assert!(facts.not_after <= shared().certificate().current().not_after);
    }
}

#[test]
fn every_reason_is_found() {
    let ca = shared().certificate().facts();
    let wanted = wanted();
    let facts = made(&wanted, start());
    let at = |days: f64| {
        let now = start() + Duration::from_secs_f64(days * 86_400.0);
        reasons_to_issue(&facts, &wanted, ca, now)
    };
    assert_eq!(at(0.0), []);
    assert_eq!(at(334.9), []);
    assert_eq!(at(335.1), [ReissueReason::ExpiresSoon { days: 29 }]);
    assert_eq!(at(364.5), [ReissueReason::ExpiresSoon { days: 0 }]);
    assert_eq!(at(365.1), [ReissueReason::Expired]);
    let early = reasons_to_issue(&facts, &wanted, ca, start() - Duration::from_secs(3601));
    assert_eq!(early, [ReissueReason::NotYetValid]);

    let mut other = wanted.clone();
    other.names.add("new.example.com");
    other
        .names
        .ips
        .remove(&"10.0.0.1".parse::<IpAddr>().unwrap());
    other.names.cn = "etcd-2".to_owned();
    assert_eq!(
        reasons_to_issue(&facts, &other, ca, start()),
        [ReissueReason::NamesDiffer {
            missing: vec!["CN=etcd-2".to_owned(), "new.example.com".to_owned()],
            extra: vec!["10.0.0.1".to_owned(), "CN=etcd-1".to_owned()],
        }]
    );
    // One name too many is reason enough.
    let mut fewer = wanted.clone();
    fewer.names.dns.remove("etcd-1.example.com");
    let reasons = reasons_to_issue(&facts, &fewer, ca, start());
    assert_eq!(
        reasons[0].to_string(),
        "its names differ: has etcd-1.example.com in excess"
    );

    let rsa = Wanted {
        key: KeyKind::Rsa2048,
        ..wanted.clone()
    };
    assert_eq!(
        reasons_to_issue(&facts, &rsa, ca, start()),
        [ReissueReason::KeyKindDiffers {
            found: PublicKeyKind::Known(KeyKind::EcdsaP256),
            wanted: PublicKeyKind::Known(KeyKind::Rsa2048),
        }]
    );
    let client = Wanted {
        profile: Profile::Client,
        ..wanted.clone()
    };
    assert_eq!(
        reasons_to_issue(&facts, &client, ca, start()),
        [ReissueReason::ProfileDiffers {
            missing: vec![],
            extra: vec!["serverAuth".to_owned()]
        }]
    );
    let peer = Wanted {
        profile: Profile::Peer,
        ..wanted.clone()
    };
    assert_eq!(reasons_to_issue(&facts, &peer, ca, start()), []);
}

#[test]
fn a_leaf_of_a_former_or_foreign_authority_is_found() {
    let wanted = wanted();
    for kind in KINDS {
        let (_home, _dir, stranger) = crate::support::authority(kind);
        // The same name and another key: only the signature tells.
        let current = stranger.certificate().current().clone();
        let facts = made(&wanted, start());
        assert!(!verify_issued_by(&facts, &current));
        let alone = CaFacts {
            current: current.clone(),
            former: vec![],
            sha256: String::new(),
        };
        let rotating = CaFacts {
            current,
            former: vec![shared().certificate().current().clone()],
            sha256: String::new(),
        };
        for (ca, former) in [(alone, false), (rotating, true)] {
            assert_eq!(
                reasons_to_issue(&facts, &wanted, &ca, start()),
                [ReissueReason::ForeignAuthority {
                    issuer: "CN=demo CA".to_owned(),
                    former
                }]
            );
        }
    }
}
