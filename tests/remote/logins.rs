//! Host keys, keys, agents, jump hosts and sudo.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::desired::model::Ssh;
use quorate::remote::{ConnectError, Policy, RemoteError, Target, connect};
use quorate::secret::Resolver;

use crate::sshd::{LONG, Sshd, available, free_port, keygen, reach, secret};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn host_keys_are_checked() {
    if !available("host_keys_are_checked") {
        return;
    }
    let sshd = Sshd::start("");
    let known = sshd.path("known_hosts");
    let public = std::fs::read_to_string(sshd.path("host_ed25519.pub")).unwrap();
    let fingerprint = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(sshd.path("host_ed25519.pub"))
        .output()
        .unwrap();
    let fingerprint = String::from_utf8(fingerprint.stdout).unwrap();
    let fingerprint = fingerprint.split_whitespace().nth(1).unwrap().to_owned();

    // Only another type is known: that one is negotiated.
    sshd.trust("host_ecdsa");
    reach(sshd.ssh()).await.unwrap();

    // Hashed by OpenSSH, beside garbage.
    sshd.trust("host_ed25519");
    let status = Command::new("ssh-keygen")
        .args(["-q", "-H", "-f"])
        .arg(&known)
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let hashed = std::fs::read_to_string(&known).unwrap();
    assert!(hashed.starts_with("|1|"), "{hashed}");
    std::fs::write(&known, format!("garbage\n{hashed}")).unwrap();
    reach(sshd.ssh()).await.unwrap();

    // Unknown: refused with the fingerprint, or written down.
    std::fs::write(&known, "# mine").unwrap();
    let error = reach(sshd.ssh()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::HostKeyUnknown { .. }),
        "{error}"
    );
    assert!(error.to_string().contains(&fingerprint), "{error}");
    let accept = Policy {
        accept_new_host_keys: true,
    };
    let target = || Target {
        node: "node-1".into(),
        ssh: sshd.ssh(),
    };
    connect(target(), Arc::new(Resolver::new()), &accept)
        .await
        .unwrap();
    assert!(
        std::fs::read_to_string(&known)
            .unwrap()
            .starts_with("# mine\n[127.0.0.1]:")
    );
    reach(sshd.ssh()).await.unwrap();

    // Changed and revoked: refused, with the line, also where new keys are accepted.
    sshd.trust("id");
    let other = std::fs::read_to_string(&known).unwrap();
    std::fs::write(&known, format!("# one\n{other}")).unwrap();
    let error = connect(target(), Arc::new(Resolver::new()), &accept)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ConnectError::HostKeyChanged { line: 2, .. }),
        "{error}"
    );
    std::fs::write(&known, format!("@revoked * {public}")).unwrap();
    let error = connect(target(), Arc::new(Resolver::new()), &accept)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ConnectError::HostKeyRevoked { line: 1, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_all_kinds() {
    if !available("keys_of_all_kinds") {
        return;
    }
    let sshd = Sshd::start("");
    let kinds: [(&str, &[&str], &str); 6] = [
        ("rsa", &["-t", "rsa", "-b", "2048"], ""),
        ("ecdsa", &["-t", "ecdsa"], ""),
        ("locked", &["-t", "ed25519"], "open sesame"),
        ("locked-rsa", &["-t", "rsa", "-b", "2048"], "open sesame"),
        (
            "locked-pem",
            &["-t", "rsa", "-b", "2048", "-m", "PEM"],
            "open sesame",
        ),
        ("pkcs8", &["-t", "ecdsa", "-m", "PKCS8"], ""),
    ];
    for (name, kind, passphrase) in kinds {
        let path = sshd.path(name);
        keygen(&path, kind, passphrase);
        std::fs::copy(
            sshd.path(&format!("{name}.pub")),
            sshd.path("authorized_keys"),
        )
        .unwrap();
        let ssh = Ssh {
            identity: Some(path),
            ..sshd.ssh()
        };
        if passphrase.is_empty() {
            reach(ssh)
                .await
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            continue;
        }
        let open = Ssh {
            passphrase: Some(secret(passphrase)),
            ..ssh.clone()
        };
        reach(open)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let wrong = Ssh {
            passphrase: Some(secret("wrong")),
            ..ssh.clone()
        };
        let error = reach(wrong).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::KeyFile { .. }),
            "{name}: {error}"
        );
        let error = reach(ssh).await.unwrap_err();
        assert!(error.to_string().contains("encrypted"), "{name}: {error}");
    }
    let error = reach(sshd.ssh()).await.unwrap_err();
    assert!(matches!(error, ConnectError::AuthFailed { .. }), "{error}");
    let error = reach(Ssh {
        identity: Some(sshd.path("absent")),
        ..sshd.ssh()
    })
    .await
    .unwrap_err();
    assert!(matches!(error, ConnectError::KeyFile { .. }), "{error}");
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_several_keys() {
    if !available("an_agent_with_several_keys") {
        return;
    }
    let sshd = Sshd::start("");
    let socket = sshd.path("agent");
    let agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let _agent = Agent(agent);
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    keygen(&sshd.path("one"), &["-t", "ed25519"], "");
    keygen(&sshd.path("two"), &["-t", "rsa", "-b", "2048"], "");
    keygen(&sshd.path("locked"), &["-t", "ed25519"], "x1234567");
    let open = sshd.path("open");
    std::fs::copy(sshd.path("locked"), &open).unwrap();
    let status = Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "x1234567", "-N", "", "-f"])
        .arg(&open)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    for key in ["one", "two", "id", "open"] {
        let mut add = Command::new("ssh-add");
        add.arg("-q")
            .arg(sshd.path(key))
            .env("SSH_AUTH_SOCK", &socket)
            .stderr(Stdio::null());
        assert!(add.status().unwrap().success());
    }
    // The agent's socket is the environment's, so the connecting process is another one.
    let inner = |name: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "logins::inside_an_agents_environment",
                "--nocapture",
            ])
            .env("SSH_AUTH_SOCK", &socket)
            .env("QUORATE_TEST_PORT", sshd.port.to_string())
            .env("QUORATE_TEST_KNOWN", sshd.path("known_hosts"))
            .env("QUORATE_TEST_KEY", name)
            .output()
            .unwrap()
    };
    let output = inner("");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // A chosen key that is encrypted is taken from the agent.
    std::fs::copy(sshd.path("locked.pub"), sshd.path("authorized_keys")).unwrap();
    let output = inner(sshd.path("locked").to_str().unwrap());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
#[ignore = "run by an_agent_with_several_keys"]
async fn inside_an_agents_environment() {
    let var = |name: &str| std::env::var(name).unwrap();
    let key = var("QUORATE_TEST_KEY");
    let ssh = Ssh {
        host: "127.0.0.1".into(),
        port: Some(var("QUORATE_TEST_PORT").parse().unwrap()),
        user: Some("root".into()),
        identity: (!key.is_empty()).then(|| key.into()),
        passphrase: None,
        sudo: false,
        sudo_password: None,
        jump: None,
        known_hosts: Some(var("QUORATE_TEST_KNOWN").into()),
        connect_timeout: PATIENCE,
    };
    let host = reach(ssh).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(host.script(b":", PATIENCE).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_jump_host() {
    if !available("through_a_jump_host") {
        return;
    }
    let bastion = Sshd::start("");
    let sshd = Sshd::start("");
    // The jump host takes the node's key and known_hosts file.
    std::fs::copy(
        sshd.path("authorized_keys"),
        bastion.path("authorized_keys"),
    )
    .unwrap();
    let own = std::fs::read_to_string(sshd.path("known_hosts")).unwrap();
    let theirs = std::fs::read_to_string(bastion.path("known_hosts")).unwrap();
    let jump = Some(format!("root@127.0.0.1:{}", bastion.port));
    let ssh = Ssh { jump, ..sshd.ssh() };
    let error = reach(ssh.clone()).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Jump { source, .. } if matches!(**source, ConnectError::HostKeyUnknown { .. })),
        "{error}"
    );
    std::fs::write(sshd.path("known_hosts"), own.clone() + &theirs).unwrap();
    let begun = Instant::now();
    let host = reach(ssh.clone())
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let connected = begun.elapsed();
    host.script(b":", PATIENCE).await.unwrap();
    let begun = Instant::now();
    for _ in 0..5 {
        assert!(host.script(b":", PATIENCE).await.unwrap().success());
    }
    eprintln!(
        "jump: connect {connected:?}, script {:?}",
        begun.elapsed() / 5
    );
    let output = host
        .script(b"head -c 10000000 /dev/zero", PATIENCE)
        .await
        .unwrap();
    assert_eq!(output.stdout.len(), 10_000_000);
    drop(host);
    let closed = Ssh {
        port: Some(free_port()),
        ..ssh
    };
    let error = reach(closed).await.unwrap_err();
    assert!(matches!(error, ConnectError::JumpTunnel { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there() {
    let ssh = |host: &str, port| Ssh {
        host: host.into(),
        port: Some(port),
        user: Some("root".into()),
        identity: None,
        passphrase: None,
        sudo: false,
        sudo_password: None,
        jump: None,
        known_hosts: Some("/nonexistent".into()),
        connect_timeout: Duration::from_secs(1),
    };
    let error = reach(ssh("127.0.0.1", free_port())).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    let error = reach(ssh("name.invalid", 22)).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Unresolvable { .. } | ConnectError::Timeout { .. }
        ),
        "{error}"
    );
    // One that accepts and says nothing.
    let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let begun = Instant::now();
    let error = reach(ssh("127.0.0.1", mute.local_addr().unwrap().port()))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    // One that speaks something else.
    let other = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::Write;
        if let Ok((mut stream, _)) = other.accept() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let error = reach(ssh("127.0.0.1", port)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Protocol { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sudo_in_all_its_moods() {
    if !available("sudo_in_all_its_moods") {
        return;
    }
    if !std::path::Path::new("/usr/bin/sudo").exists() {
        eprintln!("SKIPPED sudo_in_all_its_moods: needs sudo");
        return;
    }
    let user = format!("quorate-t{}", std::process::id() % 100_000);
    let add = Command::new("useradd")
        .args(["-m", "-s", "/bin/bash", &user])
        .status()
        .unwrap();
    assert!(add.success());
    let sudoers = std::path::PathBuf::from(format!("/etc/sudoers.d/{user}"));
    struct Cleanup(String, std::path::PathBuf);
    impl Drop for Cleanup {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.1);
            let _ = Command::new("userdel")
                .args(["-r", &self.0])
                .stderr(Stdio::null())
                .status();
        }
    }
    let _cleanup = Cleanup(user.clone(), sudoers.clone());
    let mut chpasswd = Command::new("chpasswd")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(
        chpasswd.stdin.as_mut().unwrap(),
        format!("{user}:right one\n").as_bytes(),
    )
    .unwrap();
    drop(chpasswd.stdin.take());
    assert!(chpasswd.wait().unwrap().success());
    let sshd = Sshd::start("");
    let open = Command::new("chmod")
        .args(["a+rx"])
        .arg(sshd.dir.path())
        .status();
    assert!(open.unwrap().success());
    let ssh = |password: Option<&str>| Ssh {
        user: Some(user.clone()),
        sudo: true,
        sudo_password: password.map(secret),
        ..sshd.ssh()
    };
    let run = async |password: Option<&str>| {
        let host = reach(ssh(password))
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", sshd.log()));
        host.script(b"id -u; cat", PATIENCE).await
    };
    let refused = |result: Result<quorate::remote::Output, RemoteError>, words: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, RemoteError::Sudo { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(run(Some("right one")).await, "allow");
    std::fs::write(
        &sudoers,
        format!("{user} ALL=(ALL) ALL\nDefaults:{user} timestamp_timeout=0\n"),
    )
    .unwrap();
    refused(run(None).await, "ssh.sudo_password");
    refused(run(Some("wrong one")).await, "does not accept the password");
    assert_eq!(run(Some("right one")).await.unwrap().stdout, b"0\n");
    // A password that nobody asks for ends up nowhere.
    std::fs::write(&sudoers, format!("{user} ALL=(ALL) NOPASSWD: ALL\n")).unwrap();
    assert_eq!(run(Some("right one")).await.unwrap().stdout, b"0\n");
    assert_eq!(run(None).await.unwrap().stdout, b"0\n");
    let host = reach(ssh(Some("right one"))).await.unwrap();
    let mut held = host
        .hold(b"read -r line; echo \"$line\"", LONG)
        .await
        .unwrap();
    held.write_line("first").unwrap();
    assert_eq!(held.next_line().await.as_deref(), Some("first"));
    std::fs::write(
        &sudoers,
        format!("{user} ALL=(ALL) NOPASSWD: ALL\nDefaults:{user} requiretty\n"),
    )
    .unwrap();
    refused(run(None).await, "requiretty");
}
