//! Sign-ins in more than one step: what proves what.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a challenge can be answered. No code that is typed in is good for longer (NIST SP 800-63B-4 section 3.1.3.2: at most 10
/// minutes).
pub const CHALLENGE_LIFE: Duration = Duration::from_mins(10);

/// How often a challenge may be answered wrongly; after that it is good for nothing. Of eight digits that is five guesses at a hundred
/// million codes.
pub const MAX_FAILURES: i64 = 5;

/// What a challenge can be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeFactor {
    /// A code of an authenticator app.
    Totp,
    /// One of the recovery codes.
    RecoveryCode,
    /// The code that was sent.
    OneTimeCode,
}

/// How a code travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeChannel {
    /// To the e-mail address.
    Email,
    /// By SMS.
    Sms,
}

impl CodeChannel {
    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }
}

/// What a sign-in begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstProof {
    /// The password.
    Password,
    /// A code that was mailed.
    MailedCode,
    /// A code that was sent by SMS.
    SmsCode,
}

/// What comes on top of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondProof {
    /// A code of the authenticator app.
    Totp,
    /// A recovery code.
    RecoveryCode,
}

/// `amr` (RFC 8176) and `acr` of a sign-in with these proofs. Only a password and something one has reach NIST's AAL2: a code
/// that was sent is not bound to anything that its owner holds.
pub fn assurance(first: FirstProof, second: Option<SecondProof>) -> (Vec<String>, String) {
    let mut methods = vec![match first {
        FirstProof::Password => "pwd",
        FirstProof::MailedCode => "otp",
        FirstProof::SmsCode => "sms",
    }];
    match second {
        Some(SecondProof::Totp) => methods.extend(["otp", "mfa"]),
        Some(SecondProof::RecoveryCode) => methods.push("mfa"),
        None => {}
    }
    methods.dedup();
    let reached = if first == FirstProof::Password && second.is_some() { "aal2" } else { "aal1" };
    (methods.into_iter().map(str::to_owned).collect(), reached.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_sign_in_says_what_it_was() {
        use FirstProof::{MailedCode, Password, SmsCode};
        let said = |first, second| {
            let (amr, acr) = assurance(first, second);
            format!("{} {acr}", amr.join("+"))
        };
        let (totp, recovery) = (Some(SecondProof::Totp), Some(SecondProof::RecoveryCode));
        assert_eq!(said(Password, None), "pwd aal1");
        assert_eq!(said(Password, totp), "pwd+otp+mfa aal2");
        assert_eq!(said(Password, recovery), "pwd+mfa aal2");
        assert_eq!(said(MailedCode, None), "otp aal1");
        assert_eq!(said(MailedCode, totp), "otp+mfa aal1");
        assert_eq!(said(MailedCode, recovery), "otp+mfa aal1");
        assert_eq!(said(SmsCode, None), "sms aal1");
        assert_eq!(said(SmsCode, totp), "sms+otp+mfa aal1");
        assert_eq!(said(SmsCode, recovery), "sms+mfa aal1");
    }
}
