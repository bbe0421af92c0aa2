//! The authority's key encrypted by age.

use std::fs;
use std::path::Path;

use age::secrecy::{ExposeSecret as _, SecretString};
use age::x25519;
use quorate::desired::model::KeyKind;
use quorate::pki::{Authority, KeyProtection, PkiError};
use time::OffsetDateTime;

use crate::support::{authority, listing, mode, new_authority, refused};

fn passphrase(text: &str) -> KeyProtection {
    KeyProtection::Passphrase(SecretString::from(text))
}

fn recipient(of: &x25519::Identity, opened_by: &x25519::Identity) -> KeyProtection {
    let line = opened_by.to_string();
    KeyProtection::Recipient {
        recipient: of.to_public().to_string(),
        identity: SecretString::from(format!("# created: now\n{}\n", line.expose_secret())),
    }
}

fn create(dir: &Path, protection: &KeyProtection) -> Result<Authority, PkiError> {
    let new = new_authority(KeyKind::EcdsaP256);
    Authority::create_or_open(dir, &new, protection, OffsetDateTime::now_utc())
}

fn check(protection: &KeyProtection) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let made = create(home.path(), protection).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(listing(home.path()), ["ca.crt", "ca.key.age"]);
    assert_eq!(mode(&home.path().join("ca.key.age")), 0o600);
    let sealed = fs::read_to_string(home.path().join("ca.key.age")).unwrap();
    assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    assert!(!sealed.contains("PRIVATE KEY"));
    let again = Authority::open_key(home.path(), protection);
    let again = again.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.certificate(), made.certificate());
    // An interrupted creation is completed here too.
    fs::remove_file(home.path().join("ca.crt")).unwrap();
    let completed = create(home.path(), protection).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        completed.certificate().current().spki_sha256,
        made.certificate().current().spki_sha256
    );
    assert_eq!(
        fs::read_to_string(home.path().join("ca.key.age")).unwrap(),
        sealed
    );
    home
}

#[test]
fn by_passphrase() {
    let home = check(&passphrase("correct horse"));
    let error = refused(Authority::open_key(
        home.path(),
        &passphrase("battery staple"),
    ));
    assert!(matches!(error, PkiError::WrongPassphrase { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("ca.key.age"), "{text}");
    assert!(!text.contains("battery"), "{text}");
    let error = refused(Authority::open_key(home.path(), &KeyProtection::Plain));
    assert!(matches!(error, PkiError::KeyIsEncrypted { .. }), "{error}");
    let identity = x25519::Identity::generate();
    let error = refused(Authority::open_key(
        home.path(),
        &recipient(&identity, &identity),
    ));
    assert!(matches!(error, PkiError::WrongIdentity { .. }), "{error}");
}

#[test]
fn by_recipient() {
    let identity = x25519::Identity::generate();
    let home = check(&recipient(&identity, &identity));
    let other = x25519::Identity::generate();
    let error = refused(Authority::open_key(
        home.path(),
        &recipient(&identity, &other),
    ));
    assert!(matches!(error, PkiError::WrongIdentity { .. }), "{error}");
    let error = refused(Authority::open_key(home.path(), &passphrase("x")));
    assert!(matches!(error, PkiError::WrongPassphrase { .. }), "{error}");
}

#[test]
fn a_key_that_could_not_be_opened_again_is_not_made() {
    let (mine, other) = (x25519::Identity::generate(), x25519::Identity::generate());
    let nonsense = KeyProtection::Recipient {
        recipient: "age1nonsense".to_owned(),
        identity: SecretString::from("AGE-SECRET-KEY-1NONSENSE"),
    };
    for protection in [recipient(&mine, &other), nonsense, passphrase("")] {
        let home = tempfile::tempdir().unwrap();
        let error = refused(create(home.path(), &protection));
        assert!(matches!(error, PkiError::Protection { .. }), "{error}");
        assert!(!error.to_string().contains("SECRET"), "{error}");
        assert!(listing(home.path()).is_empty());
    }
}

#[test]
fn damage_is_named() {
    let protection = passphrase("x");
    let home = check(&protection);
    let path = home.path().join("ca.key.age");
    let sealed = fs::read_to_string(&path).unwrap();
    for bad in ["", "garbage", &sealed[..sealed.len() / 2]] {
        fs::write(&path, bad).unwrap();
        let error = refused(Authority::open_key(home.path(), &protection));
        assert!(matches!(error, PkiError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains("ca.key.age"), "{error}");
    }
}

#[test]
fn a_plain_key_is_not_taken_for_an_encrypted_one() {
    let (_home, dir, _) = authority(KeyKind::EcdsaP256);
    let error = refused(create(&dir, &passphrase("x")));
    assert!(
        error
            .to_string()
            .contains("age --encrypt --armor --passphrase"),
        "{error}"
    );
    assert_eq!(listing(&dir), ["ca.crt", "ca.key"]);
    fs::write(dir.join("ca.key.age"), "x").unwrap();
    for protection in [passphrase("x"), KeyProtection::Plain] {
        let error = refused(create(&dir, &protection));
        assert!(matches!(error, PkiError::TwoKeys { .. }), "{error}");
    }
}
