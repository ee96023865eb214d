//! `ChangePassword`: replaces the caller's password, or sets the first one, and ends the other sessions.

use std::sync::Arc;

use tracing::Instrument as _;

use super::{ChosenFor, Principal, RequestContext, Service, ServiceError, sessions::own_act, throttle::Target};
use crate::{
    crypto::Verdict,
    domain::{
        audit::Act,
        field::FieldViolation,
        notice::Notice,
        password::{Password, PasswordError},
        user::{Credentials, User, Username},
    },
    store::port::{Change, PasswordChange},
};

/// Where the password in force is asked for.
const CURRENT: &str = "current_password";

impl Service {
    /// Replaces the password if `current` is the one in force. `None` is that of an account without a password. The account's
    /// second factor must have been used, and an account without a password needs a recent sign-in.
    pub async fn change_password(
        self: &Arc<Self>,
        caller: Principal,
        current: Option<Password>,
        new: Password,
        context: RequestContext,
    ) -> Result<(), ServiceError> {
        let this = Arc::clone(self);
        // In a task of its own: whoever hangs up when the answer is late must not escape the count, and a right password must not be
        // left counted as a wrong one.
        let changing = async move { this.try_change_password(caller, current, new, &context).await };
        tokio::spawn(changing.in_current_span()).await.map_err(ServiceError::internal).flatten()
    }

    async fn try_change_password(
        self: &Arc<Self>,
        caller: Principal,
        current: Option<Password>,
        new: Password,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let Some(found) = self.store.get_credentials(caller.user).await? else {
            return Err(ServiceError::AccessTokenInvalid);
        };
        let mut user = self.store.get_user(caller.user).await?.ok_or(ServiceError::AccessTokenInvalid)?;
        if user.totp_enrolled || found.password_hash.is_none() {
            user = self.recently_proved(caller).await?;
        }
        let epoch = found.epoch;
        self.prove_current(caller, current, found, context).await?;
        let words = words_of(&user);
        let chosen_for =
            ChosenFor { field: "new_password", user: Some(user.id), words: &words, second_factor: user.totp_enrolled };
        // Not before the current one was proved: it tells whether a password is one of the account's.
        self.check_chosen(&new, chosen_for, context).await?;
        let change = PasswordChange {
            user: user.id,
            epoch,
            hash: self.passwords.hash(new, self.random(), self.hash_deadline(context)).await?,
            spared: caller.session,
            event: own_act(caller, Act::PasswordChanged, context),
            news: self.news(&user, Notice::PasswordChanged),
        };
        match self.store.change_password(change).await? {
            Change::Done => Ok(()),
            Change::Conflict => Err(ServiceError::Conflict),
        }
    }

    async fn prove_current(
        self: &Arc<Self>,
        caller: Principal,
        current: Option<Password>,
        found: Credentials,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let current = match (current, &found.password_hash) {
            (None, None) => return Ok(()),
            (None, Some(_)) => return Err(FieldViolation::new(CURRENT, PasswordError::Empty).into()),
            (Some(current), _) => current,
        };
        // Not at the account: whoever holds a stolen token would keep its owner from the second factor.
        let target = Target::Session(caller.session);
        self.admit(target, context).await?;
        // Should the task end with the server.
        let attempt = self.dear_undecided(target, context);
        let verdict = self.verify_password(None, Some(caller.user), current, found.password_hash, context).await;
        attempt.decided();
        if !matches!(verdict, Ok(Verdict::Mismatch)) {
            // Right, or nobody knows. The failures of before stay.
            self.forgive(target).await;
        }
        match verdict? {
            Verdict::Match { .. } => Ok(()),
            Verdict::Mismatch => {
                self.note_failure(target, context).await?;
                self.record_failure(own_act(caller, Act::ReauthenticationFailed, context)).await?;
                Err(ServiceError::InvalidCredentials)
            }
        }
    }
}

/// What is known of a user, for a rule that no password is made of it.
pub(super) fn words_of(user: &User) -> [&str; 3] {
    [user.email.as_typed(), user.username.as_ref().map_or("", Username::as_str), user.display_name.as_str()]
}
