//! Services that verify their callers themselves, as their callers meet them: real servers of tonic and axum, over TCP.

mod axum;
mod embedded;
mod greeter;
mod tonic;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::json;
use tokio::task::JoinHandle;
use vouchsafe::{
    domain::{
        signing_key::Algorithm,
        time::{Clock as _, Timestamp},
    },
    jose::{KeySet, SigningKeyPair},
    verifier::Verifier,
};

use crate::support::ManualClock;

/// How long tokens of [`Issuer`] are good.
const LIFETIME: Duration = Duration::from_mins(1);

/// Somebody who signs tokens, and a verifier that was given the key.
struct Issuer {
    verifier: Verifier,
    pair: SigningKeyPair,
    clock: Arc<ManualClock>,
    begun: Timestamp,
}

impl Issuer {
    async fn new() -> Self {
        let pair = SigningKeyPair::generate(Algorithm::EdDsa).unwrap();
        let clock = Arc::new(ManualClock::new());
        let keys = KeySet::from_keys(vec![pair.public_key().clone()]).unwrap();
        let builder = Verifier::builder("https://issuer.test", ["shop"])
            .keys(keys)
            .without_revocations()
            .clock(Arc::clone(&clock) as Arc<_>);
        let begun = clock.now();
        Self { verifier: builder.start().await.unwrap(), pair, clock, begun }
    }

    fn token(&self, scope: &str, roles: &[&str]) -> String {
        let (id, now) = (SUBJECT, self.begun.as_seconds());
        let claims = json!({
            "iss": "https://issuer.test", "sub": id, "aud": ["shop"], "exp": now + 60, "iat": now, "jti": id, "sid": id,
            "client_id": "c", "roles": roles, "scope": scope, "auth_time": now, "amr": ["pwd"], "acr": "aal1", "epoch": 0,
        });
        self.pair.sign("at+jwt", &claims).unwrap()
    }

    /// The last millisecond of every token. Whoever waits for its end looks often from now on.
    fn nearly_expire(&self) {
        self.clock.set(self.begun.plus(LIFETIME).minus(Duration::from_millis(1)));
    }

    /// The end of every token.
    fn expire(&self) {
        self.clock.set(self.begun.plus(LIFETIME));
    }
}

/// Whom the tokens of [`Issuer`] are about.
const SUBJECT: &str = "01a20076-bd5d-7314-8f70-4a3162dbb03c";

/// A server that is stopped when nobody needs it any more.
struct Served {
    address: SocketAddr,
    running: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.running.abort();
    }
}
