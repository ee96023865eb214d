//! Who is let in as which service account.

use sqlx::types::Json;
use uuid::Uuid;

use super::{
    Conn, Tx,
    rows::{HeldRoleRow, held_roles},
};
use crate::{
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        id::{ServiceAccountId, TokenId},
        service_account::{ClientProof, SecretHash, SecretLife},
        spiffe::SpiffeId,
        time::Timestamp,
    },
    store::{StoreError, port::KnownService},
};

impl Tx {
    /// See the port.
    pub(super) async fn admit_service(
        &mut self,
        proof: &ClientProof,
        token: TokenId,
        origin: &Origin,
    ) -> Result<Option<KnownService>, StoreError> {
        let now = self.now();
        let (named, proven) = match proof {
            ClientProof::Secret { account, secret } => {
                // The account first: if its secret ends between the two, so do the tokens of the epoch that was read.
                let named = known_by_id(self.conn(), *account).await?;
                let stored = stored_secret(self.conn(), *account, secret.id).await?;
                let proven = secret.matches(stored.as_ref().map(|(hash, life)| (hash, *life)), now);
                (named, proven)
            }
            ClientProof::Certificate { account, spiffe_id: Some(spiffe_id) } => {
                let named = known_by_spiffe_id(self.conn(), spiffe_id).await?;
                let proven = account.is_none_or(|account| named.as_ref().is_some_and(|named| named.account == account));
                (named, proven)
            }
            ClientProof::Certificate { account, spiffe_id: None } => match account {
                Some(account) => (known_by_id(self.conn(), *account).await?, false),
                None => (None, false),
            },
        };
        let subject = named.as_ref().map(|named| named.account.into());
        let admitted = named.filter(|_| proven);
        let (actor, act) = match &admitted {
            Some(known) => (Actor::Service(known.account), Act::ServiceTokenIssued { token }),
            None => (Actor::Anonymous, Act::ServiceTokenRefused),
        };
        self.audit(&AuditEvent { actor, subject, act, origin: origin.clone() }).await?;
        Ok(admitted)
    }
}

/// The columns of a service account row `a` that tell what it is known by, of one moment.
macro_rules! known_columns {
    () => {
        concat!("a.id, a.epoch, ", held_by_service!())
    };
}

type KnownRow = (ServiceAccountId, i64, Json<Vec<HeldRoleRow>>);

fn known(row: KnownRow) -> KnownService {
    let (account, epoch, held) = row;
    KnownService { account, epoch, held: held_roles(held) }
}

async fn known_by_id(conn: &mut Conn, id: ServiceAccountId) -> Result<Option<KnownService>, StoreError> {
    let row: Option<KnownRow> =
        sqlx::query_as(concat!("SELECT ", known_columns!(), " FROM service_accounts a WHERE a.id = $1"))
            .bind(id)
            .fetch_optional(conn)
            .await?;
    Ok(row.map(known))
}

async fn known_by_spiffe_id(conn: &mut Conn, id: &SpiffeId) -> Result<Option<KnownService>, StoreError> {
    let row: Option<KnownRow> =
        sqlx::query_as(concat!("SELECT ", known_columns!(), " FROM service_accounts a WHERE a.spiffe_id = $1"))
            .bind(id.as_str())
            .fetch_optional(conn)
            .await?;
    Ok(row.map(known))
}

async fn stored_secret(
    conn: &mut Conn,
    account: ServiceAccountId,
    id: Uuid,
) -> Result<Option<(SecretHash, SecretLife)>, StoreError> {
    let row: Option<(Vec<u8>, Timestamp, Option<Timestamp>)> = sqlx::query_as(
        "SELECT hash, create_time, expire_time FROM service_account_secrets WHERE id = $1 AND service_account_id = $2",
    )
    .bind(id)
    .bind(account)
    .fetch_optional(conn)
    .await?;
    let Some((hash, create_time, expire_time)) = row else { return Ok(None) };
    let hash =
        hash.try_into().map_err(|_| StoreError::corrupt("service_account_secrets", "hash", "not 32 bytes long"))?;
    Ok(Some((SecretHash::new(hash), SecretLife { id, create_time, expire_time })))
}
