//! `CreateUser`.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    crypto::Purpose,
    domain::{
        custom_claims::CustomClaims,
        email::Email,
        id::UserId,
        password::Password,
        time::Timestamp,
        user::{Attributes, Label, PhcString, User, UserState, Username},
        warrant::Warrant,
    },
    service::{ChosenFor, RequestContext, Service, ServiceError},
    store::port::{CreateRequest, NewUser, UserAddition},
};

/// How long a request id stands for its request.
pub(in crate::service) const REQUEST_RETENTION: Duration = Duration::from_hours(24);

/// A user as an administrator asks for one.
#[derive(Clone, Debug)]
pub struct CreateUserCommand {
    /// The e-mail address.
    pub email: Email,
    /// The user name, if there is one.
    pub username: Option<Username>,
    /// What the user is to sign in with.
    pub secret: NewSecret,
    /// A name to show.
    pub display_name: Label,
    /// Whether the address is known to be the user's.
    pub email_verified: bool,
    /// Role names, sorted, each once.
    pub roles: Vec<String>,
    /// What is kept of the user beside the rest.
    pub attributes: Attributes,
    /// What the user's tokens say beside the rest.
    pub custom_claims: CustomClaims,
    /// What the request is known by, should it be sent again.
    pub request_id: Option<Uuid>,
}

/// What a user is to sign in with.
#[derive(Clone, Debug)]
pub enum NewSecret {
    /// A password.
    Password(Password),
    /// A password whose hash was made elsewhere.
    Hash(PhcString),
    /// Nothing (yet).
    None,
}

impl CreateUserCommand {
    /// The request in its one form. Of the password no more than whether there is one: its hash would be one to guess at.
    fn canonical(&self) -> Result<Vec<u8>, ServiceError> {
        let Self {
            email,
            username,
            secret,
            display_name,
            email_verified,
            roles,
            attributes,
            custom_claims,
            request_id: _,
        } = self;
        let secret = match secret {
            NewSecret::Password(_) => "password",
            NewSecret::Hash(_) => "hash",
            NewSecret::None => "none",
        };
        let name = username.as_ref().map(Username::as_str);
        let label = display_name.as_str();
        let fields = ("user", email.as_typed(), name, secret, label, email_verified, roles, attributes);
        // Without claims it is what it was before there were any: a request may be sent again after an upgrade.
        let canonical = if custom_claims.is_empty() {
            serde_json::to_vec(&fields)
        } else {
            serde_json::to_vec(&(fields, custom_claims))
        };
        canonical.map_err(ServiceError::internal)
    }

    fn into_new_user(self, id: UserId, password_hash: Option<PhcString>, now: Timestamp) -> NewUser {
        let Self {
            email,
            username,
            secret: _,
            display_name,
            email_verified,
            roles,
            attributes,
            custom_claims,
            request_id: _,
        } = self;
        let user = User {
            id,
            email,
            email_verified_time: email_verified.then_some(now),
            username,
            display_name,
            phone_number: None,
            locale: None,
            has_password: password_hash.is_some(),
            totp_enrolled: false,
            state: UserState::Active,
            epoch: 1,
            roles,
            attributes,
            custom_claims,
            revision: 1,
            create_time: now,
            update_time: now,
        };
        NewUser { user, password_hash }
    }
}

impl Service {
    /// What a request in its one form is known by if it is sent again.
    pub(in crate::service) fn request_hash(&self, request: &[u8]) -> Vec<u8> {
        self.hasher.hash(Purpose::Request, b"", request).to_vec()
    }

    /// Creates a user; or, if the same request has been sent before, says who was created then.
    pub async fn create_user(
        &self,
        warrant: Warrant,
        command: CreateUserCommand,
        context: &RequestContext,
    ) -> Result<User, ServiceError> {
        let fingerprint = self.request_hash(&command.canonical()?);
        let hash = match &command.secret {
            NewSecret::Password(password) => {
                let name = command.username.as_ref().map_or("", Username::as_str);
                let words = [command.email.as_typed(), name, command.display_name.as_str()];
                let chosen_for = ChosenFor { field: "password", user: None, words: &words, second_factor: false };
                self.check_chosen(password, chosen_for, context).await?;
                Some(self.passwords.hash(password.clone(), self.random(), self.hash_deadline(context)).await?)
            }
            NewSecret::Hash(hash) => Some(hash.clone()),
            NewSecret::None => None,
        };
        let now = self.clock.now();
        let forgotten = now.minus(REQUEST_RETENTION);
        let request = command.request_id.map(|id| CreateRequest { id, fingerprint, forgotten });
        let new = command.into_new_user(UserId::new(now, &self.random()), hash, now);
        let origin = context.origin.clone();
        Ok(self.store.add_user(UserAddition { warrant, new, request, origin }).await?)
    }
}
