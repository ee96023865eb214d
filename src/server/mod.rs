//! Puts the parts together: from settings to a running node.
//!
//! The node takes its listeners, clock and shutdown from outside, so that tests run the very server that operators run.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Backend, MasterKey as MasterKeySetting, Settings},
    crypto::{PasswordPool, PoolConfig},
    domain::{secret::Entropy, time::Clock},
    grpc::{CallLayer, CallPolicy, Limits, Server},
    http,
    notify::Notifier,
    service::{Background, Service},
    store,
    telemetry::Family,
    tls::{Ports, Reload},
};

mod backstage;
mod claims_file;
mod clock;
mod data_dir;
mod error;
mod from_settings;
mod master_key;
mod reseal;

pub use backstage::{Backstage, DeadLetter, OpenStore};
pub use claims_file::{ClaimsProblems, claim_rules};
pub use clock::DatabaseClock;
pub use data_dir::{DataDirError, DatabaseLock};
pub use error::StartError;
use from_settings::{cheap_passwords, hidden_codes, hot_state, location, logged_codes, options, policy, pool_config};
pub use from_settings::{encryption, password_rules};
pub use reseal::{MasterKeyChange, Sealed};

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
    tls: Ports,
    _lock: Option<DatabaseLock>,
}

/// Brings the schema up to date. An embedded database that is not there is made, with its master key.
///
/// # Errors
/// See [`StartError`].
pub async fn migrate(settings: &Settings, ambient: &Ambient) -> Result<(), StartError> {
    master_key::prepared(settings, &*ambient.entropy)?;
    Ok(store::migrate(&location(settings)).await?)
}

/// Whether a master key that the settings give is one, and the one beside it another one.
///
/// # Errors
/// [`StartError::MasterKey`], [`StartError::PreviousMasterKey`].
pub fn check_master_key(settings: &Settings) -> Result<(), StartError> {
    match &settings.keys.master_key {
        MasterKeySetting::Given(key) => master_key::given(settings, key).map(|_| ()),
        MasterKeySetting::Generated { .. } => Ok(()),
    }
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

impl Node {
    /// Makes a node ready: keeps other servers off an embedded database, opens the store, loads keys and revocations, starts the
    /// hashing threads.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn prepare(settings: Settings, ambient: Ambient) -> Result<Self, StartError> {
        let tls = Ports::load(&settings)?;
        let notifier = Notifier::new(&settings.notify, &settings.issuer)?;
        for warning in [logged_codes(&settings), hidden_codes(&settings)].into_iter().flatten() {
            tracing::warn!("{warning}");
        }
        let rules = password_rules(&settings)?;
        let encryption = encryption(&settings)?;
        if let Some(warning) = cheap_passwords(&settings.passwords) {
            tracing::warn!("{warning}");
        }
        let lock = match &settings.database.backend {
            Backend::Sqlite { file, data_dir } => {
                data_dir::create(data_dir)?;
                Some(data_dir::lock(file)?)
            }
            Backend::Postgres { .. } => None,
        };
        let mut backstage = Backstage::open(&settings, &ambient).await?;
        backstage.policy.encryption = encryption;
        let passwords =
            PasswordPool::start_observed(pool_config(&settings), &(Arc::clone(&backstage.metrics) as Arc<_>))?;
        let service = Arc::new(backstage.into_service((passwords, rules), notifier, &ambient)?);
        Ok(Self { service, ambient, settings, tls, _lock: lock })
    }

    /// What makes the node look at its certificate files at once. `None` if it has none.
    pub fn reload(&self) -> Option<Reload> {
        self.tls.reload()
    }

    /// Its metrics, for whoever sends them somewhere. Holds on to the node.
    pub fn metrics(&self) -> impl Fn() -> Vec<Family> + Send + Sync + 'static + use<> {
        let service = Arc::clone(&self.service);
        move || service.collect_metrics()
    }

    /// Serves on both ports until `shutdown`, then drains.
    ///
    /// # Errors
    /// If a port fails as a whole.
    pub async fn serve(self, listeners: Listeners, shutdown: CancellationToken) -> std::io::Result<()> {
        let Self { service, ambient, settings, tls, _lock } = self;
        let on_loopback = listeners.grpc.local_addr()?.ip().is_loopback();
        let call_policy = CallPolicy {
            max_deadline: settings.grpc.max_deadline,
            verification_open: on_loopback || settings.grpc.open_verification || has_client_ca(&settings),
            trusted_proxies: settings.grpc.trusted_proxies.clone(),
        };
        let limits = Limits {
            max_concurrent_streams: settings.grpc.max_concurrent_streams,
            pause: settings.shutdown.pause,
            drain: settings.shutdown.drain,
        };
        let http_address = listeners.http.local_addr()?;
        service.policy().public_url.get_or_init(|| url_of(http_address, settings.http.tls.is_some()));
        let background = Background::start(&service);
        let layer = CallLayer::new(Arc::clone(&service), ambient.entropy, call_policy);
        let grpc = Server::new(listeners.grpc, layer, limits).with_tls(tls.grpc());
        let grpc = grpc.with_web_origins(&settings.grpc.web_origins);
        let grpc = grpc.run(Arc::clone(&service), shutdown.clone());

        // The HTTP port outlives the gRPC port, so that probes see the drain.
        let grpc_ended = CancellationToken::new();
        let http = http::run(
            listeners.http,
            tls.http(),
            Arc::clone(&service),
            settings.telemetry.metrics,
            shutdown,
            grpc_ended.clone(),
        );
        tokio::spawn(tls.follow(ambient.clock, grpc_ended.clone()));
        let grpc = async {
            let ended = grpc.await;
            grpc_ended.cancel();
            ended
        };
        let (grpc, http) = tokio::join!(grpc, http);
        // Effects under way come to their end, but a database that says nothing must not keep the process alive.
        let closing = async {
            // Refreshes that outlive their callers still want the background's readers.
            service.finish_refreshes().await;
            background.stop().await;
            service.close().await;
        };
        if timeout(settings.shutdown.drain, closing).await.is_err() {
            tracing::warn!("the database did not let go in time");
        }
        grpc.and(http)
    }
}

/// Whether every caller of the gRPC port has shown a certificate.
fn has_client_ca(settings: &Settings) -> bool {
    settings.grpc.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
}

/// The URL of a port for callers on this machine.
fn url_of(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    // "Every address" is none that could be called.
    if address.ip().is_unspecified() {
        format!("{scheme}://localhost:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
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
