//! An issuer of one key and a clock that stands still, for the tests of what embeds the verifier.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tonic::transport::Endpoint;

use super::{Builder, Verifier};
use crate::{
    domain::{
        id::SessionId,
        revocation::{FeedEntry, Revocation},
        signing_key::Algorithm,
        time::{Clock, Timestamp},
    },
    jose::{KeySet, SigningKeyPair},
};

pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
pub(super) const SESSION: &str = "01a20076-bd5d-7314-8f70-000000000002";

/// Says what it was set to.
pub(super) struct StillClock(AtomicI64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// A verifier, and the issuer that it trusts.
pub(super) struct Surroundings {
    pub(super) verifier: Verifier,
    pair: SigningKeyPair,
    clock: Arc<StillClock>,
}

impl Surroundings {
    pub(super) async fn new() -> Self {
        Self::of(Builder::without_revocations).await
    }

    /// One that hears of revocations from whatever says them in a test: nobody listens where it asks.
    pub(super) async fn listening() -> Self {
        let nobody = Endpoint::from_static("http://127.0.0.1:1");
        Self::of(|builder| builder.service(nobody).start_timeout(Duration::ZERO)).await
    }

    async fn of(make: impl FnOnce(Builder) -> Builder) -> Self {
        let pair = SigningKeyPair::generate(Algorithm::Es256).unwrap();
        let keys = KeySet::from_keys(vec![pair.public_key().clone()]).unwrap();
        let clock = Arc::new(StillClock(AtomicI64::new(NOW.as_micros())));
        let builder = make(Verifier::builder("https://issuer.test", ["shop"]).keys(keys));
        let verifier = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>).start().await.unwrap();
        Self { verifier, pair, clock }
    }

    /// An access token for a minute.
    pub(super) fn token(&self, scope: &str, roles: &[&str]) -> String {
        let (id, now) = ("01a20076-bd5d-7314-8f70-000000000001", NOW.as_seconds());
        let claims = json!({
            "iss": "https://issuer.test", "sub": id, "aud": ["shop"], "exp": now + 60, "iat": now, "jti": id, "sid": SESSION,
            "client_id": "c", "roles": roles, "scope": scope, "auth_time": now, "amr": ["pwd"], "acr": "aal1", "epoch": 0,
        });
        self.pair.sign("at+jwt", &claims).unwrap()
    }

    /// Revokes the session of every token and says so, as the feed does.
    pub(super) fn revoke(&self) {
        let session: SessionId = SESSION.parse().unwrap();
        let revocation = Revocation::Session { session };
        let expire_time = Timestamp::from_seconds(NOW.as_seconds() + 600);
        self.verifier.shared.revocations.apply(&FeedEntry { number: 1, revocation, time: NOW, expire_time });
        self.verifier.shared.changes.send_modify(|changes| *changes += 1);
    }

    /// Sets the clock to so many seconds after the moment at which every token begins.
    pub(super) fn set_clock(&self, seconds: i64) {
        self.clock.0.store(NOW.as_micros() + seconds * 1_000_000, Ordering::SeqCst);
    }

    /// Comes to the last millisecond of every token.
    pub(super) fn nearly_expire(&self) {
        self.clock.0.store(NOW.as_micros() + 59_999_000, Ordering::SeqCst);
    }

    /// Comes to the end of every token. Nobody is told.
    pub(super) fn expire(&self) {
        self.clock.0.store(NOW.as_micros() + 60_000_000, Ordering::SeqCst);
    }
}
