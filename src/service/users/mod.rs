//! Managing users, in the name of somebody whose roles allow it: a file for each kind of act. Whether they do, and whether it
//! is for them to act on that user, is decided by the store in the transaction of the act.

use super::{RequestContext, Service, ServiceError};
use crate::{
    domain::{
        id::UserId,
        user::{Identifier, User},
        warrant::Warrant,
    },
    store::{Refused, port::UserAct},
};

mod change;
mod create;
mod list;
mod page_token;
mod sessions;

pub(super) use create::REQUEST_RETENTION;
pub use create::{CreateUserCommand, NewSecret};
pub use list::UserPage;
pub use page_token::PageToken;
pub(super) use page_token::PageTokenError;

/// Whom a call asks for.
#[derive(Clone, Debug)]
pub enum UserKey {
    /// The user with this id.
    Id(UserId),
    /// The user who signs in with this.
    Identifier(Identifier),
}

impl Service {
    /// A user.
    pub async fn get_user(&self, key: UserKey) -> Result<User, ServiceError> {
        let found = match key {
            UserKey::Id(id) => self.store.get_user(id).await?,
            UserKey::Identifier(identifier) => self.store.find_user(identifier).await?,
        };
        found.ok_or_else(|| Refused::NoUser.into())
    }
}

/// An act of the bearer of the warrant on a user.
pub(super) fn act(warrant: Warrant, user: UserId, context: &RequestContext) -> UserAct {
    UserAct { warrant, user, origin: context.origin.clone() }
}
