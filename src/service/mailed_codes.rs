//! Codes in mails: how they are made, to whom they go, and what all that mail or take them have in common.

use std::sync::Arc;

use super::{
    RequestContext, Service, ServiceError,
    throttle::{Target, Undecided},
};
use crate::{
    crypto::{Purpose, keyed::mint},
    domain::{
        audit::{Act, Actor, AuditEvent},
        email::Email,
        id::UserId,
        locale::Locale,
        mailed_code::{CodeHash, CodePurpose},
        notice::{Notice, Recipient},
        secret::SecretString,
        user::{User, UserState},
    },
    store::port::{Mailing, NewMailedCode},
};

/// Whose mailbox a code goes to. Nobody's, where there is nobody: the rest is the same.
#[derive(Default)]
pub(super) struct Mailbox {
    /// Its address.
    pub(super) email: Option<Email>,
    /// In which language.
    pub(super) locale: Option<Locale>,
    /// The account that the code is for.
    pub(super) user: Option<UserId>,
    /// The registration that it is for.
    pub(super) registration: Option<UserId>,
    /// The account's epoch.
    pub(super) epoch: i64,
    /// Whom the message is about, where that is not whom the code is for.
    pub(super) about: Option<UserId>,
}

impl Mailbox {
    /// An account's own.
    pub(super) fn of(user: &User) -> Self {
        Self {
            email: Some(user.email.clone()),
            locale: user.locale.clone(),
            user: Some(user.id),
            registration: None,
            epoch: user.epoch,
            about: None,
        }
    }

    /// The same, but nobody's for an account that may not sign in.
    pub(super) fn of_active(user: Option<&User>) -> Self {
        user.filter(|user| user.state == UserState::Active).map(Self::of).unwrap_or_default()
    }

    /// What a budget of messages knows it by.
    pub(super) fn key(&self) -> Option<&str> {
        self.email.as_ref().map(Email::key)
    }
}

impl Service {
    /// Refuses what cannot be done without mail.
    pub(super) fn needs_mail(&self) -> Result<(), ServiceError> {
        if self.policy.sends_email { Ok(()) } else { Err(ServiceError::DeliveryUnavailable) }
    }

    /// What is stored of a code.
    pub(super) fn mailed_code_hash(&self, purpose: CodePurpose, code: &str) -> CodeHash {
        self.hasher.hash(Purpose::MailedCode, purpose.prefix().as_bytes(), code.as_bytes())
    }

    /// A new code on its way to a mailbox, in the words of `say`.
    pub(super) fn mailing(&self, purpose: CodePurpose, to: Mailbox, say: impl FnOnce(String) -> Notice) -> Mailing {
        let code = mint(purpose.prefix(), &*self.entropy);
        let expire_time = self.clock.now().plus(purpose.lifetime());
        let hash = self.mailed_code_hash(purpose, code.expose());
        let Mailbox { email, locale, user, registration, epoch, about } = to;
        let email_key = email.as_ref().map(|email| email.key().to_owned()).unwrap_or_default();
        let (recipient, notice) = match email {
            Some(email) => (Recipient::Email(email), say(code.expose().to_owned())),
            None => (Recipient::Nobody, Notice::Nothing),
        };
        let message = self.message(user.or(about), recipient, locale, notice, expire_time);
        let code = NewMailedCode { hash, purpose, user, registration, change: None, epoch, email_key, expire_time };
        Mailing { code, message }
    }

    /// Whether a code may be looked at now.
    pub(super) async fn admit_code(
        self: &Arc<Self>,
        code: &SecretString,
        context: &RequestContext,
    ) -> Result<Undecided, ServiceError> {
        self.admit(Target::MailedCode(code), context).await?;
        Ok(self.undecided(Target::MailedCode(code)))
    }

    /// Forgets that a code was looked at: it was good.
    pub(super) async fn accepted_code(&self, code: &SecretString) -> Result<(), ServiceError> {
        self.note_success(Target::MailedCode(code)).await
    }

    /// Counts a code that was not good. The refusal is for the caller.
    pub(super) async fn refused_code(
        &self,
        code: &SecretString,
        context: &RequestContext,
    ) -> Result<ServiceError, ServiceError> {
        self.note_failure(Target::MailedCode(code), context).await?;
        Ok(ServiceError::CodeInvalid)
    }
}

/// What somebody asked for who need not be the owner of the account.
pub(super) fn asked(act: Act, user: Option<UserId>, context: &RequestContext) -> AuditEvent {
    AuditEvent { actor: Actor::Anonymous, subject: user.map(Into::into), act, origin: context.origin.clone() }
}
