//! SSH in full: keys, agents, ports, users, sudo, host keys, OpenSSH's own settings, jump hosts.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_lab::{Cut, LAB_ADDRESS, Lab, Options, SUDO_PASSWORD};

use crate::harness::{ClusterFile, Operator, eventually, lab, lab_with};

fn program(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn keygen(path: &Path, passphrase: &str) {
    let path = path.to_str().unwrap();
    program(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", passphrase, "-f", path],
    );
}

fn plain(lab: &Lab) -> ClusterFile {
    ClusterFile {
        tls: false,
        ..ClusterFile::of(lab)
    }
}

/// An ssh-agent, ended by its process ID.
struct Agent {
    child: Child,
    socket: String,
}

impl Agent {
    fn start(socket: &Path) -> Self {
        let socket = socket.to_str().unwrap().to_owned();
        let mut command = Command::new("ssh-agent");
        let child = command
            .args(["-D", "-a", &socket])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually(Duration::from_secs(5), || {
            Path::new(&socket)
                .exists()
                .then_some(())
                .ok_or("no agent".into())
        });
        Self { child, socket }
    }

    fn add(&self, key: &Path) {
        let mut command = Command::new("ssh-add");
        let command = command
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &self.socket);
        assert!(command.stdin(Stdio::null()).status().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn keys_come_from_files_and_agents() {
    let lab = lab("keys", 2);
    let known = format!(
        "user = \"root\"\nknown_hosts = \"{}\"\n",
        lab.known_hosts().display()
    );
    let mut file = plain(&lab);
    let mut ann = Operator::new(&lab, &file);
    ann.run(&["plan"]).exits(0);

    let locked = ann.path("locked");
    keygen(&locked, "open sesame");
    let public = std::fs::read(ann.path("locked.pub")).unwrap();
    for host in lab.hosts() {
        let added = host
            .exec_with_input("cat >>/root/.ssh/authorized_keys", &[], &public)
            .unwrap();
        assert!(added.success(), "{added:?}");
    }
    let identity = format!("{known}identity = \"{}\"\n", locked.display());
    file.ssh = format!("{identity}passphrase = {{ env = \"KEY_PASSPHRASE\" }}\n");
    ann.edit(&file);
    let _ = ann
        .run(&["plan"])
        .exits(3)
        .says("KEY_PASSPHRASE")
        .within(20);
    ann.environment
        .push(("KEY_PASSPHRASE".into(), "open sesame".into()));
    ann.run(&["plan"]).exits(0);
    ann.environment
        .push(("KEY_PASSPHRASE".into(), "close sesame".into()));
    let wrong = ann
        .run(&["plan"])
        .exits(3)
        .says("the passphrase does not open it");
    assert!(!wrong.said().contains("sesame"), "{}", wrong.said());

    // An agent with more keys than the right one, which comes last.
    let agent = Agent::start(&ann.path("agent"));
    for name in ["a", "b", "c"] {
        keygen(&ann.path(name), "");
        agent.add(&ann.path(name));
    }
    ann.environment
        .push(("SSH_AUTH_SOCK".into(), agent.socket.clone()));
    file.ssh = known;
    ann.edit(&file);
    let _ = ann
        .run(&["plan"])
        .exits(3)
        .says("does not let us in as root");
    agent.add(&lab.identity());
    ann.run(&["plan"]).exits(0);
    // A chosen key that only the agent can open.
    file.ssh = identity;
    ann.edit(&file);
    let _ = ann
        .run(&["plan"])
        .exits(3)
        .says("no ssh.passphrase is given");
}

#[test]
fn host_keys_are_always_checked() {
    let lab = lab("hostkeys", 2);
    let mut file = plain(&lab);
    let ann = Operator::new(&lab, &file);
    let known = ann.path("known");
    file.ssh = format!(
        "user = \"root\"\nidentity = \"{}\"\nknown_hosts = \"{}\"\n",
        lab.identity().display(),
        known.display()
    );
    ann.edit(&file);
    let all = std::fs::read_to_string(lab.known_hosts()).unwrap();
    let write = |text: &str| std::fs::write(&known, text).unwrap();
    let lines = |keep: &dyn Fn(&str) -> bool| -> String {
        let kept = all.lines().filter(|line| keep(line));
        kept.map(|line| format!("{line}\n")).collect()
    };

    write(&all);
    program("ssh-keygen", &["-q", "-H", "-f", known.to_str().unwrap()]);
    let hashed = std::fs::read_to_string(&known).unwrap();
    assert!(
        hashed.contains("|1|") && !hashed.contains("10.77"),
        "{hashed}"
    );
    ann.run(&["plan"]).exits(0);
    for kind in ["ecdsa-sha2-nistp256", "ssh-rsa"] {
        write(&lines(&|line| line.contains(kind)));
        ann.run(&["plan"]).exits(0);
    }

    // Revoked, though the line before knows it.
    let first = lines(&|line| line.starts_with("etcd-1,") && line.contains("ed25519"));
    let key = first.split_once(' ').unwrap().1.trim();
    write(&format!("{all}@revoked * {key}\n"));
    let line = all.lines().count() + 1;
    let revoked = ann.run(&["plan"]).exits(3).says("marks as revoked");
    let _ = revoked.says(&format!("{}:{line}", known.display()));

    // Changed: with the file and the line that says otherwise; the flag changes nothing about it.
    let second = lines(&|line| line.starts_with("etcd-2,"));
    let other = second
        .lines()
        .find(|line| line.contains("ed25519"))
        .unwrap();
    let other = other.split_once(' ').unwrap().1;
    let changed = format!("# a comment\n{second}10.77.0.11 {other}");
    write(&changed);
    for flags in [&["plan"][..], &["plan", "--accept-new-host-keys"]] {
        let plan = ann.run(flags).exits(3).says("etcd-1").says("HAS CHANGED");
        let _ = plan.says(&format!("{}:5", known.display()));
        assert_eq!(std::fs::read_to_string(&known).unwrap(), changed);
    }

    // Unknown: with the fingerprint that ssh-keygen prints; added only when asked.
    let public = ann.path("first.pub");
    std::fs::write(&public, key).unwrap();
    let printed = program("ssh-keygen", &["-l", "-f", public.to_str().unwrap()]);
    let fingerprint = printed.split(' ').nth(1).unwrap();
    assert!(fingerprint.starts_with("SHA256:"), "{printed}");
    let before = format!("# a comment\n{second}nonsense\n\tetcd-9 ssh-rsa AAAA");
    write(&before);
    let unknown = ann
        .run(&["plan"])
        .exits(3)
        .says("etcd-1")
        .says("is not known");
    let _ = unknown.says(fingerprint).says("--accept-new-host-keys");
    assert_eq!(std::fs::read_to_string(&known).unwrap(), before);
    ann.run(&["plan", "--accept-new-host-keys"]).exits(0);
    let after = std::fs::read_to_string(&known).unwrap();
    let added = after.strip_prefix(&format!("{before}\n"));
    let added = added.unwrap_or_else(|| panic!("not only appended to: {after}"));
    assert!(
        added.contains("10.77.0.11 ") && added.contains(key),
        "{added}"
    );
    assert_eq!(added.lines().count(), 1, "{added}");
    ann.run(&["plan"]).exits(0);
    assert_eq!(std::fs::read_to_string(&known).unwrap(), after);
}

#[test]
fn users_ports_and_jumps_differ_by_node() {
    let options = Options {
        hosts: 3,
        password_sudo: vec![3],
        ..Options::default()
    };
    let lab = lab_with("ways", options);
    let [first, _, third] = lab.hosts() else {
        panic!("three hosts")
    };
    first
        .run("systemd-run -q --unit=sshd-2222 /usr/sbin/sshd -D -p 2222")
        .unwrap();
    let mut file = plain(&lab);
    let mut ann = Operator::new(&lab, &file);
    let known = std::fs::read_to_string(lab.known_hosts()).unwrap();
    let other_port: String = known
        .lines()
        .filter(|line| line.starts_with("etcd-1,"))
        .map(|line| format!("[10.77.0.11]:2222 {}\n", line.split_once(' ').unwrap().1))
        .collect();
    std::fs::write(ann.path("known"), format!("{known}{other_port}")).unwrap();
    file.ssh = format!(
        "user = \"root\"\nidentity = \"{}\"\nknown_hosts = \"{}\"\n",
        lab.identity().display(),
        ann.path("known").display()
    );
    // Without sudo a user is not enough, and that is said of one who cannot write to /dev/null as well.
    file.nodes[0].2 = "user = \"ops\"\nport = 2222\n".into();
    ann.edit(&file);
    for mode in ["600", "666"] {
        first.run(&format!("chmod {mode} /dev/null")).unwrap();
        let _ = ann
            .run(&["plan"])
            .exits(3)
            .says("etcd-1")
            .says("is not root");
    }
    file.nodes[0].2.push_str("sudo = true\n");
    let third_way = "user = \"ops\"\nsudo = true\nsudo_password = { env = \"OPS_PASSWORD\" }\n";
    file.nodes[2].2 = third_way.into();
    ann.edit(&file);

    // A wrong password is told at once, and takes nothing of the script along.
    ann.environment
        .push(("OPS_PASSWORD".into(), "not-the-word".into()));
    let wrong = ann.run(&["plan"]).exits(3).within(15);
    let wrong = wrong.says("etcd-3: sudo does not accept the password");
    let journal = third.run("journalctl --no-pager -q").unwrap();
    assert!(journal.contains("sudo"), "{journal}");
    for secret in ["not-the-word", "q_large"] {
        assert!(!wrong.said().contains(secret), "{}", wrong.said());
        assert!(!journal.contains(secret), "{journal}");
    }
    ann.environment
        .push(("OPS_PASSWORD".into(), SUDO_PASSWORD.into()));
    ann.run(&["plan"]).exits(0);
    // The other port is the one that is used.
    first.partition(&Cut::Ports(vec![22])).unwrap();
    ann.run(&["plan"]).exits(0);
    first.heal().unwrap();

    // The operator reaches the third host only by way of the first.
    third.partition(&Cut::Hosts(vec![LAB_ADDRESS])).unwrap();
    let _ = ann
        .run(&["plan"])
        .exits(3)
        .says("etcd-3: no SSH session with");
    file.nodes[2].2 = format!("{third_way}jump = \"ops@10.77.0.11:2222\"\n");
    ann.edit(&file);
    ann.converge();
    ann.settled();
    let said = third.run("journalctl --no-pager -q -u ssh").unwrap();
    assert!(
        said.contains("Accepted publickey for ops from 10.77.0.11"),
        "{said}"
    );
    first.run("systemctl stop sshd-2222").unwrap();
    let _ = ann
        .run(&["plan"])
        .exits(3)
        .says("etcd-3: through the jump host");
}

/// OpenSSH takes the home directory from the user database, not from `$HOME`: the test's own is
/// laid over that one, for this process only.
#[test]
fn what_the_file_leaves_open_comes_from_openssh() {
    let lab = lab("openssh", 1);
    let mut file = plain(&lab);
    let ann = Operator::new(&lab, &file);
    file.ssh = "sudo = true\n".into();
    file.nodes[0].2 = "host = \"db-1\"\n".into();
    ann.edit(&file);
    std::fs::create_dir(ann.path(".ssh")).unwrap();
    let known = std::fs::read_to_string(lab.known_hosts()).unwrap();
    std::fs::write(
        ann.path(".ssh/known_hosts"),
        known.replace("etcd-1,10.77.0.11", "db.alias"),
    )
    .unwrap();
    std::fs::copy(lab.identity(), ann.path(".ssh/the-key")).unwrap();
    let config = "Host db-1\n  HostName 10.77.0.11\n  HostKeyAlias db.alias\n  User ops\n  IdentityFile ~/.ssh/the-key\n";
    std::fs::write(ann.path(".ssh/config"), config).unwrap();
    let at_home = "mount --bind \"$HOME\" \"$(getent passwd 0 | cut -d: -f6)\" && exec \"$@\"";
    let plan = |config: &str| {
        std::fs::write(ann.path(".ssh/config"), config).unwrap();
        let mut command = lab.command("unshare").unwrap();
        let arguments = [
            "--mount",
            "sh",
            "-c",
            at_home,
            "sh",
            env!("CARGO_BIN_EXE_quorate"),
            "plan",
        ];
        command.args(arguments);
        ann.run_command(command)
    };
    plan(config).exits(0);
    let _ = plan(&config.replace("10.77.0.11", "10.77.0.12"))
        .exits(3)
        .says("10.77.0.12");
    let _ = plan(&config.replace("db.alias", "db.other"))
        .exits(3)
        .says("is not known");
    let _ = plan(&format!("{config}  ProxyCommand nc %h %p\n"))
        .exits(3)
        .says("ProxyCommand");
    let _ = plan("Nonsense yes\n").exits(3).says("ssh -G db-1");
}
