//! Where etcd comes from: an archive, the distribution, or the host itself.

use std::fs;

use quorate_lab::{has_rpm, releases};
use sha2::{Digest, Sha256};

use super::harness::{Scene, blocked};

#[test]
fn archives_by_path_and_digest() {
    let Some(mut scene) = Scene::up("archive", 1) else {
        return;
    };
    let release = releases::find(&scene.version).unwrap();
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
    let release = releases::find(&scene.version).unwrap();
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
    let before = scene.processes();
    scene.host(2).run("apt-mark unhold etcd-server").unwrap();
    scene.plan_is(&["etcd-2.prepare", "etcd-2.record"]);
    scene.apply();
    scene.is_converged();
    assert_eq!(
        scene.host(2).run("apt-mark showhold").unwrap(),
        "etcd-client\netcd-server\n"
    );
    assert_eq!(scene.processes(), before);
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

#[test]
fn packages_by_dnf() {
    if !has_rpm() {
        eprintln!("SKIPPED packages_by_dnf: the lab's cache has no dnf; `lab setup` says why");
        return;
    }
    let Some(mut scene) = Scene::up("dnf", 1) else {
        return;
    };
    let host = scene.host(1).clone();
    host.live_by_dnf().unwrap();
    let release = releases::find("3.5.16").unwrap();
    host.add_rpm_repository(&release, &["3.5.16", "3.5.17"])
        .unwrap();
    // What a host has beside its own package manager is not what it lives by.
    host.run("command -v apt-get dpkg-query").unwrap();
    let installed = || {
        let found = host.run("rpm -qa --qf '%{NAME} %{VERSION}\\n'").unwrap();
        found.replace("lab-base 1\n", "")
    };
    let nothing_happened = || {
        assert_eq!(installed(), "");
        let masked = host.exec("test -L /run/systemd/system/etcd.service");
        assert!(!masked.unwrap().success(), "the unit is still masked");
    };

    // What could not be locked is not installed.
    let plugin = "/usr/lib/python3/dist-packages/dnf-plugins/versionlock.py";
    scene.install = "method = \"package\"\n".into();
    host.run(&format!("mv {plugin} {plugin}.off")).unwrap();
    let run = scene.run(&["apply", "--auto-approve"]).exits(1);
    run.says("etcd-1").says("dnf-command(versionlock)");
    nothing_happened();
    host.run(&format!("mv {plugin}.off {plugin}")).unwrap();

    scene.version = "3.5.15".into();
    let run = scene.run(&["apply", "--auto-approve"]).exits(1);
    run.says("Unable to find a match: etcd-3.5.15")
        .says("dnf list --showduplicates etcd");
    nothing_happened();

    // The repository has a newer one.
    scene.version = "3.5.16".into();
    scene.apply();
    scene.is_converged();
    scene.run(&["status"]).exits(0);
    assert_eq!(installed(), "etcd 3.5.16\n");
    let starts = host
        .run("journalctl -q --no-pager -o cat -u etcd | grep -c '^Started ' || :")
        .unwrap();
    assert_eq!(starts.trim(), "1", "starts of etcd");
    host.run("test ! -e /var/lib/etcd/default.etcd").unwrap();
    let exe = host
        .run("readlink /proc/$(systemctl show -p MainPID --value etcd)/exe")
        .unwrap();
    assert_eq!(exe.trim(), "/usr/bin/etcd");

    let before = scene.processes();
    host.run("dnf -y upgrade").unwrap();
    assert_eq!(installed(), "etcd 3.5.16\n", "upgraded behind our back");
    assert_eq!(scene.processes(), before);
    scene.install = "method = \"package\"\npackage_version = \"1:3.5.16-1.lab\"\n".into();
    scene.is_converged();
    host.run("dnf -q versionlock delete etcd").unwrap();
    scene.apply();
    scene.is_converged();
    let locked = host.run("dnf -q versionlock list").unwrap();
    assert!(locked.contains("etcd-1:3.5.16-1.lab"), "{locked}");
    assert_eq!(scene.processes(), before);

    scene.destroy();
    nothing_happened();
    assert_eq!(host.run("dnf -q versionlock list").unwrap(), "");
    let left = host.run("ls -A /etc/etcd 2>/dev/null || :").unwrap();
    assert_eq!(left, "", "configuration is left");
    assert!(!scene.has_marker(&host));
    scene.apply();
    scene.is_converged();
    assert_eq!(installed(), "etcd 3.5.16\n");

    // Without us the package would have started a member of its own.
    scene.destroy();
    host.run(
        "dnf -y install etcd && systemctl is-active etcd && test -d /var/lib/etcd/default.etcd",
    )
    .unwrap();
}
