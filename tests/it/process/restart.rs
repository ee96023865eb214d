//! A restart loses nobody and revives nothing, however the process died (FAULTS 9).

use std::sync::Arc;

use tokio::sync::watch;
use vouchsafe::{domain::secret::Entropy as _, pb::v1};

use super::{
    client::Client,
    harness::{Place, Server, until},
    proxy::{Link, Proxy},
    web::get,
};
use crate::{
    rpc::on_every_form,
    support::{Backend, TestEntropy, reason},
};

on_every_form!(
    a_restart_loses_nobody,
    a_kill_loses_nobody,
    what_was_revoked_just_before_a_kill_stays_revoked,
    kills_amid_refreshes_log_nobody_out,
    an_answer_lost_in_a_kill_is_given_again,
);

async fn a_restart_loses_nobody(backend: Backend) {
    nobody_is_lost(backend, async |server: Server| server.stop().await).await;
}

async fn a_kill_loses_nobody(backend: Backend) {
    nobody_is_lost(backend, async |server: Server| server.kill().await).await;
}

async fn nobody_is_lost(backend: Backend, end: impl AsyncFn(Server)) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let first = client.join("ada@example.com").await;
    let second = client.refresh(&first.refresh_token).await.unwrap();
    let jwks = get(&server, "/.well-known/jwks.json").await.json();
    end(server).await;

    let server = place.serve().await;
    let client = Client::of(&server).await;
    assert_eq!(get(&server, "/.well-known/jwks.json").await.json(), jwks);
    for token in [&first.access_token, &second.access_token] {
        assert_eq!(client.claims(token).await.session_id, first.session_id);
    }
    let third = client.refresh(&second.refresh_token).await.unwrap();
    assert_eq!(third.session_id, first.session_id);
    client.claims(&third.access_token).await;
    client.login("ada@example.com").await.unwrap();
    server.stop().await;
    place.remove().await;
}

async fn what_was_revoked_just_before_a_kill_stays_revoked(backend: Backend) {
    let place = Place::new(backend).await;
    let mut server = place.serve().await;
    for round in 0..5 {
        let client = Client::of(&server).await;
        let email = format!("user{round}@example.com");
        let left = client.join(&email).await;
        let stays = client.login(&email).await.unwrap();
        client.logout(&left.refresh_token).await.unwrap();
        server.kill().await;

        server = place.serve().await;
        let client = Client::of(&server).await;
        assert_eq!(client.inactive(&left.access_token).await, v1::InactiveReason::Revoked);
        let refused = client.refresh(&left.refresh_token).await.unwrap_err();
        assert_eq!(reason(&refused), "SESSION_REVOKED");
        client.claims(&stays.access_token).await;
        client.refresh(&stays.refresh_token).await.unwrap();
    }
    server.stop().await;
    place.remove().await;
}

/// Clients that refresh without pause while the server is killed again and again. Each retries with the token it holds.
async fn kills_amid_refreshes_log_nobody_out(backend: Backend) {
    const CLIENTS: usize = 4;
    let rounds = if backend == Backend::Sqlite { 30 } else { 15 };
    let place = Place::new(backend).await.set("sessions.redelivery_window", "5m");
    let mut server = place.serve().await;
    let client = Client::of(&server).await;
    let mut held = Vec::new();
    for number in 0..CLIENTS {
        held.push(client.join(&format!("user{number}@example.com")).await);
    }
    let sessions: Vec<_> = held.iter().map(|tokens| tokens.session_id.clone()).collect();
    let entropy = TestEntropy::default();
    let mut lost = 0;
    for round in 0..rounds {
        let count = Arc::new(watch::Sender::new(0_u64));
        let mut clients = Vec::new();
        for tokens in held {
            let client = Client::of(&server).await;
            clients.push(tokio::spawn(refresh_until_cut(client, tokens, Arc::clone(&count))));
        }
        let enough = 1 + entropy.below(40);
        count.subscribe().wait_for(|done| *done >= enough).await.unwrap();
        // Not at the moment of an answer each time.
        let mut spin = [0; 1];
        entropy.fill(&mut spin);
        for _ in 0..spin[0] {
            tokio::task::yield_now().await;
        }
        server.kill().await;
        held = Vec::new();
        for client in clients {
            held.push(client.await.unwrap());
        }

        server = place.serve().await;
        let client = Client::of(&server).await;
        for tokens in &mut held {
            let generation = place.database.integer(&generation_of(&place, tokens)).await;
            *tokens = client.refresh(&tokens.refresh_token).await.unwrap_or_else(|e| panic!("round {round}: {e:?}"));
            // The answer to the last refresh before the kill was lost if this one did not move on.
            lost += u32::from(place.database.integer(&generation_of(&place, tokens)).await == generation);
            client.claims(&tokens.access_token).await;
        }
    }
    assert_eq!(held.iter().map(|tokens| tokens.session_id.clone()).collect::<Vec<_>>(), sessions);
    assert_eq!(place.database.integer("SELECT count(*) FROM sessions WHERE end_time IS NOT NULL").await, 0);
    println!("{lost} of {} answers were lost by the kill", rounds * CLIENTS);
    server.stop().await;
    place.remove().await;
}

/// Refreshes until the connection is cut; the tokens held then. The server never refuses.
async fn refresh_until_cut(client: Client, mut held: v1::TokenPair, count: Arc<watch::Sender<u64>>) -> v1::TokenPair {
    loop {
        match client.refresh(&held.refresh_token).await {
            Ok(next) => {
                held = next;
                count.send_modify(|done| *done += 1);
            }
            Err(status) => {
                assert_eq!(reason(&status), "", "{status:?}");
                return held;
            }
        }
    }
}

fn generation_of(place: &Place, tokens: &v1::TokenPair) -> String {
    let id = place.database.id(&tokens.session_id.parse().unwrap());
    format!("SELECT generation FROM sessions WHERE id = {id}")
}

/// The narrow moment that the test above meets now and then: committed, and killed before the answer went out.
async fn an_answer_lost_in_a_kill_is_given_again(backend: Backend) {
    let place = Place::new(backend).await.set("sessions.redelivery_window", "5m");
    let mut server = place.serve().await;
    let mut tokens = Client::of(&server).await.join("ada@example.com").await;
    for generation in 1..6 {
        let proxy = Proxy::to(server.grpc.to_string()).await;
        let client = Client::at(proxy.address).await.unwrap();
        client.claims(&tokens.access_token).await;
        proxy.set(Link::Deaf);
        let (asking, token) = (client.clone(), tokens.refresh_token.clone());
        let lost = tokio::spawn(async move { asking.refresh(&token).await });
        until("committed", async || {
            (place.database.integer(&generation_of(&place, &tokens)).await > generation * 2 - 2).then_some(())
        })
        .await;
        server.kill().await;
        proxy.set(Link::Cut);
        let status = lost.await.unwrap().unwrap_err();
        assert_eq!(reason(&status), "", "{status:?}");

        server = place.serve().await;
        let client = Client::of(&server).await;
        let again = client.refresh(&tokens.refresh_token).await.unwrap();
        let once_more = client.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, once_more.refresh_token);
        assert_eq!(place.database.integer(&generation_of(&place, &tokens)).await, generation * 2 - 1);
        tokens = client.refresh(&again.refresh_token).await.unwrap();
    }
    server.stop().await;
    place.remove().await;
}
