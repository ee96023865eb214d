//! What becomes of sessions when a second factor comes or goes, wherever their state is kept.

use tonic::Code;
use vouchsafe::{
    domain::notice::Notice,
    pb::v1::{Device, InactiveReason, LoginRequest, QrCodeFormat},
};

use super::{ADA, code_now, enrolled, reauthenticate, refusal, remove_factors, told, told_of};
use crate::{
    rpc::{
        on_every_form,
        revocation::{assert_alive, assert_dead},
    },
    support::{Backend, PASSWORD, TestNode, login_request, outbox::outbox_keep},
};

on_every_form!(
    a_confirmation_upgrades_the_session_and_ends_the_others,
    a_factor_is_removed_by_a_session_that_used_it,
    factors_taken_away_end_every_session,
    devices_known_by_the_password_alone_are_forgotten,
);

async fn a_confirmation_upgrades_the_session_and_ends_the_others(backend: Backend) {
    let node = TestNode::builder(backend).await.set("notify.email=log").start().await;
    outbox_keep(&node.database).await;
    for email in [ADA, "grace@example.com"] {
        node.register_verified(email).await;
    }
    let grace = node.login("grace@example.com").await;
    let other = node.login(ADA).await;
    let other = node.refresh(&other.refresh_token).await.unwrap();
    let current = node.login(ADA).await;
    // As often as it takes for a hot record to be there, which must not go on saying what it did.
    let current = node.refresh(&current.refresh_token).await.unwrap();
    let before = node.verify(&current.access_token).await.claims.unwrap();
    assert_eq!((before.amr, &*before.acr), (vec!["pwd".to_owned()], "aal1"));

    let secret = node.totp_secret(&current.access_token).await;
    assert_alive(&node, &other).await;
    node.confirm_totp(&current.access_token, &code_now(&secret).await).await.unwrap();
    assert_dead(&node, &other).await;
    assert!(!node.verify(&current.access_token).await.active, "it says too little");
    assert!(!node.admits(&current.access_token).await);
    let mut tokens = current;
    for _ in 0..3 {
        tokens = node.refresh(&tokens.refresh_token).await.unwrap();
        let claims = node.verify(&tokens.access_token).await.claims.unwrap();
        let methods: Vec<_> = claims.amr.iter().map(String::as_str).collect();
        assert_eq!((methods, &*claims.acr), (vec!["pwd", "otp", "mfa"], "aal2"));
        assert_eq!(claims.auth_time, before.auth_time, "nobody signed in again");
    }
    assert_eq!(node.factors_of(&tokens.access_token).await, (true, 10));
    assert_alive(&node, &grace).await;

    // Without a password it is a second proof, but not of another kind.
    let owner = node.database.id(&grace.session_id.parse().unwrap());
    node.database.execute(&format!("UPDATE sessions SET amr = '[\"otp\"]' WHERE id = {owner}")).await;
    let secret = node.totp_secret(&grace.access_token).await;
    node.confirm_totp(&grace.access_token, &code_now(&secret).await).await.unwrap();
    let grace = node.refresh(&grace.refresh_token).await.unwrap_or_else(|status| panic!("{status:?}"));
    let claims = node.verify(&grace.access_token).await.claims.unwrap();
    assert_eq!((claims.amr, &*claims.acr), (vec!["otp".to_owned(), "mfa".to_owned()], "aal1"));

    for email in [ADA, "grace@example.com"] {
        assert_eq!(told_of(&node, email, &Notice::TotpEnrolled).await, 1, "{email}");
    }
    node.remove().await;
}

async fn a_factor_is_removed_by_a_session_that_used_it(backend: Backend) {
    let node = TestNode::builder(backend).await.set("notify.email=log").start().await;
    outbox_keep(&node.database).await;
    let (ada, _) = enrolled(&node, ADA).await;
    // One that was begun without the factor, as none can be any more.
    node.database.execute("UPDATE totp_factors SET confirm_time = NULL").await;
    let without = node.login(ADA).await;
    node.database.execute("UPDATE totp_factors SET confirm_time = 1").await;
    assert_eq!(refusal(node.remove_totp(&without.access_token).await), reauthenticate());
    assert_eq!(refusal(node.generate_recovery_codes(&without.access_token).await), reauthenticate());
    assert_eq!(refusal(node.enroll_totp(&without.access_token, QrCodeFormat::Png).await), reauthenticate());
    assert_eq!(node.factors_of(&ada.access_token).await, (true, 10));

    node.remove_totp(&ada.access_token).await.unwrap();
    assert_dead(&node, &without).await;
    assert_eq!(node.factors_of(&ada.access_token).await, (false, 0));
    let ada = assert_alive(&node, &ada).await;
    let claims = node.verify(&ada.access_token).await.claims.unwrap();
    assert_eq!((claims.amr.len(), &*claims.acr), (3, "aal2"), "it was signed in with both all the same");
    for table in ["totp_factors", "recovery_codes"] {
        assert_eq!(node.database.integer(&format!("SELECT COUNT(*) FROM {table}")).await, 0);
    }
    let absent = told(Code::FailedPrecondition, "TOTP_NOT_ENROLLED");
    assert_eq!(refusal(node.remove_totp(&ada.access_token).await), absent);
    assert_eq!(refusal(node.generate_recovery_codes(&ada.access_token).await), absent);
    assert_eq!(node.events("act = 'totp.removed'").await, 1);
    assert_eq!(told_of(&node, ADA, &Notice::TotpRemoved).await, 1);
    // And once more from the beginning.
    let secret = node.totp_secret(&ada.access_token).await;
    assert_eq!(node.confirm_totp(&ada.access_token, &code_now(&secret).await).await.unwrap().len(), 10);
    node.remove().await;
}

async fn factors_taken_away_end_every_session(backend: Backend) {
    let node = TestNode::builder(backend).await.set("notify.email=log").start().await;
    outbox_keep(&node.database).await;
    let admin = node.join("root", &["admin"], "").await.access_token;
    let (ada, _) = enrolled(&node, ADA).await;
    let (grace, _) = enrolled(&node, "grace@example.com").await;
    let id = node.verify(&ada.access_token).await.claims.unwrap().subject;
    remove_factors(&node, &admin, &id).await.unwrap();
    assert_dead(&node, &ada).await;
    assert_eq!(node.factors_of(&grace.access_token).await, (true, 10));
    let ada = node.login(ADA).await;
    assert_eq!(node.factors_of(&ada.access_token).await, (false, 0));
    let root = node.verify(&admin).await.claims.unwrap().subject;
    let [actor, subject] = [&root, &id].map(|id| node.database.id(&id.parse().unwrap()));
    let event = format!("act = 'user.factors_removed' AND actor_id = {actor} AND subject_id = {subject}");
    assert_eq!(node.events(&event).await, 1);
    assert_eq!(told_of(&node, ADA, &Notice::TotpRemoved).await, 1);
    // Where there is nothing to take away, nothing is done.
    remove_factors(&node, &admin, &id).await.unwrap();
    assert_alive(&node, &ada).await;
    // One that is not confirmed might be a thief's.
    let secret = node.totp_secret(&ada.access_token).await;
    let code = code_now(&secret).await;
    remove_factors(&node, &admin, &id).await.unwrap();
    assert_dead(&node, &ada).await;
    let ada = node.login(ADA).await.access_token;
    let absent = told(Code::FailedPrecondition, "TOTP_NOT_ENROLLED");
    assert_eq!(refusal(node.confirm_totp(&ada, &code).await), absent);
    assert_eq!(node.events(&event).await, 2);
    assert_eq!(told_of(&node, ADA, &Notice::TotpRemoved).await, 1, "of what counted");
    assert_eq!(node.verify_strongly(&admin).await, InactiveReason::Unspecified);
    node.remove().await;
}

async fn devices_known_by_the_password_alone_are_forgotten(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register_verified(ADA).await;
    node.register_verified("grace@example.com").await;
    // Somebody who has the password collects devices, each of which would stand guesses at the app.
    for _ in 0..3 {
        node.login(ADA).await;
    }
    let (ada, grace) = (node.login(ADA).await, node.login("grace@example.com").await);
    let devices = async || node.database.integer("SELECT COUNT(*) FROM known_devices").await;
    let secret = node.totp_secret(&ada.access_token).await;
    assert_eq!(devices().await, 5);
    node.confirm_totp(&ada.access_token, &code_now(&secret).await).await.unwrap();
    assert_eq!(devices().await, 2, "that of the session, and somebody else's");
    let on = |device_secret: &str, identifier: &str| {
        let device = Some(Device { name: "d".into(), known_device_secret: device_secret.to_owned() });
        LoginRequest { device, ..login_request(identifier, PASSWORD) }
    };
    let used = "SELECT COUNT(*) FROM known_devices WHERE id IN (SELECT device_id FROM sessions WHERE end_time IS NULL)";
    assert_eq!(node.database.integer(used).await, 2);
    let again = node.try_login(on(&grace.known_device_secret, "grace@example.com")).await.unwrap();
    assert_eq!(again.known_device_secret, grace.known_device_secret);
    node.remove().await;
}
