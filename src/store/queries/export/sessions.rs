//! Where the person is, and was, signed in, on which devices; and what verifiers are told of that.

use std::collections::HashSet;

use sqlx::types::Json;
use uuid::Uuid;

use super::{
    super::{
        Db,
        rows::{SessionRow, from_json, session_columns},
    },
    EVENTS, Person, Reader, page,
};
use crate::{
    domain::{id::SessionId, revocation::Revocation, time::Timestamp},
    store::{
        StoreError,
        port::{ExportPage, ExportPlace, HeldDevice, HeldRecord, HeldRevocation, HeldSession},
    },
};

#[derive(sqlx::FromRow)]
struct EndedSessionRow {
    #[sqlx(flatten)]
    session: SessionRow,
    device_id: Option<Uuid>,
    end_reason: Option<String>,
}

type DeviceRow = (Uuid, Timestamp, Timestamp);
type FeedRow = (i64, Json<serde_json::Value>, Timestamp, Timestamp);

impl Reader<'_> {
    pub(super) async fn sessions(
        self,
        person: &Person,
        until: Timestamp,
        after: Uuid,
        limit: i64,
    ) -> Result<ExportPage, StoreError> {
        let rows: Vec<EndedSessionRow> = sqlx::query_as::<Db, _>(concat!(
            "SELECT ",
            session_columns!(),
            ", s.device_id, s.end_reason FROM sessions s WHERE s.user_id = $1 AND s.id > $2 AND s.create_time <= $4 \
             ORDER BY s.id LIMIT $3"
        ))
        .bind(person.id)
        .bind(after)
        .bind(limit)
        .bind(until)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &EndedSessionRow| ExportPlace::Sessions(*row.session.id.as_uuid());
        page(rows, limit, behind, ExportPlace::Devices(Uuid::nil()), |row| {
            let EndedSessionRow { session, device_id: device, end_reason } = row;
            let (end_time, end_reason, user_epoch) = (session.end_time, end_reason.unwrap_or_default(), person.epoch);
            let session = session.try_into()?;
            Ok(HeldRecord::Session(Box::new(HeldSession { session, device, end_time, end_reason, user_epoch })))
        })
    }

    pub(super) async fn devices(self, person: &Person, after: Uuid, limit: i64) -> Result<ExportPage, StoreError> {
        let rows: Vec<DeviceRow> = sqlx::query_as(
            "SELECT id, create_time, last_used_time FROM known_devices WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(person.id)
        .bind(after)
        .bind(limit)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &DeviceRow| ExportPlace::Devices(row.0);
        page(rows, limit, behind, ExportPlace::EmailChanges(Uuid::nil()), |(id, create_time, last_used_time)| {
            Ok(HeldRecord::Device(HeldDevice { id, create_time, last_used_time }))
        })
    }

    /// The feed has no index by whom it is about, and is no longer than what was revoked within the life of an access token.
    pub(super) async fn revocations(self, person: &Person, after: i64, limit: i64) -> Result<ExportPage, StoreError> {
        let Self(conn) = self;
        let rows: Vec<FeedRow> = sqlx::query_as(
            "SELECT number, revocation, time, expire_time FROM feed WHERE number > $1 ORDER BY number LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
        let entries = rows.into_iter().map(|(number, Json(revocation), time, expire_time)| {
            Ok((number, from_json::<Revocation>(revocation, "feed", "revocation")?, time, expire_time))
        });
        let entries: Vec<_> = entries.collect::<Result<_, StoreError>>()?;
        let ended = entries.iter().filter_map(|(_, revocation, ..)| match revocation {
            Revocation::Session { session } => Some(*session),
            _ => None,
        });
        let own: Vec<(SessionId,)> = sqlx::query_as::<Db, _>(concat!(
            "SELECT s.id FROM sessions s WHERE s.user_id = $1 AND ",
            is_listed!("s.id", "$2")
        ))
        .bind(person.id)
        .bind(Json(ended.collect::<Vec<_>>()))
        .fetch_all(conn)
        .await?;
        let own: HashSet<SessionId> = own.into_iter().map(|(id,)| id).collect();
        let is_full = i64::try_from(entries.len()).is_ok_and(|read| read >= limit);
        let last = entries.last().filter(|_| is_full);
        let next = Some(last.map_or(EVENTS, |(number, ..)| ExportPlace::Revocations(*number)));
        let records = entries.into_iter().filter_map(|(_, revocation, time, expire_time)| {
            let (session, spared) = match revocation {
                Revocation::User { user, spared, .. } if user == person.id => (None, spared),
                Revocation::Session { session } if own.contains(&session) => (Some(session), None),
                _ => return None,
            };
            Some(HeldRecord::Revocation(HeldRevocation { session, spared, time, expire_time }))
        });
        Ok(ExportPage { records: records.collect(), next })
    }
}
