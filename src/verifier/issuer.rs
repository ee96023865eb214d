//! The way to the issuer: a connection, and a service account's token where one is needed.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Mutex as AsyncMutex, task::spawn_blocking, time::timeout};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use zeroize::Zeroizing;

use super::ambient::monotonic_now;
use crate::{
    domain::{audience::OWN_AUDIENCE, secret::SecretString},
    pb::v1::{self, auth_service_client::AuthServiceClient, verifier_service_client::VerifierServiceClient},
};

/// Longest that one call may take with all that it needs, and a stream its first message.
const CALL: Duration = Duration::from_secs(5);
/// Longest to get a token: less than a call, so that who waits for it hears that there is none.
const ISSUE: Duration = Duration::from_secs(4);
/// Longest to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a connection on which nothing comes is asked whether it is still there, and how long that may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// A token is renewed so long before its end, or a fifth of its life if that is less.
const RENEWAL: Duration = Duration::from_mins(1);
/// How long credentials that were refused are not tried again: each attempt is audited by the issuer. Well below the
/// default of `max_staleness`: one refusal by mistake must not make a list stale.
const REFUSED: Duration = Duration::from_secs(10);
/// How long any other failure to get a token is everybody's: all who waited for it fail with it, instead of one after the other.
const SHARED: Duration = Duration::from_secs(1);
/// Largest file with a secret.
const MAX_SECRET: u64 = 4096;
/// However long it lives.
const LONGEST: Duration = Duration::from_hours(24);

/// Who this verifier is to the issuer.
pub(crate) struct Account {
    pub(crate) client_id: String,
    pub(crate) secret: Secret,
}

/// What proves it.
#[derive(Clone)]
pub(crate) enum Secret {
    Given(SecretString),
    /// The first line of this file, read each time: it may have been replaced.
    File(PathBuf),
}

impl Secret {
    async fn get(&self) -> Result<SecretString, Status> {
        let path = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::File(path) => path.clone(),
        };
        // It does not come back only if the runtime ends.
        let read =
            spawn_blocking(move || read_secret(&path)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|error| Status::failed_precondition(format!("the account's secret cannot be read: {error}")))
    }
}

/// The secret in the first line of a file. Blocks.
pub(crate) fn read_secret(path: &Path) -> io::Result<SecretString> {
    let mut text = Zeroizing::new(String::new());
    fs::File::open(path)?.take(MAX_SECRET).read_to_string(&mut text)?;
    match text.lines().next().map(str::trim) {
        None | Some("") => Err(io::Error::other("its first line is empty")),
        Some(secret) => Ok(SecretString::new(secret.to_owned())),
    }
}

/// The issuer.
pub(crate) struct Issuer {
    endpoint: Endpoint,
    channel: Mutex<Channel>,
    account: Option<Account>,
    /// Held while a token is got, so that there is one call for it.
    token: AsyncMutex<Held>,
}

/// The service account's token, or why there is none.
#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Token(Token),
    Refused {
        status: Status,
        until: Instant,
    },
}

struct Token {
    authorization: MetadataValue<Ascii>,
    renew: Instant,
}

impl Issuer {
    /// Connects when it is first needed.
    pub(crate) fn new(endpoint: Endpoint, account: Option<Account>) -> Self {
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .keep_alive_while_idle(true);
        let channel = Mutex::new(endpoint.connect_lazy());
        Self { endpoint, channel, account, token: AsyncMutex::default() }
    }

    /// The next call gets a new connection, perhaps to another node.
    pub(super) fn reconnect(&self) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = self.endpoint.connect_lazy();
    }

    fn channel(&self) -> Channel {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `GetVerificationKeys`.
    pub(super) async fn keys(&self) -> Result<v1::GetVerificationKeysResponse, Status> {
        let answer = in_time(CALL, async {
            let request = self.request(v1::GetVerificationKeysRequest {}).await?;
            VerifierServiceClient::new(self.channel()).get_verification_keys(request).await
        });
        Ok(self.judge(answer.await).await?.into_inner())
    }

    /// `Verify`.
    #[cfg(feature = "sidecar")]
    pub(crate) async fn verify(&self, message: v1::VerifyRequest) -> Result<v1::VerifyResponse, Status> {
        let answer = in_time(CALL, async {
            let request = self.request(message).await?;
            AuthServiceClient::new(self.channel()).verify(request).await
        });
        Ok(self.judge(answer.await).await?.into_inner())
    }

    /// `WatchRevocations` from this cursor on, and the moment at which it was asked for.
    pub(super) async fn watch(
        &self,
        cursor: String,
    ) -> Result<(Instant, Streaming<v1::WatchRevocationsResponse>), Status> {
        let answer = in_time(CALL, async {
            let request = self.request(v1::WatchRevocationsRequest { cursor }).await?;
            let asked = monotonic_now();
            let response = VerifierServiceClient::new(self.channel()).watch_revocations(request).await?;
            Ok((asked, response.into_inner()))
        });
        self.judge(answer.await).await
    }

    async fn judge<T>(&self, answer: Result<T, Status>) -> Result<T, Status> {
        if let Err(status) = &answer {
            self.refused(status).await;
        }
        answer
    }

    /// A token that was refused is not used again.
    pub(super) async fn refused(&self, status: &Status) {
        // Nobody waits for a token that is being got unless it matters.
        if status.code() != Code::Unauthenticated {
            return;
        }
        let mut held = self.token.lock().await;
        if matches!(*held, Held::Token(_)) {
            *held = Held::Nothing;
        }
    }

    async fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        if let Some(account) = &self.account {
            request.metadata_mut().insert("authorization", self.authorization(account).await?);
        }
        Ok(request)
    }

    async fn authorization(&self, account: &Account) -> Result<MetadataValue<Ascii>, Status> {
        let mut held = self.token.lock().await;
        match &*held {
            Held::Token(token) if monotonic_now() < token.renew => return Ok(token.authorization.clone()),
            Held::Refused { status, until } if monotonic_now() < *until => return Err(status.clone()),
            Held::Nothing | Held::Token(_) | Held::Refused { .. } => {}
        }
        match in_time(ISSUE, self.issue(account)).await {
            Ok(fresh) => {
                let authorization = fresh.authorization.clone();
                *held = Held::Token(fresh);
                Ok(authorization)
            }
            Err(status) => {
                let pause = if status.code() == Code::Unauthenticated { REFUSED } else { SHARED };
                *held = Held::Refused { status: status.clone(), until: monotonic_now() + pause };
                Err(status)
            }
        }
    }

    async fn issue(&self, account: &Account) -> Result<Token, Status> {
        let secret = account.secret.get().await?;
        let request = v1::IssueServiceTokenRequest {
            client_id: account.client_id.clone(),
            client_secret: secret.expose().to_owned(),
            audience: vec![OWN_AUDIENCE.to_owned()],
            scope: String::new(),
        };
        let asked = monotonic_now();
        let mut client = AuthServiceClient::new(self.channel());
        let issued = client.issue_service_token(request).await?.into_inner();
        let unusable = || Status::internal("the issuer gave a token that is none");
        let token = SecretString::new(issued.access_token);
        let mut authorization =
            MetadataValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| unusable())?;
        authorization.set_sensitive(true);
        let life = Duration::from_secs(u64::try_from(issued.expires_in).map_err(|_| unusable())?).min(LONGEST);
        Ok(Token { authorization, renew: asked + life.saturating_sub(RENEWAL.min(life / 5)) })
    }
}

async fn in_time<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded(format!("no answer within {} s", limit.as_secs())));
    timeout(limit, call).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests;
