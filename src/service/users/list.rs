//! `ListUsers`.

use crate::{
    domain::{
        user::User,
        users::{UserCursor, UserFilter},
    },
    service::{Service, ServiceError},
    store::port::UserListing,
};

/// A page of users.
#[derive(Clone, Debug)]
pub struct UserPage {
    /// The users, in the order that goes with the filter.
    pub users: Vec<User>,
    /// Whether more come after them.
    pub more: bool,
}

impl Service {
    /// Up to `limit` users behind `after`, whose order is the filter's.
    pub async fn list_users(
        &self,
        filter: UserFilter,
        after: Option<UserCursor>,
        limit: u32,
    ) -> Result<UserPage, ServiceError> {
        // One more than asked for tells whether there is another page.
        let mut users = self.store.list_users(UserListing { filter, after, limit: limit + 1 }).await?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = users.len() > wanted;
        users.truncate(wanted);
        Ok(UserPage { users, more })
    }
}
