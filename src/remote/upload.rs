//! Uploads: streamed into a temporary file beside the destination, verified, then renamed over it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::RemoteError;
use super::host::{Host, Input, Job};
use super::process::{Chunk, Exit, Progress};

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// Pieces on their way inside this process.
const AHEAD: usize = 8;

/// A file to be put on a host.
#[derive(Debug, Clone)]
pub struct Upload {
    /// What it holds.
    pub source: Source,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, hexadecimal, checked on the host before anything changes.
    pub sha256: String,
    /// Absolute path; its directory must be there, and a symbolic link is replaced, not followed.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// `user:group`, as `chown` takes it.
    pub owner: String,
    /// Shell commands that end the script, with a message, if the file may not be put there after all. They run when
    /// everything has arrived; may be empty.
    pub guard: String,
}

/// Where the bytes come from.
#[derive(Clone)]
pub enum Source {
    /// Memory.
    Bytes(Arc<[u8]>),
    /// A file on the operator's side.
    File(PathBuf),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // May be a private key.
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(path) => path.fmt(f),
        }
    }
}

impl Host {
    /// Puts a file on the host as root: temporary file in the same directory, size and SHA-256
    /// verified, owner and mode, fsync, rename. On failure the destination is as it was and the
    /// temporary file is gone; one that a broken connection left goes when it is an hour old, with the next attempt.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn upload(
        &self,
        upload: &Upload,
        progress: Option<Progress>,
        deadline: Duration,
    ) -> Result<(), RemoteError> {
        let failed = |reason: String| RemoteError::Upload {
            node: self.node().to_owned(),
            path: upload.path.clone(),
            reason,
        };
        let text = script(upload).map_err(&failed)?;
        let mut ticket = self.start(Job {
            text: text.as_bytes(),
            deadline: Some(deadline),
            closed: false,
            lines: None,
            started: None,
            progress,
        })?;
        let input = ticket.input();
        // The script may end before it has everything: no space, for instance. Its words count then.
        let sent = tokio::select! {
            biased;
            output = ticket.output() => Err(output),
            sent = send(&input, upload) => Ok(sent),
        };
        let output = match sent {
            Ok(sent) => {
                sent?;
                ticket.output().await?
            }
            Err(output) => output?,
        };
        match output.status {
            Exit::Code(0) => Ok(()),
            status => {
                let text = String::from_utf8_lossy(&output.stderr)
                    .trim()
                    .replace('\n', "; ");
                Err(failed(if text.is_empty() {
                    status.to_string()
                } else {
                    text
                }))
            }
        }
    }
}

async fn send(input: &Input, upload: &Upload) -> Result<(), RemoteError> {
    let window = Arc::new(Semaphore::new(AHEAD));
    match &upload.source {
        Source::Bytes(bytes) => input.feed(Chunk {
            bytes: bytes.clone(),
            _permit: None,
        })?,
        Source::File(path) => {
            let local = |error: std::io::Error| RemoteError::Local {
                path: path.clone(),
                reason: error.to_string(),
            };
            let mut file = std::fs::File::open(path).map_err(local)?;
            let mut left = upload.size;
            while left > 0 {
                let Ok(permit) = window.clone().acquire_owned().await else {
                    break;
                };
                let (back, piece) = tokio::task::spawn_blocking(move || {
                    let piece = read_piece(&mut file, left);
                    (file, piece)
                })
                .await
                .map_err(|error| local(std::io::Error::other(error)))?;
                file = back;
                let piece = piece.map_err(local)?;
                if piece.is_empty() {
                    break;
                }
                left = left.saturating_sub(piece.len() as u64);
                input.feed(Chunk {
                    bytes: piece.into(),
                    _permit: Some(permit),
                })?;
            }
        }
    }
    input.finish()
}

fn read_piece(file: &mut std::fs::File, left: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut piece = Vec::with_capacity(PIECE);
    file.take(left.min(PIECE as u64)).read_to_end(&mut piece)?;
    Ok(piece)
}

/// The host's part.
fn script(upload: &Upload) -> Result<String, String> {
    let path = &upload.path;
    let (directory, name) = path.rsplit_once('/').ok_or("the path is not absolute")?;
    if !path.starts_with('/') || name.is_empty() || name == "." || name == ".." {
        return Err("the path is not that of a file".into());
    }
    if upload.sha256.len() != 64 || !upload.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("the SHA-256 is not one".into());
    }
    let directory = if directory.is_empty() { "/" } else { directory };
    let quote = |text: &str| {
        shlex::try_quote(text)
            .map(std::borrow::Cow::into_owned)
            .map_err(|error| error.to_string())
    };
    // What keeps a processor busy leaves it to the members (`q_gently` of the scripts says the same).
    // A process of its own, a file of its own: an upload that hangs somewhere never shares it with the next.
    let temporary = format!("{}/.quorate-{name}.", directory.trim_end_matches('/'));
    Ok(format!(
        "d={directory}; t={temporary}$$.tmp; p={path}\n\
         fail() {{ echo \"$*\" >&2; exit 1; }}\n\
         umask 077\n\
         renice -n 10 -p $$ >/dev/null 2>&1\n\
         {{ echo 10 >/proc/$$/autogroup; }} 2>/dev/null\n\
         trap 'q=$?; rm -f -- \"$t\"; q_last_words $q' EXIT\n\
         trap 'exit 1' HUP INT TERM PIPE\n\
         [ -d \"$d\" ] || fail \"there is no directory $d\"\n\
         [ -d \"$p\" ] && [ ! -L \"$p\" ] && fail \"$p is a directory\"\n\
         find \"$d\" -maxdepth 1 -type f -name '.quorate-*.tmp' -mmin +60 -delete 2>/dev/null\n\
         rm -f -- \"$t\" || exit 1\n\
         set -C\n\
         cat > \"$t\" || fail \"cannot write $t\"\n\
         set +C\n\
         n=$(stat -c %s -- \"$t\") || exit 1\n\
         [ \"$n\" = {size} ] || fail \"$n of {size} bytes arrived\"\n\
         x=$(sha256sum < \"$t\") || exit 1\n\
         [ \"${{x%% *}}\" = {sha256} ] || fail \"the SHA-256 is ${{x%% *}}, not {sha256}\"\n\
         {guard}\n\
         chown -- {owner} \"$t\" && chmod {mode:o} \"$t\" || exit 1\n\
         sync \"$t\" || exit 1\n\
         mv -fT -- \"$t\" \"$p\" || exit 1\n\
         sync \"$d\"",
        directory = quote(directory)?,
        temporary = quote(&temporary)?,
        path = quote(path)?,
        size = upload.size,
        sha256 = upload.sha256.to_ascii_lowercase(),
        guard = upload.guard,
        owner = quote(&upload.owner)?,
        mode = upload.mode,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(path: &str) -> Upload {
        Upload {
            source: Source::Bytes(Arc::from(&b"secret"[..])),
            size: 6,
            sha256: "a".repeat(64),
            path: path.into(),
            mode: 0o640,
            owner: "root:root".into(),
            guard: String::new(),
        }
    }

    #[test]
    fn odd_paths_are_refused() {
        for path in ["", "relative", "/", "/etc/", "/etc/..", "a/b"] {
            assert!(script(&upload(path)).is_err(), "{path}");
        }
        assert!(script(&upload("/etc/x\0y")).is_err());
    }

    #[test]
    fn paths_are_quoted() {
        let text = script(&upload("/etc/a b/$(x)'y")).unwrap();
        assert!(!text.contains(" /etc/a b"), "{text}");
        let status = std::process::Command::new("sh")
            .args(["-n", "-c", &text])
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[test]
    fn contents_are_not_shown() {
        assert!(!format!("{:?}", upload("/x")).contains("secret"));
    }
}
