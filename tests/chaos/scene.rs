//! Plays rounds on a lab's hosts.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use quorate_lab::{Host, Lab, Options};
use quorate_writers::{Census, Endpoint, Load, Run, Tls, Writers};

use crate::cluster::{Cluster, DATA_DIR};
use crate::edit::Beside;
use crate::operator::{Operator, Ran};
use crate::round::{Blow, Round};
use crate::verdict::{judge, left_on};

/// Sparse, and enough for the longest run.
const DISK_MIB: u64 = 8_192;
/// For a cluster that nothing befalls any more.
const CONVERGE: Duration = Duration::from_secs(300);
const TRIES: usize = 10;
/// Writes go on in less than this when no more is hit than the cluster tolerates: an election, a
/// restart that was under way when another member was hit, and the patience of clients.
const GAP: Duration = Duration::from_secs(15);
/// For every member to be well, and to take writes again.
const PATIENCE: Duration = Duration::from_secs(30);

const APPLY: [&str; 4] = ["apply", "--auto-approve", "--lock-timeout", "60s"];

pub struct Scene {
    pub lab: Lab,
    pub operator: Operator,
    pub cluster: Cluster,
    seed: u64,
    census: Census,
}

/// What a round was.
pub struct Played {
    pub run: Run,
    /// Runs of the program that were killed, of those that were to be.
    pub killed: usize,
    /// Runs until all was done.
    pub applies: usize,
    pub wrong: Vec<String>,
}

impl Scene {
    /// Boots hosts with data disks, and nothing on them.
    pub fn up(seed: u64, dir: &Path, cluster: Cluster) -> Result<Self, String> {
        let hosts = cluster.nodes.len() + cluster.spare.len();
        let options = Options {
            hosts,
            ..Options::default()
        };
        let lab = Lab::up(&format!("chaos-{}", std::process::id()), options)
            .map_err(|error| error.to_string())?;
        for host in lab.hosts() {
            host.add_data_disk(DATA_DIR, DISK_MIB)
                .map_err(|error| error.to_string())?;
        }
        let scene = Self {
            operator: Operator::new(dir)?,
            lab,
            cluster,
            seed,
            census: Census::default(),
        };
        // An earlier edit may have left hosts at other addresses than they boot with.
        let named = scene.cluster.nodes.iter();
        let named = named.map(|node| (node.host, node.moves));
        let left = scene.cluster.moved.iter();
        for (host, moves) in named.chain(left.map(|(host, moves)| (*host, *moves))) {
            if moves > 0 {
                scene.beside(&Beside::Renumber(host, moves))?;
            }
        }
        Ok(scene)
    }

    /// The first apply.
    pub fn bootstrap(&mut self) -> Result<(), String> {
        self.operator.edit(0, &self.cluster.text(&self.lab)?)?;
        self.converge(&[]).map(drop)
    }

    /// Plays a round, and says what is wrong afterwards. An error is a round that did not come to
    /// its end.
    pub fn play(&mut self, round: &Round) -> Result<Played, String> {
        let before = self.cluster.clone();
        let mut load = Load::new(&format!("/chaos/{:04}/", round.number));
        load.pace = Duration::from_millis(round.pace);
        load.seed = self.seed ^ round.number;
        let mut writers = Writers::start(&self.lab, load).map_err(|error| error.to_string())?;
        let old = self.endpoints(&before)?;
        add(&mut writers, &old)?;
        all_write(&writers, &BTreeSet::new())?;

        round.edit.make(&mut self.cluster);
        self.operator
            .edit(round.number, &self.cluster.text(&self.lab)?)?;
        let beside = round.edit.beside(&before);
        if let Some(beside) = &beside {
            self.beside(beside)?;
        }
        let new = self.endpoints(&self.cluster)?;
        let known: BTreeSet<&str> = old.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let joining: Vec<Endpoint> = new
            .iter()
            .filter(|endpoint| !known.contains(endpoint.name.as_str()))
            .cloned()
            .collect();
        add(&mut writers, &joining)?;

        let words = round.edit.words();
        let killed = self.storm(round, &words)?;
        let applies = self.converge(&words)?;
        let left: Vec<&Endpoint> = old
            .iter()
            .filter(|endpoint| new.iter().all(|other| other.name != endpoint.name))
            .collect();
        for endpoint in left {
            writers.remove(&endpoint.name);
        }
        all_write(
            &writers,
            &new.iter().map(|endpoint| endpoint.name.clone()).collect(),
        )?;
        let run = writers.stop();
        let mut wrong = judge(
            &self.lab,
            &self.operator,
            &self.cluster,
            &new,
            &run,
            &mut self.census,
        );
        // One that could not be reached meanwhile, or that nobody could tell as ours, is left to its operator.
        let undisturbed = |host: &usize| {
            round.blows.iter().all(|blow| blow.host != *host)
                && round.meddling.iter().all(|other| other.host != *host)
        };
        let vacated = round.edit.vacates(&before).filter(undisturbed);
        wrong.extend(vacated.and_then(|host| left_on(&self.lab.hosts()[host])));
        let gap = run.longest_gap();
        if !round.outage && gap.length > GAP {
            wrong.push(format!(
                "no write was acknowledged for {gap}, though a quorum was there"
            ));
        }
        if let Some(Beside::Bury(host)) = beside {
            let host = &self.lab.hosts()[host];
            host.power_on().map_err(|error| error.to_string())?;
            blank(host)?;
        }
        Ok(Played {
            run,
            killed,
            applies,
            wrong,
        })
    }

    /// Everything at once: faults and drift in threads of their own, while the program is run and
    /// killed. Returns when all is healed; how many runs were killed before they ended.
    fn storm(&mut self, round: &Round, words: &[String]) -> Result<usize, String> {
        let begun = Instant::now();
        let hosts: BTreeSet<usize> = round.blows.iter().map(|blow| blow.host).collect();
        let (lab, operator) = (&self.lab, &mut self.operator);
        thread::scope(|scope| {
            let mut under_way = Vec::new();
            for host in hosts {
                let blows: Vec<&Blow> = round
                    .blows
                    .iter()
                    .filter(|blow| blow.host == host)
                    .collect();
                let host = &lab.hosts()[host];
                under_way.push(scope.spawn(move || strike(host, &blows, begun)));
            }
            for meddling in &round.meddling {
                let host = &lab.hosts()[meddling.host];
                under_way.push(scope.spawn(move || {
                    until(begun, meddling.at);
                    // Nobody types on a host that is off, and its end ends what is typed.
                    let _ = host.exec(meddling.drift.script());
                    Ok(())
                }));
            }
            let mut killed = Ok(0);
            for kill in &round.kills {
                let ran = apply(lab, operator, words, Some(Duration::from_millis(*kill)));
                killed = killed.and_then(|killed| Ok(killed + usize::from(ran?.code.is_none())));
            }
            // Whatever it says while things befall it, it goes on without being killed.
            while killed.is_ok() && under_way.iter().any(|thread| !thread.is_finished()) {
                killed = apply(lab, operator, words, None).and(killed);
                thread::sleep(Duration::from_millis(200));
            }
            // Healed in any case, so that what is wrong can be looked at.
            for thread in under_way {
                match thread.join() {
                    Ok(struck) => killed = struck.and(killed),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            killed
        })
    }

    /// Runs the program until it has nothing left to do, and nobody cleans up in between; how
    /// many times that took.
    fn converge(&mut self, words: &[String]) -> Result<usize, String> {
        let begun = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let ran = apply(&self.lab, &mut self.operator, words, None)?;
            if ran.code == Some(0) {
                break;
            }
            if tries == TRIES || begun.elapsed() > CONVERGE {
                return Err(format!("not done after {tries} runs: {ran}"));
            }
            thread::sleep(Duration::from_secs(1));
        }
        let plan = self
            .operator
            .run(&self.lab, &["plan", "--detailed-exitcode"], None)?;
        if plan.code != Some(0) || !plan.said.contains("No changes") {
            return Err(format!("something is left to do after an apply: {plan}"));
        }
        // Whom a partition left behind catches up by itself.
        let healed = Instant::now();
        loop {
            let status = self.operator.run(&self.lab, &["status"], None)?;
            if status.code == Some(0) {
                return Ok(tries);
            }
            if healed.elapsed() > PATIENCE {
                return Err(format!("not all is well after an apply: {status}"));
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn beside(&self, beside: &Beside) -> Result<(), String> {
        let say = |error: quorate_lab::Error| error.to_string();
        match beside {
            Beside::Bury(host) => self.lab.hosts()[*host].power_off().map_err(say),
            Beside::Blank(host) => blank(&self.lab.hosts()[*host]),
            Beside::Empty(host) => {
                let script = "systemctl kill -s KILL etcd; systemctl stop etcd
                    rm -rf /var/lib/etcd/* /srv/etcd/* /srv/wal/*";
                self.lab.hosts()[*host].run(script).map(drop).map_err(say)
            }
            Beside::Renumber(host, moves) => {
                let address = crate::cluster::address(*host, *moves);
                self.lab
                    .renumber(&self.lab.hosts()[*host].name, address)
                    .map_err(say)
            }
        }
    }

    /// Members as clients reach them; another URL is another endpoint.
    fn endpoints(&self, cluster: &Cluster) -> Result<Vec<Endpoint>, String> {
        let tls = if cluster.tls {
            let [ca, certificate, key] = [
                "pki/ca.crt",
                "pki/clients/writer.crt",
                "pki/clients/writer.key",
            ]
            .map(|name| self.operator.path(name));
            Some(Tls::read(&ca, &certificate, &key).map_err(|error| error.to_string())?)
        } else {
            None
        };
        let endpoint = |node: &crate::cluster::Node| Endpoint {
            name: format!("{} {}", node.name, node.url(cluster.tls)),
            url: node.url(cluster.tls),
            tls: tls.clone(),
        };
        Ok(cluster.nodes.iter().map(endpoint).collect())
    }
}

fn apply(
    lab: &Lab,
    operator: &mut Operator,
    words: &[String],
    kill: Option<Duration>,
) -> Result<Ran, String> {
    let words: Vec<&str> = APPLY
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .collect();
    operator.run(lab, &words, kill)
}

fn until(begun: Instant, milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds).saturating_sub(begun.elapsed()));
}

/// What befalls one host, one after the other; each ends, also when one before it went wrong.
fn strike(host: &Host, blows: &[&Blow], begun: Instant) -> Result<(), String> {
    let mut struck = Ok(());
    for blow in blows {
        until(begun, blow.begin);
        let began = blow.fault.begin(host);
        until(begun, blow.begin + blow.length);
        let ended = blow.fault.end(host);
        let both = began
            .and(ended)
            .map_err(|error| format!("{:?}: {error}", blow.fault));
        struck = struck.and(both);
    }
    struck
}

fn add(writers: &mut Writers, endpoints: &[Endpoint]) -> Result<(), String> {
    endpoints
        .iter()
        .try_for_each(|endpoint| writers.add(endpoint))
        .map_err(|error| error.to_string())
}

/// Waits until every client, or each of these, has had another write acknowledged.
fn all_write(writers: &Writers, wanted: &BTreeSet<String>) -> Result<(), String> {
    let (begun, before) = (Instant::now(), writers.acknowledged());
    loop {
        let now = writers.acknowledged();
        let stuck: Vec<&String> = now
            .iter()
            .filter(|(name, count)| {
                (wanted.is_empty() || wanted.contains(*name)) && before.get(*name) >= Some(*count)
            })
            .map(|(name, _)| name)
            .collect();
        if stuck.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!(
                "no write is acknowledged by {stuck:?} for {PATIENCE:?}"
            ));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Makes a host what it was before the program was there.
fn blank(host: &Host) -> Result<(), String> {
    let script = "systemctl kill -s KILL etcd 2>/dev/null; systemctl disable -q --now etcd 2>/dev/null
        rm -rf /var/lib/etcd/* /var/lib/etcd/.[!.]* /etc/etcd /etc/quorate /run/quorate /var/lib/quorate /var/cache/quorate
        rm -rf /srv/etcd /srv/wal
        rm -rf /usr/local/bin/etcd* /usr/local/bin/.etcd* /etc/systemd/system/etcd.service* /run/systemd/system/etcd.service.d
        if id -u etcd >/dev/null 2>&1; then userdel etcd; fi
        if getent group etcd >/dev/null; then groupdel etcd; fi
        systemctl daemon-reload; systemctl reset-failed";
    host.run(script)
        .map(drop)
        .map_err(|error| error.to_string())
}
