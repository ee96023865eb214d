//! Rows, and what they mean. A column that no version of this program writes is a named corruption, never a guess.

use serde::de::DeserializeOwned;
use sqlx::types::Json;

use crate::{
    domain::{
        audience::{Audience, Scope},
        claim_rules::OwnClaims,
        custom_claims::CustomClaims,
        email::Email,
        id::{SessionId, UserId},
        locale::Locale,
        phone::PhoneNumber,
        refresh::Family,
        role::{HeldRoles, Permissions, Role, RoleName},
        session::{DeviceInfo, Grant, Session},
        signing_key::KeyLife,
        time::Timestamp,
        user::{Attributes, Credentials, Label, PhcString, User, UserState, Username},
    },
    store::{
        StoreError,
        port::{RefreshKeyRow, SigningKeyRow},
    },
};

#[derive(sqlx::FromRow)]
pub(super) struct UserRow {
    id: UserId,
    email: String,
    email_key: String,
    email_verified_time: Option<Timestamp>,
    username: Option<String>,
    display_name: String,
    phone_number: Option<String>,
    locale: Option<String>,
    has_password: bool,
    totp_enrolled: bool,
    state: String,
    epoch: i64,
    create_time: Timestamp,
    update_time: Timestamp,
    roles: Json<Vec<String>>,
    attributes: Option<Json<Attributes>>,
    custom_claims: Option<Json<CustomClaims>>,
    revision: i64,
}

/// The columns of a user row `u`, read by name.
macro_rules! user_columns {
    () => {
        concat!(
            "u.id, u.email, u.email_key, u.email_verified_time, u.username, u.display_name, u.state, u.epoch, \
             u.attributes, u.custom_claims, u.revision, u.create_time, u.update_time, u.phone_number, u.locale, \
             u.password_hash IS NOT NULL AS has_password, \
             EXISTS (SELECT 1 FROM totp_factors t WHERE t.user_id = u.id AND t.confirm_time IS NOT NULL) AS totp_enrolled, ",
            roles_of_user!(),
            " AS roles"
        )
    };
}
pub(super) use user_columns;

fn user_state(word: &str) -> Result<UserState, StoreError> {
    UserState::parse(word).ok_or_else(|| StoreError::corrupt("users", "state", "unknown word"))
}

impl TryFrom<UserRow> for User {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            email: Email::stored(row.email, row.email_key),
            email_verified_time: row.email_verified_time,
            username: row.username.map(Username::stored),
            display_name: Label::stored(row.display_name),
            phone_number: row.phone_number.map(PhoneNumber::stored),
            locale: row.locale.map(Locale::stored),
            has_password: row.has_password,
            totp_enrolled: row.totp_enrolled,
            state: user_state(&row.state)?,
            epoch: row.epoch,
            roles: row.roles.0,
            attributes: row.attributes.map(|Json(attributes)| attributes).unwrap_or_default(),
            custom_claims: row.custom_claims.map(|Json(claims)| claims).unwrap_or_default(),
            revision: row.revision,
            create_time: row.create_time,
            update_time: row.update_time,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct CredentialsRow {
    id: UserId,
    state: String,
    epoch: i64,
    password_hash: Option<String>,
    email_verified: bool,
    totp_enrolled: bool,
}

/// The columns of a user row `u` that a sign-in is checked against, read by name.
macro_rules! credentials_columns {
    () => {
        "u.id, u.state, u.epoch, u.password_hash, u.email_verified_time IS NOT NULL AS email_verified, \
         EXISTS (SELECT 1 FROM totp_factors t WHERE t.user_id = u.id AND t.confirm_time IS NOT NULL) AS totp_enrolled"
    };
}
pub(super) use credentials_columns;

impl TryFrom<CredentialsRow> for Credentials {
    type Error = StoreError;

    fn try_from(row: CredentialsRow) -> Result<Self, StoreError> {
        Ok(Self {
            user: row.id,
            state: user_state(&row.state)?,
            epoch: row.epoch,
            password_hash: row.password_hash.map(PhcString::new),
            email_verified: row.email_verified,
            totp_enrolled: row.totp_enrolled,
        })
    }
}

/// The columns of a session row `s`, in the order of nothing: they are read by name.
macro_rules! session_columns {
    () => {
        "s.id, s.user_id, s.epoch, s.client_id, s.audience, s.scope, s.auth_time, s.amr, s.acr, s.device_name, \
         s.user_agent, s.ip_address, s.create_time, s.last_used_time, s.absolute_expire_time, s.generation, \
         s.generation_time, s.refresh_key, s.late_streak, s.late_now, s.end_time"
    };
}
pub(super) use session_columns;

#[derive(sqlx::FromRow)]
pub(super) struct SessionRow {
    pub(super) id: SessionId,
    user_id: UserId,
    epoch: i64,
    client_id: String,
    audience: Json<Vec<String>>,
    scope: String,
    auth_time: Timestamp,
    amr: Json<Vec<String>>,
    acr: String,
    device_name: String,
    user_agent: String,
    ip_address: String,
    create_time: Timestamp,
    last_used_time: Timestamp,
    absolute_expire_time: Timestamp,
    generation: i64,
    generation_time: Timestamp,
    refresh_key: i64,
    late_streak: i64,
    late_now: bool,
    pub(super) end_time: Option<Timestamp>,
}

impl TryFrom<SessionRow> for Session {
    type Error = StoreError;

    fn try_from(row: SessionRow) -> Result<Self, StoreError> {
        let corrupt = |column| move |problem| StoreError::corrupt("sessions", column, problem);
        let audience = row.audience.0.into_iter().map(Audience::try_from).collect::<Result<_, _>>();
        Ok(Self {
            id: row.id,
            grant: Grant {
                user: row.user_id,
                epoch: row.epoch,
                client_id: row.client_id,
                audience: audience.map_err(|_| StoreError::corrupt("sessions", "audience", "not a list of names"))?,
                scope: Scope::try_from(row.scope).map_err(|_| corrupt("scope")("not a list of names"))?,
                auth_time: row.auth_time,
                amr: row.amr.0,
                acr: row.acr,
            },
            device: DeviceInfo {
                name: Label::stored(row.device_name),
                user_agent: Label::stored(row.user_agent),
                ip_address: Label::stored(row.ip_address),
            },
            create_time: row.create_time,
            last_used_time: row.last_used_time,
            absolute_expire_time: row.absolute_expire_time,
            family: Family {
                generation: row.generation,
                made_at: row.generation_time,
                key_id: row.refresh_key,
                late_streak: u8::try_from(row.late_streak).map_err(|_| corrupt("late_streak")("out of range"))?,
                late_now: row.late_now,
            },
        })
    }
}

/// A session row beside what its user's row says at the same moment.
#[derive(sqlx::FromRow)]
pub(super) struct SessionAndUserRow {
    #[sqlx(flatten)]
    pub(super) session: SessionRow,
    pub(super) user_state: String,
    pub(super) user_epoch: i64,
    pub(super) held: Json<Vec<HeldRoleRow>>,
    #[sqlx(flatten)]
    pub(super) own: OwnClaimsRow,
}

/// What tokens say of a user by herself.
#[derive(sqlx::FromRow)]
pub(super) struct OwnClaimsRow {
    own_attributes: Option<Json<Attributes>>,
    own_claims: Option<Json<CustomClaims>>,
}

/// The columns of a user row `u` for [`OwnClaimsRow`], read by name.
macro_rules! own_claims_columns {
    () => {
        "u.attributes AS own_attributes, u.custom_claims AS own_claims"
    };
}
pub(super) use own_claims_columns;

impl From<OwnClaimsRow> for OwnClaims {
    fn from(OwnClaimsRow { own_attributes, own_claims }: OwnClaimsRow) -> Self {
        Self {
            attributes: own_attributes.map(|Json(attributes)| attributes).unwrap_or_default(),
            claims: own_claims.map(|Json(claims)| claims).unwrap_or_default(),
        }
    }
}

/// One of the roles that `held_by_user!` lists.
#[derive(serde::Deserialize)]
pub(super) struct HeldRoleRow {
    name: String,
    permissions: Permissions,
    claims: Option<CustomClaims>,
}

impl HeldRoleRow {
    /// Name, permissions, and what it has tokens say.
    pub(super) fn into_parts(self) -> (String, Permissions, CustomClaims) {
        (self.name, self.permissions, self.claims.unwrap_or_default())
    }
}

/// What listed roles amount to.
pub(super) fn held_roles(rows: Json<Vec<HeldRoleRow>>) -> HeldRoles {
    rows.0.into_iter().map(HeldRoleRow::into_parts).collect()
}

/// Custom claims as their column has them: NULL for none.
pub(super) fn claims_column(claims: &CustomClaims) -> Option<Json<&CustomClaims>> {
    (!claims.is_empty()).then_some(Json(claims))
}

/// A row of `roles`, read by name.
#[derive(sqlx::FromRow)]
pub(super) struct RoleRow {
    name: String,
    description: String,
    permissions: Json<Permissions>,
    custom_claims: Option<Json<CustomClaims>>,
    built_in: bool,
    revision: i64,
    create_time: Timestamp,
    update_time: Timestamp,
}

impl From<RoleRow> for Role {
    fn from(row: RoleRow) -> Self {
        Self {
            name: RoleName::stored(row.name),
            description: Label::stored(row.description),
            permissions: row.permissions.0,
            custom_claims: row.custom_claims.map(|Json(claims)| claims).unwrap_or_default(),
            built_in: row.built_in,
            revision: row.revision,
            create_time: row.create_time,
            update_time: row.update_time,
        }
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct SigningKeyColumns {
    kid: String,
    algorithm: String,
    public_jwk: Json<serde_json::Value>,
    private_key_sealed: Vec<u8>,
    publish_time: Timestamp,
    activate_time: Timestamp,
    retire_time: Option<Timestamp>,
    remove_time: Option<Timestamp>,
}

impl TryFrom<SigningKeyColumns> for SigningKeyRow {
    type Error = StoreError;

    fn try_from(row: SigningKeyColumns) -> Result<Self, StoreError> {
        Ok(Self {
            algorithm: row.algorithm.parse().map_err(|e| StoreError::corrupt("signing_keys", "algorithm", e))?,
            kid: row.kid,
            public_jwk: row.public_jwk.0,
            private_key_sealed: row.private_key_sealed,
            life: KeyLife {
                publish_time: row.publish_time,
                activate_time: row.activate_time,
                retire_time: row.retire_time,
                remove_time: row.remove_time,
            },
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct RefreshKeyColumns {
    id: i64,
    key_sealed: Vec<u8>,
    publish_time: Timestamp,
    activate_time: Timestamp,
    retire_time: Option<Timestamp>,
}

impl From<RefreshKeyColumns> for RefreshKeyRow {
    fn from(row: RefreshKeyColumns) -> Self {
        Self {
            id: row.id,
            key_sealed: row.key_sealed,
            life: KeyLife {
                publish_time: row.publish_time,
                activate_time: row.activate_time,
                retire_time: row.retire_time,
                remove_time: None,
            },
        }
    }
}

/// A JSON column's value.
pub(super) fn from_json<T: DeserializeOwned>(
    value: serde_json::Value,
    table: &'static str,
    column: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(|e| StoreError::corrupt(table, column, e))
}
