//! Budgets of messages: nobody's mailbox is flooded in our name, and nobody runs up our bill.

use std::time::Duration;

use uuid::Uuid;

use super::{Service, network, normalised};
use crate::{
    crypto::Purpose,
    domain::id::UserId,
    service::{RequestContext, ServiceError, throttle::Failures},
    store::port::{MessageBudget, MessageBudgets, Spending, ThrottleKey},
    telemetry::Throttled,
};

/// What a message is for. Each kind has budgets of its own: whoever asks for resets of a stranger's password until no more are sent must
/// not thereby keep the stranger from a sign-in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum MessageKind {
    /// A code to sign in with.
    LoginCode,
    /// A code to set a new password with.
    Reset,
    /// A code to verify an address with.
    Verification,
    /// The same for one who registers.
    Registration,
    /// Codes for another address or number, to the other one.
    Change,
    /// A code for another address, to the one there is.
    Leave,
}

impl MessageKind {
    /// What goes into the hashes: of who is asked for, and of the recipient.
    const fn scopes(self) -> [&'static [u8]; 2] {
        match self {
            Self::LoginCode => [b"login code asked for", b"login code recipient"],
            Self::Reset => [b"reset asked for", b"reset recipient"],
            Self::Verification => [b"verification asked for", b"verification recipient"],
            Self::Registration => [b"registration asked for", b"registration recipient"],
            Self::Change => [b"change asked for", b"change recipient"],
            Self::Leave => [b"leave asked for", b"leave recipient"],
        }
    }
}

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
        kind: MessageKind,
        asked_for: &str,
        recipient: Option<&str>,
        context: &RequestContext,
    ) -> Result<bool, ServiceError> {
        let asked_for = normalised(asked_for);
        let recipient = recipient.map_or_else(|| asked_for.clone(), normalised);
        let [asked_for_scope, recipient_scope] = kind.scopes();
        let asked_for = self.budget_key(asked_for_scope, asked_for.as_bytes());
        let recipient = self.budget_key(recipient_scope, recipient.as_bytes());
        self.spend_budgets(asked_for, recipient, context).await
    }

    /// The same for a code to sign in with that a known device asks for. It comes out of budgets of the device's own and of all known
    /// devices of its account, and not out of those that strangers reach: what they ask for does not keep the owner from a code. All
    /// devices together have no more than one: each sign-in makes another. As many statements.
    pub(in crate::service) async fn spend_device_message(
        &self,
        device: Uuid,
        account: UserId,
        context: &RequestContext,
    ) -> Result<bool, ServiceError> {
        let asked_for = self.budget_key(b"device asked for", device.as_bytes());
        let recipient = self.budget_key(b"device recipient", account.as_uuid().as_bytes());
        self.spend_budgets(asked_for, recipient, context).await
    }

    async fn spend_budgets(
        &self,
        asked_for: ThrottleKey,
        recipient: ThrottleKey,
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
        let spending = self.store.spend_message(self.budgets(asked_for, recipient)).await?;
        if let Some(from) = from {
            self.buckets.spend(from, now);
        }
        self.spent(spending)
    }

    fn budgets(&self, asked_for: ThrottleKey, recipient: ThrottleKey) -> MessageBudgets {
        MessageBudgets {
            asked_for,
            recipient,
            each: self.policy.throttle.recipient,
            overall: self.budget_key(b"overall", b""),
            all: self.policy.throttle.messages,
        }
    }

    fn spent(&self, spending: Spending) -> Result<bool, ServiceError> {
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
        kind: MessageKind,
        recipient: &str,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        if self.spend_message(kind, recipient, Some(recipient), context).await? {
            return Ok(());
        }
        // No later than that there is room for one more, unless somebody else takes it.
        let retry_after = Duration::from_micros(self.policy.throttle.recipient.each().unsigned_abs());
        Err(ServiceError::TooManyAttempts { retry_after })
    }

    /// What news of one kind to a recipient come out of, apart from what can be asked for.
    pub(in crate::service) fn news_budget(&self, scope: &[u8], recipient: &str) -> MessageBudget {
        let key = self.budget_key(scope, normalised(recipient).as_bytes());
        MessageBudget { key, rate: self.policy.throttle.recipient }
    }

    fn budget_key(&self, scope: &[u8], text: &[u8]) -> ThrottleKey {
        self.hasher.hash(Purpose::Budget, scope, text)
    }
}
