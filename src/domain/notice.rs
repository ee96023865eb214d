//! Messages to people: what they are told, and with which code. How it is worded is `notify`'s.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{email::Email, locale::Locale, phone::PhoneNumber, time::Timestamp};

/// What somebody is told. Codes in it are secrets until they are used, so there is no `Debug` that shows them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notice {
    /// Confirm that the address is yours.
    VerifyEmail {
        /// Passed to `VerifyEmail`.
        code: String,
    },
    /// Somebody, perhaps you, wanted to register with an address that has an account.
    AlreadyRegistered,
    /// Set a new password.
    ResetPassword {
        /// Passed to `ResetPassword`.
        code: String,
    },
    /// Sign in.
    LoginCode {
        /// Passed to `CompleteChallenge`.
        code: String,
    },
    /// Confirm, from the old address, that it is to be replaced.
    LeaveEmail {
        /// Passed to `VerifyEmail`.
        code: String,
        /// The address that is to replace it.
        new_email: String,
    },
    /// Confirm that the new address is yours.
    AdoptEmail {
        /// Passed to `VerifyEmail`.
        code: String,
    },
    /// Confirm that the phone number is yours.
    VerifyPhone {
        /// Passed to `VerifyPhoneNumber`.
        code: String,
    },
    /// Somebody signed in on a device that was not known.
    NewDevice {
        /// The name of the device, as it calls itself.
        device: String,
        /// From which address.
        ip_address: String,
        /// When.
        time: Timestamp,
    },
    /// The password was changed.
    PasswordChanged,
    /// The e-mail address was changed; sent to the old one.
    EmailChanged,
    /// The phone number was changed or removed.
    PhoneChanged,
    /// The second factor was turned on.
    TotpEnrolled,
    /// The second factor was turned off.
    TotpRemoved,
    /// New recovery codes were made.
    RecoveryCodesReplaced,
    /// A recovery code was used to sign in.
    RecoveryCodeUsed {
        /// How many are left.
        left: u32,
    },
    /// The account was deleted.
    AccountDeleted,
    /// Nothing: what is sent where nobody is, so that it costs what a message does.
    Nothing,
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notice([redacted])")
    }
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// To an address.
    Email(Email),
    /// To a phone.
    Sms(PhoneNumber),
    /// To nobody.
    Nobody,
}

impl Recipient {
    /// How it travels: the word in the database.
    pub const fn channel(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Sms(_) => "sms",
            Self::Nobody => "none",
        }
    }
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// To whom.
    pub to: Recipient,
    /// In which language; none for the server's own.
    pub locale: Option<Locale>,
    /// What is said.
    pub notice: Notice,
}
