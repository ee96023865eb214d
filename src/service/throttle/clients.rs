//! Service accounts with wrong secrets.
//!
//! Their secrets have 256 bits: nobody guesses one, and nothing has to be reserved. What is slowed is whoever calls on and on with a wrong one, each
//! time at the cost of a transaction. It is counted by client id and address: a stranger who knows a client id must not
//! be able to keep a service from its tokens, and fifty replicas that start at once must all get theirs.

use super::{Service, network};
use crate::{
    crypto::Purpose,
    domain::{service_account::ClientProof, throttle::Steps},
    service::{RequestContext, ServiceError},
    store::port::ThrottleKey,
    telemetry::Throttled,
};

/// What a client's failures are counted by, and whether there were any.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Client {
    key: Option<ThrottleKey>,
    has_failed: bool,
}

impl Service {
    /// Whether a client may be looked at: one look-up by primary key. A certificate was checked before, and is no guess.
    pub(in crate::service) async fn admit_client(
        &self,
        proof: &ClientProof,
        context: &RequestContext,
    ) -> Result<Client, ServiceError> {
        self.admit_address(context)?;
        let ClientProof::Secret { account, .. } = proof else { return Ok(Client { key: None, has_failed: false }) };
        let text = [account.as_uuid().as_bytes().as_slice(), &network(context).unwrap_or_default()].concat();
        let key = self.hasher.hash(Purpose::Throttle, b"client", &text);
        match self.store.counted_wait(key, Steps::CLIENT).await? {
            Some(wait) if !wait.is_zero() => Err(self.throttled(Throttled::Account, wait)),
            found => Ok(Client { key: Some(key), has_failed: found.is_some() }),
        }
    }

    /// Counts a client that was refused.
    pub(in crate::service) async fn note_client_failure(
        &self,
        client: Client,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        self.count_address(context);
        match client.key {
            Some(key) => Ok(self.store.count_failure(key).await?),
            None => Ok(()),
        }
    }

    /// Forgets the failures of a client that was let in, if there were any.
    pub(in crate::service) async fn note_client_success(&self, client: Client) -> Result<(), ServiceError> {
        match client.key.filter(|_| client.has_failed) {
            Some(key) => Ok(self.store.forget_failures(vec![key]).await?),
            None => Ok(()),
        }
    }
}
