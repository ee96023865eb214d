//! Signing keys and refresh keys. A rotation is decided and done under the lock of the feed's head row, so that of any
//! number of nodes only one does it; whether whoever wants it may, is asked after the wait for that lock.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::types::Json;

use super::{
    Database, Db, Tx,
    rows::{RefreshKeyColumns, SigningKeyColumns},
    transaction::KEY_MARGIN_MICROS,
};
use crate::{
    domain::{
        audit::{Act, AuditEvent},
        revocation::Revocation,
        signing_key::{Algorithm, KeyLife, KeyState, RotationPolicy, Succession},
        time::Timestamp,
        warrant::Authority,
    },
    store::{
        StoreError,
        port::{KeyStore, NewSigningKey, RefreshKeyRow, RevokeKey, Rotate, SigningKeyRow},
    },
};

#[async_trait]
impl KeyStore for Database {
    async fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StoreError> {
        self.reading("signing_keys", &self.pools.read, (), |conn, ()| Box::pin(read_signing_keys(conn))).await
    }

    async fn refresh_keys(&self) -> Result<Vec<RefreshKeyRow>, StoreError> {
        self.reading("refresh_keys", &self.pools.read, (), |conn, ()| Box::pin(read_refresh_keys(conn))).await
    }

    async fn revoked_keys(&self) -> Result<Vec<String>, StoreError> {
        let kids = self.reading("revoked_keys", &self.pools.read, (), |conn, ()| {
            Box::pin(async move {
                let kids: Vec<(String,)> =
                    sqlx::query_as("SELECT kid FROM revoked_keys ORDER BY time, kid").fetch_all(conn).await?;
                Ok(kids)
            })
        });
        Ok(kids.await?.into_iter().map(|(kid,)| kid).collect())
    }

    async fn rotate_signing_key(
        &self,
        new: NewSigningKey,
        policy: RotationPolicy,
        rotate: Rotate,
        by: Authority,
    ) -> Result<bool, StoreError> {
        self.transaction("rotate_signing_key", (new, policy, rotate, by), |tx, (new, policy, rotate, by)| {
            Box::pin(async move {
                let longest_access_ttl = tx.lock_feed_head().await?;
                tx.authorize(&by.warrant).await?;
                let now = tx.now();
                let keys = read_signing_keys(tx.conn()).await?;
                let due = policy.is_due(keys.iter().map(|k| &k.life), now) || !serves(&keys, new.algorithm, now);
                if *rotate == Rotate::IfDue && !due {
                    return Ok(false);
                }
                let life = if keys.is_empty() { KeyLife::first(now) } else { KeyLife::successor(now, policy.lead) };
                tx.insert_signing_key(new, &life).await?;
                sqlx::query("UPDATE signing_keys SET retire_time = $1, remove_time = $2 WHERE retire_time IS NULL AND kid <> $3")
                    .bind(life.activate_time)
                    .bind(life.activate_time.plus(longest_access_ttl + KEY_MARGIN))
                    .bind(&new.kid)
                    .execute(tx.conn())
                    .await?;
                tx.key_published(by, new.kid.clone()).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn rotate_refresh_key(
        &self,
        seal: Arc<dyn Fn(i64) -> Vec<u8> + Send + Sync>,
        policy: RotationPolicy,
        rotate: Rotate,
        by: Authority,
    ) -> Result<bool, StoreError> {
        self.transaction("rotate_refresh_key", (seal, policy, rotate, by), |tx, (seal, policy, rotate, by)| {
            Box::pin(async move {
                tx.lock_feed_head().await?;
                tx.authorize(&by.warrant).await?;
                let now = tx.now();
                let keys = read_refresh_keys(tx.conn()).await?;
                if *rotate == Rotate::IfDue && !policy.is_due(keys.iter().map(|k| &k.life), now) {
                    return Ok(false);
                }
                let id = keys.iter().map(|k| k.id).max().unwrap_or(0) + 1;
                let life = if keys.is_empty() { KeyLife::first(now) } else { KeyLife::successor(now, policy.lead) };
                sqlx::query(
                    "INSERT INTO refresh_keys (id, key_sealed, publish_time, activate_time) VALUES ($1, $2, $3, $4)",
                )
                .bind(id)
                .bind(seal(id))
                .bind(life.publish_time)
                .bind(life.activate_time)
                .execute(tx.conn())
                .await?;
                sqlx::query("UPDATE refresh_keys SET retire_time = $1 WHERE retire_time IS NULL AND id <> $2")
                    .bind(life.activate_time)
                    .bind(id)
                    .execute(tx.conn())
                    .await?;
                tx.key_published(by, format!("refresh-{id}")).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn revoke_signing_key(
        &self,
        kid: String,
        successor: NewSigningKey,
        policy: RotationPolicy,
        by: Authority,
    ) -> Result<RevokeKey, StoreError> {
        self.transaction("revoke_signing_key", (kid, successor, policy, by), |tx, (kid, successor, policy, by)| {
            Box::pin(revoke_signing_key(tx, kid, successor, *policy, by))
        })
        .await
    }

    async fn purge_keys(&self) -> Result<u64, StoreError> {
        self.transaction("purge_keys", (), |tx, ()| {
            Box::pin(async move {
                let now = tx.now();
                let purged =
                    sqlx::query("DELETE FROM signing_keys WHERE remove_time < $1").bind(now).execute(tx.conn()).await?;
                Ok(purged.rows_affected())
            })
        })
        .await
    }
}

async fn revoke_signing_key(
    tx: &mut Tx,
    kid: &str,
    successor: &NewSigningKey,
    policy: RotationPolicy,
    by: &Authority,
) -> Result<RevokeKey, StoreError> {
    let longest_access_ttl = tx.lock_feed_head().await?;
    tx.authorize(&by.warrant).await?;
    let now = tx.now();
    let mut others = read_signing_keys(tx.conn()).await?;
    let Some(place) = others.iter().position(|key| key.kid == kid && key.life.state(now) != KeyState::Removed) else {
        return Ok(RevokeKey::Unknown);
    };
    let revoked = others.remove(place).life;
    // Gone, rather than marked: no version of this program, and no mistake in one, can accept it again.
    sqlx::query("DELETE FROM signing_keys WHERE kid = $1").bind(kid).execute(tx.conn()).await?;
    sqlx::query("INSERT INTO revoked_keys (kid, time) VALUES ($1, $2) ON CONFLICT (kid) DO NOTHING")
        .bind(kid)
        .bind(now)
        .execute(tx.conn())
        .await?;
    tx.revoke(Revocation::Key { kid: kid.to_owned() });
    let act = Act::KeyRevoked { key: kid.to_owned() };
    tx.audit_keys(by, act).await?;

    let lives: Vec<_> = others.iter().map(|key| key.life).collect();
    let takeover = match Succession::after_revocation(&lives, now, policy.lead) {
        Succession::None => None,
        Succession::Next(place) => {
            sqlx::query("UPDATE signing_keys SET activate_time = $1 WHERE kid = $2")
                .bind(now)
                .bind(&others[place].kid)
                .execute(tx.conn())
                .await?;
            None
        }
        Succession::Until(takeover) => Some(takeover),
        Succession::New(life) => {
            tx.insert_signing_key(successor, &life).await?;
            tx.audit_keys(by, Act::KeyPublished { key: successor.kid.clone() }).await?;
            Some(life.activate_time)
        }
    };
    if let Some(takeover) = takeover {
        // Whoever would have given way to the revoked key.
        sqlx::query(
            "UPDATE signing_keys SET retire_time = $1, remove_time = $2 WHERE retire_time = $3 AND retire_time > $4",
        )
        .bind(takeover)
        .bind(takeover.plus(longest_access_ttl + KEY_MARGIN))
        .bind(revoked.activate_time)
        .bind(now)
        .execute(tx.conn())
        .await?;
    }
    tx.revoke(Revocation::KeySetChanged);
    Ok(RevokeKey::Revoked)
}

/// A verifier's clock may be behind, and its leeway lets a token live a little longer.
const KEY_MARGIN: Duration = Duration::from_micros(KEY_MARGIN_MICROS.unsigned_abs());

impl Tx {
    /// Locks the head of the feed until the transaction ends; how long access tokens live at most.
    async fn lock_feed_head(&mut self) -> Result<Duration, StoreError> {
        let (ttl,): (i64,) =
            sqlx::query_as(concat!("SELECT longest_access_ttl FROM feed_head WHERE id = 1", for_update!()))
                .fetch_one(self.conn())
                .await?;
        Ok(Duration::from_micros(u64::try_from(ttl).unwrap_or(0)))
    }

    async fn insert_signing_key(&mut self, new: &NewSigningKey, life: &KeyLife) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO signing_keys (kid, algorithm, public_jwk, private_key_sealed, publish_time, activate_time) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&new.kid)
        .bind(new.algorithm.as_str())
        .bind(Json(&new.public_jwk))
        .bind(&new.private_key_sealed)
        .bind(life.publish_time)
        .bind(life.activate_time)
        .execute(self.conn())
        .await?;
        Ok(())
    }

    async fn key_published(&mut self, by: &Authority, key: String) -> Result<(), StoreError> {
        self.revoke(Revocation::KeySetChanged);
        self.audit_keys(by, Act::KeyPublished { key }).await
    }

    async fn audit_keys(&mut self, Authority { warrant, origin }: &Authority, act: Act) -> Result<(), StoreError> {
        self.audit(&AuditEvent { actor: warrant.actor, subject: None, act, origin: origin.clone() }).await
    }
}

/// Whether a key of this algorithm signs or is about to.
fn serves(keys: &[SigningKeyRow], algorithm: Algorithm, now: Timestamp) -> bool {
    keys.iter().any(|k| k.algorithm == algorithm && matches!(k.life.state(now), KeyState::Published | KeyState::Active))
}

async fn read_signing_keys(connection: &mut super::Conn) -> Result<Vec<SigningKeyRow>, StoreError> {
    sqlx::query_as::<Db, SigningKeyColumns>(
        "SELECT kid, algorithm, public_jwk, private_key_sealed, publish_time, activate_time, retire_time, remove_time \
         FROM signing_keys ORDER BY activate_time, kid",
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(SigningKeyRow::try_from)
    .collect()
}

async fn read_refresh_keys(connection: &mut super::Conn) -> Result<Vec<RefreshKeyRow>, StoreError> {
    let rows = sqlx::query_as::<Db, RefreshKeyColumns>(
        "SELECT id, key_sealed, publish_time, activate_time, retire_time FROM refresh_keys ORDER BY id",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(RefreshKeyRow::from).collect())
}
