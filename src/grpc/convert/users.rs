//! Proto ↔ domain, for the management of users.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{etag, session_id};
use crate::{
    domain::{
        email::Email,
        field::{FieldViolation, FieldViolations, optional},
        id::{SessionId, UserId},
        locale::Locale,
        password::Password,
        phone::PhoneNumber,
        role::RoleName,
        user::{Identifier, Label, Username},
        users::UserChange,
    },
    pb::v1,
    service::{CreateUserCommand, NewSecret, UserKey, import_hash},
};

/// The most roles that a user is created with.
const MAX_ROLES: usize = 64;

/// An update of a user as it is asked for.
pub(in crate::grpc) struct UserUpdate {
    pub(in crate::grpc) user: UserId,
    pub(in crate::grpc) expected: Option<i64>,
    pub(in crate::grpc) change: UserChange,
}

pub(in crate::grpc) fn user_id(text: &str) -> Result<UserId, FieldViolation> {
    parse_user_id("user_id", text)
}

fn parse_user_id(field: &'static str, text: &str) -> Result<UserId, FieldViolation> {
    text.parse().map_err(|error| FieldViolation::new(field, format!("is {error}")))
}

/// The revision that an etag stands for; none for an empty one. What never was an etag is no user's: their revisions begin at 1.
pub(super) fn expected_revision(text: &str) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    let revision = text.strip_prefix('r').and_then(|number| number.parse().ok());
    Some(revision.filter(|revision| etag(*revision) == text).unwrap_or(0))
}

pub(in crate::grpc) fn create_user(request: v1::CreateUserRequest) -> Result<CreateUserCommand, FieldViolations> {
    let v1::CreateUserRequest {
        email,
        username,
        password,
        password_hash,
        display_name,
        email_verified,
        roles,
        attributes,
        request_id,
        custom_claims: claims,
    } = request;
    let mut violations = FieldViolations::new();
    let email = violations.check("email", Email::parse(&email));
    let username = violations.check("username", optional(&username, Username::parse));
    let secret = violations.note(secret(&password, &password_hash));
    let display_name = violations.check("display_name", Label::parse(&display_name));
    let roles = violations.note(role_names(roles));
    let attributes = violations.check("attributes", super::attributes(attributes.unwrap_or_default()));
    let claims = violations.check("custom_claims", super::custom_claims(claims.unwrap_or_default()));
    let request_id = violations.check("request_id", optional(&request_id, request_uuid));
    match (email, username, secret, display_name, roles, attributes, claims, request_id) {
        (
            Some(email),
            Some(username),
            Some(secret),
            Some(display_name),
            Some(roles),
            Some(attributes),
            Some(custom_claims),
            Some(request_id),
        ) => Ok(CreateUserCommand {
            email,
            username,
            secret,
            display_name,
            email_verified,
            roles,
            attributes,
            custom_claims,
            request_id,
        }),
        _ => Err(violations),
    }
}

fn request_uuid(text: &str) -> Result<Uuid, &'static str> {
    Uuid::try_parse(text).map_err(|_| "is not a UUID: make one for each new request")
}

fn secret(password: &str, hash: &str) -> Result<NewSecret, FieldViolation> {
    match (password.is_empty(), hash.is_empty()) {
        (true, true) => Ok(NewSecret::None),
        (false, true) => {
            // It will be the only factor, so that its length is told together with whatever else is wrong.
            let password = Password::chosen(password).map_err(|error| FieldViolation::new("password", error))?;
            Ok(NewSecret::Password(password))
        }
        (true, false) => {
            let refused = |error| FieldViolation::new("password_hash", error);
            import_hash(hash).map(NewSecret::Hash).map_err(refused)
        }
        (false, false) => {
            Err(FieldViolation::new("password_hash", "is set together with password: send one of them, or neither"))
        }
    }
}

pub(in crate::grpc) fn role_name(field: &'static str, text: String) -> Result<String, FieldViolation> {
    match RoleName::parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(FieldViolation::new(field, error)),
    }
}

fn role_names(names: Vec<String>) -> Result<Vec<String>, FieldViolation> {
    if names.len() > MAX_ROLES {
        return Err(FieldViolation::new("roles", format!("are too many: at most {MAX_ROLES}")));
    }
    let mut roles = names.into_iter().map(|name| role_name("roles", name)).collect::<Result<Vec<_>, _>>()?;
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

pub(in crate::grpc) fn user_key(request: v1::GetUserRequest) -> Result<UserKey, FieldViolation> {
    use v1::get_user_request::Key;
    match request.key {
        Some(Key::UserId(id)) => user_id(&id).map(UserKey::Id),
        Some(Key::Email(email)) => match Email::parse(&email) {
            Ok(email) => Ok(UserKey::Identifier(Identifier::Email(email))),
            Err(error) => Err(FieldViolation::new("email", error)),
        },
        Some(Key::Username(name)) => match Username::parse(&name) {
            Ok(name) => Ok(UserKey::Identifier(Identifier::Username(name))),
            Err(error) => Err(FieldViolation::new("username", error)),
        },
        None => Err(FieldViolation::new("user_id", "is missing: say whom by user_id, email or username")),
    }
}

pub(in crate::grpc) fn update_user(request: v1::UpdateUserRequest) -> Result<UserUpdate, FieldViolations> {
    let v1::UpdateUserRequest { user, update_mask } = request;
    let Some(user) = user else { return Err(FieldViolation::new("user", "is missing").into()) };
    let mut violations = FieldViolations::new();
    let id = violations.note(parse_user_id("user.id", &user.id));
    let expected = expected_revision(&user.etag);
    let paths = violations.note(checked_paths(update_mask.unwrap_or_default().paths));
    let change = change(user, &paths.unwrap_or_default(), &mut violations);
    match (id, violations.is_empty()) {
        (Some(user), true) => Ok(UserUpdate { user, expected, change }),
        _ => Err(violations),
    }
}

fn checked_paths(paths: Vec<String>) -> Result<Vec<String>, FieldViolation> {
    let known = UserChange::FIELDS.join(", ");
    let unknown = paths.iter().find(|path| !UserChange::FIELDS.contains(&path.as_str()));
    match unknown {
        _ if paths.is_empty() => {
            Err(FieldViolation::new("update_mask", format!("is empty: name what to change, of {known}")))
        }
        Some(path) => {
            let text = format!("names {path:.64?}, which cannot be changed so: use {known}");
            Err(FieldViolation::new("update_mask", text))
        }
        None => Ok(paths),
    }
}

/// What the mask names of a user.
fn change(user: v1::User, paths: &[String], violations: &mut FieldViolations) -> UserChange {
    let named = |field: &str| paths.iter().any(|path| path == field);
    let v1::User {
        id: _, // says who
        email,
        username,
        display_name,
        email_verified,
        state: _, // has RPCs of its own
        roles: _, // likewise
        attributes,
        create_time: _, // never changes
        update_time: _, // follows from the change
        etag: _,        // says when
        phone_number,
        locale,
        has_password: _,  // has an RPC of its own
        totp_enrolled: _, // likewise
        custom_claims,
    } = user;
    UserChange {
        email: named("email").then(|| violations.check("user.email", Email::parse(&email))).flatten(),
        username: named("username")
            .then(|| violations.check("user.username", optional(&username, Username::parse)))
            .flatten(),
        display_name: named("display_name")
            .then(|| violations.check("user.display_name", Label::parse(&display_name)))
            .flatten(),
        email_verified: named("email_verified").then_some(email_verified),
        attributes: named("attributes")
            .then(|| violations.check("user.attributes", super::attributes(attributes.unwrap_or_default())))
            .flatten(),
        phone_number: named("phone_number")
            .then(|| violations.check("user.phone_number", optional(&phone_number, PhoneNumber::parse)))
            .flatten(),
        locale: named("locale").then(|| violations.check("user.locale", optional(&locale, Locale::parse))).flatten(),
        custom_claims: named("custom_claims")
            .then(|| violations.check("user.custom_claims", super::custom_claims(custom_claims.unwrap_or_default())))
            .flatten(),
        // The service knows.
        said_attributes: BTreeSet::new(),
    }
}

pub(in crate::grpc) fn delete_user(request: v1::DeleteUserRequest) -> Result<(UserId, Option<i64>), FieldViolation> {
    let v1::DeleteUserRequest { user_id: id, etag } = request;
    Ok((user_id(&id)?, expected_revision(&etag)))
}

pub(in crate::grpc) fn set_user_password(
    request: v1::SetUserPasswordRequest,
) -> Result<(UserId, Password), FieldViolations> {
    let v1::SetUserPasswordRequest { user_id: id, password } = request;
    let mut violations = FieldViolations::new();
    let user = violations.note(user_id(&id));
    let password = violations.check("password", Password::presented(&password));
    match (user, password) {
        (Some(user), Some(password)) => Ok((user, password)),
        _ => Err(violations),
    }
}

/// Whose sessions, where the page begins, and how long it is.
pub(in crate::grpc) fn list_user_sessions(
    request: v1::ListUserSessionsRequest,
) -> Result<(UserId, Option<SessionId>, u32), FieldViolations> {
    let v1::ListUserSessionsRequest { user_id: id, page_size, page_token } = request;
    let mut violations = FieldViolations::new();
    let user = violations.note(user_id(&id));
    match (user, super::page(v1::ListSessionsRequest { page_size, page_token })) {
        (Some(user), Ok((before, limit))) => Ok((user, before, limit)),
        (_, page) => {
            violations.add(page.err().unwrap_or_default());
            Err(violations)
        }
    }
}

pub(in crate::grpc) fn revoke_user_sessions(
    request: v1::RevokeUserSessionsRequest,
) -> Result<(UserId, Option<SessionId>), FieldViolations> {
    let v1::RevokeUserSessionsRequest { user_id: id, session_id: session } = request;
    let mut violations = FieldViolations::new();
    let user = violations.note(user_id(&id));
    let session = if session.is_empty() { Some(None) } else { violations.note(session_id(&session)).map(Some) };
    match (user, session) {
        (Some(user), Some(session)) => Ok((user, session)),
        _ => Err(violations),
    }
}

pub(in crate::grpc) fn user_and_role(id: &str, role: String) -> Result<(UserId, String), FieldViolations> {
    let mut violations = FieldViolations::new();
    let user = violations.note(user_id(id));
    let role = violations.note(role_name("role", role));
    match (user, role) {
        (Some(user), Some(role)) => Ok((user, role)),
        _ => Err(violations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_has_one_spelling() {
        assert_eq!(expected_revision(""), None);
        assert_eq!(expected_revision(&etag(17)), Some(17));
        for never in ["17", "r017", "r+17", "r", "rr17", "r 17", "r99999999999999999999", "\"r17\""] {
            assert_eq!(expected_revision(never), Some(0), "{never}");
        }
    }
}
