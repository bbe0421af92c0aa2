//! Functions of the prelude, each in a directory of its own.

use std::path::Path;
use std::process::Command;

use super::script::PRELUDE;
use crate::runtime;

fn shell(directory: &Path, text: &str) -> (Option<i32>, String) {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{PRELUDE}{text}\n")]);
    let output = shell.current_dir(directory).output().unwrap();
    let mut said = String::from_utf8(output.stdout).unwrap();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

/// Whatever the run has set aside itself, and whatever was there before.
#[test]
fn a_user_that_goes_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let names = "data/member.quorate-destroyed-1/wal data/mine";
    let text = format!(
        "if [ \"$(id -u)\" != 0 ]; then echo SKIPPED; exit 0; fi\n\
         mkdir -p {names}\nchown -R nobody data\nchown daemon data/mine\n\
         q_disown nobody data\nq_disown nobody gone\nstat -c %U data {names}"
    );
    let (code, said) = shell(dir.path(), &text);
    assert_eq!(code, Some(0), "{said}");
    if said != "SKIPPED\n" {
        assert_eq!(said, "root\nroot\ndaemon\n");
    }
}

/// What keeps services from being started is recognized as ours by whoever finds it, and goes with the packages.
#[test]
fn what_hinders_services_goes_with_the_packages() {
    let dir = tempfile::tempdir().unwrap();
    assert!(PRELUDE.contains(&format!("q_policy={}\n", runtime::POLICY_PATH)));
    let written = format!(
        "q_our_policy() {{ printf '{}'; }}",
        runtime::POLICY.replace('\n', "\\n")
    );
    assert!(PRELUDE.contains(&written));
    let here = "q_policy=./policy\nyum() { :; }\n";
    std::fs::write(dir.path().join("policy"), runtime::POLICY).unwrap();
    let (code, said) = shell(dir.path(), &format!("{here}q_release yum x\nls"));
    assert_eq!((code, said.contains("policy")), (Some(0), false), "{said}");
    // Somebody added a rule to what we had left.
    let text = format!("{}exit 0\n", runtime::POLICY);
    std::fs::write(dir.path().join("policy"), text).unwrap();
    let (_, said) = shell(dir.path(), &format!("{here}q_release yum x\nls"));
    assert!(said.contains("policy"), "theirs by now: {said}");
    std::fs::write(dir.path().join("policy"), "#!/bin/sh\nexit 101\n").unwrap();
    let (_, said) = shell(dir.path(), &format!("{here}q_release yum x\nls"));
    assert!(said.contains("policy"), "somebody else's: {said}");
}
