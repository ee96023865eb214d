//! `Login`: checks a password, then begins a session or asks for the second factor.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tracing::Instrument as _;

use super::{
    RequestContext, Service, ServiceError,
    begin_session::{Pending, SignInRequest, SignInStep},
    throttle::{Undecided, normalised},
};
use crate::{
    crypto::{Purpose, Verdict, monotonic_now},
    domain::{
        audit::{Act, Actor, AuditEvent, LoginFailure},
        challenge::FirstProof,
        id::UserId,
        password::Password,
        user::{Credentials, Identifier, PhcString, UserState},
    },
    telemetry::LoginOutcome,
};

/// How often a sign-in starts over because the account changed while its password was checked.
const TRIES: u32 = 2;

/// A sign-in by password.
#[derive(Clone)]
pub struct LoginCommand {
    /// What the caller wants.
    pub wanted: SignInRequest,
    /// The password.
    pub password: Password,
}

/// A password that was the right one.
struct Checked {
    user: UserId,
    hash: PhcString,
    outdated: bool,
    second_factor: bool,
}

impl Service {
    /// Checks a password, and begins a session or asks for the second factor. Unknown, suspended and passwordless accounts and
    /// wrong passwords cost the same hash and get the same answer.
    pub async fn login(
        self: &Arc<Self>,
        command: LoginCommand,
        context: &RequestContext,
    ) -> Result<SignInStep, ServiceError> {
        let result = self.try_login(command, context).await;
        self.metrics.login(LoginOutcome::of(&result));
        result
    }

    async fn try_login(
        self: &Arc<Self>,
        command: LoginCommand,
        context: &RequestContext,
    ) -> Result<SignInStep, ServiceError> {
        for _ in 0..TRIES {
            let (pending, checked, attempt) = self.check_password(&command, context).await?;
            let step = if checked.second_factor {
                self.challenge(&pending, &checked, context).await
            } else {
                self.begin(&pending, &checked, context).await
            };
            match step {
                // A sign-in that is complete has been counted as such.
                Ok(Some(SignInStep::SignedIn(_))) => attempt.decided(),
                // Right so far, or nobody knows.
                Ok(Some(SignInStep::Challenged(_)) | None) | Err(_) => attempt.forgive().await,
            }
            if let Some(step) = step? {
                if checked.outdated {
                    tokio::spawn(Arc::clone(self).rehash(command.password, checked, context.clone()).in_current_span());
                }
                return Ok(step);
            }
        }
        Err(ServiceError::Conflict)
    }

    /// `None`: the account has changed since its password was checked.
    async fn begin(
        self: &Arc<Self>,
        pending: &Pending,
        checked: &Checked,
        context: &RequestContext,
    ) -> Result<Option<SignInStep>, ServiceError> {
        let owner = self.store.get_user(checked.user).await?;
        let prepared = self.prepare_session(pending, checked.user, owner.as_ref(), None, Some(checked.hash.clone()))?;
        let (session, new_secret) = prepared.into_parts();
        let event = AuditEvent {
            actor: Actor::User(checked.user),
            subject: Some(checked.user.into()),
            act: Act::LoggedIn { session: session.id },
            origin: context.origin.clone(),
        };
        let Some(begun) = self.store.create_session(session, self.policy.sessions, event).await? else {
            return Ok(None);
        };
        Ok(Some(SignInStep::SignedIn(Box::new(self.signed_in(pending, &begun, new_secret).await?))))
    }

    /// The same for what is to be proved on top of the password.
    async fn challenge(
        &self,
        pending: &Pending,
        checked: &Checked,
        context: &RequestContext,
    ) -> Result<Option<SignInStep>, ServiceError> {
        let (handle, new) = self.second_factor(Some(checked.user), pending, Some(checked.hash.clone()));
        let event = AuditEvent {
            actor: Actor::Anonymous,
            subject: Some(checked.user.into()),
            act: Act::ChallengeIssued,
            origin: context.origin.clone(),
        };
        let opened = self.store.open_challenge(new, None, event).await?;
        Ok(opened.map(|open| SignInStep::Challenged(handle.into_second_factor(open))))
    }

    async fn check_password(
        self: &Arc<Self>,
        command: &LoginCommand,
        context: &RequestContext,
    ) -> Result<(Pending, Checked, Undecided), ServiceError> {
        // In a storm of logins most are sent away. None of them shall cost the database anything. Whoever has failed too often takes
        // nobody's place; a known device, which other limits apply to, is found later.
        if command.wanted.device_secret.is_none() {
            self.admit_address(context)?;
        }
        let place = self.passwords.keep_place(&command.password, self.hash_deadline(context))?;
        let credentials = match Identifier::parse(&command.wanted.identifier) {
            Some(identifier) => self.store.find_credentials(identifier).await?,
            None => None,
        };
        let stored = credentials.as_ref().and_then(|c| c.password_hash.clone());
        let user = credentials.as_ref().map(|c| c.user);
        let mut pending = self.pending(command.wanted.clone(), user, FirstProof::Password).await?;
        // A refusal is counted by the metrics only: an attacker must not write a row with each guess that was not looked at.
        self.admit_pending(&mut pending, None, context).await?;
        let attempt = self.dear_undecided(pending.target(None), context);
        let verdict =
            match self.verify_password(Some(place), user, command.password.clone(), stored.clone(), context).await {
                Ok(verdict) => verdict,
                Err(error) => {
                    attempt.forgive().await;
                    return Err(error);
                }
            };
        let cause = match (&credentials, stored, verdict) {
            (None, ..) => LoginFailure::UnknownIdentifier,
            (Some(found), Some(hash), Verdict::Match { outdated }) => match found.state {
                UserState::Active if found.email_verified || !self.policy.verified_email_required => {
                    let checked = Checked { user: found.user, hash, outdated, second_factor: found.totp_enrolled };
                    return Ok((pending, checked, attempt));
                }
                UserState::Active => LoginFailure::EmailNotVerified,
                UserState::Suspended => LoginFailure::Suspended,
            },
            (Some(_), ..) => LoginFailure::WrongPassword,
        };
        attempt.decided();
        let event = self.failure(cause, credentials.as_ref(), command, context);
        let (this, context) = (Arc::clone(self), context.clone());
        // In a task of its own: whoever hangs up when the answer is late must not escape the count.
        let noting = async move {
            this.record_failure(event).await?;
            if cause == LoginFailure::EmailNotVerified {
                this.forgive(pending.target(None)).await;
                return Err(ServiceError::EmailNotVerified);
            }
            // Also of somebody suspended who knows the password: that it is right must not show here either.
            this.note_failure(pending.target(None), &context).await?;
            Err(ServiceError::InvalidCredentials)
        };
        tokio::spawn(noting.in_current_span()).await.map_err(ServiceError::internal).flatten()
    }

    fn failure(
        &self,
        cause: LoginFailure,
        credentials: Option<&Credentials>,
        command: &LoginCommand,
        context: &RequestContext,
    ) -> AuditEvent {
        let identifier_hash = credentials.is_none().then(|| self.unknown_hash(&command.wanted.identifier));
        AuditEvent {
            actor: Actor::Anonymous,
            subject: credentials.map(|c| c.user.into()),
            act: Act::LoginFailed { cause, identifier_hash },
            origin: context.origin.clone(),
        }
    }

    /// What the audit trail keeps of an identifier that no account has: enough to see that it is the same one again. Of 128 bits no two
    /// are the same by chance.
    fn unknown_hash(&self, typed: &str) -> String {
        URL_SAFE_NO_PAD.encode(&self.hasher.hash(Purpose::UnknownIdentifier, b"", normalised(typed).as_bytes())[..16])
    }

    /// Renews a hash that was made otherwise than today's, perhaps by others, after its owner has been answered.
    async fn rehash(self: Arc<Self>, password: Password, checked: Checked, context: RequestContext) {
        let deadline = monotonic_now() + self.policy.hash_wait;
        let new = match self.passwords.hash(password, self.random(), deadline).await {
            Ok(new) => new,
            Err(error) => return tracing::debug!(%error, "password not rehashed this time"),
        };
        let Checked { user, hash: old, outdated: _, second_factor: _ } = checked;
        let event = AuditEvent {
            actor: Actor::System,
            subject: Some(user.into()),
            act: Act::PasswordRehashed,
            origin: context.origin,
        };
        if let Err(error) = self.store.rehash_password(user, old, new, event).await {
            tracing::warn!(%error, "password not rehashed this time");
        }
    }
}
