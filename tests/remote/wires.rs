//! Bad networks: a proxy between us and sshd cuts, trickles, or falls silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::desired::model::Ssh;
use quorate::remote::{Host, RemoteError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::sshd::{LONG, Sshd, available, reach};

const PATIENCE: Duration = Duration::from_secs(20);

/// How the proxy treats bytes.
#[derive(Default)]
struct Mood {
    /// Bytes from us to the host after which it cuts; 0 is never.
    cut_after: AtomicU64,
    /// It passes nothing on, and says nothing.
    silent: AtomicBool,
    /// It passes on a few bytes at a time.
    trickle: AtomicBool,
}

async fn proxy(to: u16, mood: Arc<Mood>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            let mood = mood.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = pass(near_read, far_write, &mood, true) => {}
                    () = pass(far_read, near_write, &mood, false) => {}
                }
            });
        }
    });
    port
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mood: &Mood,
    outward: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut step = 1;
    loop {
        let size = if mood.trickle.load(Ordering::Relaxed) {
            step
        } else {
            buffer.len()
        };
        step = step % 97 + 1;
        let Ok(count) = from.read(&mut buffer[..size]).await else {
            return;
        };
        while mood.silent.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let limit = mood.cut_after.load(Ordering::Relaxed);
        if outward && limit > 0 {
            if limit <= count as u64 {
                // The last bytes before the cut do arrive.
                let _ = to.write_all(&buffer[..limit as usize]).await;
                return;
            }
            mood.cut_after
                .store(limit - count as u64, Ordering::Relaxed);
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn through(sshd: &Sshd, mood: &Arc<Mood>) -> Host {
    let port = proxy(sshd.port, mood.clone()).await;
    let public = std::fs::read_to_string(sshd.path("host_ed25519.pub")).unwrap();
    let known = sshd.path(&format!("known_{port}"));
    std::fs::write(&known, format!("[127.0.0.1]:{port} {public}")).unwrap();
    let ssh = Ssh {
        port: Some(port),
        known_hosts: Some(known),
        ..sshd.ssh()
    };
    reach(ssh).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_is_cut_executes_nothing() {
    if !available("a_script_that_is_cut_executes_nothing") {
        return;
    }
    let sshd = Sshd::start("");
    let file = sshd.path("executed");
    let padding = "# padding\n".repeat(4000);
    let script = format!("touch {0}\n{padding}touch {0}\n", file.display());
    for cut in [300, 800, 2_000, 20_000, 38_000] {
        let mood = Arc::new(Mood::default());
        let host = through(&sshd, &mood).await;
        mood.cut_after.store(cut, Ordering::Relaxed);
        let error = host.script(script.as_bytes(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, RemoteError::Lost { .. }), "{cut}: {error}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!file.exists(), "cut after {cut} bytes");
        assert!(host.script(b":", PATIENCE).await.is_err());
    }
    let host = sshd.connect().await;
    assert!(
        host.script(script.as_bytes(), PATIENCE)
            .await
            .unwrap()
            .success()
    );
    assert!(file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_small_pieces() {
    if !available("bytes_in_small_pieces") {
        return;
    }
    let sshd = Sshd::start("");
    let mood = Arc::new(Mood {
        trickle: AtomicBool::new(true),
        ..Mood::default()
    });
    let host = through(&sshd, &mood).await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..5_usize {
        let host = host.clone();
        tasks.spawn(async move {
            let size = 40_000 + at;
            let script = format!("head -c {size} /dev/zero; head -c {size} /dev/zero >&2");
            let output = host.script(script.as_bytes(), PATIENCE).await.unwrap();
            assert_eq!((output.stdout.len(), output.stderr.len()), (size, size));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_network_is_noticed() {
    if !available("a_dead_network_is_noticed") {
        return;
    }
    let sshd = Sshd::start("");
    let mood = Arc::new(Mood::default());
    let host = through(&sshd, &mood).await;
    let mut held = host.hold(b"echo held; cat", LONG).await.unwrap();
    assert_eq!(held.next_line().await.as_deref(), Some("held"));
    mood.silent.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(31), held.next_line()).await;
    assert_eq!(end.expect("not noticed within 31 s"), None);
    assert!(
        begun.elapsed() > Duration::from_secs(15),
        "given up too early"
    );
    assert!(matches!(held.output().await, Err(RemoteError::Lost { .. })));
    assert!(host.script(b":", PATIENCE).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_stay() {
    if !available("idle_sessions_stay") {
        return;
    }
    // sshd asks for a sign of life each five seconds and gives up after three.
    let sshd = Sshd::start("ClientAliveInterval 5\nClientAliveCountMax 3");
    let host = sshd.connect().await;
    let empty = sshd.connect().await;
    let mut held = host.hold(b"cat", LONG).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    held.write_line("still here").unwrap();
    assert_eq!(held.next_line().await.as_deref(), Some("still here"));
    assert!(host.script(b":", PATIENCE).await.unwrap().success());
    assert!(empty.script(b":", PATIENCE).await.unwrap().success());
}
