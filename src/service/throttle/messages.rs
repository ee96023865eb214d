//! Budgets of messages: nobody's mailbox is flooded in our name, and nobody runs up our bill.

use std::time::Duration;

use super::{Service, network, normalised};
use crate::{
    crypto::Purpose,
    service::{RequestContext, ServiceError, throttle::Failures},
    store::port::{MessageBudget, MessageBudgets, Spending, ThrottleKey},
    telemetry::Throttled,
};

impl Service {
    /// Takes a message out of the budget of whoever asks with `asked_for` (an identifier as typed, an address, a number), and of
    /// whom it goes to, if it goes to anybody. `false`: it is not to be sent, and that must not show.
    ///
    /// For nobody the same statements run: what was asked for stands in for a recipient. An address may ask for as many a minute as it may
    /// fail.
    ///
    /// # Errors
    /// `TooManyAttempts`, by what was asked for, the client's address and how much is sent altogether: whether there is a recipient has no
    /// part in it.
    pub(in crate::service) async fn spend_message(
        &self,
        asked_for: &str,
        recipient: Option<&str>,
        context: &RequestContext,
    ) -> Result<bool, ServiceError> {
        let now = self.clock.now();
        let from = self.policy.throttle.address.zip(network(context)).map(|(rate, network)| Failures {
            key: self.bucket_key(b"messages", &network),
            rate,
            what: Throttled::Messages,
        });
        if let Some(retry_after) = from.and_then(|from| self.buckets.retry_after(from, now)) {
            return Err(self.throttled(Throttled::Messages, retry_after));
        }
        let asked_for = normalised(asked_for);
        let recipient = recipient.map_or_else(|| asked_for.clone(), normalised);
        let budgets = MessageBudgets {
            asked_for: self.budget_key(b"asked for", &asked_for),
            recipient: self.budget_key(b"recipient", &recipient),
            each: self.policy.throttle.recipient,
            overall: self.budget_key(b"overall", ""),
            all: self.policy.throttle.messages,
        };
        let spending = self.store.spend_message(budgets).await?;
        if let Some(from) = from {
            self.buckets.spend(from, now);
        }
        match spending {
            Spending::Spent => Ok(true),
            Spending::RecipientSpent => {
                self.metrics.throttled(Throttled::Messages);
                Ok(false)
            }
            Spending::Wait(retry_after) => Err(self.throttled(Throttled::Messages, retry_after)),
        }
    }

    /// The same where the recipient is the caller's own, or named by a caller who is signed in and may know.
    ///
    /// # Errors
    /// `TooManyAttempts`, also if it is the recipient's budget that is spent.
    pub(in crate::service) async fn spend_own_message(
        &self,
        recipient: &str,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        if self.spend_message(recipient, Some(recipient), context).await? {
            return Ok(());
        }
        // No later than that there is room for one more, unless somebody else takes it.
        let retry_after = Duration::from_micros(self.policy.throttle.recipient.each().unsigned_abs());
        Err(ServiceError::TooManyAttempts { retry_after })
    }

    /// What news to a recipient come out of, apart from what can be asked for.
    pub(in crate::service) fn news_budget(&self, recipient: &str) -> MessageBudget {
        let key = self.budget_key(b"news", &normalised(recipient));
        MessageBudget { key, rate: self.policy.throttle.recipient }
    }

    fn budget_key(&self, scope: &[u8], text: &str) -> ThrottleKey {
        self.hasher.hash(Purpose::Budget, scope, text.as_bytes())
    }
}
