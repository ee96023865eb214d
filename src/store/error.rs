//! What can go wrong in a store. "Not found" is not among it: that is an answer, and an outage must never look like one.

/// A verb that did not come to an end. Nothing was changed, unless `Unavailable` struck during the commit itself and nobody
/// could be asked afterwards whether it was made; every verb may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, overloaded or answers too slowly.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The change is not allowed, or not possible. Nothing was done.
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    /// A row holds what no version of this program writes.
    #[error("corrupt row: {table}.{column}: {problem}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What is wrong; never the value itself.
        problem: String,
    },
    /// The database was made by, or needs, another version of this program.
    #[error("{0}")]
    Schema(String),
    /// A fault in this program or in the database's answer.
    #[error("the store failed: {0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why something cannot be managed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The caller does not hold the permission that it takes.
    #[error("the caller lacks the permission")]
    NotPermitted,
    /// It would give away, or act on somebody who holds, what the caller does not hold.
    #[error("it exceeds what the caller may do")]
    ExceedsOwn,
    /// There is no such user.
    #[error("no such user")]
    NoUser,
    /// The user has no such live session.
    #[error("no such session")]
    NoSession,
    /// There is no such role.
    #[error("no such role")]
    NoRole,
    /// There is no such signing key, or not any more.
    #[error("no such signing key")]
    NoSigningKey,
    /// There is no such service account.
    #[error("no such service account")]
    NoServiceAccount,
    /// There is a role of this name.
    #[error("the role exists")]
    RoleExists,
    /// Somebody has the role.
    #[error("the role is in use")]
    RoleInUse,
    /// The role is built in.
    #[error("the role is built in")]
    RoleBuiltIn,
    /// Nobody would be left to administer.
    #[error("it would leave no administrator")]
    LastAdministrator,
    /// It has changed since it was read.
    #[error("it has changed since it was read")]
    EtagMismatch,
    /// The request id stands for another request.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// The user has as many sessions as may be.
    #[error("too many sessions")]
    TooManySessions,
    /// Another account has the address.
    #[error("e-mail address taken")]
    EmailTaken,
    /// Another account has the user name.
    #[error("user name taken")]
    UsernameTaken,
    /// Another service account has the SPIFFE id.
    #[error("SPIFFE id taken")]
    SpiffeIdTaken,
    /// A token would say more than it may.
    #[error("the custom claims are too large for a token")]
    ClaimsTooLarge,
    /// The import stands elsewhere.
    #[error("the rows do not go on where the import stands")]
    ImportOutOfStep,
}

impl StoreError {
    /// A corrupt column.
    pub(crate) fn corrupt(table: &'static str, column: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::Corrupt { table, column, problem: problem.to_string() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => Self::Unavailable(error.into()),
            sqlx::Error::Database(ref cause) if means_unavailable(cause.code().as_deref().unwrap_or_default()) => {
                Self::Unavailable(error.into())
            }
            _ => Self::Internal(error.into()),
        }
    }
}

/// Postgres: connection exceptions (08), out of resources (53), operator intervention (57), lock not available (55P03),
/// serialization failures that outlasted the retries (40), read-only transaction after a failover (25006), and
/// authentication refused while it restarts elsewhere (28). SQLite: busy (5), locked (6), full (13), cannot open (14),
/// IO error (10), with their extended codes.
fn means_unavailable(code: &str) -> bool {
    if let Ok(number) = code.parse::<u32>()
        && code.len() != 5
    {
        return matches!(number & 0xff, 5 | 6 | 10 | 13 | 14);
    }
    ["08", "53", "57", "55P03", "40", "25006", "28"].iter().any(|class| code.starts_with(class))
}

/// Whether the whole transaction should be tried again: the database could not order it among others.
pub(super) fn is_serialization_failure(error: &StoreError) -> bool {
    let StoreError::Unavailable(cause) = error else { return false };
    let Some(sqlx::Error::Database(cause)) = cause.downcast_ref::<sqlx::Error>() else { return false };
    let code = cause.code().unwrap_or_default();
    // Serialization failure and deadlock; SQLITE_BUSY and its extended codes.
    matches!(&*code, "40001" | "40P01" | "5" | "261" | "517")
}

/// Whether somebody put a row where an audit event was to stand, between the look at that place and the event. The lane goes on
/// behind it once it is looked at again.
pub(super) fn is_place_taken(error: &StoreError) -> bool {
    let StoreError::Internal(cause) = error else { return false };
    let Some(sqlx::Error::Database(cause)) = cause.downcast_ref::<sqlx::Error>() else { return false };
    // SQLite names no constraint, and lets nobody write between the two.
    cause.constraint() == Some("audit_events_by_place")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_and_faults_are_told_apart() {
        for code in ["08006", "53300", "57P01", "57014", "55P03", "40001", "5", "261", "517", "13", "266"] {
            assert!(means_unavailable(code), "{code}");
        }
        for code in ["23505", "42601", "22001", "19", "2067", "1", ""] {
            assert!(!means_unavailable(code), "{code}");
        }
    }
}
