//! `Login`: checks a password and begins a session.

use super::{IssuedTokens, RequestContext, Service, ServiceError};
use crate::{
    crypto::Verdict,
    domain::{
        audience::{Audience, Scope},
        audit::{Act, Actor, AuditEvent, LoginFailure},
        id::SessionId,
        password::Password,
        session::{DeviceInfo, Grant},
        user::{Credentials, Identifier, PhcString, UserState},
    },
    store::port::NewSession,
};

/// How often a sign-in starts over because the account changed while its password was checked.
const TRIES: u32 = 2;

/// A sign-in as it was asked for.
#[derive(Clone, Debug)]
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

impl Service {
    /// Signs a user in. Unknown, suspended and passwordless accounts and wrong passwords cost the same hash and get the same
    /// answer.
    pub async fn login(&self, command: LoginCommand, context: &RequestContext) -> Result<IssuedTokens, ServiceError> {
        for _ in 0..TRIES {
            let credentials = self.check_password(&command, context).await?;
            let session = self.new_session(&command, &credentials)?;
            let event = AuditEvent {
                actor: Actor::User(credentials.user),
                subject: Some(credentials.user),
                act: Act::LoggedIn { session: session.id },
                origin: context.origin.clone(),
            };
            if let Some(live) = self.store.create_session(session, self.policy.sessions, event).await? {
                return self.issue(&live);
            }
        }
        Err(ServiceError::InvalidCredentials)
    }

    async fn check_password(
        &self,
        command: &LoginCommand,
        context: &RequestContext,
    ) -> Result<Credentials, ServiceError> {
        let credentials = match Identifier::parse(&command.identifier) {
            Some(identifier) => self.store.find_credentials(identifier).await?,
            None => None,
        };
        let stored = credentials.as_ref().and_then(|c| c.password_hash.clone());
        let verdict =
            self.passwords.verify(command.password.clone(), stored.clone(), self.hash_deadline(context)).await?;
        let cause = match (&credentials, verdict) {
            (None, _) => LoginFailure::UnknownIdentifier,
            (Some(_), Verdict::Mismatch) => LoginFailure::WrongPassword,
            (Some(Credentials { state: UserState::Suspended, .. }), Verdict::Match { .. }) => LoginFailure::Suspended,
            (Some(found), Verdict::Match { outdated }) => {
                if outdated && let Some(stored) = stored {
                    self.rehash(command, found, stored, context).await;
                }
                return Ok(found.clone());
            }
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
            subject: credentials.map(|c| c.user),
            act: Act::LoginFailed { cause, identifier_hash },
            origin: context.origin.clone(),
        }
    }

    /// Renews a hash that was made with other parameters than today's. A sign-in does not fail for it.
    async fn rehash(&self, command: &LoginCommand, found: &Credentials, old: PhcString, context: &RequestContext) {
        let new = match self.passwords.hash(command.password.clone(), self.random(), self.hash_deadline(context)).await
        {
            Ok(new) => new,
            Err(error) => return tracing::debug!(%error, "password not rehashed this time"),
        };
        let event = AuditEvent {
            actor: Actor::System,
            subject: Some(found.user),
            act: Act::PasswordRehashed,
            origin: context.origin.clone(),
        };
        if let Err(error) = self.store.rehash_password(found.user, old, new, event).await {
            tracing::warn!(%error, "password not rehashed this time");
        }
    }

    fn new_session(&self, command: &LoginCommand, credentials: &Credentials) -> Result<NewSession, ServiceError> {
        let now = self.clock.now();
        Ok(NewSession {
            id: SessionId::new(now, &self.random()),
            grant: Grant {
                user: credentials.user,
                epoch: credentials.epoch,
                client_id: self.policy.client_id.clone(),
                audience: command.audience.clone(),
                scope: command.scope.clone(),
                auth_time: now,
                amr: vec!["pwd".to_owned()],
                acr: "aal1".to_owned(),
            },
            device: command.device.clone(),
            key_id: self.keys.refresh_key_in_force(now)?,
        })
    }
}
