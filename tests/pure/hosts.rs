//! What a plan makes of what is on a host.

use std::time::Duration;

use quorate::action::ActionKind;
use quorate::desired::model::{Install, KeyKind, TlsMode};
use quorate::observed::certificate::{CaFacts, FoundCertificate, parse_certificate};
use quorate::observed::host::{FileFact, FileStat};
use quorate::observed::{HostFacts, HostState, Observed};
use quorate::pki::{Authority, KeyProtection, NewAuthority};
use quorate::plan::fingerprint::sha256;
use quorate::plan::{Intent, Plan};
use time::OffsetDateTime;

use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::world::World;

fn packages(package_version: Option<&str>) -> Install {
    Install::Package {
        names: vec![],
        package_version: package_version.map(str::to_owned),
    }
}

/// A living cluster whose etcd was installed like this.
fn living(install: Install) -> World {
    let mut desired = desired(3);
    desired.etcd.install = install;
    let mut world = World::new(desired);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    let plan = plan_for(&world, CONVERGE, "n1");
    assert!(plan.is_empty() && plan.blocked.is_empty(), "{plan:?}");
    world
}

fn reasons(plan: &Plan) -> Vec<(&str, &str)> {
    plan.blocked
        .iter()
        .map(|blocked| {
            (
                blocked.node.as_deref().unwrap_or_default(),
                blocked.reason.as_str(),
            )
        })
        .collect()
}

/// Packages are replaced in place: on a member that lives that would be outside its restart, on all at once.
#[test]
fn packages_of_living_members_are_not_replaced() {
    let mut world = living(packages(Some("3.5.16-1")));
    world.desired_mut().etcd.install = packages(Some("3.5.16-2"));
    world.kill("etcd-3");
    let plan = plan_for(&world, CONVERGE, "n2");
    let reasons = reasons(&plan);
    assert!(plan.is_empty(), "{:?}", plan.actions);
    for node in ["etcd-1", "etcd-2", "etcd-3"] {
        assert!(
            reasons.iter().any(|(blocked, reason)| *blocked == node
                && reason.contains("etcd-server than the 3.5.16-1")),
            "{node}: {reasons:?}"
        );
    }
}

fn facts<'a>(observed: &'a mut Observed, node: &str) -> &'a mut HostFacts {
    match observed.hosts.get_mut(node) {
        Some(HostState::Known(facts)) => facts,
        other => panic!("{node} is not known: {other:?}"),
    }
}

fn plan_on(world: &World, observed: &Observed) -> Plan {
    let intent = Intent {
        goal: CONVERGE,
        nonce: "n2".into(),
    };
    quorate::plan::plan(
        &world.desired,
        observed,
        &intent,
        OffsetDateTime::UNIX_EPOCH,
    )
}

/// A new authority's certificate.
fn authority() -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let new = NewAuthority {
        cluster: "demo",
        key: KeyKind::EcdsaP256,
        validity: Duration::from_secs(86_400),
    };
    let now = OffsetDateTime::now_utc();
    let Ok(authority) =
        Authority::create_or_open(&dir.path().join("pki"), &new, &KeyProtection::Plain, now)
    else {
        panic!("no authority")
    };
    authority.certificate().pem().to_owned()
}

/// The member would trust whatever is in its file, and the first certificate alone does not tell.
#[test]
fn an_authority_that_somebody_appended_is_taken_out() {
    const PATH: &str = "/etc/etcd/tls/ca.crt";
    let mut desired = desired(1);
    desired.tls.peer = TlsMode::Managed;
    let world = World::new(desired);
    let ours = authority();
    for (text, differs) in [
        (ours.clone(), false),
        (format!("{ours}{}", authority()), true),
        (authority(), true),
    ] {
        let mut observed = world.observe();
        observed.operator.authority = Some(CaFacts::parse(&ours).expect("an authority"));
        let stat = FileStat {
            mode: 0o644,
            owner: "root".into(),
            group: "root".into(),
            sha256: Some(sha256(&text)),
            certificate: Some(
                parse_certificate(&text).map(|facts| FoundCertificate::new(facts, None)),
            ),
            ..FileStat::default()
        };
        facts(&mut observed, "etcd-1")
            .files
            .insert(PATH.into(), FileFact::File(stat));
        let plan = plan_on(&world, &observed);
        let written = plan.actions.iter().any(|action| match &action.kind {
            ActionKind::Configure(configure) => {
                configure.files.iter().any(|file| file.path == PATH)
            }
            _ => false,
        });
        assert!(!plan.is_empty() && written == differs, "{plan:?}");
    }
}
