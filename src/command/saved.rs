//! Saved plans: JSON, mode 0600, applied only by the version that made them.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{BLOCKED, Failure};
use crate::plan::{FORMAT_VERSION, Plan, fingerprint};

/// Largest plan that is read, in bytes.
const LIMIT: u64 = 256 << 20;

/// Writes a plan, replacing a file of that name.
pub fn write(plan: &Plan, path: &Path) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".quorate-plan-")
        .make_in(dir, |temporary| {
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(temporary)
        })
        .map_err(failed)?;
    let text =
        serde_json::to_string_pretty(plan).map_err(|error| Failure::new(error.to_string()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Reads a plan.
pub fn read(path: &Path) -> Result<Plan, Failure> {
    let size = std::fs::metadata(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?
        .len();
    if size > LIMIT {
        return Err(Failure::new(format!(
            "{} is too large for a plan",
            path.display()
        )));
    }
    let text = std::fs::read(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    parse(&text).map_err(|failure| Failure {
        message: failure
            .message
            .map(|message| format!("{}: {message}", path.display())),
        ..failure
    })
}

/// Reads the text of a plan.
pub fn parse(text: &[u8]) -> Result<Plan, Failure> {
    #[derive(serde::Deserialize)]
    struct Head {
        format_version: String,
        tool_version: String,
    }
    let again = "plan again, with this version of quorate";
    let head: Head = serde_json::from_slice(text)
        .map_err(|error| Failure::new(format!("this is no saved plan: {error}")).remedy(again))?;
    let ours = env!("CARGO_PKG_VERSION");
    if head.tool_version != ours {
        return Err(Failure::new(format!(
            "the plan was made by quorate {}, this is {ours}",
            head.tool_version
        ))
        .code(BLOCKED)
        .remedy(again));
    }
    if head.format_version.split('.').next() != FORMAT_VERSION.split('.').next() {
        return Err(
            Failure::new(format!("the plan has format {}", head.format_version)).remedy(again),
        );
    }
    let plan: Plan = serde_json::from_slice(text).map_err(|error| {
        Failure::new(format!("the saved plan is damaged: {error}")).remedy(again)
    })?;
    if plan.fingerprint != fingerprint::fingerprint(&plan.facts) {
        return Err(Failure::new(
            "the saved plan is damaged: its fingerprint does not match its facts",
        )
        .remedy(again));
    }
    crate::plan::checker::check(&plan.actions).map_err(|faults| {
        Failure::new(format!(
            "the saved plan breaks rules: {}",
            faults.join("; ")
        ))
        .code(BLOCKED)
        .remedy(again)
    })?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_never_panics(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(parse(&text).is_err());
        }
    }
}
