//! Connections to each form of Redis, made alike.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo as _, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
};
use tokio::time::timeout;

use super::{
    OpenError,
    gathered::Gathered,
    url::{Address, Form, Login, RedisUrl},
};

/// How often a cluster's client follows a redirection or tries again, and how long it waits in between. By default these are
/// 16 times and up to 655 s.
const CLUSTER_RETRIES: u32 = 3;
const CLUSTER_RETRY_WAIT_MS: (u64, u64) = (10, 50);

/// A connection, shared by its clones.
#[derive(Clone)]
pub(super) enum Link {
    Node(Gathered),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Node(_) => "Node",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Link {
    /// The answer to a command.
    pub(super) async fn query<T: FromRedisValue>(&mut self, command: Cmd) -> RedisResult<T> {
        match self {
            Self::Node(connection) => Ok(T::from_redis_value(connection.query(command).await?)?),
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

/// Makes connections.
pub(super) struct Connector {
    target: Target,
    /// Longest that one step of connecting may take.
    step: Duration,
}

enum Target {
    Node(Client),
    Sentinel {
        sentinels: Vec<Client>,
        master: String,
        settings: RedisConnectionInfo,
        tls: Option<TlsCertificates>,
        /// Which one is asked first: another one each time, because one may be wrong.
        turn: AtomicUsize,
    },
    /// For short calls, and for those that block.
    Cluster {
        calls: Box<ClusterClient>,
        blocking: Box<ClusterClient>,
    },
}

impl Connector {
    /// A connector to `url`. `patience` is for the answer to one call, `blocking` for one that blocks.
    pub(super) fn new(
        url: &RedisUrl,
        tls_roots: Option<&Path>,
        patience: Duration,
        blocking: Duration,
    ) -> Result<Self, OpenError> {
        let tls = url.tls.then(|| certificates(tls_roots)).transpose()?;
        let settings = settings(url.login.as_ref(), url.database);
        let step = patience.max(Duration::from_millis(500));
        let client = |addr: &Address, settings: &RedisConnectionInfo| client(addr, settings, tls.as_ref());
        let target = match &url.form {
            Form::Single(addr) => Target::Node(client(addr, &settings)?),
            Form::Unix(path) => {
                let info = ConnectionAddr::Unix(path.clone()).into_connection_info()?;
                Target::Node(Client::open(info.set_redis_settings(settings))?)
            }
            Form::Sentinel { sentinels, master, login } => {
                let own = self::settings(login.as_ref(), 0);
                let sentinels = sentinels.iter().map(|addr| client(addr, &own)).collect::<RedisResult<_>>()?;
                Target::Sentinel { sentinels, master: master.clone(), settings, tls, turn: AtomicUsize::new(0) }
            }
            Form::Cluster(nodes) => {
                let build = |response: Duration| -> RedisResult<ClusterClient> {
                    let nodes =
                        nodes.iter().map(|addr| info(addr, &settings, tls.is_some())).collect::<RedisResult<Vec<_>>>();
                    let builder = ClusterClientBuilder::new(nodes?)
                        .retries(CLUSTER_RETRIES)
                        .min_retry_wait(CLUSTER_RETRY_WAIT_MS.0)
                        .max_retry_wait(CLUSTER_RETRY_WAIT_MS.1)
                        // While it looks for a lost node, calls to the others wait: not for as long as they may take.
                        .connection_timeout((patience / 2).max(Duration::from_millis(100)))
                        .response_timeout(response);
                    match &tls {
                        Some(tls) => builder.certs(tls.clone()),
                        None => builder,
                    }
                    .build()
                };
                Target::Cluster { calls: Box::new(build(patience)?), blocking: Box::new(build(blocking)?) }
            }
        };
        Ok(Self { target, step })
    }

    /// A connection for short calls.
    pub(super) async fn connect(&self) -> RedisResult<Link> {
        self.link(false).await
    }

    /// A connection for calls that block.
    pub(super) async fn connect_blocking(&self) -> RedisResult<Link> {
        self.link(true).await
    }

    async fn link(&self, is_blocking: bool) -> RedisResult<Link> {
        match &self.target {
            Target::Node(client) => self.node(client).await,
            Target::Sentinel { sentinels, master, settings, tls, turn } => {
                let first = turn.fetch_add(1, Ordering::Relaxed) % sentinels.len();
                let mut failure = None;
                for sentinel in sentinels[first..].iter().chain(&sentinels[..first]) {
                    match self.ask(sentinel, master).await {
                        Ok(addr) => return self.node(&client(&addr, settings, tls.as_ref())?).await,
                        Err(error) => failure = Some(error),
                    }
                }
                Err(failure.unwrap_or_else(|| (ErrorKind::EmptySentinelList, "no sentinel").into()))
            }
            Target::Cluster { calls, blocking } => {
                let client = if is_blocking { blocking } else { calls };
                // It asks several nodes in turn where one does not answer.
                timeout(self.step * 3, client.get_async_connection()).await.map_err(too_slow)?.map(Link::Cluster)
            }
        }
    }

    /// A connection without time limits for answers: whoever calls has his own.
    async fn node(&self, client: &Client) -> RedisResult<Link> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        timeout(self.step, connecting).await.map_err(too_slow)?.map(Gathered::new).map(Link::Node)
    }

    async fn ask(&self, sentinel: &Client, master: &str) -> RedisResult<Address> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(master);
        let mut link = self.node(sentinel).await?;
        let answer = timeout(self.step, link.query(question)).await.map_err(too_slow)??;
        let (host, port): (String, u16) = Option::<(String, u16)>::ok_or(answer, {
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "the sentinel knows no master of that name"))
        })?;
        Ok(Address { host, port })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

fn too_slow(_: tokio::time::error::Elapsed) -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn settings(login: Option<&Login>, database: u16) -> RedisConnectionInfo {
    // The library's name is of no use to anybody, and not every user may set it.
    let settings = RedisConnectionInfo::default().set_db(database.into()).set_skip_set_lib_name();
    match login {
        Some(Login { user, password }) => {
            let settings = settings.set_password(password.expose());
            user.as_ref().map_or(settings.clone(), |user| settings.set_username(user))
        }
        None => settings,
    }
}

fn info(address: &Address, settings: &RedisConnectionInfo, is_tls: bool) -> RedisResult<ConnectionInfo> {
    let Address { host, port } = address.clone();
    let addr = if is_tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    Ok(addr.into_connection_info()?.set_redis_settings(settings.clone()))
}

fn client(address: &Address, settings: &RedisConnectionInfo, tls: Option<&TlsCertificates>) -> RedisResult<Client> {
    let info = info(address, settings, tls.is_some())?;
    match tls {
        Some(tls) => Client::build_with_tls(info, tls.clone()),
        None => Client::open(info),
    }
}

fn certificates(tls_roots: Option<&Path>) -> Result<TlsCertificates, OpenError> {
    let root_cert = tls_roots.map(|path| roots(path).map_err(|cause| OpenError::Roots { path: path.into(), cause }));
    Ok(TlsCertificates { client_tls: None, root_cert: root_cert.transpose()? })
}

fn roots(path: &Path) -> std::io::Result<Vec<u8>> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let pem = std::fs::read(path)?;
    if pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
        Ok(pem)
    } else {
        Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "there is no certificate in it"))
    }
}
