//! `ChangePhoneNumber` and `VerifyPhoneNumber`.

use super::{
    Principal, RequestContext, Service, ServiceError,
    challenge::Handle,
    recent::caller_gone,
    throttle::{MessageKind, Target},
};
use crate::{
    crypto::keyed::mint_digits,
    domain::{
        id::SessionId,
        notice::{Notice, Recipient},
        phone::PhoneNumber,
        secret::SecretString,
        time::Timestamp,
        user::User,
    },
    store::port::{Change, NewPhoneChange, PhoneOutcome, PhoneProof},
};

/// A change of phone number that waits for its code.
#[derive(Debug)]
pub struct PhoneVerification {
    /// What it is called by.
    pub handle: SecretString,
    /// When its code is no longer good.
    pub expire_time: Timestamp,
}

impl Service {
    /// Sends a code to the new number, or removes the one there is at once.
    pub async fn change_phone_number(
        &self,
        caller: Principal,
        number: Option<PhoneNumber>,
        context: &RequestContext,
    ) -> Result<Option<PhoneVerification>, ServiceError> {
        let Some(number) = number else {
            let user = self.recently_proved(caller).await?;
            let news = self.news(&user, Notice::PhoneChanged);
            let removed = self.store.remove_phone(user.id, caller.session, news, context.origin.clone()).await;
            return removed.map(|()| None).map_err(caller_gone);
        };
        let user = self.recently_proved_owner(caller).await?;
        if !self.policy.sends_sms {
            return Err(ServiceError::DeliveryUnavailable);
        }
        self.send_to_phone(user, caller.session, number, context).await.map(Some)
    }

    async fn send_to_phone(
        &self,
        user: User,
        session: SessionId,
        number: PhoneNumber,
        context: &RequestContext,
    ) -> Result<PhoneVerification, ServiceError> {
        self.spend_own_message(MessageKind::Change, number.as_str(), context).await?;
        let (Handle { secret, hash, expire_time }, code) = (self.new_handle(), mint_digits(&*self.entropy));
        let (to, notice) = (Recipient::Sms(number.clone()), Notice::VerifyPhone { code: code.expose().to_owned() });
        let message = self.message(Some(user.id), to, user.locale.clone(), notice, expire_time);
        let code = self.one_time_code_hash(&hash, &code);
        let origin = context.origin.clone();
        let change = NewPhoneChange { handle: hash, user, session, number, code, message, expire_time, origin };
        match self.store.begin_phone_change(change).await.map_err(caller_gone)? {
            Change::Done => Ok(PhoneVerification { handle: secret, expire_time }),
            Change::Conflict => Err(ServiceError::Conflict),
        }
    }

    /// Makes the change with the code that was sent.
    pub async fn verify_phone_number(
        &self,
        caller: Principal,
        handle: &SecretString,
        code: &SecretString,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let user = self.store.get_user(caller.user).await?.ok_or(ServiceError::AccessTokenInvalid)?;
        // What is guessed at is counted in the row of the verification. Apart from the account's own count: a proof that somebody
        // has a phone must not take failures at its second factor back.
        let target = Target::PhoneCode(handle);
        self.admit(target, context).await?;
        let hash = self.handle_hash(handle);
        let code = self.one_time_code_hash(&hash, code);
        let news = self.news(&user, Notice::PhoneChanged);
        let (session, origin) = (caller.session, context.origin.clone());
        let proof = PhoneProof { handle: hash, user: user.id, session, code, news, origin };
        let verified = self.store.verify_phone(proof).await;
        if verified.is_err() {
            self.forgive(target).await;
        }
        match verified.map_err(caller_gone)? {
            PhoneOutcome::Changed => {
                self.note_success_quietly(target).await;
                Ok(())
            }
            PhoneOutcome::WrongCode => {
                self.note_failure(target, context).await?;
                Err(ServiceError::CodeInvalid)
            }
            PhoneOutcome::Gone => {
                self.note_failure(target, context).await?;
                Err(ServiceError::ChallengeInvalid)
            }
        }
    }
}
