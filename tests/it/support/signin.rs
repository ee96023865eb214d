//! Signing in by steps, and factors put where they belong behind the API's back.

use std::sync::Arc;

use tonic::{IntoRequest, Status};
use totp_rs::{Algorithm, Builder};
use uuid::Uuid;
use vouchsafe::{
    crypto::{DerivedKeys, FactorSeal, KeyedHasher, MasterKey, SystemEntropy, TotpSeed, recovery_code},
    domain::{id::UserId, time::Timestamp},
    pb::v1::{
        self, complete_challenge_request::Response, complete_challenge_response::Outcome as Completed,
        login_response::Outcome,
    },
};

use super::{Backend, MASTER_KEY, ManualClock, PASSWORD, TestNode, TestNodeBuilder, login_request};

/// What the app shows at this moment.
pub(crate) fn signin_app(seed: &TotpSeed, at: Timestamp) -> String {
    let app = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_step_duration(30)
        .with_skew(0)
        .with_secret(*seed.expose())
        .build()
        .unwrap();
    app.generate(u64::try_from(at.as_seconds()).unwrap()).to_string()
}

/// Six digits that are not these.
pub(crate) fn signin_other(code: &str) -> String {
    let number: u32 = code.parse().unwrap();
    format!("{:06}", (number + 1) % 1_000_000)
}

impl TestNode {
    /// A node at this clock that sends what there is to send, and slows nobody by their address.
    pub(crate) async fn signin_builder(backend: Backend, clock: &Arc<ManualClock>) -> TestNodeBuilder {
        Self::builder(backend)
            .await
            .clock(clock.clone())
            .set("throttle.address_failures=0")
            .set("notify.email=log")
            .set("notify.sms=log")
            .set("login.codes=email,sms")
    }

    /// Gives a user an authenticator app and these recovery codes.
    pub(crate) async fn signin_give_totp(&self, user: &v1::User, recovery_codes: &[&str]) -> TotpSeed {
        let master = Arc::new(MasterKey::parse(MASTER_KEY).unwrap());
        let (seed, enrolment) = (TotpSeed::generate(&SystemEntropy), Uuid::from_u128(rand_id(user)));
        let sealed = FactorSeal::new(Arc::clone(&master)).seal(enrolment, &seed, &SystemEntropy);
        let id = self.database.id(&user.id.parse().unwrap());
        let sql = format!(
            "INSERT INTO totp_factors (user_id, id, seed_sealed, create_time, confirm_time, last_step) \
             VALUES ({id}, {}, {}, 0, 0, 0)",
            self.database.id(&enrolment),
            self.database.bytes(&super::hex(&sealed))
        );
        assert_eq!(self.database.execute(&sql).await, 1);
        let hasher = KeyedHasher::new(&DerivedKeys::of(&master));
        for code in recovery_codes {
            let hash = recovery_code::hash(&hasher, UserId::from_uuid(user.id.parse().unwrap()), code);
            let hash = self.database.bytes(&super::hex(&hash));
            let sql = format!("INSERT INTO recovery_codes (user_id, code_hash, create_time) VALUES ({id}, {hash}, 0)");
            assert_eq!(self.database.execute(&sql).await, 1);
        }
        seed
    }

    /// Signs in with the right password where a second factor is asked for.
    pub(crate) async fn signin_challenge(&self, identifier: &str) -> v1::Challenge {
        self.signin_challenge_of(login_request(identifier, PASSWORD)).await
    }

    /// The same as asked for.
    pub(crate) async fn signin_challenge_of(&self, request: impl IntoRequest<v1::LoginRequest>) -> v1::Challenge {
        match self.auth().await.login(request).await.unwrap().into_inner().outcome.unwrap() {
            Outcome::Challenge(challenge) => challenge,
            Outcome::Tokens(_) => panic!("no second factor was asked for"),
        }
    }

    /// Answers a challenge.
    pub(crate) async fn signin_answer(&self, challenge: &str, response: Response) -> Result<Completed, Status> {
        let request = v1::CompleteChallengeRequest { challenge_id: challenge.to_owned(), response: Some(response) };
        Ok(self.auth().await.complete_challenge(request).await?.into_inner().outcome.unwrap())
    }

    /// Answers one where that must be the last step.
    pub(crate) async fn signin_finish(&self, challenge: &str, response: Response) -> Result<v1::TokenPair, Status> {
        match self.signin_answer(challenge, response).await? {
            Completed::Tokens(tokens) => Ok(tokens),
            Completed::Challenge(_) => panic!("a further challenge"),
        }
    }

    /// Asks for a code to sign in with.
    pub(crate) async fn signin_send(
        &self,
        identifier: &str,
        channel: v1::CodeChannel,
    ) -> Result<v1::Challenge, Status> {
        let request = v1::SendLoginCodeRequest {
            identifier: identifier.to_owned(),
            channel: channel.into(),
            ..v1::SendLoginCodeRequest::default()
        };
        Ok(self.auth().await.send_login_code(request).await?.into_inner().challenge.unwrap())
    }

    /// `amr` joined, and `acr`, as `Verify` says them.
    pub(crate) async fn signin_said(&self, tokens: &v1::TokenPair) -> String {
        let claims = self.verify(&tokens.access_token).await.claims.unwrap();
        format!("{} {}", claims.amr.join("+"), claims.acr)
    }
}

/// An enrolment's id: any that is its own.
fn rand_id(user: &v1::User) -> u128 {
    user.id.parse::<Uuid>().unwrap().as_u128() ^ 1
}

/// A code of the app.
pub(crate) fn signin_totp(code: impl Into<String>) -> Response {
    Response::TotpCode(code.into())
}

/// A recovery code.
pub(crate) fn signin_recovery(code: &str) -> Response {
    Response::RecoveryCode(code.to_owned())
}

/// A code that was sent.
pub(crate) fn signin_sent(code: impl Into<String>) -> Response {
    Response::OneTimeCode(code.into())
}
