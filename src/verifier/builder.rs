//! How an embedded verifier is made.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tracing::warn;

use super::{
    ambient::{SystemClock, monotonic_now},
    check::{AudiencePolicy, Leeway, PolicyError, TokenVerifier},
    embedded::{Shared, Verifier},
    herald::{self, supervise},
    issuer::{Account, Issuer, Secret, read_secret},
    keys::{
        self, Keys, Source,
        fetch::{FetchError, Fetcher, bare, is_this_machine},
    },
    persist::{self, Keeper, Known, Unusable},
    seen::RememberingVerifier,
    watch::{self, Freshness, Now, Place},
    wrapping::{KeyFileError, Wrapping, read_decryption_keys},
};
use crate::{
    domain::{
        audience::{Audience, AudienceError},
        secret::SecretString,
        time::Clock,
    },
    jose::{DecryptionKeys, KeySet},
};

/// Tokens that a verifier remembers unless it is told otherwise.
const CAPACITY: usize = 10_000;
/// How old the list of revocations may get. A restart of the issuer takes seconds.
const MAX_STALENESS: Duration = Duration::from_secs(30);
/// With a reading and a heartbeat each second, a list that may not get this old would be too old every now and then.
const LEAST_STALENESS: Duration = Duration::from_secs(3);
/// With a shorter cool-down, fetches because of forged tokens would be a burden.
const LEAST_COOL_DOWN: Duration = Duration::from_secs(1);
/// Between two fetches because of unknown keys.
const KEY_COOL_DOWN: Duration = Duration::from_secs(10);
/// Longest that [`Builder::start`] takes.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a verifier cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The issuer, the audience or the leeway.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An audience is not a name.
    #[error("an audience {0}")]
    Audience(#[from] AudienceError),
    /// There is nowhere to get keys from.
    #[error("a verifier needs keys: name the issuer's .service(…) or .jwks_url(…), or give them with .keys(…)")]
    NoKeys,
    /// Keys are given, and are to be fetched from a URL as well.
    #[error("keys come from .keys(…) or from .jwks_url(…), not from both")]
    TwoSourcesOfKeys,
    /// There is no key among those that are given.
    #[error(".keys(…) were given none")]
    EmptyKeys,
    /// There is nowhere to get revocations from.
    #[error(
        "a verifier needs revocations: name the issuer's .service(…), or say .without_revocations() if a revoked token may \
         work until it expires"
    )]
    NoRevocations,
    /// The service is named, but nothing is asked of it.
    #[error(".service(…) has no use: the keys come from elsewhere, and it is .without_revocations()")]
    UselessService,
    /// An account to ask a service with that is not named.
    #[error(".service_account(…) is of use with .service(…) only")]
    UselessAccount,
    /// There is nothing to save.
    #[error(".persist_in(…) has no use: the keys are given, and it is .without_revocations()")]
    UselessPersistence,
    /// The list of revocations would be too old every now and then.
    #[error("max_staleness must be at least {} s: the list is confirmed each second", LEAST_STALENESS.as_secs())]
    StalenessTooShort,
    /// Forged tokens would make the verifier ask all the time.
    #[error("key_cool_down must be at least {} s: whoever writes unknown keys into tokens decides how often", LEAST_COOL_DOWN.as_secs())]
    CoolDownTooShort,
    /// The service's URL cannot be used.
    #[error("the service's URL cannot be used: {0}")]
    ServiceUrl(#[source] tonic::transport::Error),
    /// The account's secret cannot be read.
    #[error("cannot read the secret in {}: {error}", file.display())]
    SecretFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// There is no key among those to decrypt with.
    #[error(".decryption_keys(…) were given none")]
    EmptyDecryptionKeys,
    /// The keys to decrypt with cannot be used.
    #[error("the decryption keys in {}: the file {error}", file.display())]
    DecryptionKeyFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        error: KeyFileError,
    },
    /// The certificates to trust cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The URL of the keys cannot be used.
    #[error("the URL of the keys cannot be used: {0}")]
    JwksUrl(String),
    /// Whoever is between this machine and another could decide which tokens pass.
    #[error("{0}: whoever is in between could replace the keys: use https, or .allow_plaintext() if nobody can be")]
    Plaintext(String),
}

/// Where the keys to decrypt with come from.
enum Decryption {
    Given(DecryptionKeys),
    File(PathBuf),
}

/// What a verifier is made of. See [`Verifier::builder`].
#[must_use]
pub struct Builder {
    issuer: String,
    audience: Vec<String>,
    leeway: Leeway,
    capacity: usize,
    keys: Option<KeySet>,
    decryption: Option<Decryption>,
    jwks_url: Option<String>,
    service: Option<Endpoint>,
    /// The service's URL, if it is one of another machine without TLS.
    plaintext_service: Option<String>,
    /// Whether TLS is to be spoken there, and is not set up yet.
    service_wants_tls: bool,
    ca_file: Option<PathBuf>,
    account: Option<Account>,
    without_revocations: bool,
    allow_plaintext: bool,
    max_staleness: Duration,
    key_cool_down: Duration,
    start_timeout: Duration,
    persist_in: Option<PathBuf>,
    clock: Arc<dyn Clock>,
}

impl Builder {
    pub(super) fn new(issuer: String, audience: Vec<String>) -> Self {
        Self {
            issuer,
            audience,
            leeway: Leeway::ZERO,
            capacity: CAPACITY,
            keys: None,
            decryption: None,
            jwks_url: None,
            service: None,
            plaintext_service: None,
            service_wants_tls: false,
            ca_file: None,
            account: None,
            without_revocations: false,
            allow_plaintext: false,
            max_staleness: MAX_STALENESS,
            key_cool_down: KEY_COOL_DOWN,
            start_timeout: START_TIMEOUT,
            persist_in: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// With keys and revocations from the issuer's gRPC port. The endpoint is taken as it is, with TLS or without, but for the
    /// timeout for connecting and keep-alive, which are set here: a connection that has died must be noticed.
    pub fn service(self, endpoint: Endpoint) -> Self {
        Self { service: Some(endpoint), plaintext_service: None, service_wants_tls: false, ..self }
    }

    /// The same by URL, `https://…` with the certificates that the system trusts, `http://…` on this machine, or `unix:…`.
    ///
    /// # Errors
    /// [`BuildError::ServiceUrl`]. That another machine is not asked without TLS is said at the start.
    pub fn service_url(self, url: &str) -> Result<Self, BuildError> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(BuildError::ServiceUrl)?;
        let uri = endpoint.uri();
        let service_wants_tls = uri.scheme_str() == Some("https");
        let is_here = url.starts_with("unix:") || is_this_machine(bare(uri.host().unwrap_or_default()));
        let plaintext_service = (!service_wants_tls && !is_here).then(|| url.to_owned());
        Ok(Self { plaintext_service, service_wants_tls, ..self.service(endpoint) })
    }

    /// Trusts the certificates in this PEM file instead of the system's, for URLs with `https`.
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self { ca_file: Some(path.into()), ..self }
    }

    /// Asks the service in the name of this service account, which it wants where its port is not bound to loopback.
    pub fn service_account(self, client_id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.account(client_id.into(), Secret::Given(secret.into()))
    }

    /// The same with the secret in the first line of this file. It is read again whenever a token is asked for, so a secret that
    /// was rotated there is in use without a restart.
    pub fn service_account_file(self, client_id: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.account(client_id.into(), Secret::File(path.into()))
    }

    fn account(self, client_id: String, secret: Secret) -> Self {
        Self { account: Some(Account { client_id, secret }), ..self }
    }

    /// With the keys at this URL: the issuer's `/.well-known/jwks.json`. Instead of those of the service.
    pub fn jwks_url(self, url: impl Into<String>) -> Self {
        Self { jwks_url: Some(url.into()), ..self }
    }

    /// With these keys, which are never fetched. They must be those of the issuer.
    pub fn keys(self, keys: KeySet) -> Self {
        Self { keys: Some(keys), ..self }
    }

    /// Takes tokens that are encrypted for one of these keys, and no plain ones. Several are for the time in which a key is
    /// replaced.
    pub fn decryption_keys(self, keys: DecryptionKeys) -> Self {
        Self { decryption: Some(Decryption::Given(keys)), ..self }
    }

    /// The same with the keys in this file: a JWK or a JWK set, which is read once, at the start. One that every user of the
    /// machine can read is refused.
    pub fn decryption_key_file(self, path: impl Into<PathBuf>) -> Self {
        Self { decryption: Some(Decryption::File(path.into())), ..self }
    }

    /// Without a list of revocations: a token that is revoked works until it expires. One of a revoked key, with whatever expiry the
    /// thief wrote into it, works until the keys have been fetched again: after six minutes while they can be, and for as long
    /// as they cannot, also after a restart with [what was saved](Self::persist_in). With [given ones](Self::keys) it works for ever.
    pub fn without_revocations(self) -> Self {
        Self { without_revocations: true, ..self }
    }

    /// Asks other machines without TLS as well. Whoever is in between can make any token pass, and take the account's secret: for
    /// where nobody can be, or something else encrypts.
    pub fn allow_plaintext(self) -> Self {
        Self { allow_plaintext: true, ..self }
    }

    /// Takes the list of revocations for too old when it has been complete so long ago, instead of 30 s. At least 3 s. A rule
    /// says what is done then.
    pub fn max_staleness(self, max_staleness: Duration) -> Self {
        Self { max_staleness, ..self }
    }

    /// Fetches keys because of tokens that name unknown ones no more than once in such a time, instead of 10 s. At
    /// least 1 s.
    pub fn key_cool_down(self, key_cool_down: Duration) -> Self {
        Self { key_cool_down, ..self }
    }

    /// Waits for so long at the start for the issuer's keys and revocations, instead of 5 s.
    pub fn start_timeout(self, start_timeout: Duration) -> Self {
        Self { start_timeout, ..self }
    }

    /// Keeps keys and revocations in this file, or in one in this directory, for a start while the issuer is away. Each
    /// verifier needs a place of its own. Whoever can write there decides which tokens pass: a file that its group or others can write,
    /// or that is neither this process's user's nor the superuser's, is not used.
    ///
    /// The list of revocations is then as old as the machine's date says. One from the future counts as never complete. It is
    /// saved at once after a change, then after a second, and every ten seconds; a large one more seldom.
    pub fn persist_in(self, path: impl Into<PathBuf>) -> Self {
        Self { persist_in: Some(path.into()), ..self }
    }

    /// With this leeway on `exp` and `nbf` instead of none.
    pub fn leeway(self, leeway: Leeway) -> Self {
        Self { leeway, ..self }
    }

    /// Remembers about so many verified tokens, at some 800 bytes each, instead of 10 000. Of larger ones, for instance with many custom
    /// claims, it remembers fewer: all take about a kibibyte for each of `tokens` at most.
    pub fn remember(self, tokens: usize) -> Self {
        Self { capacity: tokens, ..self }
    }

    /// Goes by this clock instead of the machine's.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Makes the verifier, and what keeps it up to date in the background. Wants a tokio runtime.
    ///
    /// The background ends with the runtime, and says nothing then: a verifier that goes on to be used from another one gets stale, or,
    /// [without revocations](Self::without_revocations), keeps its keys. Start it on the runtime that serves.
    ///
    /// It waits a little until the verifier is [ready](Verifier::is_ready). If the issuer is away it starts all the same: with
    /// what was saved, as long as that is not too old; otherwise with nothing, and every check is
    /// [`Denied::Unavailable`](super::Denied::Unavailable) until the issuer answers.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn start(self) -> Result<Verifier, BuildError> {
        let patience = self.start_timeout;
        let verifier = self.check()?.begin().await;
        if timeout(patience, verifier.ready()).await.is_err() {
            warn!("tokens cannot be verified yet: the issuer does not answer");
        }
        Ok(verifier)
    }

    /// Whether all this goes together, without making anything of it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn validate(self) -> Result<(), BuildError> {
        self.check().map(drop)
    }

    /// Whether all this goes together.
    fn check(mut self) -> Result<Checked, BuildError> {
        let audience = self.audience.iter().cloned().map(Audience::try_from).collect::<Result<Vec<_>, _>>()?;
        let verifier =
            TokenVerifier::new(self.issuer.clone(), AudiencePolicy::AnyOf(audience))?.with_leeway(self.leeway);
        let verifier = verifier.with_wrapping(self.wrapping()?);
        let has_own_keys = self.keys.is_some() || self.jwks_url.is_some();
        match (&self.keys, &self.jwks_url, &self.service) {
            (None, None, None) => return Err(BuildError::NoKeys),
            (Some(_), Some(_), _) => return Err(BuildError::TwoSourcesOfKeys),
            (Some(keys), None, _) if keys.is_empty() => return Err(BuildError::EmptyKeys),
            (_, _, None) if !self.without_revocations => return Err(BuildError::NoRevocations),
            (_, _, Some(_)) if self.without_revocations && has_own_keys => return Err(BuildError::UselessService),
            (_, _, None) if self.account.is_some() => return Err(BuildError::UselessAccount),
            _ => {}
        }
        if self.persist_in.is_some() && self.keys.is_some() && self.without_revocations {
            return Err(BuildError::UselessPersistence);
        }
        if self.max_staleness < LEAST_STALENESS && !self.without_revocations {
            return Err(BuildError::StalenessTooShort);
        }
        if self.key_cool_down < LEAST_COOL_DOWN {
            return Err(BuildError::CoolDownTooShort);
        }
        if let (Some(url), false) = (&self.plaintext_service, self.allow_plaintext) {
            return Err(BuildError::Plaintext(url.clone()));
        }
        if let Some(Account { secret: Secret::File(file), .. }) = &self.account
            && let Err(error) = read_secret(file)
        {
            return Err(BuildError::SecretFile { file: file.clone(), error });
        }
        if let Some(endpoint) = self.service.take_if(|_| self.service_wants_tls) {
            self.service = Some(endpoint.tls_config(self.trusted()?).map_err(BuildError::ServiceUrl)?);
        }
        let fetcher = Fetcher::new(self.ca_file.clone(), self.allow_plaintext);
        if let Some(url) = &self.jwks_url {
            fetcher.accepts(url).map_err(|error| match error {
                FetchError::Plaintext => BuildError::Plaintext(url.clone()),
                other => BuildError::JwksUrl(other.to_string()),
            })?;
        }
        Ok(Checked { builder: self, verifier, fetcher })
    }

    fn wrapping(&self) -> Result<Wrapping, BuildError> {
        Ok(match &self.decryption {
            None => Wrapping::Signed,
            Some(Decryption::Given(keys)) if keys.is_empty() => return Err(BuildError::EmptyDecryptionKeys),
            Some(Decryption::Given(keys)) => Wrapping::Encrypted(keys.clone()),
            Some(Decryption::File(file)) => match read_decryption_keys(file) {
                Ok(keys) => Wrapping::Encrypted(keys),
                Err(error) => return Err(BuildError::DecryptionKeyFile { file: file.clone(), error }),
            },
        })
    }

    fn trusted(&self) -> Result<ClientTlsConfig, BuildError> {
        let trusted = ClientTlsConfig::new();
        match &self.ca_file {
            None => Ok(trusted.with_native_roots()),
            Some(file) => match fs::read(file) {
                Ok(pem) => Ok(trusted.ca_certificate(Certificate::from_pem(pem))),
                Err(error) => Err(BuildError::CaFile { file: file.clone(), error }),
            },
        }
    }
}

/// What goes together.
struct Checked {
    builder: Builder,
    verifier: TokenVerifier,
    fetcher: Fetcher,
}

impl Checked {
    async fn begin(self) -> Verifier {
        let Self { builder, verifier, fetcher } = self;
        let issuer = builder.service.map(|endpoint| Arc::new(Issuer::new(endpoint, builder.account)));
        let keeper =
            builder.persist_in.map(|path| Keeper { file: persist::file(path), issuer: builder.issuer.clone() });
        let known = recall(keeper.as_ref()).await;
        let now = monotonic_now();
        let freshness = Freshness::new((!builder.without_revocations).then_some(builder.max_staleness), now);
        let date = builder.clock.now();
        // One from the future says that a clock was set, and nothing about how old the list is.
        let moment =
            known.complete_time.filter(|time| *time <= date).and_then(|time| now.checked_sub(date.since(time)));
        if let Some(moment) = moment {
            freshness.vouch(moment, Now { monotonic: now, date });
        }
        let source = match (&builder.keys, builder.jwks_url, &issuer) {
            (None, Some(url), _) => Some(Source::Jwks { fetcher, url }),
            (None, None, Some(issuer)) => Some(Source::Service { issuer: Arc::clone(issuer), name: builder.issuer }),
            _ => None,
        };
        let keys = match builder.keys {
            Some(keys) => Keys::given(keys),
            None => Keys::fetched(known.keys, builder.key_cool_down),
        };
        let shared = Arc::new(Shared {
            revocations: known.revocations,
            place: Place::new(known.cursor),
            #[cfg(feature = "sidecar")]
            issuer: issuer.clone(),
            ..Shared::new(RememberingVerifier::new(verifier, builder.capacity), keys, freshness, builder.clock)
        });
        let mut background = JoinSet::new();
        let of = |shared: &Arc<Shared>| Arc::clone(shared);
        let all = of(&shared);
        background.spawn(supervise("what tells of changes", move || herald::tell(of(&all))));
        if let Some(source) = source.map(Arc::new) {
            let all = of(&shared);
            background.spawn(supervise("what fetches keys", move || keys::keep(of(&all), Arc::clone(&source))));
        }
        if let Some(issuer) = issuer.filter(|_| !builder.without_revocations) {
            let all = of(&shared);
            background
                .spawn(supervise("what follows revocations", move || watch::follow(of(&all), Arc::clone(&issuer))));
            let all = of(&shared);
            background.spawn(supervise("what forgets revocations", move || herald::purge(of(&all))));
        }
        if let Some(keeper) = keeper.map(Arc::new) {
            let all = of(&shared);
            background.spawn(supervise("what saves", move || persist::keep(of(&all), Arc::clone(&keeper))));
        }
        Verifier::new(shared, background)
    }
}

/// What was saved, or nothing.
async fn recall(keeper: Option<&Keeper>) -> Known {
    let Some(Keeper { file, issuer }) = keeper else { return Known::default() };
    let (path, issuer) = (file.clone(), issuer.clone());
    // It comes back with nothing only if the runtime ends.
    match spawn_blocking(move || persist::load(&path, &issuer)).await.unwrap_or(Err(Unusable::Missing)) {
        Ok(known) => known,
        Err(Unusable::Missing) => Known::default(),
        Err(error) => {
            warn!(%error, file = %file.display(), "what was saved is not used");
            Known::default()
        }
    }
}

#[cfg(test)]
mod tests;
