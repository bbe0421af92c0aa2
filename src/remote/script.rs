//! How a script travels to a host.
//!
//! The remote command line holds a constant launcher, random tokens, the script's length and the
//! time limit; nothing secret and nothing that needs quoting beyond one pair of single quotes, so that any login
//! shell (bash, dash, zsh, csh, fish) passes it on unchanged: no `!`, no backslash, no single quote
//! inside. The launcher
//! 1. prints a marker on both streams: what came before is noise of the login shell or of sudo;
//! 2. drops input up to a sentinel line: what sudo has left of the password;
//! 3. reads exactly the script's bytes, checks that they end with the sentinel, and evaluates them.
//!    A connection cut in between executes nothing;
//! 4. leaves the rest of the input to the script.
//!
//! The script's last words, on standard error, are its exit status: libssh2 calls a status that never came 0. A script
//! with an `EXIT` trap of its own says them with `q_last_words STATUS`.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exit code of the launcher when the script did not arrive whole.
pub(super) const INCOMPLETE: i32 = 125;

/// How commands become root's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sudo {
    /// They are root's already.
    No,
    /// `sudo -n`.
    WithoutPassword,
    /// `sudo -S`.
    WithPassword,
}

/// A command line and what is to be written to it.
pub(super) struct Launch {
    /// The remote command line.
    pub(super) command: String,
    /// Standard input: sentinel line and script.
    pub(super) input: Vec<u8>,
    /// Printed, as a line, when the launcher runs.
    pub(super) marker: String,
    /// sudo's prompt.
    pub(super) prompt: String,
    /// Printed behind standard error when the script ends, with its exit status and a line's end.
    pub(super) end: String,
}

/// A random word of 32 hexadecimal digits.
pub(super) fn token() -> String {
    // Keys of `RandomState` come from the system's random source.
    let part = |salt: u8| RandomState::new().hash_one(salt);
    format!("{:016x}{:016x}", part(0), part(1))
}

/// Wraps `text` for execution as root, ended on the host after `limit`.
pub(super) fn launch(text: &[u8], sudo: Sudo, limit: Option<Duration>) -> Launch {
    let (marker, sentinel, prompt, end) = (token(), token(), token(), token());
    let script = whole(text, &sentinel, &end);
    let mut input = Vec::with_capacity(script.len() + sentinel.len() + 1);
    input.extend_from_slice(sentinel.as_bytes());
    input.push(b'\n');
    input.extend_from_slice(&script);
    let become_root = match sudo {
        Sudo::No => String::new(),
        // The environment: sudo's refusals are recognised by their English words.
        Sudo::WithoutPassword => "env LC_ALL=C LANGUAGE=C sudo -n -- ".into(),
        Sudo::WithPassword => format!("env LC_ALL=C LANGUAGE=C sudo -S -p {prompt} -- "),
    };
    let bounded = limit.map_or_else(String::new, |limit| {
        format!(
            "timeout -k 5 {} ",
            limit.as_secs() + u64::from(limit.subsec_nanos() > 0)
        )
    });
    let command = format!(
        "exec {become_root}{bounded}sh -c 'echo {marker}; echo {marker} >&2; \
         while IFS= read -r l; do [ \"$l\" = {sentinel} ] && break; done; \
         s=$(head -c {length}); \
         case $s in *{sentinel}) eval \"$s\";; *) exit {INCOMPLETE};; esac'",
        length = script.len(),
    );
    Launch {
        command,
        input,
        marker,
        prompt,
        end,
    }
}

/// The script as one compound command, which a shell parses to its end before it executes anything.
fn whole(text: &[u8], sentinel: &str, end: &str) -> Vec<u8> {
    let mut script =
        format!("{{ q_last_words() {{ echo {end}$1 >&2; }}; trap 'q_last_words $?' 0; ")
            .into_bytes();
    script.extend_from_slice(
        b"LC_ALL=C; LANGUAGE=C; export LC_ALL LANGUAGE; \
        PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH; \
        umask 022; unset l s\n",
    );
    script.extend_from_slice(text);
    script.extend_from_slice(b"\nexit $?\n}\n#");
    script.extend_from_slice(sentinel.as_bytes());
    script
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Output, Stdio};

    use super::*;

    /// Runs the launcher under `shell` as sshd does, with `cut` bytes of the input kept back.
    fn run(shell: &str, text: &str, before: &[u8], cut: usize, after: &[u8]) -> (Output, String) {
        let launch = launch(text.as_bytes(), Sudo::No, Some(Duration::from_secs(10)));
        let mut child = Command::new(shell)
            .args(["-c", &launch.command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(before).unwrap();
        stdin
            .write_all(&launch.input[..launch.input.len() - cut])
            .unwrap();
        if cut == 0 {
            stdin.write_all(after).unwrap();
        }
        drop(stdin);
        (child.wait_with_output().unwrap(), launch.marker)
    }

    #[test]
    fn the_script_runs_and_its_status_comes_back() {
        let (output, marker) = run("sh", "echo hello; (exit 7)", b"", 0, b"");
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{marker}\nhello\n")
        );
    }

    #[test]
    fn what_sudo_left_is_dropped_and_what_follows_is_the_scripts() {
        let (output, _) = run(
            "sh",
            "read -r x; cat; echo \"$x\"",
            b"pass word\n",
            0,
            b"one\ntwo\n",
        );
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.ends_with("\ntwo\none\n"), "{text}");
        assert!(!text.contains("pass"), "{text}");
    }

    #[test]
    fn any_login_shell_will_do() {
        let mut met = 0;
        for shell in ["sh", "dash", "bash", "zsh", "fish", "csh", "tcsh", "ksh"] {
            if Command::new(shell).args(["-c", "true"]).status().is_err() {
                continue;
            }
            met += 1;
            let (output, marker) =
                run(shell, "x='a!b'; cat; echo \"$x\"", b"left over\n", 0, b"in");
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text, format!("{marker}\nina!b\n"), "{shell}");
        }
        assert!(met >= 1);
    }

    #[test]
    fn a_cut_script_executes_nothing() {
        for cut in 1..120 {
            let (output, marker) = run("sh", "echo done\n\n\n", b"", cut, b"");
            assert_eq!(output.status.code(), Some(INCOMPLETE), "cut by {cut}");
            assert_eq!(
                String::from_utf8(output.stdout).unwrap(),
                format!("{marker}\n")
            );
        }
    }

    #[test]
    fn a_syntax_error_executes_nothing() {
        let (output, marker) = run("sh", "echo one\nif\n", b"", 0, b"");
        assert_ne!(output.status.code(), Some(0));
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{marker}\n")
        );
    }

    #[test]
    fn here_documents_comments_and_quotes_survive() {
        let text = "x='a \"b\" \\ c'\ncat <<'E'\n$x `y` \\\nE\nprintf '%s\\n' \"$x\" # end";
        let (output, marker) = run("sh", text, b"", 0, b"");
        let expected = format!("{marker}\n$x `y` \\\na \"b\" \\ c\n");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn the_command_line_is_plain() {
        for sudo in [Sudo::No, Sudo::WithPassword, Sudo::WithoutPassword] {
            let launch = launch(b"secret", sudo, None);
            assert!(!launch.command.contains("secret"));
            assert!(!launch.command.contains(['!', '\\', '\n']));
            assert_eq!(launch.command.matches('\'').count(), 2);
        }
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(token(), token());
        assert_eq!(token().len(), 32);
    }
}
