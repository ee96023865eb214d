//! Keys change under way, and nobody notices. SECURITY fault 15.
//!
//! The clock is the test's. A second opener of the same database, as the command line is one, keeps the schedule; the node
//! hears of it through the feed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tempfile::TempDir;
use vouchsafe::{
    crypto::SystemEntropy,
    domain::{
        refresh::CLOCK_SKEW,
        time::{Clock as _, Timestamp},
        warrant::Authority,
    },
    jose::{KeySet, jws::Unverified},
    pb::v1::{self, InactiveReason, VerificationKeyState},
    server::{Ambient, Backstage},
    verifier::{AudiencePolicy, RevocationSet, TokenVerifier},
};

use super::on_both_databases;
use crate::support::{Backend, ManualClock, TestNode, reason, until, wire};

on_both_databases!(no_valid_token_is_refused_while_keys_change, refresh_tokens_outlive_the_key_that_made_them,);

const STEP: Duration = Duration::from_secs(10);
const LEAD: Duration = Duration::from_mins(2);

struct World {
    node: TestNode,
    clock: Arc<ManualClock>,
    scheduler: Backstage,
    _data_dir: TempDir,
}

impl World {
    async fn new(backend: Backend) -> Self {
        let clock = Arc::new(ManualClock::new());
        let builder = TestNode::builder(backend)
            .await
            .clock(clock.clone())
            .set("keys.rotation_period=10m")
            .set("keys.publish_lead=2m")
            .set("tokens.access_ttl=60s")
            .set("tokens.max_staleness=1h");
        let data_dir = tempfile::tempdir().unwrap();
        let settings = builder.settings(&data_dir);
        let node = builder.start().await;
        let ambient = Ambient { clock: clock.clone(), entropy: Arc::new(SystemEntropy) };
        let scheduler = Backstage::open(&settings, &ambient).await.unwrap();
        node.register("ada@example.com").await;
        Self { node, clock, scheduler, _data_dir: data_dir }
    }

    async fn published(&self) -> Vec<v1::VerificationKey> {
        let request = v1::GetVerificationKeysRequest {};
        self.node.verifier().await.get_verification_keys(request).await.unwrap().into_inner().keys
    }

    /// Waits until the node publishes what the database says.
    async fn settle(&self) {
        let now = self.clock.now().as_micros();
        let sql = format!("SELECT kid FROM signing_keys WHERE remove_time IS NULL OR remove_time > {now}");
        let known: BTreeSet<_> = self.node.database.texts(&sql).await.into_iter().collect();
        until("the node has heard of the new key", async || {
            self.node.catch_up().await;
            self.published().await.into_iter().map(|k| k.key_id).collect::<BTreeSet<_>>() == known
        })
        .await;
    }

    async fn remove(self) {
        self.scheduler.store.close().await;
        self.node.remove().await;
    }
}

async fn fetch(node: &TestNode) -> KeySet {
    KeySet::from_jwks(&wire::get(node.http, "/.well-known/jwks.json").await.1).unwrap()
}

async fn no_valid_token_is_refused_while_keys_change(backend: Backend) {
    let world = World::new(backend).await;
    let (node, clock) = (&world.node, &world.clock);
    let verifier = TokenVerifier::new("https://issuer.test".into(), AudiencePolicy::NotChecked).unwrap();
    let mut newest = node.login("ada@example.com").await;
    let mut issued: Vec<v1::TokenPair> = Vec::new();
    let mut first_seen: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut signed_with: BTreeSet<String> = BTreeSet::new();
    // A verifier elsewhere, which keeps the keys for as long as the server allows: half the lead.
    let mut cached = fetch(node).await;
    for step in 0..160 {
        clock.advance(STEP);
        node.catch_up().await;
        world
            .scheduler
            .keys
            .rotate_if_due(&*world.scheduler.store, &world.scheduler.policy, Authority::system())
            .await
            .unwrap();
        world.settle().await;
        world.scheduler.keys.reload(&*world.scheduler.store).await.unwrap();
        if step % 6 == 0 {
            cached = fetch(node).await;
        }
        let now = clock.now();
        newest = node.refresh(&newest.refresh_token).await.unwrap();
        issued.push(newest.clone());

        let keys = world.published().await;
        let states: BTreeMap<_, _> = keys.iter().map(|key| (key.key_id.as_str(), key.state())).collect();
        let active = states.values().filter(|state| **state == VerificationKeyState::Active).count();
        assert_eq!(active, 1, "step {step}: one key signs at a time");
        for kid in states.keys() {
            first_seen.entry((*kid).to_owned()).or_insert(now);
        }
        let kid = Unverified::parse(&newest.access_token).unwrap().kid().to_owned();
        assert_eq!(states[kid.as_str()], VerificationKeyState::Active, "step {step}");
        if signed_with.insert(kid.clone()) && signed_with.len() > 1 {
            let lead = now.since(first_seen[&kid]);
            assert!(lead >= LEAD, "step {step}: known for only {lead:?} before it signed");
        }
        for (age, tokens) in issued.iter().rev().enumerate() {
            let said = node.verify(&tokens.access_token).await.inactive_reason();
            let there = verifier.verify(&tokens.access_token, &cached, &RevocationSet::new(), now);
            let fresh = world.scheduler.keys.verification_keys();
            let anew = verifier.verify(&tokens.access_token, &fresh, &RevocationSet::new(), now);
            // A minute is six steps.
            if age == 6 {
                assert_eq!(said, InactiveReason::Expired, "step {step}");
                break;
            }
            assert_eq!(said, InactiveReason::Unspecified, "step {step}: a token of {age} steps ago");
            assert!(there.is_ok(), "step {step}: a token of {age} steps ago, elsewhere: {there:?}");
            assert!(anew.is_ok(), "step {step}: a token of {age} steps ago, by whoever reads the keys now: {anew:?}");
        }
    }
    assert!(signed_with.len() >= 3, "{} keys signed: nothing was tested", signed_with.len());
    assert!(first_seen.len() > world.published().await.len(), "old keys go");
    world.remove().await;
}

/// The number of the key in a refresh token.
fn key_of(token: &str) -> u32 {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix("vrt_").unwrap()).unwrap();
    u32::from_be_bytes(bytes[1..5].try_into().unwrap())
}

async fn refresh_tokens_outlive_the_key_that_made_them(backend: Backend) {
    let world = World::new(backend).await;
    let (node, clock) = (&world.node, &world.clock);
    let first = node.login("ada@example.com").await;
    let forgotten = node.login("ada@example.com").await;
    let mut newest = first.clone();
    assert_eq!(key_of(&newest.refresh_token), 1);
    for key in 2..5 {
        world
            .scheduler
            .keys
            .rotate_now(&*world.scheduler.store, &world.scheduler.policy, Authority::operator())
            .await
            .unwrap();
        world.settle().await;
        newest = node.refresh(&newest.refresh_token).await.unwrap();
        assert_eq!(key_of(&newest.refresh_token), key - 1, "published, not active yet");
        clock.advance(LEAD);
        node.catch_up().await;
        // The other families' keys are read with the signing keys: once those are there, so are these.
        let before = newest;
        newest = node.refresh(&before.refresh_token).await.unwrap();
        assert_eq!(key_of(&newest.refresh_token), key);
        let again = node.refresh(&before.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, newest.refresh_token, "a lost answer is given again by the key that made it");
    }
    let renewed = node.refresh(&forgotten.refresh_token).await.unwrap();
    assert_eq!((key_of(&forgotten.refresh_token), key_of(&renewed.refresh_token)), (1, 4));
    clock.advance(CLOCK_SKEW);
    assert_eq!(reason(&node.refresh(&first.refresh_token).await.unwrap_err()), "REFRESH_TOKEN_REUSED");
    world.remove().await;
}
