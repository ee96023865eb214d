//! `Login`: checks a password and begins a session.

use std::sync::Arc;

use tracing::Instrument as _;

use super::{IssuedTokens, RequestContext, Service, ServiceError};
use crate::{
    crypto::{Verdict, monotonic_now},
    domain::{
        audience::{Audience, Scope},
        audit::{Act, Actor, AuditEvent, LoginFailure},
        id::{SessionId, UserId},
        password::Password,
        session::{DeviceInfo, Grant},
        user::{Credentials, Identifier, PhcString, UserState},
    },
    store::port::NewSession,
    telemetry::LoginOutcome,
};

/// How often a sign-in starts over because the account changed while its password was checked.
const TRIES: u32 = 2;

/// A sign-in as it was asked for. Not `Debug`: people type passwords into the wrong field.
#[derive(Clone)]
pub struct LoginCommand {
    /// What was typed; perhaps nobody's.
    pub identifier: String,
    /// The password.
    pub password: Password,
    /// The device.
    pub device: DeviceInfo,
    /// Whom the tokens are for.
    pub audience: Vec<Audience>,
    /// What they allow.
    pub scope: Scope,
}

/// A password that was the right one.
struct Checked {
    user: UserId,
    hash: PhcString,
    outdated: bool,
}

impl Service {
    /// Signs a user in. Unknown, suspended and passwordless accounts and wrong passwords cost the same hash and get the same
    /// answer.
    pub async fn login(
        self: &Arc<Self>,
        command: LoginCommand,
        context: &RequestContext,
    ) -> Result<IssuedTokens, ServiceError> {
        let result = self.try_login(command, context).await;
        self.metrics.login(LoginOutcome::of(&result));
        result
    }

    async fn try_login(
        self: &Arc<Self>,
        command: LoginCommand,
        context: &RequestContext,
    ) -> Result<IssuedTokens, ServiceError> {
        for _ in 0..TRIES {
            let checked = self.check_password(&command, context).await?;
            let session = self.new_session(&command, &checked)?;
            let event = AuditEvent {
                actor: Actor::User(checked.user),
                subject: Some(checked.user.into()),
                act: Act::LoggedIn { session: session.id },
                origin: context.origin.clone(),
            };
            if let Some(live) = self.store.create_session(session, self.policy.sessions, event).await? {
                if checked.outdated {
                    tokio::spawn(Arc::clone(self).rehash(command.password, checked, context.clone()).in_current_span());
                }
                return self.issue(&live).await;
            }
        }
        Err(ServiceError::Conflict)
    }

    async fn check_password(&self, command: &LoginCommand, context: &RequestContext) -> Result<Checked, ServiceError> {
        // In a storm of logins most are sent away. None of them shall cost the database anything.
        self.passwords.check_room(self.hash_deadline(context))?;
        let credentials = match Identifier::parse(&command.identifier) {
            Some(identifier) => self.store.find_credentials(identifier).await?,
            None => None,
        };
        let stored = credentials.as_ref().and_then(|c| c.password_hash.clone());
        let user = credentials.as_ref().map(|c| c.user);
        let verdict = self.verify_password(user, command.password.clone(), stored.clone(), context).await?;
        let cause = match (&credentials, stored, verdict) {
            (None, ..) => LoginFailure::UnknownIdentifier,
            (Some(found), Some(hash), Verdict::Match { outdated }) => match found.state {
                UserState::Active => return Ok(Checked { user: found.user, hash, outdated }),
                UserState::Suspended => LoginFailure::Suspended,
            },
            (Some(_), ..) => LoginFailure::WrongPassword,
        };
        self.store.record(self.failure(cause, credentials.as_ref(), command, context)).await?;
        Err(ServiceError::InvalidCredentials)
    }

    fn failure(
        &self,
        cause: LoginFailure,
        credentials: Option<&Credentials>,
        command: &LoginCommand,
        context: &RequestContext,
    ) -> AuditEvent {
        let identifier_hash =
            credentials.is_none().then(|| self.identifiers.hash(&command.identifier.trim().to_lowercase()));
        AuditEvent {
            actor: Actor::Anonymous,
            subject: credentials.map(|c| c.user.into()),
            act: Act::LoginFailed { cause, identifier_hash },
            origin: context.origin.clone(),
        }
    }

    /// Renews a hash that was made otherwise than today's, perhaps by others, after its owner has been answered.
    async fn rehash(self: Arc<Self>, password: Password, checked: Checked, context: RequestContext) {
        let deadline = monotonic_now() + self.policy.hash_wait;
        let new = match self.passwords.hash(password, self.random(), deadline).await {
            Ok(new) => new,
            Err(error) => return tracing::debug!(%error, "password not rehashed this time"),
        };
        let Checked { user, hash: old, outdated: _ } = checked;
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

    fn new_session(&self, command: &LoginCommand, checked: &Checked) -> Result<NewSession, ServiceError> {
        let now = self.clock.now();
        Ok(NewSession {
            id: SessionId::new(now, &self.random()),
            grant: Grant {
                user: checked.user,
                epoch: 0,
                client_id: self.policy.client_id.clone(),
                audience: command.audience.clone(),
                scope: command.scope.clone(),
                auth_time: now,
                amr: vec!["pwd".to_owned()],
                acr: "aal1".to_owned(),
            },
            checked_hash: checked.hash.clone(),
            device: command.device.clone(),
            key_id: self.keys.refresh_key_in_force(now)?,
        })
    }
}
