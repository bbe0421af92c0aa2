//! Data that moves, cut off before each single command: the probe finds it, and it gets where it should be.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::script::PRELUDE;
use crate::observe::probe::data_script;
use crate::observed::data::{Place, Sightings, Whereabouts};

/// Three file systems, of which `a` has the data and `b` something of an earlier life, and commands of which only so many
/// are done. What is cut off in a copy leaves half of it.
const MACHINE: &str = r#"
stat() { case $4 in */a|*/a/*) echo 1 ;; */b|*/b/*) echo 2 ;; *) echo 3 ;; esac; }
q_stopped=stopped
q_is_unused() { [ ! -e used ]; }
step() { if [ "$left" -eq 0 ]; then exit 99; fi; left=$((left - 1)); }
mv() { step; command mv "$@"; }
rm() { step; command rm "$@"; }
sync() { :; }
timeout() {
  printf '%s\n' "$4" >limit
  shift 4
  mkdir "$6"
  command cp -a "$5/wal" "$6"
  step
  command cp -a "$5/what" "$6"
}
"#;

struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        let made = machine.shell(
            "mkdir -p a/member/wal b/member/wal c\n\
             for at in a b; do echo $at >$at/member/what; echo $at >$at/member/wal/0.wal; done\n",
        );
        assert_eq!(made, Some(0));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, text: &str) -> std::process::Output {
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", text]).current_dir(self.0.path());
        shell.output().unwrap()
    }

    fn shell(&self, text: &str) -> Option<i32> {
        self.run(text).status.code()
    }

    /// Runs a function of the prelude, of whose commands only so many are done; whether that was all.
    fn call(&self, call: &str, left: usize) -> bool {
        let text = format!("{PRELUDE}{MACHINE}left={left}\n{call}\n");
        let output = self.run(&text);
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => true,
            Some(99) => false,
            other => panic!("{call}: {other:?}: {said}"),
        }
    }

    fn place(&self, disk: &str) -> Place {
        Place {
            data_dir: self.path(disk).display().to_string(),
            wal_dir: None,
        }
    }

    /// What the probe makes of these file systems.
    fn found(&self, disks: &[&str]) -> Whereabouts {
        let places: Vec<Place> = disks.iter().map(|disk| self.place(disk)).collect();
        let output = self.run(&data_script(&places));
        let mut seen = Sightings::default();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            match line.split('\t').collect::<Vec<_>>().as_slice() {
                ["data", path] => seen.directories.extend([(*path).to_owned()]),
                ["wal", _, path] => seen.wals.extend([((*path).to_owned(), Err(String::new()))]),
                ["owner", ..] => {}
                _ => panic!("{line}"),
            }
        }
        seen.locate(&places, &places[0]).1
    }

    /// Moves what the probe found on these file systems to one of them, as far as so many commands go, and says on which
    /// it may be then: where none of it was is forgotten.
    fn mend<'a>(
        &self,
        disks: &[&'a str],
        to: &'a str,
        stamp: usize,
        left: usize,
    ) -> (bool, Vec<&'a str>) {
        let found = self.found(disks);
        let from = found.member.clone().expect("a member");
        assert_eq!(found.wal, Some(format!("{from}/wal")));
        let mut disks = disks.to_vec();
        disks.retain(|disk| *disk == "a" || self.place(disk).holds(&found));
        disks.push(to);
        let to = self.place(to).member();
        let call = format!("q_relocate '{from}' '{to}' {stamp}");
        (from == to || self.call(&call, left), disks)
    }

    fn is_at(&self, disk: &str) {
        let read = |name: &str| std::fs::read_to_string(self.path(disk).join(name)).unwrap();
        assert_eq!(read("member/what"), "a\n");
        assert_eq!(read("member/wal/0.wal"), "a\n");
        // What was in the way is there still, under whatever name.
        let aside = ["a", "b", "c"].into_iter().flat_map(|disk| {
            let disk = self.path(disk);
            names(&disk)
                .into_iter()
                .map(move |name| disk.join(name).join("what"))
        });
        let theirs = aside.filter(|what| matches!(std::fs::read(what).as_deref(), Ok(b"b\n")));
        assert_eq!(theirs.count(), 1);
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

const ALL: usize = 1000;

#[test]
fn data_whose_move_is_cut_off_anywhere_gets_to_where_it_should_be() {
    let mut cuts = 0;
    for left in 0.. {
        let mut complete = false;
        // It goes on, is taken back, or goes to a third place.
        for to in ["b", "a", "c"] {
            let machine = Machine::new();
            let (all, disks) = machine.mend(&["a"], "b", 1, left);
            let (mended, disks) = machine.mend(&disks, to, 2, ALL);
            assert!(mended, "{left}");
            machine.is_at(to);
            let member = machine.place(to).member();
            assert_eq!(machine.found(&disks).member, Some(member), "{left}");
            complete = all;
        }
        if complete {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 6, "only {cuts} commands were cut");
}

#[test]
fn what_is_cut_off_twice_is_found() {
    for first in 0..8 {
        for second in 0..8 {
            let [then, to] = [["a", "a"], ["a", "b"], ["c", "a"], ["c", "b"]][(first + second) % 4];
            let machine = Machine::new();
            let (_, disks) = machine.mend(&["a"], "b", 1, first);
            let (_, disks) = machine.mend(&disks, then, 2, second);
            let (mended, _) = machine.mend(&disks, to, 3, ALL);
            assert!(mended, "{first} {second}");
            machine.is_at(to);
        }
    }
}

#[test]
fn a_move_that_fails_anywhere_is_taken_back() {
    for left in 0.. {
        let machine = Machine::new();
        let complete = machine.call("q_relocate ./a/member ./b/member 1", left);
        assert!(machine.call("q_relocate_back ./a/member ./b/member 1", ALL));
        machine.is_at("a");
        assert!(!machine.path("b/.quorate-part-member-1").exists(), "{left}");
        if complete {
            break;
        }
    }
}

/// A WAL that would have come along with its member is not looked for where that has not come to.
#[test]
fn what_did_not_come_is_not_taken_back() {
    let machine = Machine::new();
    let back =
        "q_relocate_back ./c/member/wal ./b/member/wal 1; q_relocate_back ./a/member ./c/member 1";
    assert!(machine.call(back, ALL));
    machine.is_at("a");
    assert!(machine.path("b/member/wal/0.wal").exists());
}

/// A member is not stopped for a copy that does not fit.
#[test]
fn room_is_asked_for_where_it_is_needed() {
    let machine = Machine::new();
    let full = "df() { printf 'fs 1 1 0 100%% /\\n'; }";
    let asked = |call: &str| machine.shell(&format!("{PRELUDE}{MACHINE}{full}\n{call}\n"));
    assert_eq!(asked("q_fits ./a/member ./b/member 1"), Some(78));
    assert_eq!(asked("q_fits ./a/member ./a/new 1"), Some(0));
    assert_eq!(asked("q_fits ./a/member/other ./b/other 1"), Some(0));
    assert_eq!(asked("q_fits_back ./c/member ./a/member 1"), Some(78));
    assert_eq!(asked("q_fits_back ./a/member ./b/member 1"), Some(0));
}

/// Two copies to one disk need the room of both, also where the second goes into the first.
#[test]
fn room_is_asked_for_all_that_moves() {
    let disk = "du() { case $3 in */wal) echo '300000 it' ;; *) echo '700000 it' ;; esac; }\n\
                df() { printf 'fs 1 1 %s 1%% /\\n' $free; }";
    let asked = |free: u32, calls: &str| {
        let machine = Machine::new();
        machine.shell("mkdir -p c/wal");
        machine.shell(&format!("{PRELUDE}{MACHINE}{disk}\nfree={free}\n{calls}\n"))
    };
    for wal in ["./c/wal ./b/wal", "./c/wal ./b/member/wal"] {
        let both = format!("q_fits ./a/member ./b/member 1\nq_fits {wal} 1");
        assert_eq!(asked(1_065_536, &both), Some(0), "{wal}");
        assert_eq!(asked(1_065_535, &both), Some(78), "{wal}");
    }
    // What comes along is a rename there, or a copy of its own.
    let apart = "q_fits ./a/member ./b/member 1\nq_fits ./b/member/wal";
    assert_eq!(asked(765_536, &format!("{apart} ./b/wal 1")), Some(0));
    assert_eq!(asked(765_536, &format!("{apart} ./c/one/wal 1")), Some(0));
    let small = "df() { case $3 in ./c) free=365535 ;; esac; printf 'fs 1 1 %s 1%% /\\n' $free; }";
    let calls = format!("{small}\n{apart} ./c/one/wal 1");
    assert_eq!(asked(765_536, &calls), Some(78));
    // On its way back the WAL is inside of what goes on.
    let back = "mkdir used; command mv a/member c/member; command rm -r c/member/wal\n\
                q_fits_back ./c/member/wal ./c/wal 1\nq_fits_back ./a/member ./c/member 1";
    assert_eq!(asked(1_065_535, back), Some(78));
}

/// While nothing has started on the copy, the original is renamed back, whatever room there is.
#[test]
fn what_nobody_has_used_is_not_copied_back() {
    let full = "df() { printf 'fs 1 1 0 100%% /\\n'; }; cp() { exit 98; }; timeout() { exit 98; }";
    let back = "q_fits_back ./a/member ./b/member 1; q_relocate_back ./a/member ./b/member 1";
    for left in 0..4 {
        let machine = Machine::new();
        assert!(machine.call("q_relocate ./a/member ./b/member 1", ALL));
        let whole = machine.call(&format!("{full}; {back}"), left);
        let counts = machine.found(&["a", "b"]).member.expect("a member");
        // Where this is cut off, another run goes on from there.
        assert!(machine.call(&format!("{full}; {back}"), ALL), "{counts}");
        machine.is_at("a");
        // What is left of the copy then, the next marker forgets and removes.
        let left_over = machine.path("b/.quorate-part-member-1").exists();
        assert_eq!(left_over, left == 2);
        assert_eq!(whole, left == 3);
    }
    let machine = Machine::new();
    assert!(machine.call("q_relocate ./a/member ./b/member 1", ALL));
    machine.shell("mkdir used");
    let text = format!("{PRELUDE}{MACHINE}left=9\n{full}\n{back}\n");
    assert_eq!(
        machine.shell(&text),
        Some(78),
        "it may have been written to"
    );
}

#[test]
fn a_start_makes_use_of_what_has_moved() {
    let machine = Machine::new();
    let text = |then: &str| {
        format!(
            "{PRELUDE}q_stopped=stopped\nq_run=run\nq_restarting() {{ :; }}\nat=1\n\
             systemctl() {{ case $1 in show) echo $at ActiveState=active ;; esac; }}\n\
             q_stop_for_moves unit\n{then}\nq_is_unused\n"
        )
    };
    assert_eq!(machine.shell(&text(":")), Some(0));
    assert_eq!(machine.shell(&text("at=2")), Some(1), "by hand");
    assert_eq!(machine.shell(&text("q_start unit")), Some(1));
}

/// The probe tells of data that the member could not read.
#[test]
fn what_belongs_to_somebody_else_is_found() {
    let machine = Machine::new();
    let script = data_script(&[machine.place("a")]);
    let told = |user: &str| {
        let output = machine.run(&format!("q_user={user}\n{script}"));
        let text = String::from_utf8(output.stdout).unwrap();
        text.matches("owner\t").count()
    };
    assert_eq!(told("nobody"), 2, "the data, and the WAL in it");
    assert_eq!(told("$(id -un)"), 0);
    assert_eq!(told("nobody pid=1"), 0, "what runs can read it");
}

#[test]
fn on_one_file_system_it_is_a_rename() {
    let machine = Machine::new();
    machine.shell("mkdir a/new");
    assert!(machine.call("q_relocate ./a/member ./a/new/member 1", ALL));
    assert_eq!(names(&machine.path("a")), ["new"]);
    assert_eq!(names(&machine.path("a/new")), ["member"]);
}

/// What is not there any more was moved by somebody else since the plan was made.
#[test]
fn nothing_is_touched_for_data_that_is_not_there() {
    let machine = Machine::new();
    let text = format!("{PRELUDE}{MACHINE}left=9\nq_relocate ./c/member ./b/member 1\n");
    assert_eq!(machine.shell(&text), Some(76));
    assert_eq!(names(&machine.path("b")), ["member"]);
}

#[test]
fn a_copy_has_the_time_that_its_size_takes() {
    let machine = Machine::new();
    let large = "du() { echo '8388608 it'; }; df() { printf 'head\\nx 1 1 99999999 1%% /\\n'; }";
    assert!(machine.call(&format!("{large}; q_relocate ./a/member ./b/member 1"), ALL));
    let limit = std::fs::read_to_string(machine.path("limit")).unwrap();
    assert_eq!(
        limit.trim(),
        "8856",
        "8 GiB and some room at a MiB a second, and ten minutes"
    );
}

#[test]
fn a_size_is_told_of_what_is_in_use() {
    let machine = Machine::new();
    let size =
        "du() { echo '12 it'; echo gone >&2; return 1; }\nq_size ./a/member\n[ $q_kib = 12 ]";
    assert_eq!(machine.shell(&format!("{PRELUDE}{size}\n")), Some(0));
}

/// A member is not stopped for what cannot be renamed.
#[test]
fn mount_points_are_noticed_before_anything_is_stopped() {
    let asked = |mounted: &str, calls: &str| {
        let machine = Machine::new();
        let mounts = format!("mountpoint() {{ [ \"$3\" = {mounted} ]; }}");
        machine.shell(&format!(
            "{PRELUDE}{MACHINE}{mounts}\nmkdir -p a/b a/dir\n{calls}\n"
        ))
    };
    let wal = "q_fits ./a/member/wal ./a/dir/wal 1";
    let real = "stat() { command stat \"$@\"; }";
    assert_eq!(asked("./a/member/wal", wal), Some(79));
    assert_eq!(
        asked("./a/dir/wal", &format!("mkdir a/dir/wal\n{real}\n{wal}")),
        Some(79)
    );
    assert_eq!(asked("./a/member", wal), Some(0), "it stays");
    // What is further in goes along with a rename, and a copy is none.
    let along =
        |to: &str| format!("q_fits ./a/member {to}/member 1\nq_fits {to}/member/wal {to}/wal 1");
    assert_eq!(asked("./a/member/wal", &along("./a/dir")), Some(79));
    assert_eq!(asked("./a/member/wal", &along("./b")), Some(0));
    let into = "q_fits ./a/member ./b/member 1\nq_fits ./c/wal ./b/member/wal 1";
    let into = format!("mkdir c/wal\n{into}");
    assert_eq!(asked("./b/member/wal", &into), Some(0));
    let same = format!("ln -s ../a/member c/member\n{real}\nq_fits ./a/member ./c/member 1");
    assert_eq!(asked("./c/member", &same), Some(0));
}
