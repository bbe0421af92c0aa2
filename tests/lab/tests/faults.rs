//! Each fault does what it says, and its undoing undoes it.

mod common;

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use common::{connects, ssh};
use quorate_lab::{Cut, Host, LAB_ADDRESS, Lab, PEER_PORT};

/// A connection from the lab's address to a host's sshd, after its greeting.
fn greeted(lab: &Lab, host: &Host) -> Option<TcpStream> {
    let address = SocketAddr::from((host.ip, 22));
    lab.inside(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        let mut greeting = [0; 64];
        let read = stream.read(&mut greeting).ok()?;
        greeting[..read].starts_with(b"SSH-").then_some(stream)
    })
    .unwrap()
}

#[test]
fn power_loss_is_abrupt_and_spares_the_disk() {
    let lab = common::lab("t-power", 1);
    let host = &lab.hosts()[0];
    host.write_file("/srv/kept/file", "content", 0o640).unwrap();
    host.run("touch /run/lost; systemd-run --unit=busy sleep 1000")
        .unwrap();
    let mut open = greeted(&lab, host).expect("sshd greets");

    host.power_off().unwrap();
    assert!(!host.is_on());
    assert!(host.exec("true").is_err());
    assert!(greeted(&lab, host).is_none());
    // The other end of a connection hears nothing: neither end nor reset.
    let silence = open.read(&mut [0; 1]).unwrap_err();
    assert_eq!(silence.kind(), ErrorKind::WouldBlock, "{silence}");
    // An operator can work on the disk of a host that is off.
    assert_eq!(host.read_file("/srv/kept/file").unwrap(), b"content");
    host.write_file("/srv/kept/file", "changed", 0o640).unwrap();

    host.power_on().unwrap();
    assert_eq!(
        ssh(
            &lab,
            "ops",
            host,
            "ls /run/lost 2>/dev/null; sudo stat -c %a /srv/kept/file; sudo cat /srv/kept/file"
        ),
        "640\nchanged"
    );
    assert!(!host.exec("systemctl is-active busy").unwrap().success());

    let id = host.run("cat /etc/machine-id").unwrap();
    host.reboot().unwrap();
    assert_eq!(host.run("cat /etc/machine-id").unwrap(), id);
    assert_eq!(host.run("ls /run/lost 2>/dev/null; true").unwrap(), "");
}

#[test]
fn a_frozen_host_keeps_connections_and_answers_nothing() {
    let lab = common::lab("t-freeze", 1);
    let host = &lab.hosts()[0];
    host.freeze().unwrap();
    assert!(greeted(&lab, host).is_none());
    assert!(host.exec("true").unwrap().success());
    host.thaw().unwrap();
    assert!(greeted(&lab, host).is_some());
    // Power can be taken from a host that hangs, and it comes back alive.
    host.freeze().unwrap();
    host.reboot().unwrap();
    assert!(greeted(&lab, host).is_some());
}

#[test]
fn partitions_cut_what_they_say_until_healed() {
    let lab = common::lab("t-cut", 3);
    let [first, second, third] = lab.hosts() else {
        panic!("three hosts were asked for")
    };
    first.partition(&Cut::All).unwrap();
    assert!(greeted(&lab, first).is_none());
    assert!(!connects(second, first, 22));
    assert!(!connects(first, second, 22));
    assert!(connects(first, first, 22));
    assert!(connects(second, third, 22));
    first.reboot().unwrap();
    assert!(!connects(second, first, 22));
    first.heal().unwrap();
    first.heal().unwrap();
    assert!(connects(second, first, 22));

    first.partition(&Cut::Hosts(vec![second.ip])).unwrap();
    assert!(!connects(second, first, 22));
    assert!(connects(third, first, 22));

    for host in [second, third] {
        host.run(&format!(
            "systemd-socket-activate --inetd -a -l {PEER_PORT} true >/dev/null 2>&1 & sleep 0.2"
        ))
        .unwrap();
    }
    assert!(connects(second, third, PEER_PORT));
    second.partition(&Cut::Ports(vec![PEER_PORT])).unwrap();
    assert!(!connects(second, third, PEER_PORT));
    assert!(!connects(third, second, PEER_PORT));
    assert!(connects(third, second, 22));
}

#[test]
fn one_way_partitions_let_the_other_way_through() {
    let lab = common::lab("t-oneway", 1);
    let host = &lab.hosts()[0];
    let socket = lab
        .inside(|| UdpSocket::bind((LAB_ADDRESS, 0)))
        .unwrap()
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let port = socket.local_addr().unwrap().port();
    let heard = || {
        host.run(&format!(
            "bash -c 'echo hello >/dev/udp/{LAB_ADDRESS}/{port}' || true"
        ))
        .unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    };
    assert!(heard());
    host.partition(&Cut::Outgoing).unwrap();
    assert!(!heard());
    host.partition(&Cut::Incoming).unwrap();
    assert!(heard());
    assert!(greeted(&lab, host).is_none());
}

#[test]
fn a_full_disk_refuses_writes_until_drained() {
    let lab = common::lab("t-full", 1);
    let host = &lab.hosts()[0];
    host.run("install -d -o ops -g ops -m 700 /var/lib/some")
        .unwrap();
    host.run("echo kept >/var/lib/some/file").unwrap();
    host.fill_disk("/var/lib/some").unwrap();
    let output = host.exec("cp /etc/hostname /var/lib/some/new").unwrap();
    assert!(output.stderr.contains("No space left"), "{output:?}");
    assert_eq!(
        host.run("stat -c '%U %G %a' /var/lib/some").unwrap(),
        "ops ops 700\n"
    );
    host.drain_disk("/var/lib/some").unwrap();
    assert_eq!(
        host.run("echo x >/var/lib/some/new; cat /var/lib/some/file")
            .unwrap(),
        "kept\n"
    );
}

#[test]
fn a_data_disk_is_a_file_system_of_its_own() {
    let lab = common::lab("t-disk", 1);
    let host = &lab.hosts()[0];
    let path = "/var/lib/data";
    host.add_data_disk(path, 32).unwrap();
    host.run(&format!("mountpoint -q {path} && echo kept >{path}/file"))
        .unwrap();
    let uuid = || {
        host.run(&format!(
            "blkid -o value -s UUID $(findmnt -n -o SOURCE --mountpoint {path})"
        ))
    };
    let first = uuid().unwrap();
    assert_eq!(first.trim().len(), 36, "{first}");

    host.reboot().unwrap();
    assert_eq!(host.run(&format!("cat {path}/file")).unwrap(), "kept\n");
    assert_eq!(uuid().unwrap(), first);

    host.fill_disk(path).unwrap();
    let output = host
        .exec(&format!("cat {path}/file; cp /etc/hostname {path}/new"))
        .unwrap();
    assert_eq!(output.stdout, "kept\n");
    assert!(output.stderr.contains("No space left"), "{output:?}");
    host.drain_disk(path).unwrap();
    host.run(&format!("echo x >{path}/new")).unwrap();

    host.power_off().unwrap();
    host.unmount_data_disk(path).unwrap();
    host.power_on().unwrap();
    assert_eq!(host.run(&format!("ls -A {path}")).unwrap(), "");
    assert!(
        !host
            .exec(&format!("mountpoint -q {path}"))
            .unwrap()
            .success()
    );
    host.mount_data_disk(path).unwrap();
    assert_eq!(host.run(&format!("cat {path}/file")).unwrap(), "kept\n");
    assert_eq!(uuid().unwrap(), first);
}
