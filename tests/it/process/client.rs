//! A gRPC caller with a connection of its own.

use std::net::SocketAddr;

use tokio::time::timeout;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;
use vouchsafe::pb::v1::{self, account_service_client::AccountServiceClient, auth_service_client::AuthServiceClient};

use super::harness::{BOUND, Server};
use crate::support::{PASSWORD, bearer, login_request, reason};

/// A caller. Every call is bounded, so that a server that does not answer fails the test.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) channel: Channel,
}

impl Client {
    pub(crate) async fn of(server: &Server) -> Self {
        Self::try_of(server).await.unwrap()
    }

    pub(crate) async fn try_of(server: &Server) -> Result<Self, tonic::transport::Error> {
        Self::at(server.grpc).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().timeout(BOUND);
        Ok(Self { channel: timeout(BOUND, endpoint.connect()).await.unwrap()? })
    }

    fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// Registers a user with [`PASSWORD`].
    pub(crate) async fn register(&self, email: &str) -> Result<v1::User, Status> {
        let request = v1::RegisterRequest { email: email.into(), password: PASSWORD.into(), ..Default::default() };
        Ok(self.auth().register(request).await?.into_inner().user.unwrap())
    }

    /// Signs in with [`PASSWORD`].
    pub(crate) async fn login(&self, email: &str) -> Result<v1::TokenPair, Status> {
        self.login_with(email, PASSWORD).await
    }

    pub(crate) async fn login_with(&self, email: &str, password: &str) -> Result<v1::TokenPair, Status> {
        let answer = self.auth().login(login_request(email, password)).await?.into_inner();
        let v1::login_response::Outcome::Tokens(tokens) = answer.outcome.unwrap() else { panic!("a challenge") };
        Ok(tokens)
    }

    /// Registers a user and signs in.
    pub(crate) async fn join(&self, email: &str) -> v1::TokenPair {
        self.register(email).await.unwrap();
        self.login(email).await.unwrap()
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<v1::TokenPair, Status> {
        let request = v1::RefreshRequest { refresh_token: token.into() };
        Ok(self.auth().refresh(request).await?.into_inner().tokens.unwrap())
    }

    pub(crate) async fn logout(&self, token: &str) -> Result<(), Status> {
        self.auth().logout(v1::LogoutRequest { refresh_token: token.into() }).await.map(|_| ())
    }

    pub(super) async fn change_password(&self, token: &str, current: &str, new: &str) -> Result<(), Status> {
        let request = v1::ChangePasswordRequest { current_password: current.into(), new_password: new.into() };
        let mut account = AccountServiceClient::new(self.channel.clone());
        account.change_password(bearer(token, request)).await.map(|_| ())
    }

    /// What `Verify` answers.
    pub(crate) async fn check(&self, token: &str, consistency: v1::Consistency) -> Result<v1::VerifyResponse, Status> {
        let request = v1::VerifyRequest { token: token.into(), consistency: consistency.into(), audience: Vec::new() };
        Ok(self.auth().verify(request).await?.into_inner())
    }

    /// The claims of a token that must be active.
    pub(crate) async fn claims(&self, token: &str) -> v1::Claims {
        let answer = self.check(token, v1::Consistency::Local).await.unwrap();
        assert!(answer.active, "{answer:?}");
        answer.claims.unwrap()
    }

    /// Why a token that must not be active is not.
    pub(crate) async fn inactive(&self, token: &str) -> v1::InactiveReason {
        let answer = self.check(token, v1::Consistency::Local).await.unwrap();
        assert!(!answer.active, "{answer:?}");
        answer.inactive_reason()
    }
}

/// Asserts that a refusal is an outage as the API documents it: UNAVAILABLE, its reason, and when to try again.
#[track_caller]
pub(crate) fn assert_outage(status: &Status) {
    assert_eq!((status.code(), reason(status).as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"), "{status:?}");
    let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some_and(|delay| !delay.is_zero()), "{status:?}");
}

/// The `kid` in a token's header.
pub(crate) fn kid(token: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// The generation of a refresh token.
pub(crate) fn generation(tokens: &v1::TokenPair) -> i64 {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let bytes = URL_SAFE_NO_PAD.decode(tokens.refresh_token.strip_prefix("vrt_").unwrap()).unwrap();
    // Version, key, session, generation, HMAC.
    i64::from_be_bytes(bytes[21..29].try_into().unwrap())
}
