//! Reading: out of reach of a caller who goes away, or on a connection that is held for it.

use sqlx::Pool;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::{
    Conn, Database, Db, NAME,
    transaction::{Body, READ_LIMIT, ROLLBACK, too_slow},
};
use crate::store::StoreError;

impl Database {
    /// Runs `body` on a connection for reading, in a task of its own: a statement that its caller gave up on is finished, and
    /// one that takes too long is given up together with its connection.
    pub(super) async fn reading<A, T, F>(
        &self,
        name: &'static str,
        pool: &Pool<Db>,
        args: A,
        body: F,
    ) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'t> Fn(&'t mut Conn, &'t A) -> Body<'t, T> + Send + Sync + 'static,
    {
        let (pool, manner) = (pool.clone(), self.pools.manner);
        let read = async move {
            let mut connection = Conn::acquire(&pool, manner).await?;
            read_in(&mut connection, manner.begin_reading, &args, &body).await
        };
        let span = tracing::debug_span!("read", db.system.name = NAME, db.query.summary = name);
        match self.tasks.spawn(read.instrument(span).in_current_span()).await {
            Ok(result) => result,
            Err(gone) => Err(StoreError::Internal(gone.into())),
        }
    }

    /// The same for what is read all the time, by few: on a connection that is held, and again on a fresh one if that was not
    /// good any more. A caller who gives up takes the connection along.
    pub(super) async fn reading_often<A, T, F>(&self, name: &'static str, args: A, body: F) -> Result<T, StoreError>
    where
        F: for<'t> Fn(&'t mut Conn, &'t A) -> Body<'t, T>,
    {
        let begin = self.pools.manner.begin_reading;
        let read = async {
            if let Some(mut held) = self.held.used() {
                match read_in(&mut held.link, begin, &args, &body).await {
                    Ok(value) => {
                        self.held.put(held);
                        return Ok(value);
                    }
                    Err(StoreError::Unavailable(cause)) => tracing::debug!(%cause, "a held connection is of no use"),
                    Err(error) => return Err(error),
                }
            }
            let mut held = self.held.fresh().await?;
            let value = read_in(&mut held.link, begin, &args, &body).await?;
            self.held.put(held);
            Ok(value)
        };
        read.instrument(tracing::debug_span!("read", db.system.name = NAME, db.query.summary = name)).await
    }
}

/// Runs `body` by itself, or in a transaction where it has to be.
async fn read_in<A, T, F>(conn: &mut Conn, begin: Option<&'static str>, args: &A, body: &F) -> Result<T, StoreError>
where
    F: for<'t> Fn(&'t mut Conn, &'t A) -> Body<'t, T>,
{
    let reading = async {
        if let Some(begin) = begin {
            sqlx::raw_sql(begin).execute(&mut *conn).await?;
        }
        let read = body(conn, args).await;
        if begin.is_none() || sqlx::raw_sql(ROLLBACK).execute(&mut *conn).await.is_ok() {
            conn.settle();
        }
        read
    };
    timeout(READ_LIMIT, reading).await.map_err(|_| too_slow())?
}
