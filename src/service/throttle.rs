//! Slows whoever guesses: per account, per address and altogether, over all nodes.
//!
//! Whoever looks at something that can be guessed calls [`Service::admit`] before, and afterwards exactly one of
//! [`Service::note_failure`] (it was wrong), [`Service::note_success`] (it was right; the transaction that begins a session does it itself)
//! and [`Service::forgive`] (nobody knows: an overload, an outage; or it was right, and another factor is to come). Whoever calls none of
//! them, because the node dies, has failed; an [`Undecided`] sees to it that an error on the way is no failure.
//!
//! Three things are counted:
//!
//! - **At a target**, in the database, where no flush of Redis and no restart gives new guesses and all nodes count as one. To admit is to
//!   count: one statement checks the wait and takes the attempt, so that of a hundred parallel guesses no more are looked at than
//!   of a hundred one after the other. What stays is the failure; a success deletes the row, in the transaction that
//!   begins the session. A right password so costs one small transaction by primary key more, beside a hash that takes some twenty
//!   milliseconds; a counter in memory would cost less and give a flood at N nodes N times the guesses. It also means that of one account's right sign-ins at the very same moment
//!   all but the first few are told to come again in a second.
//! - **Per address**, failures a minute, and **altogether**: in the node's memory, and through Redis, where there is one, in that of the others
//!   (see [`Buckets`]). These are checked before and counted after, so that what is under way when a limit is reached is finished. They cost
//!   a right password nothing, and wait for nobody.
//!
//! What is counted is a keyed hash of what was typed, so unknown identifiers are counted exactly as known ones, and the tables name nobody.
//! At a target's cap nothing is looked at until its owner is known by something else ([`Service::owner_keys`]), or a month has been quiet.
//! An account's e-mail address, its user name and its second factors have counters of their own, whose caps make no more than 100 together
//! (NIST SP 800-63B-4 §3.2.2; see [`Steps`]). Codes that are sent have no cap but that of each code, and recovery codes none, so that they are always a way back in. A known device has one too, for passwords and codes of the app alike, and no other limit
//! applies to it: what strangers do, also those who know the password, does not lock its owner out. At its cap it is counted like any other.
//! What whoever is signed in proves once more is counted at the session, so that a stolen token locks nobody out of signing in.
//!
//! `RevokeToken`, `Logout`, `Refresh` and `Verify` count nothing: their secrets have 256 bits, or a signature, and are not to be guessed.

mod buckets;
mod clients;
mod messages;

use std::sync::Arc;

use tokio::runtime::Handle;
use uuid::Uuid;

use self::buckets::Failures;
pub(super) use self::{buckets::Buckets, messages::MessageKind};
use super::{RequestContext, Service, ServiceError, begin_session::Pending};
use crate::{
    crypto::{KeyedHash, Purpose},
    domain::{
        id::{SessionId, UserId},
        secret::SecretString,
        throttle::{Steps, network_of},
        user::{Identifier, User, Username},
    },
    store::port::{Attempt, ThrottleKey},
    telemetry::Throttled,
};

/// What an attempt is counted by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// A password, for an identifier as it was typed. It may be nobody's: that must not show.
    Identifier(&'a str),
    /// A code that was sent to sign in with, for an identifier as it was typed. Apart from its passwords: however often these were guessed
    /// at, a code is the way back in.
    Code(&'a str),
    /// Whatever is proved on a device that is known to be one of the account's: strangers' failures do not count.
    Device(Uuid),
    /// A second factor of an account, whatever it was reached by, but not on a known device.
    Account(UserId),
    /// A recovery code of such an account. Apart from its app: however often this was guessed at, a recovery code is the way back in.
    RecoveryCode(UserId),
    /// What whoever is signed in proves once more. Apart from sign-ins: who holds a session's token shall not keep its owner from one.
    Session(SessionId),
    /// Registrations of an address, by its key: whoever asks again and again whether it is taken is slowed. Apart from its sign-ins,
    /// which are not to be stopped by it.
    Registration(&'a str),
    /// A code in a mail. It is too long to be guessed, but whoever tries to is slowed all the same.
    MailedCode(&'a SecretString),
    /// The code of a change of phone number, by the change's handle.
    PhoneCode(&'a SecretString),
}

impl Target<'_> {
    /// Whether the limits of address and everybody apply: to all but a known device.
    const fn is_among_strangers(self) -> bool {
        match self {
            Self::Identifier(_)
            | Self::Code(_)
            | Self::Account(_)
            | Self::RecoveryCode(_)
            | Self::Session(_)
            | Self::Registration(_)
            | Self::MailedCode(_)
            | Self::PhoneCode(_) => true,
            Self::Device(_) => false,
        }
    }
}

/// An attempt that was admitted and is not decided. If its caller goes away before it is, or meets an error, nothing was learnt by it: it
/// is given back, or a client that is impatient with its own right password would be slowed.
pub(super) struct Undecided {
    service: Arc<Service>,
    key: Option<ThrottleKey>,
    dear: Option<RequestContext>,
}

impl Undecided {
    /// It is decided: what becomes of the count is somebody else's to say.
    pub(super) fn decided(mut self) {
        self.key = None;
    }

    /// Gives it back: nobody can say that it failed, and it counts for no address.
    pub(super) async fn forgive(mut self) {
        if let Some(key) = self.key.take() {
            self.service.give_back(key).await;
        }
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        if let Some(context) = &self.dear {
            self.service.count_address(context);
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let service = Arc::clone(&self.service);
        runtime.spawn(async move { service.give_back(key).await });
    }
}

impl Service {
    /// Watches over an attempt that was admitted, until it is decided.
    pub(super) fn undecided(self: &Arc<Self>, target: Target<'_>) -> Undecided {
        Undecided { service: Arc::clone(self), key: Some(self.throttle_key(target)), dear: None }
    }

    /// The same for one that costs a hash: a stranger's counts for its address, however soon they hang up.
    pub(super) fn dear_undecided(self: &Arc<Self>, target: Target<'_>, context: &RequestContext) -> Undecided {
        let mut undecided = self.undecided(target);
        undecided.dear = target.is_among_strangers().then(|| context.clone());
        undecided
    }

    /// Whether an attempt may be made now. If so, it counts as a failure until something better is known of it.
    ///
    /// # Errors
    /// `TooManyAttempts`, by what was counted alone: whether the target exists has no part in it.
    pub(super) async fn admit(&self, target: Target<'_>, context: &RequestContext) -> Result<(), ServiceError> {
        if target.is_among_strangers() {
            self.admit_address(context)?;
        }
        match self.reserve(target).await? {
            Attempt::Reserved => Ok(()),
            Attempt::Wait(retry_after) => Err(self.throttled(Throttled::Account, retry_after)),
        }
    }

    /// The same for a step of a sign-in: its first proof, or at `second`, an account's second factor. On a known device it is counted there. One
    /// at its cap counts as unknown from then on: with it its owner must not be worse off than without.
    pub(super) async fn admit_pending(
        &self,
        pending: &mut Pending,
        second: Option<Target<'_>>,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        if let Some(device) = pending.device_id() {
            match self.reserve(Target::Device(device)).await? {
                Attempt::Reserved => return Ok(()),
                Attempt::Wait(wait) if Steps::DEVICE.is_of_cap(wait) => pending.count_among_strangers(),
                Attempt::Wait(wait) => return Err(self.throttled(Throttled::Account, wait)),
            }
        }
        self.admit(pending.target(second), context).await
    }

    async fn reserve(&self, target: Target<'_>) -> Result<Attempt, ServiceError> {
        Ok(self.store.reserve_attempt(self.throttle_key(target), self.steps(target)).await?)
    }

    /// Counts a failure. At the target it was counted when it was admitted; here it counts for its address and altogether.
    #[expect(clippy::unused_async, reason = "part of an interface of which the rest asks the database")]
    pub(super) async fn note_failure(&self, target: Target<'_>, context: &RequestContext) -> Result<(), ServiceError> {
        if target.is_among_strangers() {
            self.count_address(context);
        }
        Ok(())
    }

    /// Forgets the failures of a target that was met. Those of a sign-in are forgotten in the transaction of its session.
    pub(super) async fn note_success(&self, target: Target<'_>) -> Result<(), ServiceError> {
        Ok(self.store.forget_failures(vec![self.throttle_key(target)]).await?)
    }

    /// The same after something that has been done: that its failures are not forgotten is no reason to say that it was not.
    pub(super) async fn note_success_quietly(&self, target: Target<'_>) {
        if let Err(error) = self.note_success(target).await {
            tracing::warn!(%error, "failures not forgotten after a success");
        }
    }

    /// Gives back an attempt of which nobody knows whether it would have failed, or that was right and not complete. The failures before
    /// it stay.
    pub(super) async fn forgive(&self, target: Target<'_>) {
        self.give_back(self.throttle_key(target)).await;
    }

    /// That it counts all the same is no reason to answer otherwise.
    async fn give_back(&self, key: ThrottleKey) {
        if let Err(error) = self.store.give_back_attempt(key).await {
            tracing::warn!(%error, "an attempt counts as a failure that was none");
        }
    }

    /// What wrong passwords at the names of an account are counted by.
    pub(super) fn identifier_keys(&self, user: &User) -> Vec<ThrottleKey> {
        let names = [Some(user.email.key()), user.username.as_ref().map(Username::as_str)];
        let mut keys: Vec<_> = names.into_iter().flatten().map(|name| self.identifier_key(name)).collect();
        // In one order, so that no two wait for each other.
        keys.sort_unstable();
        keys
    }

    /// What the failures at everything that an account is signed in with are counted by. They are forgotten, in the transaction that it
    /// takes, when its owner is known by other means than what was guessed at: a known device, a code that was sent, an administrator.
    pub(super) fn owner_keys(&self, user: &User) -> Vec<ThrottleKey> {
        let mut keys: Vec<_> =
            [Target::Account(user.id), Target::RecoveryCode(user.id)].map(|target| self.throttle_key(target)).into();
        for name in [Some(user.email.key()), user.username.as_ref().map(Username::as_str)].into_iter().flatten() {
            keys.extend([self.identifier_key(name), self.code_key(name)]);
        }
        // In one order, so that no two wait for each other.
        keys.sort_unstable();
        keys
    }

    const fn steps(&self, target: Target<'_>) -> Steps {
        match target {
            Target::Identifier(_) | Target::Registration(_) | Target::MailedCode(_) | Target::PhoneCode(_) => {
                self.policy.throttle.identifier
            }
            Target::Account(_) => self.policy.throttle.account,
            Target::Code(_) | Target::RecoveryCode(_) => Steps::CODE,
            Target::Device(_) | Target::Session(_) => Steps::DEVICE,
        }
    }

    pub(super) fn throttle_key(&self, target: Target<'_>) -> ThrottleKey {
        let key = |scope: &[u8], text: &[u8]| self.hasher.hash(Purpose::Throttle, scope, text);
        match target {
            Target::Identifier(typed) => self.identifier_key(&normalised(typed)),
            Target::Code(typed) => self.code_key(&normalised(typed)),
            Target::Account(user) => key(b"account", user.as_uuid().as_bytes()),
            Target::RecoveryCode(user) => key(b"recovery code", user.as_uuid().as_bytes()),
            Target::Device(device) => key(b"device", device.as_bytes()),
            Target::Session(session) => key(b"session", session.as_uuid().as_bytes()),
            Target::Registration(address) => key(b"registration", address.as_bytes()),
            Target::MailedCode(code) => key(b"mailed code", code.expose().as_bytes()),
            Target::PhoneCode(handle) => key(b"phone code", handle.expose().as_bytes()),
        }
    }

    fn identifier_key(&self, normalised: &str) -> ThrottleKey {
        self.hasher.hash(Purpose::Throttle, b"identifier", normalised.as_bytes())
    }

    fn code_key(&self, normalised: &str) -> ThrottleKey {
        self.hasher.hash(Purpose::Throttle, b"code", normalised.as_bytes())
    }

    /// Whether this address, and everybody, may fail once more.
    pub(super) fn admit_address(&self, context: &RequestContext) -> Result<(), ServiceError> {
        let now = self.clock.now();
        for failures in self.failures_of(context) {
            if let Some(retry_after) = self.buckets.retry_after(failures, now) {
                return Err(self.throttled(failures.what, retry_after));
            }
        }
        Ok(())
    }

    /// Counts a failure of this address, and of everybody.
    fn count_address(&self, context: &RequestContext) {
        let now = self.clock.now();
        for failures in self.failures_of(context) {
            self.buckets.spend(failures, now);
        }
    }

    /// Takes a registration out of the budget of its address, which is as large as that of failures and apart from it. Also one that is
    /// refused later: to judge a password is work as well.
    pub(super) fn spend_registration(&self, context: &RequestContext) -> Result<(), ServiceError> {
        let (limit, now) = (self.policy.throttle.address.zip(network(context)), self.clock.now());
        let Some((rate, network)) = limit else { return Ok(()) };
        let registrations =
            Failures { key: self.bucket_key(b"registrations", &network), rate, what: Throttled::Address };
        if let Some(retry_after) = self.buckets.retry_after(registrations, now) {
            return Err(self.throttled(registrations.what, retry_after));
        }
        self.buckets.spend(registrations, now);
        Ok(())
    }

    /// What limits the address of a call and everybody, where there is a limit.
    fn failures_of(&self, context: &RequestContext) -> impl Iterator<Item = Failures> {
        let limits = self.policy.throttle;
        let network = network(context);
        let address = limits.address.zip(network).map(|(rate, network)| Failures {
            key: self.bucket_key(b"address", &network),
            rate,
            what: Throttled::Address,
        });
        let overall = limits.overall.map(|rate| Failures {
            key: self.bucket_key(b"overall", b""),
            rate,
            what: Throttled::Overall,
        });
        address.into_iter().chain(overall)
    }

    /// Where a step of a sign-in comes from: the known device, or else the address.
    pub(super) fn place_hash(&self, pending: &Pending) -> KeyedHash {
        match pending.device_id() {
            Some(device) => self.hasher.hash(Purpose::Throttle, b"place: device", device.as_bytes()),
            None => self.hasher.hash(Purpose::Throttle, b"place", &pending.network().unwrap_or_default()),
        }
    }

    fn bucket_key(&self, scope: &[u8], text: &[u8]) -> Uuid {
        let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            self.hasher.hash(Purpose::Throttle, scope, text);
        Uuid::from_bytes(key)
    }

    fn throttled(&self, what: Throttled, retry_after: std::time::Duration) -> ServiceError {
        self.metrics.throttled(what);
        ServiceError::TooManyAttempts { retry_after }
    }
}

/// What counts as the address of a call; `None` if it has none.
fn network(context: &RequestContext) -> Option<[u8; 9]> {
    context.origin.ip_address.parse().ok().map(network_of)
}

/// One text for all spellings of an identifier.
pub(super) fn normalised(typed: &str) -> String {
    match Identifier::parse(typed) {
        Some(Identifier::Email(email)) => email.key().to_owned(),
        Some(Identifier::Username(name)) => name.as_str().to_owned(),
        None => typed.trim().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_identifier_are_one_target() {
        assert_eq!(normalised(" Ada@Example.COM "), normalised("ada@example.com"));
        assert_eq!(normalised("ADA"), normalised("ada "));
        assert_eq!(normalised(" +49 ÄB "), "+49 äb");
        assert_ne!(normalised("ada@example.com"), normalised("ada"));
    }
}
