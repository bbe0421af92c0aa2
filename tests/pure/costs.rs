//! What an edit costs: a restart where a process reads it when it starts, and none where it does not.

use std::time::Duration;

use quorate::action::{Action, ActionKind};
use quorate::desired::Desired;
use quorate::desired::model::{ClientCert, KeyKind, TlsMode};
use quorate::observed::certificate::{CaFacts, FoundCertificate, Profile, member_names};
use quorate::observed::host::FileFact;
use quorate::observed::{HostState, Observed};
use quorate::pki::{Authority, KeyProtection, NewAuthority, issue};
use quorate::plan::fingerprint::sha256;
use quorate::plan::{self, Intent, Plan};
use time::OffsetDateTime;

use crate::drive::{CONVERGE, desired, plan_for, run};
use crate::world::World;

const ADVANCE: &str = "initial-election-tick-advance";

fn form(desired: Desired) -> World {
    let mut world = World::new(desired);
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world
}

fn restarts(plan: &Plan) -> Vec<&[String]> {
    let actions = plan.actions.iter();
    let reasons = actions.filter_map(|action| match &action.kind {
        ActionKind::Restart(restart) => Some(&*restart.reasons),
        _ => None,
    });
    reasons.collect()
}

/// Every start reads it, in spite of its name: it costs as much to take it out as to set it.
#[test]
fn the_advance_of_the_first_election_is_no_matter_of_a_bootstrap() {
    let mut world = form(desired(3));
    for value in [Some("false"), Some("true"), None] {
        for node in &mut world.desired_mut().nodes {
            match value {
                Some(value) => node.settings.insert(ADVANCE.into(), value.into()),
                None => node.settings.remove(ADVANCE),
            };
        }
        let plan = plan_for(&world, CONVERGE, "n1");
        let reasons = restarts(&plan);
        assert_eq!(reasons.len(), 3, "{value:?}: {reasons:?}");
        let told = reasons.iter().flat_map(|all| all.iter());
        let mut told = told.map(|reason| reason.contains("ETCD_INITIAL_ELECTION_TICK_ADVANCE"));
        assert!(told.all(|told| told), "{value:?}: {reasons:?}");
        assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
        let plan = plan_for(&world, CONVERGE, "n2");
        assert!(plan.is_empty(), "{value:?}: {:?}", plan.actions);
    }
}

/// What was only read by the bootstrap stays in the environment of its processes.
#[test]
fn what_only_a_bootstrap_reads_costs_nothing() {
    let world = form(desired(3));
    let process = world.hosts["etcd-1"].process.as_ref().expect("it runs");
    assert!(process.environment.contains_key("ETCD_INITIAL_CLUSTER"));
    assert!(plan_for(&world, CONVERGE, "n1").is_empty());
}

/// The authority of a cluster, and what its hosts bear of it.
struct Pki(Authority);

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let new = NewAuthority {
            cluster: "demo",
            key: KeyKind::EcdsaP256,
            validity: Duration::from_secs(10 * 365 * 86_400),
        };
        let path = dir.path().join("pki");
        let now = OffsetDateTime::now_utc();
        match Authority::create_or_open(&path, &new, &KeyProtection::Plain, now) {
            Ok(authority) => Self(authority),
            Err(error) => panic!("{error}"),
        }
    }

    /// What a probe sees of hosts that bear certificates for these nodes.
    fn observe(&self, world: &World, issued_for: &Desired) -> Observed {
        let pem = self.0.certificate().pem();
        let authority = CaFacts::parse(pem).expect("an authority");
        let mut observed = world.observe();
        for node in &issued_for.nodes {
            let Some(HostState::Known(facts)) = observed.hosts.get_mut(&node.name) else {
                panic!("{} is known", node.name);
            };
            // The model knows no groups.
            let layout = quorate::runtime::layout(issued_for, node);
            let files = layout.files.iter().map(|file| (&file.path, &file.group));
            let directories = layout.directories.iter();
            let directories = directories.map(|directory| (&directory.path, &directory.group));
            for (path, group) in files.chain(directories) {
                if let Some(FileFact::File(stat) | FileFact::Directory(stat)) =
                    facts.files.get_mut(path)
                {
                    stat.group.clone_from(group);
                }
            }
            for (path, fact) in &mut facts.files {
                let FileFact::File(stat) = fact else { continue };
                let profile = match path.rsplit('/').next() {
                    Some("server.crt") => Profile::Server,
                    Some("peer.crt") => Profile::Peer,
                    Some("ca.crt") => {
                        stat.sha256 = Some(sha256(pem));
                        continue;
                    }
                    _ => continue,
                };
                let leaf = &issued_for.tls.leaf;
                let now = OffsetDateTime::now_utc();
                let names = member_names(node);
                let issued = issue(&self.0, profile, &names, leaf.key, leaf.validity, now);
                let Ok(issued) = issued else {
                    panic!("it is not issued")
                };
                let found = FoundCertificate::new(issued.facts, Some(&authority));
                stat.certificate = Some(Ok(found));
            }
        }
        observed.operator.authority = Some(authority);
        observed
    }
}

#[test]
fn what_members_read_anew_or_not_at_all_costs_no_restart() {
    type Edit = fn(&mut Desired);
    let edits: [(&str, Edit, bool); 5] = [
        ("nothing", |_| {}, false),
        (
            "extra_sans",
            |desired| {
                for node in &mut desired.nodes {
                    node.extra_sans.push("etcd.example.com".into());
                }
            },
            true,
        ),
        (
            "renew_before",
            |desired| desired.tls.leaf.renew_before = Duration::from_secs(60 * 86_400),
            false,
        ),
        (
            "client_cert",
            |desired| {
                let (name, validity) = ("ops".into(), None);
                desired.tls.client_certs.push(ClientCert { name, validity });
            },
            false,
        ),
        (
            "[ssh]",
            |desired| {
                for node in &mut desired.nodes {
                    node.ssh.user = Some("ops".into());
                    node.ssh.port = Some(2222);
                }
            },
            false,
        ),
    ];
    let pki = Pki::new();
    let mut file = desired(3);
    file.tls.client = TlsMode::Managed;
    file.tls.peer = TlsMode::Managed;
    let living = form(file.clone());
    for (what, edit, changes) in edits {
        let mut world = living.clone();
        edit(world.desired_mut());
        let intent = Intent {
            goal: CONVERGE,
            nonce: "n1".into(),
        };
        let now = OffsetDateTime::now_utc();
        let observed = pki.observe(&world, &file);
        let plan = plan::plan(world.desired(), &observed, &intent, now);
        assert!(plan.blocked.is_empty(), "{what}: {:?}", plan.blocked);
        assert!(restarts(&plan).is_empty(), "{what}: {:?}", plan.actions);
        // The model's markers do not know the authority: that is written down in any case.
        let writes = |action: &Action| !matches!(action.kind, ActionKind::Record(_));
        let writes = plan.actions.iter().any(writes);
        assert_eq!(writes, changes, "{what}: {:?}", plan.actions);
    }
}
