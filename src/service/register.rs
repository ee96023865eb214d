//! `Register`: creates an account.

use super::{RequestContext, Service, ServiceError};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent},
        email::Email,
        field::FieldViolations,
        id::UserId,
        password::Password,
        time::Timestamp,
        user::{Attributes, Label, PhcString, User, UserState, Username},
    },
    store::port::{CreateUser, NewUser},
    telemetry::RegistrationOutcome,
};

/// A registration as it was asked for.
#[derive(Clone, Debug)]
pub struct RegisterCommand {
    /// The e-mail address.
    pub email: Email,
    /// The user name, if one was chosen.
    pub username: Option<Username>,
    /// The password.
    pub password: Password,
    /// A name to show.
    pub display_name: Label,
}

impl RegisterCommand {
    /// Checks every field of a registration.
    pub fn parse(email: &str, username: &str, password: &str, display_name: &str) -> Result<Self, FieldViolations> {
        let mut violations = FieldViolations::new();
        let email = violations.check("email", Email::parse(email));
        let username = if username.is_empty() {
            Some(None)
        } else {
            violations.check("username", Username::parse(username)).map(Some)
        };
        let password = violations.check("password", Password::chosen(password));
        let display_name = violations.check("display_name", Label::parse(display_name));
        match (email, username, password, display_name) {
            (Some(email), Some(username), Some(password), Some(display_name)) => {
                Ok(Self { email, username, password, display_name })
            }
            _ => Err(violations),
        }
    }
}

/// The account that a registration asks for.
pub fn new_user(id: UserId, command: &RegisterCommand, hash: PhcString, roles: Vec<String>, now: Timestamp) -> NewUser {
    let user = User {
        id,
        email: command.email.clone(),
        email_verified_time: None,
        username: command.username.clone(),
        display_name: command.display_name.clone(),
        phone_number: None,
        locale: None,
        has_password: true,
        totp_enrolled: false,
        state: UserState::Active,
        epoch: 1,
        roles,
        attributes: Attributes::default(),
        revision: 1,
        create_time: now,
        update_time: now,
    };
    NewUser { user, password_hash: Some(hash) }
}

impl Service {
    /// Creates an account.
    pub async fn register(&self, command: RegisterCommand, context: &RequestContext) -> Result<User, ServiceError> {
        let result = self.try_register(command, context).await;
        self.metrics.registration(RegistrationOutcome::of(&result));
        result
    }

    async fn try_register(&self, command: RegisterCommand, context: &RequestContext) -> Result<User, ServiceError> {
        if !self.policy.registration_open {
            return Err(ServiceError::RegistrationClosed);
        }
        let hash = self.passwords.hash(command.password.clone(), self.random(), self.hash_deadline(context)).await?;
        let now = self.clock.now();
        let id = UserId::new(now, &self.random());
        let new = new_user(id, &command, hash, Vec::new(), now);
        let user = new.user.clone();
        let event = AuditEvent {
            actor: Actor::Anonymous,
            subject: Some(id.into()),
            act: Act::Registered,
            origin: context.origin.clone(),
        };
        match self.store.create_user(new, vec![event]).await? {
            CreateUser::Created => Ok(user),
            CreateUser::EmailTaken => Err(ServiceError::EmailTaken),
            CreateUser::UsernameTaken => Err(ServiceError::UsernameTaken),
        }
    }
}
