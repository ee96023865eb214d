//! Everything that is kept of a person, table by table, each read along a key so that a page costs no more than what is in it
//! (the few tables that hold a day's worth at most are looked through).

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Conn, Database, Db};
use crate::{
    domain::{
        audit::{Act, Origin},
        id::{SessionId, UserId},
        time::Timestamp,
        trail::EventCursor,
    },
    store::{
        Refused, StoreError,
        port::{ExportPage, ExportPlace, ExportStore, HeldRecord, UserAct},
    },
};

mod account;
mod sessions;
mod trail;
mod waiting;

#[async_trait]
impl ExportStore for Database {
    async fn begin_own_export(&self, user: UserId, session: SessionId, origin: Origin) -> Result<(), StoreError> {
        self.transaction("begin_own_export", (user, session, origin), |tx, (user, session, origin)| {
            Box::pin(async move {
                tx.hold_caller(*user, *session).await?;
                tx.audit_own(*user, Act::AccountExported, origin).await
            })
        })
        .await
    }

    async fn begin_export(&self, act: UserAct) -> Result<(), StoreError> {
        self.transaction("begin_export", act, |tx, act| {
            Box::pin(async move {
                tx.user_to_act_on(act).await?;
                tx.audit_act(act, Act::UserExported).await
            })
        })
        .await
    }

    async fn read_export(
        &self,
        user: UserId,
        place: ExportPlace,
        until: Timestamp,
        limit: u32,
    ) -> Result<ExportPage, StoreError> {
        let around = Arc::clone(&self.around);
        let args = (user, place, until, limit, around);
        self.reading("read_export", &self.pools.read, args, |conn, (user, place, until, limit, around)| {
            Box::pin(async move {
                let person = Person::find(conn, *user).await?;
                let vault = &*around.vault;
                let (conn, limit) = (Reader(conn), i64::from(*limit));
                match place {
                    ExportPlace::Account => conn.account(&person).await,
                    ExportPlace::Roles(after) => conn.roles(&person, after, limit).await,
                    ExportPlace::Sessions(after) => conn.sessions(&person, *until, *after, limit).await,
                    ExportPlace::Devices(after) => conn.devices(&person, *after, limit).await,
                    ExportPlace::EmailChanges(after) => conn.email_changes(&person, *after, limit).await,
                    ExportPlace::Registrations(after) => conn.registrations(&person, *after, limit).await,
                    ExportPlace::Codes(after) => conn.codes(&person, after, limit).await,
                    ExportPlace::Challenges(after) => conn.challenges(&person, after, limit).await,
                    ExportPlace::Messages(after) => conn.messages(&person, *after, limit).await,
                    ExportPlace::Imports(after) => conn.imports(&person, *after, limit).await,
                    ExportPlace::Requests(after, actor) => conn.requests(&person, *after, actor, limit).await,
                    ExportPlace::Revocations(after) => conn.revocations(&person, *after, limit).await,
                    ExportPlace::EventsAbout(after) => conn.events_about(&person, *until, *after, limit, vault).await,
                    ExportPlace::EventsBy(after) => conn.events_by(&person, *until, *after, limit, vault).await,
                }
            })
        })
        .await
    }
}

/// Where a page is read.
struct Reader<'c>(&'c mut Conn);

/// Whose records are read.
#[derive(sqlx::FromRow)]
struct Person {
    id: UserId,
    email_key: String,
    email_verified: bool,
    epoch: i64,
}

impl Person {
    async fn find(conn: &mut Conn, id: UserId) -> Result<Self, StoreError> {
        let found: Option<Self> = sqlx::query_as::<Db, _>(
            "SELECT id, email_key, email_verified_time IS NOT NULL AS email_verified, epoch FROM users WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(conn)
        .await?;
        found.ok_or_else(|| Refused::NoUser.into())
    }

    /// The address, if it is proved to be the person's. What others left under one that is not may be about its real owner, who
    /// is somebody else.
    fn proved_address(&self) -> Option<&str> {
        self.email_verified.then_some(&self.email_key)
    }

    fn uuid(&self) -> Uuid {
        *self.id.as_uuid()
    }
}

/// The records of rows that were asked for by a limit, and where to go on: behind the last of them, or with `then`.
fn page<R>(
    rows: Vec<R>,
    limit: i64,
    behind: impl Fn(&R) -> ExportPlace,
    then: ExportPlace,
    record: impl Fn(R) -> Result<HeldRecord, StoreError>,
) -> Result<ExportPage, StoreError> {
    let is_full = i64::try_from(rows.len()).is_ok_and(|read| read >= limit);
    let next = rows.last().filter(|_| is_full).map_or(then, behind);
    Ok(ExportPage { records: rows.into_iter().map(record).collect::<Result<_, _>>()?, next: Some(next) })
}

/// Where the events begin.
const EVENTS: ExportPlace = ExportPlace::EventsAbout(None::<EventCursor>);
