use proptest::prelude::*;

use super::*;

fn key(kind: &str, seed: u8) -> Vec<u8> {
    let mut key = (kind.len() as u32).to_be_bytes().to_vec();
    key.extend_from_slice(kind.as_bytes());
    key.extend_from_slice(&[0, 0, 0, 32]);
    key.extend_from_slice(&[seed; 32]);
    key
}

fn ed(seed: u8) -> Vec<u8> {
    key("ssh-ed25519", seed)
}

fn line(names: &str, key: &[u8]) -> String {
    format!(
        "{names} {} {} a comment\n",
        key_type(key).unwrap(),
        STANDARD.encode(key)
    )
}

fn known(text: &str) -> KnownHosts {
    let mut known = KnownHosts::default();
    known.add("file".into(), text);
    known
}

fn place(line: usize) -> Place {
    Place {
        file: "file".into(),
        line,
    }
}

const UNKNOWN: Verdict = Verdict::Unknown { authority: false };

#[test]
fn plain_lines() {
    let files = known(&line("one,10.0.0.1", &ed(1)));
    assert_eq!(files.judge("one", 22, &ed(1)), Verdict::Known);
    assert_eq!(files.judge("ONE", 22, &ed(1)), Verdict::Known);
    assert_eq!(files.judge("10.0.0.1", 22, &ed(1)), Verdict::Known);
    assert_eq!(files.judge("two", 22, &ed(1)), UNKNOWN);
    assert_eq!(files.judge("one", 22, &ed(2)), Verdict::Changed(place(1)));
}

#[test]
fn another_type_of_key_is_a_change_too() {
    let files = known(&line("one", &key("ecdsa-sha2-nistp256", 1)));
    assert_eq!(files.judge("one", 22, &ed(1)), Verdict::Changed(place(1)));
    assert_eq!(files.key_types("one", 22), ["ecdsa-sha2-nistp256"]);
}

#[test]
fn ports() {
    let files = known(&(line("[one]:2222", &ed(1)) + &line("one", &ed(2))));
    assert_eq!(files.judge("one", 2222, &ed(1)), Verdict::Known);
    assert_eq!(files.judge("one", 22, &ed(2)), Verdict::Known);
    assert_eq!(files.judge("one", 22, &ed(1)), Verdict::Changed(place(2)));
    assert_eq!(files.judge("one", 2222, &ed(2)), Verdict::Changed(place(1)));
    // A line without port vouches for other ports, and says nothing against them.
    assert_eq!(files.judge("one", 2223, &ed(2)), Verdict::Known);
    assert_eq!(files.judge("one", 2223, &ed(3)), UNKNOWN);
    assert_eq!(
        known(&line("[fe80::1]:22", &ed(1))).judge("fe80::1", 22, &ed(1)),
        UNKNOWN
    );
    assert_eq!(
        known(&line("[fe80::1]:23", &ed(1))).judge("FE80::1", 23, &ed(1)),
        Verdict::Known
    );
}

#[test]
fn patterns_and_negation() {
    let files = known(&line("*.example.com,!db.example.com,10.0.0.?", &ed(1)));
    assert_eq!(files.judge("a.example.com", 22, &ed(1)), Verdict::Known);
    assert_eq!(files.judge("db.example.com", 22, &ed(1)), UNKNOWN);
    assert_eq!(files.judge("10.0.0.7", 22, &ed(1)), Verdict::Known);
    assert_eq!(files.judge("10.0.0.17", 22, &ed(1)), UNKNOWN);
}

#[test]
fn hashed_as_openssh_hashes() {
    // ssh-keygen -H on the name `host.example` and on `[host.example]:2222`.
    let hash = |name: &str| {
        let salt = [7_u8; 20];
        let mut mac = Hmac::<Sha1>::new_from_slice(&salt).unwrap();
        mac.update(name.as_bytes());
        format!(
            "|1|{}|{}",
            STANDARD.encode(salt),
            STANDARD.encode(mac.finalize().into_bytes())
        )
    };
    let files =
        known(&(line(&hash("host.example"), &ed(1)) + &line(&hash("[host.example]:2222"), &ed(2))));
    assert_eq!(files.judge("host.example", 22, &ed(1)), Verdict::Known);
    assert_eq!(files.judge("host.example", 2222, &ed(2)), Verdict::Known);
    assert_eq!(
        files.judge("host.example", 22, &ed(3)),
        Verdict::Changed(place(1))
    );
    assert_eq!(files.judge("other.example", 22, &ed(1)), UNKNOWN);
}

#[test]
fn revoked_beats_everything() {
    let text = line("one", &ed(1)) + "@revoked " + &line("*", &ed(1));
    let files = known(&text);
    assert_eq!(files.judge("one", 22, &ed(1)), Verdict::Revoked(place(2)));
    assert_eq!(files.judge("new", 2222, &ed(1)), Verdict::Revoked(place(2)));
    assert_eq!(files.judge("new", 22, &ed(2)), UNKNOWN);
    assert!(files.key_types("new", 22).is_empty());
}

#[test]
fn authorities_are_told_but_not_believed() {
    let files = known(&format!(
        "@cert-authority {}",
        line("*.example.com", &ed(1))
    ));
    assert_eq!(
        files.judge("a.example.com", 22, &ed(1)),
        Verdict::Unknown { authority: true }
    );
    assert_eq!(files.judge("b.example.org", 22, &ed(1)), UNKNOWN);
}

#[test]
fn garbage_spoils_nothing_else() {
    let text = format!(
        "garbage\n@what x ssh-ed25519 AAAA\none ssh-ed25519 !!!\none ssh-rsa {}\n|1|x|y ssh-ed25519 AAAA\n# one\n\n{}",
        STANDARD.encode(ed(9)),
        line("one", &ed(1)),
    );
    assert_eq!(known(&text).judge("one", 22, &ed(1)), Verdict::Known);
    assert_eq!(
        known(&text).judge("one", 22, &ed(9)),
        Verdict::Changed(place(8))
    );
}

#[test]
fn appended_lines_are_found_again_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ssh/known_hosts");
    append(&file, "one", 2222, &ed(1)).unwrap();
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("# no line end");
    std::fs::write(&file, text).unwrap();
    append(&file, "two", 22, &ed(2)).unwrap();
    let files = KnownHosts::read(&[file, dir.path().join("absent")]).unwrap();
    assert_eq!(files.judge("one", 2222, &ed(1)), Verdict::Known);
    assert_eq!(files.judge("two", 22, &ed(2)), Verdict::Known);
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC*|(@revoked |)[|a-z0-9*?!,\\[\\]:]* ssh-ed25519 [A-Za-z0-9+/=]*", host in "\\PC{0,20}", port: u16) {
        let files = known(&text);
        files.judge(&host, port, &ed(1));
        files.key_types(&host, port);
    }

    #[test]
    fn a_star_matches_everything(name in "[a-z.]{0,30}") {
        prop_assert!(matches("*", &name));
        let starred = format!("*{name}");
        prop_assert!(matches(&starred, &name));
        prop_assert!(matches(&name, &name));
    }
}
