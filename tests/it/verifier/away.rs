//! The issuer is away: at the start, for a while, or killed.

use std::{sync::Arc, time::Duration};

use vouchsafe::verifier::{Denied, Rule, Verifier};

use super::{REVOKED, builder, check, until};
use crate::{
    process::{
        client::Client,
        harness::Place,
        proxy::{Link, Proxy},
    },
    rpc::on_both_databases,
    support::{Backend, ManualClock, TestNode},
};

on_both_databases!(
    a_killed_service_is_missed_after_max_staleness_and_found_again,
    a_start_without_the_service_goes_on_with_what_was_saved,
    what_was_saved_too_long_ago_or_in_the_future_is_stale,
);

const LONG: Duration = Duration::from_hours(1);

async fn lenient(verifier: &Verifier, token: &str) -> Result<(), Denied> {
    verifier.verify(token, &Rule::required().allow_stale()).await.map(|_| ())
}

async fn a_killed_service_is_missed_after_max_staleness_and_found_again(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let proxy = Proxy::to(server.grpc.to_string()).await;
    let tokens = Client::of(&server).await.join("ada@example.com").await;
    let token = tokens.access_token.as_str();
    let most = Duration::from_secs(3);
    let verifier = builder(proxy.address).max_staleness(most).start().await.unwrap();
    let principal = verifier.verify(token, &Rule::required()).await.unwrap();
    let waiting = |rule: Rule| {
        let (verifier, principal) = (verifier.clone(), principal.clone());
        tokio::spawn(async move { verifier.ended(&principal, &rule).await })
    };
    let (strict, goes_on) = (waiting(Rule::required()), waiting(Rule::required().allow_stale()));
    server.kill().await;
    until("the list is too old", async || {
        let before = verifier.staleness();
        let checked = check(&verifier, token).await;
        let after = verifier.staleness();
        // Not a moment earlier, nor later.
        assert!(after > most || checked == Ok(()), "{after:?}: {checked:?}");
        assert!(before <= most || checked == Err(Denied::Unavailable), "{before:?}: {checked:?}");
        assert_eq!(lenient(&verifier, token).await, Ok(()));
        before > most
    })
    .await;
    assert!(!verifier.is_ready() && verifier.metrics().stale);
    assert_eq!(strict.await.unwrap(), Denied::Unavailable, "a stream that must not go on is told");
    assert!(!goes_on.is_finished());
    let server = place.serve().await;
    proxy.lead_to(server.grpc.to_string());
    verifier.ready().await;
    until("it is found again", async || check(&verifier, token).await == Ok(())).await;
    Client::of(&server).await.logout(&tokens.refresh_token).await.unwrap();
    assert_eq!(goes_on.await.unwrap(), REVOKED);
    assert_eq!(check(&verifier, token).await, Err(REVOKED));
    drop(verifier);
    server.stop().await;
    place.remove().await;
}

/// A node, a network before it, and a place for what is to be saved.
struct World {
    node: TestNode,
    proxy: Proxy,
    state: tempfile::TempDir,
}

impl World {
    async fn new(backend: Backend) -> Self {
        let node = TestNode::start(backend).await;
        node.register("ada@example.com").await;
        let proxy = Proxy::to(node.grpc.to_string()).await;
        Self { node, proxy, state: tempfile::tempdir().unwrap() }
    }

    fn builder(&self) -> vouchsafe::verifier::Builder {
        builder(self.proxy.address).persist_in(self.state.path())
    }

    /// One that starts while the service is away, without waiting for it.
    async fn alone(&self, max_staleness: Duration) -> Verifier {
        self.builder().max_staleness(max_staleness).start_timeout(Duration::ZERO).start().await.unwrap()
    }

    /// What a verifier knows, saved after this moment.
    async fn save(&self, verifier: Verifier) {
        let saves = verifier.metrics().saves;
        // The one that goes on now may have begun before.
        until("it is saved", async || verifier.metrics().saves > saves + 1).await;
        assert_eq!(verifier.metrics().saves_failed, 0);
    }
}

async fn a_start_without_the_service_goes_on_with_what_was_saved(backend: Backend) {
    let world = World::new(backend).await;
    let World { node, proxy, .. } = &world;
    let login = async || node.login("ada@example.com").await;
    let (kept, ended, ended_meanwhile) = (login().await, login().await, login().await);
    let verifier = world.builder().start().await.unwrap();
    node.logout(&ended.refresh_token).await.unwrap();
    until("it is revoked", async || check(&verifier, &ended.access_token).await == Err(REVOKED)).await;
    world.save(verifier).await;

    proxy.set(Link::Cut);
    let without = builder(proxy.address).start_timeout(Duration::ZERO).start().await.unwrap();
    assert_eq!(check(&without, &kept.access_token).await, Err(Denied::Unavailable));
    assert_eq!(lenient(&without, &kept.access_token).await, Err(Denied::Unavailable));
    let verifier = world.alone(LONG).await;
    assert!(verifier.is_ready() && verifier.staleness() < LONG, "{:?}", verifier.staleness());
    assert_eq!(check(&verifier, &kept.access_token).await, Ok(()));
    assert_eq!(check(&verifier, &ended.access_token).await, Err(REVOKED));
    assert_eq!(check(&verifier, &ended_meanwhile.access_token).await, Ok(()), "nobody here can know");

    node.logout(&ended_meanwhile.refresh_token).await.unwrap();
    proxy.set(Link::Up);
    until("it has caught up", async || check(&verifier, &ended_meanwhile.access_token).await == Err(REVOKED)).await;
    until("the other one too", async || check(&without, &ended_meanwhile.access_token).await == Err(REVOKED)).await;
    for verifier in [&verifier, &without] {
        assert_eq!(check(verifier, &kept.access_token).await, Ok(()));
        assert_eq!(check(verifier, &ended.access_token).await, Err(REVOKED));
    }
    // What was saved was gone on from, and not begun again.
    assert_eq!(verifier.metrics().revocations_received, 1);
    drop((verifier, without));
    world.node.remove().await;
}

async fn what_was_saved_too_long_ago_or_in_the_future_is_stale(backend: Backend) {
    let world = World::new(backend).await;
    let token = world.node.login("ada@example.com").await.access_token;
    let file = world.state.path().join("vouchsafe-verifier.state");
    world.save(world.builder().start().await.unwrap()).await;
    let saved = std::fs::read(&file).unwrap();
    world.proxy.set(Link::Cut);
    let verifier = world.alone(Duration::from_secs(3)).await;
    until("it is too old", async || check(&verifier, &token).await == Err(Denied::Unavailable)).await;
    assert_eq!(lenient(&verifier, &token).await, Ok(()), "by choice, the keys are still there");
    drop(verifier);

    // Damaged: nothing of it is used.
    std::fs::write(&file, &saved[..saved.len() / 2]).unwrap();
    let verifier = world.alone(LONG).await;
    assert_eq!(lenient(&verifier, &token).await, Err(Denied::Unavailable));
    drop(verifier);

    // By a machine whose date was in 2027.
    world.proxy.set(Link::Up);
    let clock = Arc::new(ManualClock::new());
    world.save(world.builder().clock(clock).start().await.unwrap()).await;
    world.proxy.set(Link::Cut);
    let verifier = world.alone(LONG).await;
    assert_eq!(verifier.staleness(), Duration::MAX);
    assert_eq!(check(&verifier, &token).await, Err(Denied::Unavailable));
    assert_eq!(lenient(&verifier, &token).await, Ok(()));
    drop(verifier);
    world.node.remove().await;
}
