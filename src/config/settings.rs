//! The settings, parsed and checked. What they mean to an operator stands in [`super::REFERENCE`].

use std::{fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use ipnet::IpNet;

use super::postgres_url::PostgresUrl;
use crate::{
    domain::{
        audience::{Audience, Scope},
        challenge::CodeChannel,
        locale::Locale,
        secret::SecretString,
        session::AtLimit,
        signing_key::Algorithm,
        web_origin::WebOrigin,
    },
    notify::{SmtpUrl, WebhookSecret},
    state::redis::{RedisOptions, RedisUrl},
    telemetry::LogFormat,
};

/// The name of the SQLite database in the data directory.
pub const DATABASE_FILE: &str = "vouchsafe.db";

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `iss`, exactly as configured.
    pub issuer: String,
    /// Where the truth is kept.
    pub database: Database,
    /// The hot state.
    pub redis: Redis,
    /// The gRPC port.
    pub grpc: Grpc,
    /// The HTTP port.
    pub http: Http,
    /// What access tokens say.
    pub tokens: Tokens,
    /// How long sessions live.
    pub sessions: Sessions,
    /// Other ways to sign in than by password.
    pub login: Login,
    /// Keys at rest and their rotation.
    pub keys: Keys,
    /// Who may register.
    pub registration: Registration,
    /// Password hashing.
    pub passwords: Passwords,
    /// Second factors.
    pub factors: Factors,
    /// How guesses and messages are limited.
    pub throttle: Throttle,
    /// The audit trail.
    pub audit: Audit,
    /// Messages to people.
    pub notify: Notify,
    /// Logging.
    pub log: Log,
    /// Traces and metrics.
    pub telemetry: Telemetry,
    /// How the server ends.
    pub shutdown: Shutdown,
}

/// Where the truth is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Which database.
    pub backend: Backend,
    /// Most connections at once, at least 2.
    pub max_connections: u32,
    /// How long a call waits for a connection.
    pub acquire_timeout: Duration,
    /// Whether `serve` brings the schema up to date.
    pub migrate_on_start: bool,
    /// Whether PgBouncer in transaction mode stands between. Means nothing on SQLite.
    pub pgbouncer: bool,
}

/// Which database, from `database.url` and `data_dir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Embedded.
    Sqlite {
        /// The database.
        file: PathBuf,
        /// Where a generated master key is kept. May not exist yet.
        data_dir: PathBuf,
    },
    /// Shared by all nodes.
    Postgres {
        /// Where it is.
        url: PostgresUrl,
    },
}

/// Where it is, without a login.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { file, .. } => file.display().fmt(f),
            Self::Postgres { url } => f.write_str(url.without_login()),
        }
    }
}

/// The hot state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// Where it is. `None`: there is none.
    pub url: Option<RedisUrl>,
    /// Longest a call may take.
    pub timeout: Duration,
    /// PEM roots for TLS. `None`: the system's. Only with a URL that asks for TLS.
    pub tls_roots: Option<PathBuf>,
}

impl Redis {
    /// How the adapter is told. `None`: there is no hot state.
    pub fn options(&self) -> Option<RedisOptions> {
        let url = self.url.clone()?;
        Some(RedisOptions { url, timeout: self.timeout, tls_roots: self.tls_roots.clone() })
    }
}

/// The gRPC port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// Where to listen: a loopback address unless `tls` or `allow_plaintext`.
    pub listen: SocketAddr,
    /// Whether plaintext may leave this machine.
    pub allow_plaintext: bool,
    /// TLS, if there is any.
    pub tls: Option<Tls>,
    /// Whether verification is open to all callers, also off loopback.
    pub open_verification: bool,
    /// Longest a call may take.
    pub max_deadline: Duration,
    /// Most calls at once on one connection.
    pub max_concurrent_streams: u32,
    /// Proxies that are believed where a call came from.
    pub trusted_proxies: Vec<IpNet>,
    /// Whose pages may call, by gRPC-Web. None: no page may, and HTTP/1.1 is not spoken.
    pub web_origins: Vec<WebOrigin>,
}

/// The HTTP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to listen: a loopback address unless `tls` or `allow_plaintext`.
    pub listen: SocketAddr,
    /// Whether plaintext may leave this machine.
    pub allow_plaintext: bool,
    /// TLS, if there is any.
    pub tls: Option<Tls>,
    /// The http(s) URL under which others find this port, without a slash at its end. `None`: the address it is bound to.
    /// Never on Postgres.
    pub public_url: Option<String>,
}

/// The files of a port with TLS, all PEM. Whether they can be used shows when they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and what leads from it to a root, the certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities one of which must have signed a client's certificate. `None`: clients need none.
    pub client_ca: Option<PathBuf>,
}

/// What access tokens say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The algorithm of new signing keys.
    pub algorithm: Algorithm,
    /// How long an access token is valid. Whole seconds.
    pub access_ttl: Duration,
    /// The audiences that exist; our own is among them.
    pub audiences: Vec<Audience>,
    /// The audiences of a login that names none; our own is among them, and each is in `audiences`.
    pub default_audience: Vec<Audience>,
    /// The file with the keys of audiences whose tokens are encrypted. `None`: there are none.
    pub encryption_keys: Option<PathBuf>,
    /// The scopes that exist.
    pub scopes: Scope,
    /// Whether tokens say what the roles allow.
    pub permissions: bool,
    /// The file that says what tokens say beside, by audience and by attributes.
    pub claims: Option<PathBuf>,
    /// How old the revocation list may be before `Verify` refuses to answer.
    pub max_staleness: Duration,
    /// The `client_id` of a login with a password.
    pub client_id: String,
}

/// How long sessions live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Longest time between two refreshes.
    pub idle_timeout: Duration,
    /// Longest time from login to end; at least `idle_timeout`.
    pub absolute_timeout: Duration,
    /// How long the previous refresh token is answered again.
    pub redelivery_window: Duration,
    /// How long sessions go on from the hot state while the database is away.
    pub database_grace: Duration,
    /// For how long a sign-in counts as recent.
    pub recent_authentication: Duration,
    /// Most live sessions of a user, at least 1.
    pub max_per_user: u32,
    /// What happens beyond.
    pub at_limit: AtLimit,
}

/// Other ways to sign in than by password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// How codes to sign in with are sent.
    pub codes: Vec<CodeChannel>,
}

/// Keys at rest and their rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What encrypts keys at rest.
    pub master_key: MasterKey,
    /// Another one, whose seals are opened too while the master key is being changed. Only beside one that is given.
    pub previous_master_key: Option<SecretString>,
    /// How long a key signs.
    pub rotation_period: Duration,
    /// How long a key is published before it signs; shorter than `rotation_period`.
    pub publish_lead: Duration,
}

/// What encrypts keys at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterKey {
    /// Base64 of 32 bytes; whether it is that shows when it is used.
    Given(SecretString),
    /// None was given: one is generated into this directory and kept there. Never on Postgres.
    Generated {
        /// The data directory.
        data_dir: PathBuf,
    },
}

/// Who may register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Anybody or nobody.
    pub mode: RegistrationMode,
    /// Whether an account begins to exist only when its address is verified. Never where no e-mail is sent.
    pub require_verified_email: bool,
}

/// Whether the `Register` RPC creates accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationMode {
    /// For anybody.
    Open,
    /// For nobody.
    Closed,
}

impl RegistrationMode {
    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// Passwords: argon2id on a few threads of its own, and which may be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwords {
    /// Memory in KiB; at least 8 for each lane.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Hashing threads. `None`: one less than there are cores, at least one.
    pub threads: Option<NonZeroUsize>,
    /// How many calls may wait for a thread; at least 1.
    pub queue: usize,
    /// Niceness of the threads, 0 to 19.
    pub niceness: u8,
    /// Longest a call waits for its hash.
    pub max_wait: Duration,
    /// How hard a new one must be to guess, 0 to 4.
    pub min_strength: u8,
    /// How many former ones are refused, 0 to 24.
    pub history: u32,
    /// The file with those that are known to others.
    pub breached_filter: Option<PathBuf>,
}

/// Second factors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factors {
    /// What an authenticator app shows accounts of this server under. Without a colon.
    pub totp_issuer: String,
}

/// How guesses and messages are limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Failures in a row at one identifier, from which on no guess is looked at.
    pub account_failures: u32,
    /// Failures of one address in a minute; 0: as many as there are.
    pub address_failures: u32,
    /// Failures altogether in a minute; 0: as many as there are.
    pub overall_failures: u32,
    /// Messages to one recipient in an hour.
    pub messages_per_recipient: u32,
    /// Messages altogether in an hour.
    pub messages_overall: u32,
}

/// Messages to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// How e-mail is sent.
    pub email: Channel,
    /// How SMS are sent; never by SMTP.
    pub sms: Channel,
    /// The mail server. There is one if `email` is SMTP.
    pub smtp_url: Option<SmtpUrl>,
    /// PEM roots for the mail server's TLS. `None`: the system's. Only with a URL that asks for TLS.
    pub smtp_tls_roots: Option<PathBuf>,
    /// The sender of e-mail, an address with or without a name. There is one if `email` is SMTP.
    pub from: Option<String>,
    /// The web service, by https or on this machine. There is one, and a secret, if it is called.
    pub webhook_url: Option<String>,
    /// What calls of the web service are signed with.
    pub webhook_secret: Option<WebhookSecret>,
    /// The folder of the operator's own templates.
    pub templates: Option<PathBuf>,
    /// Where links lead: an http(s) URL without query or fragment. `None`: messages have none.
    pub link_url: Option<String>,
    /// The server's own language.
    pub locale: Locale,
}

/// How messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Written to the log.
    Log,
    /// By SMTP.
    Smtp,
    /// By a call to a web service.
    Webhook,
    /// Not at all.
    Off,
}

impl Channel {
    /// The word in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Smtp => "smtp",
            Self::Webhook => "webhook",
            Self::Off => "off",
        }
    }
}

/// The audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// How long events are kept; zero: for ever.
    pub retention: Duration,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// For people or machines.
    pub format: LogFormat,
    /// A valid filter directive of `tracing-subscriber`'s `EnvFilter`.
    pub filter: String,
}

/// Traces and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Whether a scrape is answered.
    pub metrics: bool,
    /// An http(s) URL that takes OTLP over gRPC.
    pub otlp_endpoint: Option<String>,
    /// How many in a hundred calls are traced, 0 to 100.
    pub trace_percent: u8,
}

/// How the server ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Time between NOT_SERVING and GOAWAY.
    pub pause: Duration,
    /// Longest that calls under way may go on after that.
    pub drain: Duration,
}
