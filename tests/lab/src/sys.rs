//! Small things asked of the machine: programs, processes, locks, waiting.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::error::{Context, Error, Result};

/// A program with its arguments.
pub(crate) fn program<I, S>(name: &str, args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a program to its end; anything but success is an error that quotes it.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().at(|| describe(command))?;
    succeeded(command, output)
}

/// Runs a program to its end with something on its standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    let output = output_with_input(command, input)?;
    succeeded(command, output)
}

/// Like [`run_with_input`], whatever the exit code.
pub(crate) fn output_with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .at(|| describe(command))?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read everything is judged by its exit code.
            let _ = stdin.map(|mut pipe| pipe.write_all(input));
        });
        child.wait_with_output()
    })
    .at(|| describe(command))
}

fn succeeded(command: &Command, output: Output) -> Result<Output> {
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::Command {
        command: describe(command),
        status: output.status,
        stderr: text(&output.stderr).trim().to_owned(),
    })
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(OsStr::to_string_lossy));
    words.join(" ")
}

/// Bytes as text, whatever they are.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a program is in PATH or where Debian keeps those for root.
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .any(|dir| dir.join(name).is_file())
}

/// When a process started, in clock ticks since the boot; `None` when there is no such process.
/// Together with its number and the boot this names a process for good.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; start time is field 22, the 20th after it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Which boot of the machine this is.
pub(crate) fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(read(Path::new(path))?.trim().to_owned())
}

/// A lock on a file, held until it is dropped, released by the kernel if the process dies.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .at(|| format!("open {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)
        .at(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Asks again every few milliseconds until the answer is yes or the time is over.
pub(crate) fn wait_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).at(|| format!("read {}", path.display()))
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content).at(|| format!("write {}", path.display()))
}

pub(crate) fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).at(|| format!("make {}", path.display()))
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .at(|| format!("chmod {}", path.display()))
}

/// Removes a tree; one that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).at(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
