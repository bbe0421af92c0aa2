//! Benchmarks of Quorate against what its users do today, on the same hosts in the same run.

mod gaps;
mod measure;
mod memory;
mod peers;
mod planner;
mod report;
mod setup;
mod trips;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use quorate_lab::{Lab, Options};

use crate::gaps::scenario::Scenario;
use crate::measure::Series;
use crate::peers::{Bench, Peer};
use crate::report::{GAPS, PEERS, Report, Row};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Benchmarks of Quorate against its peers. Brings up a lab of its own and takes it down again.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds; each runs every peer once, on wiped hosts
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Pairs of `plan` and OpenSSH in each round
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Only these: first, second, plan, trips, planner, memory; or gaps, which takes minutes for
    /// each round and is not measured unless it is named
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Scenarios of gaps, all unless some are named; a table of some is not written
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Milliseconds between two writes at one endpoint, where gaps are measured
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    every: u64,
    /// The peers, beside Quorate
    #[arg(long, value_delimiter = ',', default_value = "shell,ansible,pyinfra")]
    peers: Vec<Peer>,
    /// Nodes in the measurement of memory
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// The program
    #[arg(long, default_value = "target/release/quorate")]
    quorate: PathBuf,
    /// The page whose table is replaced
    #[arg(long)]
    write: Option<PathBuf>,
    /// Name of the lab
    #[arg(long, default_value = "bench-run")]
    lab: String,
}

impl Args {
    fn wants(&self, what: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == what)
    }

    /// In the order in which they follow each other.
    fn scenarios(&self) -> Vec<Scenario> {
        let named = |one: &Scenario| self.scenario.is_empty() || self.scenario.contains(one);
        Scenario::ALL.into_iter().filter(named).collect()
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let mut report = Report::new(PEERS);
    if args.wants("planner") {
        planner::measure(&mut report)?;
    }
    if ["first", "second", "plan", "trips", "memory"]
        .iter()
        .any(|what| args.wants(what))
    {
        on_hosts(args, &mut report)?;
    }
    let mut reports = vec![report];
    if args.only.iter().any(|only| only == "gaps") {
        let mut gaps = Report::new(GAPS);
        gaps::measure(args, &mut gaps)?;
        reports.push(gaps);
    }
    for report in reports.iter().filter(|report| !report.is_empty()) {
        print!("{}", report.table());
        if let Some(page) = &args.write
            && args.scenario.is_empty()
        {
            report.write(page)?;
        }
    }
    Ok(())
}

fn on_hosts(args: &Args, report: &mut Report) -> Result<()> {
    let lab = Lab::up(&args.lab, Options::default())?;
    let peers = setup::prepare(&lab, &args.peers, report)?;
    let bench = Bench::new(&lab, &args.quorate)?;
    bench.make_certificates()?;
    // Once, so that the archive is in the cache, as it is a file here for every peer.
    bench.wipe()?;
    bench.first(Peer::Quorate)?;
    let mut first = Series::default();
    let mut second = Series::default();
    let mut login = Series::default();
    let rounds = if args.wants("first") || args.wants("second") || args.wants("plan") {
        args.runs
    } else {
        0
    };
    for round in 1..=rounds {
        for peer in peers.iter().copied().chain([Peer::Quorate]) {
            bench.wipe()?;
            first.push(peer.name(), bench.first(peer)?);
            bench.verify(peer)?;
            if args.wants("second") {
                for (name, took) in bench.second(peer)? {
                    second.push(name, took);
                }
            }
            eprintln!("bench: round {round} of {rounds}: {}", peer.name());
        }
        // Quorate's hosts are the ones that stand.
        for _ in 0..args.pairs {
            login.push("plan", bench.plan()?);
            login.push("ssh", bench.parallel_login()?);
        }
    }
    if rounds > 0 && args.wants("first") {
        report_first(&first, report);
    }
    if rounds > 0 && args.wants("plan") {
        report.row(Row::ratio(
            "`quorate plan`, nothing to do",
            "three `ssh HOST true` at once",
            &login.pair("plan", "ssh"),
            Some(1.0),
        ));
    }
    if rounds > 0 && args.wants("second") {
        report_second(&second, report);
    }
    if args.wants("trips") {
        trips::measure(&bench, report)?;
    }
    if args.wants("memory") {
        memory::measure(&bench, args.nodes, report)?;
    }
    lab.down()?;
    Ok(())
}

fn report_first(first: &Series, report: &mut Report) {
    for (peer, what, budget) in [
        (Peer::Shell, "the parallel shell script", Some(1.25)),
        (Peer::Ansible, "the Ansible role", Some(1.0 / 8.0)),
        (Peer::Pyinfra, "the pyinfra deploy", None),
    ] {
        if first.has(peer.name()) {
            let pair = first.pair(Peer::Quorate.name(), peer.name());
            report.row(Row::ratio("first `quorate apply`", what, &pair, budget));
        }
    }
}

fn report_second(second: &Series, report: &mut Report) {
    report.row(Row::noted(
        "the first `quorate plan` after an apply, which hashes the new binaries",
        second.median("quorate, first"),
    ));
    for (name, what, budget) in [
        ("ansible", "the Ansible role's second run", Some(1.0 / 40.0)),
        ("ansible --check", "`ansible-playbook --check`", None),
        ("pyinfra", "the pyinfra deploy's second run", None),
    ] {
        if second.has(name) {
            let pair = second.pair("quorate", name);
            report.row(Row::ratio(
                "`quorate plan`, nothing to do",
                what,
                &pair,
                budget,
            ));
        }
    }
}
