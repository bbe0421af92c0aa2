//! Tunnels.

use std::sync::Arc;
use std::time::Duration;

use quorate::remote::{Policy, Target, TunnelError, connect};
use quorate::secret::Resolver;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::sshd::{Sshd, available, free_port};

/// Answers with what it was sent, after the sender has finished.
async fn echo() -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn much_both_ways_at_once() {
    if !available("much_both_ways_at_once") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let port = echo().await;
    let mut tasks = tokio::task::JoinSet::new();
    // More than sshd's MaxSessions: tunnels are no sessions.
    for seed in 0..12_u8 {
        let host = host.clone();
        tasks.spawn(async move {
            let tunnel = host.tunnel("127.0.0.1", port).await.unwrap();
            let sent: Vec<u8> = (0..3_000_000_u32)
                .map(|at| (at % 251) as u8 ^ seed)
                .collect();
            let (mut read, mut write) = tokio::io::split(tunnel);
            let writer = tokio::spawn({
                let sent = sent.clone();
                async move {
                    write.write_all(&sent).await.unwrap();
                    write.shutdown().await.unwrap();
                    write
                }
            });
            let mut received = Vec::new();
            read.read_to_end(&mut received).await.unwrap();
            assert!(received == sent);
            writer.await.unwrap();
        });
    }
    tokio::time::timeout(Duration::from_secs(30), async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    })
    .await
    .expect("the tunnels are stuck");
    assert_eq!(host.round_trips().tunnels, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_read_holds_up_nobody() {
    if !available("one_that_is_not_read_holds_up_nobody") {
        return;
    }
    let sshd = Sshd::start("");
    let target = Target {
        node: "unread".into(),
        ssh: sshd.ssh(),
    };
    let host = connect(target, Arc::new(Resolver::new()), &Policy::default())
        .await
        .unwrap();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        loop {
            if stream.write_all(&[1; 65536]).await.is_err() {
                return;
            }
        }
    });
    let unread = host.tunnel("127.0.0.1", port).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = cpu();
    let output = host
        .script(b"sleep 1; echo on", Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(output.stdout, b"on\n");
    let used = cpu() - before;
    assert!(
        used < Duration::from_millis(300),
        "{used:?} of processor time while nothing happens"
    );
    drop(unread);
    assert!(
        host.script(b":", Duration::from_secs(5))
            .await
            .unwrap()
            .success()
    );
}

/// Processor time of the thread that serves the host `unread`.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let stat = tasks
        .filter_map(|task| std::fs::read_to_string(task.join("stat")).ok())
        .find(|stat| stat.contains("(ssh unread)"))
        .unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    if !available("refusals_say_why") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let port = free_port();
    let error = host.tunnel("127.0.0.1", port).await.unwrap_err();
    assert!(matches!(error, TunnelError::Refused { .. }), "{error}");
    for option in [
        "AllowTcpForwarding no",
        "DisableForwarding yes",
        "PermitOpen 127.0.0.1:1",
    ] {
        let sshd = Sshd::start(option);
        let host = sshd.connect().await;
        let error = host.tunnel("127.0.0.1", port).await.unwrap_err();
        assert!(
            matches!(error, TunnelError::Prohibited { .. }),
            "{option}: {error}"
        );
        assert!(error.to_string().contains("AllowTcpForwarding"), "{error}");
        assert!(
            host.script(b":", Duration::from_secs(5))
                .await
                .unwrap()
                .success()
        );
    }
}
