//! `RequestPasswordReset` and `ResetPassword`: a new password for whoever reads the account's mail.

use std::sync::Arc;

use tracing::Instrument as _;

use super::{
    RequestContext, Service, ServiceError,
    change_password::words_of,
    in_step::in_step,
    mailed_codes::{Mailbox, asked},
    password_rules::ChosenFor,
    throttle::MessageKind,
};
use crate::{
    domain::{
        audit::Act,
        mailed_code::{CodeHash, CodePurpose},
        notice::Notice,
        password::Password,
        secret::SecretString,
        user::{Identifier, User, UserState},
    },
    store::port::PasswordReset,
};

impl Service {
    /// Mails a code to the owner of an account, if there is one who may sign in.
    pub async fn request_password_reset(&self, identifier: &str, context: &RequestContext) -> Result<(), ServiceError> {
        in_step(self.try_request_password_reset(identifier, context)).await
    }

    async fn try_request_password_reset(&self, identifier: &str, context: &RequestContext) -> Result<(), ServiceError> {
        self.needs_mail()?;
        let user = match Identifier::parse(identifier) {
            Some(identifier) => self.store.find_user(identifier).await?,
            None => None,
        };
        let to = Mailbox::of_active(user.as_ref());
        let sent = self.spend_message(MessageKind::Reset, identifier, to.key(), context).await?;
        let to = if sent { to } else { Mailbox::default() };
        let event = asked(Act::PasswordResetRequested, user.map(|user| user.id), context);
        let mailing = self.mailing(CodePurpose::Reset, to, |code| Notice::ResetPassword { code });
        Ok(self.store.send_code(mailing, event).await?)
    }

    /// Sets a new password. The code is used up in the transaction that stores the hash, and not before: a password that will
    /// not do, or a server that has no time to hash it, leaves it good.
    pub async fn reset_password(
        self: &Arc<Self>,
        code: SecretString,
        password: Password,
        context: RequestContext,
    ) -> Result<(), ServiceError> {
        let this = Arc::clone(self);
        // In a task of its own: whoever hangs up when the answer is late must not escape the count.
        let resetting = async move { this.try_reset_password(&code, password, &context).await };
        tokio::spawn(resetting.in_current_span()).await.map_err(ServiceError::internal).flatten()
    }

    async fn try_reset_password(
        self: &Arc<Self>,
        code: &SecretString,
        password: Password,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let attempt = self.admit_code(code, context).await?;
        let hash = self.mailed_code_hash(CodePurpose::Reset, code.expose());
        let owner = self.owner_of(hash).await?;
        attempt.decided();
        let Some(user) = owner else {
            self.record_failure(asked(Act::CodeRefused, None, context)).await?;
            return Err(self.refused_code(code, context).await?);
        };
        // Whatever may be wrong with the password, it is no guess at a code.
        self.accepted_code(code).await?;
        let words = words_of(&user);
        let (field, second_factor) = ("new_password", user.totp_enrolled);
        let chosen_for = ChosenFor { field, user: Some(user.id), words: &words, second_factor };
        self.check_chosen(&password, chosen_for, context).await?;
        let password = self.passwords.hash(password, self.random(), self.hash_deadline(context)).await?;
        // Whoever has the code reads the mail.
        let news = self.news_of_proof(&user, Notice::PasswordChanged);
        // Whoever set a new password may use it at once, however often the old one was guessed at. Guesses at the second factor
        // stay counted: who reads the mail may not be who has the app.
        let forgiven = self.identifier_keys(&user);
        let reset = PasswordReset { code: hash, password, forgiven, news, origin: context.origin.clone() };
        if !self.store.reset_password(reset).await? {
            return Err(self.refused_code(code, context).await?);
        }
        Ok(())
    }

    /// Whose password a code may set, as far as can be seen before it is used.
    async fn owner_of(&self, code: CodeHash) -> Result<Option<User>, ServiceError> {
        let Some(code) = self.store.find_code(code).await? else { return Ok(None) };
        let live = code.purpose == CodePurpose::Reset && code.expire_time > self.clock.now();
        let bound = |user: &User| {
            user.state == UserState::Active && user.epoch == code.epoch && user.email.key() == code.email_key
        };
        Ok(code.user.filter(|user| live && bound(user)))
    }
}
