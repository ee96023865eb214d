//! Puts the parts together: from settings to a running node.
//!
//! The node takes its listeners, clock and shutdown from outside, so that tests run the very server that operators run.

use std::{path::PathBuf, sync::Arc};

use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Backend, MasterKey as MasterKeySetting, Settings},
    crypto::{IdentifierHasher, MasterKey, PasswordPool, PoolConfig, Vault},
    domain::{
        secret::{Entropy, SecretString},
        time::Clock,
    },
    grpc::{CallLayer, CallPolicy, Limits, Server},
    http,
    service::{Background, Feed, KeyChain, Observer, Parts, Policy, Service},
    store::{self, Surroundings, port::Store},
};

mod clock;
mod data_dir;
mod error;
mod from_settings;

pub use clock::DatabaseClock;
pub use data_dir::{DataDirError, DataDirLock};
pub use error::StartError;
use from_settings::{location, options, policy, pool_config};

/// Where the time and the random bytes of a node come from.
#[derive(Clone)]
pub struct Ambient {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws random bytes.
    pub entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Ambient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ambient")
    }
}

/// The store and the keys, opened: enough for the command line.
#[derive(Debug)]
pub struct Backstage {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The keys, made if there were none.
    pub keys: Arc<KeyChain>,
    /// The revocation feed, read to its end.
    pub feed: Arc<Feed>,
    /// The operator's decisions.
    pub policy: Policy,
    master: Arc<MasterKey>,
}

/// The ports of a node.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For keys and health.
    pub http: TcpListener,
}

/// A node ready to serve.
#[derive(Debug)]
pub struct Node {
    service: Arc<Service>,
    ambient: Ambient,
    settings: Settings,
    _lock: Option<DataDirLock>,
}

/// Brings the schema up to date.
///
/// # Errors
/// See [`StartError`].
pub async fn migrate(settings: &Settings) -> Result<(), StartError> {
    prepare_data_dir(settings)?;
    Ok(store::migrate(&location(settings)).await?)
}

/// Binds both ports.
///
/// # Errors
/// [`StartError::Listen`].
pub async fn bind(settings: &Settings) -> Result<Listeners, StartError> {
    let listen = async |setting, address| {
        TcpListener::bind(address).await.map_err(|problem| StartError::Listen { setting, address, problem })
    };
    Ok(Listeners {
        grpc: listen("grpc.listen", settings.grpc.listen).await?,
        http: listen("http.listen", settings.http.listen).await?,
    })
}

impl Backstage {
    /// Opens the store and loads the keys.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open(settings: &Settings, ambient: &Ambient) -> Result<Self, StartError> {
        prepare_data_dir(settings)?;
        let master = Arc::new(MasterKey::parse(master_key(settings, &*ambient.entropy)?.expose())?);
        let (location, options) = (location(settings), options(settings));
        if settings.database.migrate_on_start {
            store::migrate(&location).await?;
        }
        let observer = Arc::new(Observer::new());
        let around = Surroundings {
            clock: Arc::clone(&ambient.clock),
            entropy: Arc::clone(&ambient.entropy),
            vault: Arc::new(Vault::new(Arc::clone(&master), Arc::clone(&ambient.entropy))),
            observer: Arc::clone(&observer) as Arc<_>,
        };
        let store = store::open(&location, &options, around).await?;
        let policy = policy(settings);
        let feed = Arc::new(Feed::new(Arc::clone(&store), observer, Arc::clone(&ambient.clock)));
        // First of all, because it sets the clock by the database's.
        feed.catch_up().await?;
        store.announce_access_ttl(policy.access_ttl).await?;
        let keys = KeyChain::load(
            &*store,
            &policy,
            Arc::clone(&master),
            Arc::clone(&ambient.clock),
            Arc::clone(&ambient.entropy),
        );
        let keys = Arc::new(keys.await?);
        Ok(Self { store, keys, feed, policy, master })
    }
}

impl Node {
    /// Makes a node ready: takes the data directory, opens the store, loads keys and revocations, starts the hashing threads.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn prepare(settings: Settings, ambient: Ambient) -> Result<Self, StartError> {
        let lock = match &settings.database.backend {
            Backend::Sqlite { data_dir, .. } => {
                data_dir::create(data_dir)?;
                Some(data_dir::lock(data_dir)?)
            }
            Backend::Postgres { .. } => None,
        };
        let Backstage { store, keys, feed, policy, master } = Backstage::open(&settings, &ambient).await?;
        let parts = Parts {
            store,
            keys,
            feed,
            passwords: PasswordPool::start(pool_config(&settings))?,
            identifiers: IdentifierHasher::new(&master),
            policy,
            clock: Arc::clone(&ambient.clock),
            entropy: Arc::clone(&ambient.entropy),
        };
        Ok(Self { service: Arc::new(Service::new(parts)?), ambient, settings, _lock: lock })
    }

    /// Serves on both ports until `shutdown`, then drains.
    ///
    /// # Errors
    /// If a port fails as a whole.
    pub async fn serve(self, listeners: Listeners, shutdown: CancellationToken) -> std::io::Result<()> {
        let Self { service, ambient, settings, _lock } = self;
        let on_loopback = listeners.grpc.local_addr()?.ip().is_loopback();
        let call_policy = CallPolicy {
            max_deadline: settings.grpc.max_deadline,
            verification_open: on_loopback || settings.grpc.open_verification,
        };
        let limits = Limits {
            max_concurrent_streams: settings.grpc.max_concurrent_streams,
            pause: settings.shutdown.pause,
            drain: settings.shutdown.drain,
        };
        let background = Background::start(&service);
        let layer = CallLayer::new(Arc::clone(&service), ambient.entropy, call_policy);
        let grpc = Server::new(listeners.grpc, layer, limits).run(Arc::clone(&service), shutdown.clone());

        // The HTTP port outlives the gRPC port, so that probes see the drain.
        let grpc_ended = CancellationToken::new();
        let http = http::run(listeners.http, Arc::clone(&service), shutdown, grpc_ended.clone());
        let grpc = async {
            let ended = grpc.await;
            grpc_ended.cancel();
            ended
        };
        let (grpc, http) = tokio::join!(grpc, http);
        // Effects under way come to their end, but a database that says nothing must not keep the process alive.
        let closing = async {
            background.stop().await;
            service.close().await;
        };
        if timeout(settings.shutdown.drain, closing).await.is_err() {
            tracing::warn!("the database did not let go in time");
        }
        grpc.and(http)
    }
}

fn prepare_data_dir(settings: &Settings) -> Result<(), StartError> {
    if let Backend::Sqlite { data_dir, .. } = &settings.database.backend {
        data_dir::create(data_dir)?;
    }
    Ok(())
}

fn master_key(settings: &Settings, entropy: &dyn Entropy) -> Result<SecretString, StartError> {
    Ok(match &settings.keys.master_key {
        MasterKeySetting::Given(key) => key.clone(),
        MasterKeySetting::Generated { data_dir } => {
            let database = match &settings.database.backend {
                Backend::Sqlite { file, .. } => file.clone(),
                Backend::Postgres { .. } => PathBuf::new(),
            };
            data_dir::master_key(data_dir, &database, entropy)?
        }
    })
}

/// Hashes one password outside a running node, for the command line.
///
/// # Errors
/// If the parameters or the system do not allow it.
pub async fn hash_password(
    settings: &Settings,
    password: crate::domain::password::Password,
    ambient: &Ambient,
) -> Result<crate::domain::user::PhcString, StartError> {
    let pool = PasswordPool::start(PoolConfig { threads: 1, queue: 1, niceness: 0, ..pool_config(settings) })?;
    let salt = crate::domain::secret::random(&*ambient.entropy);
    let deadline = crate::crypto::monotonic_now() + std::time::Duration::from_mins(1);
    pool.hash(password, salt, deadline).await.map_err(StartError::Hash)
}
