//! A writer that goes on while something is done to the cluster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::harness::{Scene, finish};

/// Writes all the time while `work` goes on; every write that was acknowledged must be on every
/// member afterwards.
pub fn while_writing(scene: &Scene, prefix: &str, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let put = |number: u32| {
        let key = format!("{prefix}{number:06}");
        let run = finish(
            format!("etcdctl put {key}"),
            &mut scene.etcdctl_command(
                scene.hosts(),
                &["--command-timeout=5s", "put", &key, "value"],
            ),
        );
        (run.code == Some(0)).then_some(key)
    };
    let (acknowledged, tried) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut acknowledged = Vec::new();
            let mut number = 0;
            // What is done soon leaves few writes to look for.
            while !done.load(Ordering::Acquire) || number < 20 {
                number += 1;
                acknowledged.extend(put(number));
            }
            (acknowledged, number)
        });
        // Ends the writer also when `work` panics.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let stop = Stop(&done);
        work();
        drop(stop);
        writer.join().unwrap()
    });
    assert!(
        acknowledged.len() > 10,
        "only {} of {tried} writes were acknowledged",
        acknowledged.len()
    );
    for host in scene.named() {
        let found = scene.etcdctl(
            std::slice::from_ref(&host),
            &["get", "--prefix", "--keys-only", prefix],
        );
        let found: Vec<&str> = found.split_whitespace().collect();
        let lost: Vec<&String> = acknowledged
            .iter()
            .filter(|key| !found.contains(&key.as_str()))
            .collect();
        assert!(lost.is_empty(), "{} has lost {lost:?}", host.name);
    }
}
