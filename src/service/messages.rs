//! Messages as the outbox takes them. They are sent after the commit of what causes them, by whichever node comes first.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Service;
use crate::{
    crypto::MessageSeal,
    domain::{
        email::Email,
        id::UserId,
        locale::Locale,
        notice::{Message, Notice, Recipient},
        phone::PhoneNumber,
        time::Timestamp,
        user::User,
    },
    store::port::NewMessage,
};

/// For how long it is of use to tell somebody what happened.
const NEWS: Duration = Duration::from_hours(48);

/// A message as it is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// As typed, and the key.
    email: Option<(String, String)>,
    phone: Option<String>,
    locale: Option<String>,
    notice: Notice,
}

impl Service {
    /// News for a user, by e-mail. `None` if none is sent: whoever wrote somebody else's address into an account of theirs
    /// shall not have us write there.
    pub(super) fn news(&self, user: &User, notice: Notice) -> Option<NewMessage> {
        user.email_verified_time?;
        self.news_of_proof(user, notice)
    }

    /// The same of what can be caused again and again by whoever gets in: out of a budget of its kind's own, so that it floods nobody, and
    /// so that neither who has codes sent nor who causes other news can keep it away.
    pub(super) fn budgeted_news(&self, user: &User, notice: Notice) -> Option<NewMessage> {
        let scope: &[u8] = match notice {
            Notice::NewDevice { .. } => b"news new device",
            Notice::RecoveryCodesReplaced => b"news recovery codes replaced",
            _ => b"news",
        };
        let news = self.news(user, notice)?;
        Some(NewMessage { budget: Some(self.news_budget(scope, user.email.key())), ..news })
    }

    /// News of what happens only if the address is proved to be the user's.
    pub(super) fn news_of_proof(&self, user: &User, notice: Notice) -> Option<NewMessage> {
        let to = Recipient::Email(user.email.clone());
        let expire_time = self.clock.now().plus(NEWS);
        self.policy.sends_email.then(|| self.message(Some(user.id), to, user.locale.clone(), notice, expire_time))
    }

    /// A message of use until `expire_time`. It goes with the account of `about`, if it is deleted before.
    pub(super) fn message(
        &self,
        about: Option<UserId>,
        to: Recipient,
        locale: Option<Locale>,
        notice: Notice,
        expire_time: Timestamp,
    ) -> NewMessage {
        let id = *UserId::new(self.clock.now(), &self.random()).as_uuid();
        let channel = to.channel();
        let (email, phone) = match to {
            Recipient::Email(email) => (Some((email.as_typed().to_owned(), email.key().to_owned())), None),
            Recipient::Sms(number) => (None, Some(number.as_str().to_owned())),
            Recipient::Nobody => (None, None),
        };
        let locale = locale.map(|locale| locale.as_str().to_owned());
        // Structs of texts and numbers always become JSON.
        let text =
            zeroize::Zeroizing::new(serde_json::to_vec(&Sealed { email, phone, locale, notice }).unwrap_or_default());
        let sealed = self.seal.seal(id, &text, &*self.entropy);
        NewMessage { id, channel, user: about, sealed, expire_time, budget: None }
    }

    /// The message of an outbox row.
    ///
    /// # Errors
    /// What is wrong with it, without its content.
    pub fn open_message(&self, id: Uuid, sealed: &[u8]) -> Result<Message, String> {
        open_message(&self.seal, id, sealed)
    }
}

/// The message of an outbox row.
///
/// # Errors
/// What is wrong with it, without its content.
pub fn open_message(seal: &MessageSeal, id: Uuid, sealed: &[u8]) -> Result<Message, String> {
    let text = seal.open(id, sealed).map_err(|error| error.to_string())?;
    let Sealed { email, phone, locale, notice } =
        serde_json::from_slice(&text).map_err(|_| "it is no message".to_owned())?;
    let to = match (email, phone) {
        (Some((typed, key)), _) => Recipient::Email(Email::stored(typed, key)),
        (None, Some(number)) => Recipient::Sms(PhoneNumber::stored(number)),
        (None, None) => Recipient::Nobody,
    };
    Ok(Message { to, locale: locale.map(Locale::stored), notice })
}
