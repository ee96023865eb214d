//! `ChangeEmail`, and `VerifyEmail` with its codes.

use std::{sync::Arc, time::Duration};

use tonic::Code;
use vouchsafe::{
    domain::notice::Notice,
    pb::v1::{self, user_admin_service_client::UserAdminServiceClient},
};

use super::{ADA, at_once, code_invalid, mailing, refusal, registration, remove, signs_in};
use crate::{
    rpc::on_both_databases,
    support::{Backend, ManualClock, PASSWORD, TestNode, bearer, fields},
};

on_both_databases!(
    an_address_changes_when_both_have_agreed,
    an_address_that_was_not_verified_has_no_say,
    an_address_that_is_verified_meanwhile_has_a_say,
    nobody_learns_from_a_change_whether_an_address_is_taken,
    an_address_that_was_taken_meanwhile_stays_where_it_is,
    a_change_takes_the_place_of_the_one_before,
    a_change_ends_with_the_account_s_state,
    a_change_takes_a_recent_sign_in,
    both_addresses_may_agree_at_once,
    whoever_can_be_sent_no_more_is_told_so,
);

const NEW: &str = "countess@example.com";

async fn an_address_changes_when_both_have_agreed(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let token = node.verified(ADA).await.access_token;
    for bad in ["ADA@example.com", "a@x.example,b@y.example", "a@x.example\nb@y.example", ""] {
        assert_eq!(fields(&node.change_email(&token, bad).await.unwrap_err()), ["new_email"], "{bad:?}");
    }
    node.ask_reset(ADA).await.unwrap();
    let reset = node.code_to(ADA).await;
    node.change_email(&token, "Countess@Example.com").await.unwrap();
    let (old, new) = (node.code_to(ADA).await, node.code_to(NEW).await);
    let Some(Notice::LeaveEmail { new_email, .. }) = node.said_to(ADA).await.pop() else { panic!() };
    assert_eq!(new_email, "Countess@Example.com");
    assert!(node.verify_email(&new).await.unwrap(), "the other one is awaited");
    assert_eq!(refusal(node.verify_email(&new).await), code_invalid());
    assert_eq!(node.own(&token).await.email, ADA);
    assert!(!node.verify_email(&old).await.unwrap());
    let user = node.own(&token).await;
    assert_eq!((user.email.as_str(), user.email_verified), ("Countess@Example.com", true), "and the session goes on");
    assert!(node.said_to(ADA).await.last() == Some(&Notice::EmailChanged), "the old address is told");
    assert_eq!(refusal(node.reset(&reset, PASSWORD).await), code_invalid(), "what was sent to the old address is over");
    assert!(!signs_in(&node, ADA, PASSWORD).await && signs_in(&node, NEW, PASSWORD).await);
    assert_eq!((node.count("email_changes").await, node.count("mailed_codes").await), (0, 0));
    assert_eq!(
        (node.events("act = 'email.changed'").await, node.events("act = 'email.change_requested'").await),
        (1, 1)
    );
    node.remove().await;
}

async fn an_address_that_was_not_verified_has_no_say(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.register(ADA).await;
    let token = node.login(ADA).await.access_token;
    node.change_email(&token, NEW).await.unwrap();
    assert_eq!(node.said_to(ADA).await.len(), 1, "the one to verify it");
    assert!(!node.verify_email(&node.code_to(NEW).await).await.unwrap());
    assert_eq!(node.own(&token).await.email, NEW);
    node.remove().await;
}

async fn nobody_learns_from_a_change_whether_an_address_is_taken(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.register("grace@example.com").await;
    let token = node.verified(ADA).await.access_token;
    let rows =
        async || [node.count("email_changes").await, node.count("mailed_codes").await, node.count("outbox_kept").await];
    let before = rows().await;
    node.change_email(&token, "grace@example.com").await.unwrap();
    assert_eq!(rows().await, [before[0] + 1, before[1] + 2, before[2] + 2]);
    assert!(node.said_to("grace@example.com").await.last() == Some(&Notice::AlreadyRegistered));
    assert!(node.verify_email(&node.code_to(ADA).await).await.unwrap(), "as if the other one were still awaited");
    assert_eq!(node.own(&token).await.email, ADA);
    node.remove().await;
}

async fn an_address_that_was_taken_meanwhile_stays_where_it_is(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let token = node.verified(ADA).await.access_token;
    node.change_email(&token, NEW).await.unwrap();
    let (old, new) = (node.code_to(ADA).await, node.code_to(NEW).await);
    node.register(NEW).await;
    assert!(node.verify_email(&old).await.unwrap());
    assert_eq!(refusal(node.verify_email(&new).await), (Code::AlreadyExists, "EMAIL_TAKEN".into()));
    assert_eq!(node.own(&token).await.email, ADA);
    node.remove().await;
}

async fn a_change_takes_the_place_of_the_one_before(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let token = node.verified(ADA).await.access_token;
    node.change_email(&token, "first@example.com").await.unwrap();
    let before = [node.code_to(ADA).await, node.code_to("first@example.com").await];
    node.change_email(&token, NEW).await.unwrap();
    for code in before {
        assert_eq!(refusal(node.verify_email(&code).await), code_invalid());
    }
    assert!(node.verify_email(&node.code_to(ADA).await).await.unwrap());
    assert!(!node.verify_email(&node.code_to(NEW).await).await.unwrap());
    assert_eq!(node.own(&token).await.email, NEW);
    node.remove().await;
}

async fn a_change_ends_with_the_account_s_state(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let root = node.join("root", &["admin"], "").await.access_token;
    let mut admin = UserAdminServiceClient::new(node.shared().await);
    let token = node.verified(ADA).await.access_token;
    let id = node.own(&token).await.id;
    node.change_email(&token, NEW).await.unwrap();
    let codes = [node.code_to(ADA).await, node.code_to(NEW).await];
    admin.suspend_user(bearer(&root, v1::SuspendUserRequest { user_id: id.clone() })).await.unwrap();
    for code in codes {
        assert_eq!(refusal(node.verify_email(&code).await), code_invalid());
    }
    admin.reactivate_user(bearer(&root, v1::ReactivateUserRequest { user_id: id.clone() })).await.unwrap();
    // An administrator changed the address meanwhile.
    let token = node.login(ADA).await.access_token;
    node.change_email(&token, NEW).await.unwrap();
    let codes = [node.code_to(NEW).await, node.code_to(ADA).await];
    let user = v1::User { id, email: "moved@example.com".into(), ..v1::User::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["email".into()] });
    admin.update_user(bearer(&root, v1::UpdateUserRequest { user: Some(user), update_mask })).await.unwrap();
    for code in codes {
        assert_eq!(refusal(node.verify_email(&code).await), code_invalid());
    }
    assert_eq!(node.own(&token).await.email, "moved@example.com");
    node.remove().await;
}

async fn a_change_takes_a_recent_sign_in(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = mailing(backend).await.clock(clock.clone()).set("tokens.access_ttl=1h").start().await;
    let tokens = node.verified(ADA).await;
    clock.advance(Duration::from_mins(11));
    node.catch_up().await;
    let expected = (Code::Unauthenticated, "REAUTHENTICATION_REQUIRED".to_owned());
    assert_eq!(refusal(node.change_email(&tokens.access_token, NEW).await), expected);
    let delete = bearer(&tokens.access_token, v1::DeleteAccountRequest {});
    assert_eq!(refusal(node.account().await.delete_account(delete).await), expected);
    let phone = bearer(&tokens.access_token, v1::ChangePhoneNumberRequest::default());
    assert_eq!(refusal(node.account().await.change_phone_number(phone).await), expected);
    assert_eq!((node.count("users").await, node.count("email_changes").await), (1, 0));
    let again = node.login(ADA).await.access_token;
    node.change_email(&again, NEW).await.unwrap();
    node.remove().await;
}

async fn both_addresses_may_agree_at_once(backend: Backend) {
    let node = Arc::new(mailing(backend).await.start().await);
    let token = node.verified(ADA).await.access_token;
    node.change_email(&token, NEW).await.unwrap();
    let codes = [node.code_to(ADA).await, node.code_to(NEW).await];
    let use_them = |node: Arc<TestNode>, n: usize| {
        let code = codes[n % 2].clone();
        async move { node.verify_email(&code).await.map(|_| ()) }
    };
    let done = at_once(&node, use_them).await;
    assert!(done.len() == 2 && done[0] % 2 != done[1] % 2, "each code once: {done:?}");
    assert_eq!((node.own(&token).await.email.as_str(), node.events("act = 'email.changed'").await), (NEW, 1));
    remove(node).await;
}

async fn whoever_can_be_sent_no_more_is_told_so(backend: Backend) {
    let node = mailing(backend).await.set("throttle.messages_per_recipient=3").start().await;
    node.auth().await.register(registration(ADA, "ada")).await.unwrap();
    node.verify_email(&node.code_to(ADA).await).await.unwrap();
    let token = node.login(ADA).await.access_token;
    for n in 0..3 {
        node.change_email(&token, &format!("{n}@example.com")).await.unwrap();
    }
    let refused = node.change_email(&token, NEW).await;
    assert_eq!(refusal(refused), (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS".into()), "the old one has no say");
    let changes = format!("email_changes WHERE new_email = '{NEW}'");
    assert_eq!((node.count(&changes).await, node.said_to(NEW).await.len()), (0, 0));
    node.remove().await;
}

async fn an_address_that_is_verified_meanwhile_has_a_say(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.register(ADA).await;
    let verify = node.code_to(ADA).await;
    // Whoever prepared the account under Ada's address wants to take it elsewhere.
    let token = node.login(ADA).await.access_token;
    node.change_email(&token, NEW).await.unwrap();
    let adopt = node.code_to(NEW).await;
    assert!(!node.verify_email(&verify).await.unwrap());
    assert_eq!(refusal(node.verify_email(&adopt).await), code_invalid());
    assert_eq!(node.own(&token).await.email, ADA);
    assert_eq!((node.count("email_changes").await, node.count("mailed_codes").await), (0, 0));
    node.remove().await;
}
