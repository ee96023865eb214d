//! `ChangeEmail`: begins a change of address. It is made when both addresses have agreed.

use uuid::Uuid;

use super::{
    Principal, RequestContext, Service, ServiceError, mailed_codes::Mailbox, recent::caller_gone, sessions::own_act,
    throttle::MessageKind,
};
use crate::{
    domain::{
        audit::Act,
        email::Email,
        field::FieldViolation,
        id::UserId,
        mailed_code::CodePurpose,
        notice::Notice,
        user::{Identifier, User},
    },
    store::port::{Change, Mailing, NewEmailChange},
};

impl Service {
    /// Mails a code to the new address, and one to the old address if it is verified.
    pub async fn change_email(
        &self,
        caller: Principal,
        new_email: Email,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        self.needs_mail()?;
        let user = self.recently_proved(caller).await?;
        if new_email.key() == user.email.key() {
            return Err(FieldViolation::new("new_email", "is the address that the account has").into());
        }
        let taken = self.store.find_user(Identifier::Email(new_email.clone())).await?;
        let id = *UserId::new(self.clock.now(), &self.random()).as_uuid();
        // First that to the own address, whose budget the caller may know of: without it the change could not be made.
        let old = match user.email_verified_time {
            Some(_) => Some(self.to_old_address(&user, &new_email, id, context).await?),
            None => None,
        };
        let new = self.to_new_address(&user, taken, &new_email, id, context).await?;
        let expire_time = new.code.expire_time;
        let event = own_act(caller, Act::EmailChangeRequested, context);
        let session = caller.session;
        let change = NewEmailChange { id, user, session, new_email, old, new, expire_time, event };
        match self.store.begin_email_change(change).await.map_err(caller_gone)? {
            Change::Done => Ok(()),
            Change::Conflict => Err(ServiceError::Conflict),
        }
    }

    /// The code to the new address. If that is another account's, its owner is told, and the code is nobody's.
    async fn to_new_address(
        &self,
        user: &User,
        taken: Option<User>,
        new_email: &Email,
        change: Uuid,
        context: &RequestContext,
    ) -> Result<Mailing, ServiceError> {
        let sent =
            self.spend_message(MessageKind::Change, new_email.as_typed(), Some(new_email.key()), context).await?;
        let email = sent.then(|| new_email.clone());
        let mut mailing = if let Some(owner) = taken {
            let to = Mailbox { email, locale: owner.locale, about: Some(owner.id), ..Mailbox::default() };
            self.mailing(CodePurpose::ChangeNew, to, |_| Notice::AlreadyRegistered)
        } else {
            let to = Mailbox { email, ..Mailbox::of(user) };
            let mut mailing = self.mailing(CodePurpose::ChangeNew, to, |code| Notice::AdoptEmail { code });
            mailing.code.change = Some(change);
            mailing
        };
        new_email.key().clone_into(&mut mailing.code.email_key);
        Ok(mailing)
    }

    async fn to_old_address(
        &self,
        user: &User,
        new_email: &Email,
        change: Uuid,
        context: &RequestContext,
    ) -> Result<Mailing, ServiceError> {
        self.spend_own_message(MessageKind::Leave, user.email.key(), context).await?;
        let new_email = new_email.as_typed().to_owned();
        let mut mailing =
            self.mailing(CodePurpose::ChangeOld, Mailbox::of(user), |code| Notice::LeaveEmail { code, new_email });
        user.email.key().clone_into(&mut mailing.code.email_key);
        mailing.code.change = Some(change);
        Ok(mailing)
    }
}
