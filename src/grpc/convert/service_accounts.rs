//! Proto ↔ domain for service accounts and their tokens.

use std::time::Duration;

use uuid::Uuid;

use super::{etag, timestamp};
use crate::{
    crypto::service_secret,
    domain::{
        field::{FieldViolation, FieldViolations},
        id::ServiceAccountId,
        role::RoleName,
        secret::SecretString,
        service_account::{ClientProof, MAX_KEPT, SecretLife, ServiceAccount},
        spiffe::{SpiffeId, SpiffeIdError},
        user::Label,
    },
    pb::v1,
    service::{CreateServiceAccountCommand, Policy, ServiceError, ServiceToken, ServiceTokenCommand},
    store::port::ServiceAccountChange,
};

/// Most roles of a service account.
const MAX_ROLES: usize = 100;
/// No account has it.
const NOBODY: ServiceAccountId = ServiceAccountId::from_uuid(Uuid::nil());
/// No resource has it.
const NO_REVISION: i64 = -1;

pub(in crate::grpc) fn create(
    request: v1::CreateServiceAccountRequest,
) -> Result<CreateServiceAccountCommand, FieldViolations> {
    let v1::CreateServiceAccountRequest { display_name, spiffe_id, roles, no_secret, request_id } = request;
    let mut violations = FieldViolations::new();
    let display_name = violations.check("display_name", parse_name(&display_name));
    if no_secret && spiffe_id.is_empty() {
        violations
            .note::<()>(Err(FieldViolation::new("spiffe_id", "is empty: without a secret the account needs one")));
    }
    let spiffe_id = violations.check("spiffe_id", parse_spiffe_id(&spiffe_id));
    let roles = violations.check("roles", parse_roles(roles));
    let request_id = violations.check("request_id", parse_request_id(&request_id));
    match (display_name, spiffe_id, roles, request_id) {
        (Some(display_name), Some(spiffe_id), Some(roles), Some(request_id)) if !(no_secret && spiffe_id.is_none()) => {
            Ok(CreateServiceAccountCommand { display_name, spiffe_id, roles, secret: !no_secret, request_id })
        }
        _ => Err(violations),
    }
}

pub(in crate::grpc) fn list(
    request: v1::ListServiceAccountsRequest,
) -> Result<(Option<ServiceAccountId>, u32), FieldViolations> {
    let v1::ListServiceAccountsRequest { page_size, page_token } = request;
    let mut violations = FieldViolations::new();
    let size = match u32::try_from(page_size) {
        Ok(0) => Some(20),
        Ok(size) => Some(size.min(100)),
        Err(_) => violations.check("page_size", Err("is negative: use 1 to 100, or 0 for 20")),
    };
    let after = if page_token.is_empty() {
        Some(None)
    } else {
        let parsed = page_token.parse::<ServiceAccountId>();
        violations.check("page_token", parsed.map_err(|_| "is not a next_page_token of an earlier answer")).map(Some)
    };
    match (after, size) {
        (Some(after), Some(size)) => Ok((after, size)),
        _ => Err(violations),
    }
}

pub(in crate::grpc) fn update(
    request: v1::UpdateServiceAccountRequest,
) -> Result<(ServiceAccountId, ServiceAccountChange), FieldViolations> {
    let v1::UpdateServiceAccountRequest { service_account, update_mask } = request;
    let v1::ServiceAccount {
        client_id,
        display_name,
        spiffe_id,
        roles,
        secrets: _,
        create_time: _,
        update_time: _,
        etag,
    } = service_account.unwrap_or_default();
    let mut violations = FieldViolations::new();
    let id = violations.note(parse_client_id("service_account.client_id", &client_id));
    let mask = violations.check("update_mask", Mask::parse(update_mask.unwrap_or_default())).unwrap_or_default();
    let mut change = ServiceAccountChange { revision: revision(&etag), ..Default::default() };
    if mask.display_name {
        change.display_name = violations.check("service_account.display_name", parse_name(&display_name));
    }
    if mask.spiffe_id {
        change.spiffe_id = violations.check("service_account.spiffe_id", parse_spiffe_id(&spiffe_id));
    }
    if mask.roles {
        change.roles = violations.check("service_account.roles", parse_roles(roles));
    }
    match id {
        Some(id) if violations.is_empty() => Ok((id, change)),
        _ => Err(violations),
    }
}

/// What an update mask names (AIP-134).
#[derive(Default)]
struct Mask {
    display_name: bool,
    spiffe_id: bool,
    roles: bool,
}

impl Mask {
    const FIELDS: &str = "use display_name, spiffe_id, roles, or * for all of them";

    fn parse(mask: prost_types::FieldMask) -> Result<Self, String> {
        if mask.paths.is_empty() {
            return Err(format!("is empty: {}", Self::FIELDS));
        }
        let mut named = Self::default();
        for path in mask.paths {
            match path.as_str() {
                "display_name" => named.display_name = true,
                "spiffe_id" => named.spiffe_id = true,
                "roles" => named.roles = true,
                "*" => named = Self { display_name: true, spiffe_id: true, roles: true },
                other => {
                    let shown: String = other.chars().take(64).collect();
                    return Err(format!("names {shown:?}, which cannot be changed: {}", Self::FIELDS));
                }
            }
        }
        Ok(named)
    }
}

pub(in crate::grpc) fn rotate(
    request: v1::RotateServiceAccountSecretRequest,
) -> Result<(ServiceAccountId, Duration), FieldViolations> {
    let v1::RotateServiceAccountSecretRequest { client_id, keep_previous_seconds } = request;
    let mut violations = FieldViolations::new();
    let id = violations.note(parse_client_id("client_id", &client_id));
    let keep = u64::try_from(keep_previous_seconds).ok().map(Duration::from_secs).filter(|keep| *keep <= MAX_KEPT);
    let keep = keep.ok_or_else(|| format!("is out of range: use 0 to {} seconds", MAX_KEPT.as_secs()));
    match (id, violations.check("keep_previous_seconds", keep)) {
        (Some(id), Some(keep)) => Ok((id, keep)),
        _ => Err(violations),
    }
}

pub(in crate::grpc) fn parse_client_id(field: &'static str, text: &str) -> Result<ServiceAccountId, FieldViolation> {
    text.parse().map_err(|_| FieldViolation::new(field, "is not a client id: `svc_` and a UUID"))
}

/// The revision that an `etag` stands for; `None` if it is empty.
pub(in crate::grpc) fn revision(text: &str) -> Option<i64> {
    let parsed = || text.strip_prefix('r')?.parse().ok().filter(|revision| etag(*revision) == text);
    (!text.is_empty()).then(|| parsed().unwrap_or(NO_REVISION))
}

fn parse_name(text: &str) -> Result<Label, String> {
    match Label::parse(text) {
        Ok(label) if label.as_str().is_empty() => Err("is empty: use 1 to 128 characters".to_owned()),
        Ok(label) => Ok(label),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_spiffe_id(text: &str) -> Result<Option<SpiffeId>, SpiffeIdError> {
    if text.is_empty() { Ok(None) } else { SpiffeId::parse(text).map(Some) }
}

fn parse_roles(mut roles: Vec<String>) -> Result<Vec<String>, String> {
    roles.sort_unstable();
    roles.dedup();
    if let Some(error) = roles.iter().find_map(|role| RoleName::parse(role).err()) {
        return Err(error.to_string());
    }
    if roles.len() > MAX_ROLES { Err(format!("are too many: use at most {MAX_ROLES}")) } else { Ok(roles) }
}

fn parse_request_id(text: &str) -> Result<Option<Uuid>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    Uuid::try_parse(text).map(Some).map_err(|_| "is not a UUID: make a new one for each request, or leave it empty")
}

pub(in crate::grpc) fn issue(
    request: v1::IssueServiceTokenRequest,
    certified: Option<SpiffeId>,
    policy: &Policy,
) -> Result<ServiceTokenCommand, ServiceError> {
    let v1::IssueServiceTokenRequest { client_id, client_secret, audience, scope } = request;
    let mut violations = FieldViolations::new();
    let client_secret = SecretString::new(client_secret);
    if client_id.is_empty() && (certified.is_none() || !client_secret.expose().is_empty()) {
        violations.note::<()>(Err(FieldViolation::new(
            "client_id",
            "is empty: send it with a secret, or connect with a client certificate that names the account",
        )));
    }
    let audience = violations.note(policy.audience(audience));
    let scope = violations.note(policy.scope(scope));
    let (Some(audience), Some(scope), true) = (audience, scope, violations.is_empty()) else {
        return Err(violations.into());
    };
    // What is no client id is nobody's, and costs what a wrong one costs.
    let account = client_id.parse().unwrap_or(NOBODY);
    let proof = if client_secret.expose().is_empty() {
        ClientProof::Certificate { account: (!client_id.is_empty()).then_some(account), spiffe_id: certified }
    } else {
        ClientProof::Secret { account, secret: service_secret::present(&client_secret) }
    };
    Ok(ServiceTokenCommand { proof, audience, scope })
}

pub(in crate::grpc) fn token(token: &ServiceToken) -> v1::IssueServiceTokenResponse {
    let ServiceToken { access_token, issue_time, expire_time, scope } = token;
    v1::IssueServiceTokenResponse {
        access_token: access_token.expose().to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in: expire_time.as_seconds() - issue_time.as_seconds(),
        access_token_expire_time: Some(timestamp(*expire_time)),
        scope: scope.to_string(),
    }
}

pub(in crate::grpc) fn service_account(account: ServiceAccount) -> v1::ServiceAccount {
    let ServiceAccount { id, display_name, spiffe_id, roles, secrets, revision, create_time, update_time } = account;
    v1::ServiceAccount {
        client_id: id.to_string(),
        display_name: display_name.as_str().to_owned(),
        spiffe_id: spiffe_id.map(|id| id.to_string()).unwrap_or_default(),
        roles,
        secrets: secrets.into_iter().map(secret).collect(),
        create_time: Some(timestamp(create_time)),
        update_time: Some(timestamp(update_time)),
        etag: etag(revision),
    }
}

fn secret(secret: SecretLife) -> v1::ServiceAccountSecret {
    let SecretLife { id, create_time, expire_time } = secret;
    v1::ServiceAccountSecret {
        id: id.to_string(),
        create_time: Some(timestamp(create_time)),
        expire_time: expire_time.map(timestamp),
    }
}
