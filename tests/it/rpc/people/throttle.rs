//! Limits on what comes from one address and altogether, where a call came from, and service accounts with wrong secrets.

use std::{sync::Arc, time::Duration};

use tonic::Code;
use vouchsafe::pb::v1;

use crate::{
    rpc::{
        on_both_databases, on_forms,
        service_accounts::{administrator, create},
    },
    support::{
        Backend, Guess, ManualClock, PASSWORD, TestDatabase, TestNode, bearer, forwarded, guess_of, login_request,
        until, wire,
    },
};

on_both_databases!(
    a_client_that_is_wrong_too_often_waits_where_it_is,
    an_address_that_fails_too_often_waits_whatever_it_asks_for,
    when_all_fail_too_often_all_wait,
    an_address_makes_so_many_accounts_and_no_more,
    the_address_is_what_trusted_proxies_say_and_nobody_else,
    refusals_beyond_a_rate_are_counted_in_the_trail,
);

mod shared {
    use super::{on_forms, what_fails_at_one_node_counts_at_the_other};
    on_forms!([redis Redis cluster Cluster] [what_fails_at_one_node_counts_at_the_other]);
}

mod locked {
    use super::{
        on_forms, whoever_hangs_up_escapes_no_count, whoever_hangs_up_on_a_change_of_password_is_counted_as_anybody,
    };
    on_forms!([postgres Postgres] [
        whoever_hangs_up_escapes_no_count
        whoever_hangs_up_on_a_change_of_password_is_counted_as_anybody
    ]);
}

/// A client that does not exist; another one for each number.
fn nobody(number: u32) -> String {
    format!("svc_01900000-0000-7000-8000-{number:012}")
}

/// Says that proxies on this machine are to be believed, so that a test can be whoever it likes.
const BEHIND_PROXY: &str = "grpc.trusted_proxies=127.0.0.0/8";

async fn a_client_that_is_wrong_too_often_waits_where_it_is(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _).set(BEHIND_PROXY);
    let node = node.set("throttle.address_failures=0").start().await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let (known, unknown) = (account.client_id.as_str(), nobody(1));
    let (here, elsewhere) = ("203.0.113.1", "203.0.113.2");
    for id in [known, &unknown] {
        for _ in 0..20 {
            assert_eq!(node.guess_client(id, here).await, Guess::Wrong);
        }
        assert_eq!(node.guess_client(id, here).await, Guess::Wait(Duration::from_secs(1)), "{id}");
    }
    let refused = node.ask_as_client(known, &secret, here).await.unwrap_err();
    assert_eq!(guess_of(&refused), Guess::Wait(Duration::from_secs(1)), "not looked at");
    assert_eq!(node.events("act = 'service_token.refused'").await, 40, "nor written down");
    // Whoever knows its id does not keep a service from its tokens.
    node.ask_as_client(known, &secret, elsewhere).await.unwrap();

    clock.advance(Duration::from_secs(1));
    node.catch_up().await;
    assert_eq!(node.guess_client(known, here).await, Guess::Wrong);
    assert_eq!(node.guess_client(known, here).await, Guess::Wait(Duration::from_secs(2)));
    clock.advance(Duration::from_secs(2));
    node.catch_up().await;
    node.ask_as_client(known, &secret, here).await.unwrap();
    for _ in 0..20 {
        assert_eq!(node.guess_client(known, here).await, Guess::Wrong, "it begins anew");
    }
    let scrape = wire::get(node.http, "/metrics").await.1;
    for line in [
        "vouchsafe_throttled_total{what=\"account\"} 4",
        "vouchsafe_throttled_total{what=\"address\"} 0",
        "vouchsafe_service_tokens_total{outcome=\"throttled\"} 4",
        "vouchsafe_service_tokens_total{outcome=\"invalid_client\"} 61",
    ] {
        assert!(scrape.lines().any(|l| l == line), "{line} in {scrape}");
    }
    node.remove().await;
}

async fn refusals_beyond_a_rate_are_counted_in_the_trail(backend: Backend) {
    // It stands still: it is all within one period, however long it takes.
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _);
    let node = node.set("throttle.address_failures=0").start().await;
    let root = administrator(&node).await;
    let (account, _) = create(&node, &root, &[]).await;
    for number in 0..40 {
        assert_eq!(node.guess_client(&nobody(number), "203.0.113.1").await, Guess::Wrong);
    }
    assert_eq!(node.guess_client(&account.client_id, "203.0.113.1").await, Guess::Wrong);
    assert_eq!(node.events("act = 'service_token.refused' AND subject_id IS NULL").await, 30);
    assert_eq!(node.events("act = 'service_token.refused' AND subject_id IS NOT NULL").await, 1, "of another account");
    let database = Arc::clone(&node.database);
    node.stop().await;
    let told = "SELECT CAST(detail AS TEXT) FROM audit_events WHERE act = 'failures.aggregated' AND NOT succeeded \
                AND actor = 'anonymous' AND subject_id IS NULL AND lane IS NOT NULL";
    let told = database.texts(told).await;
    let told: Vec<serde_json::Value> = told.iter().map(|detail| serde_json::from_str(detail).unwrap()).collect();
    assert_eq!(told.iter().map(|detail| detail["count"].as_u64().unwrap()).sum::<u64>(), 10);
    assert!(told.iter().all(|detail| detail["act"] == "service_token.refused"), "{told:?}");
    assert!(told.iter().all(|detail| detail["first_time"].as_str().unwrap().starts_with("2027-")), "{told:?}");
    database.remove().await;
}

async fn an_address_that_fails_too_often_waits_whatever_it_asks_for(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _).set(BEHIND_PROXY);
    let node = node.set("throttle.address_failures=6").start().await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let ten = Guess::Wait(Duration::from_secs(10));
    for (addresses, others) in [
        (["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"], ["192.0.2.2", "2001:db8::1"]),
        (
            ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:ffff:ffff:ffff:ffff"],
            ["2001:db8:1:3::1", "2001:db8::1"],
        ),
    ] {
        for number in 0..6 {
            let from = addresses[number as usize % 3];
            assert_eq!(node.guess_client(&nobody(number), from).await, Guess::Wrong, "{from}");
        }
        for from in addresses {
            assert_eq!(node.guess_client(&nobody(7), from).await, ten, "{from}");
            let refused = node.ask_as_client(&account.client_id, &secret, from).await.unwrap_err();
            assert_eq!(guess_of(&refused), ten, "{from}");
        }
        for from in others {
            node.ask_as_client(&account.client_id, &secret, from).await.unwrap();
        }
    }
    // What was refused does not prolong it, and what succeeds does not count.
    clock.advance(Duration::from_secs(10));
    node.catch_up().await;
    for _ in 0..20 {
        node.ask_as_client(&account.client_id, &secret, "192.0.2.1").await.unwrap();
    }
    assert_eq!(node.guess_client(&nobody(1), "192.0.2.1").await, Guess::Wrong);
    assert_eq!(node.guess_client(&nobody(1), "192.0.2.1").await, ten);
    node.remove().await;
}

async fn when_all_fail_too_often_all_wait(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _).set(BEHIND_PROXY);
    let node = node.set("throttle.overall_failures=60").start().await;
    for number in 0..60 {
        assert_eq!(node.guess_client(&nobody(number), &format!("192.0.2.{number}")).await, Guess::Wrong);
    }
    assert_eq!(node.guess_client(&nobody(99), "192.0.2.99").await, Guess::Wait(Duration::from_secs(1)));
    let scrape = wire::get(node.http, "/metrics").await.1;
    assert!(scrape.lines().any(|line| line == "vouchsafe_throttled_total{what=\"overall\"} 1"), "{scrape}");
    // Set back, it makes nobody wait for what it was wrong by.
    clock.set(vouchsafe::domain::time::Timestamp::from_seconds(1_700_000_000));
    assert_eq!(node.guess_client(&nobody(99), "192.0.2.99").await, Guess::Wait(Duration::from_secs(1)));
    node.remove().await;
}

async fn an_address_makes_so_many_accounts_and_no_more(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _).set(BEHIND_PROXY);
    let node = node.set("throttle.address_failures=6").start().await;
    let register = async |from: &str, name: &str| {
        let request = v1::RegisterRequest {
            email: format!("{name}@example.com"),
            password: PASSWORD.into(),
            ..v1::RegisterRequest::default()
        };
        node.auth().await.register(forwarded(from, request)).await
    };
    for number in 0..6 {
        register("192.0.2.1", &format!("user{number}")).await.unwrap();
    }
    let refused = register("192.0.2.1", "user6").await.unwrap_err();
    assert_eq!(guess_of(&refused), Guess::Wait(Duration::from_secs(10)));
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users").await, 6);
    register("192.0.2.2", "elsewhere").await.unwrap();
    // To judge a password is work, too.
    let weak = v1::RegisterRequest {
        email: "weak@example.com".into(),
        password: "short".into(),
        ..v1::RegisterRequest::default()
    };
    let mut codes = Vec::new();
    for _ in 0..7 {
        codes.push(node.auth().await.register(forwarded("192.0.2.3", weak.clone())).await.unwrap_err().code());
    }
    assert_eq!(codes, [[Code::InvalidArgument; 6].as_slice(), &[Code::ResourceExhausted]].concat());
    // Accounts are no failures, and what is refused prolongs nothing.
    assert_eq!(node.guess_client(&nobody(1), "192.0.2.1").await, Guess::Wrong);
    clock.advance(Duration::from_secs(10));
    node.catch_up().await;
    register("192.0.2.1", "user6").await.unwrap();
    node.remove().await;
}

/// The database is made to wait, so that callers are gone before they could have been answered.
async fn whoever_hangs_up_escapes_no_count(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _).set(BEHIND_PROXY);
    let node = node.set("throttle.address_failures=1").start().await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let patience = Duration::from_secs(2);
    for (number, table) in [(1, "mailed_codes"), (2, "mailed_codes"), (3, "sessions")] {
        let from = format!("192.0.2.{number}");
        let refuses = async || match node.ask_as_client(&account.client_id, &secret, &from).await {
            Ok(_) => false,
            Err(refused) => guess_of(&refused) != Guess::Wrong,
        };
        assert!(!refuses().await);
        let pool = node.database.postgres_pool().unwrap();
        let mut lock = pool.begin().await.unwrap();
        let sql = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *lock).await.unwrap();
        let answer = match number {
            1 => {
                let mut request = forwarded(&from, v1::VerifyEmailRequest { code: "vev_wrong".into() });
                request.set_timeout(patience);
                node.auth().await.verify_email(request).await.map(|_| ())
            }
            2 => {
                let reset = v1::ResetPasswordRequest { code: "vpr_wrong".into(), new_password: PASSWORD.into() };
                let mut request = forwarded(&from, reset);
                request.set_timeout(patience);
                node.auth().await.reset_password(request).await.map(|_| ())
            }
            _ => {
                let mut request = forwarded(&from, login_request("root@example.com", PASSWORD));
                request.set_timeout(patience);
                node.auth().await.login(request).await.map(|_| ())
            }
        };
        assert!(answer.is_err(), "it waited for the lock");
        lock.rollback().await.unwrap();
        until("it counts for its address", refuses).await;
    }
    node.remove().await;
}

async fn whoever_hangs_up_on_a_change_of_password_is_counted_as_anybody(backend: Backend) {
    const NEW: &str = "paper tigers dislike heavy rain";
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _).set(BEHIND_PROXY);
    let node = node.set("throttle.address_failures=1").start().await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let from = "192.0.2.1";
    let refuses = async || match node.ask_as_client(&account.client_id, &secret, from).await {
        Ok(_) => false,
        Err(refused) => guess_of(&refused) != Guess::Wrong,
    };
    // The right one first: what is wrong makes the address wait.
    for (current, event) in [(PASSWORD, "password.changed"), (PASSWORD, "reauthentication.failed")] {
        let pool = node.database.postgres_pool().unwrap();
        let mut lock = pool.begin().await.unwrap();
        sqlx::raw_sql("LOCK TABLE throttles IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
        let change = v1::ChangePasswordRequest { current_password: current.into(), new_password: NEW.into() };
        let mut request = bearer(&root, change);
        request.metadata_mut().insert("x-forwarded-for", from.parse().unwrap());
        let mut client = node.account().await;
        let call = tokio::spawn(async move { client.change_password(request).await });
        // The call itself: a purge, as a node makes it when it starts, may wait for the same table.
        let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO throttles %'";
        until("it waits for the lock", async || node.database.integer(waits).await == 1).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        lock.rollback().await.unwrap();
        let happened = format!("act = '{event}'");
        until("it is decided all the same", async || node.events(&happened).await == 1).await;
        if event == "password.changed" {
            assert_eq!(node.database.integer("SELECT COUNT(*) FROM throttles").await, 0, "it was right");
            assert!(!refuses().await);
        }
    }
    until("it counts for its address", refuses).await;
    node.remove().await;
}

async fn the_address_is_what_trusted_proxies_say_and_nobody_else(backend: Backend) {
    let seen = async |node: &TestNode, header: &[&str]| {
        let mut request = forwarded("", login_request("ada@example.com", PASSWORD));
        for value in header {
            request.metadata_mut().append("x-forwarded-for", value.parse().unwrap());
        }
        let answer = node.auth().await.login(request).await.unwrap().into_inner();
        let Some(v1::login_response::Outcome::Tokens(tokens)) = answer.outcome else { panic!("{answer:?}") };
        node.sessions(&tokens.access_token).await.swap_remove(0).ip_address
    };
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let node = TestNode::on(Arc::clone(&database)).start().await;
    node.register("ada@example.com").await;
    for header in [&["203.0.113.9"][..], &["203.0.113.9", "127.0.0.1"], &["127.0.0.1, 10.0.0.1"], &["?"]] {
        assert_eq!(seen(&node, header).await, "127.0.0.1", "nobody is trusted: {header:?}");
    }
    node.stop().await;
    let node = TestNode::on(database).set("grpc.trusted_proxies=127.0.0.1,fd00::/8").start().await;
    for (header, client) in [
        (&[][..], "127.0.0.1"),
        (&["203.0.113.9"], "203.0.113.9"),
        (&["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
        (&["6.6.6.6", "203.0.113.9, fd00::5", "fd00::6"], "203.0.113.9"),
        (&["fd00::7"], "fd00::7"),
        (&["2001:db8::1"], "2001:db8::1"),
        (&["203.0.113.9, garbage, fd00::6"], "fd00::6"),
        (&["garbage"], "127.0.0.1"),
    ] {
        assert_eq!(seen(&node, header).await, client, "{header:?}");
    }
    node.remove().await;
}

/// At a clock that stands still, so that nothing is over meanwhile.
async fn what_fails_at_one_node_counts_at_the_other(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let start = async || {
        let node = TestNode::on(Arc::clone(&database)).clock(Arc::clone(&clock) as _).set(BEHIND_PROXY);
        node.set("throttle.address_failures=20").start().await
    };
    let (a, b) = (start().await, start().await);
    let root = administrator(&a).await;
    let (account, secret) = create(&a, &root, &[]).await;
    // All tests share this Redis, with one master key: an address of this test's own.
    let host = database.texts("SELECT CAST(incarnation AS TEXT) FROM feed_head").await.swap_remove(0);
    let from = format!("2001:db8:{}:{}::1", &host[..4], &host[4..8]);
    for number in 0..20 {
        assert_eq!(a.guess_client(&nobody(number), &from).await, Guess::Wrong);
    }
    assert!(matches!(a.guess_client(&nobody(20), &from).await, Guess::Wait(_)));
    // The other node hears of it when it counts something itself.
    assert_eq!(b.guess_client(&nobody(30), &from).await, Guess::Wrong);
    // What succeeds counts nothing, so that the wait comes from the other node alone.
    let refuses = async || match b.ask_as_client(&account.client_id, &secret, &from).await {
        Ok(_) => false,
        Err(refused) => matches!(guess_of(&refused), Guess::Wait(_)),
    };
    until("the other node refuses too", refuses).await;
    a.stop().await;
    b.remove().await;
}
