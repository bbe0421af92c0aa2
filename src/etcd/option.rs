//! The options of each minor of etcd, read from its source (`scripts/etcd-options.py`) and checked in the
//! tests against the `--help` of real binaries.

use std::sync::LazyLock;

use semver::Version;

use super::version::Minor;

/// What values an option takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A whole number from 0, or in the range (both ends included).
    Uint(Option<(u64, u64)>),
    /// A number.
    Float,
    /// Go's duration: `1h30m`, `500ms`.
    Duration,
    /// Go's duration or a whole number from 0: `auto-compaction-retention`.
    Retention,
    /// A number of bytes; units such as `8GiB` are understood here, not by etcd.
    Size,
    /// Any text.
    Text,
    /// Texts, separated by commas.
    List,
    /// One of these words.
    Enum(Vec<&'static str>),
}

/// One option of one minor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOption {
    /// Flag name without dashes in front.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Read only while a member has no WAL: a change of it never needs a restart.
    pub bootstrap_only: bool,
    /// First patch of the minor that has it.
    pub since: u64,
    /// Last patch of the minor that has it, if it went.
    pub until: Option<u64>,
}

impl EtcdOption {
    /// Whether this patch of the minor has the option.
    pub fn is_in(&self, version: &Version) -> bool {
        version.patch >= self.since && self.until.is_none_or(|until| version.patch <= until)
    }

    /// The environment variable of the option, `ETCD_…`.
    pub fn env_name(&self) -> String {
        env_name(self.name)
    }
}

/// The environment variable of a flag: `quota-backend-bytes` is `ETCD_QUOTA_BACKEND_BYTES`.
/// Source: etcd pkg/flags `FlagToEnv`.
pub fn env_name(flag: &str) -> String {
    format!("ETCD_{}", flag.replace('-', "_").to_uppercase())
}

/// The options of one minor, sorted by name.
#[derive(Debug)]
pub struct Table {
    /// The minor.
    pub minor: Minor,
    /// Its options.
    pub options: Vec<EtcdOption>,
}

impl Table {
    /// The option of this flag name.
    pub fn get(&self, name: &str) -> Option<&EtcdOption> {
        let at = self.options.binary_search_by(|o| o.name.cmp(name)).ok()?;
        self.options.get(at)
    }
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    [
        (4, include_str!("options/3.4.txt")),
        (5, include_str!("options/3.5.txt")),
        (6, include_str!("options/3.6.txt")),
        (7, include_str!("options/3.7.txt")),
    ]
    .into_iter()
    .map(|(minor, text)| {
        let mut options: Vec<EtcdOption> = text.lines().filter_map(line).collect();
        options.sort_by_key(|o| o.name);
        Table {
            minor: Minor { major: 3, minor },
            options,
        }
    })
    .collect()
});

/// Options of every known minor, oldest first.
pub fn tables() -> &'static [Table] {
    &TABLES
}

/// Options of a minor, if it is known.
pub fn table(minor: Minor) -> Option<&'static Table> {
    TABLES.iter().find(|t| t.minor == minor)
}

fn line(text: &'static str) -> Option<EtcdOption> {
    if text.starts_with('#') {
        return None;
    }
    let mut words = text.split_whitespace();
    let (name, kind) = (words.next()?, kind(words.next()?)?);
    let mut option = EtcdOption {
        name,
        kind,
        bootstrap_only: false,
        since: 0,
        until: None,
    };
    for word in words {
        match word.split_once('=') {
            None if word == "bootstrap" => option.bootstrap_only = true,
            Some(("since", v)) => option.since = patch(v)?,
            Some(("until", v)) => option.until = Some(patch(v)?),
            _ => return None,
        }
    }
    Some(option)
}

fn patch(version: &str) -> Option<u64> {
    version.rsplit('.').next()?.parse().ok()
}

fn kind(word: &'static str) -> Option<Kind> {
    Some(match word.split_once(':') {
        None => match word {
            "bool" => Kind::Bool,
            "int" => Kind::Int,
            "uint" => Kind::Uint(None),
            "float" => Kind::Float,
            "duration" => Kind::Duration,
            "retention" => Kind::Retention,
            "size" => Kind::Size,
            "string" => Kind::Text,
            "list" => Kind::List,
            _ => return None,
        },
        Some(("uint", range)) => {
            let (from, to) = range.split_once("..")?;
            Kind::Uint(Some((from.parse().ok()?, to.parse().ok()?)))
        }
        Some(("enum", words)) => Kind::Enum(words.split('|').collect()),
        Some(_) => return None,
    })
}

impl Kind {
    /// The value in etcd's own spelling, or what was expected instead.
    pub fn normalise(&self, value: &str) -> Result<String, String> {
        let fits = match self {
            Kind::Bool => matches!(value, "true" | "false").then(|| value.to_owned()),
            Kind::Int => value.parse::<i64>().ok().map(|v| v.to_string()),
            Kind::Uint(range) => value
                .parse::<u64>()
                .ok()
                .filter(|v| range.is_none_or(|(from, to)| (from..=to).contains(v)))
                .map(|v| v.to_string()),
            Kind::Float => value
                .parse::<f64>()
                .ok()
                .filter(|v| v.is_finite())
                .map(|_| value.to_owned()),
            Kind::Duration => is_go_duration(value).then(|| value.to_owned()),
            Kind::Retention => {
                (value.parse::<u64>().is_ok() || is_go_duration(value)).then(|| value.to_owned())
            }
            Kind::Size => parse_size(value).map(|v| v.to_string()),
            Kind::Text | Kind::List => {
                (!value.contains(['\n', '\r', '\0'])).then(|| value.to_owned())
            }
            Kind::Enum(words) => words.contains(&value).then(|| value.to_owned()),
        };
        fits.ok_or_else(|| self.expected())
    }

    /// What the option takes, for an error: "expected …".
    pub fn expected(&self) -> String {
        match self {
            Kind::Bool => "`true` or `false`".to_owned(),
            Kind::Int => "a whole number".to_owned(),
            Kind::Uint(None) => "a whole number from 0".to_owned(),
            Kind::Uint(Some((from, to))) => format!("a whole number from {from} to {to}"),
            Kind::Float => "a number".to_owned(),
            Kind::Duration => "a duration with units, such as \"5m\" or \"1h30m\"".to_owned(),
            Kind::Retention => "a duration such as \"1h\", or a whole number".to_owned(),
            Kind::Size => "a size, such as \"8GiB\" or a number of bytes".to_owned(),
            Kind::Text | Kind::List => "a text of one line".to_owned(),
            Kind::Enum(words) => {
                let words: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
                format!("one of {}", words.join(", "))
            }
        }
    }
}

/// Bytes of a size: plain, or with one of the units B, KiB, MiB, GiB, TiB (1024) and kB, KB, MB, GB, TB (1000).
pub fn parse_size(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.replace('_', "").parse().ok()?;
    let factor: i64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Whether Go's `time.ParseDuration` takes it, signs excepted.
fn is_go_duration(text: &str) -> bool {
    if text == "0" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(number);
        if digits.matches('.').count() > 1 || !digits.contains(|c: char| c.is_ascii_digit()) {
            return false;
        }
        let Some(unit) = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"]
            .into_iter()
            .filter(|u| tail.starts_with(u))
            .max_by_key(|u| u.len())
        else {
            return false;
        };
        rest = &tail[unit.len()..];
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_every_table_is_understood() {
        let texts = [
            include_str!("options/3.4.txt"),
            include_str!("options/3.5.txt"),
            include_str!("options/3.6.txt"),
            include_str!("options/3.7.txt"),
        ];
        for (table, text) in tables().iter().zip(texts) {
            let lines = text.lines().filter(|l| !l.starts_with('#')).count();
            assert_eq!(table.options.len(), lines, "{}", table.minor);
            assert!(lines > 80, "{}", table.minor);
            for pair in table.options.windows(2) {
                assert!(pair[0].name < pair[1].name, "{}", pair[1].name);
            }
        }
    }

    #[test]
    fn options_come_and_go() {
        let t = |minor| table(Minor { major: 3, minor }).expect("known");
        assert!(t(4).get("debug").is_some());
        assert!(t(5).get("debug").is_none());
        assert!(t(6).get("experimental-corrupt-check-time").is_some());
        assert!(t(7).get("experimental-corrupt-check-time").is_none());
        let sleep = t(5)
            .get("experimental-compaction-sleep-interval")
            .expect("listed");
        assert!(!sleep.is_in(&Version::new(3, 5, 15)));
        assert!(sleep.is_in(&Version::new(3, 5, 16)));
        assert!(
            t(5).get("initial-cluster-state")
                .is_some_and(|o| o.bootstrap_only)
        );
        assert!(table(Minor { major: 3, minor: 8 }).is_none());
        assert_eq!(env_name("quota-backend-bytes"), "ETCD_QUOTA_BACKEND_BYTES");
    }

    #[test]
    fn values_take_etcds_spelling() {
        assert_eq!(Kind::Size.normalise("8GiB"), Ok("8589934592".into()));
        assert_eq!(Kind::Size.normalise("8 GB"), Ok("8000000000".into()));
        assert_eq!(Kind::Size.normalise("512"), Ok("512".into()));
        assert!(Kind::Size.normalise("8G").is_err());
        assert!(Kind::Size.normalise("99999999999TiB").is_err());
        assert!(Kind::Size.normalise("GiB").is_err());
        assert!(Kind::Bool.normalise("yes").is_err());
        assert!(Kind::Uint(Some((4, 31))).normalise("3").is_err());
        assert_eq!(Kind::Uint(None).normalise("007"), Ok("7".into()));
        assert!(Kind::Uint(None).normalise("-1").is_err());
        assert_eq!(Kind::Retention.normalise("10"), Ok("10".into()));
        assert_eq!(Kind::Retention.normalise("1h30m"), Ok("1h30m".into()));
        assert!(Kind::Text.normalise("a\nb").is_err());
    }

    #[test]
    fn durations_are_gos() {
        for good in ["0", "5m", "1h30m", "1.5h", "100ms", "10us", "10µs", ".5s"] {
            assert!(is_go_duration(good), "{good}");
        }
        for bad in ["", "5", "1d", "5 m", "m", "1.2.3s", ".s", "5m-"] {
            assert!(!is_go_duration(bad), "{bad}");
        }
    }
}
