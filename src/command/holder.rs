//! Who runs, and who holds the lock.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::apply::LockHolder;
use crate::apply::lock::Holder;
use crate::error::Failure;

pub(super) fn describe(holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!(
            "{}, running `{}` for {} s",
            holder.operator,
            holder.command,
            age(holder).as_secs()
        ),
        None => "another run".into(),
    }
}

fn age(holder: &Holder) -> Duration {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    Duration::from_secs(u64::try_from(now.saturating_sub(holder.since)).unwrap_or(0))
}

pub(super) fn lock_holder(node: &str, holder: Option<Holder>) -> LockHolder {
    let age = holder.as_ref().map(age).unwrap_or_default();
    let holder = holder.unwrap_or_else(|| Holder {
        operator: "another operator".into(),
        command: "quorate".into(),
        since: 0,
        version: String::new(),
        run: String::new(),
    });
    LockHolder {
        node: node.to_owned(),
        run: holder.run,
        who: holder.operator,
        command: holder.command,
        version: holder.version,
        age,
    }
}

pub(super) fn holder_digit(stamp: &str) -> u8 {
    stamp.bytes().rev().find(u8::is_ascii_digit).unwrap_or(b'0') - b'0'
}

pub(super) fn stamp() -> String {
    OffsetDateTime::now_utc()
        .format(&Rfc3339)
        .unwrap_or_default()
}

pub(super) fn run_id() -> Result<String, Failure> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(format!("no randomness: {error}")))?;
    Ok(hex::encode(bytes))
}

/// `user@host` of the operator.
pub(super) fn who() -> String {
    let user = std::env::var("SUDO_USER")
        .or_else(|_| std::env::var("USER"))
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| match rustix::process::getuid() {
            uid if uid.is_root() => "root".into(),
            uid => uid.as_raw().to_string(),
        });
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!("{user}@{host}")
}
