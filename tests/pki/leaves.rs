//! Leaves, as openssl sees them.

use std::fs;
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use quorate::desired::model::KeyKind;
use quorate::observed::certificate::{parse_certificate, verify_issued_by};
use quorate::pki::{
    Authority, Issued, KeyProtection, Names, NewAuthority, PkiError, Profile, issue,
};
use time::OffsetDateTime;

use crate::support::{DAY, KINDS, authority, find, names, refused, run, skip};

fn leaf(authority: &Authority, profile: Profile, names: &Names, kind: KeyKind) -> Issued {
    issue(
        authority,
        profile,
        names,
        kind,
        DAY * 365,
        OffsetDateTime::now_utc(),
    )
    .unwrap()
}

#[test]
fn openssl_agrees() {
    let Some(openssl) = find("openssl") else {
        return skip("pki::leaves::openssl_agrees", "no openssl");
    };
    for ca_kind in KINDS {
        let (home, dir, authority) = authority(ca_kind);
        let ca_path = dir.join("ca.crt");
        let ca_path = ca_path.to_str().unwrap();
        let ca = run(
            &openssl,
            &[
                "x509",
                "-in",
                ca_path,
                "-noout",
                "-ext",
                "basicConstraints,keyUsage,subjectKeyIdentifier",
            ],
        );
        assert!(
            ca.contains("Basic Constraints: critical\n    CA:TRUE, pathlen:0"),
            "{ca}"
        );
        assert!(
            ca.contains("Key Usage: critical\n    Certificate Sign, CRL Sign"),
            "{ca}"
        );
        let skid = &authority.certificate().current().subject_key_id;
        assert!(skid.as_ref().is_some_and(|id| id.len() == 40), "{skid:?}");
        for kind in KINDS {
            for profile in [Profile::Server, Profile::Peer, Profile::Client] {
                let names = match profile {
                    Profile::Client => Names::only_cn("alice"),
                    _ => names(),
                };
                let issued = leaf(&authority, profile, &names, kind);
                let (cert, key) = (home.path().join("leaf.crt"), home.path().join("leaf.key"));
                fs::write(&cert, &issued.cert_pem).unwrap();
                fs::write(&key, issued.key_pem.expose_secret()).unwrap();
                let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());

                let purpose = |purpose| {
                    let args = [
                        "verify",
                        "-x509_strict",
                        "-purpose",
                        purpose,
                        "-CAfile",
                        ca_path,
                        cert,
                    ];
                    crate::support::output(&openssl, &args).status.success()
                };
                assert!(purpose("sslclient"), "{profile} {kind:?} under {ca_kind:?}");
                assert_eq!(purpose("sslserver"), profile != Profile::Client);

                let pair = run(&openssl, &["pkey", "-in", key, "-pubout"]);
                assert_eq!(
                    pair,
                    run(&openssl, &["x509", "-in", cert, "-noout", "-pubkey"])
                );

                let text = run(&openssl, &["x509", "-in", cert, "-noout", "-text"]);
                assert!(
                    text.contains(
                        "Key Usage: critical\n                Digital Signature, Key Encipherment\n"
                    ),
                    "{text}"
                );
                assert!(text.contains("CA:FALSE"), "{text}");
                assert!(text.contains("Authority Key Identifier"), "{text}");
                let usage = match profile {
                    Profile::Client => {
                        "Extended Key Usage: \n                TLS Web Client Authentication\n"
                    }
                    _ => {
                        "Extended Key Usage: \n                TLS Web Server Authentication, TLS Web Client Authentication\n"
                    }
                };
                assert!(text.contains(usage), "{text}");
                let alternative = "DNS:etcd-1, DNS:etcd-1.example.com, DNS:localhost, IP Address:10.0.0.1, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1";
                assert_eq!(
                    text.contains(alternative),
                    profile != Profile::Client,
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn facts_are_those_of_openssl() {
    let Some(openssl) = find("openssl") else {
        return skip("pki::leaves::facts_are_those_of_openssl", "no openssl");
    };
    let (home, _dir, authority) = authority(KeyKind::Rsa2048);
    let issued = leaf(&authority, Profile::Peer, &names(), KeyKind::EcdsaP384);
    let path = home.path().join("leaf.crt");
    fs::write(&path, &issued.cert_pem).unwrap();
    let path = path.to_str().unwrap();
    let plain = |text: String| text.trim().replace(':', "").to_ascii_lowercase();

    let facts = parse_certificate(&issued.cert_pem).unwrap();
    assert_eq!(facts, issued.facts);
    let serial = run(&openssl, &["x509", "-in", path, "-noout", "-serial"]);
    assert_eq!(plain(serial), format!("serial={}", facts.serial));
    let print = run(
        &openssl,
        &["x509", "-in", path, "-noout", "-fingerprint", "-sha256"],
    );
    assert!(plain(print).ends_with(&format!("={}", facts.fingerprint_sha256)));
    let public = run(&openssl, &["x509", "-in", path, "-noout", "-pubkey"]);
    let public_path = home.path().join("leaf.pub");
    let der_path = home.path().join("leaf.der");
    fs::write(&public_path, public).unwrap();
    let (public_path, der_path) = (public_path.to_str().unwrap(), der_path.to_str().unwrap());
    run(
        &openssl,
        &[
            "pkey",
            "-pubin",
            "-in",
            public_path,
            "-outform",
            "DER",
            "-out",
            der_path,
        ],
    );
    let digest = run(&openssl, &["dgst", "-sha256", "-r", der_path]);
    assert!(digest.starts_with(&facts.spki_sha256), "{digest}");
    let skid = plain(run(
        &openssl,
        &[
            "x509",
            "-in",
            path,
            "-noout",
            "-ext",
            "subjectKeyIdentifier",
        ],
    ));
    assert!(
        skid.ends_with(facts.subject_key_id.as_ref().unwrap()),
        "{skid}"
    );
    assert_eq!(
        facts.authority_key_id,
        authority.certificate().current().subject_key_id
    );
    assert_eq!(facts.issuer, "CN=demo CA");
}

#[test]
fn an_authority_made_elsewhere_can_issue() {
    let Some(openssl) = find("openssl") else {
        return skip(
            "pki::leaves::an_authority_made_elsewhere_can_issue",
            "no openssl",
        );
    };
    for (subject, reproducible) in [
        (
            "/C=LK/ST=Western/L=Colombo/O=Example/OU=IT/CN=etcd CA",
            true,
        ),
        // Two of a kind cannot be told apart in the name that is encoded anew.
        ("/O=Example/OU=IT/OU=DB/CN=etcd CA", false),
    ] {
        let home = tempfile::tempdir().unwrap();
        let (cert, key) = (home.path().join("ca.crt"), home.path().join("ca.key"));
        let args = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "30",
            "-subj",
            subject,
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-out",
            cert.to_str().unwrap(),
            "-keyout",
            key.to_str().unwrap(),
        ];
        run(&openssl, &args);
        crate::support::set_mode(&key, 0o600);
        let authority = Authority::open_key(home.path(), &KeyProtection::Plain);
        let authority = authority.unwrap_or_else(|error| panic!("{error}"));
        // It became valid this very second.
        let now = OffsetDateTime::now_utc() + Duration::from_secs(5);
        let issued = issue(
            &authority,
            Profile::Server,
            &names(),
            KeyKind::EcdsaP256,
            DAY * 365,
            now,
        );
        match issued {
            Ok(issued) => {
                assert!(reproducible);
                let ca = authority.certificate().current();
                assert!(verify_issued_by(&issued.facts, ca));
                assert_eq!(
                    issued.facts.not_after, ca.not_after,
                    "never beyond the authority"
                );
                let leaf = home.path().join("leaf.crt");
                fs::write(&leaf, &issued.cert_pem).unwrap();
                run(
                    &openssl,
                    &[
                        "verify",
                        "-CAfile",
                        cert.to_str().unwrap(),
                        leaf.to_str().unwrap(),
                    ],
                );
            }
            Err(error) => {
                assert!(!reproducible, "{error}");
                assert!(
                    error.to_string().contains("cannot be reproduced"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let home = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let new = NewAuthority {
        cluster: "demo",
        key: KeyKind::EcdsaP256,
        validity: DAY * 10,
    };
    let made = Authority::create_or_open(home.path(), &new, &KeyProtection::Plain, now);
    let made = made.unwrap_or_else(|error| panic!("{error}"));
    let end = made.certificate().current().not_after;
    let at = |now, validity| {
        issue(
            &made,
            Profile::Client,
            &Names::only_cn("x"),
            KeyKind::EcdsaP256,
            validity,
            now,
        )
    };
    for validity in [DAY * 11, Duration::MAX] {
        assert_eq!(at(now, validity).unwrap().facts.not_after, end);
    }
    let short = at(now, DAY).unwrap().facts;
    assert_eq!(short.not_after - now.unix_timestamp(), 86_400);
    assert_eq!(now.unix_timestamp() - short.not_before, 3_600);
    for wrong in [now + DAY * 11, now - DAY] {
        let error = refused(at(wrong, DAY));
        assert!(
            matches!(error, PkiError::AuthorityNotValid { .. }),
            "{error}"
        );
    }
    let error = refused(at(now, Duration::ZERO));
    assert!(matches!(error, PkiError::BadValidity { .. }), "{error}");
}

#[test]
fn names_that_cannot_be_are_refused() {
    let (_home, _dir, authority) = authority(KeyKind::EcdsaP256);
    let long = "x".repeat(65);
    for cn in ["", "a\nb", &long] {
        let names = Names::only_cn(cn);
        let now = OffsetDateTime::now_utc();
        let error = refused(issue(
            &authority,
            Profile::Client,
            &names,
            KeyKind::EcdsaP256,
            DAY,
            now,
        ));
        assert!(matches!(error, PkiError::BadName { .. }), "{error}");
    }
    for dns in ["bücher.example", "two words"] {
        let mut names = names();
        names.add(dns);
        let now = OffsetDateTime::now_utc();
        let error = refused(issue(
            &authority,
            Profile::Server,
            &names,
            KeyKind::EcdsaP256,
            DAY,
            now,
        ));
        assert!(error.to_string().contains(dns), "{error}");
    }
}

#[test]
fn keys_do_not_show_in_debug_output() {
    let (_home, _dir, authority) = authority(KeyKind::EcdsaP256);
    for kind in KINDS {
        let issued = leaf(&authority, Profile::Client, &Names::only_cn("x"), kind);
        let shown = format!("{issued:?}");
        let body = issued.key_pem.expose_secret().lines().nth(1).unwrap();
        assert!(body.len() == 64 && !shown.contains(body), "{shown}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}

#[test]
fn serial_numbers_differ() {
    let (_home, _dir, authority) = authority(KeyKind::EcdsaP256);
    let serials: std::collections::BTreeSet<_> = (0..50)
        .map(|_| {
            leaf(
                &authority,
                Profile::Client,
                &Names::only_cn("x"),
                KeyKind::EcdsaP256,
            )
        })
        .map(|issued| issued.facts.serial)
        .inspect(|serial| assert_eq!(serial.len(), 40))
        .collect();
    assert_eq!(serials.len(), 50);
}
