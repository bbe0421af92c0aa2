//! Writers that go on while something is done to the cluster: one for each endpoint.

use std::time::Duration;

use quorate_writers::{Census, Endpoint, Gap, Load, Tls, Writers, check};

use super::harness::{Scene, eventually};

/// From one request of a client to its next: what is looked for is a loss, and an outage of the cluster.
const PACE: Duration = Duration::from_millis(50);
/// An election, and a busy machine. A quorum that is gone comes back with the next step at the earliest.
const GAP: Duration = Duration::from_secs(10);
/// A plan and an apply are refused in it, and hosts boot.
const OUTAGE: Duration = Duration::from_secs(1);

/// Writes at every endpoint all the time while `work` goes on. Every write that was acknowledged must be on every member
/// afterwards, those of earlier times as well; all members must have the same data and take writes; and somebody's
/// writes must have been acknowledged all the time.
pub fn while_writing(scene: &Scene, prefix: &str, work: impl FnOnce()) {
    let gap = writing(scene, prefix, work);
    assert!(
        gap.length < GAP,
        "{prefix}: no write was acknowledged for {gap}"
    );
}

/// The same where the quorum is gone for a while, and with it whoever acknowledges.
pub fn through_an_outage(scene: &Scene, prefix: &str, work: impl FnOnce()) {
    let gap = writing(scene, prefix, work);
    assert!(gap.length > OUTAGE, "{prefix}: there was none: {gap}");
}

fn writing(scene: &Scene, prefix: &str, work: impl FnOnce()) -> Gap {
    let mut load = Load::new(prefix);
    load.pace = PACE;
    let mut writers = Writers::start(&scene.lab, load).unwrap();
    // Those of hosts that are no members yet, or no longer, are in vain.
    for host in scene.hosts() {
        writers.add(&endpoint(scene, &host.name)).unwrap();
    }
    eventually("a write is acknowledged", || {
        writers.acknowledged().values().any(|count| *count > 0)
    });
    work();
    let members: Vec<Endpoint> = scene
        .named()
        .iter()
        .map(|host| endpoint(scene, &host.name))
        .collect();
    let before = writers.acknowledged();
    eventually("every member takes writes", || {
        let now = writers.acknowledged();
        members
            .iter()
            .all(|member| now[&member.name] > before[&member.name])
    });
    let run = writers.stop();
    let findings = check(&scene.lab, &members, &run).unwrap();
    assert!(findings.is_empty(), "{prefix}: {findings:#?}");

    let mut census = scene.census.borrow_mut();
    let prefixes = census.0.keys().map(String::as_str).chain([prefix]);
    let now = Census::take(&scene.lab, &members[0], prefixes).unwrap();
    let gone = now.fewer_than(&census);
    assert!(gone.is_empty(), "{prefix}: keys are gone: {gone:?}");
    *census = now;
    run.longest_gap()
}

fn endpoint(scene: &Scene, host: &str) -> Endpoint {
    let of = |other: &&quorate_lab::Host| other.name == host;
    let url = scene.endpoint(scene.lab.hosts().iter().find(of).unwrap());
    let mut endpoint = Endpoint::plain(host, &url);
    if scene.tls {
        let [ca, certificate, key] = ["pki/ca.crt", "pki/clients/root.crt", "pki/clients/root.key"]
            .map(|name| scene.path(name));
        endpoint.tls = Some(Tls::read(&ca, &certificate, &key).unwrap());
    }
    endpoint
}
