//! The life of an account: how it begins, is proved, changes and ends.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Change, CreateUser, Erased, NewMessage, NewUser, ThrottleKey};
use crate::{
    domain::{
        audit::{AuditEvent, Origin},
        email::Email,
        id::{SessionId, UserId},
        locale::Locale,
        mailed_code::{CodeHash, CodePurpose},
        phone::PhoneNumber,
        time::Timestamp,
        user::{PhcString, User, Username},
        users::UserChange,
    },
    store::StoreError,
};

/// A code to be mailed. One that leads to neither account nor registration is a row like any other.
#[derive(Clone, Debug)]
pub struct NewMailedCode {
    /// A keyed hash of it.
    pub hash: CodeHash,
    /// What it does.
    pub purpose: CodePurpose,
    /// The account that it is for.
    pub user: Option<UserId>,
    /// The registration that it is for, by the id of the account to be.
    pub registration: Option<UserId>,
    /// The change of address that it is for.
    pub change: Option<Uuid>,
    /// The account's epoch.
    pub epoch: i64,
    /// The key of the address that it is sent to.
    pub email_key: String,
    /// When it is no longer good.
    pub expire_time: Timestamp,
}

/// A code on its way.
#[derive(Clone, Debug)]
pub struct Mailing {
    /// The code.
    pub code: NewMailedCode,
    /// The message that brings it; perhaps to nobody.
    pub message: NewMessage,
}

/// A registration that waits for its address to be verified.
#[derive(Clone, Debug)]
pub struct NewRegistration {
    /// The account that it is to be.
    pub new: NewUser,
    /// When it is forgotten.
    pub expire_time: Timestamp,
    /// The code that makes it an account, or one that does nothing.
    pub mailing: Mailing,
    /// What happened.
    pub event: AuditEvent,
}

/// Whom a registration that waits is to be mailed at.
#[derive(Clone, Debug)]
pub struct WaitingRegistration {
    /// The id of the account to be.
    pub id: UserId,
    /// The address.
    pub email: Email,
    /// The language of messages.
    pub locale: Option<Locale>,
}

/// A mailed code as it stands, whether or not it is good.
#[derive(Clone, Debug)]
pub struct MailedCode {
    /// What it does.
    pub purpose: CodePurpose,
    /// The account that it is for, as it is now.
    pub user: Option<User>,
    /// The epoch that the account must still have.
    pub epoch: i64,
    /// The key of the address that it was sent to.
    pub email_key: String,
    /// When it is no longer good.
    pub expire_time: Timestamp,
}

/// A code that came back from a mailbox.
#[derive(Clone, Debug)]
pub struct EmailProof {
    /// A keyed hash of it.
    pub code: CodeHash,
    /// What the old address is told if the code completes a change of address.
    pub news: Option<NewMessage>,
    /// From where, for the audit trail.
    pub origin: Origin,
}

/// What a code did that came back from a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailOutcome {
    /// Nothing: it was not good.
    Refused,
    /// The account's address is verified now.
    Verified,
    /// The registration is an account now.
    Registered,
    /// One of two addresses is confirmed.
    AwaitingOther,
    /// The account has another address now.
    Changed,
    /// Nothing but to end the registration: another account has its address.
    EmailTaken,
    /// The same for its user name.
    UsernameTaken,
}

/// A new password that a mailed code pays for.
#[derive(Clone, Debug)]
pub struct PasswordReset {
    /// A keyed hash of the code.
    pub code: CodeHash,
    /// The hash of the new password.
    pub password: PhcString,
    /// What the failures are counted by that are forgotten.
    pub forgiven: Vec<ThrottleKey>,
    /// What the owner is told.
    pub news: Option<NewMessage>,
    /// From where, for the audit trail.
    pub origin: Origin,
}

/// A change of address that is asked for.
#[derive(Clone, Debug)]
pub struct NewEmailChange {
    /// Its id.
    pub id: Uuid,
    /// The account as it was read.
    pub user: User,
    /// The session that asks.
    pub session: SessionId,
    /// The address to be.
    pub new_email: Email,
    /// To the old address, if it has a say.
    pub old: Option<Mailing>,
    /// To the new one.
    pub new: Mailing,
    /// When it is forgotten.
    pub expire_time: Timestamp,
    /// What happened.
    pub event: AuditEvent,
}

/// A phone number to be verified.
#[derive(Clone, Debug)]
pub struct NewPhoneChange {
    /// A keyed hash of what it is called by.
    pub handle: CodeHash,
    /// The account as it was read.
    pub user: User,
    /// The session that asks.
    pub session: SessionId,
    /// The number to be.
    pub number: PhoneNumber,
    /// A keyed hash of the code that is sent there.
    pub code: CodeHash,
    /// The message that brings it.
    pub message: NewMessage,
    /// When it is no longer good.
    pub expire_time: Timestamp,
    /// From where, for the audit trail.
    pub origin: Origin,
}

/// A code that came back from a phone.
#[derive(Clone, Debug)]
pub struct PhoneProof {
    /// A keyed hash of what the verification is called by.
    pub handle: CodeHash,
    /// Who brings it.
    pub user: UserId,
    /// In which session.
    pub session: SessionId,
    /// A keyed hash of the code.
    pub code: CodeHash,
    /// What the owner is told.
    pub news: Option<NewMessage>,
    /// From where, for the audit trail.
    pub origin: Origin,
}

/// What a code did that came back from a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneOutcome {
    /// The account has the number now.
    Changed,
    /// It is another one; the failure was counted.
    WrongCode,
    /// There is no such verification (any more).
    Gone,
}

/// What people do with their own accounts. Each verb locks what it decides on, in the transaction of its effect, so that of
/// parallel calls with one code exactly one wins. Those that name a session want it alive at that moment, and refuse with
/// [`Refused::NoUser`](crate::store::Refused::NoUser) or [`Refused::NoSession`](crate::store::Refused::NoSession).
#[async_trait]
pub trait PeopleStore: Send + Sync + 'static {
    /// Creates an account, and mails a code to verify its address, if there is one.
    async fn register_user(
        &self,
        new: NewUser,
        mailing: Option<Mailing>,
        event: AuditEvent,
    ) -> Result<CreateUser, StoreError>;

    /// Lets a registration wait. Never [`CreateUser::EmailTaken`]: the caller must not be told.
    async fn await_verification(&self, registration: NewRegistration) -> Result<CreateUser, StoreError>;

    /// Whether an account or a registration that waits has this user name at this moment.
    async fn is_username_taken(&self, name: Username) -> Result<bool, StoreError>;

    /// The newest registration that waits for an address to be verified.
    async fn find_registration(&self, email: Email) -> Result<Option<WaitingRegistration>, StoreError>;

    /// Mails a code; of those for the same account and purpose the newest few stay good.
    async fn send_code(&self, mailing: Mailing, event: AuditEvent) -> Result<(), StoreError>;

    /// Looks at a mailed code without using it.
    async fn find_code(&self, code: CodeHash) -> Result<Option<MailedCode>, StoreError>;

    /// Uses a code that confirms an address. One that is not good is used up and recorded.
    async fn verify_email(&self, proof: EmailProof) -> Result<EmailOutcome, StoreError>;

    /// Uses a code to set a new password: ends all sessions, forgets devices, failures and everything that was sent before, and takes the
    /// address as verified; if it was not before, a phone number goes, too. Whether the code was good; one that is not is used up
    /// and recorded.
    async fn reset_password(&self, reset: PasswordReset) -> Result<bool, StoreError>;

    /// Begins a change of address in place of one that was begun before.
    async fn begin_email_change(&self, change: NewEmailChange) -> Result<Change, StoreError>;

    /// Changes what is known of a user as its owner, if its revision is the one expected.
    async fn update_account(
        &self,
        user: UserId,
        session: SessionId,
        expected: Option<i64>,
        change: UserChange,
        origin: Origin,
    ) -> Result<User, StoreError>;

    /// Deletes an account as its owner, unless it is the last administrator's, with all that is kept of the user; the farewell
    /// outlives it.
    async fn delete_account(
        &self,
        user: UserId,
        session: SessionId,
        farewell: Option<NewMessage>,
        origin: Origin,
    ) -> Result<Erased, StoreError>;

    /// Begins a change of phone number in place of one that was begun before.
    async fn begin_phone_change(&self, change: NewPhoneChange) -> Result<Change, StoreError>;

    /// Uses a code that confirms a phone number.
    async fn verify_phone(&self, proof: PhoneProof) -> Result<PhoneOutcome, StoreError>;

    /// Removes the phone number, and what was begun to change it. An account without one leaves no trace.
    async fn remove_phone(
        &self,
        user: UserId,
        session: SessionId,
        news: Option<NewMessage>,
        origin: Origin,
    ) -> Result<(), StoreError>;

    /// Deletes registrations, changes and codes that have expired. How many.
    async fn purge_people(&self) -> Result<u64, StoreError>;
}
