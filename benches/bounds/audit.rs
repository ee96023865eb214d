//! What the chains of the audit trail cost those who write to it at once.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, postgres::PgPoolOptions};
use uuid::Uuid;
use vouchsafe::{
    crypto::{DerivedKeys, MasterKey, SystemEntropy, Vault, machine_date},
    domain::{
        audit::{Act, Actor, AuditEvent, Origin},
        id::EventId,
        revocation::FeedEntry,
        secret::{Entropy as _, SecretString},
        time::{Clock, Timestamp},
    },
    store::{
        Location, Options, Surroundings, migrate, open,
        port::{CommitObserver, Store},
    },
};

use crate::{
    Plan,
    process::service,
    report::{Bound, Report},
    stats::{Paired, median},
};

/// Writers at once.
const WRITERS: [usize; 3] = [1, 8, 32];
/// How long one side writes before it is the other's turn.
const BATCH: Duration = Duration::from_millis(200);

static DATABASES: AtomicU32 = AtomicU32::new(0);

struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        machine_date()
    }
}

struct Deaf;

impl CommitObserver for Deaf {
    fn committed(&self, _: &[FeedEntry]) {}
}

type Written = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Writes an event, in a transaction of its own.
type Write = Arc<dyn Fn() -> Written + Send + Sync>;

/// Events per second of a trail as it is against one of a single chain, and against rows that are not chained.
pub(crate) async fn run(plan: &Plan, report: &mut Report) {
    let (many, one, none) = (chained(None).await, chained(Some(1)).await, unchained().await);
    let again = chained(None).await;
    for writers in WRITERS {
        let floor = alternate(&many, &again, writers, plan.budget / 8).await.ratios();
        for (other, name) in [(&one, "one lane"), (&none, "no chain")] {
            let paired = alternate(&many, other, writers, plan.budget / 4).await;
            let what = format!("audit events per second in 64 lanes : {name}, {writers} writers");
            let detail = format!("{:.0} and {:.0} per second, Postgres", median(&paired.a), median(&paired.b));
            report.ratio(&what, paired.ratios(), Some(floor), Bound::None, &detail);
        }
    }
}

/// The rates of two sides, in turns.
async fn alternate(a: &Write, b: &Write, writers: usize, budget: Duration) -> Paired {
    let (mut paired, end) = (Paired::default(), Instant::now() + budget);
    let _warm = (rate(a, writers).await, rate(b, writers).await);
    while paired.a.len() < 3 || Instant::now() < end {
        let first = rate(a, writers).await;
        paired.push(first, rate(b, writers).await);
    }
    paired
}

async fn rate(write: &Write, writers: usize) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let write = Arc::clone(write);
            tokio::spawn(async move {
                let mut written = 0_u32;
                while start.elapsed() < BATCH {
                    write().await;
                    written += 1;
                }
                written
            })
        })
        .collect();
    let mut written = 0;
    for task in tasks {
        written += task.await.unwrap();
    }
    f64::from(written) / start.elapsed().as_secs_f64()
}

/// The trail of a store; of so many lanes, if that is said.
async fn chained(lanes: Option<u32>) -> Write {
    let url = database().await;
    let entropy = Arc::new(SystemEntropy);
    let master = Arc::new(MasterKey::generate(&*entropy));
    let keys = DerivedKeys::of(&master);
    let around = Surroundings {
        clock: Arc::new(MachineClock),
        entropy: Arc::clone(&entropy) as _,
        vault: Arc::new(Vault::new(master, &keys, entropy)),
        observer: Arc::new(Deaf),
        kept_passwords: 0,
    };
    let options = Options { max_connections: 32, acquire_timeout: Duration::from_secs(10) };
    let store: Arc<dyn Store> =
        open(&Location::Postgres(SecretString::new(url.clone())), &options, around).await.unwrap();
    if let Some(lanes) = lanes {
        let mut postgres = PgConnection::connect(&url).await.unwrap();
        let sql = format!("DELETE FROM audit_lanes WHERE id >= {lanes}");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut postgres).await.unwrap();
    }
    Arc::new(move || {
        let store = Arc::clone(&store);
        Box::pin(async move {
            let act = Act::PasswordChanged;
            let event = AuditEvent { actor: Actor::System, subject: None, act, origin: Origin::default() };
            store.record(event).await.unwrap();
        })
    })
}

/// The same rows in transactions alike, without a place.
async fn unchained() -> Write {
    let url = database().await;
    let pool = PgPoolOptions::new().max_connections(32).connect(&url).await.unwrap();
    Arc::new(move || {
        let pool = pool.clone();
        Box::pin(async move { insert(&pool).await })
    })
}

async fn insert(pool: &PgPool) {
    let mut bytes = [0; 10];
    SystemEntropy.fill(&mut bytes);
    let (now, none) = (machine_date(), None::<Uuid>);
    let mut connection = pool.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT pg_current_xact_id()::text").fetch_all(&mut *connection).await.unwrap();
    sqlx::query(
        "INSERT INTO audit_events (id, time, act, succeeded, actor, actor_id, subject_id, session_id, request_id, detail) \
         VALUES ($1, $2, 'password.changed', TRUE, 'system', $3, $3, $3, '', '{}')",
    )
    .bind(*EventId::new(now, &bytes).as_uuid())
    .bind(now.as_micros())
    .bind(none)
    .execute(&mut *connection)
    .await
    .unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await.unwrap();
}

/// A new database with the schema.
async fn database() -> String {
    let url = service("VOUCHSAFE_TEST_POSTGRES_URL");
    let mut postgres = PgConnection::connect(&url).await.unwrap();
    let name = format!("bench_audit_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut postgres).await.unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    let url = format!("{server}/{name}");
    migrate(&Location::Postgres(SecretString::new(url.clone()))).await.unwrap();
    url
}
