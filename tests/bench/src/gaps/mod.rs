//! How long nobody can write while a living cluster changes: Quorate beside a careful operator's script.

mod log;
mod scenario;
mod site;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

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
    let before = load();
    let labs = [
        site::lab(&format!("{}-ours", args.lab))?,
        site::lab(&format!("{}-hand", args.lab))?,
    ];
    let mut measured = Measured::default();
    let ours = Site::new(&labs[0], &args.quorate, OURS)?;
    let theirs = Site::new(&labs[1], &args.quorate, THEIRS)?;
    for round in 1..=args.runs {
        let mut cluster = Cluster::new();
        for site in [&ours, &theirs] {
            site.bootstrap(&cluster)?;
        }
        for (number, scenario) in Scenario::ALL.into_iter().enumerate() {
            // Who goes first changes, since what the first one leaves behind is there for the second.
            let turns = if (round + number).is_multiple_of(2) {
                [&ours, &theirs]
            } else {
                [&theirs, &ours]
            };
            cluster = both(turns, scenario, &cluster, &mut measured)?;
            eprintln!("bench: round {round} of {}: {}", args.runs, scenario.name());
        }
    }
    for lab in labs {
        lab.down()?;
    }
    write(&measured, report);
    report.note(format!(
        "Load average of the machine before and after: {before}, {}.",
        load()
    ));
    Ok(())
}

/// One scenario at one site after the other; the cluster that both have then, but for who led it.
fn both(
    turns: [&Site<'_>; 2],
    scenario: Scenario,
    before: &Cluster,
    measured: &mut Measured,
) -> Result<Cluster> {
    let mut after = before.clone();
    for site in turns {
        after = one(site, scenario, before, measured)
            .map_err(|error| format!("{}, {}: {error}", scenario.name(), site.name()))?;
    }
    Ok(after)
}

/// One scenario at one site, from a cluster that is healthy to another one; that one.
fn one(
    site: &Site<'_>,
    scenario: Scenario,
    before: &Cluster,
    measured: &mut Measured,
) -> Result<Cluster> {
    let leader = site.settle(before, scenario.changes_members())?;
    let change = scenario.change(before, &leader)?;
    if let Some(dead) = &change.dead {
        site.rebuild(dead)?;
        // An election is no part of what is measured.
        site.settle(&before.without(dead), true)?;
    }
    let mut writers = Writers::start(site.lab, Load::dense(&format!("/{}/", scenario.name())))?;
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

    let key = |who: &str| format!("{} {who}", scenario.name());
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
    measured.anywhere.push(&key(site.name()), anywhere.length);
    measured.endpoint.push(&key(site.name()), endpoint.1.length);
    measured.took.push(&key(site.name()), took);
    if scenario == Scenario::SettingsOfFive && site.is_ours() {
        let text = fs::read_to_string(site.newest_log()?)?;
        measured.rolls.push(log::Roll::read(&text, took)?);
    }
    Ok(change.after)
}

/// The endpoint with the longest gap.
fn worst(run: &Run, counts: impl Fn(&String) -> bool) -> (String, Gap) {
    let gaps = run.gaps().into_iter().filter(|(name, _)| counts(name));
    gaps.max_by_key(|(_, gap)| *gap).unwrap_or_default()
}

fn write(measured: &Measured, report: &mut Report) {
    for scenario in Scenario::ALL {
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
    for scenario in Scenario::ALL {
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
