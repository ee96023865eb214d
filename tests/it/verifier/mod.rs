//! The verifier that services embed: against real nodes, and against an issuer that follows a script where a real one would have to
//! be broken first.

use std::net::SocketAddr;

use serde_json::{Value, json};
use vouchsafe::{
    domain::{
        id::{SessionId, TokenId},
        time::Timestamp,
    },
    jose::SigningKeyPair,
    verifier::{Builder, Denied, Inactive, Rule, Verifier},
};

use crate::{hostile::payload_of, process::harness};

mod away;
mod encryption;
mod keys;
mod revocations;
mod script;

const ISSUER: &str = "https://issuer.test";
const REVOKED: Denied = Denied::Inactive(Inactive::Revoked);

/// A verifier of Vouchsafe's own tokens, with keys and revocations from there.
fn builder(grpc: SocketAddr) -> Builder {
    Verifier::builder(ISSUER, ["vouchsafe"]).service_url(&format!("http://{grpc}")).unwrap()
}

/// Whether a token is accepted where nobody may be wrong.
async fn check(verifier: &Verifier, token: &str) -> Result<(), Denied> {
    verifier.verify(token, &Rule::required()).await.map(|_| ())
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    harness::until(what, async || is().await.then_some(())).await;
}

/// The same token with ids of its own.
fn another(key: &SigningKeyPair, genuine: &str, number: u32) -> String {
    let session = session_of(number);
    let mut claims: Value = payload_of(genuine);
    claims["jti"] = json!(TokenId::from_uuid(*session.as_uuid()).to_string());
    claims["sid"] = json!(session.to_string());
    key.sign("at+jwt", &claims).unwrap()
}

/// The session of [`another`] token.
fn session_of(number: u32) -> SessionId {
    let mut bytes = [7; 10];
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    SessionId::new(Timestamp::from_seconds(1_700_000_000), &bytes)
}
