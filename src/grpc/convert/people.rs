//! Proto ↔ domain, for the life of an account.

use super::{sign_in::parse_identifier, timestamp, token, users::expected_revision};
use crate::{
    domain::{
        email::Email,
        field::{FieldViolation, FieldViolations, optional},
        locale::Locale,
        password::Password,
        phone::PhoneNumber,
        secret::SecretString,
        user::{Label, Username},
        users::UserChange,
    },
    pb::v1,
    service::{PhoneVerification, RegisterFields},
};

/// What `UpdateAccount` may change.
const FIELDS: [&str; 3] = ["display_name", "username", "locale"];

/// A code longer than this was not sent by us, and is not looked at.
const MAX_CODE: usize = 256;

pub(in crate::grpc) fn register(request: v1::RegisterRequest) -> RegisterFields {
    let v1::RegisterRequest { email, username, password, display_name, passwordless, locale } = request;
    RegisterFields { email, username, password, display_name, passwordless, locale }
}

pub(in crate::grpc) fn send_email_verification(
    request: &v1::SendEmailVerificationRequest,
) -> Result<Email, FieldViolation> {
    let v1::SendEmailVerificationRequest { email } = request;
    Email::parse(email).map_err(|error| FieldViolation::new("email", error))
}

/// A code or handle. What else is wrong with it shows when it is used.
fn secret(field: &'static str, text: String) -> Result<SecretString, FieldViolation> {
    match text.len() {
        0 => Err(FieldViolation::new(field, "is empty: send what was given to you")),
        1..=MAX_CODE => token(field, text),
        _ => Err(FieldViolation::new(field, "is too long to be one of ours")),
    }
}

pub(in crate::grpc) fn verify_email(request: v1::VerifyEmailRequest) -> Result<SecretString, FieldViolation> {
    let v1::VerifyEmailRequest { code } = request;
    secret("code", code)
}

pub(in crate::grpc) fn request_password_reset(
    request: v1::RequestPasswordResetRequest,
) -> Result<String, FieldViolation> {
    let v1::RequestPasswordResetRequest { identifier } = request;
    parse_identifier(identifier).map_err(|error| FieldViolation::new("identifier", error))
}

pub(in crate::grpc) fn reset_password(
    request: v1::ResetPasswordRequest,
) -> Result<(SecretString, Password), FieldViolations> {
    let v1::ResetPasswordRequest { code, new_password } = request;
    let mut violations = FieldViolations::new();
    let code = violations.note(secret("code", code));
    let password = violations.check("new_password", Password::presented(&new_password));
    match (code, password) {
        (Some(code), Some(password)) => Ok((code, password)),
        _ => Err(violations),
    }
}

pub(in crate::grpc) fn update_account(
    request: v1::UpdateAccountRequest,
) -> Result<(Option<i64>, UserChange), FieldViolations> {
    let v1::UpdateAccountRequest { display_name, username, locale, update_mask, etag } = request;
    let mut violations = FieldViolations::new();
    let paths = violations.note(checked_paths(update_mask.unwrap_or_default().paths)).unwrap_or_default();
    let named = |field: &str| paths.iter().any(|path| path == field);
    let change = UserChange {
        display_name: named("display_name")
            .then(|| violations.check("display_name", Label::parse(&display_name)))
            .flatten(),
        username: named("username")
            .then(|| violations.check("username", optional(&username, Username::parse)))
            .flatten(),
        locale: named("locale").then(|| violations.check("locale", optional(&locale, Locale::parse))).flatten(),
        ..UserChange::default()
    };
    if violations.is_empty() { Ok((expected_revision(&etag), change)) } else { Err(violations) }
}

fn checked_paths(paths: Vec<String>) -> Result<Vec<String>, FieldViolation> {
    let known = FIELDS.join(", ");
    if paths.is_empty() {
        return Err(FieldViolation::new("update_mask", format!("is empty: name what to change, of {known}")));
    }
    match paths.iter().find(|path| !FIELDS.contains(&path.as_str())) {
        Some(path) => {
            let text = format!("names {path:.64?}, which cannot be changed so: use {known}");
            Err(FieldViolation::new("update_mask", text))
        }
        None => Ok(paths),
    }
}

pub(in crate::grpc) fn change_email(request: &v1::ChangeEmailRequest) -> Result<Email, FieldViolation> {
    let v1::ChangeEmailRequest { new_email } = request;
    Email::parse(new_email).map_err(|error| FieldViolation::new("new_email", error))
}

pub(in crate::grpc) fn change_phone_number(
    request: &v1::ChangePhoneNumberRequest,
) -> Result<Option<PhoneNumber>, FieldViolation> {
    let v1::ChangePhoneNumberRequest { phone_number } = request;
    optional(phone_number, PhoneNumber::parse).map_err(|error| FieldViolation::new("phone_number", error))
}

pub(in crate::grpc) fn phone_verification(begun: Option<PhoneVerification>) -> v1::ChangePhoneNumberResponse {
    match begun {
        Some(PhoneVerification { handle, expire_time }) => v1::ChangePhoneNumberResponse {
            verification_id: handle.expose().to_owned(),
            expire_time: Some(timestamp(expire_time)),
        },
        None => v1::ChangePhoneNumberResponse::default(),
    }
}

pub(in crate::grpc) fn verify_phone_number(
    request: v1::VerifyPhoneNumberRequest,
) -> Result<(SecretString, SecretString), FieldViolations> {
    let v1::VerifyPhoneNumberRequest { verification_id, code } = request;
    let mut violations = FieldViolations::new();
    let handle = violations.note(secret("verification_id", verification_id));
    let code = violations.note(secret("code", code));
    match (handle, code) {
        (Some(handle), Some(code)) => Ok((handle, code)),
        _ => Err(violations),
    }
}
