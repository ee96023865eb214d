//! Postgres ends connections at random, or is itself ended, under load (FAULTS 5): a call succeeds or says that the database
//! was away; what was acknowledged is there, once, and what was not is not there.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use sqlx::PgPool;
use tokio::sync::watch;
use tonic::Status;

use super::{
    client::{Client, assert_outage},
    harness::{Place, Server},
    own_postgres::OwnPostgres,
};
use crate::support::{Backend, PASSWORD, TestDatabase, reason};

/// How many connections are ended.
const KILLS: u32 = 60;
/// How often the server is ended.
const CRASHES: u32 = 6;
const WORKERS: usize = 4;
const NEW: &str = "another correct horse battery";

/// What the workers share.
struct Load {
    over: AtomicBool,
    successes: watch::Sender<u64>,
    outages: watch::Sender<u64>,
}

impl Load {
    fn new() -> Self {
        Self { over: AtomicBool::new(false), successes: watch::Sender::new(0), outages: watch::Sender::new(0) }
    }

    /// Tries a call until it is answered. What was not acknowledged was not done, so that a retry is like the first try.
    async fn insist<T>(&self, mut call: impl AsyncFnMut() -> Result<T, Status>) -> Result<T, Status> {
        loop {
            match call().await {
                Err(status) if reason(&status) == "STORE_UNAVAILABLE" => {
                    assert_outage(&status);
                    self.outages.send_modify(|count| *count += 1);
                }
                other => {
                    self.successes.send_modify(|count| *count += 1);
                    return other;
                }
            }
        }
    }

    /// Waits until so many more calls have succeeded.
    async fn progress(&self, calls: u64) {
        let seen = *self.successes.borrow();
        self.successes.subscribe().wait_for(|now| *now >= seen + calls).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_survive_the_end_of_their_connections() {
    let place = Place::new(Backend::Postgres).await;
    let server = place.serve().await;
    let load = Load::new();
    let kills = kill_amid(place.database.postgres_pool().unwrap(), &load);
    let (registered, ()) = tokio::join!(work_all(&server, &load), kills);
    println!("{} calls met one of {KILLS} kills", *load.outages.borrow());
    assert_everything_once(&place, registered).await;
    let client = Client::of(&server).await;
    let tokens = client.join("afterwards@example.com").await;
    client.refresh(&tokens.refresh_token).await.unwrap();
    server.stop().await;
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_survive_the_crash_of_the_server() {
    let postgres = tokio::task::spawn_blocking(OwnPostgres::start_new).await.unwrap();
    let database = TestDatabase::at(&postgres.url_of("postgres"));
    let place = Place::on(database).set("database.acquire_timeout", "1s");
    place.run(&["migrate"]).await.ok();
    let server = place.serve().await;
    let load = Load::new();
    let crashes = async {
        for _ in 0..CRASHES {
            load.progress(60).await;
            tokio::task::block_in_place(|| postgres.crash());
            tokio::task::block_in_place(|| postgres.start());
        }
        load.progress(60).await;
        load.over.store(true, Ordering::SeqCst);
    };
    let (registered, ()) = tokio::join!(work_all(&server, &load), crashes);
    println!("{} calls met one of {CRASHES} crashes", *load.outages.borrow());
    assert_everything_once(&place, registered).await;
    server.stop().await;
    place.remove().await;
}

async fn work_all(server: &Server, load: &Load) -> i64 {
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(work(number, Client::of(server).await, load));
    }
    join_all(workers).await.into_iter().sum()
}

async fn assert_everything_once(place: &Place, registered: i64) {
    let count = async |sql: &str| place.database.integer(sql).await;
    assert_eq!(count("SELECT count(*) FROM users").await, registered);
    let events = "SELECT count(*) FROM audit_events WHERE act =";
    let by_user = "SELECT count(DISTINCT subject_id) FROM audit_events WHERE act = 'user.registered'";
    for sql in [format!("{events} 'user.registered'"), format!("{events} 'password.changed'"), by_user.to_owned()] {
        assert_eq!(
            count(&sql).await,
            registered,
            "each registration and each change of a password has its event, once"
        );
    }
    let ended = count("SELECT count(*) FROM sessions WHERE end_reason = 'logout'").await;
    assert_eq!((ended, count(&format!("{events} 'session.ended'")).await), (registered, registered));
    let sessions = count("SELECT count(*) FROM sessions").await;
    assert_eq!(sessions, registered * 2, "each sign-in was done once");
    assert_eq!(count(&format!("{events} 'login.succeeded'")).await, sessions, "each sign-in has its event, once");
    for never in ["refresh.state_lost", "refresh.late_redelivery", "login.failed"] {
        assert_eq!(count(&format!("{events} '{never}'")).await, 0, "{never}");
    }
    assert_eq!(count("SELECT number - (SELECT count(*) FROM feed) FROM feed_head").await, 0, "no gap in the feed");
}

async fn kill_amid(pool: &PgPool, load: &Load) {
    let mut kills = 0;
    while kills < KILLS {
        kills += kill_one(pool).await;
        // Not faster than the load gets anything done.
        load.progress(2).await;
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

/// Registers, signs in, refreshes, changes the password and signs out, over and over. How many accounts it made.
async fn work(number: usize, client: Client, load: &Load) -> i64 {
    let mut made = 0;
    while !load.over.load(Ordering::SeqCst) {
        let email = format!("user{number}.{made}@example.com");
        load.insist(async || client.register(&email).await).await.unwrap();
        made += 1;
        let other = load.insist(async || client.login(&email).await).await.unwrap();
        let mut tokens = load.insist(async || client.login(&email).await).await.unwrap();
        for _ in 0..5 {
            let held = tokens.refresh_token.clone();
            tokens = load.insist(async || client.refresh(&held).await).await.unwrap();
            client.claims(&tokens.access_token).await;
        }
        load.insist(async || client.change_password(&tokens.access_token, PASSWORD, NEW).await).await.unwrap();
        client.inactive(&other.access_token).await;
        load.insist(async || client.logout(&tokens.refresh_token).await).await.unwrap();
        client.inactive(&tokens.access_token).await;
        let refused = load.insist(async || client.refresh(&tokens.refresh_token).await).await.unwrap_err();
        assert_eq!(reason(&refused), "SESSION_REVOKED");
    }
    made
}
