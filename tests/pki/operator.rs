//! The operator's certificate, and those for people.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use age::secrecy::ExposeSecret as _;
use quorate::desired::model::KeyKind;
use quorate::observed::certificate::{ReissueReason, verify_issued_by};
use quorate::pki::{
    Authority, AuthorityCertificate, KeyProtection, NewClient, OperatorCertificate, PkiError,
    ensure_client, ensure_operator, load_operator,
};
use time::OffsetDateTime;

use crate::support::{DAY, authority, listing, mode, refused, set_mode};

struct Side<'a> {
    dir: &'a Path,
    ca: AuthorityCertificate,
    opened: Cell<u32>,
}

impl<'a> Side<'a> {
    fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            ca: Authority::load_certificate(dir).unwrap().unwrap(),
            opened: Cell::new(0),
        }
    }

    fn open(&self) -> Result<Authority, PkiError> {
        self.opened.set(self.opened.get() + 1);
        Authority::open_key(self.dir, &KeyProtection::Plain)
    }

    fn operator(&self, now: OffsetDateTime) -> Result<OperatorCertificate, PkiError> {
        self.operator_or_error(now)
            .map(|(certificate, _)| certificate)
    }

    fn operator_or_error(
        &self,
        now: OffsetDateTime,
    ) -> Result<(OperatorCertificate, Option<PkiError>), PkiError> {
        ensure_operator(self.dir, &self.ca, KeyKind::EcdsaP256, now, || self.open())
    }
}

#[test]
fn the_operator_is_root_for_thirty_days_and_cached() {
    let (_home, dir, authority) = authority(KeyKind::EcdsaP256);
    let side = Side::new(&dir);
    let now = OffsetDateTime::now_utc();
    let first = side.operator(now).unwrap();
    assert_eq!(first.facts.common_name, "root");
    assert_eq!(first.facts.not_after - now.unix_timestamp(), 30 * 86_400);
    assert_eq!(now.unix_timestamp() - first.facts.not_before, 3_600);
    assert!(verify_issued_by(
        &first.facts,
        authority.certificate().current()
    ));
    assert_eq!(mode(&dir.join("operator.crt")), 0o600);
    assert_eq!(mode(&dir.join("operator.key")), 0o600);
    assert_eq!(
        listing(&dir),
        ["ca.crt", "ca.key", "operator.crt", "operator.key"]
    );

    for later in [now, now + DAY * 22] {
        let cached = side.operator(later).unwrap();
        assert_eq!(cached.cert_pem, first.cert_pem);
        assert_eq!(
            cached.key_pem.expose_secret(),
            first.key_pem.expose_secret()
        );
    }
    assert_eq!(side.opened.get(), 1, "the key is opened only to issue");
}

/// Who has no key of the authority can look as long as the certificate lasts.
#[test]
fn the_operator_makes_do_without_the_key() {
    let (_home, dir, _) = authority(KeyKind::EcdsaP256);
    let side = Side::new(&dir);
    let now = OffsetDateTime::now_utc();
    let first = side.operator(now).unwrap();
    fs::remove_file(dir.join("ca.key")).unwrap();
    for (day, is_due) in [(1, false), (24, true), (29, true)] {
        let (found, missing) = side.operator_or_error(now + DAY * day).unwrap();
        assert_eq!(found.cert_pem, first.cert_pem);
        assert_eq!(
            matches!(missing, Some(PkiError::KeyMissing { .. })),
            is_due,
            "{missing:?}"
        );
    }
    let error = side.operator(now + DAY * 31).unwrap_err();
    assert!(matches!(error, PkiError::KeyMissing { .. }), "{error}");
}

#[test]
fn the_operator_is_renewed_when_due() {
    let (_home, dir, _) = authority(KeyKind::EcdsaP256);
    let side = Side::new(&dir);
    let now = OffsetDateTime::now_utc();
    let first = side.operator(now).unwrap();
    let load = |now| {
        load_operator(&dir, &side.ca, KeyKind::EcdsaP256, now)
            .unwrap()
            .unwrap()
    };
    let soon = load(now + DAY * 24);
    assert_eq!(soon.reasons, [ReissueReason::ExpiresSoon { days: 6 }]);
    assert!(soon.works());
    let late = load(now + DAY * 31);
    assert_eq!(late.reasons, [ReissueReason::Expired]);
    assert!(!late.works());
    let renewed = side.operator(now + DAY * 24).unwrap();
    assert_ne!(renewed.facts.serial, first.facts.serial);
    assert_eq!(side.opened.get(), 2);

    // Of another authority.
    let (_other_home, other_dir, _) = authority(KeyKind::EcdsaP256);
    for name in ["operator.crt", "operator.key"] {
        fs::copy(dir.join(name), other_dir.join(name)).unwrap();
    }
    let other = Side::new(&other_dir);
    let stranger = load_operator(&other_dir, &other.ca, KeyKind::EcdsaP256, now + DAY * 24);
    assert!(matches!(
        stranger.unwrap().unwrap().reasons[..],
        [ReissueReason::ForeignAuthority { former: false, .. }]
    ));
    let own = other.operator(now).unwrap();
    assert!(verify_issued_by(&own.facts, other.ca.current()));
}

#[test]
fn halves_of_two_pairs_are_no_certificate() {
    let (_home, dir, _) = authority(KeyKind::EcdsaP256);
    let side = Side::new(&dir);
    let now = OffsetDateTime::now_utc();
    side.operator(now).unwrap();
    let key = fs::read(dir.join("operator.key")).unwrap();
    side.operator(now + DAY * 25).unwrap();
    fs::write(dir.join("operator.key"), key).unwrap();
    assert!(
        load_operator(&dir, &side.ca, KeyKind::EcdsaP256, now)
            .unwrap()
            .is_none()
    );
    for (name, content) in [("operator.key", ""), ("operator.crt", "garbage")] {
        fs::write(dir.join(name), content).unwrap();
        assert!(
            load_operator(&dir, &side.ca, KeyKind::EcdsaP256, now)
                .unwrap()
                .is_none()
        );
        side.operator(now).unwrap();
        assert!(
            load_operator(&dir, &side.ca, KeyKind::EcdsaP256, now)
                .unwrap()
                .is_some()
        );
    }
}

#[test]
fn operators_at_once_each_hold_a_matching_pair() {
    let (_home, dir, _) = authority(KeyKind::EcdsaP256);
    let now = OffsetDateTime::now_utc();
    for round in 0..10 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let side = Side::new(&dir);
                    let held = side.operator(now + DAY * 25 * round).unwrap();
                    let alone = tempfile::tempdir().unwrap();
                    fs::write(alone.path().join("operator.crt"), &held.cert_pem).unwrap();
                    let key = alone.path().join("operator.key");
                    fs::write(&key, held.key_pem.expose_secret()).unwrap();
                    set_mode(&key, 0o600);
                    let pair = load_operator(alone.path(), &side.ca, KeyKind::EcdsaP256, now);
                    assert!(pair.unwrap().is_some());
                });
            }
        });
    }
    assert_eq!(
        listing(&dir),
        ["ca.crt", "ca.key", "operator.crt", "operator.key"]
    );
}

#[test]
fn a_link_in_place_of_the_key_is_refused() {
    let (home, dir, _) = authority(KeyKind::EcdsaP256);
    let victim = home.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, dir.join("operator.key")).unwrap();
    let side = Side::new(&dir);
    let error = refused(side.operator(OffsetDateTime::now_utc()));
    assert!(matches!(error, PkiError::NotAFile { .. }), "{error}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(!dir.join("operator.crt").exists(), "no half is left");
}

#[test]
fn people_get_files_that_a_shell_can_source() {
    // A quote, a space, a dollar and a backquote in the path.
    let home = tempfile::Builder::new()
        .prefix("it's $HOME `x` ")
        .tempdir()
        .unwrap();
    let dir = home.path().join("pki");
    let now = OffsetDateTime::now_utc();
    let new = crate::support::new_authority(KeyKind::EcdsaP256);
    Authority::create_or_open(&dir, &new, &KeyProtection::Plain, now)
        .unwrap_or_else(|error| panic!("{error}"));
    let side = Side::new(&dir);
    let endpoints = [
        "https://10.0.0.1:2379".to_owned(),
        "https://[fd00::2]:2379".to_owned(),
    ];
    let client = NewClient {
        name: "alice",
        key: KeyKind::EcdsaP384,
        validity: DAY * 90,
        renew_before: DAY * 30,
        endpoints: &endpoints,
    };
    let ensure =
        |client: &NewClient<'_>, now| ensure_client(&dir, &side.ca, client, now, || side.open());
    let files = ensure(&client, now).unwrap();
    assert_eq!(files.issued, Some(Vec::new()), "the first one");
    assert_eq!(mode(&dir.join("clients")), 0o700);
    assert_eq!(mode(&files.certificate), 0o644);
    assert_eq!(mode(&files.key), 0o600);
    assert_eq!(mode(&files.environment), 0o600);
    assert_eq!(
        listing(&dir.join("clients")),
        ["alice.crt", "alice.env", "alice.key"]
    );

    let script = r#". "$1"; printf '%s\n' "$ETCDCTL_API" "$ETCDCTL_ENDPOINTS" "$ETCDCTL_CACERT" "$ETCDCTL_CERT" "$ETCDCTL_KEY""#;
    let output = Command::new("sh")
        .args(["-euc", script, "sh"])
        .arg(&files.environment)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = format!(
        "3\n{}\n{}\n{}\n{}\n",
        endpoints.join(","),
        dir.join("ca.crt").display(),
        files.certificate.display(),
        files.key.display()
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(files.key.is_absolute());

    let before = fs::read(&files.certificate).unwrap();
    assert_eq!(ensure(&client, now + DAY * 59).unwrap().issued, None);
    // New endpoints are written without a new certificate.
    let grown = NewClient {
        endpoints: &endpoints[..1],
        ..client.clone()
    };
    assert_eq!(ensure(&grown, now).unwrap().issued, None);
    let text = fs::read_to_string(&files.environment).unwrap();
    assert!(!text.contains("fd00::2"), "{text}");
    assert_eq!(fs::read(&files.certificate).unwrap(), before);
    assert_eq!(side.opened.get(), 1);
    assert_eq!(
        ensure(&client, now + DAY * 61).unwrap().issued,
        Some(vec![ReissueReason::ExpiresSoon { days: 29 }])
    );

    for bad in ["", "../x", "a/b", ".hidden", "-x", "a b"] {
        let client = NewClient {
            name: bad,
            ..client.clone()
        };
        let error = refused(ensure(&client, now));
        assert!(matches!(error, PkiError::BadName { .. }), "{bad}: {error}");
    }
}
