//! Roles. Each change asks what its caller may do after it has locked the role: who had to wait for the lock behind a change
//! that took something from the caller must not go by what was so before.

use async_trait::async_trait;
use sqlx::types::Json;

use super::{
    Database, Tx,
    rows::{RoleRow, claims_column},
};
use crate::{
    domain::{
        audit::{Act, AuditEvent, Origin},
        revocation::Revocation,
        role::{Permissions, Role, RoleChange, RoleName},
        warrant::Warrant,
    },
    store::{
        Refused, StoreError,
        port::{NewRole, RoleStore},
    },
};

/// The columns of [`RoleRow`].
macro_rules! role_columns {
    () => {
        "name, description, permissions, custom_claims, built_in, revision, create_time, update_time"
    };
}

#[async_trait]
impl RoleStore for Database {
    async fn create_role(&self, role: NewRole, warrant: Warrant, origin: Origin) -> Result<Role, StoreError> {
        self.transaction("create_role", (role, warrant, origin), |tx, (new, warrant, origin)| {
            Box::pin(async move {
                tx.covers(warrant, &new.permissions).await?;
                let role = tx.insert_role(new).await?.ok_or(Refused::RoleExists)?;
                let (role_name, permissions) = (new.name.as_str().to_owned(), new.permissions.clone());
                let act = Act::RoleCreated { role: role_name, permissions, custom_claims: new.custom_claims.clone() };
                tx.audit_role(warrant, act, origin).await?;
                Ok(role)
            })
        })
        .await
    }

    async fn update_role(
        &self,
        name: RoleName,
        change: RoleChange,
        revision: Option<i64>,
        warrant: Warrant,
        origin: Origin,
    ) -> Result<Role, StoreError> {
        self.transaction(
            "update_role",
            (name, change, revision, warrant, origin),
            |tx, (name, change, revision, warrant, origin)| {
                Box::pin(async move {
                    let after = change.permissions.as_ref();
                    let role = tx.role_to_change(name, after, *revision, warrant).await?;
                    let RoleChange { description, permissions, custom_claims } = change;
                    let means_other = permissions.as_ref().is_some_and(|wanted| *wanted != role.permissions)
                        || custom_claims.as_ref().is_some_and(|wanted| *wanted != role.custom_claims);
                    if !means_other && description.as_ref().is_none_or(|wanted| *wanted == role.description) {
                        return Ok(role);
                    }
                    let role = Role {
                        description: description.clone().unwrap_or(role.description),
                        permissions: permissions.clone().unwrap_or(role.permissions),
                        custom_claims: custom_claims.clone().unwrap_or(role.custom_claims),
                        revision: role.revision + 1,
                        update_time: tx.now(),
                        ..role
                    };
                    tx.write_role(&role).await?;
                    let role_name = name.as_str().to_owned();
                    if means_other {
                        tx.revoke(Revocation::Role { role: role_name.clone() });
                    }
                    let act = Act::RoleUpdated {
                        role: role_name,
                        permissions: role.permissions.clone(),
                        custom_claims: role.custom_claims.clone(),
                    };
                    tx.audit_role(warrant, act, origin).await?;
                    Ok(role)
                })
            },
        )
        .await
    }

    async fn delete_role(
        &self,
        name: RoleName,
        revision: Option<i64>,
        warrant: Warrant,
        origin: Origin,
    ) -> Result<(), StoreError> {
        self.transaction("delete_role", (name, revision, warrant, origin), |tx, (name, revision, warrant, origin)| {
            Box::pin(async move {
                tx.role_to_change(name, None, *revision, warrant).await?;
                if tx.role_has_holders(name).await? {
                    return Err(Refused::RoleInUse.into());
                }
                sqlx::query("DELETE FROM roles WHERE name = $1").bind(name.as_str()).execute(tx.conn()).await?;
                let act = Act::RoleDeleted { role: name.as_str().to_owned() };
                tx.audit_role(warrant, act, origin).await
            })
        })
        .await
    }

    async fn get_role(&self, name: RoleName) -> Result<Option<Role>, StoreError> {
        self.reading("get_role", &self.pools.read, name, |conn, name| {
            Box::pin(async move {
                let row: Option<RoleRow> =
                    sqlx::query_as(concat!("SELECT ", role_columns!(), " FROM roles WHERE name = $1"))
                        .bind(name.as_str())
                        .fetch_optional(conn)
                        .await?;
                Ok(row.map(Role::from))
            })
        })
        .await
    }

    async fn list_roles(&self, after: Option<RoleName>, limit: u32) -> Result<Vec<Role>, StoreError> {
        self.reading("list_roles", &self.pools.read, (after, limit), |conn, (after, limit)| {
            Box::pin(async move {
                let rows: Vec<RoleRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    role_columns!(),
                    " FROM roles WHERE name",
                    in_byte_order!(),
                    " > $1 ORDER BY name",
                    in_byte_order!(),
                    " LIMIT $2"
                ))
                // Every name comes after the empty one.
                .bind(after.as_ref().map_or("", RoleName::as_str))
                .bind(i64::from(*limit))
                .fetch_all(conn)
                .await?;
                Ok(rows.into_iter().map(Role::from).collect())
            })
        })
        .await
    }
}

impl Tx {
    /// Whether the caller may act, and holds all of this, at this moment.
    async fn covers(&mut self, warrant: &Warrant, wanted: &Permissions) -> Result<(), StoreError> {
        if self.authorize(warrant).await?.cover(wanted) { Ok(()) } else { Err(Refused::ExceedsOwn.into()) }
    }

    /// Locks a role that the caller may change so that it allows `after`, or be rid of. Whoever gives the role to somebody
    /// waits for the lock, or is waited for.
    async fn role_to_change(
        &mut self,
        name: &RoleName,
        after: Option<&Permissions>,
        revision: Option<i64>,
        warrant: &Warrant,
    ) -> Result<Role, StoreError> {
        let row: Option<RoleRow> =
            sqlx::query_as(concat!("SELECT ", role_columns!(), " FROM roles WHERE name = $1", for_update!()))
                .bind(name.as_str())
                .fetch_optional(self.conn())
                .await?;
        let held = self.authorize(warrant).await?;
        let role = Role::from(row.ok_or(Refused::NoRole)?);
        if role.built_in {
            return Err(Refused::RoleBuiltIn.into());
        }
        if !held.cover(&role.permissions) || after.is_some_and(|after| !held.cover(after)) {
            return Err(Refused::ExceedsOwn.into());
        }
        if revision.is_some_and(|read| read != role.revision) {
            return Err(Refused::EtagMismatch.into());
        }
        Ok(role)
    }

    /// `None`: there is a role of this name. Its first revision is the moment of its creation, so that what was read of a
    /// deleted role of the same name is not taken for it.
    async fn insert_role(&mut self, new: &NewRole) -> Result<Option<Role>, StoreError> {
        let now = self.now();
        let row: Option<RoleRow> = sqlx::query_as(concat!(
            "INSERT INTO roles (name, description, permissions, custom_claims, built_in, revision, create_time, update_time) \
             VALUES ($1, $2, $3, $5, FALSE, $4, $4, $4) ON CONFLICT DO NOTHING RETURNING ",
            role_columns!()
        ))
        .bind(new.name.as_str())
        .bind(new.description.as_str())
        .bind(Json(&new.permissions))
        .bind(now)
        .bind(claims_column(&new.custom_claims))
        .fetch_optional(self.conn())
        .await?;
        Ok(row.map(Role::from))
    }

    async fn write_role(&mut self, role: &Role) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE roles SET description = $1, permissions = $2, revision = $3, update_time = $4, custom_claims = $6 \
             WHERE name = $5",
        )
        .bind(role.description.as_str())
        .bind(Json(&role.permissions))
        .bind(role.revision)
        .bind(role.update_time)
        .bind(role.name.as_str())
        .bind(claims_column(&role.custom_claims))
        .execute(self.conn())
        .await?;
        Ok(())
    }

    /// Whether a user or service account has the role.
    async fn role_has_holders(&mut self, name: &RoleName) -> Result<bool, StoreError> {
        let (has,): (bool,) = sqlx::query_as(
            "SELECT EXISTS (SELECT 1 FROM user_roles WHERE role = $1) \
             OR EXISTS (SELECT 1 FROM service_account_roles WHERE role = $1)",
        )
        .bind(name.as_str())
        .fetch_one(self.conn())
        .await?;
        Ok(has)
    }

    async fn audit_role(&mut self, warrant: &Warrant, act: Act, origin: &Origin) -> Result<(), StoreError> {
        let event = AuditEvent { actor: warrant.actor, subject: None, act, origin: origin.clone() };
        self.audit(&event).await
    }
}
