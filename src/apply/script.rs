//! Operations as shell: what an action does on its host, rendered into as few scripts as possible.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::action::restart::Move;
use crate::action::{Operation, UnitVerb};
use crate::etcd::id::MemberId;
use crate::observe::shell::{word, words};
use crate::runtime::{Content, FileWrite, Profile};

/// Functions that scripts are made of.
pub(super) const PRELUDE: &str = include_str!("prelude.sh");
/// The proof that the lock is this run's.
const GUARD: &str = include_str!("guard.sh");

/// Commands that end a script unless the lock is this run's.
pub fn guard(run_id: &str) -> String {
    format!("{GUARD}q_guard {}\n", word(run_id))
}

/// A script that does nothing but prove that the lock is this run's.
pub fn proof(run_id: &str) -> String {
    format!("{PRELUDE}{}", guard(run_id))
}

/// Time for the script of an action: package managers are slow.
const SCRIPT: Duration = Duration::from_secs(900);
/// Time for one that may copy data to another file system: `q_relocate` has a limit of its own, which grows with the size.
const COPYING: Duration = Duration::from_secs(24 * 3600);

/// One thing for the executor to do.
pub enum Step {
    /// Run a script.
    Script {
        /// Its text.
        text: SecretString,
        /// After this it is ended.
        limit: Duration,
        /// Whether it stops the member.
        stops: bool,
        /// Whether it does anything that could be taken back.
        touches: bool,
    },
    /// Upload the release archive with this digest.
    Upload {
        /// Hex sha256.
        sha256: String,
        /// Architecture.
        arch: String,
        /// Path on the host.
        to: String,
    },
    /// Ask etcd for something.
    Etcd(EtcdCall),
}

/// What is asked of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtcdCall {
    /// Move leadership away from a member.
    MoveLeader(MemberId),
    /// Add a learner with this peer URL.
    AddLearner(String),
    /// Promote the learner with this peer URL.
    Promote(String),
    /// Remove a member.
    Remove(MemberId),
    /// Change the peer URLs of a member.
    Update(MemberId, Vec<String>),
    /// Wait until the hosts of all others can dial these URLs of a member.
    AwaitDialable(MemberId, Vec<String>),
    /// Save a snapshot on the operator's side.
    Snapshot,
}

/// Resolves contents that no plan carries.
pub trait Materials {
    /// The authority's certificate, PEM.
    fn authority(&self) -> Result<String, String>;
    /// Certificate and key of a profile, issued once per action.
    fn pair(&mut self, profile: Profile) -> Result<(String, SecretString), String>;
}

/// Renders operations into steps; consecutive ones on the host become one script.
pub fn steps(
    operations: &[Operation],
    run_id: &str,
    materials: &mut dyn Materials,
) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut body = Body::default();
    let mut rest = operations;
    while let Some((operation, after)) = rest.split_first() {
        rest = after;
        match operation {
            Operation::Upload { sha256, arch, to } => {
                steps.extend(body.take(run_id));
                steps.push(Step::Upload {
                    sha256: sha256.clone(),
                    arch: arch.clone(),
                    to: to.clone(),
                });
            }
            Operation::MoveLeader(_)
            | Operation::AddLearner(_)
            | Operation::Promote(_)
            | Operation::RemoveMember(_)
            | Operation::UpdateMember(..)
            | Operation::AwaitDialable(..)
            | Operation::SaveSnapshot => {
                steps.extend(body.take(run_id));
                steps.extend(etcd_call(operation).map(Step::Etcd));
            }
            Operation::WriteFile(first) => {
                // Files that follow each other switch together: a certificate must not wait for its key.
                let mut files = vec![first];
                while let Some((Operation::WriteFile(next), after)) = rest.split_first() {
                    files.push(next);
                    rest = after;
                }
                body.touches = true;
                lift(&mut body.text, &files, rest);
                write_files(&mut body.text, &files, materials)?;
            }
            other => {
                body.stops |= other.stops();
                body.touches |= !matches!(
                    other,
                    Operation::Unit(UnitVerb::ForgetRestart, _) | Operation::DropKept(_)
                );
                body.copies |= matches!(other, Operation::Relocate(_));
                body.hurries |= matches!(other, Operation::Unit(..) | Operation::Relocate(_));
                line(&mut body.text, other);
            }
        }
    }
    steps.extend(body.take(run_id));
    Ok(steps)
}

/// A script that grows.
#[derive(Default)]
struct Body {
    text: String,
    stops: bool,
    copies: bool,
    touches: bool,
    /// Whether somebody waits for it: a member that is stopped, or about to start.
    hurries: bool,
}

impl Body {
    /// The script of what has come together, if anything has.
    fn take(&mut self, run_id: &str) -> Option<Step> {
        let Self {
            text,
            stops,
            copies,
            touches,
            hurries,
        } = std::mem::take(self);
        // What nobody waits for leaves the processors to the members.
        let pace = if hurries { "" } else { "q_gently\n" };
        (!text.is_empty()).then(|| Step::Script {
            text: format!("{PRELUDE}{}{pace}{text}", guard(run_id)).into(),
            limit: if copies { COPYING } else { SCRIPT },
            stops,
            touches,
        })
    }
}

fn etcd_call(operation: &Operation) -> Option<EtcdCall> {
    Some(match operation {
        Operation::MoveLeader(member) => EtcdCall::MoveLeader(*member),
        Operation::AddLearner(url) => EtcdCall::AddLearner(url.clone()),
        Operation::Promote(url) => EtcdCall::Promote(url.clone()),
        Operation::RemoveMember(member) => EtcdCall::Remove(*member),
        Operation::UpdateMember(member, urls) => EtcdCall::Update(*member, urls.clone()),
        Operation::AwaitDialable(member, urls) => EtcdCall::AwaitDialable(*member, urls.clone()),
        Operation::SaveSnapshot => EtcdCall::Snapshot,
        _ => return None,
    })
}

/// Files in `/run` before a first start lift the assertion on the WAL: they go when the script ends, however it ends.
fn lift(body: &mut String, files: &[&FileWrite], rest: &[Operation]) {
    let lifting = files
        .iter()
        .map(|file| file.path.as_str())
        .filter(|path| path.starts_with("/run/"));
    let awaited = rest.iter().find_map(|operation| match operation {
        Operation::AwaitWal { dir, unit } => Some((dir, unit)),
        _ => None,
    });
    let Some((dir, unit)) = awaited else { return };
    let arguments = words([unit.as_str(), dir.as_str()].into_iter().chain(lifting));
    let _ = writeln!(body, "q_lifted={}", word(&arguments));
}

fn write_files(
    body: &mut String,
    files: &[&FileWrite],
    materials: &mut dyn Materials,
) -> Result<(), String> {
    for file in files {
        let content: SecretString = match &file.content {
            Content::Text(text) => text.clone().into(),
            Content::Authority => materials.authority()?.into(),
            Content::Certificate(profile) => materials.pair(*profile)?.0.into(),
            Content::Key(profile) => materials.pair(*profile)?.1,
        };
        let _ = writeln!(body, "q_at={}", word(&format!("write {}", file.path)));
        let _ = writeln!(
            body,
            "q_stage {} {:04o} {} {} <<'Q_END'\n{}\nQ_END",
            word(&file.path),
            file.mode,
            word(&file.owner),
            word(&file.group),
            STANDARD.encode(content.expose_secret()),
        );
    }
    let _ = writeln!(
        body,
        "q_put {}",
        words(files.iter().map(|file| file.path.as_str()))
    );
    Ok(())
}

fn line(body: &mut String, operation: &Operation) {
    let (what, command) = match operation {
        Operation::EnsureUser(user) => (
            format!("create user {user}"),
            format!("q_user {}", word(user)),
        ),
        Operation::RemoveUser(user) => (
            format!("remove user {user}"),
            format!("q_remove_user {}", word(user)),
        ),
        Operation::MakeDirectory(directory) => (
            format!("make directory {}", directory.path),
            format!(
                "q_directory {} {:04o} {} {}",
                word(&directory.path),
                directory.mode,
                word(&directory.owner),
                word(&directory.group)
            ),
        ),
        Operation::RemoveDirectory(path) => (
            format!("remove directory {path}"),
            format!("q_remove_directory {}", word(path)),
        ),
        Operation::RemoveFile(path) => {
            (format!("remove {path}"), format!("rm -f -- {}", word(path)))
        }
        Operation::Sweep(directories) => (
            "remove what an interrupted run left".into(),
            format!("q_sweep {}", list(directories)),
        ),
        Operation::Extract {
            archive,
            bin_dir,
            prefix,
        } => (
            format!("unpack {archive}"),
            format!(
                "q_extract {} {} {}",
                word(archive),
                word(bin_dir),
                if prefix.is_empty() { "now" } else { "staged" }
            ),
        ),
        Operation::InstallPackages {
            manager,
            packages,
            unit,
        } => (
            "install packages".into(),
            format!(
                "q_packages {} {} {}",
                manager.command(),
                word(unit),
                words(
                    packages
                        .iter()
                        .flat_map(|(name, version)| [name.as_str(), version.as_str()])
                )
            ),
        ),
        Operation::HoldPackages { manager, names } => (
            "hold packages".into(),
            format!("q_hold {} {}", manager.command(), list(names)),
        ),
        Operation::ReleasePackages { manager, names } => (
            "release packages".into(),
            format!("q_release {} {}", manager.command(), list(names)),
        ),
        Operation::RemovePackages { manager, names } => (
            "remove packages".into(),
            format!(
                "q_remove_packages {} {}",
                manager.command(),
                words(names.iter().map(String::as_str))
            ),
        ),
        Operation::Unit(verb, unit) => (
            format!("{} {unit}", verb_name(*verb)),
            unit_command(*verb, unit),
        ),
        Operation::AssertNoWal(dir) => (
            format!("find {dir} without a WAL"),
            format!("q_assert_no_wal {}", word(dir)),
        ),
        Operation::AwaitWal { dir, unit } => (
            format!("see a WAL in {dir}"),
            format!("q_await_wal {} {}", word(dir), word(unit)),
        ),
        Operation::MoveAside { from, to } => (
            format!("move {from} aside"),
            format!("q_aside {} {}", word(from), word(to)),
        ),
        Operation::AssertRoom(moved) => (
            format!("find room for the data of {}", moved.from),
            relocation("q_fits", moved),
        ),
        Operation::Relocate(moved) => (
            format!("move {} to {}", moved.from, moved.to),
            relocation("q_relocate", moved),
        ),
        Operation::PurgeData(path) => (format!("delete {path}"), format!("q_purge {}", word(path))),
        Operation::GiveToUser { user, group, path } => (
            format!("give {path} to {user}"),
            format!("q_to_user {} {} {}", word(user), word(group), word(path)),
        ),
        Operation::GiveToRoot(path) => (
            format!("give {path} to root"),
            format!("q_to_root {}", word(path)),
        ),
        Operation::Disown { user, path } => (
            format!("give to root what {user} has in {path}"),
            format!("q_disown {} {}", word(user), word(path)),
        ),
        Operation::KeepPrevious(paths) => (
            "keep what is replaced".into(),
            format!("q_keep {}", list(paths)),
        ),
        Operation::SwitchStaged(paths) => (
            "switch binaries".into(),
            format!("q_switch {}", list(paths)),
        ),
        Operation::RestorePrevious(paths) => (
            "put back what was replaced".into(),
            format!("q_restore {}", list(paths)),
        ),
        Operation::DropKept(paths) => (
            "forget what an earlier run kept".into(),
            format!("q_drop_kept {}", list(paths)),
        ),
        Operation::DropPrevious(paths) => (
            "remove what was kept".into(),
            format!("q_drop {}", list(paths)),
        ),
        Operation::Journal(text) => (
            "write to the journal".into(),
            format!("logger -t quorate -- {} || :", word(text)),
        ),
        Operation::WriteFile(_)
        | Operation::Upload { .. }
        | Operation::MoveLeader(_)
        | Operation::AddLearner(_)
        | Operation::Promote(_)
        | Operation::RemoveMember(_)
        | Operation::UpdateMember(..)
        | Operation::AwaitDialable(..)
        | Operation::SaveSnapshot => return,
    };
    let _ = writeln!(body, "q_at={}\n{command}", word(&what));
}

fn list(paths: &[String]) -> String {
    words(paths.iter().map(String::as_str))
}

/// A function of the prelude, or the one that takes back: of a member that this run has not stopped it has moved nothing.
fn relocation(function: &str, moved: &Move) -> String {
    let [from, to, stamp] = [&moved.from, &moved.to, &moved.stamp].map(|one| word(one));
    if moved.back {
        format!("if q_restarted; then {function}_back {from} {to} {stamp}; fi")
    } else {
        format!("{function} {from} {to} {stamp}")
    }
}

fn verb_name(verb: UnitVerb) -> &'static str {
    match verb {
        UnitVerb::DaemonReload => "reload the units for",
        UnitVerb::ResetFailed => "reset",
        UnitVerb::Enable => "enable",
        UnitVerb::Disable => "disable",
        UnitVerb::Unmask => "unmask",
        UnitVerb::Start => "start",
        UnitVerb::Restart | UnitVerb::RestartAgain => "restart",
        UnitVerb::ForgetRestart => "prepare the restart of",
        UnitVerb::Stop | UnitVerb::StopForRestart | UnitVerb::StopAgain => "stop",
    }
}

fn unit_command(verb: UnitVerb, unit: &str) -> String {
    let unit = word(unit);
    match verb {
        UnitVerb::DaemonReload => "systemctl daemon-reload".into(),
        UnitVerb::ResetFailed => format!("systemctl reset-failed {unit} 2>/dev/null || :"),
        // A reload of its own would be one too many: whoever enables reloads.
        UnitVerb::Enable => format!("systemctl enable -q --no-reload {unit}"),
        UnitVerb::Disable => format!("systemctl disable -q {unit} 2>/dev/null || :"),
        UnitVerb::Unmask => {
            format!("systemctl unmask -q {unit}\nsystemctl unmask -q --runtime {unit}")
        }
        UnitVerb::Start => format!("q_start {unit}"),
        // Stopped for sure before it is started: a gate must not pass on the process that goes.
        UnitVerb::Restart => format!("q_restarting\nsystemctl stop {unit}\nq_start {unit}"),
        UnitVerb::RestartAgain => format!(
            "if q_restarted; then systemctl stop {unit}; q_start {unit}; rm -f /run/quorate/restarted; fi"
        ),
        UnitVerb::ForgetRestart => "rm -f /run/quorate/restarted /run/quorate/stopped".into(),
        UnitVerb::Stop => format!("systemctl stop {unit}"),
        UnitVerb::StopForRestart => format!("q_stop_for_moves {unit}"),
        UnitVerb::StopAgain => format!("if q_restarted; then systemctl stop {unit}; fi"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::host::PackageManager;

    struct None;
    impl Materials for None {
        fn authority(&self) -> Result<String, String> {
            Err("no authority".into())
        }
        fn pair(&mut self, _: Profile) -> Result<(String, SecretString), String> {
            Err("no authority".into())
        }
    }

    #[test]
    fn sh_can_parse_every_operation() {
        let path = || "/tmp/it's $(here)".to_owned();
        let operations = vec![
            Operation::EnsureUser("etcd".into()),
            Operation::RemoveDirectory(path()),
            Operation::WriteFile(FileWrite {
                path: path(),
                mode: 0o644,
                owner: "root".into(),
                group: "root".into(),
                content: Content::Text("Q_END\n$(no) `no`".into()),
            }),
            Operation::Unit(UnitVerb::Restart, "etcd.service".into()),
            Operation::MoveAside {
                from: path(),
                to: path(),
            },
            Operation::KeepPrevious(vec![path(), path()]),
            Operation::HoldPackages {
                manager: PackageManager::Apt,
                names: vec!["a".into()],
            },
            Operation::InstallPackages {
                manager: PackageManager::Dnf,
                packages: vec![("a".into(), "1".into())],
                unit: "u".into(),
            },
        ];
        let steps = steps(&operations, "run", &mut None).unwrap();
        let [
            Step::Script {
                text: script,
                limit,
                stops: true,
                ..
            },
        ] = steps.as_slice()
        else {
            panic!("one script")
        };
        assert_eq!(*limit, SCRIPT);
        let output = std::process::Command::new("sh")
            .args(["-n", "-c", script.expose_secret()])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!script.expose_secret().contains("$(no)"));
    }

    #[test]
    fn what_may_copy_data_has_the_time_for_it() {
        let moved = Move {
            from: "/a/member".into(),
            to: "/b/member".into(),
            stamp: "1".into(),
            back: false,
        };
        let unit = Operation::Unit(UnitVerb::StopForRestart, "etcd.service".into());
        let steps = steps(&[unit, Operation::Relocate(moved)], "run", &mut None).unwrap();
        let [Step::Script { limit, .. }] = steps.as_slice() else {
            panic!("one script")
        };
        assert_eq!(*limit, COPYING);
    }
}
