//! The statement that lists users. It says no more than the filter does, so that the database can plan for that.

use sqlx::QueryBuilder;

use super::{Db, rows::user_columns};
use crate::{
    domain::{
        user::UserState,
        users::{KeyPrefix, UserCursor, UserFilter, UserOrder},
    },
    store::port::UserListing,
};

/// A page of users, read from an index in its order and never sorted.
pub(super) fn listed(listing: &UserListing) -> QueryBuilder<Db> {
    let UserListing { filter, after, limit } = listing;
    let UserFilter { email_prefix, username_prefix, state, role, created_since, created_before } = filter;
    let order = filter.order();
    let mut sql = QueryBuilder::new(concat!("SELECT ", user_columns!(), " FROM "));
    match (order, role) {
        // Of those who have the role, however few they are. SQLite takes a CROSS JOIN in the order written.
        (UserOrder::Id, Some(role)) => {
            sql.push("user_roles m CROSS JOIN users u WHERE u.id = m.user_id AND m.role = ").push_bind(role.clone());
        }
        (_, Some(role)) => {
            sql.push("users u WHERE EXISTS (SELECT 1 FROM user_roles m WHERE m.user_id = u.id AND m.role = ");
            sql.push_bind(role.clone()).push(")");
        }
        (_, None) => {
            sql.push("users u WHERE TRUE");
        }
    }
    let (mut key, mut name, mut time) = (None, None, None);
    match after {
        Some(UserCursor::Email(behind)) => key = Some(behind),
        Some(UserCursor::Username(behind)) => name = Some(behind),
        Some(UserCursor::Creation(behind, _)) => time = Some(behind),
        Some(UserCursor::Id(_)) | None => {}
    }
    if let Some(prefix) = email_prefix {
        within(&mut sql, concat!("u.email_key", in_byte_order!()), prefix, key);
    }
    if let Some(prefix) = username_prefix {
        within(&mut sql, concat!("u.username", in_byte_order!()), prefix, name);
    }
    match state {
        // Said in words, because there is an index of those alone.
        Some(UserState::Suspended) => {
            sql.push(" AND u.state = 'suspended'");
        }
        Some(UserState::Active) => {
            sql.push(" AND u.state = 'active'");
        }
        None => {}
    }
    if let Some(since) = created_since
        && time < Some(since)
    {
        sql.push(" AND u.create_time >= ").push_bind(*since);
    }
    if let Some(before) = created_before {
        sql.push(" AND u.create_time < ").push_bind(*before);
    }
    match after {
        // Of both, so that whichever is read first begins there.
        Some(UserCursor::Id(id)) => {
            sql.push(" AND m.user_id > ").push_bind(*id).push(" AND u.id > ").push_bind(*id);
        }
        Some(UserCursor::Creation(time, id)) => {
            sql.push(" AND (u.create_time, u.id) > (").push_bind(*time).push(", ").push_bind(*id).push(")");
        }
        Some(UserCursor::Email(_) | UserCursor::Username(_)) | None => {}
    }
    sql.push(match order {
        UserOrder::Email => concat!(" ORDER BY u.email_key", in_byte_order!()),
        UserOrder::Username => concat!(" ORDER BY u.username", in_byte_order!()),
        UserOrder::Id => " ORDER BY m.user_id",
        UserOrder::Creation => " ORDER BY u.create_time, u.id",
    });
    sql.push(" LIMIT ").push_bind(i64::from(*limit));
    sql
}

/// Where a column begins with the prefix. As a range: no character of the prefix means anything but itself. It begins behind
/// the place given, if there is one: SQLite heeds one beginning only and would read on from the other, page after page.
fn within(sql: &mut QueryBuilder<Db>, column: &'static str, prefix: &KeyPrefix, behind: Option<&String>) {
    match behind.filter(|key| key.as_str() >= prefix.first()) {
        Some(key) => sql.push(" AND ").push(column).push(" > ").push_bind(key.clone()),
        None => sql.push(" AND ").push(column).push(" >= ").push_bind(prefix.first().to_owned()),
    };
    sql.push(" AND ").push(column).push(" < ").push_bind(prefix.end());
}
