//! Whether an access token is good: signed by the issuer, of the right type, for us, at this moment, and not revoked.

use std::time::Duration;

use super::{
    claims::{self, Payload},
    revocation_set::RevocationSet,
    wrapping::{Signed, Wrapping},
};
use crate::{
    domain::{audience::Audience, claims::AccessClaims, time::Timestamp},
    jose::{
        KeySet,
        jws::{Unverified, VerifyError},
    },
};

/// What refresh tokens begin with. No JWS does: the first letters of one encode `{`.
pub const REFRESH_TOKEN_PREFIX: &str = "vrt_";

/// How far in the future `iat` may lie. It says nothing about whether a token is good, so it need not be strict: it must
/// not refuse what a node whose clock is a little ahead has just signed, not even with a leeway of zero. Not below
/// [`Leeway::MAX`].
const ISSUE_TIME_SKEW: Duration = Duration::from_mins(1);

/// Why a token is not active: the same list as `InactiveReason` in `token.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Inactive {
    /// Not a well-formed signed token of the accepted kind, or a required claim is missing or malformed.
    #[error("not a well-formed access token")]
    Malformed,
    /// A token of another type: a refresh token or an ID token where an access token belongs.
    #[error("a token of another type")]
    WrongType,
    /// Signed by a key that this issuer does not (or no longer) publish.
    #[error("signed by an unknown key")]
    UnknownKey,
    /// The signature does not match.
    #[error("the signature does not match")]
    BadSignature,
    /// Issued by somebody else.
    #[error("issued by somebody else")]
    WrongIssuer,
    /// Not meant for any audience asked for.
    #[error("meant for another audience")]
    WrongAudience,
    /// Its expiry has passed.
    #[error("expired")]
    Expired,
    /// It is not valid yet.
    #[error("not valid yet")]
    NotYetValid,
    /// It, its session, its user's sessions or its key has been revoked.
    #[error("revoked")]
    Revoked,
    /// A plain token where only an encrypted one will do.
    #[error("not encrypted, where it must be")]
    NotEncrypted,
    /// Encrypted for a key that is not held here, or tampered with: which of these is not said.
    #[error("encrypted, and cannot be decrypted here")]
    Undecryptable,
}

/// Why a verifier cannot be built so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The issuer is empty.
    #[error("a verifier needs the issuer it trusts")]
    NoIssuer,
    /// The list of audiences is empty. Not to check the audience is said by [`AudiencePolicy::NotChecked`].
    #[error("a verifier needs at least one audience to accept")]
    NoAudience,
    /// The leeway is above [`Leeway::MAX`].
    #[error("the leeway must be at most 60 seconds")]
    LeewayTooLong,
}

/// Whom a token must be meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudiencePolicy {
    /// At least one of these (RFC 7519 §4.1.3).
    AnyOf(Vec<Audience>),
    /// Anybody: for the `Verify` RPC, whose callers name their audience in each call or go without.
    ///
    /// A service that accepts tokens for itself must not use it: any other service could replay what its users sent it.
    NotChecked,
}

/// How much later than it says a token may still be used, for clocks that disagree: at most [`Self::MAX`].
///
/// None by default, and none is right where the issuer itself checks. A verifier elsewhere that cannot rely on its clock
/// may take some; the revocation list is kept for longer than [`Self::MAX`] past a token's expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leeway(Duration);

impl Leeway {
    /// The most there can be (RFC 7519 §4.1.4: "a few minutes"). Revocations outlive the longest token by 2 min.
    pub const MAX: Self = Self(Duration::from_mins(1));
    /// None.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The leeway.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<Duration> for Leeway {
    type Error = PolicyError;

    fn try_from(duration: Duration) -> Result<Self, PolicyError> {
        if duration <= Self::MAX.0 { Ok(Self(duration)) } else { Err(PolicyError::LeewayTooLong) }
    }
}

/// What makes an access token acceptable. Cannot be built without an issuer and a word about the audience.
#[derive(Clone, Debug)]
pub struct TokenVerifier {
    issuer: String,
    audience: AudiencePolicy,
    leeway: Leeway,
    wrapping: Wrapping,
}

/// An access token that the issuer signed. Whether it is good at this moment is for [`TokenVerifier::admit`] to say.
///
/// This is the part of a check that costs a signature and does not change while the key set stays the same, so it may be
/// kept; [`TokenVerifier::admit`] must be asked each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentic {
    claims: AccessClaims,
    not_before: Option<Timestamp>,
    kid: String,
}

impl Authentic {
    /// What the token says.
    pub const fn claims(&self) -> &AccessClaims {
        &self.claims
    }

    /// What the token says, without the rest.
    pub fn into_claims(self) -> AccessClaims {
        self.claims
    }

    /// The key it was signed with.
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl TokenVerifier {
    /// A verifier of tokens whose `iss` is exactly `issuer`, for this audience, with no leeway.
    pub fn new(issuer: String, audience: AudiencePolicy) -> Result<Self, PolicyError> {
        if issuer.is_empty() {
            return Err(PolicyError::NoIssuer);
        }
        if matches!(&audience, AudiencePolicy::AnyOf(list) if list.is_empty()) {
            return Err(PolicyError::NoAudience);
        }
        Ok(Self { issuer, audience, leeway: Leeway::ZERO, wrapping: Wrapping::Signed })
    }

    /// The same with this leeway on `exp` and `nbf`.
    #[must_use]
    pub fn with_leeway(self, leeway: Leeway) -> Self {
        Self { leeway, ..self }
    }

    /// The same for tokens that come like this, instead of signed only.
    #[must_use]
    pub fn with_wrapping(self, wrapping: Wrapping) -> Self {
        Self { wrapping, ..self }
    }

    /// The leeway on `exp` and `nbf`.
    pub const fn leeway(&self) -> Leeway {
        self.leeway
    }

    /// Checks a token against the issuer's keys, what is revoked and the present moment.
    ///
    /// The keys must be this issuer's own: that is what binds `iss` to them (RFC 8725 §3.8).
    pub fn verify(
        &self,
        token: &str,
        keys: &KeySet,
        revocations: &RevocationSet,
        now: Timestamp,
    ) -> Result<AccessClaims, Inactive> {
        self.verify_for(&[], token, keys, revocations, now)
    }

    /// The same for one call's own audiences: the token must be for one of `audience` as well, unless that is empty.
    ///
    /// This can only narrow what the verifier accepts.
    pub fn verify_for(
        &self,
        audience: &[Audience],
        token: &str,
        keys: &KeySet,
        revocations: &RevocationSet,
        now: Timestamp,
    ) -> Result<AccessClaims, Inactive> {
        let token = self.authenticate_unless_revoked(token, keys, revocations)?;
        self.admit(&token, audience, revocations, now)?;
        Ok(token.claims)
    }

    pub(super) fn authenticate_unless_revoked(
        &self,
        token: &str,
        keys: &KeySet,
        revocations: &RevocationSet,
    ) -> Result<Authentic, Inactive> {
        let signed = self.open(token)?;
        self.authenticate_opened(&signed, keys).map_err(|reason| match reason {
            // A revoked key leaves the set. To be told from one that is not in it yet, which is worth a look-up.
            Inactive::UnknownKey if names_revoked_key(signed.token(), revocations) => Inactive::Revoked,
            other => other,
        })
    }

    /// The first half of a check: encryption, type, signature, claims and issuer, all that does not change with time.
    pub fn authenticate(&self, token: &str, keys: &KeySet) -> Result<Authentic, Inactive> {
        self.authenticate_opened(&self.open(token)?, keys)
    }

    fn open<'a>(&self, token: &'a str) -> Result<Signed<'a>, Inactive> {
        if token.starts_with(REFRESH_TOKEN_PREFIX) { Err(Inactive::WrongType) } else { self.wrapping.open(token) }
    }

    /// Decrypted first and verified then (RFC 7519 §7.2): what is inside is trusted no more than what comes plain.
    fn authenticate_opened(&self, signed: &Signed<'_>, keys: &KeySet) -> Result<Authentic, Inactive> {
        let unverified = Unverified::parse(signed.token()).map_err(|_| Inactive::Malformed)?;
        if !unverified.typ().is_some_and(is_access_token) {
            return Err(Inactive::WrongType);
        }
        self.wrapping.admits(signed)?;
        let verified = unverified.verify(keys).map_err(|error| match error {
            VerifyError::UnknownKey => Inactive::UnknownKey,
            VerifyError::WrongAlgorithm | VerifyError::BadSignature => Inactive::BadSignature,
        })?;
        let Payload { claims, not_before } = claims::parse(verified.payload()).map_err(|_| Inactive::Malformed)?;
        if claims.issuer != self.issuer {
            return Err(Inactive::WrongIssuer);
        }
        self.wrapping.suits(signed, &claims)?;
        Ok(Authentic { claims, not_before, kid: verified.into_kid() })
    }

    /// The second half of a check: audience, time and revocation. Takes well under a microsecond.
    pub fn admit(
        &self,
        token: &Authentic,
        audience: &[Audience],
        revocations: &RevocationSet,
        now: Timestamp,
    ) -> Result<(), Inactive> {
        let claims = &token.claims;
        let meant_for = |wanted: &[Audience]| claims.audience.iter().any(|a| wanted.contains(a));
        let wanted = match &self.audience {
            AudiencePolicy::AnyOf(own) => meant_for(own),
            AudiencePolicy::NotChecked => true,
        };
        if !wanted || !(audience.is_empty() || meant_for(audience)) {
            return Err(Inactive::WrongAudience);
        }
        let leeway = self.leeway.get();
        if now >= claims.expire_time.plus(leeway) {
            return Err(Inactive::Expired);
        }
        if token.not_before.is_some_and(|nbf| now.plus(leeway) < nbf) || now.plus(ISSUE_TIME_SKEW) < claims.issue_time {
            return Err(Inactive::NotYetValid);
        }
        if revocations.is_revoked(claims, &token.kid) {
            return Err(Inactive::Revoked);
        }
        Ok(())
    }
}

fn names_revoked_key(token: &str, revocations: &RevocationSet) -> bool {
    Unverified::parse(token).is_ok_and(|token| revocations.is_key_revoked(token.kid()))
}

/// RFC 9068 §4; a media type is compared without regard to case, and `application/` may be left out (RFC 7515 §4.1.9).
fn is_access_token(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}

#[cfg(test)]
mod tests;
