//! The program behind PgBouncer in transaction mode.

use futures_util::future::join_all;

use super::{
    client::Client,
    harness::{Place, until},
};
use crate::support::{Backend, PASSWORD};

const NEW: &str = "another correct horse battery";
const CALLERS: usize = 12;

/// More callers than PgBouncer has sessions, so that they take turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_a_few_sessions() {
    let place = Place::new(Backend::PgBouncer).await;
    let servers = [place.serve().await, place.serve().await];
    let callers = (0..CALLERS).map(async |number| {
        let (here, there) = (&servers[number % 2], &servers[(number + 1) % 2]);
        let (here, there) = (Client::of(here).await, Client::of(there).await);
        let email = format!("user{number}@example.com");
        let mut tokens = here.join(&email).await;
        let other = there.login(&email).await.unwrap();
        for _ in 0..5 {
            tokens = there.refresh(&tokens.refresh_token).await.unwrap();
            tokens = here.refresh(&tokens.refresh_token).await.unwrap();
        }
        here.change_password(&tokens.access_token, PASSWORD, NEW).await.unwrap();
        here.inactive(&other.access_token).await;
        here.logout(&tokens.refresh_token).await.unwrap();
        until("the other node hears of it", async || {
            let answer = there.check(&tokens.access_token, vouchsafe::pb::v1::Consistency::Local).await.unwrap();
            (!answer.active).then_some(())
        })
        .await;
    });
    join_all(callers).await;
    let events = "SELECT count(*) FROM audit_events WHERE act IN ('password.changed', 'session.ended')";
    assert_eq!(place.database.integer(events).await, 2 * i64::try_from(CALLERS).unwrap());
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    until("no transaction is open", async || (place.database.integer(open).await == 0).then_some(())).await;
    for server in servers {
        server.stop().await;
    }
    place.remove().await;
}

/// What a limit of the session would do elsewhere, each transaction does for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_has_its_limits() {
    let place = Place::new(Backend::PgBouncer).await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.register("ada@example.com").await.unwrap();
    let pool = place.database.postgres_pool().unwrap();
    let mut lock = pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    // Given up by the database after `lock_timeout`, long before any patience of ours ends.
    let refused = client.register("grace@example.com").await.unwrap_err();
    super::client::assert_outage(&refused);
    lock.rollback().await.unwrap();
    client.register("grace@example.com").await.unwrap();
    server.log.wait(|line| line.contains("lock timeout")).await;
    server.stop().await;
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_is_sent_to_the_server_itself() {
    let place = Place::new(Backend::PgBouncer).await;
    let refused = place.run(&["migrate"]).await.refused();
    assert!(refused.contains("cannot go through PgBouncer") && refused.contains("database.pgbouncer"), "{refused}");
    place.remove().await;
}
