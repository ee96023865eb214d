//! `ImportUsers`: many users with the hashes of their passwords, each row once, however often the stream breaks off.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{RequestContext, Service, ServiceError};
use crate::{
    crypto::import_hash,
    domain::{
        custom_claims::{CustomClaims, CustomClaimsError},
        email::Email,
        field::FieldViolations,
        id::UserId,
        role::RoleName,
        time::Timestamp,
        user::{Attributes, AttributesError, Label, User, UserState, Username},
        warrant::Warrant,
    },
    store::port::{ImportBatch, ImportProgress, NewUser, RowError},
};

/// Rows of one message: one transaction.
pub const MAX_ROWS: usize = 1000;

/// How long an import may rest before it is forgotten how far it was.
pub(super) const IMPORT_RETENTION: Duration = Duration::from_hours(30 * 24);

/// Imports at once at a node.
pub(super) const IMPORTS: usize = 4;

/// When to look again for a place.
const BUSY: Duration = Duration::from_secs(10);

/// The most roles that a user comes with.
const MAX_ROLES: usize = 64;

/// How many refused rows an answer tells of.
const MAX_ERRORS: u32 = 1000;

/// A user to import, as it was sent.
// Not `Debug`: it holds a hash.
#[derive(Clone)]
pub struct ImportRow {
    /// The e-mail address.
    pub email: String,
    /// The user name; may be empty.
    pub username: String,
    /// A name to show; may be empty.
    pub display_name: String,
    /// Whether the address is known to be the user's.
    pub email_verified: bool,
    /// The hash of the password; may be empty.
    pub password_hash: String,
    /// The roles' names.
    pub roles: Vec<String>,
    /// Whether the user is not to sign in.
    pub suspended: bool,
    /// What is kept of the user.
    pub attributes: Result<Attributes, AttributesError>,
    /// What the user's tokens say beside the rest.
    pub custom_claims: Result<CustomClaims, CustomClaimsError>,
    /// When the account was created elsewhere.
    pub create_time: Result<Option<Timestamp>, &'static str>,
}

/// What has become of an import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// How far it is.
    pub progress: ImportProgress,
    /// The first rows that were refused.
    pub errors: Vec<RowError>,
}

/// One stream of an import.
#[derive(Debug)]
pub struct Import {
    warrant: Warrant,
    id: Uuid,
    rehearsal: Option<Rehearsal>,
}

/// Rows that are only checked.
#[derive(Debug)]
struct Rehearsal {
    /// Addresses and user names that came before in this stream, as keyed hashes: nothing of them is in the database.
    seen: HashSet<u64>,
    hasher: RandomState,
    progress: ImportProgress,
    errors: Vec<RowError>,
}

impl Import {
    /// A stream of the import `id`, whose rows are stored or, with `validate_only`, only checked.
    pub fn new(warrant: Warrant, id: Uuid, validate_only: bool) -> Self {
        let rehearsal = || Rehearsal {
            seen: HashSet::new(),
            hasher: RandomState::new(),
            progress: ImportProgress::START,
            errors: Vec::new(),
        };
        Self { warrant, id, rehearsal: validate_only.then(rehearsal) }
    }
}

impl Service {
    /// A place among the imports at this node. Their messages are large, so there are few.
    pub fn begin_import(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        Arc::clone(&self.imports).try_acquire_owned().map_err(|_| ServiceError::Busy { retry_after: BUSY })
    }

    /// Stores, or checks, the rows of one message.
    pub async fn import_rows(
        &self,
        import: &mut Import,
        first_row: i64,
        rows: Vec<ImportRow>,
        context: &RequestContext,
    ) -> Result<(), ServiceError> {
        let mut batch = ImportBatch {
            import: import.id,
            first_row,
            rows: i64::try_from(rows.len()).unwrap_or(i64::MAX),
            users: Vec::with_capacity(rows.len()),
            errors: Vec::new(),
            validate_only: import.rehearsal.is_some(),
        };
        for (place, row) in (first_row..).zip(rows) {
            match self.user_of(row) {
                Ok(user) => match import.rehearsal.as_mut().and_then(|rehearsal| rehearsal.repeats(&user.user)) {
                    None => batch.users.push((place, user)),
                    Some(field) => batch.errors.push(RowError {
                        row: place,
                        field: field.to_owned(),
                        description: "belongs to another account".to_owned(),
                    }),
                },
                Err(violations) => batch.errors.extend(violations.into_vec().into_iter().take(1).map(|violation| {
                    RowError { row: place, field: violation.field.to_owned(), description: violation.description }
                })),
            }
        }
        let done = self.store.import_users(import.warrant.clone(), batch, context.origin.clone()).await?;
        if let Some(rehearsal) = &mut import.rehearsal {
            rehearsal.note(done.progress, done.errors);
        }
        Ok(())
    }

    /// How far the import is, and what was wrong with it.
    pub async fn finish_import(&self, import: Import) -> Result<Imported, ServiceError> {
        if let Some(Rehearsal { progress, errors, .. }) = import.rehearsal {
            return Ok(Imported { progress, errors });
        }
        let progress = self.store.import_progress(import.warrant, import.id).await?;
        let errors = self.store.import_errors(import.id, MAX_ERRORS).await?;
        Ok(Imported { progress, errors })
    }

    fn user_of(&self, row: ImportRow) -> Result<NewUser, FieldViolations> {
        let now = self.clock.now();
        let mut violations = FieldViolations::new();
        let email = violations.check("email", Email::parse(&row.email));
        let username = if row.username.is_empty() {
            Some(None)
        } else {
            violations.check("username", Username::parse(&row.username)).map(Some)
        };
        let display_name = violations.check("display_name", Label::parse(&row.display_name));
        let hash = if row.password_hash.is_empty() {
            Some(None)
        } else {
            violations.check("password_hash", import_hash(&row.password_hash)).map(Some)
        };
        let mut roles = row.roles;
        roles.sort_unstable();
        roles.dedup();
        if roles.len() > MAX_ROLES {
            violations.refuse("roles", format!("are too many: at most {MAX_ROLES}"));
        }
        for role in &roles {
            violations.check("roles", RoleName::parse(role));
        }
        let attributes = violations.check("attributes", row.attributes);
        let custom_claims = violations.check("custom_claims", row.custom_claims);
        let create_time = match row.create_time {
            Ok(Some(time)) if time > now => violations.check("create_time", Err("lies in the future")),
            time => violations.check("create_time", time).map(|time| time.unwrap_or(now)),
        };
        let (
            Some(email),
            Some(username),
            Some(display_name),
            Some(password_hash),
            Some(attributes),
            Some(custom_claims),
            Some(create_time),
        ) = (email, username, display_name, hash, attributes, custom_claims, create_time)
        else {
            return Err(violations);
        };
        if !violations.is_empty() {
            return Err(violations);
        }
        let user = User {
            id: UserId::new(now, &self.random()),
            email,
            email_verified_time: row.email_verified.then_some(now),
            username,
            display_name,
            phone_number: None,
            locale: None,
            has_password: password_hash.is_some(),
            totp_enrolled: false,
            state: if row.suspended { UserState::Suspended } else { UserState::Active },
            epoch: 1,
            roles,
            attributes,
            custom_claims,
            revision: 1,
            create_time,
            update_time: now,
        };
        Ok(NewUser { user, password_hash })
    }
}

impl Rehearsal {
    /// The field that an earlier row of this stream has as well.
    fn repeats(&mut self, user: &User) -> Option<&'static str> {
        // Kinds apart: no user name has the `@` that every address has.
        let email = self.hasher.hash_one(user.email.key());
        let username = user.username.as_ref().map(|name| self.hasher.hash_one(name.as_str()));
        if self.seen.contains(&email) {
            return Some("email");
        }
        if username.is_some_and(|name| self.seen.contains(&name)) {
            return Some("username");
        }
        self.seen.insert(email);
        self.seen.extend(username);
        None
    }

    fn note(&mut self, batch: ImportProgress, errors: Vec<RowError>) {
        self.progress.next_row = batch.next_row;
        self.progress.imported += batch.imported;
        self.progress.failed += batch.failed;
        let room = usize::try_from(MAX_ERRORS).unwrap_or(usize::MAX).saturating_sub(self.errors.len());
        self.errors.extend(errors.into_iter().take(room));
    }
}
