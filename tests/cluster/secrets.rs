//! Private keys and passwords show up nowhere but where they belong.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_lab::{Host, Options};

use super::harness::Scene;

const SUDO: &str = "sudo-Xy7Qpassword";
const PASSPHRASE: &str = "identity-Kw3Vpassphrase";
const CA: &str = "authority-Rt9Lpassphrase";

#[test]
fn no_secret_is_ever_in_the_open() {
    let options = Options {
        hosts: 3,
        password_sudo: vec![1, 2, 3],
        ..Options::default()
    };
    let Some(scene) = Scene::with("secrets", options) else {
        return;
    };
    let mut scene = scene.tls();
    lock_everything(&mut scene);
    let watch = Watch::start();
    let mut said = String::new();
    for args in [
        &["plan", "--out", "plan.out"][..],
        &["show", "plan.out"],
        &["show", "--json", "plan.out"],
        &["apply", "--json", "plan.out"],
        &["status", "--json"],
    ] {
        let run = scene.run(args).exits(0);
        said += &run.to_string();
    }
    for host in scene.hosts() {
        host.run("rm /etc/etcd/tls/server.key").unwrap();
    }
    said += &scene.apply().to_string();
    let mut places = vec![("output".to_owned(), said)];
    places.push(("command lines".to_owned(), watch.stop()));
    places.extend(files(&scene.path("plan.out")));
    places.extend(files(&scene.path("state")));
    assert!(
        places.iter().any(|(name, _)| name.ends_with(".jsonl")),
        "there is no run log"
    );

    let mut needles = needles_of(SUDO);
    needles.extend(needles_of(PASSPHRASE));
    needles.extend(needles_of(CA));
    for host in scene.hosts() {
        for name in ["server", "peer"] {
            let key = host
                .read_file(&format!("/etc/etcd/tls/{name}.key"))
                .unwrap();
            needles.extend(needles_of_key(&String::from_utf8(key).unwrap()));
        }
    }
    let client = fs::read_to_string(scene.path("pki/clients/root.key")).unwrap();
    needles.extend(needles_of_key(&client));
    assert!(needles.len() > 20, "{}", needles.len());

    for host in scene.hosts() {
        let journal = host.run("journalctl -q --no-pager -a -o verbose").unwrap();
        assert!(journal.contains("quorate"), "{}: no journal", host.name);
        places.push((format!("journal of {}", host.name), journal));
        assert_eq!(readable(host, &needles), "", "{}", host.name);
    }
    for (place, text) in &places {
        assert_eq!(found(text, &needles), None, "in {place}");
    }

    // Each of these ways of looking does see what is there.
    for needle in &needles {
        assert!(found(&format!("x{needle}y"), &needles).is_some());
    }
    let host = scene.host(1);
    host.run(&format!("logger -t planted {SUDO}")).unwrap();
    super::harness::eventually("the planted line is in the journal", || {
        let journal = host.run("journalctl -q --no-pager -a -o verbose").unwrap();
        found(&journal, &needles).is_some()
    });
    let key = host.read_file("/etc/etcd/tls/peer.key").unwrap();
    host.write_file("/var/lib/planted", &key, 0o644).unwrap();
    assert_eq!(readable(host, &needles), "/var/lib/planted\n");
    let watch = Watch::start();
    host.run(&format!("sleep 0.3; : {CA}")).unwrap();
    assert!(found(&watch.stop(), &needles).is_some(), "command lines");
}

/// A password for sudo, a passphrase for the SSH key and one for the key of the authority.
fn lock_everything(scene: &mut Scene) {
    for host in scene.hosts() {
        host.run(&format!("echo ops:{SUDO} | chpasswd")).unwrap();
    }
    let identity = scene.path("id_ed25519");
    fs::copy(scene.lab.identity(), &identity).unwrap();
    let keygen = Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", PASSPHRASE, "-f"])
        .arg(&identity)
        .status()
        .unwrap();
    assert!(keygen.success());
    scene.ssh = format!(
        "user = \"ops\"\nidentity = \"id_ed25519\"\nknown_hosts = {:?}\nsudo = true\n\
         sudo_password = {{ env = \"TEST_SUDO\" }}\npassphrase = {{ file = \"passphrase\" }}\n",
        scene.lab.known_hosts()
    );
    fs::write(scene.path("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    fs::write(scene.path("ca-passphrase"), format!("{CA}\n")).unwrap();
    scene.env.insert("TEST_SUDO".into(), SUDO.into());
    scene.tables = "[tls.ca.encryption]\npassphrase = { command = \"cat ca-passphrase\" }\n".into();
}

/// Reads the command lines of all processes of machine and hosts, over and over.
struct Watch {
    done: std::sync::Arc<AtomicBool>,
    thread: thread::JoinHandle<BTreeSet<String>>,
}

impl Watch {
    fn start() -> Self {
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let thread = thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stop.load(Ordering::Acquire) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    // Processes come and go.
                    if let Ok(line) = fs::read(entry.path().join("cmdline")) {
                        seen.insert(String::from_utf8_lossy(&line).into_owned());
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
            seen
        });
        Self { done, thread }
    }

    fn stop(self) -> String {
        self.done.store(true, Ordering::Release);
        let seen = self.thread.join().unwrap();
        assert!(seen.len() > 10, "{seen:?}");
        seen.into_iter().collect::<Vec<_>>().join("\n")
    }
}

/// A secret as it is and as base64.
fn needles_of(secret: &str) -> Vec<String> {
    let mut needles = vec![secret.to_owned()];
    // Whatever stands before it: three alignments, without the characters that it shares.
    for before in 0..3 {
        let text = STANDARD.encode(format!("{}{secret}", "x".repeat(before)));
        needles.push(text[4..text.len() - 4].to_owned());
    }
    needles
}

/// The lines between the armour, and what is in the middle of them as base64 once more.
fn needles_of_key(pem: &str) -> Vec<String> {
    let body: Vec<&str> = pem
        .lines()
        .filter(|line| !line.contains("PRIVATE KEY") && line.len() > 20)
        .collect();
    assert!(!body.is_empty(), "no key");
    let mut needles: Vec<String> = body.iter().map(|line| (*line).to_owned()).collect();
    needles.extend(
        body.iter()
            .skip(1)
            .flat_map(|line| needles_of(line).into_iter().skip(1)),
    );
    needles
}

fn found<'a>(text: &str, needles: &'a [String]) -> Option<&'a str> {
    needles
        .iter()
        .map(String::as_str)
        .find(|needle| text.contains(needle))
}

/// Files on a host that everybody may read, and that hold a secret.
fn readable(host: &Host, needles: &[String]) -> String {
    let script = "umask 077; cat >/root/needles; \
                  find /etc /var /run /tmp /home /opt /usr/local /dev/shm -xdev -type f -perm -004 -print0 2>/dev/null \
                  | xargs -0 -r grep -alFf /root/needles -- || :; rm /root/needles";
    let output = host
        .exec_with_input(script, &[], needles.join("\n").as_bytes())
        .unwrap();
    assert!(output.success(), "{output:?}");
    output.stdout
}

/// A file, or all below a directory.
fn files(path: &Path) -> Vec<(String, String)> {
    if path.is_file() {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        return vec![(path.display().to_string(), text)];
    }
    fs::read_dir(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .flat_map(|entry| files(&entry.unwrap().path()))
        .collect()
}
