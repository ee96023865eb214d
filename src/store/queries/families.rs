//! Many sessions at once: the shared reading of all refreshes that wait on a node, and the batched write behind them.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{
    Database, Db,
    rows::{SessionAndUserRow, held_roles, own_claims_columns, session_columns},
};
use crate::{
    domain::{hot::FeedPosition, id::SessionId, refresh::Family, session::Session, time::Timestamp},
    store::{
        StoreError,
        port::{LiveSession, SessionRows, SessionState},
    },
};

#[derive(sqlx::FromRow)]
struct SeenRow {
    incarnation: Uuid,
    feed_number: i64,
    #[sqlx(flatten)]
    row: SessionAndUserRow,
}

/// A family as `listed_families!` reads it.
#[derive(Serialize)]
struct ListedFamily {
    id: SessionId,
    generation: i64,
    generation_time: Timestamp,
    refresh_key: i64,
    late_streak: u8,
    late_now: bool,
}

impl From<&(SessionId, Family)> for ListedFamily {
    fn from((id, family): &(SessionId, Family)) -> Self {
        let Family { generation, made_at, key_id, late_streak, late_now } = *family;
        Self { id: *id, generation, generation_time: made_at, refresh_key: key_id, late_streak, late_now }
    }
}

impl Database {
    /// One statement, one snapshot: what the rows say holds at the very place of the feed that is read beside them.
    pub(super) async fn sessions_by_id(&self, sessions: Vec<SessionId>) -> Result<SessionRows, StoreError> {
        let rows = self.reading_often("read_sessions", sessions, |conn, sessions| {
            Box::pin(async move {
                let rows: Vec<SeenRow> = sqlx::query_as::<Db, _>(concat!(
                    "SELECT h.incarnation, h.number AS feed_number, ",
                    session_columns!(),
                    ", u.state AS user_state, u.epoch AS user_epoch, ",
                    own_claims_columns!(),
                    ", ",
                    held_by_user!(),
                    " AS held FROM feed_head h CROSS JOIN sessions s JOIN users u ON u.id = s.user_id WHERE h.id = 1 AND ",
                    is_listed!("s.id", "$1")
                ))
                .bind(Json(sessions))
                .fetch_all(conn)
                .await?;
                Ok(rows)
            })
        });
        let rows = rows.await?;
        // Without a row nothing has been seen, and nobody asks.
        let seen = rows.first().map_or(FeedPosition { incarnation: Uuid::nil(), number: 0 }, |first| FeedPosition {
            incarnation: first.incarnation,
            number: first.feed_number,
        });
        let sessions: HashMap<_, _> = rows.into_iter().map(|seen| (seen.row.session.id, state(seen.row))).collect();
        Ok(SessionRows { seen, sessions })
    }

    /// Where the row is not behind it stays as it is: it may know of a lateness that the writer does not.
    pub(super) async fn write_families(&self, mut families: Vec<(SessionId, Family)>) -> Result<(), StoreError> {
        // In one order on every node, so that two writers rather wait for each other than lock each other out.
        families.sort_unstable_by_key(|(session, _)| *session);
        self.transaction("advance_families", families, |tx, families| {
            Box::pin(async move {
                sqlx::query(concat!(
                    "UPDATE sessions AS s SET generation = w.generation, generation_time = w.generation_time, \
                     refresh_key = w.refresh_key, late_streak = w.late_streak, late_now = w.late_now, \
                     last_used_time = w.generation_time FROM ",
                    listed_families!("$1"),
                    " WHERE s.id = w.id AND s.generation < w.generation"
                ))
                .bind(Json(families.iter().map(ListedFamily::from).collect::<Vec<_>>()))
                .execute(tx.conn())
                .await?;
                Ok(())
            })
        })
        .await
    }
}

/// What the row of a session beside its user's says, expiry apart.
pub(super) fn state(row: SessionAndUserRow) -> Result<SessionState, StoreError> {
    if row.session.end_time.is_some() || row.user_state != "active" {
        return Ok(SessionState::Ended);
    }
    let session = Session::try_from(row.session)?;
    if session.grant.epoch != row.user_epoch {
        return Ok(SessionState::Ended);
    }
    Ok(SessionState::Live(Box::new(LiveSession { session, held: held_roles(row.held), own: row.own.into() })))
}
