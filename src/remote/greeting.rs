//! What a launched command says before the script runs: noise, sudo's prompts, the marker.

use super::error::{RemoteError, SudoProblem};

/// Bytes of noise that are kept for error messages.
const NOISE: usize = 16 * 1024;

/// Separates the noise before the marker from the script's own output.
pub(super) struct Greeting {
    marker: Vec<u8>,
    prompt: Vec<u8>,
    out: Side,
    err: Side,
}

#[derive(Default)]
struct Side {
    seen: bool,
    early: Vec<u8>,
}

impl Side {
    /// Appends and returns what belongs to the script.
    fn take(&mut self, bytes: &[u8], marker: &[u8]) -> Vec<u8> {
        if self.seen {
            return bytes.to_vec();
        }
        self.early.extend_from_slice(bytes);
        if let Some(at) = find(&self.early, marker) {
            self.seen = true;
            let rest = self.early.split_off(at + marker.len());
            self.early.truncate(at);
            return rest;
        }
        if self.early.len() > NOISE {
            let excess = self.early.len() - NOISE;
            self.early.drain(..excess);
        }
        Vec::new()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

impl Greeting {
    pub(super) fn new(marker: &str, prompt: &str) -> Self {
        let mut line = marker.as_bytes().to_vec();
        line.push(b'\n');
        Self {
            marker: line,
            prompt: prompt.as_bytes().to_vec(),
            out: Side::default(),
            err: Side::default(),
        }
    }

    /// The script's part of `bytes` read from standard output.
    pub(super) fn stdout(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.out.take(bytes, &self.marker)
    }

    /// The script's part of `bytes` read from standard error.
    pub(super) fn stderr(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.err.take(bytes, &self.marker)
    }

    /// Whether the launcher runs, so that input may be sent.
    pub(super) fn ready(&self) -> bool {
        self.out.seen
    }

    /// Whether standard error arrives: a login shell may send it elsewhere.
    pub(super) fn hears_errors(&self) -> bool {
        self.err.seen
    }

    /// Whether sudo asks again: the password was wrong.
    pub(super) fn asked_again(&self) -> bool {
        find(&self.err.early, &self.prompt).is_some_and(|at| {
            find(&self.err.early[at + self.prompt.len()..], &self.prompt).is_some()
        })
    }

    /// What was said instead of the marker, for messages.
    pub(super) fn noise(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.err.early).into_owned();
        if text.trim().is_empty() {
            text = String::from_utf8_lossy(&self.out.early).into_owned();
        }
        let prompt = String::from_utf8_lossy(&self.prompt);
        text.replace(&*prompt, "")
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Why a command ended, with `status`, before the launcher ran.
    pub(super) fn failure(
        &self,
        node: &str,
        sudo: bool,
        code: Option<i32>,
        status: String,
    ) -> RemoteError {
        let text = self.noise();
        let node = node.to_owned();
        if sudo {
            let has = |words: &str| text.contains(words);
            let problem = if code == Some(127)
                || has("sudo: No such file")
                || has("sudo: not found")
            {
                SudoProblem::Absent
            } else if self.asked_again() || has("incorrect password") {
                SudoProblem::WrongPassword
            } else if has("password is required") || has("no password was provided") {
                SudoProblem::PasswordNeeded
            } else if has("must have a tty") {
                SudoProblem::RequireTty
            } else if has("not in the sudoers") || has("not allowed to") || has("may not run sudo")
            {
                SudoProblem::NotPermitted(text)
            } else {
                SudoProblem::Other(if text.is_empty() { status } else { text })
            };
            return RemoteError::Sudo { node, problem };
        }
        RemoteError::Shell { node, status, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_before_the_marker_is_dropped_however_it_is_cut() {
        let stream = b"welcome\nfooMARK\nfirst\nMARK\nlast";
        for size in 1..stream.len() {
            let mut greeting = Greeting::new("MARK", "P?");
            let mut output = Vec::new();
            for piece in stream.chunks(size) {
                output.extend(greeting.stdout(piece));
            }
            assert_eq!(output, b"first\nMARK\nlast", "pieces of {size}");
            assert!(greeting.ready());
        }
    }

    #[test]
    fn a_second_prompt_is_a_wrong_password() {
        let mut greeting = Greeting::new("MARK", "P?");
        greeting.stderr(b"P?");
        assert!(!greeting.asked_again());
        greeting.stderr(b"Sorry, try again.\nP?");
        assert!(greeting.asked_again());
    }

    #[test]
    fn refusals_are_told_apart() {
        let of = |text: &str, code| {
            let mut greeting = Greeting::new("MARK", "P?");
            greeting.stderr(text.as_bytes());
            match greeting.failure("n", true, Some(code), "exit 1".into()) {
                RemoteError::Sudo { problem, .. } => problem,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            of("sudo: a password is required\n", 1),
            SudoProblem::PasswordNeeded
        );
        assert_eq!(
            of("env: 'sudo': No such file or directory\n", 127),
            SudoProblem::Absent
        );
        assert_eq!(
            of("sudo: sorry, you must have a tty to run sudo\n", 1),
            SudoProblem::RequireTty
        );
        assert!(matches!(
            of("ops is not in the sudoers file.\n", 1),
            SudoProblem::NotPermitted(_)
        ));
        assert!(matches!(of("odd\n", 1), SudoProblem::Other(text) if text == "odd"));
    }

    #[test]
    fn endless_noise_is_bounded() {
        let mut greeting = Greeting::new("MARK", "P?");
        for _ in 0..100 {
            assert!(greeting.stdout(&[b'x'; 4096]).is_empty());
        }
        assert_eq!(greeting.stdout(b"MARK\nyes"), b"yes");
    }
}
