//! Callers who go away in the middle of a call (FAULTS 7): what was begun is done or not done, never half, and no connection
//! is left in a transaction.

use std::time::Duration;

use tokio::time::timeout;
use vouchsafe::domain::secret::Entropy as _;

use super::{
    client::Client,
    harness::{Place, until},
};
use crate::{
    rpc::on_both_databases,
    support::{Backend, TestEntropy},
};

on_both_databases!(callers_who_go_away_leave_nothing_half_done);

const CALLERS: usize = 4;
const CALLS: usize = 150;

async fn callers_who_go_away_leave_nothing_half_done(backend: Backend) {
    let place = Place::new(backend).await;
    let server = place.serve().await;
    let setup = Client::of(&server).await;
    let mut callers = Vec::new();
    for number in 0..CALLERS {
        let email = format!("user{number}@example.com");
        let mut held = setup.join(&email).await;
        let client = Client::of(&server).await;
        callers.push(tokio::spawn(async move {
            let entropy = TestEntropy::default();
            entropy.fill(&mut vec![0; number * 8]);
            let mut cancelled = 0;
            for call in 0..CALLS {
                // Dropping the call resets its stream. How long that takes is chance; no chance may matter.
                let patience = Duration::from_micros(entropy.below(8_000));
                if call % 3 == 0 {
                    cancelled += u32::from(timeout(patience, client.login(&email)).await.is_err());
                } else {
                    match timeout(patience, client.refresh(&held.refresh_token)).await {
                        Ok(answer) => held = answer.unwrap(),
                        Err(_) => cancelled += 1,
                    }
                }
            }
            assert!(cancelled > 0, "no call was cancelled");
            let held = client.refresh(&held.refresh_token).await.unwrap();
            client.claims(&held.access_token).await;
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    if backend == Backend::Postgres {
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND application_name = 'vouchsafe' AND (state <> 'idle' OR xact_start IS NOT NULL)";
        until("no connection is busy", async || (place.database.integer(busy).await == 0).then_some(())).await;
    }
    // Every session has its event, and the other way round, whether its holder heard of it or not.
    until("each sign-in is in the audit trail", async || {
        let sessions = place.database.integer("SELECT count(*) FROM sessions").await;
        let events = "SELECT count(DISTINCT session_id) FROM audit_events WHERE act = 'login.succeeded'";
        (place.database.integer(events).await == sessions).then_some(())
    })
    .await;
    assert_eq!(place.database.integer("SELECT count(*) FROM sessions WHERE end_time IS NOT NULL").await, 0);
    setup.join("afterwards@example.com").await;
    server.stop().await;
    place.remove().await;
}
