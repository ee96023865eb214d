//! Where a page of users begins, as callers carry it. Whoever makes one up gets another page of what they may see anyway.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::domain::{
    user::{User, UserState},
    users::{UserCursor, UserFilter},
};

/// Bytes kept of a filter's digest: enough to notice a mistake.
const KEPT: usize = 8;
/// Longer than any token that is made here.
const MAX_LEN: usize = 1024;

/// A page token that cannot be used: malformed, or made for another filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a next_page_token of an earlier answer to this filter: send both unchanged, or begin anew without it")]
pub struct PageTokenError;

/// The place where a page of users begins.
#[derive(Clone, Copy, Debug)]
pub struct PageToken;

impl PageToken {
    /// The token for the page behind `last`.
    pub fn behind(last: &User, filter: &UserFilter) -> String {
        // Writing to memory cannot fail; an empty token would say that nothing follows.
        let packed = postcard::to_allocvec(&(fingerprint(filter), filter.behind(last))).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(packed)
    }

    /// Where the page begins.
    pub fn read(token: &str, filter: &UserFilter) -> Result<UserCursor, PageTokenError> {
        if token.len() > MAX_LEN {
            return Err(PageTokenError);
        }
        let packed = URL_SAFE_NO_PAD.decode(token).map_err(|_| PageTokenError)?;
        let (made_for, cursor): ([u8; KEPT], UserCursor) = postcard::from_bytes(&packed).map_err(|_| PageTokenError)?;
        let sound = match &cursor {
            UserCursor::Email(key) | UserCursor::Username(key) => key.bytes().all(|b| b.is_ascii_graphic()),
            UserCursor::Id(_) | UserCursor::Creation(..) => true,
        };
        if sound && made_for == fingerprint(filter) && cursor.order() == filter.order() {
            Ok(cursor)
        } else {
            Err(PageTokenError)
        }
    }
}

fn fingerprint(filter: &UserFilter) -> [u8; KEPT] {
    let UserFilter { email_prefix, username_prefix, state, role, created_since, created_before } = filter;
    let state = state.map(UserState::as_str);
    let fields = (email_prefix, username_prefix, state, role, created_since, created_before);
    let hash = digest(&SHA256, &postcard::to_allocvec(&fields).unwrap_or_default());
    let mut kept = [0; KEPT];
    kept.copy_from_slice(&hash.as_ref()[..KEPT]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        custom_claims::CustomClaims,
        email::Email,
        id::UserId,
        time::Timestamp,
        user::{Attributes, Label, Username},
        users::KeyPrefix,
    };

    fn filters() -> Vec<UserFilter> {
        let prefix = || KeyPrefix::parse("a").ok();
        let any = UserFilter::default();
        let moment = Some(Timestamp::from_seconds(1));
        vec![
            any.clone(),
            UserFilter { email_prefix: prefix(), ..any.clone() },
            UserFilter { username_prefix: prefix(), ..any.clone() },
            UserFilter { role: Some("a".into()), ..any.clone() },
            UserFilter { state: Some(UserState::Active), ..any.clone() },
            UserFilter { state: Some(UserState::Suspended), ..any.clone() },
            UserFilter { created_since: moment, ..any.clone() },
            UserFilter { created_before: moment, ..any },
        ]
    }

    #[test]
    fn a_token_is_good_for_its_filter_alone() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let ada = User {
            id: UserId::new(now, &[7; 10]),
            email: Email::parse("ada@example.com").unwrap(),
            email_verified_time: None,
            username: Some(Username::parse("ada").unwrap()),
            display_name: Label::default(),
            phone_number: None,
            locale: None,
            has_password: false,
            totp_enrolled: false,
            state: UserState::Active,
            epoch: 1,
            roles: Vec::new(),
            attributes: Attributes::default(),
            custom_claims: CustomClaims::default(),
            revision: 1,
            create_time: now,
            update_time: now,
        };
        for (n, one) in filters().iter().enumerate() {
            let token = PageToken::behind(&ada, one);
            for (m, other) in filters().iter().enumerate() {
                let read = PageToken::read(&token, other);
                assert_eq!(read, if n == m { Ok(one.behind(&ada)) } else { Err(PageTokenError) }, "{one:?} {other:?}");
            }
            let whole = URL_SAFE_NO_PAD.decode(&token).unwrap();
            let cut = URL_SAFE_NO_PAD.encode(&whole[..whole.len() - 1]);
            assert_eq!(PageToken::read(&cut, one), Err(PageTokenError));
        }
    }

    #[test]
    fn a_token_that_somebody_made_up_holds_nothing_a_database_chokes_on() {
        let filter = UserFilter { email_prefix: KeyPrefix::parse("a").ok(), ..UserFilter::default() };
        let forged = |cursor: UserCursor| {
            URL_SAFE_NO_PAD.encode(postcard::to_allocvec(&(fingerprint(&filter), cursor)).unwrap())
        };
        assert!(PageToken::read(&forged(UserCursor::Email("ada".into())), &filter).is_ok());
        let now = Timestamp::from_seconds(0);
        for cursor in [
            UserCursor::Email("a\0".into()),
            UserCursor::Username("ada".into()),
            UserCursor::Creation(now, UserId::new(now, &[0; 10])),
        ] {
            assert_eq!(PageToken::read(&forged(cursor), &filter), Err(PageTokenError));
        }
        for text in ["", "x", "!", &"A".repeat(2_000)] {
            assert_eq!(PageToken::read(text, &filter), Err(PageTokenError), "{text}");
        }
    }
}
