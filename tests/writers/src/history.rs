//! What clients asked for, when, and what they were told.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a client asked a member for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write a key that nobody else writes, and that is never written again.
    Insert {
        /// Numbers the keys of a client.
        number: u64,
    },
    /// Read a register, linearizably.
    Read {
        /// Which.
        register: usize,
    },
    /// Write a register.
    Write {
        /// Which.
        register: usize,
        /// A value that is never written a second time.
        value: u64,
    },
    /// Write a register if it has a value.
    Swap {
        /// Which.
        register: usize,
        /// The value it must have; 0 when it must not be there.
        expected: u64,
        /// A value that is never written a second time.
        value: u64,
    },
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An insert, a write or a swap has been done.
    Done,
    /// The register has this value, 0 when it is not there: of a read, or of a swap that was not done.
    Found(u64),
    /// It has not been done and never will be.
    Refused,
    /// It may have been done, or may be done at any time from now on.
    Unknown,
}

/// One request and its reply. Times are since the start of the run.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The client, an index of [`Run::clients`].
    pub client: usize,
    /// What was asked for.
    pub request: Request,
    /// When.
    pub invoked: Duration,
    /// When the reply was there, or the client gave up.
    pub returned: Duration,
    /// The reply.
    pub reply: Reply,
}

impl Operation {
    /// Whether a change was acknowledged.
    #[must_use]
    pub fn is_acknowledged_write(&self) -> bool {
        self.reply == Reply::Done
    }
}

/// A time in which no write was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// How long.
    pub length: Duration,
    /// When it began, since the start of the run.
    pub begun: Duration,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [length, begun] = [self.length, self.begun].map(|time| time.as_secs_f64());
        write!(f, "{length:.3} s from {begun:.1} s on")
    }
}

/// A client of a run.
#[derive(Clone, Debug)]
pub struct ClientLife {
    /// The endpoint's name.
    pub endpoint: String,
    /// When it was told to stop.
    pub ended: Duration,
}

/// All that was written in a run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Prefix of all its keys.
    pub prefix: String,
    /// The clients, in the order in which they were added.
    pub clients: Vec<ClientLife>,
    /// Each client's operations, in its order.
    pub operations: Vec<Vec<Operation>>,
    /// When it ended.
    pub ended: Duration,
}

impl Run {
    /// All operations, client by client.
    pub fn all(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().flatten()
    }

    /// The key of an insert.
    #[must_use]
    pub fn key(&self, client: usize, number: u64) -> String {
        key(&self.prefix, client, number)
    }

    /// How many operations there were, and how many of them ended unknown.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let unknown = self.all().filter(|op| op.reply == Reply::Unknown).count();
        (self.all().count(), unknown)
    }

    /// The longest time in which no client had a write acknowledged, from the first
    /// acknowledgement to the end of the run. Of a run without any it is all of it.
    #[must_use]
    pub fn longest_gap(&self) -> Gap {
        longest(self.all(), self.ended)
    }

    /// The same for each endpoint by itself, until its client ended; the longest of those that
    /// were added again and again. Endpoints that never acknowledged anything are not in it.
    #[must_use]
    pub fn gaps(&self) -> BTreeMap<String, Gap> {
        let mut gaps: BTreeMap<String, Gap> = BTreeMap::new();
        for (client, operations) in self.clients.iter().zip(&self.operations) {
            if operations.iter().any(Operation::is_acknowledged_write) {
                let gap = longest(operations.iter(), client.ended);
                let known = gaps.entry(client.endpoint.clone()).or_default();
                *known = (*known).max(gap);
            }
        }
        gaps
    }

    /// The longest gap that touches a part of the run.
    #[must_use]
    pub fn longest_gap_between(&self, from: Duration, to: Duration) -> Gap {
        let mut times: Vec<Duration> = acknowledgements(self.all());
        times.push(self.ended);
        let touching = |gap: &Gap| gap.begun < to && gap.begun + gap.length > from;
        between(&times).filter(touching).max().unwrap_or_default()
    }
}

/// The key of an insert; of the same length for all, so that their order is that of the numbers.
pub(crate) fn key(prefix: &str, client: usize, number: u64) -> String {
    format!("{prefix}k/{client:03}/{number:08}")
}

/// The client and the number of an insert's key.
pub(crate) fn parse_key(prefix: &str, key: &str) -> Option<(usize, u64)> {
    let (client, number) = key
        .strip_prefix(prefix)?
        .strip_prefix("k/")?
        .split_once('/')?;
    Some((client.parse().ok()?, number.parse().ok()?))
}

fn acknowledgements<'a>(operations: impl Iterator<Item = &'a Operation>) -> Vec<Duration> {
    let mut times: Vec<Duration> = operations
        .filter(|operation| operation.is_acknowledged_write())
        .map(|operation| operation.returned)
        .collect();
    times.sort_unstable();
    times
}

fn between(times: &[Duration]) -> impl Iterator<Item = Gap> {
    times.windows(2).map(|pair| Gap {
        length: pair[1].saturating_sub(pair[0]),
        begun: pair[0],
    })
}

fn longest<'a>(operations: impl Iterator<Item = &'a Operation>, ended: Duration) -> Gap {
    let mut times = acknowledgements(operations);
    if times.is_empty() {
        times.push(Duration::ZERO);
    }
    times.push(ended);
    between(&times).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(client: usize, number: u64, returned: u64, reply: Reply) -> Operation {
        Operation {
            client,
            request: Request::Insert { number },
            invoked: Duration::from_millis(returned - 1),
            returned: Duration::from_millis(returned),
            reply,
        }
    }

    fn run(operations: Vec<Vec<Operation>>, ended: u64) -> Run {
        let life = |(number, _)| ClientLife {
            endpoint: format!("etcd-{number}"),
            ended: Duration::from_millis(ended),
        };
        Run {
            prefix: "/a/".into(),
            clients: operations.iter().enumerate().map(life).collect(),
            operations,
            ended: Duration::from_millis(ended),
        }
    }

    #[test]
    fn a_gap_is_one_in_which_nobody_is_acknowledged() {
        let first = vec![insert(0, 0, 10, Reply::Done), insert(0, 1, 90, Reply::Done)];
        let second = vec![
            insert(1, 0, 40, Reply::Done),
            insert(1, 1, 60, Reply::Unknown),
            insert(1, 2, 100, Reply::Done),
        ];
        let run = run(vec![first, second], 110);
        let gap = |length, begun| Gap {
            length: Duration::from_millis(length),
            begun: Duration::from_millis(begun),
        };
        assert_eq!(run.longest_gap(), gap(50, 40));
        assert_eq!(run.gaps()["etcd-0"], gap(80, 10));
        assert_eq!(run.gaps()["etcd-1"], gap(60, 40));
        let [from, to] = [95, 105].map(Duration::from_millis);
        assert_eq!(run.longest_gap_between(from, to), gap(10, 100));
    }

    #[test]
    fn writes_that_never_come_back_are_a_gap_to_the_end() {
        let run = run(vec![vec![insert(0, 0, 10, Reply::Done)]], 500);
        assert_eq!(run.longest_gap().length, Duration::from_millis(490));
        let silent = Run {
            ended: Duration::from_secs(7),
            ..Run::default()
        };
        assert_eq!(silent.longest_gap().length, Duration::from_secs(7));
    }

    #[test]
    fn keys_are_read_back() {
        assert_eq!(parse_key("/a/", &key("/a/", 3, 17)), Some((3, 17)));
        assert_eq!(parse_key("/b/", &key("/a/", 3, 17)), None);
        assert_eq!(parse_key("/a/", "/a/r/1"), None);
    }
}
