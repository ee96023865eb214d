//! Many refreshes at once, and refreshes against revocations.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use vouchsafe::{
    domain::{
        audit::Act,
        id::SessionId,
        refresh::{CLOCK_SKEW, Presented},
        time::Clock as _,
    },
    store::port::{Change, RefreshAttempt, RefreshOutcome, Store},
};

use super::world::{World, at_once, granted};

/// Callers with different keys present one token at once; all of them must get one and the same successor.
async fn one_successor_for(w: &Arc<World>, callers: usize) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    for generation in 0..3 {
        let answers = at_once(callers, |i| {
            let (node, attempt) = (Arc::clone(&nodes[i % 2]), w.attempt(session, generation));
            let key_id = 1 + i64::try_from(i).unwrap();
            async move { granted(node.refresh(RefreshAttempt { key_id, ..attempt }).await.unwrap()).session.family }
        })
        .await;
        let distinct: BTreeSet<_> = answers.iter().map(|f| (f.generation, f.key_id, f.made_at)).collect();
        assert_eq!(distinct.len(), 1, "{distinct:?}");
        assert_eq!(answers[0].generation, generation + 1, "exactly one rotation");
    }
    nodes[1].close().await;
    assert_eq!(w.live(ada).await, [session]);
    assert_eq!(w.observer.entries(), []);
}

pub(super) async fn fifty_callers_at_once_get_one_successor(w: Arc<World>) {
    one_successor_for(&w, 50).await;
}

pub(super) async fn a_hundred_callers_at_once_get_one_successor(w: Arc<World>) {
    one_successor_for(&w, 100).await;
}

pub(super) async fn of_50_replays_at_once_one_is_the_verdict(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    w.granted(session, 0).await;
    w.granted(session, 1).await;
    w.wait(CLOCK_SKEW);
    let outcomes = at_once(50, |_| {
        let w = Arc::clone(&w);
        async move { w.refresh(session, 0).await }
    })
    .await;
    assert_eq!(outcomes.iter().filter(|o| **o == RefreshOutcome::Replayed).count(), 1);
    assert_eq!(outcomes.iter().filter(|o| **o == RefreshOutcome::Ended).count(), 49);
    assert_eq!((w.count("session.ended").await, w.observer.entries().len()), (1, 1));
}

pub(super) async fn of_50_late_redeliveries_at_once_one_counts(w: Arc<World>) {
    let ada = w.user("ada").await;
    let session = w.sign_in(ada).await;
    w.granted(session, 0).await;
    w.wait(Duration::from_secs(11));
    let families = at_once(50, |_| {
        let w = Arc::clone(&w);
        async move { w.granted(session, 0).await.session.family }
    })
    .await;
    assert!(families.iter().all(|f| *f == families[0] && f.late_streak == 1 && f.late_now));
    assert_eq!(w.count("refresh.late_redelivery").await, 1);
}

/// Refreshes until it is told that the session has ended. `revoked` is read before each refresh begins: once it is set, the
/// revocation has been acknowledged and tokens must not be granted any more. How often it was granted.
async fn refresh_until_ended(
    w: Arc<World>,
    node: Arc<dyn Store>,
    session: SessionId,
    newest: Arc<AtomicI64>,
    revoked: Arc<AtomicBool>,
) -> u32 {
    // The clock stands still, so this is before whatever is made meanwhile: another caller's haste is no replay.
    let arrived = w.clock.now().minus(Duration::from_secs(1));
    let mut times = 0;
    loop {
        let acknowledged = revoked.load(Ordering::SeqCst);
        let presented = Presented { generation: newest.load(Ordering::SeqCst), arrived };
        match node.refresh(RefreshAttempt { presented, ..w.attempt(session, 0) }).await.unwrap() {
            RefreshOutcome::Granted(live, _) => {
                assert!(!acknowledged, "granted after the revocation was acknowledged");
                newest.fetch_max(live.session.family.generation, Ordering::SeqCst);
                times += 1;
            }
            RefreshOutcome::Overtaken => {}
            RefreshOutcome::Ended => return times,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) async fn nothing_is_granted_after_a_logout_was_acknowledged(w: Arc<World>) {
    let ada = w.user("ada").await;
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    for _ in 0..5 {
        let session = w.sign_in(ada).await;
        let (newest, revoked) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let granted: u32 = at_once(13, |i| {
            let (w, node) = (Arc::clone(&w), Arc::clone(&nodes[i % 2]));
            let (newest, revoked) = (Arc::clone(&newest), Arc::clone(&revoked));
            async move {
                if i > 0 {
                    return refresh_until_ended(w, node, session, newest, revoked).await;
                }
                while newest.load(Ordering::SeqCst) < 5 {
                    tokio::task::yield_now().await;
                }
                assert!(w.end(session, None).await);
                revoked.store(true, Ordering::SeqCst);
                0
            }
        })
        .await
        .into_iter()
        .sum();
        assert!(granted >= 5, "there was a race to win");
    }
    nodes[1].close().await;
}

pub(super) async fn nothing_is_granted_after_a_password_change_was_acknowledged(w: Arc<World>) {
    let ada = w.user("ada").await;
    let (spared, session) = (w.sign_in(ada).await, w.sign_in(ada).await);
    let (newest, revoked) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    at_once(13, |i| {
        let (w, newest, revoked) = (Arc::clone(&w), Arc::clone(&newest), Arc::clone(&revoked));
        async move {
            if i > 0 {
                let node = Arc::clone(&w.store);
                refresh_until_ended(w, node, session, newest, revoked).await;
                return;
            }
            while newest.load(Ordering::SeqCst) < 5 {
                tokio::task::yield_now().await;
            }
            let event = w.event(Some(ada), Act::PasswordChanged);
            let change = w.store.change_password(super::passwords::to(ada, 0, "new", spared, event)).await.unwrap();
            assert_eq!(change, Change::Done);
            revoked.store(true, Ordering::SeqCst);
        }
    })
    .await;
    assert_eq!(w.live(ada).await, [spared]);
}
