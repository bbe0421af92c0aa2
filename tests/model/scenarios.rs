//! The sequences that are replayed. Each is one fact or more of what etcd refuses, forgets or does by itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::model::release::Release;
use crate::replay::{Call, Replay};
use crate::sshd::{Sshd, available};

/// Releases that are replayed where they are in the lab's cache; the first two are what `lab setup` brings.
const RELEASES: [&str; 5] = ["3.4.23", "3.5.16", "3.5.30", "3.6", "3.7"];
/// Replays at a time: most of each is waiting.
const AT_A_TIME: usize = 16;

type Steps = fn(Replay) -> Pin<Box<dyn Future<Output = ()> + Send>>;

const ABC: [&str; 3] = ["a", "b", "c"];

macro_rules! scenarios {
    ($($name:ident $hosts:tt),+ $(,)?) => {
        const SCENARIOS: &[(&str, &[&str], Steps)] =
            &[$((stringify!($name), &$hosts, |replay| Box::pin($name(replay)))),+];
    };
}

scenarios! {
    a_learner_grows_into_a_voter ["a", "b", "c", "d", "e"],
    an_added_voter_that_never_starts_takes_the_quorum ["a", "b"],
    a_failed_member_is_replaced ["a", "b", "c"],
    the_leader_is_removed_and_others_follow ["a", "b", "c"],
    without_quorum_changes_stay_in_doubt ["a", "b", "c", "d"],
    one_of_five_down_and_a_learner_is_added ["a", "b", "c", "d", "e", "f"],
    an_update_makes_a_learner_a_voter ["a", "b", "c", "d", "e"],
    a_wiped_follower_panics_until_the_leader_changes ["a", "b", "c"],
    a_wiped_leader_comes_back_without_memory ["a", "b", "c"],
    wiped_members_start_an_empty_cluster ["a", "b", "c"],
    data_of_an_earlier_generation_waits_for_nobody ["a", "b", "c"],
    leadership_moves_through_the_leader_to_voters ["a", "b", "c", "d"],
    a_damaged_log_ends_the_member ["a", "b", "c"],
}

fn add(of: &str) -> Call<'_> {
    Call::Add { of, learner: true }
}

async fn a_learner_grows_into_a_voter(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    let (leader, follower) = (on.leader(), on.followers().remove(0));
    // Too early, unless the release only counts a quorum, which is as young.
    on.call(&leader, add("d")).await;
    on.wait().await;
    on.call(&leader, Call::Put).await;
    on.call(&leader, add("a")).await;
    on.call(&follower, add("d")).await;
    on.call(&leader, add("d")).await;
    on.call(&leader, add("e")).await;
    on.call(&leader, Call::Promote("d")).await;
    on.call(&follower, Call::Promote("d")).await;
    on.call(&leader, Call::Promote("a")).await;
    on.call(&leader, Call::Promote("e")).await;
    on.start_existing("d", &["a", "b", "c"]).await;
    on.start_existing("d", &["a", "b", "c", "d"]).await;
    on.call("d", Call::Put).await;
    on.call("d", Call::List).await;
    on.call(&follower, Call::Promote("d")).await;
    on.call("d", Call::Put).await;
    on.call(&leader, add("e")).await;
    on.call(&leader, Call::Remove("e")).await;
    on.call(&leader, Call::Remove("e")).await;
}

async fn an_added_voter_that_never_starts_takes_the_quorum(mut on: Replay) {
    on.start_new(&["a"], "t", &["a"]).await;
    on.call("a", Call::Remove("a")).await;
    on.call(
        "a",
        Call::Add {
            of: "b",
            learner: false,
        },
    )
    .await;
    on.call("a", Call::Put).await;
    on.call("a", Call::Remove("b")).await;
    on.start_existing("b", &["a", "b"]).await;
    on.call("a", Call::Put).await;
}

async fn a_failed_member_is_replaced(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    let (leader, failed) = (on.leader(), on.followers().remove(0));
    let other = on.followers().remove(1);
    on.call(&leader, Call::Put).await;
    on.wait().await;
    on.kill(&[&failed]).await;
    on.call(&leader, add(&failed)).await;
    on.call(&leader, Call::Remove(&other)).await;
    on.call(&other, Call::Remove(&failed)).await;
    on.start(&failed).await;
    on.wipe(&failed);
    on.start_existing(&failed, &ABC).await;
    on.call(&leader, add(&failed)).await;
    on.start_existing(&failed, &ABC).await;
    on.call(&leader, Call::Promote(&failed)).await;
    on.call(&leader, Call::Put).await;
}

async fn the_leader_is_removed_and_others_follow(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    let first = on.leader();
    on.call(&first, Call::Put).await;
    on.wait().await;
    on.call(&first, Call::Remove(&first)).await;
    on.call(&on.leader(), Call::Put).await;
    on.start(&first).await;
    let (leader, follower) = (on.leader(), on.followers().remove(0));
    on.call(&leader, Call::Remove(&follower)).await;
    on.call(&leader, Call::Put).await;
    on.call(&leader, Call::Remove(&leader)).await;
}

async fn without_quorum_changes_stay_in_doubt(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    on.call(&on.leader(), Call::Put).await;
    on.wait().await;
    let survivor = on.leader();
    let dead = on.followers();
    on.kill(&[&dead[0], &dead[1]]).await;
    on.call(&survivor, add("d")).await;
    on.call(&survivor, Call::List).await;
    on.call(&survivor, Call::Put).await;
    on.call(&survivor, Call::Remove(&dead[0])).await;
    on.start(&dead[1]).await;
    on.call(&survivor, Call::List).await;
}

async fn one_of_five_down_and_a_learner_is_added(mut on: Replay) {
    let five = ["a", "b", "c", "d", "e"];
    on.start_new(&five, "t", &five).await;
    on.wait().await;
    let (leader, dead) = (on.leader(), on.followers());
    on.kill(&[&dead[0]]).await;
    on.call(&leader, add("f")).await;
    on.call(&leader, Call::Remove("f")).await;
    on.kill(&[&dead[1]]).await;
    on.call(&leader, add("f")).await;
    on.call(&leader, Call::Remove(&dead[2])).await;
    on.call(&leader, Call::Remove(&dead[0])).await;
}

async fn an_update_makes_a_learner_a_voter(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    on.wait().await;
    let leader = on.leader();
    on.call(&leader, add("d")).await;
    on.call(&leader, Call::Update("d", "a")).await;
    on.call(&leader, Call::Update("d", "e")).await;
    on.call(&leader, Call::Update("d", "d")).await;
    on.call(&leader, Call::Put).await;
    on.call(&leader, Call::Promote("d")).await;
    on.call(&leader, Call::Remove("d")).await;
}

async fn a_wiped_follower_panics_until_the_leader_changes(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    let (leader, wiped) = (on.leader(), on.followers().remove(0));
    let other = on.followers().remove(1);
    on.call(&leader, Call::Put).await;
    on.kill(&[&wiped]).await;
    on.wipe(&wiped);
    on.start_new(&[&wiped], "t", &ABC).await;
    on.start_existing(&wiped, &ABC).await;
    on.start(&wiped).await;
    on.call(&leader, Call::MoveLeader(&other)).await;
    on.start(&wiped).await;
    on.call(&other, Call::Put).await;
}

async fn a_wiped_leader_comes_back_without_memory(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    let wiped = on.leader();
    on.call(&wiped, Call::Put).await;
    on.kill(&[&wiped]).await;
    on.wipe(&wiped);
    on.start_existing(&wiped, &ABC).await;
    on.call(&on.leader(), Call::Put).await;
}

async fn wiped_members_start_an_empty_cluster(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    on.call("a", Call::Put).await;
    on.kill(&ABC).await;
    on.wipe("a");
    on.wipe("b");
    on.start_new(&["a", "b"], "t", &ABC).await;
    on.call("a", Call::List).await;
}

async fn data_of_an_earlier_generation_waits_for_nobody(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    on.kill(&ABC).await;
    on.wipe("a");
    on.wipe("b");
    on.start_new(&["a", "b"], "t2", &ABC).await;
    on.start("c").await;
    on.call("a", Call::Put).await;
}

async fn leadership_moves_through_the_leader_to_voters(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    on.wait().await;
    let (leader, follower) = (on.leader(), on.followers().remove(0));
    on.call(&leader, add("d")).await;
    on.start_existing("d", &["a", "b", "c", "d"]).await;
    on.call(&leader, Call::MoveLeader("d")).await;
    on.call(&follower, Call::MoveLeader(&follower)).await;
    on.call(&leader, Call::MoveLeader(&follower)).await;
    on.stop(&[&follower], false).await;
    on.call(&on.leader(), Call::Put).await;
}

async fn a_damaged_log_ends_the_member(mut on: Replay) {
    on.start_new(&ABC, "t", &ABC).await;
    let damaged = on.followers().remove(0);
    on.call(&on.leader(), Call::Put).await;
    on.kill(&[&damaged]).await;
    on.corrupt(&damaged);
    on.start(&damaged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_does_what_the_model_does() {
    let test = "etcd_does_what_the_model_does";
    if !available(test) {
        return;
    }
    let only = std::env::var("QUORATE_REPLAY").unwrap_or_default();
    let sshd = Sshd::start("");
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let mut replays = tokio::task::JoinSet::new();
    let mut replayed = Vec::new();
    for wanted in RELEASES {
        let Ok(found) = quorate_lab::releases::find(wanted) else {
            eprintln!("SKIPPED {test} on etcd {wanted}: it is not in the lab's cache");
            continue;
        };
        let release: Release = found.version.parse().unwrap();
        let mut count = 0;
        for (name, hosts, steps) in SCENARIOS {
            if !format!("{name} on {release}").contains(&only) {
                continue;
            }
            count += 1;
            let ssh = sshd.connect().await;
            let (turns, dir) = (turns.clone(), found.dir.clone());
            replays.spawn(async move {
                let _turn = turns.acquire().await.unwrap();
                let begun = std::time::Instant::now();
                steps(Replay::new(name, ssh, release, &dir, hosts)).await;
                eprintln!("{release} {name}: {:.1} s", begun.elapsed().as_secs_f32());
            });
        }
        eprintln!("etcd {release}: {count} replays");
        replayed.push(wanted);
    }
    let required = std::env::var("QUORATE_REPLAY_REQUIRED").unwrap_or_default();
    for release in required.split_whitespace() {
        assert!(replayed.contains(&release), "etcd {release} is missing");
    }
    let mut failed = Vec::new();
    while let Some(replay) = replays.join_next().await {
        if let Err(error) = replay {
            failed.push(error.to_string());
        }
    }
    assert!(failed.is_empty(), "model and etcd differ: {failed:#?}");
}
