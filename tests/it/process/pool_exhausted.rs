//! Every connection taken (SECURITY fault 6): the next call is told so soon, and what needs none of them goes on.

use std::time::Duration;

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use vouchsafe::pb::v1::Consistency;

use super::{
    client::{Client, assert_outage},
    harness::{Place, until},
    web::get,
};
use crate::support::Backend;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_connection_are_refused_and_the_rest_goes_on() {
    let place = Place::new(Backend::Postgres).await;
    let place = place.set("database.max_connections", "2").set("database.acquire_timeout", "1s");
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.join("ada@example.com").await;
    let left = client.login("ada@example.com").await.unwrap();
    client.logout(&left.refresh_token).await.unwrap();

    for _ in 0..2 {
        let pool = place.database.postgres_pool().unwrap();
        let mut lock = pool.begin().await.unwrap();
        // What a node does at its start reads users, and waits for nobody who locks their rows.
        sqlx::raw_sql("SELECT id FROM users FOR UPDATE").execute(&mut *lock).await.unwrap();
        let stuck: Vec<_> = (0..2)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.login("ada@example.com").await })
            })
            .collect();
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND application_name = 'vouchsafe' AND wait_event_type = 'Lock' \
                       AND query LIKE '%FROM users%FOR UPDATE%'";
        until("both wait", async || (place.database.integer(waiting).await == 2).then_some(())).await;

        // At once, since those who have the connections do not wait for the lock for ever.
        let (login, refresh, register) = tokio::join!(
            client.login("ada@example.com"),
            client.refresh(&tokens.refresh_token),
            client.register("grace@example.com")
        );
        assert_outage(&login.unwrap_err());
        assert_outage(&refresh.unwrap_err());
        assert_outage(&register.unwrap_err());
        client.claims(&tokens.access_token).await;
        client.inactive(&left.access_token).await;
        // Revocations of other nodes are read over a connection that no call can take.
        assert!(client.check(&tokens.access_token, Consistency::Strong).await.unwrap().active);
        let mut health = HealthClient::new(client.channel.clone());
        let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
        assert_eq!(get(&server, "/livez").await.status, 200);
        assert!(stuck.iter().all(|call| !call.is_finished()), "they were refused for another reason");

        lock.rollback().await.unwrap();
        for call in stuck {
            call.await.unwrap().unwrap();
        }
    }
    // The pool is whole: two calls at once, and one after the other.
    tokio::time::timeout(Duration::from_mins(1), async {
        let (one, two) = tokio::join!(client.login("ada@example.com"), client.login("ada@example.com"));
        let _ = (one.unwrap(), two.unwrap());
        client.refresh(&tokens.refresh_token).await.unwrap();
    })
    .await
    .unwrap();
    server.stop().await;
    place.remove().await;
}
