//! The way to the issuer: a connection, and a service account's token where one is needed.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Mutex as AsyncMutex, time::timeout};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::ambient::monotonic_now;
use crate::{
    domain::{audience::OWN_AUDIENCE, secret::SecretString},
    pb::v1::{self, auth_service_client::AuthServiceClient, verifier_service_client::VerifierServiceClient},
};

/// Longest that one call may take, and a stream its first message.
const CALL: Duration = Duration::from_secs(5);
/// Longest to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a connection on which nothing comes is asked whether it is still there, and how long that may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// A token is renewed so long before its end, or a fifth of its life if that is less.
const RENEWAL: Duration = Duration::from_mins(1);
/// How long credentials that were refused are not tried again: each attempt is audited by the issuer.
const REFUSED: Duration = Duration::from_secs(30);
/// However long it lives.
const LONGEST: Duration = Duration::from_hours(24);

/// Who this verifier is to the issuer.
pub(crate) struct Account {
    pub(crate) client_id: String,
    pub(crate) secret: SecretString,
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
        let request = self.request(v1::GetVerificationKeysRequest {}).await?;
        let mut client = VerifierServiceClient::new(self.channel());
        let answer = in_time(client.get_verification_keys(request)).await;
        Ok(self.judge(answer).await?.into_inner())
    }

    /// `Verify`.
    #[cfg(feature = "sidecar")]
    pub(crate) async fn verify(&self, message: v1::VerifyRequest) -> Result<v1::VerifyResponse, Status> {
        let request = self.request(message).await?;
        let mut client = AuthServiceClient::new(self.channel());
        let answer = in_time(client.verify(request)).await;
        Ok(self.judge(answer).await?.into_inner())
    }

    /// `WatchRevocations` from this cursor on, and the moment at which it was asked for.
    pub(super) async fn watch(
        &self,
        cursor: String,
    ) -> Result<(Instant, Streaming<v1::WatchRevocationsResponse>), Status> {
        let request = self.request(v1::WatchRevocationsRequest { cursor }).await?;
        let mut client = VerifierServiceClient::new(self.channel());
        let asked = monotonic_now();
        let answer = in_time(client.watch_revocations(request)).await;
        Ok((asked, self.judge(answer).await?.into_inner()))
    }

    async fn judge<T>(&self, answer: Result<T, Status>) -> Result<T, Status> {
        if let Err(status) = &answer {
            self.refused(status).await;
        }
        answer
    }

    /// A token that was refused is not used again.
    pub(super) async fn refused(&self, status: &Status) {
        let mut held = self.token.lock().await;
        if status.code() == Code::Unauthenticated && matches!(*held, Held::Token(_)) {
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
        match self.issue(account).await {
            Ok(fresh) => {
                let authorization = fresh.authorization.clone();
                *held = Held::Token(fresh);
                Ok(authorization)
            }
            Err(status) => {
                if status.code() == Code::Unauthenticated {
                    *held = Held::Refused { status: status.clone(), until: monotonic_now() + REFUSED };
                }
                Err(status)
            }
        }
    }

    async fn issue(&self, account: &Account) -> Result<Token, Status> {
        let request = v1::IssueServiceTokenRequest {
            client_id: account.client_id.clone(),
            client_secret: account.secret.expose().to_owned(),
            audience: vec![OWN_AUDIENCE.to_owned()],
            scope: String::new(),
        };
        let asked = monotonic_now();
        let mut client = AuthServiceClient::new(self.channel());
        let issued = in_time(client.issue_service_token(request)).await?.into_inner();
        let unusable = || Status::internal("the issuer gave a token that is none");
        let token = SecretString::new(issued.access_token);
        let mut authorization =
            MetadataValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| unusable())?;
        authorization.set_sensitive(true);
        let life = Duration::from_secs(u64::try_from(issued.expires_in).map_err(|_| unusable())?).min(LONGEST);
        Ok(Token { authorization, renew: asked + life.saturating_sub(RENEWAL.min(life / 5)) })
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded(format!("no answer within {} s", CALL.as_secs())));
    timeout(CALL, call).await.unwrap_or_else(late)
}
