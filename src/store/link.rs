//! A connection out of a pool, and the manner in which statements are sent over it.

use std::{
    ops::{Deref, DerefMut},
    pin::Pin,
};

use sqlx::{
    Database, Either, Error, Execute, Executor, Postgres, SqlStr, Sqlite,
    error::BoxDynError,
    pool::{Pool, PoolConnection},
};

use super::StoreError;

/// How transactions and statements are sent, where that depends on the way to the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Begins a transaction, and may answer its id: one round trip.
    pub(super) begin: &'static str,
    /// Begins a transaction that only reads, where a statement outside of one would not do.
    pub(super) begin_reading: Option<&'static str>,
    /// Whether a prepared statement is still there for the next transaction.
    pub(super) keeps_statements: bool,
}

/// A connection. Statements go over it as over any of sqlx's. Dropped while it is in use, it is closed and does not go back to
/// the pool: whatever state it is in, nobody else shall have it.
pub(super) struct Link<D: Database> {
    connection: Connection<D>,
    manner: Manner,
    settled: bool,
}

/// Where it goes when it is dropped.
enum Connection<D: Database> {
    Pooled(PoolConnection<D>),
    /// Nowhere: it is closed.
    Own(D::Connection),
}

impl<D: Database> Deref for Connection<D> {
    type Target = D::Connection;

    fn deref(&self) -> &D::Connection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Own(connection) => connection,
        }
    }
}

impl<D: Database> DerefMut for Connection<D> {
    fn deref_mut(&mut self) -> &mut D::Connection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Own(connection) => connection,
        }
    }
}

impl<D: Database> std::fmt::Debug for Link<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("manner", &self.manner).field("settled", &self.settled).finish_non_exhaustive()
    }
}

impl<D: Database> Drop for Link<D> {
    fn drop(&mut self) {
        if let Connection::Pooled(connection) = &mut self.connection
            && !self.settled
        {
            connection.close_on_drop();
        }
    }
}

impl<D: Database> Link<D> {
    /// A connection of a pool.
    pub(super) async fn acquire(pool: &Pool<D>, manner: Manner) -> Result<Self, StoreError> {
        Ok(Self { connection: Connection::Pooled(pool.acquire().await?), manner, settled: false })
    }

    /// A connection of a pool that never goes back to it, and in whose place the pool may open another.
    pub(super) async fn detach(pool: &Pool<D>, manner: Manner) -> Result<Self, StoreError> {
        Ok(Self { connection: Connection::Own(pool.acquire().await?.detach()), manner, settled: false })
    }

    /// How it is used.
    pub(super) const fn manner(&self) -> Manner {
        self.manner
    }

    /// Says that nothing is under way on it, so that it may be used again.
    pub(super) const fn settle(&mut self) {
        self.settled = true;
    }

    /// Whether nothing is under way on it. If so, something will be from now on.
    pub(super) const fn unsettle(&mut self) -> bool {
        std::mem::replace(&mut self.settled, false)
    }

    const fn sent<Q>(&self, query: Q) -> Sent<Q> {
        Sent { query, keeps_statements: self.manner.keeps_statements }
    }
}

/// A query that is prepared under a name only where the name lasts.
struct Sent<Q> {
    query: Q,
    keeps_statements: bool,
}

impl<'q, D: Database, Q: Execute<'q, D>> Execute<'q, D> for Sent<Q> {
    fn sql(self) -> SqlStr {
        self.query.sql()
    }

    fn statement(&self) -> Option<&D::Statement> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<D::Arguments>, BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.keeps_statements && self.query.persistent()
    }
}

type Answer<'e, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'e>>;
type Answers<'e, D> = Pin<
    Box<
        dyn tokio_stream::Stream<Item = Result<Either<<D as Database>::QueryResult, <D as Database>::Row>, Error>>
            + Send
            + 'e,
    >,
>;

/// Once for each database: were it generic, everybody's inference would try it for every other type.
macro_rules! sends {
    ($($database:ty),+) => {
        $(impl<'c> Executor<'c> for &'c mut Link<$database> {
            type Database = $database;

            fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Answers<'e, $database>
            where
                'c: 'e,
                E: 'q + Execute<'q, $database>,
            {
                let query = self.sent(query);
                self.connection.fetch_many(query)
            }

            fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> Answer<'e, Option<<$database as Database>::Row>>
            where
                'c: 'e,
                E: 'q + Execute<'q, $database>,
            {
                let query = self.sent(query);
                self.connection.fetch_optional(query)
            }

            fn prepare_with<'e>(
                self,
                sql: SqlStr,
                parameters: &'e [<$database as Database>::TypeInfo],
            ) -> Answer<'e, <$database as Database>::Statement>
            where
                'c: 'e,
            {
                self.connection.prepare_with(sql, parameters)
            }
        })+
    };
}

sends!(Postgres, Sqlite);
