//! Users, as administrators manage them.

use async_trait::async_trait;

use super::{CreateRequest, Erased, NewMessage, NewUser, ThrottleKey};
use crate::{
    domain::{
        audit::Origin,
        id::{SessionId, UserId},
        time::Timestamp,
        user::{Identifier, PhcString, User, UserState},
        users::{UserChange, UserCursor, UserFilter},
        warrant::Warrant,
    },
    store::StoreError,
};

/// An act on a user.
#[derive(Clone, Debug)]
pub struct UserAct {
    /// In whose name.
    pub warrant: Warrant,
    /// On whom.
    pub user: UserId,
    /// From where, for the audit trail.
    pub origin: Origin,
}

/// A user to be added.
#[derive(Clone, Debug)]
pub struct UserAddition {
    /// In whose name.
    pub warrant: Warrant,
    /// The user.
    pub new: NewUser,
    /// What the creation is known by, if it may be asked for again.
    pub request: Option<CreateRequest>,
    /// From where, for the audit trail.
    pub origin: Origin,
}

/// A page of users.
#[derive(Clone, Debug)]
pub struct UserListing {
    /// Which users, in the order that goes with it.
    pub filter: UserFilter,
    /// Where it begins; at the first of them, if there is none. Its order is the filter's.
    pub after: Option<UserCursor>,
    /// At most this many.
    pub limit: u32,
}

/// Users, as administrators manage them. Each act asks first whether its warrant allows it, then locks the user's row, then
/// asks whether whoever acts may do all that the user may: what must not be is [`Refused`](crate::store::Refused), and
/// nothing of it is done. Acts answer with the user as it is then; one that finds nothing to do leaves no trace.
#[async_trait]
pub trait UserAdminStore: Send + Sync + 'static {
    /// Creates a user with roles and data key. Asked for again, answers with the user that was made before.
    async fn add_user(&self, addition: UserAddition) -> Result<User, StoreError>;

    /// The user with this e-mail address or user name.
    async fn find_user(&self, identifier: Identifier) -> Result<Option<User>, StoreError>;

    /// Lists users.
    async fn list_users(&self, listing: UserListing) -> Result<Vec<User>, StoreError>;

    /// Changes what is known of a user, if its revision is the one expected.
    async fn update_user(&self, act: UserAct, expected: Option<i64>, change: UserChange) -> Result<User, StoreError>;

    /// Deletes a user, if its revision is the one expected, with all that is kept of the user, data key included. Tokens are
    /// refused.
    async fn delete_user(&self, act: UserAct, expected: Option<i64>) -> Result<Erased, StoreError>;

    /// Bars a user from signing in and ends all sessions, or lets the user in again.
    async fn set_user_state(&self, act: UserAct, state: UserState) -> Result<User, StoreError>;

    /// The user whose password is to be set, if whoever acts may set it; the hashes of the present password and of the last
    /// `history` before it. Changes nothing.
    async fn passwords_to_act_on(&self, act: UserAct, history: u32) -> Result<(User, Vec<PhcString>), StoreError>;

    /// Replaces a user's password, ends all sessions, forgets all devices and the failures `forgiven`, and sends the news.
    async fn set_user_password(
        &self,
        act: UserAct,
        hash: PhcString,
        forgiven: Vec<ThrottleKey>,
        news: Option<NewMessage>,
    ) -> Result<(), StoreError>;

    /// Ends a live session of the user, or all of them.
    async fn end_user_sessions(&self, act: UserAct, session: Option<SessionId>) -> Result<(), StoreError>;

    /// Gives a user a role. Access tokens from before are refused.
    async fn assign_role(&self, act: UserAct, role: String) -> Result<User, StoreError>;

    /// Takes a role from a user. Access tokens from before are refused.
    async fn unassign_role(&self, act: UserAct, role: String) -> Result<User, StoreError>;

    /// Forgets creations before this moment. How many.
    async fn purge_create_requests(&self, before: Timestamp) -> Result<u64, StoreError>;
}
