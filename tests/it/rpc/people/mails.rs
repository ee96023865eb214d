//! Codes and news out of the mails that a real mail server received: every step is an RPC, and what lies between two is a mail.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Request, transport::Endpoint};
use vouchsafe::{
    domain::time::{Clock as _, Timestamp},
    pb::v1::{self, CodeChannel, auth_service_client::AuthServiceClient},
};

use super::{
    account::{NEW_PASSWORD, code_invalid, refusal, signs_in},
    notify::{FROM, emptied},
};
use crate::{
    rpc::on_both_databases,
    support::{
        Backend, PASSWORD, TestNode, TestNodeBuilder, fields, login_request,
        notify::{Receiver, header, standing_clock},
        reason,
        signin::signin_sent,
        until, wire,
    },
};

on_both_databases!(
    a_mailed_code_verifies_the_address,
    a_mailed_code_sets_a_new_password,
    a_mailed_code_signs_in,
    a_new_device_is_news_once,
    what_was_asked_for_while_the_mail_server_was_down_comes_once,
    links_lead_where_the_operator_says_whatever_host_the_caller_names,
    a_request_that_names_two_people_is_one_person_s,
);

const ADA: &str = "ada@example.com";
const MALLORY: &str = "mallory@example.com";

// What the mails are about, by their subjects.
const VERIFY: &str = "Verify your e-mail address";
const RESET: &str = "Set a new password";
const CHANGED: &str = "Your password was changed";
const SIGN_IN: &str = "Your code to sign in";
const NEW_DEVICE: &str = "New sign-in to your account";

async fn mailing(backend: Backend, server: &Receiver) -> TestNodeBuilder {
    TestNode::builder(backend).await.set("notify.email=smtp").set(FROM).set(&server.plain_url())
}

/// The mail of this number, which goes to this address and no other.
async fn mail(server: &Receiver, number: usize, to: &str, subject: &str) -> Value {
    let mail = server.wait_for(number).await.swap_remove(number - 1);
    assert_eq!((&mail["rcpt_tos"], header(&mail, "To")), (&json!([to]), to));
    assert_eq!(header(&mail, "Subject"), subject);
    mail
}

/// What a mail says as text, and as HTML.
fn said(mail: &Value) -> [&str; 2] {
    [0, 1].map(|number| mail["parts"][number][1].as_str().unwrap())
}

/// The code in a mail, as its reader finds it: alone in its line.
#[track_caller]
fn code_in(mail: &Value) -> String {
    let indented = said(mail)[0].lines().filter_map(|line| line.strip_prefix("    "));
    let codes: Vec<_> = indented.map(str::trim_end).filter(|line| !line.contains("://")).collect();
    assert_eq!(codes.len(), 1, "{mail:#}");
    codes[0].to_owned()
}

/// Whom every mail went to and what it was about, in the order of these; once all are sent, and nobody sends any more.
async fn all(node: TestNode, server: Receiver) -> Vec<(String, String)> {
    emptied(&node.database).await;
    node.remove().await;
    let mails = server.close().await;
    let ids: BTreeSet<_> = mails.iter().map(|mail| header(mail, "Message-ID")).collect();
    assert_eq!(ids.len(), mails.len(), "no mail came twice");
    let mut all: Vec<_> =
        mails.iter().map(|mail| (header(mail, "To").to_owned(), header(mail, "Subject").to_owned())).collect();
    all.sort();
    all
}

/// The same as it is expected.
fn mails<const N: usize>(mails: [(&str, &str); N]) -> Vec<(String, String)> {
    let mut mails = mails.map(|(to, subject)| (to.to_owned(), subject.to_owned())).to_vec();
    mails.sort();
    mails
}

async fn a_mailed_code_verifies_the_address(backend: Backend) {
    for required in [false, true] {
        let server = Receiver::mail().await;
        let node = mailing(backend, &server).await;
        let node = node.set(&format!("registration.require_verified_email={required}")).start().await;
        assert!(!node.register(ADA).await.email_verified);
        let first = code_in(&mail(&server, 1, ADA, VERIFY).await);
        if required {
            assert!(!signs_in(&node, ADA, PASSWORD).await, "there is no account yet");
        }
        node.send_verification(ADA).await.unwrap();
        node.send_verification("nobody@example.com").await.unwrap();
        let second = code_in(&mail(&server, 2, ADA, VERIFY).await);
        assert!(second.starts_with("vev_") && second.len() == 47 && second != first, "{second}");
        assert!(!node.verify_email(&second).await.unwrap());
        let tokens = node.login(ADA).await;
        assert!(node.own(&tokens.access_token).await.email_verified);
        for used in [first, second] {
            assert_eq!(refusal(node.verify_email(&used).await), code_invalid());
        }
        assert_eq!(all(node, server).await, mails([(ADA, VERIFY), (ADA, VERIFY)]), "{required}");
    }
}

async fn a_mailed_code_sets_a_new_password(backend: Backend) {
    let server = Receiver::mail().await;
    let node = mailing(backend, &server).await.start().await;
    node.register(ADA).await;
    mail(&server, 1, ADA, VERIFY).await;
    node.ask_reset(ADA).await.unwrap();
    node.ask_reset("nobody@example.com").await.unwrap();
    let code = code_in(&mail(&server, 2, ADA, RESET).await);
    assert!(code.starts_with("vpr_") && code.len() == 47, "{code}");
    node.reset(&code, NEW_PASSWORD).await.unwrap();
    mail(&server, 3, ADA, CHANGED).await;
    assert!(!signs_in(&node, ADA, PASSWORD).await && signs_in(&node, ADA, NEW_PASSWORD).await);
    assert_eq!(refusal(node.reset(&code, PASSWORD).await), code_invalid());
    assert!(signs_in(&node, ADA, NEW_PASSWORD).await, "by a code that is used up nothing is changed");
    // The last one is told of as a device that is not known.
    let expected = mails([(ADA, VERIFY), (ADA, RESET), (ADA, CHANGED), (ADA, NEW_DEVICE)]);
    assert_eq!(all(node, server).await, expected);
}

async fn a_mailed_code_signs_in(backend: Backend) {
    let server = Receiver::mail().await;
    let node = mailing(backend, &server).await.start().await;
    node.register_verified(ADA).await;
    node.register_verified(MALLORY).await;
    server.wait_for(2).await;
    let challenge = node.signin_send(ADA, CodeChannel::Email).await.unwrap().challenge_id;
    let code = code_in(&mail(&server, 3, ADA, SIGN_IN).await);
    assert!(code.len() == 8 && code.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    // Another's code is wrong here, and this one there.
    let other = node.signin_send(MALLORY, CodeChannel::Email).await.unwrap().challenge_id;
    let foreign = code_in(&mail(&server, 4, MALLORY, SIGN_IN).await);
    for (challenge, code) in [(&challenge, &foreign), (&other, &code)] {
        assert_eq!(reason(&node.signin_answer(challenge, signin_sent(code)).await.unwrap_err()), "CODE_INVALID");
    }
    node.signin_send("nobody@example.com", CodeChannel::Email).await.unwrap();
    let tokens = node.signin_finish(&challenge, signin_sent(&code)).await.unwrap();
    assert_eq!(node.own(&tokens.access_token).await.email, ADA);
    assert_eq!(node.signin_said(&tokens).await, "otp aal1");
    let again = node.signin_answer(&challenge, signin_sent(&code)).await.unwrap_err();
    assert_eq!(reason(&again), "CHALLENGE_INVALID");
    let expected = mails([(ADA, VERIFY), (MALLORY, VERIFY), (ADA, SIGN_IN), (MALLORY, SIGN_IN)]);
    assert_eq!(all(node, server).await, expected);
}

async fn a_new_device_is_news_once(backend: Backend) {
    let server = Receiver::mail().await;
    let node = mailing(backend, &server).await.start().await;
    node.register(ADA).await;
    node.verify_email(&code_in(&mail(&server, 1, ADA, VERIFY).await)).await.unwrap();
    let on = async |name: &str, secret: &str| {
        let device = Some(v1::Device { name: name.into(), known_device_secret: secret.into() });
        let request = v1::LoginRequest { device, ..login_request(ADA, PASSWORD) };
        node.try_login(request).await.unwrap().known_device_secret
    };
    let laptop = on("laptop", "").await;
    assert_eq!(on("laptop", &laptop).await, laptop);
    let phone = on("Ada's phone", "").await;
    let news = mail(&server, 2, ADA, NEW_DEVICE).await;
    let [text, html] = said(&news);
    assert!(text.contains("Ada's phone") && text.contains("127.0.0.1"), "{text}");
    assert!(html.contains("phone") && html.contains("127.0.0.1"), "{html}");
    for (name, secret) in [("Ada's phone", &phone), ("laptop", &laptop), ("another name", &phone)] {
        assert_eq!(on(name, secret).await, *secret);
    }
    assert_eq!(all(node, server).await, mails([(ADA, VERIFY), (ADA, NEW_DEVICE)]));
}

async fn what_was_asked_for_while_the_mail_server_was_down_comes_once(backend: Backend) {
    let server = Receiver::mail().await;
    let url = server.plain_url();
    let port = server.end().await.to_string();
    let clock = standing_clock();
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _);
    let node = node.set("notify.email=smtp").set(FROM).set(&url).start().await;
    let begun = clock.now();
    // Whoever asks does not hear of it.
    node.register(ADA).await;
    node.ask_reset(ADA).await.unwrap();
    // The clock stands until it is moved to when both are due again.
    let due = async || Timestamp::from_micros(node.database.integer("SELECT MAX(due_time) FROM outbox").await);
    for attempt in 1..=4 {
        let failed = format!("SELECT COUNT(*) FROM outbox WHERE lease IS NULL AND attempts = {attempt}");
        until("both have failed", async || node.database.integer(&failed).await == 2).await;
        if attempt < 4 {
            clock.set(due().await);
        }
    }
    let server = Receiver::start("mail_server.py", &["--port", &port]).await;
    clock.set(due().await);
    assert!(clock.now().since(begun) > Duration::from_mins(1), "{:?}", clock.now().since(begun));
    node.catch_up().await;
    emptied(&node.database).await;
    let received = server.wait_for(2).await;
    let about = |subject: &str| received.iter().find(|mail| header(mail, "Subject") == subject).unwrap();
    assert!(!node.verify_email(&code_in(about(VERIFY))).await.unwrap());
    node.reset(&code_in(about(RESET)), NEW_PASSWORD).await.unwrap();
    assert!(!signs_in(&node, ADA, PASSWORD).await && signs_in(&node, ADA, NEW_PASSWORD).await);
    assert_eq!(all(node, server).await, mails([(ADA, VERIFY), (ADA, RESET), (ADA, CHANGED)]));
}

/// A request that names another host wherever one can be named.
fn misled<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-server", "evil.example"),
        ("x-original-host", "evil.example"),
        ("x-host", "evil.example"),
        ("x-original-url", "https://evil.example/"),
        ("forwarded", "host=evil.example;proto=https"),
        ("origin", "https://evil.example"),
        ("referer", "https://evil.example/reset"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

async fn links_lead_where_the_operator_says_whatever_host_the_caller_names(backend: Backend) {
    for link_url in ["https://app.example.com/codes", ""] {
        let server = Receiver::mail().await;
        let mut node = mailing(backend, &server).await.set("grpc.trusted_proxies=127.0.0.0/8");
        if !link_url.is_empty() {
            node = node.set(&format!("notify.link_url={link_url}"));
        }
        let node = node.start().await;
        // The `:authority` of every call.
        let endpoint = Endpoint::from_shared(format!("http://{}", node.grpc)).unwrap();
        let channel = endpoint.origin("http://evil.example".parse().unwrap()).connect().await.unwrap();
        let mut auth = AuthServiceClient::new(channel);
        let register = v1::RegisterRequest { email: ADA.into(), password: PASSWORD.into(), ..Default::default() };
        auth.register(misled(register)).await.unwrap();
        let verified = mail(&server, 1, ADA, VERIFY).await;
        auth.send_email_verification(misled(v1::SendEmailVerificationRequest { email: ADA.into() })).await.unwrap();
        let again = mail(&server, 2, ADA, VERIFY).await;
        let reset = v1::RequestPasswordResetRequest { identifier: ADA.into() };
        auth.request_password_reset(misled(reset)).await.unwrap();
        let reset = mail(&server, 3, ADA, RESET).await;
        let send = v1::SendLoginCodeRequest { identifier: ADA.into(), ..Default::default() };
        auth.send_login_code(misled(send)).await.unwrap();
        let sign_in = mail(&server, 4, ADA, SIGN_IN).await;
        for (mail, kind) in
            [(verified, "verify_email"), (again, "verify_email"), (reset, "reset_password"), (sign_in, "")]
        {
            let whole = mail.to_string();
            assert!(!whole.contains("evil") && !whole.contains(&node.grpc.to_string()), "{whole}");
            let [text, html] = said(&mail);
            let linked = usize::from(!link_url.is_empty() && !kind.is_empty());
            assert_eq!((text.matches("://").count(), html.matches("href=").count()), (linked, linked), "{whole}");
            if linked == 1 {
                let link = format!("{link_url}?kind={kind}&code={}", code_in(&mail));
                assert!(text.contains(&format!("\n    {link}\r\n")), "{text}");
                let attribute = link.replace('&', "&amp;").replace('/', "&#x2f;");
                assert!(html.contains(&format!("href=\"{attribute}\"")), "{html}");
            }
        }
        node.remove().await;
    }
}

/// A message on the wire in which each field comes twice: what no generated client sends, and every server has to read.
fn both(one: &impl Message, other: &impl Message) -> Vec<u8> {
    let body = [one.encode_to_vec(), other.encode_to_vec()].concat();
    [&[0][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), &body].concat()
}

async fn a_request_that_names_two_people_is_one_person_s(backend: Backend) {
    let server = Receiver::mail().await;
    let node = mailing(backend, &server).await.start().await;
    for email in [ADA, MALLORY] {
        node.register(email).await;
    }
    server.wait_for(2).await;
    let reset = |identifier: &str| v1::RequestPasswordResetRequest { identifier: identifier.into() };
    let verify = |email: &str| v1::SendEmailVerificationRequest { email: email.into() };
    let send = |identifier: &str| v1::SendLoginCodeRequest { identifier: identifier.into(), ..Default::default() };
    // The one that counts is the last, as protocol buffers have it, for the look-up as for the mail.
    for (number, subject, method, body) in [
        (3, RESET, "RequestPasswordReset", both(&reset(ADA), &reset(MALLORY))),
        (4, VERIFY, "SendEmailVerification", both(&verify(ADA), &verify(MALLORY))),
        (5, SIGN_IN, "SendLoginCode", both(&send(ADA), &send(MALLORY))),
    ] {
        let answer = wire::call(node.grpc, &format!("/vouchsafe.v1.AuthService/{method}"), &[], body).await.unwrap();
        assert_eq!(answer.status().code(), Code::Ok, "{method}");
        mail(&server, number, MALLORY, subject).await;
    }
    for two in [
        "ada@example.com,mallory@example.com",
        "ada@example.com mallory@example.com",
        "ada@example.com;mallory@example.com",
        "ada@example.com\r\nBcc: mallory@example.com",
        "ada@example.com\0mallory@example.com",
        "ada@example.com%0aBcc:mallory@example.com",
        "<ada@example.com> mallory@example.com",
        "ada@example.com@mallory@example.com",
    ] {
        node.ask_reset(two).await.unwrap();
        node.signin_send(two, CodeChannel::Email).await.unwrap();
        assert_eq!(fields(&node.send_verification(two).await.unwrap_err()), ["email"], "{two:?}");
        let register = v1::RegisterRequest { email: two.into(), password: PASSWORD.into(), ..Default::default() };
        assert_eq!(fields(&node.auth().await.register(register).await.unwrap_err()), ["email"], "{two:?}");
    }
    let code = code_in(&server.received()[2]);
    node.reset(&code, NEW_PASSWORD).await.unwrap();
    assert!(signs_in(&node, ADA, PASSWORD).await && !signs_in(&node, ADA, NEW_PASSWORD).await, "it was not Ada's");
    assert!(signs_in(&node, MALLORY, NEW_PASSWORD).await);
    let own = [(ADA, VERIFY), (MALLORY, VERIFY)];
    let expected = [own[0], own[1], (MALLORY, RESET), (MALLORY, VERIFY), (MALLORY, SIGN_IN), (MALLORY, CHANGED)];
    assert_eq!(all(node, server).await, mails(expected));
}
