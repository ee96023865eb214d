//! Proto ↔ domain. Messages are taken apart whole, so that a new field cannot be forgotten.

use crate::{
    domain::{
        audience::Audience,
        field::{FieldViolation, FieldViolations},
        id::SessionId,
        password::Password,
        secret::SecretString,
        session::{DeviceInfo, LAST_USED_GRAIN, Session, SessionPolicy},
        signing_key::{KeyLife, KeyState},
        user::{User, UserState},
    },
    pb::v1,
    service::{Consistency, IssuedTokens, PublishedKey, ServiceError},
};

mod attributes;
pub(super) mod audit;
pub(super) mod export;
pub(super) mod factors;
pub(super) mod people;
pub(super) mod service_accounts;
pub(super) mod sign_in;
pub(super) mod user_lists;
pub(super) mod users;
pub(super) mod watch;

pub(super) use self::attributes::{attributes, claims_structure, custom_claims, structure};
pub(super) use crate::verifier::wire::{claims, inactive_reason, timestamp};

pub(super) mod role;

/// A token, which must not be empty. What else is wrong with it shows when it is checked.
pub(super) fn token(field: &'static str, text: String) -> Result<SecretString, FieldViolation> {
    if text.is_empty() {
        Err(FieldViolation::new(field, "is empty: send the token"))
    } else {
        Ok(SecretString::new(text))
    }
}

pub(super) fn verify(request: v1::VerifyRequest) -> Result<(SecretString, Vec<Audience>, Consistency), ServiceError> {
    let v1::VerifyRequest { token: text, audience, consistency } = request;
    let mut violations = FieldViolations::new();
    let token = violations.note(token("token", text));
    let audience =
        violations.check("audience", audience.into_iter().map(Audience::try_from).collect::<Result<Vec<_>, _>>());
    let consistency = violations.check("consistency", parse_consistency(consistency));
    match (token, audience, consistency) {
        (Some(token), Some(audience), Some(consistency)) => Ok((token, audience, consistency)),
        _ => Err(violations.into()),
    }
}

fn parse_consistency(number: i32) -> Result<Consistency, &'static str> {
    match v1::Consistency::try_from(number) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::Local) => Ok(Consistency::Local),
        Ok(v1::Consistency::Strong) => Ok(Consistency::Strong),
        Err(_) => Err("is no consistency this server knows: use CONSISTENCY_LOCAL or CONSISTENCY_STRONG"),
    }
}

/// The password in force, if one was sent, and the one to be. Which may be chosen is decided where more is known.
pub(super) fn change_password(
    request: v1::ChangePasswordRequest,
) -> Result<(Option<Password>, Password), FieldViolations> {
    let v1::ChangePasswordRequest { current_password, new_password } = request;
    let mut violations = FieldViolations::new();
    let current = if current_password.is_empty() {
        Some(None)
    } else {
        violations.check("current_password", Password::presented(&current_password)).map(Some)
    };
    let new = violations.check("new_password", Password::presented(&new_password));
    match (current, new) {
        (Some(current), Some(new)) => Ok((current, new)),
        _ => Err(violations),
    }
}

/// How long a page is.
fn page_size(asked: i32) -> Result<u32, FieldViolation> {
    match u32::try_from(asked) {
        Ok(0) => Ok(20),
        Ok(size) => Ok(size.min(100)),
        Err(_) => Err(FieldViolation::new("page_size", "is negative: use 1 to 100, or 0 for 20")),
    }
}

/// Where a page begins and how long it is.
pub(super) fn page(request: v1::ListSessionsRequest) -> Result<(Option<SessionId>, u32), FieldViolations> {
    let v1::ListSessionsRequest { page_size, page_token } = request;
    let mut violations = FieldViolations::new();
    let size = violations.note(self::page_size(page_size));
    let before = if page_token.is_empty() {
        Some(None)
    } else {
        let parsed = page_token.parse::<SessionId>();
        violations.check("page_token", parsed.map_err(|_| "is not a next_page_token of an earlier answer")).map(Some)
    };
    match (before, size) {
        (Some(before), Some(size)) => Ok((before, size)),
        _ => Err(violations),
    }
}

pub(super) fn session_id(text: &str) -> Result<SessionId, FieldViolation> {
    text.parse().map_err(|error| FieldViolation::new("session_id", format!("is {error}")))
}

pub(super) fn token_pair(tokens: &IssuedTokens) -> v1::TokenPair {
    let IssuedTokens {
        access_token,
        issue_time,
        access_token_expire_time,
        refresh_token,
        refresh_token_expire_time,
        session,
    } = tokens;
    v1::TokenPair {
        access_token: access_token.expose().to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in: access_token_expire_time.as_seconds() - issue_time.as_seconds(),
        access_token_expire_time: Some(timestamp(*access_token_expire_time)),
        refresh_token: refresh_token.expose().to_owned(),
        refresh_token_expire_time: Some(timestamp(*refresh_token_expire_time)),
        session_id: session.to_string(),
        known_device_secret: String::new(),
    }
}

pub(super) fn user(user: User) -> v1::User {
    let User {
        id,
        email,
        email_verified_time,
        username,
        display_name,
        phone_number,
        locale,
        has_password,
        totp_enrolled,
        state,
        epoch: _, // internal
        roles,
        attributes,
        custom_claims,
        revision,
        create_time,
        update_time,
    } = user;
    v1::User {
        id: id.to_string(),
        email: email.as_typed().to_owned(),
        username: username.map(|n| n.as_str().to_owned()).unwrap_or_default(),
        display_name: display_name.as_str().to_owned(),
        email_verified: email_verified_time.is_some(),
        state: match state {
            UserState::Active => v1::UserState::Active,
            UserState::Suspended => v1::UserState::Suspended,
        }
        .into(),
        roles,
        attributes: (!attributes.is_empty()).then(|| structure(attributes)),
        create_time: Some(timestamp(create_time)),
        update_time: Some(timestamp(update_time)),
        etag: etag(revision),
        phone_number: phone_number.map(|n| n.as_str().to_owned()).unwrap_or_default(),
        locale: locale.map(|l| l.as_str().to_owned()).unwrap_or_default(),
        has_password,
        totp_enrolled,
        custom_claims: claims_structure(custom_claims),
    }
}

/// What a resource's `etag` is at this revision.
pub(super) fn etag(revision: i64) -> String {
    format!("r{revision}")
}

pub(super) fn session(session: Session, policy: &SessionPolicy, current: Option<SessionId>) -> v1::Session {
    // Rounded first: an exact expiry would tell the exact last use.
    let last_used_time = session.last_used_time.rounded_down(LAST_USED_GRAIN).max(session.create_time);
    let expire_time = Session { last_used_time, ..session.clone() }.expire_time(policy);
    let Session { id, grant: _, device, create_time, last_used_time: _, absolute_expire_time: _, family: _ } = session;
    let DeviceInfo { name, user_agent, ip_address } = device;
    v1::Session {
        id: id.to_string(),
        device_name: name.as_str().to_owned(),
        user_agent: user_agent.as_str().to_owned(),
        ip_address: ip_address.as_str().to_owned(),
        create_time: Some(timestamp(create_time)),
        last_used_time: Some(timestamp(last_used_time)),
        expire_time: Some(timestamp(expire_time)),
        current: Some(id) == current,
    }
}

/// A key as verifiers see it; `None` once it is removed.
pub(super) fn verification_key(key: PublishedKey) -> Option<v1::VerificationKey> {
    let PublishedKey { kid, algorithm, state, jwk, life } = key;
    let state = match state {
        KeyState::Published => v1::VerificationKeyState::Published,
        KeyState::Active => v1::VerificationKeyState::Active,
        KeyState::Retired => v1::VerificationKeyState::Retired,
        KeyState::Removed => return None,
    };
    Some(v1::VerificationKey {
        key_id: kid,
        algorithm: algorithm.as_str().to_owned(),
        jwk: jwk.to_string(),
        state: state.into(),
        activate_time: Some(timestamp(life.activate_time)),
    })
}

pub(super) fn signing_key(key: PublishedKey) -> Option<v1::SigningKey> {
    let PublishedKey { kid, algorithm, state, jwk, life } = key;
    let KeyLife { publish_time, activate_time, retire_time, remove_time } = life;
    let state = match state {
        KeyState::Published => v1::SigningKeyState::Published,
        KeyState::Active => v1::SigningKeyState::Active,
        KeyState::Retired => v1::SigningKeyState::Retired,
        KeyState::Removed => return None,
    };
    Some(v1::SigningKey {
        key_id: kid,
        algorithm: algorithm.as_str().to_owned(),
        state: state.into(),
        jwk: jwk.to_string(),
        publish_time: Some(timestamp(publish_time)),
        activate_time: Some(timestamp(activate_time)),
        retire_time: retire_time.map(timestamp),
        remove_time: remove_time.map(timestamp),
    })
}

pub(super) fn signing_keys(keys: Vec<PublishedKey>) -> Vec<v1::SigningKey> {
    keys.into_iter().filter_map(signing_key).collect()
}
