//! The resolver of a normal run: environment, file, command and prompt.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::SecretSource;
use crate::desired::model::SecretRef;

/// Longest secret that is read, in bytes.
const LIMIT: u64 = 64 * 1024;
/// Time for a command to end; it may ask somebody for a passphrase of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// Resolves references on the operator's machine. Each reference is fetched once a run; prompts are
/// told apart by their purpose.
#[derive(Default)]
pub struct Resolver {
    known: Mutex<BTreeMap<(SecretRef, String), SecretString>>,
}

impl Resolver {
    /// A resolver that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl SecretSource for Resolver {
    fn resolve(&self, reference: &SecretRef, purpose: &str) -> Result<SecretString, String> {
        // Only prompts differ by purpose: a command must not run again for every host.
        let scope = if *reference == SecretRef::Prompt {
            purpose
        } else {
            ""
        };
        // The lock is held while asking, so that parallel hosts lead to one prompt.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (reference.clone(), scope.to_owned());
        if let Some(secret) = known.get(&key) {
            return Ok(secret.clone());
        }
        let secret = fetch(reference, purpose)?;
        known.insert(key, secret.clone());
        Ok(secret)
    }
}

fn fetch(reference: &SecretRef, purpose: &str) -> Result<SecretString, String> {
    match reference {
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) if value.is_empty() => Err(format!(
                "{purpose}: the environment variable {name} is empty"
            )),
            Ok(value) => Ok(value.into()),
            Err(std::env::VarError::NotPresent) => Err(format!(
                "{purpose}: the environment variable {name} is not set"
            )),
            Err(std::env::VarError::NotUnicode(_)) => Err(format!(
                "{purpose}: the environment variable {name} is not UTF-8"
            )),
        },
        SecretRef::File(path) => read_file(path, purpose),
        SecretRef::Command(command) => run(command, purpose, PATIENCE),
        SecretRef::Prompt => ask(purpose),
    }
}

fn read_file(path: &Path, purpose: &str) -> Result<SecretString, String> {
    let file = std::fs::File::open(path)
        .map_err(|error| format!("{purpose}: cannot read {}: {error}", path.display()))?;
    let what = format!("{purpose}: {}", path.display());
    collect(file, &what)
}

/// Reads everything, bounded, and takes one trailing line end off.
fn collect(source: impl Read, what: &str) -> Result<SecretString, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    source
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{what}: {error}"))?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("{what} is longer than {LIMIT} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{what} is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    Ok(text.into())
}

fn run(command: &str, purpose: &str, patience: Duration) -> Result<SecretString, String> {
    let what = format!("{purpose}: the output of the command `{command}`");
    let failed = |error: std::io::Error| format!("{purpose}: cannot run `{command}`: {error}");
    let deadline = Instant::now() + patience;
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Read beside, since a child of the command may keep the pipe open for ever.
    let (sender, output) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        let what = what.clone();
        std::thread::spawn(move || sender.send(collect(stdout, &what)));
    }
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "{purpose}: the command `{command}` did not end within {} s",
                    patience.as_secs()
                ));
            }
        }
    };
    if !status.success() {
        return Err(format!(
            "{purpose}: the command `{command}` failed ({status})"
        ));
    }
    let left = deadline.saturating_duration_since(Instant::now());
    output
        .recv_timeout(left)
        .unwrap_or_else(|_| Err(format!("{what} does not end")))
}

fn ask(purpose: &str) -> Result<SecretString, String> {
    if !std::io::stdin().is_terminal() {
        return Err(format!(
            "{purpose}: cannot be asked for, since there is no terminal"
        ));
    }
    let answer = rpassword::prompt_password(format!("{purpose}: "))
        .map_err(|error| format!("{purpose}: {error}"))?;
    let answer: SecretString = answer.into();
    if answer.expose_secret().is_empty() {
        return Err(format!("{purpose}: nothing was entered"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(reference: &SecretRef) -> Result<String, String> {
        Resolver::new()
            .resolve(reference, "test")
            .map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn a_command_loses_one_line_end_only() {
        let reference = SecretRef::Command("printf 'a b\\n\\n'".into());
        assert_eq!(resolved(&reference), Ok("a b\n".into()));
    }

    #[test]
    fn a_failing_command_is_an_error_without_its_output() {
        let error = resolved(&SecretRef::Command("echo hidden; exit 3".into())).unwrap_err();
        assert!(error.contains("exit status: 3"), "{error}");
        let error = resolved(&SecretRef::Command("true".into())).unwrap_err();
        assert!(error.contains("is empty"), "{error}");
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let command = format!("echo $$ >{}; exec sleep 60", file.display());
        let begun = Instant::now();
        let error = run(&command, "test", Duration::from_secs(1)).unwrap_err();
        assert!(error.contains("did not end within 1 s"), "{error}");
        // Nor does what it leaves behind, with the pipe in its hands.
        let error = run("echo x; sleep 30 &", "test", Duration::from_secs(1)).unwrap_err();
        assert!(error.contains("does not end"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        let pid = std::fs::read_to_string(file).unwrap();
        let process = Path::new("/proc").join(pid.trim());
        assert!(!process.exists(), "it still runs");
    }

    #[test]
    fn a_command_runs_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let reference = SecretRef::Command(format!("echo x >> {0}; cat {0}", log.display()));
        let resolver = Resolver::new();
        for purpose in ["one", "two"] {
            assert_eq!(
                resolver
                    .resolve(&reference, purpose)
                    .unwrap()
                    .expose_secret(),
                "x"
            );
        }
    }

    #[test]
    fn a_file_is_read_and_a_missing_one_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "s3cret\r\n").unwrap();
        assert_eq!(
            resolved(&SecretRef::File(path.clone())),
            Ok("s3cret".into())
        );
        let error = resolved(&SecretRef::File(dir.path().join("no"))).unwrap_err();
        assert!(error.contains("cannot read"), "{error}");
    }

    #[test]
    fn debug_hides_the_value() {
        let secret = Resolver::new().resolve(&SecretRef::Command("echo abc".into()), "test");
        assert!(!format!("{secret:?}").contains("abc"));
    }
}
