//! What waits for something, or for being forgotten.

use sqlx::types::Json;
use uuid::Uuid;

use super::{super::Db, Person, Reader, page};
use crate::{
    domain::{id::UserId, time::Timestamp},
    store::{
        StoreError,
        port::{
            ExportPage, ExportPlace, HeldChallenge, HeldCode, HeldEmailChange, HeldImport, HeldMessage, HeldRecord,
            HeldRegistration, HeldRequest,
        },
    },
};

#[derive(sqlx::FromRow)]
struct ChangeRow {
    id: Uuid,
    user_id: UserId,
    old_email_key: String,
    new_email: String,
    old_confirmed: bool,
    new_confirmed: bool,
    create_time: Timestamp,
    expire_time: Timestamp,
}

#[derive(sqlx::FromRow)]
struct ChallengeRow {
    handle_hash: Vec<u8>,
    kind: String,
    pending: Json<serde_json::Value>,
    failures: i64,
    create_time: Timestamp,
    expire_time: Timestamp,
}

#[derive(sqlx::FromRow)]
struct MessageRow {
    id: Uuid,
    channel: String,
    message_sealed: Vec<u8>,
    create_time: Timestamp,
    expire_time: Timestamp,
    attempts: i64,
    due_time: Timestamp,
    dead_time: Option<Timestamp>,
    last_error: Option<String>,
}

type RegistrationRow = (Uuid, String, Timestamp, Timestamp);
type CodeRow = (Vec<u8>, String, String, Timestamp, Timestamp);
type ImportRow = (Uuid, i64, i64, Timestamp, Timestamp);
type RequestRow = (Uuid, String, Timestamp);

impl Reader<'_> {
    pub(super) async fn email_changes(
        self,
        person: &Person,
        after: Uuid,
        limit: i64,
    ) -> Result<ExportPage, StoreError> {
        let rows: Vec<ChangeRow> = sqlx::query_as::<Db, _>(
            "SELECT id, user_id, old_email_key, new_email, old_confirmed, new_confirmed, create_time, expire_time \
             FROM email_changes WHERE id > $1 AND (user_id = $2 OR new_email_key = $3) ORDER BY id LIMIT $4",
        )
        .bind(after)
        .bind(person.id)
        .bind(person.proved_address())
        .bind(limit)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &ChangeRow| ExportPlace::EmailChanges(row.id);
        page(rows, limit, behind, ExportPlace::Registrations(Uuid::nil()), |row| {
            let own = row.user_id == person.id;
            let told = |text: String| if own { text } else { String::new() };
            Ok(HeldRecord::EmailChange(HeldEmailChange {
                id: own.then_some(row.id),
                old_email: told(row.old_email_key),
                new_email: told(row.new_email),
                old_confirmed: own && row.old_confirmed,
                new_confirmed: own && row.new_confirmed,
                create_time: row.create_time,
                expire_time: row.expire_time,
            }))
        })
    }

    pub(super) async fn registrations(
        self,
        person: &Person,
        after: Uuid,
        limit: i64,
    ) -> Result<ExportPage, StoreError> {
        // Not what was typed beside the address: it may have been somebody else.
        let rows: Vec<RegistrationRow> = sqlx::query_as::<Db, _>(
            "SELECT id, email, create_time, expire_time FROM registrations WHERE email_key = $1 AND id > $2 \
             ORDER BY id LIMIT $3",
        )
        .bind(person.proved_address())
        .bind(after)
        .bind(limit)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &RegistrationRow| ExportPlace::Registrations(row.0);
        page(rows, limit, behind, ExportPlace::Codes(Vec::new()), |(_, email, create_time, expire_time)| {
            Ok(HeldRecord::Registration(HeldRegistration { email, create_time, expire_time }))
        })
    }

    pub(super) async fn codes(self, person: &Person, after: &[u8], limit: i64) -> Result<ExportPage, StoreError> {
        let rows: Vec<CodeRow> = sqlx::query_as::<Db, _>(
            "SELECT code_hash, purpose, email_key, create_time, expire_time FROM mailed_codes \
             WHERE code_hash > $1 AND (user_id = $2 OR email_key = $3) ORDER BY code_hash LIMIT $4",
        )
        .bind(after)
        .bind(person.id)
        .bind(person.proved_address())
        .bind(limit)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &CodeRow| ExportPlace::Codes(row.0.clone());
        page(
            rows,
            limit,
            behind,
            ExportPlace::Challenges(Vec::new()),
            |(_, purpose, email, create_time, expire_time)| {
                Ok(HeldRecord::Code(HeldCode { purpose, email, create_time, expire_time }))
            },
        )
    }

    pub(super) async fn challenges(self, person: &Person, after: &[u8], limit: i64) -> Result<ExportPage, StoreError> {
        let rows: Vec<ChallengeRow> = sqlx::query_as::<Db, _>(
            "SELECT handle_hash, kind, pending, failures, create_time, expire_time FROM challenges \
             WHERE user_id = $1 AND handle_hash > $2 ORDER BY handle_hash LIMIT $3",
        )
        .bind(person.id)
        .bind(after)
        .bind(limit)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &ChallengeRow| ExportPlace::Challenges(row.handle_hash.clone());
        page(rows, limit, behind, ExportPlace::Messages(Uuid::nil()), |row| {
            let ChallengeRow { handle_hash, kind, pending: Json(pending), failures, create_time, expire_time } = row;
            let handle = handle_hash.try_into();
            let handle = handle.map_err(|_| StoreError::corrupt("challenges", "handle_hash", "not 32 bytes"))?;
            Ok(HeldRecord::Challenge(HeldChallenge { handle, kind, pending, failures, create_time, expire_time }))
        })
    }

    pub(super) async fn messages(self, person: &Person, after: Uuid, limit: i64) -> Result<ExportPage, StoreError> {
        let rows: Vec<MessageRow> = sqlx::query_as::<Db, _>(
            "SELECT id, channel, message_sealed, create_time, expire_time, attempts, due_time, dead_time, last_error \
             FROM outbox WHERE user_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(person.id)
        .bind(after)
        .bind(limit)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &MessageRow| ExportPlace::Messages(row.id);
        page(rows, limit, behind, ExportPlace::Imports(Uuid::nil()), |row| {
            Ok(HeldRecord::Message(HeldMessage {
                id: row.id,
                channel: row.channel,
                sealed: row.message_sealed,
                create_time: row.create_time,
                expire_time: row.expire_time,
                attempts: row.attempts,
                due_time: row.due_time,
                dead_time: row.dead_time,
                last_error: row.last_error.unwrap_or_default(),
            }))
        })
    }

    pub(super) async fn imports(self, person: &Person, after: Uuid, limit: i64) -> Result<ExportPage, StoreError> {
        let rows: Vec<ImportRow> = sqlx::query_as::<Db, _>(
            "SELECT id, imported, failed, create_time, update_time FROM imports \
             WHERE actor = $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(format!("user {}", person.uuid()))
        .bind(after)
        .bind(limit)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &ImportRow| ExportPlace::Imports(row.0);
        let then = ExportPlace::Requests(Uuid::nil(), String::new());
        page(rows, limit, behind, then, |(id, imported, failed, create_time, update_time)| {
            Ok(HeldRecord::Import(HeldImport { id, imported, failed, create_time, update_time }))
        })
    }

    pub(super) async fn requests(
        self,
        person: &Person,
        after: Uuid,
        actor: &str,
        limit: i64,
    ) -> Result<ExportPage, StoreError> {
        let own = format!("user:{}", person.uuid());
        let rows: Vec<RequestRow> = sqlx::query_as::<Db, _>(
            "SELECT request_id, actor, create_time FROM create_requests WHERE (request_id, actor) > ($1, $2) \
             AND (actor = $3 OR created_id = $4) ORDER BY request_id, actor LIMIT $5",
        )
        .bind(after)
        .bind(actor)
        .bind(&own)
        .bind(person.id)
        .bind(limit)
        .fetch_all(self.0)
        .await?;
        let behind = |row: &RequestRow| ExportPlace::Requests(row.0, row.1.clone());
        page(rows, limit, behind, ExportPlace::Revocations(0), |(id, actor, create_time)| {
            Ok(HeldRecord::Request(HeldRequest { id, asked: actor == own, create_time }))
        })
    }
}
