//! `SendLoginCode`: sends a code to sign in with. Whether there is an account shows in nothing: not in the answer, not in the
//! rows that are written, not in what an answer to the challenge is told.

use std::sync::Arc;

use super::{
    RequestContext, Service, ServiceError,
    begin_session::{Pending, SignInRequest},
    challenge::IssuedChallenge,
    in_step::in_step,
    throttle::MessageKind,
};
use crate::{
    crypto::keyed::mint_digits,
    domain::{
        audit::{Act, Actor, AuditEvent},
        challenge::{ChallengeFactor, CodeChannel, FirstProof},
        notice::{Notice, Recipient},
        user::{Identifier, User, UserState},
    },
    store::port::{ChallengeKind, NewChallenge},
};

/// How often it starts over because the account changed meanwhile.
const TRIES: u32 = 2;

/// A code that was asked for.
#[derive(Clone)]
pub struct LoginCodeCommand {
    /// What the caller wants.
    pub wanted: SignInRequest,
    /// How the code is to be sent.
    pub channel: CodeChannel,
}

impl Service {
    /// Sends a code to the owner of an account, if there is one who may sign in and can be reached so.
    pub async fn send_login_code(
        self: &Arc<Self>,
        command: LoginCodeCommand,
        context: &RequestContext,
    ) -> Result<IssuedChallenge, ServiceError> {
        in_step(self.try_send_login_code(command, context)).await
    }

    async fn try_send_login_code(
        self: &Arc<Self>,
        command: LoginCodeCommand,
        context: &RequestContext,
    ) -> Result<IssuedChallenge, ServiceError> {
        let delivered = match command.channel {
            CodeChannel::Email => self.policy.sends_email,
            CodeChannel::Sms => self.policy.sends_sms,
        };
        if !delivered || !self.policy.login_codes.contains(&command.channel) {
            return Err(ServiceError::DeliveryUnavailable);
        }
        let found = self.find_owner(&command).await?;
        let to = found.and_then(|user| recipient(&user, command.channel).map(|recipient| (user, recipient)));
        let first = match command.channel {
            CodeChannel::Email => FirstProof::MailedCode,
            CodeChannel::Sms => FirstProof::SmsCode,
        };
        let account = to.as_ref().map(|(user, _)| user.id);
        let pending = self.pending(command.wanted.clone(), account, first).await?;
        let sent = self.spend_login_code(&command, &pending, to.as_ref(), context).await?;
        let mut to = to.filter(|_| sent);
        for _ in 0..TRIES {
            if let Some(challenge) = self.open_login_code(&pending, to.take(), context).await? {
                return Ok(challenge);
            }
            // The account has just changed or gone: for nobody the same goes through in any case.
        }
        Err(ServiceError::Conflict)
    }

    /// Whether there is a budget for a code.
    async fn spend_login_code(
        &self,
        command: &LoginCodeCommand,
        pending: &Pending,
        to: Option<&(User, Recipient)>,
        context: &RequestContext,
    ) -> Result<bool, ServiceError> {
        // A device of an account whose address nobody has proved to be theirs may be anybody's: no budget of its own to write there with.
        let owner = to.map(|(user, _)| user).filter(|user| user.email_verified_time.is_some());
        if let (Some(device), Some(owner)) = (pending.device_id(), owner) {
            return self.spend_device_message(device, owner.id, context).await;
        }
        let address = to.map(|(_, recipient)| match recipient {
            Recipient::Email(email) => email.key(),
            Recipient::Sms(number) => number.as_str(),
            Recipient::Nobody => "",
        });
        self.spend_message(MessageKind::LoginCode, &command.wanted.identifier, address, context).await
    }

    async fn find_owner(&self, command: &LoginCodeCommand) -> Result<Option<User>, ServiceError> {
        Ok(match Identifier::parse(&command.wanted.identifier) {
            Some(identifier) => self.store.find_user(identifier).await?,
            None => None,
        })
    }

    /// Writes the challenge and its message; to nobody, both look the same. `None`: the account has changed.
    async fn open_login_code(
        &self,
        pending: &Pending,
        to: Option<(User, Recipient)>,
        context: &RequestContext,
    ) -> Result<Option<IssuedChallenge>, ServiceError> {
        let (user, recipient) = to.unzip();
        let account = user.as_ref().map(|user| user.id);
        let mut pending = if account.is_some() { pending.clone() } else { pending.for_nobody() };
        match &recipient {
            Some(Recipient::Email(email)) => pending.mailed_to = Some(email.key().to_owned()),
            Some(Recipient::Sms(number)) => pending.texted_to = Some(number.as_str().to_owned()),
            Some(Recipient::Nobody) | None => {}
        }
        let (handle, code) = (self.new_handle(), mint_digits(&*self.entropy));
        let locale = user.and_then(|user| user.locale);
        // A code to nobody is one that nobody gets.
        let notice = match recipient {
            Some(_) => Notice::LoginCode { code: code.expose().to_owned() },
            None => Notice::Nothing,
        };
        let recipient = recipient.unwrap_or(Recipient::Nobody);
        let message = self.message(account, recipient, locale, notice, handle.expire_time);
        let new = NewChallenge {
            handle: handle.hash,
            kind: ChallengeKind::LoginCode,
            user: account,
            checked_hash: None,
            code_or_place: self.one_time_code_hash(&handle.hash, &code),
            pending: self.seal_pending(&handle.hash, &pending),
            expire_time: handle.expire_time,
        };
        let event = AuditEvent {
            actor: Actor::Anonymous,
            subject: account.map(Into::into),
            act: Act::LoginCodeRequested,
            origin: context.origin.clone(),
        };
        let opened = self.store.open_challenge(new, Some(message), event).await?;
        Ok(opened.map(|_| IssuedChallenge {
            handle: handle.secret,
            factors: vec![ChallengeFactor::OneTimeCode],
            expire_time: handle.expire_time,
        }))
    }
}

/// Where a code for this account goes, if it may sign in and can be reached so.
fn recipient(user: &User, channel: CodeChannel) -> Option<Recipient> {
    match (user.state, channel) {
        (UserState::Suspended, _) => None,
        (UserState::Active, CodeChannel::Email) => Some(Recipient::Email(user.email.clone())),
        (UserState::Active, CodeChannel::Sms) => user.phone_number.clone().map(Recipient::Sms),
    }
}
