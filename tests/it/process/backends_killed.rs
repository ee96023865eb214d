//! Postgres ends connections at random under load (FAULTS 5): a call succeeds or says that the database was away, and what
//! was acknowledged is there, once.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use sqlx::PgPool;
use tokio::sync::watch;
use tonic::Status;

use super::{
    client::{Client, assert_outage},
    harness::Place,
};
use crate::support::{Backend, reason};

/// How many connections are ended.
const KILLS: u32 = 60;
const WORKERS: usize = 4;

/// What the workers share.
struct Load {
    over: AtomicBool,
    successes: watch::Sender<u64>,
    outages: watch::Sender<u64>,
}

impl Load {
    /// Tries a call until it is answered; what else a retry may hear is for the caller to judge.
    async fn insist<T>(&self, mut call: impl AsyncFnMut() -> Result<T, Status>) -> (Result<T, Status>, bool) {
        let mut cut = false;
        loop {
            match call().await {
                Err(status) if reason(&status) == "STORE_UNAVAILABLE" => {
                    assert_outage(&status);
                    self.outages.send_modify(|count| *count += 1);
                    cut = true;
                }
                other => {
                    self.successes.send_modify(|count| *count += 1);
                    return (other, cut);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_survive_the_end_of_their_connections() {
    let place = Place::new(Backend::Postgres).await;
    let server = place.serve().await;
    let load = Load { over: AtomicBool::new(false), successes: watch::Sender::new(0), outages: watch::Sender::new(0) };
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(work(number, Client::of(&server).await, &load));
    }
    let kills = kill_amid(place.database.postgres_pool().unwrap(), &load);
    let (made, ()) = tokio::join!(join_all(workers), kills);
    let registered: i64 = made.into_iter().sum();
    println!("{} calls met one of {KILLS} kills", *load.outages.borrow());

    let count = async |sql: &str| place.database.integer(sql).await;
    assert_eq!(count("SELECT count(*) FROM users").await, registered);
    let events = "SELECT count(*) FROM audit_events WHERE act =";
    let by_user = "SELECT count(DISTINCT subject_id) FROM audit_events WHERE act = 'user.registered'";
    for sql in [format!("{events} 'user.registered'"), by_user.to_owned()] {
        assert_eq!(count(&sql).await, registered, "each registration has its event, once");
    }
    let ended = count("SELECT count(*) FROM sessions WHERE end_reason = 'logout'").await;
    assert_eq!((ended, count(&format!("{events} 'session.ended'")).await), (registered, registered));
    let sessions = count("SELECT count(*) FROM sessions").await;
    assert_eq!(count(&format!("{events} 'login.succeeded'")).await, sessions, "each sign-in has its event, once");
    for never in ["refresh.state_lost", "refresh.late_redelivery", "login.failed"] {
        assert_eq!(count(&format!("{events} '{never}'")).await, 0, "{never}");
    }
    let client = Client::of(&server).await;
    let tokens = client.join("afterwards@example.com").await;
    client.refresh(&tokens.refresh_token).await.unwrap();
    server.stop().await;
    place.remove().await;
}

async fn kill_amid(pool: &PgPool, load: &Load) {
    let mut kills = 0;
    while kills < KILLS {
        kills += kill_one(pool).await;
        // Not faster than the load gets anything done.
        let seen = *load.successes.borrow();
        load.successes.subscribe().wait_for(|now| *now >= seen + 2).await.unwrap();
    }
    load.over.store(true, Ordering::SeqCst);
}

/// Ends one connection of the server, any. How many that was.
async fn kill_one(pool: &PgPool) -> u32 {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'vouchsafe' \
               ORDER BY (state = 'active') DESC, random() LIMIT 1";
    let killed: Option<(bool,)> = sqlx::query_as(sql).fetch_optional(pool).await.unwrap();
    u32::from(killed.is_some_and(|(killed,)| killed))
}

/// Registers, signs in, refreshes and signs out, over and over. How many accounts it made.
async fn work(number: usize, client: Client, load: &Load) -> i64 {
    let mut made = 0;
    while !load.over.load(Ordering::SeqCst) {
        let email = format!("user{number}.{made}@example.com");
        let (registered, cut) = load.insist(async || client.register(&email).await).await;
        match registered {
            Ok(_) => {}
            // The connection ended between the commit and its acknowledgement.
            Err(status) if cut => assert_eq!(reason(&status), "EMAIL_TAKEN"),
            Err(status) => panic!("{status:?}"),
        }
        made += 1;
        let mut tokens = load.insist(async || client.login(&email).await).await.0.unwrap();
        for _ in 0..5 {
            let held = tokens.refresh_token.clone();
            tokens = load.insist(async || client.refresh(&held).await).await.0.unwrap();
            client.claims(&tokens.access_token).await;
        }
        load.insist(async || client.logout(&tokens.refresh_token).await).await.0.unwrap();
        client.inactive(&tokens.access_token).await;
        let refused = load.insist(async || client.refresh(&tokens.refresh_token).await).await.0.unwrap_err();
        assert_eq!(reason(&refused), "SESSION_REVOKED");
    }
    made
}
