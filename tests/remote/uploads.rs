//! Uploads.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::remote::{Progress, RemoteError, Source, Upload};
use sha2::{Digest, Sha256};

use crate::sshd::{Sshd, available};

const PATIENCE: Duration = Duration::from_secs(30);

fn upload(bytes: Vec<u8>, path: &std::path::Path) -> Upload {
    Upload {
        size: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(&bytes)),
        source: Source::Bytes(bytes.into()),
        path: path.to_str().unwrap().into(),
        mode: 0o640,
        owner: "nobody:nogroup".into(),
        guard: String::new(),
    }
}

fn names(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_from_memory_and_from_disk() {
    if !available("a_large_file_from_memory_and_from_disk") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let directory = sshd.path("up loads");
    std::fs::create_dir(&directory).unwrap();
    let bytes: Vec<u8> = (0..48_000_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let target = directory.join("a 'b' $c");
    let seen = Arc::new(AtomicU64::new(0));
    let progress = {
        let seen = seen.clone();
        Arc::new(move |bytes| seen.store(bytes, Ordering::Relaxed))
    };
    let request = upload(bytes.clone(), &target);
    let begun = Instant::now();
    let sent = Arc::new(AtomicU64::new(0));
    let progress: Progress = {
        let sent = sent.clone();
        Arc::new(move |bytes| {
            progress(bytes);
            sent.store(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        })
    };
    host.upload(&request, Some(progress), PATIENCE)
        .await
        .unwrap();
    eprintln!(
        "48 MB sent in {sent:?} ms, verified and synced in {:?}",
        begun.elapsed()
    );
    assert_eq!(seen.load(Ordering::Relaxed), bytes.len() as u64);
    assert!(std::fs::read(&target).unwrap() == bytes);
    let meta = std::fs::metadata(&target).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    assert_eq!(meta.uid(), 65534);

    let local = sshd.path("local");
    std::fs::write(&local, &bytes).unwrap();
    let copy = directory.join("copy");
    let left = std::fs::File::create(directory.join(".quorate-copy.1.tmp")).unwrap();
    left.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200))
        .unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &copy).unwrap();
    let request = Upload {
        source: Source::File(local),
        ..upload(bytes.clone(), &copy)
    };
    host.upload(&request, None, PATIENCE).await.unwrap();
    assert!(
        std::fs::symlink_metadata(&copy).unwrap().is_file(),
        "the link was followed"
    );
    assert!(std::fs::read(&copy).unwrap() == bytes);
    host.upload(
        &upload(Vec::new(), &directory.join("empty")),
        None,
        PATIENCE,
    )
    .await
    .unwrap();
    assert_eq!(names(&directory), ["a 'b' $c", "copy", "empty"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upload_leaves_everything_as_it_was() {
    if !available("a_failed_upload_leaves_everything_as_it_was") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let directory = sshd.path("uploads");
    std::fs::create_dir(&directory).unwrap();
    let target = directory.join("file");
    std::fs::write(&target, "old").unwrap();
    let good = upload(b"new content".to_vec(), &target);
    let damaged = [
        Upload {
            sha256: "0".repeat(64),
            ..good.clone()
        },
        Upload {
            size: 12,
            ..good.clone()
        },
        Upload {
            owner: "nobody-here:x".into(),
            ..good.clone()
        },
    ];
    for request in damaged {
        let error = host.upload(&request, None, PATIENCE).await.unwrap_err();
        assert!(matches!(error, RemoteError::Upload { .. }), "{error}");
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(names(&directory), ["file"]);
    }
    let nowhere = upload(vec![0; 10_000_000], &directory.join("no/file"));
    let error = host.upload(&nowhere, None, PATIENCE).await.unwrap_err();
    assert!(
        error.to_string().contains("there is no directory"),
        "{error}"
    );
    host.upload(&good, None, PATIENCE).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"new content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_leaves_no_file() {
    if !available("a_cut_connection_leaves_no_file") {
        return;
    }
    let sshd = Sshd::start("");
    let host = sshd.connect().await;
    let directory = sshd.path("uploads");
    std::fs::create_dir(&directory).unwrap();
    let target = directory.join("file");
    let mut request = upload(vec![7; 200_000_000], &target);
    request.sha256 = "0".repeat(64);
    let cut = host.clone();
    let progress = Arc::new(move |bytes: u64| {
        if bytes > 20_000_000 {
            cut.close();
        }
    });
    let error = host
        .upload(&request, Some(progress), PATIENCE)
        .await
        .unwrap_err();
    assert!(matches!(error, RemoteError::Closed { .. }), "{error}");
    for _ in 0..50 {
        if names(&directory).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", names(&directory));
}
