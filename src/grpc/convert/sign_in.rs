//! Signing in: requests, challenges, answers.

use super::{timestamp, token, token_pair};
use crate::{
    domain::{
        audience::{Audience, Scope},
        audit::Origin,
        challenge::{ChallengeFactor, CodeChannel},
        field::{FieldViolation, FieldViolations},
        password::Password,
        secret::SecretString,
        session::DeviceInfo,
        user::Label,
    },
    pb::v1,
    service::{
        ChallengeResponse, IssuedChallenge, LoginCodeCommand, LoginCommand, Policy, ServiceError, SignInRequest,
        SignInStep, SignedIn,
    },
};

/// The most characters of an identifier that is looked at: longer than any address or name.
const MAX_IDENTIFIER: usize = 1024;

pub(in crate::grpc) fn login(
    request: v1::LoginRequest,
    origin: &Origin,
    policy: &Policy,
) -> Result<LoginCommand, ServiceError> {
    let v1::LoginRequest { identifier, password, device, audience, scope } = request;
    let mut violations = FieldViolations::new();
    let identifier = violations.check("identifier", parse_identifier(identifier));
    let password = violations.check("password", Password::presented(&password));
    let device = violations.note(parse_device(device, origin));
    let audience = violations.note(policy.audience(audience));
    let scope = violations.note(policy.scope(scope));
    match (wanted(identifier, device, audience, scope), password) {
        (Some(wanted), Some(password)) => Ok(LoginCommand { wanted, password }),
        _ => Err(violations.into()),
    }
}

pub(in crate::grpc) fn login_code(
    request: v1::SendLoginCodeRequest,
    origin: &Origin,
    policy: &Policy,
) -> Result<LoginCodeCommand, ServiceError> {
    let v1::SendLoginCodeRequest { identifier, channel, device, audience, scope } = request;
    let mut violations = FieldViolations::new();
    let identifier = violations.check("identifier", parse_identifier(identifier));
    let channel = violations.check("channel", parse_channel(channel));
    let device = violations.note(parse_device(device, origin));
    let audience = violations.note(policy.audience(audience));
    let scope = violations.note(policy.scope(scope));
    match (wanted(identifier, device, audience, scope), channel) {
        (Some(wanted), Some(channel)) => Ok(LoginCodeCommand { wanted, channel }),
        _ => Err(violations.into()),
    }
}

type Device = (DeviceInfo, Option<SecretString>);

fn wanted(
    identifier: Option<String>,
    device: Option<Device>,
    audience: Option<Vec<Audience>>,
    scope: Option<Scope>,
) -> Option<SignInRequest> {
    let (device, device_secret) = device?;
    Some(SignInRequest { identifier: identifier?, device, device_secret, audience: audience?, scope: scope? })
}

pub(super) fn parse_identifier(text: String) -> Result<String, &'static str> {
    match text.len() {
        0 => Err("is empty: send an e-mail address or a user name"),
        1..=MAX_IDENTIFIER => Ok(text),
        _ => Err("is too long for an e-mail address or a user name"),
    }
}

/// The device, and the secret that it may be known by: any text may be one that nobody has.
fn parse_device(device: Option<v1::Device>, origin: &Origin) -> Result<Device, FieldViolation> {
    let v1::Device { name, known_device_secret } = device.unwrap_or_default();
    let device = DeviceInfo {
        name: Label::parse(&name).map_err(|error| FieldViolation::new("device.name", error))?,
        user_agent: Label::lossy(&origin.user_agent),
        ip_address: Label::lossy(&origin.ip_address),
    };
    let secret = (!known_device_secret.is_empty()).then(|| SecretString::new(known_device_secret));
    Ok((device, secret))
}

fn parse_channel(number: i32) -> Result<CodeChannel, &'static str> {
    match v1::CodeChannel::try_from(number) {
        Ok(v1::CodeChannel::Unspecified | v1::CodeChannel::Email) => Ok(CodeChannel::Email),
        Ok(v1::CodeChannel::Sms) => Ok(CodeChannel::Sms),
        Err(_) => Err("is no channel this server knows: use CODE_CHANNEL_EMAIL or CODE_CHANNEL_SMS"),
    }
}

pub(in crate::grpc) fn answer(
    request: v1::CompleteChallengeRequest,
) -> Result<(SecretString, ChallengeResponse), FieldViolations> {
    use v1::complete_challenge_request::Response;
    let v1::CompleteChallengeRequest { challenge_id, response } = request;
    let mut violations = FieldViolations::new();
    let handle = violations.note(token("challenge_id", challenge_id));
    let response = match response {
        Some(Response::TotpCode(code)) => code_of("totp_code", code).map(ChallengeResponse::Totp),
        Some(Response::RecoveryCode(code)) => code_of("recovery_code", code).map(ChallengeResponse::RecoveryCode),
        Some(Response::OneTimeCode(code)) => code_of("one_time_code", code).map(ChallengeResponse::OneTimeCode),
        None => Err(FieldViolation::new("response", "is missing: send one of the challenge's factors")),
    };
    match (handle, violations.note(response)) {
        (Some(handle), Some(response)) => Ok((handle, response)),
        _ => Err(violations),
    }
}

fn code_of(field: &'static str, code: String) -> Result<SecretString, FieldViolation> {
    if code.is_empty() {
        Err(FieldViolation::new(field, "is empty: send the code"))
    } else {
        Ok(SecretString::new(code))
    }
}

pub(in crate::grpc) fn login_response(step: &SignInStep) -> v1::LoginResponse {
    use v1::login_response::Outcome;
    let outcome = match step {
        SignInStep::SignedIn(signed_in) => Outcome::Tokens(signed_in_tokens(signed_in)),
        SignInStep::Challenged(issued) => Outcome::Challenge(challenge(issued)),
    };
    v1::LoginResponse { outcome: Some(outcome) }
}

pub(in crate::grpc) fn complete_challenge_response(step: &SignInStep) -> v1::CompleteChallengeResponse {
    use v1::complete_challenge_response::Outcome;
    let outcome = match step {
        SignInStep::SignedIn(signed_in) => Outcome::Tokens(signed_in_tokens(signed_in)),
        SignInStep::Challenged(issued) => Outcome::Challenge(challenge(issued)),
    };
    v1::CompleteChallengeResponse { outcome: Some(outcome) }
}

fn signed_in_tokens(signed_in: &SignedIn) -> v1::TokenPair {
    let SignedIn { tokens, device_secret } = signed_in;
    v1::TokenPair { known_device_secret: device_secret.expose().to_owned(), ..token_pair(tokens) }
}

pub(in crate::grpc) fn challenge(issued: &IssuedChallenge) -> v1::Challenge {
    let IssuedChallenge { handle, factors, expire_time } = issued;
    let factor = |factor: &ChallengeFactor| match factor {
        ChallengeFactor::Totp => v1::ChallengeFactor::Totp.into(),
        ChallengeFactor::RecoveryCode => v1::ChallengeFactor::RecoveryCode.into(),
        ChallengeFactor::OneTimeCode => v1::ChallengeFactor::OneTimeCode.into(),
    };
    v1::Challenge {
        challenge_id: handle.expose().to_owned(),
        factors: factors.iter().map(factor).collect(),
        expire_time: Some(timestamp(*expire_time)),
    }
}
