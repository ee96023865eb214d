//! Service accounts: create, read, change, delete, and their secrets.

use async_trait::async_trait;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    Conn, Database, Tx,
    rows::{HeldRoleRow, held_roles},
};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        claim_rules::check_size,
        id::{ServiceAccountId, TokenId},
        revocation::Revocation,
        role::{HeldRoles, Permissions},
        service_account::{ASSIGN_ROLES, ClientProof, SecretLife, ServiceAccount},
        spiffe::SpiffeId,
        time::Timestamp,
        user::Label,
        warrant::Warrant,
    },
    store::{
        Refused, StoreError,
        port::{KnownService, NewSecret, NewServiceAccount, ServiceAccountChange, ServiceAccountStore},
    },
};

#[async_trait]
impl ServiceAccountStore for Database {
    async fn create_service_account(
        &self,
        warrant: Warrant,
        new: NewServiceAccount,
        origin: Origin,
    ) -> Result<ServiceAccount, StoreError> {
        self.transaction("create_service_account", (warrant, new, origin), |tx, (warrant, new, origin)| {
            Box::pin(create(tx, warrant, new, origin))
        })
        .await
    }

    async fn get_service_account(&self, id: ServiceAccountId) -> Result<Option<ServiceAccount>, StoreError> {
        let now = self.around.clock.now();
        self.reading("get_service_account", &self.pools.read, (id, now), |conn, (id, now)| {
            Box::pin(async move { Ok(find(conn, *id, *now).await?.map(|held| held.account)) })
        })
        .await
    }

    async fn list_service_accounts(
        &self,
        after: Option<ServiceAccountId>,
        limit: u32,
    ) -> Result<Vec<ServiceAccount>, StoreError> {
        let now = self.around.clock.now();
        self.reading("list_service_accounts", &self.pools.read, (after, limit, now), |conn, (after, limit, now)| {
            Box::pin(list(conn, *after, *limit, *now))
        })
        .await
    }

    async fn update_service_account(
        &self,
        warrant: Warrant,
        id: ServiceAccountId,
        change: ServiceAccountChange,
        origin: Origin,
    ) -> Result<ServiceAccount, StoreError> {
        self.transaction(
            "update_service_account",
            (warrant, id, change, origin),
            |tx, (warrant, id, change, origin)| Box::pin(update(tx, warrant, *id, change, origin)),
        )
        .await
    }

    async fn rotate_service_account_secret(
        &self,
        warrant: Warrant,
        id: ServiceAccountId,
        new: NewSecret,
        origin: Origin,
    ) -> Result<ServiceAccount, StoreError> {
        self.transaction(
            "rotate_service_account_secret",
            (warrant, id, new, origin),
            |tx, (warrant, id, new, origin)| Box::pin(rotate(tx, warrant, *id, *new, origin)),
        )
        .await
    }

    async fn delete_service_account(
        &self,
        warrant: Warrant,
        id: ServiceAccountId,
        revision: Option<i64>,
        origin: Origin,
    ) -> Result<(), StoreError> {
        self.transaction(
            "delete_service_account",
            (warrant, id, revision, origin),
            |tx, (warrant, id, revision, origin)| Box::pin(delete(tx, warrant, *id, *revision, origin)),
        )
        .await
    }

    async fn admit_service(
        &self,
        proof: ClientProof,
        token: TokenId,
        origin: Origin,
    ) -> Result<Option<KnownService>, StoreError> {
        self.transaction("admit_service", (proof, token, origin), |tx, (proof, token, origin)| {
            Box::pin(tx.admit_service(proof, *token, origin))
        })
        .await
    }

    async fn purge_service_accounts(&self) -> Result<u64, StoreError> {
        self.transaction("purge_service_accounts", (), |tx, ()| {
            Box::pin(async move {
                let now = tx.now();
                let secrets = sqlx::query("DELETE FROM service_account_secrets WHERE expire_time <= $1")
                    .bind(now)
                    .execute(tx.conn())
                    .await?;
                Ok(secrets.rows_affected())
            })
        })
        .await
    }
}

/// A service account beside what of it concerns nobody but us.
struct Held {
    account: ServiceAccount,
    epoch: i64,
    permissions: Permissions,
}

#[derive(sqlx::FromRow)]
struct ServiceAccountRow {
    id: ServiceAccountId,
    display_name: String,
    spiffe_id: Option<String>,
    epoch: i64,
    revision: i64,
    create_time: Timestamp,
    update_time: Timestamp,
    held: Json<Vec<HeldRoleRow>>,
}

#[derive(sqlx::FromRow)]
struct SecretRow {
    service_account_id: ServiceAccountId,
    id: Uuid,
    create_time: Timestamp,
    expire_time: Option<Timestamp>,
}

/// The columns of a service account row `a`, read by name.
macro_rules! service_account_columns {
    () => {
        concat!(
            "a.id, a.display_name, a.spiffe_id, a.epoch, a.revision, a.create_time, a.update_time, ",
            held_by_service!(),
            " AS held"
        )
    };
}

impl From<ServiceAccountRow> for Held {
    fn from(row: ServiceAccountRow) -> Self {
        let HeldRoles { names, permissions, claims: _ } = held_roles(row.held);
        let account = ServiceAccount {
            id: row.id,
            display_name: Label::stored(row.display_name),
            spiffe_id: row.spiffe_id.map(SpiffeId::stored),
            roles: names,
            secrets: Vec::new(),
            revision: row.revision,
            create_time: row.create_time,
            update_time: row.update_time,
        };
        Self { account, epoch: row.epoch, permissions }
    }
}

async fn find(conn: &mut Conn, id: ServiceAccountId, now: Timestamp) -> Result<Option<Held>, StoreError> {
    let row: Option<ServiceAccountRow> =
        sqlx::query_as(concat!("SELECT ", service_account_columns!(), " FROM service_accounts a WHERE a.id = $1"))
            .bind(id)
            .fetch_optional(&mut *conn)
            .await?;
    let Some(mut held) = row.map(Held::from) else { return Ok(None) };
    held.account.secrets = secrets(conn, id, id, now).await?.into_iter().map(|(_, secret)| secret).collect();
    Ok(Some(held))
}

async fn list(
    conn: &mut Conn,
    after: Option<ServiceAccountId>,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<ServiceAccount>, StoreError> {
    let rows: Vec<ServiceAccountRow> = sqlx::query_as(concat!(
        "SELECT ",
        service_account_columns!(),
        " FROM service_accounts a WHERE a.id > $1 ORDER BY a.id LIMIT $2"
    ))
    .bind(after.unwrap_or(ServiceAccountId::from_uuid(Uuid::nil())))
    .bind(i64::from(limit))
    .fetch_all(&mut *conn)
    .await?;
    let mut accounts: Vec<_> = rows.into_iter().map(|row| Held::from(row).account).collect();
    if let (Some(first), Some(last)) = (accounts.first(), accounts.last()) {
        for (owner, secret) in secrets(conn, first.id, last.id, now).await? {
            if let Ok(place) = accounts.binary_search_by_key(&owner, |account| account.id) {
                accounts[place].secrets.push(secret);
            }
        }
    }
    Ok(accounts)
}

/// The secrets that are accepted, of all accounts from `first` to `last`, newest first.
async fn secrets(
    conn: &mut Conn,
    first: ServiceAccountId,
    last: ServiceAccountId,
    now: Timestamp,
) -> Result<Vec<(ServiceAccountId, SecretLife)>, StoreError> {
    let rows: Vec<SecretRow> = sqlx::query_as(
        "SELECT service_account_id, id, create_time, expire_time FROM service_account_secrets \
         WHERE service_account_id >= $1 AND service_account_id <= $2 AND (expire_time IS NULL OR expire_time > $3) \
         ORDER BY create_time DESC, id DESC",
    )
    .bind(first)
    .bind(last)
    .bind(now)
    .fetch_all(conn)
    .await?;
    let life = |row: &SecretRow| SecretLife { id: row.id, create_time: row.create_time, expire_time: row.expire_time };
    Ok(rows.iter().map(|row| (row.service_account_id, life(row))).collect())
}

/// A service account, held against others who would change it until the end, whose permissions are among those `allowed`.
async fn hold(tx: &mut Tx, id: ServiceAccountId, allowed: &Permissions) -> Result<Held, StoreError> {
    // Read after it is held, or the roles could be those from before.
    sqlx::query(concat!("SELECT id FROM service_accounts WHERE id = $1", for_update!()))
        .bind(id)
        .execute(tx.conn())
        .await?;
    let now = tx.now();
    let held = find(tx.conn(), id, now).await?.ok_or(Refused::NoServiceAccount)?;
    if allowed.cover(&held.permissions) { Ok(held) } else { Err(Refused::ExceedsOwn.into()) }
}

async fn create(
    tx: &mut Tx,
    warrant: &Warrant,
    new: &NewServiceAccount,
    origin: &Origin,
) -> Result<ServiceAccount, StoreError> {
    let allowed = tx.authorize(warrant).await?;
    if let Some(request) = &new.request
        && let Some(made) = tx.claim(request, warrant.actor, *new.id.as_uuid()).await?
    {
        return Ok(hold(tx, ServiceAccountId::from_uuid(made), &allowed).await?.account);
    }
    let now = tx.now();
    sqlx::query(
        "INSERT INTO service_accounts (id, display_name, spiffe_id, epoch, revision, create_time, update_time) \
         VALUES ($1, $2, $3, 0, 1, $4, $4)",
    )
    .bind(new.id)
    .bind(new.display_name.as_str())
    .bind(new.spiffe_id.as_ref().map(SpiffeId::as_str))
    .bind(now)
    .execute(tx.conn())
    .await
    .map_err(taken)?;
    audit(tx, warrant, new.id, Act::ServiceAccountCreated, origin).await?;
    set_roles(tx, warrant, &allowed, new.id, (&[], &new.roles), origin).await?;
    if let Some(hash) = &new.secret {
        // The first secret goes by the account's own id, which whoever lost the answer gets again.
        insert_secret(tx, new.id, *new.id.as_uuid(), hash.as_bytes()).await?;
    }
    Ok(hold(tx, new.id, &allowed).await?.account)
}

async fn update(
    tx: &mut Tx,
    warrant: &Warrant,
    id: ServiceAccountId,
    change: &ServiceAccountChange,
    origin: &Origin,
) -> Result<ServiceAccount, StoreError> {
    let allowed = tx.authorize(warrant).await?;
    let Held { account, epoch, .. } = hold(tx, id, &allowed).await?;
    tx.still_allowed(warrant, &allowed).await?;
    check_revision(change.revision, &account)?;
    let display_name = change.display_name.as_ref().unwrap_or(&account.display_name);
    let spiffe_id = change.spiffe_id.as_ref().unwrap_or(&account.spiffe_id);
    let roles = change.roles.as_ref().unwrap_or(&account.roles);
    let other_roles = *roles != account.roles;
    let fields: Vec<_> = [
        ("display_name", *display_name != account.display_name),
        ("spiffe_id", *spiffe_id != account.spiffe_id),
        ("roles", other_roles),
    ]
    .into_iter()
    .filter(|(_, changed)| *changed)
    .map(|(name, _)| name.to_owned())
    .collect();
    if fields.is_empty() {
        return Ok(account);
    }
    sqlx::query("UPDATE service_accounts SET display_name = $1, spiffe_id = $2 WHERE id = $3")
        .bind(display_name.as_str())
        .bind(spiffe_id.as_ref().map(SpiffeId::as_str))
        .bind(id)
        .execute(tx.conn())
        .await
        .map_err(taken)?;
    revise(tx, id, epoch, other_roles).await?;
    audit(tx, warrant, id, Act::ServiceAccountUpdated { fields }, origin).await?;
    if other_roles {
        set_roles(tx, warrant, &allowed, id, (&account.roles, roles), origin).await?;
    }
    Ok(hold(tx, id, &allowed).await?.account)
}

async fn rotate(
    tx: &mut Tx,
    warrant: &Warrant,
    id: ServiceAccountId,
    new: NewSecret,
    origin: &Origin,
) -> Result<ServiceAccount, StoreError> {
    let allowed = tx.authorize(warrant).await?;
    let Held { account, epoch, .. } = hold(tx, id, &allowed).await?;
    tx.still_allowed(warrant, &allowed).await?;
    let previous = account.secrets.first().filter(|_| new.keep_previous_until.is_some());
    sqlx::query("DELETE FROM service_account_secrets WHERE service_account_id = $1 AND id <> $2")
        .bind(id)
        .bind(previous.map_or(Uuid::nil(), |secret| secret.id))
        .execute(tx.conn())
        .await?;
    sqlx::query("UPDATE service_account_secrets SET expire_time = $1 WHERE service_account_id = $2")
        .bind(new.keep_previous_until)
        .bind(id)
        .execute(tx.conn())
        .await?;
    insert_secret(tx, id, new.id, new.hash.as_bytes()).await?;
    revise(tx, id, epoch, new.keep_previous_until.is_none()).await?;
    audit(tx, warrant, id, Act::ServiceAccountSecretRotated { secret: new.id }, origin).await?;
    Ok(hold(tx, id, &allowed).await?.account)
}

async fn delete(
    tx: &mut Tx,
    warrant: &Warrant,
    id: ServiceAccountId,
    revision: Option<i64>,
    origin: &Origin,
) -> Result<(), StoreError> {
    let allowed = tx.authorize(warrant).await?;
    let Held { account, epoch, .. } = hold(tx, id, &allowed).await?;
    tx.still_allowed(warrant, &allowed).await?;
    check_revision(revision, &account)?;
    // Roles and secrets go along.
    sqlx::query("DELETE FROM service_accounts WHERE id = $1").bind(id).execute(tx.conn()).await?;
    tx.revoke(Revocation::ServiceAccount { account: id, epoch: epoch + 1 });
    audit(tx, warrant, id, Act::ServiceAccountDeleted, origin).await
}

/// Gives a service account the second roles instead of the first, if its manager may give roles, and these. Both are sorted.
async fn set_roles(
    tx: &mut Tx,
    warrant: &Warrant,
    allowed: &Permissions,
    id: ServiceAccountId,
    (old, new): (&[String], &[String]),
    origin: &Origin,
) -> Result<(), StoreError> {
    if old != new && !allowed.allow(ASSIGN_ROLES) {
        return Err(Refused::NotPermitted.into());
    }
    let now = tx.now();
    for role in new {
        // Held, so that nobody deletes it or gives it more in the meantime.
        let found: Option<(Json<Permissions>,)> =
            sqlx::query_as(concat!("SELECT permissions FROM roles WHERE name = $1", for_update!()))
                .bind(role)
                .fetch_optional(tx.conn())
                .await?;
        let (Json(permissions),) = found.ok_or(Refused::NoRole)?;
        if !allowed.cover(&permissions) {
            return Err(Refused::ExceedsOwn.into());
        }
        if warrant.actor != Actor::Service(id) {
            tx.still_allowed(warrant, allowed).await?;
        }
        if !old.contains(role) {
            sqlx::query(
                "INSERT INTO service_account_roles (service_account_id, role, assign_time) VALUES ($1, $2, $3)",
            )
            .bind(id)
            .bind(role)
            .bind(now)
            .execute(tx.conn())
            .await?;
            audit(tx, warrant, id, Act::RoleAssigned { role: role.clone() }, origin).await?;
        }
    }
    for role in old.iter().filter(|role| !new.contains(role)) {
        sqlx::query("DELETE FROM service_account_roles WHERE service_account_id = $1 AND role = $2")
            .bind(id)
            .bind(role)
            .execute(tx.conn())
            .await?;
        audit(tx, warrant, id, Act::RoleUnassigned { role: role.clone() }, origin).await?;
    }
    if new.iter().all(|role| old.contains(role)) {
        // Whatever they say, nobody is kept from taking roles away.
        return Ok(());
    }
    let (held,): (Json<Vec<HeldRoleRow>>,) =
        sqlx::query_as(concat!("SELECT ", held_by_service!(), " FROM service_accounts a WHERE a.id = $1"))
            .bind(id)
            .fetch_one(tx.conn())
            .await?;
    check_size(&held_roles(held).claims).map_err(|_| Refused::ClaimsTooLarge.into())
}

async fn insert_secret(tx: &mut Tx, account: ServiceAccountId, id: Uuid, hash: &[u8; 32]) -> Result<(), StoreError> {
    let now = tx.now();
    sqlx::query(
        "INSERT INTO service_account_secrets (id, service_account_id, hash, create_time) VALUES ($1, $2, $3, $4)",
    )
    .bind(id)
    .bind(account)
    .bind(&hash[..])
    .bind(now)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Another revision, and another epoch if the tokens from before shall be refused.
async fn revise(tx: &mut Tx, id: ServiceAccountId, epoch: i64, refuse_tokens: bool) -> Result<(), StoreError> {
    let (now, epoch) = (tx.now(), epoch + i64::from(refuse_tokens));
    sqlx::query("UPDATE service_accounts SET epoch = $1, revision = revision + 1, update_time = $2 WHERE id = $3")
        .bind(epoch)
        .bind(now)
        .bind(id)
        .execute(tx.conn())
        .await?;
    if refuse_tokens {
        tx.revoke(Revocation::ServiceAccount { account: id, epoch });
    }
    Ok(())
}

async fn audit(
    tx: &mut Tx,
    warrant: &Warrant,
    id: ServiceAccountId,
    act: Act,
    origin: &Origin,
) -> Result<(), StoreError> {
    tx.audit(&AuditEvent { actor: warrant.actor, subject: Some(id.into()), act, origin: origin.clone() }).await
}

fn check_revision(wanted: Option<i64>, account: &ServiceAccount) -> Result<(), StoreError> {
    match wanted {
        Some(revision) if revision != account.revision => Err(Refused::EtagMismatch.into()),
        _ => Ok(()),
    }
}

/// The one thing besides its random id that no two accounts share.
fn taken(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(cause) if cause.is_unique_violation() => Refused::SpiffeIdTaken.into(),
        _ => error.into(),
    }
}
