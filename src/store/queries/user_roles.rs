//! Who may act on whom, and who has which role.

use sqlx::types::Json;

use super::{
    Db, Tx,
    rows::{HeldRoleRow, UserRow, held_roles, user_columns},
};
use crate::{
    domain::{
        audit::Act,
        claim_rules::check_size,
        custom_claims::CustomClaims,
        id::UserId,
        role::Permissions,
        user::{ADMIN_ROLE, User, UserState},
    },
    store::{Refused, StoreError, port::UserAct},
};

/// A user beside what the user's roles allow.
#[derive(sqlx::FromRow)]
struct UserAndHeldRow {
    #[sqlx(flatten)]
    user: UserRow,
    held: Json<Vec<HeldRoleRow>>,
}

impl Tx {
    /// The user to act on, locked, and what whoever acts may do: it is enough for the act, and no less than what the user may
    /// do, suspended or not. So nobody gets hold of an account that may do more than their own.
    pub(super) async fn user_to_act_on(&mut self, act: &UserAct) -> Result<(User, Permissions), StoreError> {
        // Locked first and read by a second statement: one that waits for the lock would see the user's row as it is now
        // beside the roles as they were before.
        let locked: Option<(UserId,)> =
            sqlx::query_as(concat!("SELECT u.id FROM users u WHERE u.id = $1", for_update!()))
                .bind(act.user)
                .fetch_optional(self.conn())
                .await?;
        if locked.is_none() {
            return Err(Refused::NoUser.into());
        }
        let allowed = self.authorize(&act.warrant).await?;
        let UserAndHeldRow { user, held } = sqlx::query_as::<Db, _>(concat!(
            "SELECT ",
            user_columns!(),
            ", ",
            held_by_user!(),
            " AS held FROM users u WHERE u.id = $1"
        ))
        .bind(act.user)
        .fetch_one(self.conn())
        .await?;
        if !allowed.cover(&held_roles(held).permissions) {
            return Err(Refused::ExceedsOwn.into());
        }
        Ok((user.try_into()?, allowed))
    }

    /// Locks a role against changes. What it allows.
    pub(super) async fn lock_role(&mut self, role: &str) -> Result<Permissions, StoreError> {
        let found: Option<(Json<Permissions>,)> =
            sqlx::query_as(concat!("SELECT permissions FROM roles WHERE name = $1", for_update!()))
                .bind(role)
                .fetch_optional(self.conn())
                .await?;
        found.map(|(Json(permissions),)| permissions).ok_or_else(|| Refused::NoRole.into())
    }

    /// Refuses if the user is the last administrator who is active.
    pub(super) async fn keep_an_administrator(&mut self, user: &User) -> Result<(), StoreError> {
        if user.state != UserState::Active || !user.roles.iter().any(|role| role == ADMIN_ROLE) {
            return Ok(());
        }
        // Everybody who takes an administrator away comes by here one after the other, and looks only then.
        self.lock_role(ADMIN_ROLE).await?;
        let other: Option<(UserId,)> = sqlx::query_as(
            "SELECT u.id FROM user_roles r JOIN users u ON u.id = r.user_id \
             WHERE r.role = $1 AND u.state = 'active' AND u.id <> $2 LIMIT 1",
        )
        .bind(ADMIN_ROLE)
        .bind(user.id)
        .fetch_optional(self.conn())
        .await?;
        if other.is_some() { Ok(()) } else { Err(Refused::LastAdministrator.into()) }
    }

    pub(super) async fn assign_role(&mut self, act: &UserAct, role: &str) -> Result<User, StoreError> {
        let (user, allowed) = self.user_to_act_on(act).await?;
        if !allowed.cover(&self.lock_role(role).await?) {
            return Err(Refused::ExceedsOwn.into());
        }
        self.still_allowed(&act.warrant, &allowed).await?;
        if !self.give_role(user.id, role).await? {
            return Ok(user);
        }
        check_size(&self.said_of(user.id).await?).map_err(|_| Refused::ClaimsTooLarge)?;
        self.roles_changed(user.id).await?;
        self.audit_act(act, Act::RoleAssigned { role: role.to_owned() }).await?;
        self.user(user.id).await
    }

    pub(super) async fn unassign_role(&mut self, act: &UserAct, role: &str) -> Result<User, StoreError> {
        let (user, allowed) = self.user_to_act_on(act).await?;
        if role == ADMIN_ROLE {
            self.keep_an_administrator(&user).await?;
        }
        self.lock_role(role).await?;
        self.still_allowed(&act.warrant, &allowed).await?;
        let taken = sqlx::query("DELETE FROM user_roles WHERE user_id = $1 AND role = $2")
            .bind(user.id)
            .bind(role)
            .execute(self.conn())
            .await?;
        if taken.rows_affected() == 0 {
            return Ok(user);
        }
        self.roles_changed(user.id).await?;
        self.audit_act(act, Act::RoleUnassigned { role: role.to_owned() }).await?;
        self.user(user.id).await
    }

    /// Gives a role that there is. Not, if the user has it.
    pub(super) async fn give_role(&mut self, user: UserId, role: &str) -> Result<bool, StoreError> {
        let now = self.now();
        let given = sqlx::query(
            "INSERT INTO user_roles (user_id, role, assign_time) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(user)
        .bind(role)
        .bind(now)
        .execute(self.conn())
        .await?;
        Ok(given.rows_affected() == 1)
    }

    /// What tokens say by the user's roles and by what is said of the user. What follows from attributes and audiences is the
    /// configuration's, and shows when a token is issued.
    pub(super) async fn said_of(&mut self, user: UserId) -> Result<CustomClaims, StoreError> {
        let (Json(held), claims): (Json<Vec<HeldRoleRow>>, Option<Json<CustomClaims>>) =
            sqlx::query_as(concat!("SELECT ", held_by_user!(), ", u.custom_claims FROM users u WHERE u.id = $1"))
                .bind(user)
                .fetch_one(self.conn())
                .await?;
        let mut said = held_roles(Json(held)).claims;
        said.add(claims.map(|Json(claims)| claims).unwrap_or_default());
        Ok(said)
    }

    async fn roles_changed(&mut self, user: UserId) -> Result<(), StoreError> {
        let now = self.now();
        sqlx::query("UPDATE users SET update_time = $1, revision = revision + 1 WHERE id = $2")
            .bind(now)
            .bind(user)
            .execute(self.conn())
            .await?;
        self.refuse_tokens(user).await
    }
}
