//! What an operator has decided, as far as the use cases need it.

use std::{collections::BTreeSet, sync::OnceLock, time::Duration};

use super::Encryption;
use crate::domain::{
    audience::{Audience, Scope},
    challenge::CodeChannel,
    claim_rules::{ClaimRules, SaidMark},
    field::FieldViolation,
    session::{SessionLimit, SessionPolicy},
    signing_key::{Algorithm, RotationPolicy},
    throttle::ThrottleLimits,
};

/// The operator's decisions.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a decision of its own, taken apart from the others")]
pub struct Policy {
    /// `iss`.
    pub issuer: String,
    /// Where `jwks_uri` points: the public base URL of the HTTP port, without a trailing slash. Where
    /// the operator named none it is the bound address, set once that is known.
    pub public_url: OnceLock<String>,
    /// The algorithm of new signing keys.
    pub algorithm: Algorithm,
    /// How long access tokens live. Whole seconds.
    pub access_ttl: Duration,
    /// The audiences that exist.
    pub audiences: Vec<Audience>,
    /// The audience of a sign-in that names none.
    pub default_audience: Vec<Audience>,
    /// Which audiences' tokens are encrypted.
    pub encryption: Encryption,
    /// The scopes that exist.
    pub scopes: Scope,
    /// Whether tokens say what the roles allow.
    pub token_permissions: bool,
    /// What tokens say beside.
    pub claims: ClaimRules,
    /// The attributes that follow into tokens by that.
    pub said_attributes: BTreeSet<String>,
    /// Their mark.
    pub said_mark: SaidMark,
    /// `client_id` of a sign-in with a password.
    pub client_id: String,
    /// How long sessions live.
    pub sessions: SessionPolicy,
    /// How many of them a user may have.
    pub session_limit: SessionLimit,
    /// How long the previous refresh token is answered again.
    pub redelivery_window: Duration,
    /// How long hot records may speak for their rows while the database is away; zero: not at all.
    pub database_grace: Duration,
    /// How often keys change.
    pub rotation: RotationPolicy,
    /// Whether anybody may register.
    pub registration_open: bool,
    /// Whether an account begins to exist only when its address is verified, and nobody signs in to one whose address is not.
    pub verified_email_required: bool,
    /// How codes to sign in with are sent.
    pub login_codes: Vec<CodeChannel>,
    /// For how long a sign-in counts as recent.
    pub recent_authentication: Duration,
    /// What authenticator apps show accounts under. Without a colon.
    pub totp_issuer: String,
    /// Whether e-mail is sent.
    pub sends_email: bool,
    /// Whether SMS are sent.
    pub sends_sms: bool,
    /// Longest a call waits for a password to be hashed.
    pub hash_wait: Duration,
    /// How guesses and messages are limited.
    pub throttle: ThrottleLimits,
    /// How long audit events are kept; none: for ever.
    pub audit_retention: Option<Duration>,
    /// How old the revocation list may be before `Verify` refuses to answer.
    pub max_staleness: Duration,
}

impl Policy {
    /// The audience asked for, or the default. Unknown names are refused, and one whose tokens are encrypted beside others.
    pub fn audience(&self, asked: Vec<String>) -> Result<Vec<Audience>, FieldViolation> {
        if asked.is_empty() {
            return Ok(self.default_audience.clone());
        }
        let mut audience = Vec::new();
        for name in asked {
            match self.audiences.iter().find(|known| known.as_str() == name) {
                Some(known) if !audience.contains(known) => audience.push(known.clone()),
                Some(_) => {}
                None => {
                    let known: Vec<_> = self.audiences.iter().map(Audience::as_str).collect();
                    let text = format!("names an audience this server does not know: use {}", known.join(", "));
                    return Err(FieldViolation::new("audience", text));
                }
            }
        }
        match audience.iter().find(|audience| self.encryption.covers(audience)) {
            Some(encrypted) if audience.len() > 1 => {
                let text =
                    format!("names {encrypted} beside others, but its tokens are encrypted for it: ask for it alone");
                Err(FieldViolation::new("audience", text))
            }
            _ => Ok(audience),
        }
    }

    /// The scope asked for; unknown scopes are refused.
    pub fn scope(&self, asked: String) -> Result<Scope, FieldViolation> {
        let scope = Scope::try_from(asked).map_err(|e| FieldViolation::new("scope", e))?;
        if scope.tokens().all(|token| self.scopes.tokens().any(|known| known == token)) {
            return Ok(scope);
        }
        let text = if self.scopes.is_empty() {
            "names a scope, and this server knows none: leave it empty".to_owned()
        } else {
            format!("names a scope this server does not know: use {}", self.scopes)
        };
        Err(FieldViolation::new("scope", text))
    }
}
