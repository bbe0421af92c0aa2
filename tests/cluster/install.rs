//! Where etcd comes from: an archive, the distribution, or the host itself.

use std::fs;

use quorate_lab::releases;
use sha2::{Digest, Sha256};

use super::harness::{Scene, blocked};

#[test]
fn archives_by_path_and_digest() {
    let Some(mut scene) = Scene::up("archive", 1) else {
        return;
    };
    let release = releases::find("3.5.16").unwrap();
    let url = scene.install.clone();
    let digest = hex::encode(Sha256::digest(fs::read(&release.tarball).unwrap()));

    // A wrong digest stops everything before any host is touched, by URL and by path.
    let wrong = "0123456789abcdef".repeat(4);
    let path = format!("method = \"archive\"\narchive = {:?}\n", release.tarball);
    for place in [&url, &path] {
        scene.install = format!("{place}sha256 = \"{wrong}\"\n");
        let run = scene.run(&["apply", "--auto-approve"]).exits(3);
        assert!(
            run.stdout.contains(&digest) || run.stderr.contains(&digest),
            "the digest that was found is not named\n{run}"
        );
        for trace in ["/etc/quorate", "/etc/etcd", "/usr/local/bin/etcd"] {
            let there = scene.host(1).exec(&format!("test -e {trace}")).unwrap();
            assert!(!there.success(), "{trace} is there\n{run}");
        }
    }

    // A relative path starts at the file, wherever the program runs.
    fs::copy(&release.tarball, scene.path("etcd.tar.gz")).unwrap();
    scene.install =
        format!("method = \"archive\"\narchive = \"etcd.tar.gz\"\nsha256 = \"{digest}\"\n");
    scene.apply();
    scene.is_converged();
    assert_eq!(scene.marker(scene.host(1)).archive, Some(digest));
    // Where the same archive comes from is no difference.
    scene.install = url;
    scene.is_converged();
}

#[test]
fn binaries_that_are_there_already() {
    let Some(mut scene) = Scene::up("present", 1) else {
        return;
    };
    let release = releases::find("3.5.16").unwrap();
    scene.install = "method = \"present\"\nbin_dir = \"/opt/etcd\"\n".into();
    let run = scene.run(&["plan", "--json"]).exits(3);
    let reasons = blocked(&run.json());
    assert!(
        matches!(&reasons[..], [(node, reason)] if node == "etcd-1" && reason.contains("/opt/etcd")),
        "{run}"
    );
    for name in ["etcd", "etcdctl"] {
        let binary = fs::read(release.dir.join(name)).unwrap();
        scene
            .host(1)
            .write_file(&format!("/opt/etcd/{name}"), binary, 0o755)
            .unwrap();
    }
    scene.apply();
    scene.is_converged();
    let exe = scene
        .host(1)
        .run("readlink /proc/$(systemctl show -p MainPID --value etcd)/exe")
        .unwrap();
    assert_eq!(exe.trim(), "/opt/etcd/etcd");
    // What is not ours stays.
    scene.destroy();
    scene.host(1).run("test -x /opt/etcd/etcd").unwrap();
}

#[test]
fn packages_of_the_distribution() {
    let Some(mut scene) = Scene::up("packages", 3) else {
        return;
    };
    for host in scene.hosts() {
        let versions = host.add_package_repository().unwrap();
        assert!(
            versions.iter().any(|version| version.starts_with("3.4.23")),
            "{versions:?}"
        );
        // Without precautions the package would start a member of its own.
        let scripts = host
            .run("cd /tmp && dpkg-deb --control /var/lib/lab-packages/etcd-server_3.4.23*.deb control && cat control/postinst && rm -r control")
            .unwrap();
        assert!(scripts.contains("deb-systemd-invoke"), "{scripts}");
    }
    scene.version = "3.4.23".into();
    scene.install = "method = \"package\"\n".into();
    scene.apply();
    scene.is_converged();
    scene.run(&["status"]).exits(0);
    for host in scene.hosts() {
        let held = host.run("apt-mark showhold").unwrap();
        assert_eq!(held, "etcd-client\netcd-server\n", "{}", host.name);
        let default = host
            .run("find /var/lib/etcd/default -type f 2>/dev/null || :")
            .unwrap();
        assert_eq!(default, "", "{}: a default member had data", host.name);
        let starts = host
            .run("journalctl -q --no-pager -o cat -u etcd | grep -c '^Started ' || :")
            .unwrap();
        assert_eq!(starts.trim(), "1", "{}: starts of etcd", host.name);
        let trap = host.exec("test -e /usr/sbin/policy-rc.d").unwrap();
        assert!(!trap.success(), "{}: policy-rc.d is left", host.name);
        let exe = host
            .run("readlink /proc/$(systemctl show -p MainPID --value etcd)/exe")
            .unwrap();
        assert_eq!(exe.trim(), "/usr/bin/etcd", "{}", host.name);
    }
    scene.destroy();
    for host in scene.hosts() {
        let left = host
            .run("dpkg-query -W -f '${db:Status-Status} ${Package}\\n' 'etcd*' 2>/dev/null | grep '^installed' || :")
            .unwrap();
        assert_eq!(left, "", "{}: packages are left", host.name);
        assert_eq!(host.run("apt-mark showhold").unwrap(), "", "{}", host.name);
        assert!(!scene.has_marker(host), "{}", host.name);
    }
    // And once more on what a removed package leaves.
    scene.apply();
    scene.is_converged();
}
