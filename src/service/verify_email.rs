//! `SendEmailVerification` and `VerifyEmail`: that an address is its owner's.

use std::sync::Arc;

use tracing::Instrument as _;

use super::{
    RequestContext, Service, ServiceError,
    in_step::in_step,
    mailed_codes::{Mailbox, asked},
    throttle::{MessageKind, Target},
};
use crate::{
    domain::{
        audit::Act, email::Email, mailed_code::CodePurpose, notice::Notice, secret::SecretString, user::Identifier,
    },
    store::port::{EmailOutcome, EmailProof},
};

impl Service {
    /// Mails a code to an address, if an account or a registration waits for it to be verified.
    pub async fn send_email_verification(&self, email: Email, context: &RequestContext) -> Result<(), ServiceError> {
        in_step(self.try_send_email_verification(email, context)).await
    }

    async fn try_send_email_verification(&self, email: Email, context: &RequestContext) -> Result<(), ServiceError> {
        self.needs_mail()?;
        let user = self.store.find_user(Identifier::Email(email.clone())).await?;
        let waiting = self.store.find_registration(email.clone()).await?;
        let (purpose, to) = match (user, waiting) {
            (Some(user), _) => {
                let unverified = user.email_verified_time.is_none().then_some(&user);
                (CodePurpose::Verify, Mailbox::of_active(unverified))
            }
            (None, Some(waiting)) => {
                let (email, locale, registration) = (Some(waiting.email), waiting.locale, Some(waiting.id));
                (CodePurpose::Register, Mailbox { email, locale, registration, ..Mailbox::default() })
            }
            (None, None) => (CodePurpose::Verify, Mailbox::default()),
        };
        let sent = self.spend_message(MessageKind::Verification, email.as_typed(), to.key(), context).await?;
        let to = if sent { to } else { Mailbox::default() };
        let event = asked(Act::EmailVerificationRequested, to.user, context);
        let mailing = self.mailing(purpose, to, |code| Notice::VerifyEmail { code });
        Ok(self.store.send_code(mailing, event).await?)
    }

    /// Uses a mailed code. Whether another address still has to be confirmed.
    pub async fn verify_email(
        self: &Arc<Self>,
        code: SecretString,
        context: RequestContext,
    ) -> Result<bool, ServiceError> {
        let this = Arc::clone(self);
        // In a task of its own: whoever hangs up when the answer is late must not escape the count.
        let verifying = async move { this.try_verify_email(&code, &context).await };
        tokio::spawn(verifying.in_current_span()).await.map_err(ServiceError::internal).flatten()
    }

    async fn try_verify_email(
        self: &Arc<Self>,
        code: &SecretString,
        context: &RequestContext,
    ) -> Result<bool, ServiceError> {
        let attempt = self.admit_code(code, context).await?;
        let hash = self.mailed_code_hash(CodePurpose::Verify, code.expose());
        let found = self.store.find_code(hash).await?;
        // Should it complete a change, the address of before is told. The store sees to it that it is still that one.
        let changing = found.filter(|code| matches!(code.purpose, CodePurpose::ChangeOld | CodePurpose::ChangeNew));
        let owner = changing.and_then(|code| code.user);
        let news = owner.and_then(|user| self.news(&user, Notice::EmailChanged));
        let proof = EmailProof { code: hash, news, origin: context.origin.clone() };
        let outcome = self.store.verify_email(proof).await?;
        attempt.decided();
        if outcome != EmailOutcome::Refused {
            // It is done, or, of a name or an address that is taken, will be no other when it is asked again.
            self.note_success_quietly(Target::MailedCode(code)).await;
        }
        match outcome {
            EmailOutcome::Verified | EmailOutcome::Registered | EmailOutcome::Changed => Ok(false),
            EmailOutcome::AwaitingOther => Ok(true),
            EmailOutcome::EmailTaken => Err(ServiceError::EmailTaken),
            EmailOutcome::UsernameTaken => Err(ServiceError::UsernameTaken),
            EmailOutcome::Refused => Err(self.refused_code(code, context).await?),
        }
    }
}
