//! What an answer of etcd is worth, and how long one is waited for.

use super::*;

#[test]
fn what_passes_by_itself_is_asked_for_again() {
    let said = |message: &str| {
        trouble(EtcdError {
            node: "etcd-1".into(),
            call: "member promote",
            kind: EtcdErrorKind::Other {
                code: "ResourceExhausted".into(),
                message: message.into(),
            },
            ambiguous: false,
        })
    };
    let passes = |message| matches!(said(message), Trouble::Passing(_));
    assert!(passes("etcdserver: too many requests"));
    assert!(passes(
        "etcdserver: can only promote a learner member which is in sync with leader"
    ));
    assert!(!passes("etcdserver: member not found"));
}

#[test]
fn an_update_waits_for_the_member_as_long_as_its_gate_would() {
    let ends = |call: &EtcdCall, nobody: u64| {
        let mut patience = Patience::new(call);
        for second in 0..nobody {
            patience.nobody(patience.begun + Duration::from_secs(second));
        }
        (patience.ends - patience.begun).as_secs()
    };
    let update = EtcdCall::Update(MemberId(1), vec![]);
    assert_eq!(ends(&update, 0), 60);
    assert_eq!(ends(&update, 41), 100);
    assert_eq!(ends(&update, 90), 120);
    assert_eq!(ends(&EtcdCall::Remove(MemberId(1)), 90), 60);
}

fn failed(ambiguous: bool) -> EtcdError {
    EtcdError {
        node: "etcd-1".into(),
        call: "member remove",
        kind: EtcdErrorKind::Other {
            code: if ambiguous { "Unknown" } else { "NotFound" }.into(),
            message: "etcdserver: member not found".into(),
        },
        ambiguous,
    }
}

fn member(id: u64, name: &str, is_learner: bool) -> Member {
    Member {
        id: MemberId(id),
        name: name.into(),
        peer_urls: vec![format!("http://10.0.0.{id}:2380")],
        client_urls: vec![],
        is_learner,
    }
}

#[test]
fn a_definite_answer_is_read_back_as_well() {
    let verdict = |asked, after| verdict(&EtcdCall::Remove(MemberId(2)), asked, after);
    let gone = vec![member(1, "etcd-1", false)];
    let there = vec![member(1, "etcd-1", false), member(2, "etcd-2", false)];
    let failed = || failed(false);
    assert!(matches!(verdict(Err(failed()), Ok(gone.clone())), Ok(true)));
    assert!(matches!(verdict(Ok(()), Ok(gone)), Ok(true)));
    assert!(matches!(verdict(Ok(()), Ok(there.clone())), Ok(false)));
    let lasting = [
        verdict(Err(failed()), Ok(there)),
        verdict(Err(failed()), Err(failed())),
    ];
    let lasts = |verdict: &Result<bool, Trouble>| matches!(verdict, Err(Trouble::Lasting(_)));
    assert!(lasting.iter().all(lasts));
}

/// The same words, of which nobody knows whether the call came true: the membership says so, or it is asked again.
#[test]
fn an_ambiguous_answer_is_never_guessed() {
    let url = |id: u64| format!("http://10.0.0.{id}:2380");
    let before = || vec![member(1, "etcd-1", false), member(2, "etcd-2", true)];
    let voter = || vec![member(1, "etcd-1", false), member(2, "etcd-2", false)];
    let mut moved = voter();
    moved[1].peer_urls = vec![url(9)];
    let mut added = before();
    added.push(member(3, "", true));
    // By call: a membership without its effect, and one with it.
    let calls = [
        (EtcdCall::AddLearner(url(3)), before(), added),
        (EtcdCall::Promote(url(2)), before(), voter()),
        (
            EtcdCall::Remove(MemberId(2)),
            voter(),
            vec![member(1, "etcd-1", false)],
        ),
        (EtcdCall::Update(MemberId(2), vec![url(9)]), voter(), moved),
    ];
    let passes = |verdict: Result<bool, Trouble>| matches!(verdict, Err(Trouble::Passing(_)));
    let lasts = |verdict: Result<bool, Trouble>| matches!(verdict, Err(Trouble::Lasting(_)));
    for (call, without, with) in calls {
        let verdict = |asked, after| verdict(&call, asked, after);
        assert!(
            matches!(verdict(Err(failed(true)), Ok(with.clone())), Ok(true)),
            "{call:?}"
        );
        assert!(
            passes(verdict(Err(failed(true)), Ok(without.clone()))),
            "{call:?}"
        );
        // An empty list is nobody's: it does not say that anything has gone.
        assert!(passes(verdict(Err(failed(true)), Ok(vec![]))), "{call:?}");
        for unread in [true, false] {
            assert!(
                passes(verdict(Err(failed(true)), Err(failed(unread)))),
                "{call:?}"
            );
        }
        // It said yes, or no, and only the look afterwards failed.
        assert!(passes(verdict(Ok(()), Err(failed(true)))), "{call:?}");
        assert!(lasts(verdict(Ok(()), Err(failed(false)))), "{call:?}");
        assert!(
            lasts(verdict(Err(failed(false)), Err(failed(true)))),
            "{call:?}"
        );
        assert!(
            matches!(verdict(Ok(()), Ok(without)), Ok(false)),
            "{call:?}"
        );
    }
}
