//! What has to hold after a run, on every member of the cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use etcd_client::{Client, GetOptions};
use quorate_lab::Lab;

use crate::client::{register_key, value_of};
use crate::endpoint::Endpoint;
use crate::history::{Reply, Request, Run, parse_key};
use crate::writers::runtime;
use crate::{Error, Result, registers};

/// For one answer of a member.
const ANSWER: Duration = Duration::from_secs(10);
/// For a member to have what the others have.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Keys of one answer; gRPC bounds its size.
const PAGE: usize = 20_000;
/// Lost keys that are named one by one.
const NAMED: usize = 5;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Keys that were acknowledged and are not on a member.
    Lost {
        /// The member.
        member: String,
        /// How many.
        count: usize,
        /// The first of them.
        keys: Vec<String>,
    },
    /// Keys on a member that nobody wrote, or whose writing was refused.
    Invented {
        /// The member.
        member: String,
        /// How many.
        count: usize,
        /// The first of them.
        keys: Vec<String>,
    },
    /// A member that does not get what the others have.
    Behind {
        /// The member.
        member: String,
        /// The revision that it is at.
        revision: i64,
        /// The revision that another is at.
        cluster: i64,
    },
    /// Hashes of the key space at one revision, by member, that are not all the same.
    Diverged {
        /// The revision.
        revision: i64,
        /// Hash and revision of the last compaction.
        hashes: BTreeMap<String, (u32, i64)>,
    },
    /// A register's history is not linearizable.
    NotLinearizable(String),
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost {
                member,
                count,
                keys,
            } => write!(f, "{member} has lost {count} acknowledged keys: {keys:?}"),
            Self::Invented {
                member,
                count,
                keys,
            } => write!(
                f,
                "{member} has {count} keys that were never written: {keys:?}"
            ),
            Self::Behind {
                member,
                revision,
                cluster,
            } => write!(f, "{member} stays at revision {revision} of {cluster}"),
            Self::Diverged { revision, hashes } => {
                write!(f, "the members differ at revision {revision}: {hashes:?}")
            }
            Self::NotLinearizable(what) => f.write_str(what),
        }
    }
}

/// Checks what a run left on all members of a cluster, which must be healthy: every acknowledged
/// key is on every member, none is there that was not written, all members hash the same at one
/// revision, and the registers were linearizable.
///
/// # Errors
/// When a member does not answer.
pub fn check(lab: &Lab, members: &[Endpoint], run: &Run) -> Result<Vec<Finding>> {
    runtime(lab)?.block_on(async {
        let mut findings = Vec::new();
        let mut clients = Vec::new();
        for member in members {
            clients.push((member, member.client(ANSWER).await?));
        }
        let (last, newest) = barrier(&mut clients, run).await?;
        let mut common = newest;
        for (member, client) in &mut clients {
            let revision = catch_up(client, &member.name, newest).await?;
            if revision < newest {
                findings.push(Finding::Behind {
                    member: member.name.clone(),
                    revision,
                    cluster: newest,
                });
                common = common.min(revision);
            }
            let found = list(client, &member.name, &run.prefix).await?;
            findings.extend(compare(&member.name, run, &found));
        }
        findings.extend(compare_hashes(&mut clients, common).await?);
        let wrong = registers::violations(run, &last);
        findings.extend(wrong.into_iter().map(Finding::NotLinearizable));
        Ok(findings)
    })
}

/// How many keys there are of each of some runs: they are never deleted, so that there can only
/// come more, of writes that were under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census(pub BTreeMap<String, i64>);

impl Census {
    /// Counts the keys below prefixes, linearizably.
    ///
    /// # Errors
    /// When the member does not answer.
    pub fn take<'a>(
        lab: &Lab,
        member: &Endpoint,
        prefixes: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        runtime(lab)?.block_on(async {
            let mut client = member.client(ANSWER).await?;
            let mut counts = BTreeMap::new();
            for prefix in prefixes {
                let options = GetOptions::new().with_prefix().with_count_only();
                let answer = answer(&member.name, client.get(prefix, Some(options))).await?;
                counts.insert(prefix.to_owned(), answer.count());
            }
            Ok(Self(counts))
        })
    }

    /// The prefixes of which there were more keys before.
    #[must_use]
    pub fn fewer_than(&self, before: &Self) -> Vec<String> {
        let now = |prefix: &String| self.0.get(prefix).copied().unwrap_or_default();
        before
            .0
            .iter()
            .filter(|(prefix, count)| now(prefix) < **count)
            .map(|(prefix, count)| format!("{prefix}: {count} before, {} now", now(prefix)))
            .collect()
    }
}

async fn answer<T>(
    member: &str,
    asked: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::Silent(member.to_owned(), error.to_string())),
        Err(_) => Err(Error::Silent(
            member.to_owned(),
            format!("no answer in {ANSWER:?}"),
        )),
    }
}

/// Reads the registers linearizably; also the cluster's revision then.
async fn barrier(
    clients: &mut [(&Endpoint, Client)],
    run: &Run,
) -> Result<(BTreeMap<usize, u64>, i64)> {
    let used: HashSet<usize> = run
        .all()
        .filter_map(|operation| match operation.request {
            Request::Insert { .. } => None,
            Request::Read { register }
            | Request::Write { register, .. }
            | Request::Swap { register, .. } => Some(register),
        })
        .collect();
    let (mut last, mut newest) = (BTreeMap::new(), 0);
    for (member, client) in clients {
        for register in &used {
            let key = register_key(&run.prefix, *register);
            let answer = answer(&member.name, client.get(key, None)).await?;
            // What the last member says is the latest.
            last.insert(*register, value_of(answer.kvs()));
        }
        let options = GetOptions::new().with_count_only();
        let answer = answer(&member.name, client.get("/", Some(options))).await?;
        newest = newest.max(
            answer
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision),
        );
    }
    Ok((last, newest))
}

/// Waits until a member itself is at a revision; the one that it is at in the end.
async fn catch_up(client: &mut Client, member: &str, revision: i64) -> Result<i64> {
    let begun = Instant::now();
    loop {
        let options = GetOptions::new().with_count_only().with_serializable();
        let answer = answer(member, client.get("/", Some(options))).await?;
        let at = answer
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        if at >= revision || begun.elapsed() > CATCH_UP {
            return Ok(at);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The keys of a run as one member itself has them.
async fn list(client: &mut Client, member: &str, prefix: &str) -> Result<HashSet<String>> {
    let mut found = HashSet::new();
    let mut from = format!("{prefix}k/");
    let end = format!("{prefix}k0");
    loop {
        let options = GetOptions::new()
            .with_range(end.as_str())
            .with_keys_only()
            .with_serializable()
            .with_limit(i64::try_from(PAGE).unwrap_or(i64::MAX));
        let page = answer(member, client.get(from.as_str(), Some(options))).await?;
        let mut last = None;
        for pair in page.kvs() {
            let key = String::from_utf8_lossy(pair.key()).into_owned();
            last = Some(key.clone());
            found.insert(key);
        }
        match last {
            // The next key after it.
            Some(last) if page.more() => from = last + "\0",
            _ => return Ok(found),
        }
    }
}

fn compare(member: &str, run: &Run, found: &HashSet<String>) -> Vec<Finding> {
    let mut replies: HashMap<(usize, u64), Reply> = HashMap::new();
    let mut lost = Vec::new();
    for operation in run.all() {
        let Request::Insert { number } = operation.request else {
            continue;
        };
        replies.insert((operation.client, number), operation.reply);
        let key = run.key(operation.client, number);
        if operation.reply == Reply::Done && !found.contains(&key) {
            lost.push(key);
        }
    }
    let written = |key: &String| {
        let reply = parse_key(&run.prefix, key).and_then(|which| replies.get(&which));
        matches!(reply, Some(Reply::Done | Reply::Unknown))
    };
    let mut invented: Vec<String> = found.iter().filter(|key| !written(key)).cloned().collect();
    invented.sort();
    let mut findings = Vec::new();
    let member = member.to_owned();
    if !lost.is_empty() {
        findings.push(Finding::Lost {
            member: member.clone(),
            count: lost.len(),
            keys: lost.into_iter().take(NAMED).collect(),
        });
    }
    if !invented.is_empty() {
        findings.push(Finding::Invented {
            member,
            count: invented.len(),
            keys: invented.into_iter().take(NAMED).collect(),
        });
    }
    findings
}

/// Asks all members for their hash at one revision, again for a while if they differ: a compaction
/// is done by each member in its own time.
async fn compare_hashes(
    clients: &mut [(&Endpoint, Client)],
    revision: i64,
) -> Result<Option<Finding>> {
    let begun = Instant::now();
    loop {
        let mut hashes = BTreeMap::new();
        for (member, client) in &mut *clients {
            let said = answer(&member.name, client.hash_kv(revision)).await?;
            hashes.insert(member.name.clone(), (said.hash(), said.compact_version()));
        }
        let different: HashSet<&(u32, i64)> = hashes.values().collect();
        if different.len() <= 1 {
            return Ok(None);
        }
        if begun.elapsed() > Duration::from_secs(3) {
            return Ok(Some(Finding::Diverged { revision, hashes }));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
