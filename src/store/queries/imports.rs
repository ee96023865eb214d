//! Imports: many users in one transaction, by a handful of statements.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    Database, Db, Tx,
    audit::{actor, detail},
    rows::HeldRoleRow,
};
use crate::{
    domain::{
        audit::{Act, Origin},
        claim_rules::check_size,
        custom_claims::CustomClaims,
        id::{EventId, UserId},
        role::Permissions,
        secret::random,
        time::Timestamp,
        user::{Attributes, PhcString, User, Username},
        warrant::Warrant,
    },
    store::{
        Refused, StoreError,
        port::{ImportBatch, ImportProgress, ImportStore, ImportedBatch, NewUser, RecordedEvent, RowError},
    },
};

/// What it takes to import users with roles.
const ASSIGN_ROLES: &str = "roles:assign";

/// How many refused rows of an import are kept.
const KEPT_ERRORS: i64 = 1000;

/// A user as `listed_users!` reads it.
#[derive(Serialize)]
struct ListedUser<'a> {
    id: UserId,
    email: &'a str,
    email_key: &'a str,
    email_verified_time: Option<Timestamp>,
    username: Option<&'a str>,
    display_name: &'a str,
    password_hash: Option<&'a str>,
    state: &'static str,
    epoch: i64,
    attributes: Option<&'a Attributes>,
    custom_claims: Option<&'a CustomClaims>,
    create_time: Timestamp,
}

impl<'a> From<&'a NewUser> for ListedUser<'a> {
    fn from(NewUser { user, password_hash }: &'a NewUser) -> Self {
        Self {
            id: user.id,
            email: user.email.as_typed(),
            email_key: user.email.key(),
            email_verified_time: user.email_verified_time,
            username: user.username.as_ref().map(Username::as_str),
            display_name: user.display_name.as_str(),
            password_hash: password_hash.as_ref().map(PhcString::expose),
            state: user.state.as_str(),
            epoch: user.epoch,
            attributes: (!user.attributes.is_empty()).then_some(&user.attributes),
            custom_claims: (!user.custom_claims.is_empty()).then_some(&user.custom_claims),
            create_time: user.create_time,
        }
    }
}

/// What goes with a new user, as `listed_followers!` reads it.
#[derive(Serialize)]
struct Follower<'a> {
    id: UserId,
    /// In hexadecimal digits.
    key: String,
    roles: &'a [String],
}

#[async_trait]
impl ImportStore for Database {
    async fn import_progress(&self, warrant: Warrant, import: Uuid) -> Result<ImportProgress, StoreError> {
        self.transaction("import_progress", (warrant, import), |tx, (warrant, import)| {
            Box::pin(async move {
                tx.authorize(warrant).await?;
                Ok(tx.locked_progress(*import, &owner(warrant)).await?.unwrap_or(ImportProgress::START))
            })
        })
        .await
    }

    async fn import_users(
        &self,
        warrant: Warrant,
        batch: ImportBatch,
        origin: Origin,
    ) -> Result<ImportedBatch, StoreError> {
        self.transaction("import_users", (warrant, batch, origin), |tx, (warrant, batch, origin)| {
            Box::pin(tx.import(warrant, batch, origin))
        })
        .await
    }

    async fn import_errors(&self, import: Uuid, limit: u32) -> Result<Vec<RowError>, StoreError> {
        self.reading("import_errors", &self.pools.read, (import, limit), |conn, (import, limit)| {
            Box::pin(async move {
                let rows: Vec<(i64, String, String)> = sqlx::query_as(
                    "SELECT place, field, description FROM import_errors WHERE import_id = $1 ORDER BY place LIMIT $2",
                )
                .bind(*import)
                .bind(i64::from(*limit))
                .fetch_all(conn)
                .await?;
                Ok(rows.into_iter().map(|(row, field, description)| RowError { row, field, description }).collect())
            })
        })
        .await
    }

    async fn purge_imports(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.transaction("purge_imports", before, |tx, before| {
            Box::pin(async move {
                let purged =
                    sqlx::query("DELETE FROM imports WHERE update_time < $1").bind(*before).execute(tx.conn()).await?;
                Ok(purged.rows_affected())
            })
        })
        .await
    }
}

/// Whose import it is.
fn owner(warrant: &Warrant) -> String {
    match actor(warrant.actor) {
        (kind, Some(id)) => format!("{kind} {id}"),
        (kind, None) => kind.to_owned(),
    }
}

impl Tx {
    async fn import(
        &mut self,
        warrant: &Warrant,
        batch: &ImportBatch,
        origin: &Origin,
    ) -> Result<ImportedBatch, StoreError> {
        let allowed = self.authorize(warrant).await?;
        let progress = self.progress_of(batch, &owner(warrant)).await?;
        let after = batch.first_row + batch.rows;
        if after <= progress.next_row {
            return Ok(ImportedBatch { progress, errors: Vec::new() });
        }
        let mut errors: Vec<RowError> = batch.errors.iter().filter(|e| e.row >= progress.next_row).cloned().collect();
        let users: Vec<_> = batch.users.iter().filter(|(row, _)| *row >= progress.next_row).collect();
        let users = self.with_roles_that_may_be_given(users, &allowed, &mut errors).await?;
        let users = self.insert_all(users, &mut errors).await?;
        self.insert_followers(&users, batch.import, warrant, origin).await?;
        self.still_allowed(warrant, &allowed).await?;
        errors.sort_by_key(|error| error.row);
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let progress = ImportProgress {
            next_row: after,
            imported: progress.imported + count(users.len()),
            failed: progress.failed + count(errors.len()),
        };
        if batch.validate_only {
            self.abandon();
        } else {
            self.store_progress(batch.import, progress, &errors).await?;
        }
        Ok(ImportedBatch { progress, errors })
    }

    /// How far the import was before this batch. It is begun with its first row; the row is locked until the end, so that of two
    /// streams of one import the second passes over what the first has stored.
    async fn progress_of(&mut self, batch: &ImportBatch, owner: &str) -> Result<ImportProgress, StoreError> {
        if batch.validate_only {
            return Ok(ImportProgress { next_row: batch.first_row, ..ImportProgress::START });
        }
        let now = self.now();
        sqlx::query(
            "INSERT INTO imports (id, actor, next_row, imported, failed, create_time, update_time) \
             VALUES ($1, $2, 1, 0, 0, $3, $3) ON CONFLICT DO NOTHING",
        )
        .bind(batch.import)
        .bind(owner)
        .bind(now)
        .execute(self.conn())
        .await?;
        let progress = self.locked_progress(batch.import, owner).await?.ok_or(Refused::ImportOutOfStep)?;
        if progress.next_row < batch.first_row {
            return Err(Refused::ImportOutOfStep.into());
        }
        Ok(progress)
    }

    async fn locked_progress(&mut self, import: Uuid, owner: &str) -> Result<Option<ImportProgress>, StoreError> {
        let row: Option<(String, i64, i64, i64)> = sqlx::query_as(concat!(
            "SELECT actor, next_row, imported, failed FROM imports WHERE id = $1",
            for_update!()
        ))
        .bind(import)
        .fetch_optional(self.conn())
        .await?;
        match row {
            Some((actor, ..)) if actor != owner => Err(Refused::RequestIdReused.into()),
            Some((_, next_row, imported, failed)) => Ok(Some(ImportProgress { next_row, imported, failed })),
            None => Ok(None),
        }
    }

    /// The users whose roles there are, and may be given by whoever is allowed this much.
    async fn with_roles_that_may_be_given<'a>(
        &mut self,
        users: Vec<&'a (i64, NewUser)>,
        allowed: &Permissions,
        errors: &mut Vec<RowError>,
    ) -> Result<Vec<&'a (i64, NewUser)>, StoreError> {
        let wanted: HashSet<&String> = users.iter().flat_map(|(_, new)| &new.user.roles).collect();
        if wanted.is_empty() {
            return Ok(users);
        }
        let roles: HashMap<String, (Permissions, CustomClaims)> = sqlx::query_as::<Db, (Json<HeldRoleRow>,)>(concat!(
            "SELECT ",
            role_object!(),
            " FROM roles r WHERE ",
            is_among!("r.name", "$1"),
            " ORDER BY r.name",
            // Nobody makes more of a role, or deletes it, until these have it.
            for_update!()
        ))
        .bind(Json(wanted))
        .fetch_all(self.conn())
        .await?
        .into_iter()
        .map(|(Json(row),)| row.into_parts())
        .map(|(name, permissions, claims)| (name, (permissions, claims)))
        .collect();
        let problem = |role: &String| match roles.get(role) {
            None => Some("names a role that does not exist"),
            Some(_) if !allowed.allow(ASSIGN_ROLES) => Some("cannot be given: you lack the permission roles:assign"),
            Some((permissions, _)) if !allowed.cover(permissions) => {
                Some("names a role that allows more than you may do")
            }
            Some(_) => None,
        };
        Ok(users
            .into_iter()
            .filter(|(row, new)| match new.user.roles.iter().find_map(&problem) {
                None if says_too_much(&new.user, &roles) => {
                    errors.push(error(
                        *row,
                        "custom_claims",
                        "are too large for a token together with those of the roles",
                    ));
                    false
                }
                None => true,
                Some(description) => {
                    errors.push(error(*row, "roles", description));
                    false
                }
            })
            .collect())
    }

    /// Those that went in; the others' address or user name is taken.
    async fn insert_all<'a>(
        &mut self,
        users: Vec<&'a (i64, NewUser)>,
        errors: &mut Vec<RowError>,
    ) -> Result<Vec<&'a (i64, NewUser)>, StoreError> {
        if users.is_empty() {
            return Ok(users);
        }
        let now = self.now();
        let inserted: Vec<(UserId,)> = sqlx::query_as(concat!(
            "INSERT INTO users (id, email, email_key, email_verified_time, username, display_name, password_hash, \
             password_time, state, epoch, attributes, custom_claims, create_time, update_time) \
             SELECT w.id, w.email, w.email_key, w.email_verified_time, w.username, w.display_name, w.password_hash, \
             w.create_time, w.state, w.epoch, w.attributes, w.custom_claims, w.create_time, $2 FROM ",
            listed_users!("$1"),
            " WHERE TRUE ON CONFLICT DO NOTHING RETURNING id"
        ))
        .bind(Json(users.iter().map(|(_, new)| ListedUser::from(new)).collect::<Vec<_>>()))
        .bind(now)
        .fetch_all(self.conn())
        .await?;
        let inserted: HashSet<UserId> = inserted.into_iter().map(|(id,)| id).collect();
        let (users, refused): (Vec<_>, Vec<_>) =
            users.into_iter().partition(|(_, new)| inserted.contains(&new.user.id));
        if !refused.is_empty() {
            let taken = self.addresses_taken(&refused).await?;
            errors.extend(refused.iter().map(|(row, new)| {
                if taken.contains(new.user.email.key()) {
                    error(*row, "email", "belongs to another account")
                } else {
                    error(*row, "username", "belongs to another account")
                }
            }));
        }
        Ok(users)
    }

    async fn addresses_taken(&mut self, users: &[&(i64, NewUser)]) -> Result<HashSet<String>, StoreError> {
        let keys: Vec<_> = users.iter().map(|(_, new)| new.user.email.key()).collect();
        let taken: Vec<(String,)> =
            sqlx::query_as(concat!("SELECT u.email_key FROM users u WHERE ", is_among!("u.email_key", "$1")))
                .bind(Json(keys))
                .fetch_all(self.conn())
                .await?;
        Ok(taken.into_iter().map(|(key,)| key).collect())
    }

    /// Data keys, roles and events of new users.
    async fn insert_followers(
        &mut self,
        users: &[&(i64, NewUser)],
        import: Uuid,
        warrant: &Warrant,
        origin: &Origin,
    ) -> Result<(), StoreError> {
        if users.is_empty() {
            return Ok(());
        }
        let (around, now) = (self.around(), self.now());
        let followers: Vec<_> = users
            .iter()
            .map(|(_, new)| Follower {
                id: new.user.id,
                key: hex(&around.vault.new_key(*new.user.id.as_uuid())),
                roles: &new.user.roles,
            })
            .collect();
        let followers = Json(followers);
        sqlx::query(concat!(
            "INSERT INTO data_keys (owner_id, key_sealed, create_time) SELECT w.id, ",
            from_hex!("w.key"),
            ", $2 FROM ",
            listed_followers!("$1")
        ))
        .bind(&followers)
        .bind(now)
        .execute(self.conn())
        .await?;
        if users.iter().any(|(_, new)| !new.user.roles.is_empty()) {
            sqlx::query(concat!(
                "INSERT INTO user_roles (user_id, role, assign_time) SELECT w.id, r.value, $2 FROM ",
                listed_followers!("$1"),
                " CROSS JOIN ",
                elements!("w.roles"),
                " WHERE TRUE ON CONFLICT DO NOTHING"
            ))
            .bind(&followers)
            .bind(now)
            .execute(self.conn())
            .await?;
        }
        for (_, new) in users {
            self.audit_import(new.user.id, &Act::UserImported { import }, warrant, origin);
        }
        for role in users.iter().flat_map(|(_, new)| &new.user.roles).collect::<BTreeSet<_>>() {
            for (_, new) in users.iter().filter(|(_, new)| new.user.roles.contains(role)) {
                self.audit_import(new.user.id, &Act::RoleAssigned { role: role.clone() }, warrant, origin);
            }
        }
        Ok(())
    }

    /// Records an event about a new user. Nothing personal: where the importer was is no user's business.
    fn audit_import(&mut self, user: UserId, act: &Act, warrant: &Warrant, origin: &Origin) {
        let now = self.now();
        let id = EventId::new(now, &random(&*self.around().entropy));
        let (actor, actor_id) = actor(warrant.actor);
        self.note_event(RecordedEvent {
            id,
            time: now,
            act: act.name().to_owned(),
            succeeded: act.succeeded(),
            actor: actor.to_owned(),
            actor_id,
            subject_id: Some(*user.as_uuid()),
            session_id: None,
            request_id: origin.request_id.clone(),
            detail: detail(act),
            personal_sealed: None,
            link: None,
        });
        self.leave_mark(id);
    }

    async fn store_progress(
        &mut self,
        import: Uuid,
        progress: ImportProgress,
        errors: &[RowError],
    ) -> Result<(), StoreError> {
        let now = self.now();
        sqlx::query("UPDATE imports SET next_row = $2, imported = $3, failed = $4, update_time = $5 WHERE id = $1")
            .bind(import)
            .bind(progress.next_row)
            .bind(progress.imported)
            .bind(progress.failed)
            .bind(now)
            .execute(self.conn())
            .await?;
        // Nobody is told of more.
        let before = progress.failed - i64::try_from(errors.len()).unwrap_or(i64::MAX);
        let told = usize::try_from(KEPT_ERRORS - before).unwrap_or(0);
        for RowError { row, field, description } in errors.iter().take(told) {
            sqlx::query(
                "INSERT INTO import_errors (import_id, place, field, description) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(import)
            .bind(*row)
            .bind(field)
            .bind(description)
            .execute(self.conn())
            .await?;
        }
        Ok(())
    }
}

/// Whether a token of the user could not say all that it would have to. The roles' names are sorted.
fn says_too_much(user: &User, roles: &HashMap<String, (Permissions, CustomClaims)>) -> bool {
    let mut said = CustomClaims::default();
    for (_, claims) in user.roles.iter().filter_map(|role| roles.get(role)) {
        said.add(claims.clone());
    }
    said.add(user.custom_claims.clone());
    check_size(&said).is_err()
}

fn error(row: i64, field: &str, description: &str) -> RowError {
    RowError { row, field: field.to_owned(), description: description.to_owned() }
}

/// In hexadecimal digits, which `from_hex!` reads.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
