//! Codes in mails: what each is for and for how long it is good.

use std::time::Duration;

/// What is stored of a code: a keyed hash of it.
pub type CodeHash = [u8; 32];

/// What a mailed code does when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodePurpose {
    /// Verifies the address of an account.
    Verify,
    /// Makes a waiting registration an account.
    Register,
    /// Consents, at the old address, to a change of address.
    ChangeOld,
    /// Proves, at the new address, a change of address.
    ChangeNew,
    /// Sets a new password.
    Reset,
}

impl CodePurpose {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Register => "register",
            Self::ChangeOld => "change_old",
            Self::ChangeNew => "change_new",
            Self::Reset => "reset",
        }
    }

    /// From the word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Verify, Self::Register, Self::ChangeOld, Self::ChangeNew, Self::Reset]
            .into_iter()
            .find(|purpose| purpose.as_str() == word)
    }

    /// What its codes begin with. It goes into the hash as well: a code is not even found by the RPC of the other kind.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Verify | Self::Register | Self::ChangeOld | Self::ChangeNew => "vev_",
            Self::Reset => "vpr_",
        }
    }

    /// For how long its codes are good. A new password is more than a proof, so its code lies about for less long.
    pub const fn lifetime(self) -> Duration {
        match self {
            Self::Verify | Self::Register | Self::ChangeOld | Self::ChangeNew => Duration::from_hours(24),
            Self::Reset => Duration::from_mins(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_has_a_word_of_its_own() {
        for purpose in [
            CodePurpose::Verify,
            CodePurpose::Register,
            CodePurpose::ChangeOld,
            CodePurpose::ChangeNew,
            CodePurpose::Reset,
        ] {
            assert_eq!(CodePurpose::parse(purpose.as_str()), Some(purpose));
        }
        assert_eq!(CodePurpose::parse("login"), None);
        assert_ne!(CodePurpose::Reset.prefix(), CodePurpose::Verify.prefix());
    }
}
