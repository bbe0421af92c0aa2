//! The hosts of a run, over connections that break.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::desired;
use quorate::observe::Fleet;
use quorate::observed::HostState;
use quorate::observed::host::HostUnknown;
use quorate::remote::Policy;
use quorate::secret::Resolver;

use crate::sshd::{LONG, Sshd, available};

fn fleet(sshd: &Sshd) -> Arc<Fleet> {
    let text = format!(
        "schema = 1\n[cluster]\nname = \"demo\"\n[etcd]\nversion = \"3.5.33\"\n\
         [etcd.install]\nmethod = \"package\"\n[ssh]\nuser = \"root\"\nport = {}\n\
         identity = {:?}\nknown_hosts = {:?}\n\
         [[node]]\nname = \"etcd-1\"\nip = \"127.0.0.1\"\n",
        sshd.port,
        sshd.path("id"),
        sshd.path("known_hosts"),
    );
    let (desired, _) = desired::parse(&text, "f.toml", Path::new("/"), None)
        .unwrap_or_else(|errors| panic!("{errors:?}"));
    let cache = sshd.path("cache");
    Arc::new(Fleet::new(
        Arc::new(desired),
        Arc::new(Resolver::new()),
        Policy::default(),
        None,
        cache,
        4,
    ))
}

/// While the lock is waited for, or an answer, a connection may end. What is begun then gets another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_ended_is_made_anew_before_anything_begins() {
    if !available("a_connection_that_has_ended_is_made_anew_before_anything_begins") {
        return;
    }
    let sshd = Sshd::start("");
    let fleet = fleet(&sshd);
    let works = async |host: quorate::remote::Host| host.script(b"true", LONG).await.is_ok();
    let end = async || {
        let host = fleet.host("etcd-1").await.unwrap();
        assert!(!host.is_closed());
        host.close();
        let begun = Instant::now();
        while !host.is_closed() {
            assert!(begun.elapsed() < Duration::from_secs(10), "not closed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    end().await;
    // In the middle of an action there is none.
    assert!(!works(fleet.host("etcd-1").await.unwrap()).await);
    assert!(works(fleet.host_anew("etcd-1").await.unwrap()).await);
    assert!(works(fleet.host("etcd-1").await.unwrap()).await);

    end().await;
    let names = BTreeSet::from(["etcd-1".to_owned()]);
    let states = fleet.observe(&names, None).await;
    assert!(
        !matches!(
            states["etcd-1"],
            HostState::Unknown(HostUnknown::Unreachable(_))
        ),
        "{states:?}"
    );
    assert!(works(fleet.host("etcd-1").await.unwrap()).await);
}
