//! Proto → domain, for lists of users.

use prost_types::Timestamp as PbTimestamp;

use super::users::role_name;
use crate::{
    domain::{
        field::FieldViolations,
        time::Timestamp,
        user::UserState,
        users::{KeyPrefix, UserCursor, UserFilter},
    },
    pb::v1,
    service::PageToken,
};

/// A page of users as it is asked for.
pub(in crate::grpc) struct UserPageRequest {
    pub(in crate::grpc) filter: UserFilter,
    pub(in crate::grpc) after: Option<UserCursor>,
    pub(in crate::grpc) limit: u32,
}

pub(in crate::grpc) fn list_users(request: v1::ListUsersRequest) -> Result<UserPageRequest, FieldViolations> {
    let v1::ListUsersRequest { page_size, page_token, filter } = request;
    let mut violations = FieldViolations::new();
    let limit = match u32::try_from(page_size) {
        Ok(0) => Some(20),
        Ok(size) => Some(size.min(1000)),
        Err(_) => violations.check("page_size", Err("is negative: use 1 to 1000, or 0 for 20")),
    };
    let Some(filter) = user_filter(filter.unwrap_or_default(), &mut violations) else { return Err(violations) };
    let after = if page_token.is_empty() {
        Some(None)
    } else {
        violations.check("page_token", PageToken::read(&page_token, &filter)).map(Some)
    };
    match (limit, after) {
        (Some(limit), Some(after)) => Ok(UserPageRequest { filter, after, limit }),
        _ => Err(violations),
    }
}

fn user_filter(filter: v1::UserFilter, violations: &mut FieldViolations) -> Option<UserFilter> {
    let v1::UserFilter { email_prefix, username_prefix, state, role, created_since, created_before } = filter;
    let prefix = |text: String| if text.is_empty() { Ok(None) } else { KeyPrefix::parse(&text).map(Some) };
    let email_prefix = violations.check("filter.email_prefix", prefix(email_prefix));
    let username_prefix = violations.check("filter.username_prefix", prefix(username_prefix));
    let state = violations.check("filter.state", user_state(state));
    let role = if role.is_empty() { Some(None) } else { violations.note(role_name("filter.role", role)).map(Some) };
    let created_since = violations.check("filter.created_since", created_since.map(moment).transpose());
    let created_before = violations.check("filter.created_before", created_before.map(moment).transpose());
    Some(UserFilter {
        email_prefix: email_prefix?,
        username_prefix: username_prefix?,
        state: state?,
        role: role?,
        created_since: created_since?,
        created_before: created_before?,
    })
}

fn user_state(number: i32) -> Result<Option<UserState>, &'static str> {
    match v1::UserState::try_from(number) {
        Ok(v1::UserState::Unspecified) => Ok(None),
        Ok(v1::UserState::Active) => Ok(Some(UserState::Active)),
        Ok(v1::UserState::Suspended) => Ok(Some(UserState::Suspended)),
        Err(_) => Err("is no state this server knows: use USER_STATE_ACTIVE or USER_STATE_SUSPENDED"),
    }
}

/// The first microsecond that is not before a moment: whoever was created at it or later was created in one that is not before.
pub(in crate::grpc) fn moment(time: PbTimestamp) -> Result<Timestamp, &'static str> {
    let PbTimestamp { seconds, nanos } = time;
    // 0001-01-01 to 9999-12-31, as google.protobuf.Timestamp has it.
    if !(-62_135_596_800..=253_402_300_799).contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return Err("is no moment between the years 1 and 9999");
    }
    Ok(Timestamp::from_micros(seconds * 1_000_000 + i64::from(nanos).div_euclid(1_000) + i64::from(nanos % 1_000 > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_between_two_microseconds_is_the_later_one() {
        let at = |seconds, nanos| moment(PbTimestamp { seconds, nanos });
        assert_eq!(at(1, 5_000), Ok(Timestamp::from_micros(1_000_005)));
        assert_eq!(at(1, 5_001), Ok(Timestamp::from_micros(1_000_006)));
        assert_eq!(at(-1, 999_999_999), Ok(Timestamp::from_micros(0)));
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
            assert!(at(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }
}
