//! What a plan makes of what is on a host.

use std::time::Duration;

use quorate::action::destroy::Clean;
use quorate::action::install::Source;
use quorate::action::{Action, ActionKind, Kind, Operation, RunFacts};
use quorate::desired::model::{Install, KeyKind, TlsMode, VersionSpec};
use quorate::observed::certificate::{CaFacts, FoundCertificate, parse_certificate};
use quorate::observed::host::{FileFact, FileStat, PackageManager};
use quorate::observed::{HostFacts, HostState, Observed};
use quorate::pki::{Authority, KeyProtection, NewAuthority};
use quorate::plan::fingerprint::sha256;
use quorate::plan::{Goal, Intent, Plan};
use quorate::runtime::{POLICY, POLICY_PATH};
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
    form(World::new(desired))
}

/// A living cluster of members of a version that is on their hosts already.
fn present(version: VersionSpec) -> World {
    let mut desired = desired(3);
    desired.etcd.install = Install::Present {
        bin_dir: "/opt/etcd".into(),
    };
    desired.etcd.version = version;
    let mut world = World::new(desired);
    for node in ["etcd-1", "etcd-2", "etcd-3"] {
        world.put(node, "/opt/etcd/etcd", 0o755, "etcd 3.5.16-1");
    }
    form(world)
}

fn form(mut world: World) -> World {
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

/// One package of several, and the owner of a binary, are looked at like the rest.
#[test]
fn what_is_missing_is_installed_and_nothing_else() {
    let mut world = living(packages(None));
    let host = world.hosts.get_mut("etcd-2").expect("a host");
    host.packages.remove("etcd-client");
    host.held.remove("etcd-client");
    let plan = plan_for(&world, CONVERGE, "n2");
    let ids: Vec<&str> = plan.actions.iter().map(|action| &*action.id.0).collect();
    assert_eq!(ids, ["node.etcd-2.install", "node.etcd-2.record"]);
    let ActionKind::Install(install) = &plan.actions[0].kind else {
        panic!("{plan:?}")
    };
    assert!(
        matches!(&install.source, Source::Packages { packages, .. } if packages.len() == 1),
        "{install:?}"
    );
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    assert!(plan_for(&world, CONVERGE, "n3").is_empty());

    // Without the package the binary is not the distribution's.
    let host = world.hosts.get_mut("etcd-2").expect("a host");
    host.packages.clear();
    let plan = plan_for(&world, CONVERGE, "n4");
    assert!(plan.is_empty(), "{:?}", plan.actions);
    assert!(reasons(&plan)[0].1.contains("is of no package"));

    let mut world = form(World::new(desired(3)));
    let host = world.hosts.get_mut("etcd-2").expect("a host");
    let binary = host
        .files
        .get_mut("/usr/local/bin/etcd")
        .expect("the binary");
    binary.owner = "etcd".into();
    let plan = plan_for(&world, CONVERGE, "n2");
    let ids: Vec<&str> = plan.actions.iter().map(|action| &*action.id.0).collect();
    assert_eq!(ids, ["node.etcd-2.install", "node.etcd-2.record"]);
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    assert!(plan_for(&world, CONVERGE, "n3").is_empty());
}

/// A hold that is lifted, or was never there, is drift: the distribution would upgrade a member behind our back.
#[test]
fn packages_are_held_and_given_back() {
    let mut world = living(packages(None));
    let host = world.hosts.get_mut("etcd-2").expect("a host");
    assert!(host.held.remove("etcd-server"), "{:?}", host.held);
    let plan = plan_for(&world, CONVERGE, "n2");
    let ids: Vec<&str> = plan
        .actions
        .iter()
        .map(|action| action.id.0.as_str())
        .collect();
    assert_eq!(ids, ["node.etcd-2.prepare", "node.etcd-2.record"]);
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    assert!(plan_for(&world, CONVERGE, "n3").is_empty());

    // What was there before is held as well, and stays when the rest goes.
    let mut desired = desired(3);
    desired.etcd.install = packages(None);
    let mut world = World::new(desired);
    world.put("etcd-1", "/usr/bin/etcd", 0o755, "etcd 3.5.16");
    let host = world.hosts.get_mut("etcd-1").expect("a host");
    for name in ["etcd-server", "etcd-client"] {
        host.packages.insert(name.into(), "3.5.16-1".into());
    }
    host.held.insert("etcd-client".into());
    let world = form(world);
    let held = |node: &str| world.hosts[node].held.iter().cloned().collect::<Vec<_>>();
    assert_eq!(held("etcd-1"), ["etcd-client", "etcd-server"]);
    let plan = plan_for(&world, Goal::Destroy { purge_data: false }, "n2");
    for action in &plan.actions {
        if let ActionKind::Clean(clean) = &action.kind {
            let node = action.node.as_deref();
            let (mine, theirs): (&[&str], &[&str]) = match node {
                Some("etcd-1") => (&[], &["etcd-server"]),
                _ => (&["etcd-server", "etcd-client"], &[]),
            };
            assert_eq!(clean.packages, mine, "{node:?}");
            assert_eq!(clean.held, theirs, "{node:?}");
        }
    }
}

/// It may set anything: the user, the command, a limit. What the distribution gives every service is none of the unit's.
#[test]
fn drop_ins_of_others_are_always_told() {
    let world = living(packages(None));
    let other = "/etc/systemd/system/etcd.service.d/override.conf";
    let general = "/usr/lib/systemd/system/service.d/10-timeout-abort.conf";
    let mut observed = world.observe();
    facts(&mut observed, "etcd-2").unit.drop_ins = vec![general.into(), other.into()];
    let plan = plan_on(&world, &observed);
    assert!(plan.is_empty(), "{:?}", plan.actions);
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert!(plan.warnings[0].starts_with(&format!("etcd-2: {other} ")));
}

/// What a drop-in sets explains what runs only where the process was started with the files that are there.
#[test]
fn a_drop_in_does_not_hide_a_restart_that_is_due() {
    let drop_ins = vec!["/etc/systemd/system/etcd.service.d/override.conf".to_owned()];
    let mut before = living(packages(None));
    for node in &mut before.desired_mut().nodes {
        node.settings.insert("snapshot-count".into(), "5000".into());
    }
    let whole = plan_for(&before, CONVERGE, "n2");
    let mut due = 0;
    for cut in 0.. {
        let mut world = before.clone();
        let complete = run(&mut world, &whole, &mut |_| 0, cut);
        let mut observed = world.observe();
        for node in ["etcd-1", "etcd-2", "etcd-3"] {
            let unit = &mut facts(&mut observed, node).unit;
            unit.drop_ins.clone_from(&drop_ins);
            let environment = unit.environment.as_mut();
            environment.map(|found| found.insert("ETCD_LOG_LEVEL".into(), "debug".into()));
        }
        let plan = plan_on(&world, &observed);
        for node in ["etcd-1", "etcd-2", "etcd-3"] {
            let host = &world.hosts[node];
            let process = host.process.as_ref().expect("a process");
            let wanted = Some("5000");
            let running = process.environment.get("ETCD_SNAPSHOT_COUNT");
            let restarts = plan.actions.iter().any(|action| {
                action.node.as_deref() == Some(node)
                    && matches!(action.kind, ActionKind::Restart(_))
            });
            let is_done = running.map(String::as_str) == wanted;
            assert_eq!(restarts, !is_done, "{node} after {cut}: {:?}", plan.actions);
            due += usize::from(!is_done);
        }
        if complete {
            break;
        }
    }
    assert!(due > 0);
}

/// rpm keeps a configuration file that is there and changed; dpkg must find the unit where the package had it.
#[test]
fn ours_goes_before_rpm_can_keep_it() {
    let world = living(packages(None));
    for manager in [PackageManager::Dnf, PackageManager::Apt] {
        let plan = plan_for(&world, Goal::Destroy { purge_data: false }, "n2");
        let cleans = plan.actions.into_iter().filter_map(|action| {
            let ActionKind::Clean(clean) = action.kind else {
                return None;
            };
            Some(Clean { manager, ..clean })
        });
        let cleans: Vec<Clean> = cleans.collect();
        assert_eq!(cleans.len(), 3);
        for clean in cleans {
            let operations = clean.operations(&RunFacts::default());
            let place = |wanted: &dyn Fn(&Operation) -> bool| operations.iter().position(wanted);
            let removal = |path: &'static str| {
                move |operation: &Operation| *operation == Operation::RemoveFile(path.into())
            };
            let packages = place(&|o| matches!(o, Operation::RemovePackages { .. }));
            let config = place(&removal("/etc/etcd/etcd.conf"));
            let unit = place(&removal("/etc/systemd/system/etcd.service"));
            assert!(packages.is_some() && config.is_some() && packages < unit);
            assert_eq!(config < packages, manager == PackageManager::Dnf);
        }
    }
}

/// A restart comes up with whatever binary is there then: another patch at most, and never an older one.
#[test]
fn nobody_is_restarted_onto_a_binary_of_another_minor() {
    let exact = || VersionSpec::Exact("3.5.16".parse().expect("a version"));
    let range = || VersionSpec::Constraint(">=3.5.10, <3.7".parse().expect("a constraint"));
    for (version, found, restarts) in [
        (range(), "3.5.16-2", true),
        (range(), "3.5.17-1", true),
        (range(), "3.5.15-1", false),
        (range(), "3.6.4-1", false),
        (range(), "3.7.0-1", false),
        (range(), "gibberish", false),
        (exact(), "3.5.16-2", true),
        (exact(), "3.5.17-1", false),
        (exact(), "gibberish", false),
    ] {
        let mut world = present(version);
        for node in ["etcd-1", "etcd-2", "etcd-3"] {
            world.put(node, "/opt/etcd/etcd", 0o755, &format!("etcd {found}"));
        }
        let plan = plan_for(&world, CONVERGE, "n2");
        if restarts {
            assert!(plan.blocked.is_empty(), "{found}: {:?}", plan.blocked);
            assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
            assert!(plan_for(&world, CONVERGE, "n3").is_empty());
        } else {
            assert!(plan.is_empty(), "{found}: {:?}", plan.actions);
            assert_eq!(plan.blocked.len(), 3, "{found}: {:?}", plan.blocked);
        }
    }
    // One that is down would come up with it just the same.
    for (found, starts) in [("3.5.17-1", true), ("3.6.4-1", false)] {
        let mut world = present(range());
        world.kill("etcd-2");
        world.put("etcd-2", "/opt/etcd/etcd", 0o755, &format!("etcd {found}"));
        let plan = plan_for(&world, CONVERGE, "n2");
        assert_eq!(
            (plan.is_empty(), plan.blocked.is_empty()),
            (!starts, starts),
            "{found}: {plan:?}"
        );
    }
    // The distribution's binary is no other.
    let mut world = living(packages(None));
    world.put("etcd-2", "/usr/bin/etcd", 0o755, "etcd 3.6.4");
    let plan = plan_for(&world, CONVERGE, "n2");
    assert!(plan.is_empty(), "{:?}", plan.actions);
    assert!(
        reasons(&plan)[0].1.contains("is version 3.6.4"),
        "{:?}",
        plan.blocked
    );
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
        world.desired(),
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

/// What one member lists may be old: it is asked for linearizably before a host is stopped for good, or its data moved.
#[test]
fn a_host_is_left_alone_as_long_as_its_member_is_listed() {
    use quorate::action::destroy::{SetAside, Stop};
    use quorate::etcd::id::MemberId;
    use quorate::observed::etcd::Member;
    let member = Some(MemberId(7));
    let stop = Stop {
        unit: "etcd.service".into(),
        member,
    };
    let set_aside = SetAside {
        moves: vec![],
        purge: vec![],
        member,
    };
    let listed = Member {
        id: MemberId(7),
        name: "etcd-7".into(),
        peer_urls: vec![],
        client_urls: vec![],
        is_learner: false,
    };
    let with = |members: Vec<Member>| RunFacts {
        members,
        ..RunFacts::default()
    };
    for kind in [&stop as &dyn Kind, &set_aside] {
        assert!(kind.reads_membership());
        assert!(kind.refuses(&with(vec![listed.clone()])).is_some());
        assert!(kind.refuses(&with(vec![])).is_none());
    }
}

/// What the manager's environment or a default of systemd sets comes back with every start.
#[test]
fn what_no_restart_mends_is_told_and_no_reason_for_one() {
    let world = living(packages(None));
    let mut observed = world.observe();
    let unit = &mut facts(&mut observed, "etcd-2").unit;
    let environment = unit.environment.as_mut().expect("a process");
    environment.insert("ETCD_LOG_LEVEL".into(), "debug".into());
    let plan = plan_on(&world, &observed);
    assert!(plan.is_empty(), "{:?}", plan.actions);
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("ETCD_LOG_LEVEL=debug"));
    // In the second of the start nobody knows what came first.
    let facts = facts(&mut observed, "etcd-2");
    let written = facts.files.get("/etc/etcd/etcd.conf");
    let written = written.and_then(FileFact::file).expect("a file").changed_at;
    facts.unit.started_at = Some(written);
    let plan = plan_on(&world, &observed);
    assert!(!plan.is_empty() && plan.warnings.is_empty(), "{plan:?}");
}

/// Whoever reinstalls a host gives its user another number, and whoever brings data back does so as root.
#[test]
fn data_that_belongs_to_somebody_else_is_given_to_its_member() {
    let mut world = living(packages(Some("3.5.16-1")));
    world.kill("etcd-3");
    let trees = ["/var/lib/etcd/member", "/var/lib/etcd/member/wal"];
    for reinstalled in [true, false] {
        let mut observed = world.observe();
        let host = facts(&mut observed, "etcd-3");
        if reinstalled {
            host.user = false;
        } else {
            let strangers = &mut host.whereabouts.strangers;
            strangers.insert(trees[0].into(), "root (0)".into());
        }
        let plan = plan_on(&world, &observed);
        let of_node = |verb: &str| {
            let id = format!("node.etcd-3.{verb}");
            plan.actions.iter().find(move |action| action.id.0 == id)
        };
        let (prepare, start) = (of_node("prepare").unwrap(), of_node("start").unwrap());
        assert!(start.needs.contains(&prepare.id));
        let operations = prepare.kind.as_kind().operations(&RunFacts::default());
        let given = operations.iter().filter_map(|operation| match operation {
            Operation::GiveToUser { path, user, .. } if user == "etcd" => Some(path.as_str()),
            _ => None,
        });
        assert_eq!(given.collect::<Vec<_>>(), trees);
        assert_eq!(
            reinstalled,
            matches!(&operations[0], Operation::EnsureUser(_))
        );
    }
}

/// A run that was cut off has set the data aside, and this one finds none.
#[test]
fn no_directory_stays_with_a_user_that_goes() {
    let clean = Clean {
        unit: "etcd.service".into(),
        files: vec![],
        directories: vec!["/srv/wal".into(), "/var/lib/etcd".into()],
        data: vec!["/mnt/disk".into(), "/var/lib/etcd".into()],
        aside: vec![],
        user: Some("etcd".into()),
        packages: vec![],
        held: vec![],
        manager: PackageManager::Apt,
    };
    let operations = clean.operations(&RunFacts::default());
    let at = |wanted: &Operation| operations.iter().position(|operation| operation == wanted);
    let gone = at(&Operation::RemoveUser("etcd".into()));
    for path in clean.directories.iter().chain(&clean.data) {
        let disown = at(&Operation::Disown {
            user: "etcd".into(),
            path: path.clone(),
        });
        assert!(disown.is_some() && disown < gone);
        assert!(at(&Operation::RemoveDirectory(path.clone())) < disown);
        let count = operations.iter();
        let is_disown = |operation: &&Operation| matches!(operation, Operation::Disown { path: other, .. } if other == path);
        assert_eq!(count.filter(is_disown).count(), 1);
    }
}

/// A run that was killed while packages were installed must not keep services from being started for ever.
#[test]
fn what_hinders_services_is_removed() {
    let world = living(packages(Some("3.5.16-1")));
    let mut observed = world.observe();
    for (node, text) in [("etcd-1", POLICY), ("etcd-2", "#!/bin/sh\nexit 101\n")] {
        let stat = FileStat {
            sha256: Some(sha256(text)),
            ..FileStat::default()
        };
        let files = &mut facts(&mut observed, node).files;
        files.insert(POLICY_PATH.into(), FileFact::File(stat));
    }
    let plan = plan_on(&world, &observed);
    let removed = plan.actions.iter().filter_map(|action| match &action.kind {
        ActionKind::Configure(configure) => Some((action.node.as_deref()?, &configure.remove)),
        _ => None,
    });
    let ours = vec![POLICY_PATH.to_owned()];
    assert_eq!(removed.collect::<Vec<_>>(), [("etcd-1", &ours)]);
}

/// A directory service that is away must not give the data of members that run to another number.
#[test]
fn no_user_is_made_while_the_member_runs() {
    let world = living(packages(None));
    let mut observed = world.observe();
    facts(&mut observed, "etcd-2").user = false;
    let plan = plan_on(&world, &observed);
    let prepared = |action: &Action| action.id.0 == "node.etcd-2.prepare";
    assert!(!plan.actions.iter().any(prepared));
    let mut reasons = plan.blocked.iter().map(|blocked| &blocked.reason);
    assert!(reasons.any(|reason| reason.contains("knows no user etcd")));
}
