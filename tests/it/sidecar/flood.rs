//! Tokens of keys that nobody has, as many as an attacker likes to write. SECURITY, TOKENS.

use std::time::Instant;

use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;
use vouchsafe::pb::v1::{self, InactiveReason};

use super::world::Sidecar;
use crate::{
    hostile::encode,
    support::{Backend, TestNode},
};

const CALLERS: u32 = 8;
const EACH: u32 = 12_500;
/// Between two fetches because of unknown keys.
const COOL_DOWN_SECONDS: u64 = 10;
/// What the allocator may keep after many calls at once. Were the tokens kept, they would be some 280 MiB.
const SLACK: u64 = 16 << 20;

async fn fetches(sidecar: &Sidecar) -> u64 {
    let scrape = sidecar.http("/metrics").await.body;
    let samples = scrape.lines().filter(|line| line.starts_with("vouchsafe_verifier_key_fetches_total{"));
    samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_one_fetch_per_interval_and_leaves_the_memory_alone() {
    let node = TestNode::start(Backend::Sqlite).await;
    let sidecar = Sidecar::beside(&node, "").await;
    // What is kept of them would show.
    let payload = encode(json!({"iss": "https://issuer.test", "junk": "x".repeat(2 * 1024)}).to_string());
    let flood = async |each: u32| {
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (mut client, payload) = (sidecar.auth(), payload.clone());
            callers.spawn(async move {
                for number in 0..each {
                    let header = json!({"typ": "at+jwt", "alg": "ES256", "kid": format!("{each}-{caller}-{number}")});
                    let token = format!("{}.{payload}.{}", encode(header.to_string()), encode([1; 64]));
                    let answer = client.verify(v1::VerifyRequest { token, ..Default::default() }).await;
                    match answer {
                        Ok(answer) => assert_eq!(answer.into_inner().inactive_reason(), InactiveReason::UnknownKey),
                        // While the keys are fetched.
                        Err(status) => assert_eq!(status.code(), Code::Unavailable),
                    }
                }
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    };
    // Until the allocator has what it needs for so many callers.
    flood(EACH / 20).await;
    let (before, resident) = (fetches(&sidecar).await, sidecar.resident());
    #[allow(clippy::disallowed_methods)]
    let began = Instant::now();
    flood(EACH).await;
    let intervals = began.elapsed().as_secs() / COOL_DOWN_SECONDS + 1;
    let (fetched, grown) = (fetches(&sidecar).await - before, sidecar.resident().saturating_sub(resident));
    assert!(fetched <= intervals, "{fetched} fetches in {intervals} intervals");
    assert!(grown < SLACK, "{grown} bytes more for {} tokens", CALLERS * EACH);
    sidecar.stop().await;
    node.remove().await;
}
