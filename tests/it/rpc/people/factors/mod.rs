//! Second factors: how they are enrolled. The app is pyotp, the reader of QR codes zxing.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tonic::{Code, Status};
use vouchsafe::{
    crypto::machine_date,
    domain::{notice::Notice, time::Clock as _},
    pb::v1::{self, QrCodeFormat, user_admin_service_client::UserAdminServiceClient},
};

use crate::{
    rpc::on_both_databases,
    support::{
        Backend, ManualClock, TestNode, TestNodeBuilder, bearer, factors_codes, factors_read, fields,
        outbox::{outbox_is_to, outbox_messages},
        reason,
    },
};

mod changes;
mod oathtool;
mod sessions;

on_both_databases!(
    an_app_gets_the_secret_by_hand_or_by_either_image,
    codes_are_good_one_step_around_and_no_further,
    of_many_confirmations_at_once_one_counts,
    an_enrolment_needs_a_sign_in_that_is_recent,
    an_enrolment_needs_an_address_that_is_verified_where_there_is_mail,
    a_session_that_is_gone_enrols_nothing,
    a_seed_is_sealed_for_its_enrolment,
);

const ADA: &str = "ada@example.com";

/// Code and reason of a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

fn told(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

fn reauthenticate() -> (Code, String) {
    told(Code::Unauthenticated, "REAUTHENTICATION_REQUIRED")
}

/// A node that goes by this clock.
async fn at(backend: Backend, clock: &Arc<ManualClock>) -> TestNodeBuilder {
    TestNode::builder(backend).await.clock(clock.clone())
}

/// The code that an app shows now.
async fn code_now(secret: &str) -> String {
    factors_codes(secret, &[machine_date().as_seconds()]).await.swap_remove(0)
}

/// Somebody signed in with a second factor, and the recovery codes that go with it.
async fn enrolled(node: &TestNode, email: &str) -> (v1::TokenPair, Vec<String>) {
    node.register_verified(email).await;
    let tokens = node.login(email).await;
    let secret = node.totp_secret(&tokens.access_token).await;
    let codes = node.confirm_totp(&tokens.access_token, &code_now(&secret).await).await.unwrap();
    (node.refresh(&tokens.refresh_token).await.unwrap(), codes)
}

/// Takes a user's factors away.
async fn remove_factors(node: &TestNode, token: &str, user: &str) -> Result<(), Status> {
    let request = v1::RemoveUserFactorsRequest { user_id: user.into() };
    let mut users = UserAdminServiceClient::new(node.shared().await);
    users.remove_user_factors(bearer(token, request)).await.map(|_| ())
}

/// How often somebody was told this.
async fn told_of(node: &TestNode, email: &str, notice: &Notice) -> usize {
    let messages = outbox_messages(&node.database).await;
    messages.iter().filter(|message| outbox_is_to(message, email) && message.notice == *notice).count()
}

async fn an_app_gets_the_secret_by_hand_or_by_either_image(backend: Backend) {
    let email = "Ada.Lovelace+phone@Example.com";
    let issuer = "Müller & Söhne/EU 100%";
    let node = TestNode::builder(backend).await.set(&format!("factors.totp_issuer={issuer}")).start().await;
    node.register_verified(email).await;
    let token = node.login(email).await.access_token;
    let mut seen = HashSet::new();
    for svg_format in [QrCodeFormat::Unspecified, QrCodeFormat::Svg] {
        let svg = node.enroll_totp(&token, svg_format).await.unwrap();
        let png = node.enroll_totp(&token, QrCodeFormat::Png).await.unwrap();
        let read = factors_read(&svg.qr_code, &png.qr_code).await;
        assert_eq!((&read["svg"], &read["png"]), (&svg.otpauth_uri.into(), &png.otpauth_uri.clone().into()));
        assert_eq!(read["mode"], "1", "black and white");
        assert!(read["width"].as_u64().unwrap() > 200, "{read}");
        let app = serde_json::json!({
            "issuer": issuer, "name": email, "secret": png.secret, "digits": 6, "interval": 30, "digest": "sha1",
        });
        assert_eq!(read["app"], app);
        let query = png.otpauth_uri.split_once('?').unwrap().1;
        for part in ["algorithm=SHA1", "digits=6", "period=30"] {
            assert!(query.split('&').any(|found| found == part), "{query}");
        }
        assert!(seen.insert(svg.secret) && seen.insert(png.secret), "a new one each time");
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM totp_factors WHERE confirm_time IS NULL").await, 1);
    assert_eq!(node.factors_of(&token).await, (false, 0), "it does not count yet");
    assert_eq!(node.events("act = 'totp.enrolment_begun'").await, 4);
    let request = v1::EnrollTotpRequest { qr_code_format: 3 };
    let refused = node.account().await.enroll_totp(bearer(&token, request)).await.unwrap_err();
    assert_eq!(fields(&refused), ["qr_code_format"]);
    node.remove().await;
}

async fn codes_are_good_one_step_around_and_no_further(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = at(backend, &clock).await.start().await;
    let now = clock.now().as_seconds();
    for (email, away, good) in [
        ("a@example.com", -2, false),
        ("b@example.com", -1, true),
        ("c@example.com", 0, true),
        ("d@example.com", 1, true),
        ("e@example.com", 2, false),
    ] {
        node.register_verified(email).await;
        let token = node.login(email).await.access_token;
        let absent = told(Code::FailedPrecondition, "TOTP_NOT_ENROLLED");
        assert_eq!(refusal(node.confirm_totp(&token, "000000").await), absent, "there is nothing to confirm");
        let replaced = node.totp_secret(&token).await;
        let secret = node.totp_secret(&token).await;
        let codes = factors_codes(&secret, &[now + 30 * away, now]).await;
        let of_replaced = factors_codes(&replaced, &[now]).await.swap_remove(0);
        let wrong = told(Code::Unauthenticated, "CODE_INVALID");
        // Not so many that the next would have to wait.
        for bad in [&*of_replaced, "٠٠٠٠٠٠", &format!("{}0", codes[1])] {
            assert_eq!(refusal(node.confirm_totp(&token, bad).await), wrong, "{bad}");
        }
        assert_eq!(fields(&node.confirm_totp(&token, " ").await.unwrap_err()), ["code"]);
        if !good {
            assert_eq!(refusal(node.confirm_totp(&token, &codes[0]).await), wrong, "{away}");
        }
        let code = if good { &codes[0] } else { &codes[1] };
        let step = if good { now / 30 + away } else { now / 30 };
        // As some apps show it.
        let shown = format!("{} {}", &code[..3], &code[3..]);
        assert_eq!(node.confirm_totp(&token, &shown).await.unwrap().len(), 10, "{away}");
        let spent = format!("SELECT COUNT(*) FROM totp_factors WHERE last_step = {step}");
        assert_eq!(node.database.integer(&spent).await, 1, "a later step than this is next");
        node.database.execute("UPDATE totp_factors SET last_step = 0").await;
    }
    assert_eq!(node.events("act = 'login.challenge_failed' AND NOT succeeded").await, 5 * 3 + 2);
    assert_eq!(node.events("act = 'totp.enrolled'").await, 5);
    node.remove().await;
}

async fn of_many_confirmations_at_once_one_counts(backend: Backend) {
    let node = Arc::new(TestNode::start(backend).await);
    node.register_verified(ADA).await;
    let tokens = node.login(ADA).await;
    let secret = node.totp_secret(&tokens.access_token).await;
    let code = code_now(&secret).await;
    let calls = (0..20).map(|_| {
        let (node, token, code) = (Arc::clone(&node), tokens.access_token.clone(), code.clone());
        tokio::spawn(async move { node.confirm_totp(&token, &code).await })
    });
    let mut given = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(codes) => given.push(codes),
            Err(status) => {
                // Depending on what it saw: the factor, that its own token is refused, or that many guess at once.
                let late = ["TOTP_ENROLLED", "REAUTHENTICATION_REQUIRED", "ACCESS_TOKEN_INVALID", "TOO_MANY_ATTEMPTS"];
                assert!(late.contains(&&*reason(&status)), "{status:?}");
            }
        }
    }
    assert_eq!(given.len(), 1);
    assert_eq!(node.events("act = 'totp.enrolled'").await, 1);
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM recovery_codes").await, 10);
    let token = node.refresh(&tokens.refresh_token).await.unwrap().access_token;
    let enrolled = told(Code::FailedPrecondition, "TOTP_ENROLLED");
    assert_eq!(refusal(node.confirm_totp(&token, &code).await), enrolled);
    assert_eq!(refusal(node.enroll_totp(&token, QrCodeFormat::Png).await), enrolled);
    assert_eq!(node.factors_of(&token).await, (true, 10));
    Arc::into_inner(node).unwrap().remove().await;
}

async fn an_enrolment_needs_a_sign_in_that_is_recent(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = at(backend, &clock).await.set("sessions.recent_authentication=2m").start().await;
    node.register_verified(ADA).await;
    let tokens = node.login(ADA).await;
    clock.advance(Duration::from_mins(2));
    node.catch_up().await;
    let secret = node.totp_secret(&tokens.access_token).await;
    clock.advance(Duration::from_secs(1));
    let code = factors_codes(&secret, &[clock.now().as_seconds()]).await.swap_remove(0);
    // A token from a moment ago makes no sign-in from a moment ago.
    let renewed = node.refresh(&tokens.refresh_token).await.unwrap().access_token;
    for token in [&tokens.access_token, &renewed] {
        assert_eq!(refusal(node.enroll_totp(token, QrCodeFormat::Png).await), reauthenticate());
        assert_eq!(refusal(node.confirm_totp(token, &code).await), reauthenticate());
        assert_eq!(refusal(node.remove_totp(token).await), reauthenticate());
        assert_eq!(refusal(node.generate_recovery_codes(token).await), reauthenticate());
    }
    let again = node.login(ADA).await.access_token;
    node.confirm_totp(&again, &code).await.unwrap();
    node.remove().await;
}

async fn an_enrolment_needs_an_address_that_is_verified_where_there_is_mail(backend: Backend) {
    let node = TestNode::builder(backend).await.set("notify.email=log").set("notify.sms=log").start().await;
    let user = node.register(ADA).await;
    let token = node.login(ADA).await.access_token;
    let refused = told(Code::FailedPrecondition, "EMAIL_NOT_VERIFIED");
    let phone = |number: &str| bearer(&token, v1::ChangePhoneNumberRequest { phone_number: number.into() });
    assert_eq!(refusal(node.enroll_totp(&token, QrCodeFormat::Png).await), refused);
    assert_eq!(refusal(node.account().await.change_phone_number(phone("+4930123456")).await), refused);
    node.account().await.change_phone_number(phone("")).await.unwrap();
    let id = node.database.id(&user.id.parse().unwrap());
    let verified = async |time: &str| {
        let sql = format!("UPDATE users SET email_verified_time = {time} WHERE id = {id}");
        assert_eq!(node.database.execute(&sql).await, 1);
    };
    verified("1").await;
    node.account().await.change_phone_number(phone("+4930123456")).await.unwrap();
    let secret = node.totp_secret(&token).await;
    // An administrator gave it another address meanwhile.
    verified("NULL").await;
    assert_eq!(refusal(node.confirm_totp(&token, &code_now(&secret).await).await), refused);
    assert_eq!(node.factors_of(&token).await, (false, 0));
    // Where no mail is sent, nothing can be verified.
    let database = Arc::clone(&node.database);
    node.stop().await;
    let node = TestNode::on(database).set("notify.email=off").start().await;
    let token = node.login(ADA).await.access_token;
    let secret = node.totp_secret(&token).await;
    node.confirm_totp(&token, &code_now(&secret).await).await.unwrap();
    node.remove().await;
}

/// By a node that this one has not heard of yet, so that the access token still opens the door.
async fn a_session_that_is_gone_enrols_nothing(backend: Backend) {
    let node = TestNode::start(backend).await;
    let gone = told(Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    for (email, ends, goes_on) in [
        ("a@example.com", "UPDATE sessions SET end_time = 1, end_reason = 'logout' WHERE end_time IS NULL", None),
        ("b@example.com", "UPDATE users SET epoch = epoch + 1", None),
        ("c@example.com", "UPDATE users SET state = 'suspended'", Some("UPDATE users SET state = 'active'")),
    ] {
        node.register_verified(email).await;
        let token = node.login(email).await.access_token;
        let secret = node.totp_secret(&token).await;
        let code = code_now(&secret).await;
        let before = node.database.dump("totp_factors").await;
        node.database.execute(ends).await;
        assert_eq!(refusal(node.enroll_totp(&token, QrCodeFormat::Png).await), gone, "{email}");
        assert_eq!(refusal(node.confirm_totp(&token, &code).await), gone, "{email}");
        assert_eq!(refusal(node.remove_totp(&token).await), gone, "{email}");
        assert_eq!(node.database.dump("totp_factors").await, before);
        if let Some(goes_on) = goes_on {
            node.database.execute(goes_on).await;
            node.confirm_totp(&token, &code).await.unwrap();
        }
    }
    assert_eq!(node.events("act = 'totp.enrolled'").await, 1);
    node.remove().await;
}

async fn a_seed_is_sealed_for_its_enrolment(backend: Backend) {
    let node = TestNode::start(backend).await;
    let mut people = Vec::new();
    for email in [ADA, "grace@example.com"] {
        let id = node.database.id(&node.register_verified(email).await.id.parse().unwrap());
        let token = node.login(email).await.access_token;
        let secret = node.totp_secret(&token).await;
        let hex =
            if node.database.postgres_pool().is_some() { "encode(seed_sealed, 'hex')" } else { "hex(seed_sealed)" };
        let sealed = node.database.texts(&format!("SELECT {hex} FROM totp_factors WHERE user_id = {id}")).await;
        people.push((id, token, secret, sealed[0].clone()));
    }
    let store = async |id: &str, sealed: &str| {
        let sealed = node.database.bytes(sealed);
        let sql = format!("UPDATE totp_factors SET seed_sealed = {sealed} WHERE user_id = {id}");
        assert_eq!(node.database.execute(&sql).await, 1);
    };
    let [ada, grace] = &people[..] else { panic!("two") };
    store(&ada.0, &grace.3).await;
    store(&grace.0, &ada.3).await;
    for (_, token, secret, _) in [ada, grace] {
        for secret in [secret, if secret == &ada.2 { &grace.2 } else { &ada.2 }] {
            let refused = node.confirm_totp(token, &code_now(secret).await).await.unwrap_err();
            assert_eq!(refused.code(), Code::Internal, "neither the own code nor the other's: {refused:?}");
        }
    }
    for (id, token, secret, sealed) in [ada, grace] {
        store(id, sealed).await;
        node.confirm_totp(token, &code_now(secret).await).await.unwrap();
    }
    node.remove().await;
}
