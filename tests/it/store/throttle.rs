//! Counters of failures and budgets of messages: over all nodes, whatever happens at once.

use std::{sync::Arc, time::Duration};

use vouchsafe::{
    domain::{
        throttle::{LONGEST_WAIT, QUIET, Rate, Steps},
        time::Clock as _,
    },
    store::port::{
        Attempt::{Reserved, Wait},
        MessageBudgets, Spending, Store, ThrottleKey,
    },
};

use super::world::{World, at_once};

const STEPS: Steps = Steps::identifier(10);
const KEY: ThrottleKey = [7; 32];
const DAY: Duration = Duration::from_hours(24);

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl World {
    async fn try_once(&self) -> vouchsafe::store::port::Attempt {
        self.store.reserve_attempt(KEY, STEPS).await.unwrap()
    }

    /// Makes so many attempts that are let through, as soon as each is.
    async fn fail(&self, times: u32) {
        for _ in 0..times {
            if let Wait(wait) = self.try_once().await {
                self.wait(wait);
                assert_eq!(self.try_once().await, Reserved);
            }
        }
    }

    async fn failures(&self) -> i64 {
        self.database.integer("SELECT CAST(COALESCE(SUM(failures), 0) AS BIGINT) FROM throttles").await
    }
}

pub(super) async fn a_few_attempts_are_free_and_then_each_waits_longer(w: Arc<World>) {
    for _ in 0..5 {
        assert_eq!(w.try_once().await, Reserved);
    }
    for wait in [1, 2, 4, 8] {
        assert_eq!(w.try_once().await, Wait(secs(wait)));
        w.wait(Duration::from_millis(1_000 * wait - 1));
        assert_eq!(w.try_once().await, Wait(Duration::from_millis(1)), "asking does not prolong it");
        w.wait(Duration::from_millis(1));
        assert_eq!(w.try_once().await, Reserved);
    }
    assert_eq!(w.failures().await, 9);
    assert_eq!(w.store.reserve_attempt([8; 32], STEPS).await.unwrap(), Reserved, "another target");
}

pub(super) async fn at_the_cap_nothing_is_looked_at_until_it_is_forgotten_or_long_ago(w: Arc<World>) {
    w.fail(10).await;
    for _ in 0..29 {
        assert_eq!(w.try_once().await, Wait(LONGEST_WAIT));
        w.wait(DAY);
    }
    w.store.forget_failures(vec![[8; 32], KEY]).await.unwrap();
    w.fail(10).await;
    w.wait(QUIET.checked_sub(secs(1)).unwrap());
    assert_eq!(w.try_once().await, Wait(secs(1)));
    w.wait(secs(1));
    w.fail(5).await;
    assert_eq!((w.try_once().await, w.failures().await), (Wait(secs(1)), 5), "it begins anew");

    // A lower cap holds for those who were below the old one.
    let (lower, rows) = (Steps::identifier(5), "UPDATE throttles SET failures = 8");
    assert_eq!(w.database.execute(rows).await, 1);
    assert_eq!(w.store.reserve_attempt(KEY, lower).await.unwrap(), Wait(LONGEST_WAIT));
    w.wait(QUIET);
    assert_eq!(w.store.reserve_attempt(KEY, lower).await.unwrap(), Reserved);
}

pub(super) async fn of_100_attempts_at_once_on_two_nodes_only_the_free_ones_are_let_through(w: Arc<World>) {
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    // Nothing there, then a row that waits no more, then one that does.
    for expected in [5, 1, 0] {
        let attempts = at_once(100, |i| {
            let node = Arc::clone(&nodes[i % 2]);
            async move { node.reserve_attempt(KEY, STEPS).await.unwrap() }
        })
        .await;
        assert_eq!(attempts.iter().filter(|attempt| **attempt == Reserved).count(), expected);
        if expected == 5 {
            w.wait(secs(1));
        }
    }
    assert_eq!(w.failures().await, 6);
    nodes[1].close().await;
}

pub(super) async fn an_attempt_that_is_given_back_is_free_again(w: Arc<World>) {
    for _ in 0..20 {
        assert_eq!(w.try_once().await, Reserved);
        w.store.give_back_attempt(KEY).await.unwrap();
    }
    assert_eq!(w.database.integer("SELECT COUNT(*) FROM throttles").await, 0, "no row is left of it");
    w.fail(4).await;
    w.store.give_back_attempt(KEY).await.unwrap();
    assert_eq!(w.failures().await, 3, "those before it stay");
    w.store.forget_failures(vec![KEY]).await.unwrap();
    w.store.give_back_attempt(KEY).await.unwrap();
    w.fail(5).await;
    assert_eq!(w.try_once().await, Wait(secs(1)), "no credit");
}

pub(super) async fn what_is_counted_without_a_reservation_waits_too(w: Arc<World>) {
    let wait = async || w.store.counted_wait(KEY, Steps::CLIENT).await.unwrap();
    assert_eq!(wait().await, None);
    w.store.count_failure(KEY).await.unwrap();
    assert_eq!(wait().await, Some(Duration::ZERO));
    let counted = at_once(19, |_| {
        let store = Arc::clone(&w.store);
        async move { store.count_failure(KEY).await.unwrap() }
    });
    counted.await;
    assert_eq!((wait().await, w.failures().await), (Some(secs(1)), 20));
    w.wait(secs(1));
    assert_eq!(wait().await, Some(Duration::ZERO));
    w.wait(QUIET);
    w.store.count_failure(KEY).await.unwrap();
    assert_eq!(w.failures().await, 1);
}

pub(super) async fn a_clock_set_back_gives_no_attempt_and_no_wait_of_years(w: Arc<World>) {
    let right = w.clock.now();
    w.wait(1_000 * DAY);
    w.fail(8).await;
    w.clock.set(right);
    // Eight seconds from now on, not from then.
    assert_eq!(w.try_once().await, Wait(secs(8)));
    w.wait(secs(7));
    assert_eq!(w.try_once().await, Wait(secs(1)));
    w.wait(secs(1));
    assert_eq!(w.try_once().await, Reserved);
    assert_eq!((w.try_once().await, w.failures().await), (Wait(secs(16)), 9));

    // So are budgets, each at once and without a purge: what lies in years counts as all that can be spent ahead.
    for ahead in [1_000 * DAY, Duration::from_mins(40), secs(16 * 60)] {
        w.database.execute("DELETE FROM budgets").await;
        w.clock.set(right.plus(ahead));
        for _ in 0..5 {
            assert_eq!(spend(&*w.store, 1, 1).await, Spending::Spent);
        }
        w.clock.set(right);
        let Spending::Wait(wait) = spend(&*w.store, 1, 1).await else { panic!("sent") };
        assert!(wait <= Duration::from_mins(6) + Duration::from_micros(1), "{ahead:?}: {wait:?}");
        w.wait(wait);
        // Everybody's, of which five were spent, may be in the way a last time.
        let mut spending = spend(&*w.store, 1, 1).await;
        if let Spending::Wait(wait) = spending {
            assert!(wait <= Duration::from_mins(3) + Duration::from_micros(1), "{ahead:?}: {wait:?}");
            w.wait(wait);
            spending = spend(&*w.store, 1, 1).await;
        }
        assert_eq!(spending, Spending::Spent, "{ahead:?}");
        assert!(matches!(spend(&*w.store, 1, 1).await, Spending::Wait(_)), "no credit: {ahead:?}");
    }

    // The purge leaves the same, also of those that nobody asks for any more.
    w.clock.set(right.plus(1_000 * DAY));
    spend(&*w.store, 9, 9).await;
    w.clock.set(right);
    w.store.purge_throttles().await.unwrap();
    w.wait(Duration::from_hours(1) + secs(1));
    assert_eq!(spend(&*w.store, 9, 9).await, Spending::Spent);
}

pub(super) async fn counters_that_are_over_are_deleted_and_no_others(w: Arc<World>) {
    let reserve = async |key: u8, times: u8| {
        for _ in 0..times {
            assert_eq!(w.store.reserve_attempt([key; 32], STEPS).await.unwrap(), Reserved);
        }
    };
    let left = async || w.database.integer("SELECT COUNT(*) FROM throttles").await;
    reserve(1, 1).await;
    reserve(2, 2).await;
    w.wait(DAY);
    reserve(3, 1).await;
    w.store.purge_throttles().await.unwrap();
    assert_eq!(left().await, 3);
    w.wait(Duration::from_millis(1));
    assert_eq!(w.store.purge_throttles().await.unwrap(), 1);
    assert_eq!((left().await, w.failures().await), (2, 3), "one guess of a day ago is forgotten, two are not");
    w.wait(29 * DAY);
    reserve(4, 2).await;
    assert_eq!(w.store.purge_throttles().await.unwrap(), 2);
    assert_eq!(w.failures().await, 2);

    w.store.spend_message(budgets(1, 1)).await.unwrap();
    assert_eq!(w.store.purge_throttles().await.unwrap(), 0);
    w.wait(DAY);
    assert_eq!(w.store.purge_throttles().await.unwrap(), 3);
}

/// Ten an hour for who is asked for and for the recipient, five at once; twenty altogether, all at once.
fn budgets(asked_for: u8, recipient: u8) -> MessageBudgets {
    MessageBudgets {
        asked_for: [asked_for; 32],
        recipient: [100 + recipient; 32],
        each: Rate::per_hour(10, 5),
        overall: [255; 32],
        all: Rate::per_hour(20, 20),
    }
}

async fn spend(store: &dyn Store, asked_for: u8, recipient: u8) -> Spending {
    store.spend_message(budgets(asked_for, recipient)).await.unwrap()
}

pub(super) async fn a_budget_is_spent_and_fills_again(w: Arc<World>) {
    for _ in 0..5 {
        assert_eq!(spend(&*w.store, 1, 1).await, Spending::Spent);
    }
    let six = Duration::from_mins(6);
    assert_eq!(spend(&*w.store, 1, 1).await, Spending::Wait(six));
    w.wait(secs(359));
    assert_eq!(spend(&*w.store, 1, 1).await, Spending::Wait(secs(1)));
    w.wait(secs(1));
    assert_eq!(spend(&*w.store, 1, 1).await, Spending::Spent);
    assert_eq!(spend(&*w.store, 1, 1).await, Spending::Wait(six));
}

pub(super) async fn of_50_messages_at_once_on_two_nodes_the_burst_is_sent(w: Arc<World>) {
    let nodes = [Arc::clone(&w.store), w.another_node().await];
    let sent = at_once(50, |i| {
        let node = Arc::clone(&nodes[i % 2]);
        async move { spend(&*node, 1, 1).await }
    })
    .await;
    assert_eq!(sent.iter().filter(|spending| **spending == Spending::Spent).count(), 5);
    nodes[1].close().await;
}

pub(super) async fn a_recipient_s_own_budget_shows_nowhere_else(w: Arc<World>) {
    for _ in 0..5 {
        assert_eq!(spend(&*w.store, 1, 1).await, Spending::Spent);
    }
    // By another name: it goes on as for anybody, and nothing is sent.
    for _ in 0..5 {
        assert_eq!(spend(&*w.store, 2, 1).await, Spending::RecipientSpent);
    }
    assert!(matches!(spend(&*w.store, 2, 1).await, Spending::Wait(_)));
    assert_eq!(spend(&*w.store, 3, 3).await, Spending::Spent);
}

pub(super) async fn what_is_refused_is_not_spent(w: Arc<World>) {
    for asked_for in 0..4 {
        for _ in 0..5 {
            assert_eq!(spend(&*w.store, asked_for, asked_for).await, Spending::Spent);
        }
    }
    let before = w.database.dump("budgets").await;
    let three = Duration::from_mins(3);
    assert_eq!(spend(&*w.store, 9, 9).await, Spending::Wait(three), "altogether it is too much");
    assert_eq!(w.database.dump("budgets").await, before);
    w.wait(three);
    assert_eq!(spend(&*w.store, 9, 9).await, Spending::Spent);
}
