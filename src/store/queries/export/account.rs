//! The account itself, and the roles that it has.

use sqlx::types::Json;
use uuid::Uuid;

use super::{
    super::{
        Db,
        rows::{UserRow, user_columns},
    },
    Person, Reader, page,
};
use crate::{
    crypto::password_scheme,
    domain::{custom_claims::CustomClaims, role::Permissions, time::Timestamp, user::PhcString},
    store::{
        Refused, StoreError,
        port::{ExportPage, ExportPlace, HeldAccount, HeldRecord, HeldRole, HeldTotp},
    },
};

#[derive(sqlx::FromRow)]
struct AccountRow {
    #[sqlx(flatten)]
    user: UserRow,
    password_hash: Option<String>,
    password_time: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct RoleRow {
    name: String,
    description: String,
    permissions: Json<Permissions>,
    custom_claims: Option<Json<CustomClaims>>,
    assign_time: Timestamp,
}

type TotpRow = (Uuid, Timestamp, Option<Timestamp>, i64);

/// How a stored hash was made. The hash itself goes no further.
fn scheme(hash: String) -> &'static str {
    password_scheme(&PhcString::new(hash))
}

impl Reader<'_> {
    pub(super) async fn account(self, person: &Person) -> Result<ExportPage, StoreError> {
        let Self(conn) = self;
        let row: Option<AccountRow> = sqlx::query_as::<Db, _>(concat!(
            "SELECT ",
            user_columns!(),
            ", u.password_hash, u.password_time FROM users u WHERE u.id = $1"
        ))
        .bind(person.id)
        .fetch_optional(&mut *conn)
        .await?;
        let AccountRow { user, password_hash, password_time } = row.ok_or(Refused::NoUser)?;
        let former: Vec<(String, Timestamp)> = sqlx::query_as(
            "SELECT password_hash, replace_time FROM password_history WHERE user_id = $1 ORDER BY revision DESC",
        )
        .bind(person.id)
        .fetch_all(&mut *conn)
        .await?;
        let totp: Option<TotpRow> =
            sqlx::query_as("SELECT id, create_time, confirm_time, last_step FROM totp_factors WHERE user_id = $1")
                .bind(person.id)
                .fetch_optional(&mut *conn)
                .await?;
        let (recovery_codes_left, recovery_codes_time): (i64, Option<Timestamp>) =
            sqlx::query_as("SELECT COUNT(*), MIN(create_time) FROM recovery_codes WHERE user_id = $1")
                .bind(person.id)
                .fetch_one(&mut *conn)
                .await?;
        let account = HeldAccount {
            user: user.try_into()?,
            password_scheme: password_hash.map(scheme),
            password_time,
            former_passwords: former.into_iter().map(|(hash, time)| (scheme(hash), time)).collect(),
            totp: totp.map(|(id, create_time, confirm_time, last_step)| HeldTotp {
                id,
                create_time,
                confirm_time,
                last_step,
            }),
            recovery_codes_left,
            recovery_codes_time,
        };
        let next = Some(ExportPlace::Roles(String::new()));
        Ok(ExportPage { records: vec![HeldRecord::Account(Box::new(account))], next })
    }

    pub(super) async fn roles(self, person: &Person, after: &str, limit: i64) -> Result<ExportPage, StoreError> {
        let rows: Vec<RoleRow> = sqlx::query_as(
            "SELECT r.name, r.description, r.permissions, r.custom_claims, ur.assign_time FROM user_roles ur \
             JOIN roles r ON r.name = ur.role WHERE ur.user_id = $1 AND ur.role > $2 ORDER BY ur.role LIMIT $3",
        )
        .bind(person.id)
        .bind(after)
        .bind(limit)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &RoleRow| ExportPlace::Roles(row.name.clone());
        page(rows, limit, behind, ExportPlace::Sessions(Uuid::nil()), |row| {
            let RoleRow { name, description, permissions, custom_claims, assign_time } = row;
            let custom_claims = custom_claims.map(|Json(claims)| claims).unwrap_or_default();
            Ok(HeldRecord::Role(HeldRole { name, description, permissions: permissions.0, custom_claims, assign_time }))
        })
    }
}
