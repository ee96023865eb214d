//! Postgres gone and come back under a running server (FAULTS 5, R5): outages are said to be outages, no token is burnt, and
//! nobody has to restart anything.

use tonic::Code;
use vouchsafe::pb::v1::Consistency;

use super::{
    client::{Client, assert_outage},
    harness::{Place, Server, until},
    proxy::{Link, Proxy},
    web::{get, published_kids},
};
use crate::support::{Backend, MASTER_KEY};

/// A server whose way to its database can be cut.
async fn behind_a_proxy() -> (Place, Proxy) {
    let place = Place::new(Backend::Postgres).await;
    let (proxy, url) = Proxy::before(&place.database).await;
    (place.set("database.url", &url).set("database.acquire_timeout", "2s"), proxy)
}

async fn until_ready(server: &Server) {
    until("ready again", async || (get(server, "/readyz").await.status == 200).then_some(())).await;
}

/// The node says so once it has not heard from the database for a few seconds.
async fn until_unready(server: &Server) {
    let answer =
        until("not ready", async || Some(get(server, "/readyz").await).filter(|ready| ready.status != 200)).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (503, "database unavailable\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_database_burns_no_token() {
    let (place, proxy) = behind_a_proxy().await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let mut tokens = client.join("ada@example.com").await;
    let left = client.login("ada@example.com").await.unwrap();
    client.logout(&left.refresh_token).await.unwrap();
    let kids = published_kids(&server).await;

    // Twice, since the second outage meets a server that has recovered from one.
    for round in 0..2 {
        proxy.set(Link::Cut);
        assert_outage(&client.refresh(&tokens.refresh_token).await.unwrap_err());
        assert_outage(&client.login("ada@example.com").await.unwrap_err());
        assert_outage(&client.register(&format!("new{round}@example.com")).await.unwrap_err());
        assert_outage(&client.logout(&tokens.refresh_token).await.unwrap_err());
        assert_outage(&client.check(&tokens.access_token, Consistency::Strong).await.unwrap_err());
        client.claims(&tokens.access_token).await;
        client.inactive(&left.access_token).await;
        until_unready(&server).await;
        assert_eq!(get(&server, "/livez").await.status, 200);
        assert_eq!(published_kids(&server).await, kids);

        proxy.set(Link::Up);
        until_ready(&server).await;
        let renewed = client.refresh(&tokens.refresh_token).await.unwrap();
        client.claims(&tokens.access_token).await;
        client.inactive(&left.access_token).await;
        client.join(&format!("new{round}@example.com")).await;
        tokens = renewed;
    }
    server.stop().await;
    place.remove().await;
}

/// Without the list of revocations `Verify` says that it cannot tell, rather than what was true a while ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_does_not_trust_an_old_revocation_list() {
    let (place, proxy) = behind_a_proxy().await;
    let place = place.set("tokens.max_staleness", "2s");
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.join("ada@example.com").await;
    proxy.set(Link::Cut);
    let refused =
        until("the list is too old", async || client.check(&tokens.access_token, Consistency::Local).await.err());
    assert_outage(&refused.await);
    proxy.set(Link::Up);
    let verified =
        until("the list is read again", async || client.check(&tokens.access_token, Consistency::Local).await.ok());
    assert!(verified.await.active);
    server.stop().await;
    place.remove().await;
}

/// A network that swallows everything is worse than one that refuses: every call still ends, by its deadline at the latest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_when_the_database_says_nothing() {
    let (place, proxy) = behind_a_proxy().await;
    let place = place.set("grpc.max_deadline", "2s");
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let tokens = client.join("ada@example.com").await;
    proxy.set(Link::Frozen);
    for refused in
        [client.refresh(&tokens.refresh_token).await.unwrap_err(), client.login("ada@example.com").await.unwrap_err()]
    {
        // From the server, with a reason: not the end of this client's own patience.
        assert!(matches!(refused.code(), Code::Unavailable | Code::DeadlineExceeded), "{refused:?}");
        assert_ne!(crate::support::reason(&refused), "", "{refused:?}");
    }
    client.claims(&tokens.access_token).await;
    assert_eq!(get(&server, "/livez").await.status, 200);
    until_unready(&server).await;
    proxy.set(Link::Up);
    until_ready(&server).await;
    client.refresh(&tokens.refresh_token).await.unwrap();
    server.stop().await;
    place.remove().await;
}

/// Whoever starts before the database does is told which setting names it, and not its password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_at_the_start_is_named() {
    let place = Place::new(Backend::Postgres).await;
    let url = "postgres://vouchsafe:hunter2@127.0.0.1:1/vouchsafe";
    let place = place.set("database.url", url).set("database.acquire_timeout", "500ms");
    for command in [&["serve"][..], &["migrate"], &["keys", "list"]] {
        let refused = place.run(command).await.refused();
        assert!(refused.contains("database.url") && refused.contains("unavailable"), "{refused}");
        for secret in ["hunter2", MASTER_KEY] {
            assert!(!refused.contains(secret), "{refused}");
        }
    }
    place.remove().await;
}
