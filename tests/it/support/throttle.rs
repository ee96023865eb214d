//! Guesses, and how they are answered.

use std::time::Duration;

use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use vouchsafe::pb::v1;

use super::{TestNode, login_request, reason};

/// What became of a guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    /// It was looked at, and was wrong.
    Wrong,
    /// It was not looked at, and is to be made again after this time.
    Wait(Duration),
}

/// What a refusal says of a guess.
#[track_caller]
pub(crate) fn guess_of(status: &Status) -> Guess {
    match (status.code(), reason(status).as_str()) {
        (Code::Unauthenticated, "INVALID_CREDENTIALS" | "INVALID_CLIENT") => Guess::Wrong,
        (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS") => {
            let info = status.get_error_details().retry_info().cloned().expect("when to try again");
            Guess::Wait(info.retry_delay.expect("a time"))
        }
        _ => panic!("{status:?}"),
    }
}

/// A request that says, perhaps wrongly, where it came from.
pub(crate) fn forwarded<T>(from: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !from.is_empty() {
        request.metadata_mut().insert("x-forwarded-for", from.parse().unwrap());
    }
    request
}

impl TestNode {
    /// Tries a wrong password.
    pub(crate) async fn guess(&self, identifier: &str) -> Guess {
        guess_of(&self.try_login(login_request(identifier, "a wrong password of some length")).await.unwrap_err())
    }

    /// Tries a wrong secret of a service account, from an address as a proxy would tell it.
    pub(crate) async fn guess_client(&self, client_id: &str, from: &str) -> Guess {
        guess_of(&self.ask_as_client(client_id, "wrong", from).await.unwrap_err())
    }

    /// Asks for a service account's token.
    pub(crate) async fn ask_as_client(&self, client_id: &str, secret: &str, from: &str) -> Result<String, Status> {
        let request = v1::IssueServiceTokenRequest {
            client_id: client_id.into(),
            client_secret: secret.into(),
            ..Default::default()
        };
        let answer = self.auth().await.issue_service_token(forwarded(from, request)).await?;
        Ok(answer.into_inner().access_token)
    }
}
