//! Making and opening the authority.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Barrier;

use quorate::desired::model::KeyKind;
use quorate::observed::certificate::{PublicKeyKind, verify_issued_by};
use quorate::pki::{Authority, KeyProtection, NewAuthority, PkiError};
use time::OffsetDateTime;

use crate::support::{DAY, KINDS, authority, listing, mode, new_authority, refused, set_mode};

fn reopen(dir: &std::path::Path) -> Result<Authority, PkiError> {
    let now = OffsetDateTime::now_utc();
    let new = new_authority(KeyKind::EcdsaP256);
    Authority::create_or_open(dir, &new, &KeyProtection::Plain, now)
}

#[test]
fn a_new_authority_is_what_was_asked_for() {
    for kind in KINDS {
        let (_home, dir, made) = authority(kind);
        let facts = made.certificate().current();
        assert_eq!(facts.common_name, "demo CA");
        assert!(facts.is_ca);
        assert_eq!(facts.key, PublicKeyKind::Known(kind));
        assert_eq!(facts.serial.len(), 40, "20 bytes: {}", facts.serial);
        assert!(verify_issued_by(facts, facts), "it signed itself");
        let now = OffsetDateTime::now_utc().unix_timestamp();
        assert!((now - facts.not_before - 3600).abs() < 60);
        assert!((facts.not_after - now - 3650 * 86_400).abs() < 60);
        assert_eq!(listing(&dir), ["ca.crt", "ca.key"]);
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("ca.crt")), 0o644);
        assert_eq!(mode(&dir.join("ca.key")), 0o600);
        let key = fs::read_to_string(dir.join("ca.key")).unwrap();
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "PKCS8");
    }
}

#[test]
fn a_second_run_opens_and_changes_nothing() {
    let (_home, dir, made) = authority(KeyKind::EcdsaP256);
    let before = (
        fs::read(dir.join("ca.crt")).unwrap(),
        fs::read(dir.join("ca.key")).unwrap(),
    );
    let again = reopen(&dir).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.certificate(), made.certificate());
    let after = (
        fs::read(dir.join("ca.crt")).unwrap(),
        fs::read(dir.join("ca.key")).unwrap(),
    );
    assert_eq!(before, after);
}

#[test]
fn operators_at_once_end_up_with_one_authority() {
    for _ in 0..20 {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("pki");
        let barrier = Barrier::new(6);
        let seen: BTreeSet<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let made = reopen(&dir).unwrap_or_else(|error| panic!("{error}"));
                        made.certificate().current().fingerprint_sha256.clone()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(seen.len(), 1);
        assert_eq!(listing(&dir), ["ca.crt", "ca.key"], "nothing is left over");
    }
}

#[test]
fn a_lone_key_gets_a_certificate() {
    let (_home, dir, made) = authority(KeyKind::EcdsaP384);
    let key = fs::read(dir.join("ca.key")).unwrap();
    fs::remove_file(dir.join("ca.crt")).unwrap();
    let again = reopen(&dir).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(fs::read(dir.join("ca.key")).unwrap(), key, "never replaced");
    let (old, new) = (made.certificate().current(), again.certificate().current());
    assert_eq!(old.spki_sha256, new.spki_sha256);
    assert_ne!(old.serial, new.serial);
}

#[test]
fn a_lone_certificate_is_enough_to_judge_but_not_to_issue() {
    let (_home, dir, made) = authority(KeyKind::EcdsaP256);
    fs::remove_file(dir.join("ca.key")).unwrap();
    let loaded = Authority::load_certificate(&dir).unwrap().unwrap();
    assert_eq!(&loaded, made.certificate());
    let error = refused(reopen(&dir));
    assert!(matches!(error, PkiError::KeyMissing { .. }), "{error}");
    assert!(error.to_string().contains("ca.key"), "{error}");
    assert_eq!(listing(&dir), ["ca.crt"]);
}

#[test]
fn nothing_there_is_no_authority() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("pki");
    assert!(Authority::load_certificate(&dir).unwrap().is_none());
    let error = refused(Authority::open_key(&dir, &KeyProtection::Plain));
    assert!(matches!(error, PkiError::NoAuthority { .. }), "{error}");
    assert!(!dir.exists(), "looking makes nothing");
}

#[test]
fn the_first_of_a_bundle_is_current() {
    let (_old_home, old_dir, old) = authority(KeyKind::Rsa2048);
    let (_home, dir, new) = authority(KeyKind::EcdsaP256);
    let bundle = format!(
        "# new\n{}# old\n{}",
        new.certificate().pem(),
        old.certificate().pem()
    );
    fs::write(dir.join("ca.crt"), bundle).unwrap();
    let loaded = Authority::load_certificate(&dir).unwrap().unwrap();
    assert_eq!(loaded.current(), new.certificate().current());
    assert_eq!(loaded.facts().former, [old.certificate().current().clone()]);
    reopen(&dir).unwrap_or_else(|error| panic!("{error}"));
    fs::copy(old_dir.join("ca.key"), dir.join("ca.key")).unwrap();
    let error = refused(reopen(&dir));
    assert!(matches!(error, PkiError::KeyMismatch { .. }), "{error}");
}

#[test]
fn keys_of_other_tools_are_read() {
    let Some(openssl) = crate::support::find("openssl") else {
        return crate::support::skip("pki::authority::keys_of_other_tools_are_read", "no openssl");
    };
    // What cfssl and `openssl ecparam` write: SEC1 and PKCS1.
    for args in [
        &["ecparam", "-name", "prime256v1", "-genkey", "-noout"][..],
        &["ecparam", "-name", "secp384r1", "-genkey"][..],
        &["genrsa", "-traditional", "2048"][..],
        &["genrsa", "3072"][..],
    ] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ca.key");
        let path_text = path.to_str().unwrap();
        let args = [args, &["-out", path_text]].concat();
        // genrsa wants its size last.
        let args = if args[0] == "genrsa" {
            let size = args[args.len() - 3];
            let mut args: Vec<_> = args.into_iter().filter(|arg| *arg != size).collect();
            args.push(size);
            args
        } else {
            args
        };
        crate::support::run(&openssl, &args);
        set_mode(&path, 0o600);
        let made = reopen(home.path()).unwrap_or_else(|error| panic!("{args:?}: {error}"));
        let facts = made.certificate().current();
        assert!(verify_issued_by(facts, facts), "{args:?}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_by_name() {
    let (_home, dir, _) = authority(KeyKind::EcdsaP256);
    for bad in [0o644, 0o640, 0o602] {
        set_mode(&dir.join("ca.key"), bad);
        let error = refused(reopen(&dir)).to_string();
        let path = dir.join("ca.key").display().to_string();
        assert!(error.contains(&format!("`chmod 600 {path}`")), "{error}");
    }
    set_mode(&dir.join("ca.key"), 0o400);
    reopen(&dir).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_directory_that_anybody_can_write_to_is_refused() {
    let (_home, dir, _) = authority(KeyKind::EcdsaP256);
    set_mode(&dir, 0o777);
    let error = refused(reopen(&dir)).to_string();
    assert!(error.contains("chmod 700"), "{error}");
    set_mode(&dir, 0o2770);
    reopen(&dir).unwrap_or_else(|error| panic!("a team's directory: {error}"));
}

#[test]
fn symbolic_links_are_not_followed() {
    for name in ["ca.crt", "ca.key"] {
        let (home, dir, _) = authority(KeyKind::EcdsaP256);
        let elsewhere = home.path().join("elsewhere");
        fs::rename(dir.join(name), &elsewhere).unwrap();
        symlink(&elsewhere, dir.join(name)).unwrap();
        let error = refused(reopen(&dir));
        assert!(matches!(error, PkiError::NotAFile { .. }), "{error}");
        fs::remove_file(&elsewhere).unwrap();
        let error = refused(reopen(&dir));
        assert!(
            matches!(error, PkiError::NotAFile { .. }),
            "dangling: {error}"
        );
        assert!(!elsewhere.exists(), "nothing was written through the link");
    }
}

#[test]
fn files_that_are_something_else_are_named() {
    let (_home, dir, made) = authority(KeyKind::EcdsaP256);
    let leaf = quorate::pki::issue(
        &made,
        quorate::pki::Profile::Client,
        &crate::support::names(),
        KeyKind::EcdsaP256,
        DAY,
        OffsetDateTime::now_utc(),
    )
    .unwrap();
    let good = made.certificate().pem().to_owned();
    for bad in [
        "",
        "garbage",
        leaf.cert_pem.as_str(),
        &good[..good.len() / 2],
    ] {
        fs::write(dir.join("ca.crt"), bad).unwrap();
        let error = refused(Authority::load_certificate(&dir));
        assert!(
            error.to_string().contains("ca.crt is not usable"),
            "{error}"
        );
    }
    fs::write(dir.join("ca.crt"), good).unwrap();
    for bad in [
        "",
        "-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n",
    ] {
        fs::write(dir.join("ca.key"), bad).unwrap();
        let error = refused(reopen(&dir));
        assert!(
            error.to_string().contains("ca.key is not usable"),
            "{error}"
        );
    }
}

#[test]
fn long_names_and_endless_validity() {
    let home = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let cluster = "x".repeat(63);
    let new = NewAuthority {
        cluster: &cluster,
        key: KeyKind::EcdsaP256,
        validity: DAY,
    };
    let made = Authority::create_or_open(home.path(), &new, &KeyProtection::Plain, now);
    let made = made.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(made.certificate().current().common_name.len(), 64);
    for validity in [std::time::Duration::ZERO, std::time::Duration::MAX] {
        let other = tempfile::tempdir().unwrap();
        let new = NewAuthority { validity, ..new };
        let made = Authority::create_or_open(other.path(), &new, &KeyProtection::Plain, now);
        let error = refused(made);
        assert!(matches!(error, PkiError::BadValidity { .. }), "{error}");
        assert!(listing(other.path()).is_empty(), "no key is left over");
    }
}

#[test]
fn the_offset_of_the_clock_does_not_matter() {
    let home = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let offset = time::UtcOffset::from_hms(5, 30, 0).unwrap();
    let new = new_authority(KeyKind::EcdsaP256);
    let local = now.to_offset(offset);
    let made = Authority::create_or_open(home.path(), &new, &KeyProtection::Plain, local);
    let made = made.unwrap_or_else(|error| panic!("{error}"));
    let now = now.unix_timestamp();
    assert_eq!(now - made.certificate().current().not_before, 3600);
    let names = crate::support::names();
    let profile = quorate::pki::Profile::Peer;
    let leaf = quorate::pki::issue(&made, profile, &names, KeyKind::EcdsaP256, DAY, local);
    let facts = leaf.unwrap().facts;
    assert_eq!(
        (now - facts.not_before, facts.not_after - now),
        (3600, 86_400)
    );
}
