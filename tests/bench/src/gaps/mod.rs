//! How long nobody can write while a living cluster changes: Quorate beside a careful operator's script.

mod log;
pub mod scenario;
mod site;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use quorate_lab::releases;
use quorate_writers::{Gap, Load, Run, Writers};

use self::scenario::{Cluster, Scenario};
use self::site::Site;
use crate::measure::{self, Series};
use crate::report::{Report, Row};
use crate::{Args, Result};

/// Writers are at work before a change begins and after it has ended.
const LEAD: Duration = Duration::from_millis(500);
/// How long nothing is done, for the gaps that the machine makes by itself.
const QUIET: Duration = Duration::from_secs(10);
const OURS: &str = "quorate";
const THEIRS: &str = "by hand";

/// What a change took, by scenario.
#[derive(Default)]
struct Measured {
    /// Seconds in which no endpoint acknowledged a write.
    anywhere: Series,
    /// Seconds in which the worst of the endpoints did not that are in the cluster all the while.
    endpoint: Series,
    took: Series,
    /// Where the time of rolls of five members went, as their logs say.
    rolls: Vec<log::Roll>,
}

/// Two labs whose clusters change in turns, Quorate's and the script's, so that what else the machine does meets both.
pub fn measure(args: &Args, report: &mut Report) -> Result<()> {
    let scenarios = args.scenarios();
    let every = Duration::from_millis(args.every);
    if scenarios.iter().any(|one| one.is_of_five()) && !scenarios.contains(&Scenario::Grow) {
        return Err("what is of five members needs `grow` before it".into());
    }
    let before = load();
    let labs = [
        site::lab(&format!("{}-ours", args.lab))?,
        site::lab(&format!("{}-hand", args.lab))?,
    ];
    let mut measured = Measured::default();
    let ours = Site::new(&labs[0], &args.quorate, OURS)?;
    let theirs = Site::new(&labs[1], &args.quorate, THEIRS)?;
    for round in 1..=args.runs {
        // What is measured is not thrown away for what is not.
        if let Err(error) = one_round(round, &scenarios, [&ours, &theirs], every, &mut measured) {
            eprintln!("bench: round {round} ends early: {error}");
            let error = error.to_string();
            let what = error.split(": ").next().unwrap_or_default();
            report.note(format!("NOT MEASURED: round {round} from {what}."));
        }
        eprintln!("bench: round {round} of {} is over", args.runs);
    }
    for lab in labs {
        lab.down()?;
    }
    write(&measured, &scenarios, report);
    report.note(format!(
        "etcd {}. A write every {} ms at each endpoint. Load average of the machine before and after: {before}, {}.",
        releases::find("3.5")?.version,
        args.every,
        load()
    ));
    Ok(())
}

/// Both sites, from wiped hosts through the scenarios.
fn one_round(
    round: usize,
    scenarios: &[Scenario],
    sites: [&Site<'_>; 2],
    every: Duration,
    measured: &mut Measured,
) -> Result<()> {
    let mut cluster = Cluster::before(scenarios);
    for site in sites {
        site.bootstrap(&cluster)
            .map_err(|error| format!("the bootstrap on, since {} failed: {error}", site.name()))?;
    }
    for (number, scenario) in scenarios.iter().copied().enumerate() {
        // Who goes first changes, since what the first one leaves behind is there for the second.
        let first = (round + number) % 2;
        let mut samples = Vec::new();
        for site in [sites[first], sites[1 - first]] {
            let sample = one(site, scenario, &cluster, every).map_err(|error| {
                let (what, who) = (scenario.name(), site.name());
                format!("{what} on, since {who} failed: {error}")
            })?;
            samples.push((site.name(), sample));
        }
        for (who, sample) in samples {
            let key = format!("{} {who}", scenario.name());
            measured.anywhere.push(&key, sample.anywhere);
            measured.endpoint.push(&key, sample.endpoint);
            measured.took.push(&key, sample.took);
            measured.rolls.extend(sample.roll);
            cluster = sample.after;
        }
    }
    Ok(())
}

/// What one scenario took at one site.
struct Sample {
    anywhere: Duration,
    endpoint: Duration,
    took: Duration,
    roll: Option<log::Roll>,
    after: Cluster,
}

/// One scenario at one site, from a cluster that is healthy to another one.
fn one(site: &Site<'_>, scenario: Scenario, before: &Cluster, every: Duration) -> Result<Sample> {
    let leader = site.settle(before, scenario.changes_members())?;
    let change = scenario.change(before, &leader)?;
    for name in change.after.names().filter(|name| !before.has(name)) {
        site.wipe(&name)?;
    }
    if let Some(dead) = &change.dead {
        site.rebuild(dead)?;
        // An election is no part of what is measured.
        site.settle(&before.without(dead), true)?;
    }
    let mut load = Load::dense(&format!("/{}/", scenario.name()));
    load.pace = every;
    let mut writers = Writers::start(site.lab, load)?;
    // Also those who are no members yet, from then on when they are.
    for endpoint in site.endpoints(before.names().chain(change.after.names()))? {
        writers.add(&endpoint)?;
    }
    let began_to_write = Instant::now();
    let serving = before
        .names()
        .filter(|name| Some(name) != change.dead.as_ref());
    let serving: Vec<String> = serving.collect();
    let acknowledged = |writers: &Writers| {
        let counts = writers.acknowledged();
        serving.iter().all(|name| counts.get(name) > Some(&0))
    };
    while !acknowledged(&writers) {
        if began_to_write.elapsed() > Duration::from_secs(30) {
            return Err("not every endpoint acknowledges writes".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(LEAD);
    let from = writers.elapsed();
    let took = if scenario == Scenario::Nothing {
        thread::sleep(QUIET);
        QUIET
    } else {
        site.change(before, &change)?
    };
    let to = writers.elapsed();
    thread::sleep(LEAD);
    let run = writers.stop();
    site.holds(&change.after)?;

    let anywhere = run.longest_gap_between(from, to);
    let stay = |name: &String| serving.contains(name) && change.after.has(name);
    let endpoint = worst(&run, stay);
    eprintln!(
        "bench: {}, {}: {:.2} s, begun at {:.2} s; nobody acknowledges for {anywhere}; {} for {}",
        scenario.name(),
        site.name(),
        took.as_secs_f64(),
        from.as_secs_f64(),
        endpoint.0,
        endpoint.1
    );
    let mut roll = None;
    if scenario == Scenario::SettingsOfFive && site.is_ours() {
        let text = fs::read_to_string(site.newest_log()?)?;
        roll = Some(log::Roll::read(&text, took)?);
    }
    Ok(Sample {
        anywhere: anywhere.length,
        endpoint: endpoint.1.length,
        took,
        roll,
        after: change.after,
    })
}

/// The endpoint with the longest gap.
fn worst(run: &Run, counts: impl Fn(&String) -> bool) -> (String, Gap) {
    let gaps = run.gaps().into_iter().filter(|(name, _)| counts(name));
    gaps.max_by_key(|(_, gap)| *gap).unwrap_or_default()
}

fn write(measured: &Measured, scenarios: &[Scenario], report: &mut Report) {
    for scenario in scenarios.iter().copied() {
        let [ours, theirs] = [OURS, THEIRS].map(|who| format!("{} {who}", scenario.name()));
        let what = scenario.what();
        let pair = measured.anywhere.pair(&ours, &theirs);
        let quantity = format!("{what}: no endpoint acknowledges");
        report.row(Row::gap(&quantity, &pair, scenario.budget()));
        let pair = measured.endpoint.pair(&ours, &theirs);
        let quantity = format!("{what}: {}", scenario.endpoint());
        // Elsewhere it is a restart, or one request that was lost when leadership moved.
        let budget = scenario.budget().filter(|budget| budget.most.is_some());
        report.row(Row::gap(&quantity, &pair, budget));
    }
    for scenario in scenarios.iter().copied() {
        if scenario == Scenario::Nothing {
            continue;
        }
        let [ours, theirs] = [OURS, THEIRS].map(|who| format!("{} {who}", scenario.name()));
        let pair = measured.took.pair(&ours, &theirs);
        report.row(Row::time(&format!("{}: wall time", scenario.what()), &pair));
    }
    if let Some(text) = log::Roll::describe(&measured.rolls) {
        report.note(text);
    }
}

/// The machine's load average over the last minute; other work on it is all that makes it more than the benchmark's own.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Seconds of a median, for texts.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    measure::median(&values.collect::<Vec<_>>())
}
