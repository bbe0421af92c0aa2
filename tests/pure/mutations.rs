//! What comes from outside is read without a panic: valid texts in which something was cut out or put in.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::sample::Index;
use quorate::command::saved;
use quorate::observe::{answer, probe::ProbeSpec};
use quorate::observed::host::FileFact;
use quorate::observed::marker::{self, MarkerState};
use quorate::observed::{HostFacts, HostState};
use quorate::plan::{self, Goal, Intent};
use quorate::runtime;
use time::OffsetDateTime;

use crate::crashes::{CONVERGE, desired, plan_for, run};
use crate::world::World;

/// Where something is replaced, how much, and by what.
pub type Cut = (Index, usize, String);

pub fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let insert = prop_oneof![
        Just(String::new()),
        "[\\[\\]{}=\",.#\\n\\t 0-9a-zé-]{0,6}",
        Just("\"\"\"".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("-9223372036854775808".to_owned()),
    ];
    proptest::collection::vec((any::<Index>(), 0_usize..40, insert), 1..5)
}

pub fn mutated(text: &str, cuts: &[Cut]) -> String {
    let mut text = text.to_owned();
    for (at, length, insert) in cuts {
        if text.is_empty() {
            break;
        }
        let mut start = at.index(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = (start + length).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        text.replace_range(start..end, insert);
    }
    text
}

fn living() -> World {
    let mut world = World::new(desired(3));
    let plan = plan_for(&world, CONVERGE, "n0");
    assert!(run(&mut world, &plan, &mut |_| 0, usize::MAX));
    world
}

fn marker_of(world: &World) -> String {
    let entry = &world.hosts["etcd-1"].files[marker::PATH];
    entry.text.as_deref().expect("a marker").to_owned()
}

fn spec(world: &World) -> ProbeSpec {
    ProbeSpec::new(
        world.desired(),
        world.layout("etcd-1"),
        BTreeMap::new(),
        None,
    )
}

/// What a living host answers.
fn answer_of(world: &World) -> String {
    let layout = world.layout("etcd-1");
    let encoded = |text: &str| STANDARD.encode(text);
    let sum = "ab".repeat(32);
    let mut text = String::from("clock\t1792000000000\nuid\t0\narch\tLinux x86_64\nsystemd\t1\n");
    text += "os\tdebian\t12\t\n";
    for tool in "base64 findmnt flock mktemp sha256sum stat systemctl timeout tar gzip".split(' ') {
        text += &format!("tool\t{tool}\n");
    }
    for directory in &layout.directories {
        text += &format!(
            "stat\tdirectory\t{:o}\t{}\t{}\t4096\t1792000000\t8:1:12:3\t{}\n",
            directory.mode, directory.owner, directory.group, directory.path
        );
    }
    text += &format!(
        "stat\tregular file\t755\troot\troot\t9\t1792000000\t8:1:13:3\t{0}\nsha\t{sum}\t{0}\nversion\t3.5.16\t{0}\n",
        layout.etcd
    );
    for file in &layout.files {
        text += &format!(
            "stat\tregular file\t644\troot\troot\t9\t1792000000\t8:1:14:3\t{0}\nsha\t{sum}\t{0}\ntext\t{1}\t{0}\n",
            file.path,
            encoded("ETCD_NAME=\"other\"\n")
        );
    }
    text += &format!("marker\t{}\nuser\t1\n", encoded(&marker_of(world)));
    for line in [
        "LoadState=loaded",
        "ActiveState=active",
        "SubState=running",
        "UnitFileState=enabled",
        "FragmentPath=/etc/systemd/system/etcd.service",
        "DropInPaths=/etc/systemd/system/etcd.service.d/a.conf",
        "NeedDaemonReload=no",
    ] {
        text += &format!("unit\t{line}\n");
    }
    let environment = encoded("ETCD_NAME=etcd-1\nETCD_DATA_DIR=/var/lib/etcd\n");
    text += &format!("environ\t{environment}\nrunning\t{sum}\nstarted\t1792000000\n");
    text += "df\t/dev/sda1 100 50 50 50% /\nfindmnt\tTARGET=\"/\" FSTYPE=\"ext4\" UUID=\"u\"\n";
    text += "data\t/var/lib/etcd/member\nwal\tAAAA\t/var/lib/etcd/member/wal\nlisten\t094B\t1\tetcd\nlisten\t094C\t0\tnc (process 7)\n";
    text += "package\tinstalled\tetcd-server\t3.5.16-1\thold\nlocks\tZXRjZC0xCg==\nend\n";
    text
}

/// Whatever a host says, a plan can be made of it.
fn plan_with(world: &World, change: impl FnOnce(&mut HostFacts)) {
    let mut observed = world.observe();
    let Some(HostState::Known(facts)) = observed.hosts.get_mut("etcd-1") else {
        panic!("not known")
    };
    change(facts);
    for goal in [CONVERGE, Goal::Destroy { purge_data: false }] {
        let nonce = "n1".into();
        let intent = Intent { goal, nonce };
        plan::plan(
            world.desired(),
            &observed,
            &intent,
            OffsetDateTime::UNIX_EPOCH,
        );
    }
}

#[test]
fn the_samples_are_valid() {
    let world = living();
    let facts = answer::read(&answer_of(&world), &spec(&world), 0)
        .expect("an answer")
        .facts;
    assert!(facts.marker.get().is_some());
    let config = &runtime::layout(world.desired(), &world.node("etcd-1")).files[0].path;
    assert!(matches!(&facts.files[config], FileFact::File(stat) if stat.text.is_some()));
    assert_eq!((facts.packages.len(), facts.held.len()), (1, 1));
    assert_eq!(facts.listeners.len(), 2);
    assert!(facts.unit.is_up() && facts.unit.environment.is_some());
    let plan = serde_json::to_vec(&plan_for(&World::new(desired(3)), CONVERGE, "n0"));
    assert!(saved::parse(&plan.expect("JSON")).is_ok());
}

proptest! {
    #[test]
    fn mutated_answers(cuts in cuts()) {
        let world = living();
        let text = mutated(&answer_of(&world), &cuts);
        if let Ok(answer) = answer::read(&text, &spec(&world), 0) {
            plan_with(&world, |facts| *facts = answer.facts);
        }
    }

    #[test]
    fn mutated_markers(cuts in cuts()) {
        let world = living();
        let marker = MarkerState::parse(&mutated(&marker_of(&world), &cuts));
        plan_with(&world, |facts| facts.marker = marker);
    }

    #[test]
    fn mutated_plans(cuts in cuts()) {
        let plan = plan_for(&World::new(desired(3)), CONVERGE, "n0");
        let text = serde_json::to_string_pretty(&plan).expect("JSON");
        if let Ok(plan) = saved::parse(mutated(&text, &cuts).as_bytes()) {
            quorate::render::json::plan::plan(&plan);
        }
    }
}
