//! Rounds until the time is over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_writers::{Gap, Run};

use crate::cluster::Cluster;
use crate::edit;
use crate::round::Round;
use crate::scene::{Played, Scene};

/// How long, in seconds. A round that has begun is played to its end.
const SECONDS: &str = "QUORATE_CHAOS_SECONDS";
/// What is drawn: a number, or `random`.
const SEED: &str = "QUORATE_CHAOS_SEED";
/// The first round that is played. Edits of those before are in the file from the start.
const FROM: &str = "QUORATE_CHAOS_FROM";
/// Without a seed all runs draw the same, so that a change is judged by what the last one was.
const DEFAULT_SEED: u64 = 11;

#[test]
fn nothing_acknowledged_is_lost_and_nobody_cleans_up() {
    let seconds = number(SECONDS).unwrap_or(120);
    let seed = match std::env::var(SEED).as_deref() {
        Ok("random") => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs()),
        _ => number(SEED).unwrap_or(DEFAULT_SEED),
    };
    let from = number(FROM).unwrap_or(1).max(1);
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
    let _ = fs::remove_dir_all(&dir);
    let mut summary = Summary::default();
    println!(
        "chaos: seed {seed}, {seconds} s, edits: {:?}",
        edit::kinds()
    );
    let ended = campaign(seed, from, Duration::from_secs(seconds), &dir, &mut summary);
    println!("{summary}");
    if let Err((round, what)) = ended {
        let edits = std::env::var(edit::EDITS).map_or_else(
            |_| String::new(),
            |edits| format!("{}={edits} ", edit::EDITS),
        );
        panic!(
            "{what}\n\nchaos: seed {seed}, round {round}. What the program said, cluster files, histories and journals \
             are in {}.\nTo play it again: {edits}{SEED}={seed} {SECONDS}={seconds} make chaos; from this round on, \
             with {FROM}={round}",
            dir.display()
        );
    }
    assert!(summary.rounds > 0, "no round was played");
    // Two minutes without them were no chaos.
    if seconds >= 120 && std::env::var(edit::EDITS).is_err() {
        assert!(summary.kills > 0, "no run was killed");
        let is_edit = |what: &&String| what.starts_with("edit: ");
        let edits = summary.what.keys().filter(is_edit).count();
        assert!(edits > 1, "nothing but one kind of edits");
        assert!(summary.what.len() > edits, "no fault and no drift");
    }
    let _ = fs::remove_dir_all(&dir);
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
    )
}

/// Plays rounds; the first that fails, with its number.
fn campaign(
    seed: u64,
    from: u64,
    limit: Duration,
    dir: &Path,
    summary: &mut Summary,
) -> Result<(), (u64, String)> {
    let begun = Instant::now();
    let kinds = edit::kinds();
    let mut rng = fastrand::Rng::with_seed(seed);
    let membership = kinds.contains(&edit::Kind::Add);
    let nodes = if !membership && rng.u8(0..3) == 0 {
        5
    } else {
        3
    };
    let hosts = if membership { 6 } else { nodes };
    let mut cluster = Cluster::new(nodes, hosts, rng.u8(0..4) != 0);
    for number in 1..from {
        Round::draw(seed, number, &cluster, &kinds)
            .edit
            .make(&mut cluster);
    }
    println!(
        "chaos: {nodes} nodes on {hosts} hosts, TLS: {}",
        cluster.tls
    );
    let mut scene = Scene::up(seed, dir, cluster).map_err(|what| (0, what))?;
    scene.bootstrap().map_err(|what| (0, what))?;
    let mut number = from;
    while begun.elapsed() < limit {
        let round = Round::draw(seed, number, &scene.cluster, &kinds);
        println!("chaos: {:.0} s: {round}", begun.elapsed().as_secs_f64());
        let started = Instant::now();
        let failed = match scene.play(&round) {
            Ok(played) => {
                summary.add(&round, &played);
                let gap = played.run.longest_gap();
                let (operations, unknown) = played.run.counts();
                println!(
                    "chaos:   {:.1} s; killed {}, applied {} times; {operations} operations, {unknown} unknown; \
                     longest gap {gap}",
                    started.elapsed().as_secs_f64(),
                    played.killed,
                    played.applies
                );
                if !played.wrong.is_empty() {
                    keep_history(&played.run, dir);
                }
                played.wrong.join("\n")
            }
            Err(what) => what,
        };
        if !failed.is_empty() {
            keep_journals(&scene, dir);
            return Err((number, format!("{round}\n{failed}")));
        }
        number += 1;
    }
    Ok(())
}

/// Every operation of a run, one a line.
fn keep_history(run: &Run, dir: &Path) {
    let mut text = format!("{:#?}\n", run.clients);
    for operation in run.all() {
        let _ = writeln!(text, "{operation:?}");
    }
    let _ = fs::write(dir.join("history.txt"), text);
}

fn keep_journals(scene: &Scene, dir: &Path) {
    for host in scene.lab.hosts() {
        let journal = host.exec("journalctl --no-pager -o short-precise -n 20000");
        let text = journal.map_or_else(|error| error.to_string(), |output| output.stdout);
        let _ = fs::write(dir.join(format!("journal-{}.txt", host.name)), text);
    }
}

/// What there was, for the end.
#[derive(Default)]
struct Summary {
    rounds: usize,
    outages: usize,
    what: BTreeMap<String, usize>,
    kills: usize,
    applies: usize,
    operations: usize,
    unknown: usize,
    gap: Gap,
    gap_in_outage: Gap,
}

impl Summary {
    fn add(&mut self, round: &Round, played: &Played) {
        self.rounds += 1;
        self.outages += usize::from(round.outage);
        let edit = format!("edit: {:?}", round.edit.kind());
        let faults = round
            .blows
            .iter()
            .map(|blow| format!("fault: {}", blow.fault.name()));
        let drifts = round
            .meddling
            .iter()
            .map(|meddling| format!("drift: {:?}", meddling.drift));
        for what in faults.chain(drifts).chain([edit]) {
            *self.what.entry(what).or_default() += 1;
        }
        self.kills += played.killed;
        self.applies += played.applies;
        let (operations, unknown) = played.run.counts();
        self.operations += operations;
        self.unknown += unknown;
        let gap = if round.outage {
            &mut self.gap_in_outage
        } else {
            &mut self.gap
        };
        *gap = (*gap).max(played.run.longest_gap());
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "chaos: {} rounds, {} of them outages; {} runs killed, {} until all was done; {} operations of clients, {} of \
             them unknown; longest gap {:.3} s, in outages {:.3} s",
            self.rounds,
            self.outages,
            self.kills,
            self.applies,
            self.operations,
            self.unknown,
            self.gap.length.as_secs_f64(),
            self.gap_in_outage.length.as_secs_f64(),
        )?;
        for (what, count) in &self.what {
            writeln!(f, "chaos: {count:4} {what}")?;
        }
        Ok(())
    }
}
