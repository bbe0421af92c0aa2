//! A WAL on a disk of its own.

use super::harness::Scene;

#[test]
fn a_wal_outside_the_data_directory() {
    let Some(mut scene) = Scene::up("wal-dir", 1) else {
        return;
    };
    scene.wal_dir = Some("/srv/nvme/etcd".into());
    scene.apply();
    scene.is_converged();
    let host = scene.host(1);
    host.run("ls /srv/nvme/etcd/wal/*.wal").unwrap();
    let mode = host.run("stat -c '%a %U:%G' /srv/nvme/etcd").unwrap();
    assert_eq!(mode.trim(), "700 etcd:etcd");
    // It comes back with its WAL, and only with it.
    host.run("systemctl stop etcd && mv /srv/nvme/etcd/wal /srv/nvme/elsewhere")
        .unwrap();
    let start = host.exec("systemctl start etcd").unwrap();
    assert!(!start.success(), "etcd started without its WAL: {start:?}");
    host.run("mv /srv/nvme/elsewhere /srv/nvme/etcd/wal && systemctl start etcd")
        .unwrap();
    scene.is_converged();
    scene.destroy();
    let left = host.exec("test -e /srv/nvme/etcd/wal").unwrap();
    assert!(!left.success(), "the WAL was not set aside");
}
