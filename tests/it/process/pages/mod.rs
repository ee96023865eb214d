//! Web pages as callers, by gRPC-Web: what pages of listed origins get, and what others do not, byte by byte and in a real browser.

mod bounds;
mod browser;
mod caller;
mod tls;

use http::Method;
use tonic::Code;
use vouchsafe::pb::v1;

use self::caller::{Browser, Stream};
use super::{
    client::Client,
    flood::closed,
    harness::{BOUND, Place},
};
use crate::support::{
    Backend, PASSWORD, login_request, reason,
    wire::{self, frame},
};

const APP: &str = "https://app.example.com";
const STRANGER: &str = "https://evil.test";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";
const AUTH: &str = "/vouchsafe.v1.AuthService";

/// A place whose pages of [`APP`] may call.
async fn place() -> Place {
    Place::new(Backend::Sqlite).await.set("grpc.web_origins", &format!("{APP},http://localhost:3000"))
}

fn tokens(answer: v1::LoginResponse) -> v1::TokenPair {
    let v1::login_response::Outcome::Tokens(tokens) = answer.outcome.unwrap() else { panic!("a challenge") };
    tokens
}

fn register(email: &str) -> v1::RegisterRequest {
    v1::RegisterRequest { email: email.into(), password: PASSWORD.into(), ..Default::default() }
}

#[tokio::test]
async fn pages_of_a_listed_origin_call_over_http1_and_are_told_what_is_wrong() {
    let place = place().await;
    let server = place.serve().await;
    // One connection for all of it.
    let mut browser = Browser::at(server.grpc).await;
    let asked = [
        ("origin", APP),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-grpc-web"),
    ];
    let login = format!("{AUTH}/Login");
    let preflight = browser.ask(Method::OPTIONS, &login, &asked, Vec::new()).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, APP), "{preflight:?}");

    for (content_type, email) in [(BINARY, "ada@example.com"), (TEXT, "bob@example.com")] {
        let registered = browser.call(content_type, &format!("{AUTH}/Register"), None, &register(email)).await;
        assert_eq!(registered.message::<v1::RegisterResponse>().user.unwrap().email, email);
        let signed_in = browser.call(content_type, &login, None, &login_request(email, PASSWORD)).await;
        assert!(signed_in.header("content-type").starts_with(content_type), "{signed_in:?}");
        assert_eq!((signed_in.header("access-control-allow-origin"), signed_in.header("vary")), (APP, "origin"));
        assert_eq!(signed_in.header("access-control-allow-credentials"), "");
        for readable in ["grpc-status", "grpc-status-details-bin", "x-request-id"] {
            assert!(signed_in.header("access-control-expose-headers").contains(readable), "{signed_in:?}");
        }
        let tokens = tokens(signed_in.message());

        // Refused before the handler, by the handler, and where nothing is. Whose message is not read is not listened to further.
        let account = "/vouchsafe.v1.AccountService/GetAccount";
        let unread = async |path| {
            let answer = Browser::at(server.grpc).await.call(content_type, path, None, &()).await;
            assert_eq!(answer.header("connection"), "close", "{answer:?}");
            answer
        };
        let refused = [
            (unread(account).await, Code::Unauthenticated, "ACCESS_TOKEN_MISSING"),
            (
                browser.call(content_type, &login, None, &login_request(email, "not that password")).await,
                Code::Unauthenticated,
                "INVALID_CREDENTIALS",
            ),
            (unread("/vouchsafe.v1.Nothing/Nothing").await, Code::Unimplemented, ""),
        ];
        for (answer, code, why) in refused {
            let (messages, status) = answer.outcome();
            assert!(messages.is_empty() && !answer.header("x-request-id").is_empty(), "{answer:?}");
            assert_eq!(status.code(), code, "{status:?}");
            assert!(why.is_empty() || reason(&status) == why, "{status:?}");
        }

        let request = v1::GetAccountRequest::default();
        let found = browser.call(content_type, account, Some(&tokens.access_token), &request).await;
        assert_eq!(found.message::<v1::GetAccountResponse>().user.unwrap().email, email);
        // Where it came from is known as of any other caller.
        let path = "/vouchsafe.v1.AccountService/ListSessions";
        let request = v1::ListSessionsRequest::default();
        let listed = browser.call(content_type, path, Some(&tokens.access_token), &request).await;
        assert_eq!(listed.message::<v1::ListSessionsResponse>().sessions[0].ip_address, "127.0.0.1");
    }
    // Some say more of a content type than they need to.
    let headers = [("content-type", "application/gRPC-web+proto; charset=utf-8"), ("origin", APP)];
    let message = frame(&login_request("ada@example.com", PASSWORD));
    tokens(browser.ask(Method::POST, &login, &headers, message).await.message());
    drop(browser);
    server.stop().await;
    place.remove().await;
}

/// What a page can have its browser send without asking first, and what comes from elsewhere: refused, and nothing done.
#[tokio::test]
async fn strangers_get_nothing_done() {
    let place = place().await.set("log.filter", "info,vouchsafe=debug");
    let server = place.serve().await;
    let client = Client::of(&server).await;
    let path = format!("{AUTH}/Register");
    let message = || frame(&register("mallory@example.com"));
    // Each on a connection of its own.
    let ask = async |method, headers: &[(&str, &str)]| {
        Browser::at(server.grpc).await.ask(method, &path, headers, message()).await
    };
    let asked = [("origin", STRANGER), ("access-control-request-method", "POST")];
    let preflight = ask(Method::OPTIONS, &asked).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (403, ""), "{preflight:?}");

    for content_type in [BINARY, TEXT, "text/plain", "application/grpc"] {
        for origin in [STRANGER, "null", "http://localhost:3001", "https://app.example.com.evil.test"] {
            let headers = [("content-type", content_type), ("origin", origin)];
            let refused = ask(Method::POST, &headers).await;
            assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""), "{refused:?}");
            // The same over HTTP/2, as browsers do where there is TLS.
            let headers = [("content-type", content_type.as_bytes()), ("origin", origin.as_bytes())];
            let refused = wire::call_as(server.grpc, &path, &headers, message()).await.unwrap();
            assert_eq!(refused.http, 403, "{refused:?}");
        }
    }
    // A name that leads here only since the page is there (DNS rebinding) is still the page's own.
    let mut browser = Browser::at(server.grpc).await;
    browser.host = "rebound.test:50051".to_owned();
    let rebound = [("content-type", BINARY), ("origin", "http://rebound.test:50051")];
    assert_eq!(browser.ask(Method::POST, &path, &rebound, message()).await.status, 403);
    // No page at all: there is gRPC for those.
    assert_eq!(ask(Method::POST, &[("content-type", BINARY)]).await.status, 403);
    for (method, content_type, status) in [
        (Method::POST, "application/grpc", 505),
        (Method::POST, "application/json", 415),
        (Method::GET, "", 405),
        (Method::OPTIONS, "", 405),
    ] {
        let refused = ask(method.clone(), &[("content-type", content_type)]).await;
        assert_eq!(refused.status, status, "{method} {content_type}");
        assert!(refused.header("content-type").starts_with("text/plain") && !refused.body.is_empty(), "{refused:?}");
    }
    // Whoever has mistyped an origin finds out.
    server.log.wait(|line| line.contains("does not list its origin") && line.contains(STRANGER)).await;
    // The address is free: none of them has registered.
    client.join("mallory@example.com").await;
    drop((browser, client));
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn where_no_origin_is_listed_no_page_is_heard() {
    let place = Place::new(Backend::Sqlite).await;
    let server = place.serve().await;
    let path = format!("{AUTH}/Register");
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: {}\r\norigin: {APP}\r\ncontent-type: {BINARY}\r\n\r\n", server.grpc);
    let said = wire::raw(server.grpc, head.as_bytes(), |_| {}).await;
    assert_eq!(said, "", "HTTP/1.1 is not answered");
    // Over HTTP/2, what a browser sends to anybody without asking, and what it asks for first.
    for content_type in ["text/plain", BINARY, "application/x-www-form-urlencoded", ""] {
        let headers = [("content-type", content_type.as_bytes()), ("origin", APP.as_bytes())];
        let refused = wire::call_as(server.grpc, &path, &headers, frame(&register("ada@example.com"))).await.unwrap();
        assert_eq!((refused.http, refused.headers.get("access-control-allow-origin")), (415, None), "{refused:?}");
    }
    Client::of(&server).await.join("ada@example.com").await;
    server.stop().await;
    place.remove().await;
}

#[tokio::test]
async fn streams_reach_pages_as_they_are_written() {
    let place = place().await;
    let server = place.serve().await;
    let client = Client::of(&server).await;
    client.register("ada@example.com").await.unwrap();
    for content_type in [BINARY, TEXT] {
        let mut stream = Stream::watch(&mut Browser::at(server.grpc).await, content_type).await;
        stream.next().await.unwrap();
        let tokens = client.login("ada@example.com").await.unwrap();
        let session = client.claims(&tokens.access_token).await.session_id;
        client.logout(&tokens.refresh_token).await.unwrap();
        stream.until_revoked(&session).await;
    }
    drop(client);
    server.stop().await;
    place.remove().await;
}
