//! The edge: bounds on what a caller may send, deadlines, request ids. SECURITY, EDGE and fault 14.

use std::sync::atomic::{AtomicU32, Ordering};

use prost::Message as _;
use tonic::Code;
use vouchsafe::pb::v1;

use super::on_both_databases;
use crate::support::{
    Backend, PASSWORD, TestNode, login_request, reason,
    wire::{self, frame},
};

on_both_databases!(
    a_message_beyond_its_bound_is_refused_and_one_below_is_read,
    health_and_reflection_read_no_more_than_a_name,
    a_header_list_beyond_its_bound_is_refused,
    what_is_no_message_is_refused,
    a_deadline_that_passes_is_told_as_such,
    a_deadline_already_passed_costs_nobody_anything,
    a_sane_request_id_comes_back_and_any_other_is_replaced,
);

const LOGIN: &str = "/vouchsafe.v1.AuthService/Login";
const REGISTER: &str = "/vouchsafe.v1.AuthService/Register";
const VERIFY: &str = "/vouchsafe.v1.AuthService/Verify";
const MAX_MESSAGE: usize = 64 * 1024;

/// A message of exactly so many bytes.
fn message_of(bytes: usize) -> Vec<u8> {
    // One byte of tag and three of length before the text.
    let message = frame(&v1::VerifyRequest { token: "x".repeat(bytes - 4), ..Default::default() });
    assert_eq!(message.len(), 5 + bytes);
    message
}

async fn a_message_beyond_its_bound_is_refused_and_one_below_is_read(backend: Backend) {
    let node = TestNode::start(backend).await;
    let answer = wire::call(node.grpc, VERIFY, &[], message_of(MAX_MESSAGE)).await.unwrap();
    assert_eq!(answer.status().code(), Code::Ok);
    for bytes in [MAX_MESSAGE + 1, 1 << 20] {
        let answer = wire::call(node.grpc, VERIFY, &[], message_of(bytes)).await;
        // The answer may come while the body is still on its way, and then the rest of it is cut off.
        assert!(answer.is_err() || answer.unwrap().status().code() == Code::OutOfRange, "{bytes}");
    }
    // It is the length that is announced that counts, not what follows.
    let mut announced = vec![0, 0xff, 0xff, 0xff, 0xff];
    announced.extend_from_slice(b"and nothing more");
    let answer = wire::call(node.grpc, VERIFY, &[], announced).await.unwrap();
    assert_eq!(answer.status().code(), Code::OutOfRange);
    let token = "x".repeat(100_000);
    let refused = node.auth().await.verify(v1::VerifyRequest { token, ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    node.register("ada@example.com").await;
    node.remove().await;
}

async fn health_and_reflection_read_no_more_than_a_name(backend: Backend) {
    let node = TestNode::start(backend).await;
    for (path, tag) in [
        ("/grpc.health.v1.Health/Check", 0x0a),
        ("/grpc.health.v1.Health/Watch", 0x0a),
        // `list_services`, which is answered whatever it holds.
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", 0x3a),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", 0x3a),
    ] {
        let call = async |bytes: usize| {
            // One byte of tag, and two or three of length before the text.
            let text = "x".repeat(bytes - if bytes < 17_000 { 3 } else { 4 });
            let mut message = v1::VerifyRequest { token: text, ..Default::default() }.encode_to_vec();
            assert_eq!((message.len(), message[0]), (bytes, 0x0a));
            message[0] = tag;
            let length = u32::try_from(bytes).unwrap().to_be_bytes();
            wire::call(node.grpc, path, &[], [&[0][..], &length, &message].concat()).await
        };
        // Health knows no service of this name.
        let below = call(16 * 1024).await.unwrap();
        assert!(below.status().code() == Code::NotFound || !below.body.is_empty(), "{path}: {below:?}");
        for bytes in [16 * 1024 + 1, 300_000] {
            // Reflection refuses by ending the stream without an answer.
            if let Ok(above) = call(bytes).await {
                assert!(above.status().code() != Code::NotFound && above.body.is_empty(), "{path}: {above:?}");
            }
        }
    }
    node.register("ada@example.com").await;
    node.remove().await;
}

async fn a_header_list_beyond_its_bound_is_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    let body = || frame(&v1::VerifyRequest { token: "x".into(), ..Default::default() });
    let below = vec![b'a'; 15 * 1024];
    let answer = wire::call(node.grpc, VERIFY, &[("x-padding", &below)], body()).await.unwrap();
    assert_eq!(answer.status().code(), Code::Ok);
    let many: Vec<(String, Vec<u8>)> = (0..400).map(|n| (format!("x-{n}"), vec![b'a'; 30])).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let huge = vec![b'a'; 200 * 1024];
    for headers in [&[("x-padding", &vec![b'a'; 17 * 1024][..])][..], &many, &[("x-padding", &huge)]] {
        match wire::call(node.grpc, VERIFY, headers, body()).await {
            Ok(answer) => assert_eq!((answer.http, answer.headers.get("grpc-status")), (431, None)),
            // Or the connection is closed without a word.
            Err(error) => assert!(!error.is_user(), "refused by the server: {error:?}"),
        }
    }
    node.register("ada@example.com").await;
    node.remove().await;
}

async fn what_is_no_message_is_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    for (name, body) in [
        ("nothing", vec![]),
        ("half a frame", vec![0, 0]),
        ("a cut message", frame(&login_request("ada", PASSWORD))[..12].to_vec()),
        ("two messages", frame(&login_request("ada", PASSWORD)).repeat(2)),
        ("a compressed message", [&[1], &frame(&login_request("ada", PASSWORD))[1..]].concat()),
        ("no proto", [&[0, 0, 0, 0, 4], &b"\xff\xff\xff\xff"[..]].concat()),
        ("no UTF-8", [&[0, 0, 0, 0, 3], &b"\x0a\x01\xff"[..]].concat()),
    ] {
        let status = wire::call(node.grpc, LOGIN, &[], body).await.unwrap().status();
        assert_ne!(status.code(), Code::Ok, "{name}");
        assert_ne!(status.code(), Code::Unknown, "{name}: {status:?}");
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions").await, 0);
    node.remove().await;
}

async fn a_deadline_that_passes_is_told_as_such(backend: Backend) {
    // A hash that takes many times as long as the caller has.
    let node = TestNode::builder(backend)
        .await
        .set("passwords.memory_kib=262144")
        .set("passwords.iterations=16")
        .start()
        .await;
    let request =
        v1::RegisterRequest { email: "ada@example.com".into(), password: PASSWORD.into(), ..Default::default() };
    for (path, body) in [(REGISTER, frame(&request)), (LOGIN, frame(&login_request("ada@example.com", PASSWORD)))] {
        let answer = wire::call(node.grpc, path, &[("grpc-timeout", b"200m")], body).await.unwrap();
        let status = answer.status();
        let told = (status.code(), reason(&status));
        assert!(
            told == (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned())
                || told == (Code::ResourceExhausted, "OVERLOADED".to_owned()),
            "{path}: {status:?}"
        );
        assert!(answer.headers.contains_key("x-request-id"));
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users").await, 0);
    node.remove().await;
}

async fn a_deadline_already_passed_costs_nobody_anything(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register("ada@example.com").await;
    let tokens = node.login("ada@example.com").await;
    let grace =
        v1::RegisterRequest { email: "grace@example.com".into(), password: PASSWORD.into(), ..Default::default() };
    let refresh = v1::RefreshRequest { refresh_token: tokens.refresh_token.clone() };
    for timeout in ["0n", "1n", "1u", "1m"] {
        for (path, body) in [
            (REGISTER, frame(&grace)),
            (LOGIN, frame(&login_request("ada@example.com", PASSWORD))),
            ("/vouchsafe.v1.AuthService/Refresh", frame(&refresh)),
        ] {
            let answer = wire::call(node.grpc, path, &[("grpc-timeout", timeout.as_bytes())], body).await.unwrap();
            let status = answer.status();
            // Or the answer was there in time. CANCELLED is what the transport would say, who knows of no reason.
            let told = matches!(&*reason(&status), "DEADLINE_EXCEEDED" | "OVERLOADED" | "EMAIL_TAKEN");
            assert!(told || status.code() == Code::Ok, "{path} {timeout}: {status:?}");
        }
    }
    node.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(node.events("act LIKE 'refresh.%' OR act = 'session.ended'").await, 0);
    // What is no deadline of the protocol is none at all.
    for strange in ["", "5", "-1S", "123456789S", "1X"] {
        let body = frame(&v1::VerifyRequest { token: tokens.access_token.clone(), ..Default::default() });
        let answer = wire::call(node.grpc, VERIFY, &[("grpc-timeout", strange.as_bytes())], body).await.unwrap();
        assert_eq!(answer.status().code(), Code::Ok, "{strange:?}");
    }
    node.remove().await;
}

async fn a_sane_request_id_comes_back_and_any_other_is_replaced(backend: Backend) {
    let node = TestNode::start(backend).await;
    let long = "x".repeat(129);
    let asked = AtomicU32::new(0);
    let ask = async |path: &str, id: Option<&[u8]>| {
        let headers: Vec<_> = id.map(|id| ("x-request-id", id)).into_iter().collect();
        // Somebody else each time: a few failures are all that one of them may have.
        let nobody = format!("nobody-{}@example.com", asked.fetch_add(1, Ordering::Relaxed));
        let body = frame(&login_request(&nobody, PASSWORD));
        let answer = wire::call(node.grpc, path, &headers, body).await.unwrap();
        let mut ids = answer.headers.get_all("x-request-id").iter();
        let id = ids.next().unwrap().to_str().unwrap().to_owned();
        assert_eq!(ids.next(), None, "only one");
        id
    };
    let longest = "x".repeat(128);
    for sane in ["7", "req-1_2.3:4/5+6=", &longest] {
        // Of every kind of answer: a refusal by a handler, one at the door, one for an unknown path.
        for path in [LOGIN, "/vouchsafe.v1.AccountService/GetAccount", "/vouchsafe.v1.Nothing/Nothing"] {
            assert_eq!(ask(path, Some(sane.as_bytes())).await, sane, "{path}");
        }
        assert_eq!(node.events(&format!("act = 'login.failed' AND request_id = '{sane}'")).await, 1);
    }
    let mut made = Vec::new();
    for strange in
        [None, Some(&b""[..]), Some(b"a b"), Some(b"a\"b"), Some(b"\xff"), Some("é".as_bytes()), Some(long.as_bytes())]
    {
        let id = ask(LOGIN, strange).await;
        assert_ne!(Some(id.as_bytes()), strange);
        assert!(id.len() == 36 && id.parse::<uuid::Uuid>().is_ok(), "{id}");
        assert_eq!(node.events(&format!("request_id = '{id}'")).await, 1, "the trail can be found by it");
        made.push(id);
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 7, "each its own");
    node.remove().await;
}
