//! Scripts, held processes, uploads.

use std::time::{Duration, Instant};

use quorate::remote::{Exit, RemoteError};

use crate::sshd::{LONG, Sshd, available};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_script_and_its_cost() {
    if !available("a_script_and_its_cost") {
        return;
    }
    let sshd = Sshd::start("");
    let begun = Instant::now();
    let host = sshd.connect().await;
    let connected = begun.elapsed();
    let begun = Instant::now();
    let output = host
        .script(b"id -u; echo warn >&2; exit 3", PATIENCE)
        .await
        .unwrap();
    let first = begun.elapsed();
    assert_eq!(output.status, Exit::Code(3));
    assert_eq!(output.stdout, b"0\n");
    assert_eq!(output.stderr, b"warn\n");
    let begun = Instant::now();
    host.script(b":", PATIENCE).await.unwrap();
    eprintln!(
        "connect {connected:?}, first script {first:?}, second {:?}",
        begun.elapsed()
    );
    assert_eq!(host.round_trips().sessions, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_side_by_side() {
    if !available("scripts_run_side_by_side") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..6 {
        let host = host.clone();
        tasks.spawn(async move {
            (
                at,
                host.script(format!("sleep 1; echo {at}").as_bytes(), PATIENCE)
                    .await,
            )
        });
    }
    while let Some(done) = tasks.join_next().await {
        let (at, output) = done.unwrap();
        assert_eq!(output.unwrap().stdout, format!("{at}\n").as_bytes());
    }
    assert!(
        begun.elapsed() < Duration::from_millis(2500),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_scripts_than_sessions_queue() {
    if !available("more_scripts_than_sessions_queue") {
        return;
    }
    for limit in ["", "MaxSessions 2"] {
        let sshd = Sshd::start(limit);
        let host = sshd.connect().await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let host = host.clone();
            tasks.spawn(async move { host.script(b"sleep 0.1; echo x", PATIENCE).await });
        }
        while let Some(done) = tasks.join_next().await {
            assert_eq!(done.unwrap().unwrap().stdout, b"x\n");
        }
    }
}

/// sshd frees a session after the packets that it has at hand: a close and the next open may be among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_just_closed_is_waited_for() {
    if !available("a_session_that_was_just_closed_is_waited_for") {
        return;
    }
    let sshd = Sshd::start("MaxSessions 1");
    let host = sshd.connect().await;
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let host = host.clone();
        tasks.spawn(async move { host.script(b"echo x", PATIENCE).await });
    }
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap().unwrap().stdout, b"x\n");
    }
    eprintln!("40 scripts, one at a time: {:?}", begun.elapsed());
}

/// What is held does not end, so there is nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn the_one_session_that_is_held_is_named() {
    if !available("the_one_session_that_is_held_is_named") {
        return;
    }
    let sshd = Sshd::start("MaxSessions 1");
    let host = sshd.connect().await;
    let held = host.hold(b"cat", LONG).await.unwrap();
    let begun = Instant::now();
    let error = host.script(b"echo x", LONG).await.unwrap_err();
    assert!(matches!(error, RemoteError::Sessions { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    drop(held);
}

/// Whatever libssh2 makes of it, a command whose exit status never came has not succeeded.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_sshd_closes_is_no_success() {
    let test = "a_session_that_sshd_closes_is_no_success";
    if !available(test) {
        return;
    }
    let known = std::process::Command::new("/usr/sbin/sshd")
        .args(["-T", "-o", "ChannelTimeout=session:*=1s"])
        .output()
        .unwrap();
    if String::from_utf8_lossy(&known.stderr).contains("Bad configuration option") {
        eprintln!("SKIPPED {test}: this sshd has no ChannelTimeout");
        return;
    }
    let sshd = Sshd::start("ChannelTimeout session:*=1s");
    let host = sshd.connect().await;
    let ended = host.script(b"sleep 4; exit 3", PATIENCE).await;
    assert!(
        matches!(ended, Err(RemoteError::NoStatus { .. })),
        "{ended:?}"
    );
    // The connection goes on, and so does standard error to its last byte.
    let output = host
        .script(b"printf 'no newline' >&2", PATIENCE)
        .await
        .unwrap();
    assert_eq!(
        (output.status, output.stderr),
        (Exit::Code(0), b"no newline".to_vec())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_at_all_is_an_error_at_once() {
    if !available("no_session_at_all_is_an_error_at_once") {
        return;
    }
    let sshd = Sshd::start("MaxSessions 0");
    let begun = Instant::now();
    let host = sshd.connect().await;
    let error = host.script(b"echo x", PATIENCE).await.unwrap_err();
    assert!(matches!(error, RemoteError::Sessions { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn much_on_both_streams() {
    if !available("much_on_both_streams") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let output = host
        .script(
            b"head -c 3000000 /dev/zero >&2; head -c 3000001 /dev/zero; echo end >&2",
            PATIENCE,
        )
        .await
        .unwrap();
    assert_eq!(output.stderr.len(), 3_000_004);
    assert_eq!(output.stdout.len(), 3_000_001);
    let error = host
        .script(b"head -c 20000000 /dev/zero", PATIENCE)
        .await
        .unwrap_err();
    assert!(
        matches!(error, RemoteError::OutputTooLarge { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_not_success() {
    if !available("a_signal_is_not_success") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let output = host.script(b"kill -KILL $$", PATIENCE).await.unwrap();
    assert!(!output.success());
    assert!(
        matches!(&output.status, Exit::Signal(name) if name == "KILL"),
        "{}",
        output.status
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_it_here_and_there() {
    if !available("a_deadline_ends_it_here_and_there") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let file = sshd.path("late");
    let script = format!("sleep 3; touch {}", file.display());
    let begun = Instant::now();
    let error = host
        .script(script.as_bytes(), Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(matches!(error, RemoteError::Deadline { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(host.script(b"echo on", PATIENCE).await.unwrap().success());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!file.exists(), "the script went on behind its deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_go_both_ways() {
    if !available("lines_go_both_ways") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let mut held = host
        .hold(
            b"echo held; while read -r line; do echo \"got $line\"; done; echo bye; exit 4",
            LONG,
        )
        .await
        .unwrap();
    assert_eq!(held.next_line().await.as_deref(), Some("held"));
    for word in ["one", "two words"] {
        held.write_line(word).unwrap();
        assert_eq!(held.next_line().await, Some(format!("got {word}")));
    }
    assert!(
        host.script(b"echo beside", PATIENCE)
            .await
            .unwrap()
            .success()
    );
    let output = held.close(PATIENCE).await.unwrap();
    assert_eq!(output.status, Exit::Code(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_process_ends_with_its_session() {
    if !available("a_held_process_ends_with_its_session") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let file = sshd.path("ended");
    let script = format!(
        "echo held; while read -r line; do :; done; touch {}",
        file.display()
    );
    let mut held = host.hold(script.as_bytes(), LONG).await.unwrap();
    held.next_line().await.unwrap();
    let begun = Instant::now();
    drop((held, host));
    assert!(begun.elapsed() < Duration::from_millis(100));
    for _ in 0..50 {
        if file.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_answers_everybody_at_once() {
    if !available("closing_answers_everybody_at_once") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let other = host.clone();
    let waiting =
        tokio::spawn(async move { other.script(b"sleep 30", Duration::from_secs(60)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    host.close();
    assert!(matches!(
        waiting.await.unwrap(),
        Err(RemoteError::Closed { .. })
    ));
    assert!(begun.elapsed() < Duration::from_millis(500));
    assert!(matches!(
        host.script(b":", PATIENCE).await,
        Err(RemoteError::Closed { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_of_the_login_shell_is_no_output() {
    if !available("noise_of_the_login_shell_is_no_output") {
        return;
    }
    let sshd = Sshd::start(
        "SetEnv BASH_ENV=/nonexistent\nForceCommand echo noise; echo more >&2; printf unfinished; eval \"$SSH_ORIGINAL_COMMAND\"",
    );
    let host = sshd.connect().await;
    let output = host.script(b"echo clean", PATIENCE).await.unwrap();
    assert_eq!(output.stdout, b"clean\n");
    assert_eq!(output.stderr, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_runs_nothing_is_an_error() {
    if !available("a_shell_that_runs_nothing_is_an_error") {
        return;
    }
    let sshd = Sshd::start("ForceCommand echo This account is not available.; exit 1");
    let host = sshd.connect().await;
    let error = host.script(b"echo clean", PATIENCE).await.unwrap_err();
    assert!(
        matches!(&error, RemoteError::Shell { text, .. } if text.contains("not available")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_never_begins_is_given_up() {
    if !available("a_process_that_never_begins_is_given_up") {
        return;
    }
    let sshd = Sshd::start("ForceCommand sleep 60");
    let host = sshd.connect().await;
    let within = Duration::from_secs(1);
    let begun = tokio::time::timeout(LONG / 4, host.hold(b"echo held", within)).await;
    assert!(
        matches!(begun, Ok(Err(RemoteError::Deadline { seconds: 1, .. }))),
        "it is waited for"
    );
}
