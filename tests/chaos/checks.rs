//! The checks find what they are for: on real members, of which something was taken away.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use quorate_lab::{Host, Lab, Options, releases};
use quorate_writers::{Census, Endpoint, Finding, Load, Run, Writers, check};

fn lab(name: &str, hosts: usize) -> Lab {
    let options = Options {
        hosts,
        ..Options::default()
    };
    Lab::up(&format!("chaos-{name}-{}", std::process::id()), options)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Starts members by hand, all in one cluster.
fn members(hosts: &[Host]) -> Vec<Endpoint> {
    let release = releases::ensure(&releases::tested()).unwrap();
    let etcd = fs::read(release.dir.join("etcd")).unwrap();
    let peers: Vec<String> = hosts
        .iter()
        .map(|host| format!("{}=http://{}:2380", host.name, host.ip))
        .collect();
    for host in hosts {
        host.write_file("/opt/etcd", &etcd, 0o755).unwrap();
        host.run(&format!(
            "systemd-run -q --unit=member /opt/etcd --name {0} --data-dir /srv/etcd --initial-cluster {2} \
             --initial-advertise-peer-urls http://{1}:2380 --listen-peer-urls http://{1}:2380 \
             --advertise-client-urls http://{1}:2379 --listen-client-urls http://{1}:2379",
            host.name,
            host.ip,
            peers.join(","),
        ))
        .unwrap();
    }
    hosts
        .iter()
        .map(|host| Endpoint::plain(&host.name, &format!("http://{}:2379", host.ip)))
        .collect()
}

/// Writes to all of them for a while after the first acknowledgement of each, with something
/// happening in between.
fn write(lab: &Lab, endpoints: &[Endpoint], prefix: &str, meanwhile: impl FnOnce()) -> Run {
    let mut load = Load::new(prefix);
    load.pace = Duration::from_millis(1);
    let mut writers = Writers::start(lab, load).unwrap();
    for endpoint in endpoints {
        writers.add(endpoint).unwrap();
    }
    let begun = Instant::now();
    while writers.acknowledged().values().any(|count| *count < 50) {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{:?}",
            writers.acknowledged()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    meanwhile();
    std::thread::sleep(Duration::from_secs(1));
    writers.stop()
}

fn etcdctl(lab: &Lab, endpoint: &Endpoint, words: &[&str]) {
    let release = releases::find(&releases::tested()).unwrap();
    let mut command: Command = lab.command(release.dir.join("etcdctl")).unwrap();
    command
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", &endpoint.url);
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_is_taken_away_from_a_cluster_is_found() {
    let lab = lab("lost", 3);
    let members = members(lab.hosts());
    let mut run = write(&lab, &members, "/a/", || lab.hosts()[0].reboot().unwrap());
    assert!(run.counts().0 > 300, "{:?}", run.counts());
    // The first is gone with its reboot, and nobody started it again.
    assert!(
        run.gaps()["etcd-1"].length > Duration::from_secs(1),
        "{:?}",
        run.gaps()
    );
    let survivors = &members[1..];
    assert_eq!(check(&lab, survivors, &run).unwrap(), []);
    assert!(
        check(&lab, &members, &run).is_err(),
        "a member that is down is not checked"
    );

    // A key that was acknowledged.
    let census = Census::take(&lab, &survivors[0], ["/a/"]).unwrap();
    let key = run.key(1, acknowledged(&run, 1));
    etcdctl(&lab, &survivors[0], &["del", &key]);
    let lost = |member: &str| Finding::Lost {
        member: member.into(),
        count: 1,
        keys: vec![key.clone()],
    };
    assert_eq!(
        check(&lab, survivors, &run).unwrap(),
        [lost("etcd-2"), lost("etcd-3")]
    );
    let now = Census::take(&lab, &survivors[0], ["/a/"]).unwrap();
    assert_eq!(now.fewer_than(&census).len(), 1);
    assert!(census.fewer_than(&now).is_empty());
    etcdctl(&lab, &survivors[0], &["put", &key, ""]);
    assert_eq!(check(&lab, survivors, &run).unwrap(), []);

    // One that nobody wrote.
    etcdctl(&lab, &survivors[0], &["put", "/a/k/001/99999999", ""]);
    let findings = check(&lab, survivors, &run).unwrap();
    assert!(
        matches!(findings[..], [Finding::Invented { count: 1, .. }, _]),
        "{findings:?}"
    );
    etcdctl(&lab, &survivors[0], &["del", "/a/k/001/99999999"]);

    // A register that goes back to what it was before.
    etcdctl(&lab, &survivors[0], &["del", "/a/r/0"]);
    let findings = check(&lab, survivors, &run).unwrap();
    assert!(
        matches!(findings[..], [Finding::NotLinearizable(_)]),
        "{findings:?}"
    );
    run.operations
        .iter_mut()
        .for_each(|all| all.retain(|op| op.client == 9));
    assert!(
        !check(&lab, survivors, &run).unwrap().is_empty(),
        "keys that no operation wrote"
    );
}

fn acknowledged(run: &Run, client: usize) -> u64 {
    let mut numbers =
        run.operations[client]
            .iter()
            .filter_map(|operation| match operation.request {
                quorate_writers::Request::Insert { number }
                    if operation.is_acknowledged_write() =>
                {
                    Some(number)
                }
                _ => None,
            });
    numbers.next().expect("an acknowledged insert")
}

/// Two clusters that take themselves for one: everything is wrong.
#[test]
fn a_split_brain_is_found() {
    let lab = lab("split", 2);
    let mut both = members(&lab.hosts()[..1]);
    both.extend(members(&lab.hosts()[1..]));
    let run = write(&lab, &both, "/b/", || {
        // One of them more than the other.
        (0..9).for_each(|_| etcdctl(&lab, &both[1], &["put", "/other", ""]));
    });
    let findings = check(&lab, &both, &run).unwrap();
    let found = |what: fn(&Finding) -> bool| findings.iter().any(what);
    assert!(
        found(|finding| matches!(finding, Finding::Lost { .. })),
        "{findings:?}"
    );
    assert!(
        found(|finding| matches!(finding, Finding::Diverged { .. })),
        "{findings:?}"
    );
    assert!(
        found(|finding| matches!(finding, Finding::NotLinearizable(_))),
        "{findings:?}"
    );
}
