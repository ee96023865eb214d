//! Tokens that nobody must accept, at every door that takes one. SECURITY, TOKENS.

use tonic::Code;
use vouchsafe::{
    pb::v1::{self, InactiveReason},
    verifier::Inactive,
};

use super::{on_both_databases, service_accounts};
use crate::{
    hostile,
    support::{
        Backend, PASSWORD, TestNode, bearer, login_request, reason,
        signin::{signin_recovery, signin_sent, signin_totp},
    },
};

on_both_databases!(every_hostile_token_is_refused_for_its_reason, each_kind_of_token_opens_its_own_door_only,);

/// Beyond this a message is refused before anybody looks into it.
const MAX_MESSAGE: usize = 64 * 1024;

pub(crate) const fn said(reason: Inactive) -> InactiveReason {
    match reason {
        Inactive::Malformed => InactiveReason::Malformed,
        Inactive::WrongType => InactiveReason::WrongType,
        Inactive::UnknownKey => InactiveReason::UnknownKey,
        Inactive::BadSignature => InactiveReason::BadSignature,
        Inactive::WrongIssuer => InactiveReason::WrongIssuer,
        Inactive::WrongAudience => InactiveReason::WrongAudience,
        Inactive::Expired => InactiveReason::Expired,
        Inactive::NotYetValid => InactiveReason::NotYetValid,
        Inactive::Revoked => InactiveReason::Revoked,
        Inactive::NotEncrypted => InactiveReason::NotEncrypted,
        Inactive::Undecryptable => InactiveReason::Undecryptable,
    }
}

async fn every_hostile_token_is_refused_for_its_reason(backend: Backend) {
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        let node = TestNode::builder(backend).await.set(&format!("tokens.algorithm={algorithm}")).start().await;
        node.register("ada@example.com").await;
        let genuine = node.login("ada@example.com").await.access_token;
        let table = hostile::all(&node.signing_key().await, &genuine);
        assert!(table.len() > 300, "{}", table.len());
        let (mut answered, mut at_the_other_door) = (0, 0);
        for hostile::Hostile { name, token, reason: expected } in table {
            let request = v1::VerifyRequest { token: token.clone(), ..Default::default() };
            match node.auth().await.verify(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    assert_eq!(
                        (answer.active, answer.inactive_reason()),
                        (false, said(expected)),
                        "{algorithm}: {name}"
                    );
                    assert_eq!(answer.claims, None, "{algorithm}: {name}");
                    answered += 1;
                }
                Err(status) if token.len() > MAX_MESSAGE => assert_eq!(status.code(), Code::OutOfRange, "{name}"),
                // No token at all is no question.
                Err(status) => assert_eq!((token.as_str(), status.code()), ("", Code::InvalidArgument), "{name}"),
            }
            // What fits a header knocks at the other door, too; the token ends where the header does.
            let fits = token.len() < 8 * 1024 && token.bytes().all(|b| b.is_ascii_graphic());
            if fits && !token.is_empty() {
                assert!(!node.admits(&token).await, "{algorithm}: {name}");
                at_the_other_door += 1;
            }
        }
        assert!(answered > 300 && at_the_other_door > 250, "{answered}, {at_the_other_door}");
        assert!(node.verify(&genuine).await.active);
        node.remove().await;
    }
}

#[expect(clippy::too_many_lines, reason = "a matrix: every kind at every door")]
async fn each_kind_of_token_opens_its_own_door_only(backend: Backend) {
    // Otherwise so many failures of one address would be a matter of the throttle.
    let node = TestNode::builder(backend).await.set("throttle.address_failures=0").start().await;
    let user = node.register("ada@example.com").await;
    let mine = node.login("ada@example.com").await;
    let root = service_accounts::administrator(&node).await;
    let (service, secret) = service_accounts::create(&node, &root, &[]).await;
    let service_token = service_accounts::token(&node, &service.client_id, &secret).await;
    node.register("bob@example.com").await;
    let careful = node.register("careful@example.com").await;
    node.signin_give_totp(&careful, &["ABCD-EFGH-JKMN-PQRS"]).await;
    let challenge = node.signin_challenge("careful@example.com").await.challenge_id;
    let wary = node.register("wary@example.com").await;
    node.signin_give_totp(&wary, &[]).await;
    let published = node.database.integer("SELECT number FROM feed_head").await;
    let kinds = [
        ("access", mine.access_token.clone()),
        ("refresh", mine.refresh_token.clone()),
        ("session id", mine.session_id.clone()),
        ("user id", user.id.clone()),
        ("password", PASSWORD.to_owned()),
        ("service token", service_token),
        ("service secret", secret),
        ("client id", service.client_id.clone()),
        ("challenge", challenge.clone()),
        ("device secret", mine.known_device_secret.clone()),
        ("recovery code", "ABCD-EFGH-JKMN-PQRS".to_owned()),
        ("garbage like a challenge", format!("vch_{}", "A".repeat(43))),
        ("garbage like a service secret", format!("vss_{}", "A".repeat(64))),
        ("garbage", "AAAA".repeat(20)),
        ("garbage like a JWS", format!("{0}.{0}.{0}", "AAAA".repeat(20))),
        ("garbage like a refresh token", format!("vrt_{}", "A".repeat(82))),
    ];
    for (kind, token) in &kinds {
        let verified = node.verify(token).await.inactive_reason();
        match *kind {
            "access" | "service token" => assert_eq!(verified, InactiveReason::Unspecified),
            "refresh" | "garbage like a refresh token" => assert_eq!(verified, InactiveReason::WrongType),
            _ => assert_eq!(verified, InactiveReason::Malformed, "{kind}"),
        }
        let mut account = node.account().await;
        let mut refused = vec![
            account.get_account(bearer(token, v1::GetAccountRequest {})).await.map(|_| ()),
            account.list_sessions(bearer(token, v1::ListSessionsRequest::default())).await.map(|_| ()),
        ];
        if *kind != "access" {
            let change = v1::ChangePasswordRequest { current_password: PASSWORD.into(), new_password: "x".repeat(20) };
            let session_id = mine.session_id.clone();
            refused.push(account.change_password(bearer(token, change)).await.map(|_| ()));
            refused
                .push(account.revoke_session(bearer(token, v1::RevokeSessionRequest { session_id })).await.map(|_| ()));
            let others = bearer(token, v1::RevokeOtherSessionsRequest {});
            refused.push(account.revoke_other_sessions(others).await.map(|_| ()));
        }
        for answer in refused {
            match answer {
                Ok(()) => assert_eq!(*kind, "access"),
                Err(status) if *kind == "service token" => assert_eq!(reason(&status), "NOT_A_USER"),
                Err(status) => assert_eq!(reason(&status), "ACCESS_TOKEN_INVALID", "{kind}"),
            }
        }
        let request = v1::IssueServiceTokenRequest {
            client_id: service.client_id.clone(),
            client_secret: token.clone(),
            ..Default::default()
        };
        match node.auth().await.issue_service_token(request).await {
            Ok(_) => assert_eq!(*kind, "service secret"),
            Err(status) => assert_eq!(reason(&status), "INVALID_CLIENT", "{kind}"),
        }
        // As a challenge, as an answer to one, and as what a device keeps.
        let answer = node.signin_answer(token, signin_totp("x")).await.unwrap_err();
        let as_challenge = if *kind == "challenge" { "CODE_INVALID" } else { "CHALLENGE_INVALID" };
        assert_eq!(reason(&answer), as_challenge, "{kind}");
        let another = node.signin_challenge("wary@example.com").await.challenge_id;
        for response in [signin_recovery(token), signin_totp(token), signin_sent(token)] {
            let refused = reason(&node.signin_answer(&another, response).await.unwrap_err());
            assert!(matches!(&*refused, "CODE_INVALID" | "TOO_MANY_ATTEMPTS"), "{kind}: {refused}");
        }
        let device = Some(v1::Device { known_device_secret: token.clone(), ..v1::Device::default() });
        let request = v1::LoginRequest { device, ..login_request("bob@example.com", PASSWORD) };
        assert_ne!(node.try_login(request).await.unwrap().known_device_secret, *token, "{kind}");
        let log_in = node.try_login(login_request("ada@example.com", token)).await;
        assert_eq!(log_in.is_ok(), *kind == "password", "{kind}");
        if *kind != "refresh" {
            let status = node.refresh(token).await.unwrap_err();
            match *kind {
                // Version 0 of the format does not exist, so that this is no token of an unknown key.
                "garbage like a refresh token" => assert_eq!(reason(&status), "REFRESH_TOKEN_INVALID"),
                _ => assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "REFRESH_TOKEN_INVALID")),
            }
            node.logout(token).await.unwrap();
        }
        // What is no token of ours is no token to revoke.
        if !matches!(*kind, "access" | "refresh" | "service token") {
            node.revoke_token(token).await.unwrap();
        }
    }
    assert_eq!(node.database.integer("SELECT number FROM feed_head").await, published);
    assert_eq!(node.events("act = 'session.ended'").await, 0, "logout took none of them for a refresh token");
    assert!(node.admits(&mine.access_token).await);
    let mine = node.refresh(&mine.refresh_token).await.unwrap();
    // The one door that takes both, each for what it is.
    node.revoke_token(&mine.access_token).await.unwrap();
    assert_eq!(node.verify(&mine.access_token).await.inactive_reason(), InactiveReason::Revoked);
    let mine = node.refresh(&mine.refresh_token).await.unwrap();
    assert!(node.admits(&mine.access_token).await, "its session goes on");
    node.revoke_token(&mine.refresh_token).await.unwrap();
    assert_eq!(reason(&node.refresh(&mine.refresh_token).await.unwrap_err()), "SESSION_REVOKED");
    assert!(!node.admits(&mine.access_token).await);
    node.remove().await;
}
