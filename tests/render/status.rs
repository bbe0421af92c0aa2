//! The status of a cluster.

use quorate::etcd::id::MemberId;
use quorate::observed::certificate::{FoundCertificate, parse_certificate};
use quorate::observed::etcd::Member;
use quorate::observed::host::{FileFact, FileStat};
use quorate::observed::{EtcdState, HostFacts, HostState, HostUnknown, Observed};
use quorate::render::json::document;
use quorate::render::status::{MemberHealth, Role, StatusReport, text};

use crate::cluster::{self, NOW, answering, blank, known, observed};
use crate::golden::{WIDE, golden, in_every_style};

fn status(of: &Observed) -> StatusReport {
    let mut report = StatusReport::new(&cluster::desired(), of, NOW);
    report.tool_version = "1.2.3".into();
    report
}

fn edit(
    mut facts: HostFacts,
    edit: impl Fn(&mut quorate::observed::etcd::EtcdAnswer),
) -> HostState {
    if let EtcdState::Answered(answer) = &mut facts.etcd {
        edit(answer);
    }
    known(facts)
}

#[test]
fn healthy() {
    let report = status(&cluster::living());
    assert!(report.is_healthy());
    assert_eq!(report.members[1].role, Role::Leader);
    assert_eq!(report.health.tolerates, Some(1));
    in_every_style("status/healthy", |style| text(&report, style));
    golden("json/status.json", &document(&report));
}

#[test]
fn one_is_away_and_one_has_an_alarm() {
    let alarm = format!("memberID:{} alarm:NOSPACE ", 0xa102);
    let with_alarm = |number| {
        edit(answering(number), |answer| {
            answer.status.errors.push(alarm.clone());
            answer.status.db_size = 8 << 30;
            if answer.status.member_id.0 == 0xa102 {
                answer.status.errors.push("etcdserver: no space".into());
            }
        })
    };
    let away = HostUnknown::Unreachable("10.0.0.3 port 22 does not answer within 10 s".into());
    let report = status(&observed([
        ("etcd-1", with_alarm(1)),
        ("etcd-2", with_alarm(2)),
        ("etcd-3", HostState::Unknown(away)),
    ]));
    assert!(!report.is_healthy());
    assert_eq!(report.members[1].alarms, ["NOSPACE"]);
    assert_eq!(report.members[1].health, MemberHealth::Unhealthy);
    assert_eq!(report.members[2].health, MemberHealth::Unreachable);
    // Its ID is known from the others.
    assert_eq!(report.members[2].id.as_deref(), Some("a103"));
    assert_eq!(report.health.tolerates, None);
    in_every_style("status/trouble", |style| text(&report, style));
}

#[test]
fn a_membership_that_is_not_the_files() {
    let stranger = Member {
        id: MemberId(0xa104),
        name: String::new(),
        peer_urls: vec!["https://10.0.0.4:2380".into()],
        client_urls: vec![],
        is_learner: true,
    };
    let with = |number| {
        let stranger = stranger.clone();
        edit(answering(number), move |answer| {
            answer.members.as_mut().unwrap().push(stranger.clone());
        })
    };
    let report = status(&observed([
        ("etcd-1", with(1)),
        ("etcd-2", with(2)),
        ("etcd-3", with(3)),
    ]));
    assert!(!report.is_healthy());
    assert_eq!(report.members.len(), 4);
    assert_eq!(report.members[3].role, Role::Learner);
    assert_eq!(report.health.tolerates, Some(1));
    golden("status/stranger.txt", &text(&report, WIDE));
}

#[test]
fn another_peer_url_and_a_missing_member_are_named() {
    let with = |number| {
        edit(answering(number), |answer| {
            let members = answer.members.as_mut().unwrap();
            members.retain(|member| member.id.0 != 0xa103);
            members[0].peer_urls = vec!["https://10.9.9.9:2380".into()];
        })
    };
    let report = status(&observed([
        ("etcd-1", with(1)),
        ("etcd-2", with(2)),
        ("etcd-3", known(blank())),
    ]));
    assert!(!report.is_healthy());
    assert_eq!(
        report.problems,
        [
            "etcd-1 has the peer URL https://10.9.9.9:2380, the cluster file asks for https://10.0.0.1:2380",
            "etcd-3 is not a member of the cluster",
        ]
    );
    assert_eq!(
        report.members[2].error.as_deref(),
        Some("etcd is not set up")
    );
    assert_eq!(report.members[2].role, Role::None);
}

#[test]
fn nothing_is_there_yet() {
    let hosts = ["etcd-1", "etcd-2", "etcd-3"].map(|name| (name, known(blank())));
    let report = status(&observed(hosts));
    assert!(!report.is_healthy());
    golden("status/blank.txt", &text(&report, WIDE));
}

#[test]
fn a_host_that_was_not_observed_is_not_healthy() {
    let mut of = cluster::living();
    of.hosts.remove("etcd-2");
    let report = status(&of);
    assert!(!report.is_healthy());
    assert_eq!(report.members[1].health, MemberHealth::Unreachable);
}

#[test]
fn quotas_are_etcds_own_where_the_file_sets_none() {
    let mut desired = cluster::desired();
    for node in &mut desired.nodes {
        node.settings.remove("quota-backend-bytes");
    }
    let report = StatusReport::new(&desired, &cluster::living(), NOW);
    assert_eq!(report.members[0].db_quota, Some(2 << 30));
    for node in &mut desired.nodes {
        node.settings
            .insert("quota-backend-bytes".into(), "-1".into());
    }
    let report = StatusReport::new(&desired, &cluster::living(), NOW);
    assert_eq!(report.members[0].db_quota, None);
    assert_eq!(report.members[0].db_quota_used, None);
}

#[test]
fn days_of_the_first_certificate_to_expire() {
    let pem = |days: i64| {
        let mut params = rcgen::CertificateParams::new(["etcd-1".to_owned()]).unwrap();
        let at = |unix| time::OffsetDateTime::from_unix_timestamp(unix).unwrap();
        params.not_before = at(NOW - 400 * 86_400);
        params.not_after = at(NOW + days * 86_400 + 3600);
        params
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
            .pem()
    };
    let with = |number, days: [i64; 2]| {
        let mut facts = answering(number);
        for (name, days) in ["server", "peer"].iter().zip(days) {
            let certificate =
                parse_certificate(&pem(days)).map(|facts| FoundCertificate::new(facts, None));
            let stat = FileStat {
                certificate: Some(certificate),
                ..FileStat::default()
            };
            facts
                .files
                .insert(format!("/etc/etcd/tls/{name}.crt"), FileFact::File(stat));
        }
        known(facts)
    };
    let report = status(&observed([
        ("etcd-1", with(1, [300, 12])),
        ("etcd-2", with(2, [-2, 300])),
        ("etcd-3", with(3, [300, 0])),
    ]));
    let days: Vec<_> = report
        .members
        .iter()
        .map(|row| row.certificate_days_left)
        .collect();
    assert_eq!(days, [Some(12), Some(-2), Some(0)]);
    in_every_style("status/certificates", |style| text(&report, style));
}

#[test]
fn one_member_of_one_tolerates_nothing() {
    let mut desired = cluster::desired();
    desired.nodes.truncate(1);
    let only = edit(answering(1), |answer| {
        answer.status.leader = answer.status.member_id;
        answer.members.as_mut().unwrap().truncate(1);
    });
    let report = StatusReport::new(&desired, &observed([("etcd-1", only)]), NOW);
    assert!(report.is_healthy(), "{:?}", report.problems);
    assert_eq!(report.health.tolerates, Some(0));
}
