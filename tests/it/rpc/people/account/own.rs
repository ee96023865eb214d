//! `UpdateAccount` and `DeleteAccount`.

use tonic::{Code, Status};
use vouchsafe::{
    domain::notice::Notice,
    pb::v1::{self, InactiveReason},
};

use super::{ADA, NEW_PASSWORD, mailing, refusal, registration, signs_in};
use crate::{
    rpc::on_both_databases,
    support::{Backend, PASSWORD, TestNode, bearer, fields, reason},
};

on_both_databases!(
    people_change_what_is_known_of_them_by_its_mask,
    an_etag_guards_an_own_change,
    a_name_that_waits_for_somebody_is_taken,
    a_deleted_account_leaves_nothing_but_a_farewell,
    the_last_administrator_stays,
    a_session_that_is_gone_changes_nothing,
);

async fn update(
    node: &TestNode,
    token: &str,
    request: v1::UpdateAccountRequest,
    mask: &[&str],
) -> Result<v1::User, Status> {
    let paths = mask.iter().map(|&path| path.to_owned()).collect();
    let request = v1::UpdateAccountRequest { update_mask: Some(prost_types::FieldMask { paths }), ..request };
    Ok(node.account().await.update_account(bearer(token, request)).await?.into_inner().user.unwrap())
}

fn wanted() -> v1::UpdateAccountRequest {
    v1::UpdateAccountRequest {
        display_name: "Countess".into(),
        username: "Countess".into(),
        locale: "EN-gb".into(),
        ..v1::UpdateAccountRequest::default()
    }
}

async fn delete(node: &TestNode, token: &str) -> Result<(), Status> {
    node.account().await.delete_account(bearer(token, v1::DeleteAccountRequest {})).await.map(|_| ())
}

async fn people_change_what_is_known_of_them_by_its_mask(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.auth().await.register(registration("grace@example.com", "grace")).await.unwrap();
    node.register(ADA).await;
    let token = node.login(ADA).await.access_token;
    let user = update(&node, &token, wanted(), &["username"]).await.unwrap();
    assert_eq!((user.username.as_str(), user.display_name.as_str(), user.locale.as_str()), ("countess", "", ""));
    let user = update(&node, &token, wanted(), &["display_name", "locale"]).await.unwrap();
    assert_eq!((user.display_name.as_str(), user.locale.as_str()), ("Countess", "en-GB"));
    assert_eq!(update(&node, &token, wanted(), &["display_name"]).await.unwrap(), user, "no change, no etag");
    let unnamed = update(&node, &token, v1::UpdateAccountRequest::default(), &["username", "locale"]).await.unwrap();
    assert_eq!((unnamed.username.as_str(), unnamed.locale.as_str()), ("", ""));
    let occupied = v1::UpdateAccountRequest { username: "GRACE".into(), ..wanted() };
    let refused = update(&node, &token, occupied, &["username", "display_name"]).await;
    assert_eq!(refusal(refused), (Code::AlreadyExists, "USERNAME_TAKEN".into()));
    for mask in [&[][..], &["email"], &["username", "roles"], &["*"], &["phone_number"]] {
        assert_eq!(fields(&update(&node, &token, wanted(), mask).await.unwrap_err()), ["update_mask"], "{mask:?}");
    }
    let bad = v1::UpdateAccountRequest {
        display_name: "a\nb".into(),
        username: "a@b".into(),
        locale: "../de".into(),
        ..v1::UpdateAccountRequest::default()
    };
    let refused = update(&node, &token, bad, &["locale", "username", "display_name"]).await.unwrap_err();
    assert_eq!(fields(&refused), ["display_name", "username", "locale"]);
    let details = "SELECT CAST(detail AS TEXT) FROM audit_events WHERE act = 'account.updated' ORDER BY time, id";
    let told: Vec<serde_json::Value> =
        node.database.texts(details).await.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let listed = |fields: &[&str]| serde_json::json!({ "fields": fields });
    assert_eq!(told, [listed(&["username"]), listed(&["display_name", "locale"]), listed(&["username", "locale"])]);
    node.remove().await;
}

async fn an_etag_guards_an_own_change(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.register(ADA).await;
    let token = node.login(ADA).await.access_token;
    let etag = node.own(&token).await.etag;
    let with = |etag: &str| v1::UpdateAccountRequest { etag: etag.into(), ..wanted() };
    let changed = update(&node, &token, with(&etag), &["username"]).await.unwrap();
    let mismatch = (Code::Aborted, "ETAG_MISMATCH".to_owned());
    assert_eq!(refusal(update(&node, &token, with(&etag), &["locale"]).await), mismatch);
    assert_eq!(refusal(update(&node, &token, with("never"), &["locale"]).await), mismatch);
    update(&node, &token, with(&changed.etag), &["locale"]).await.unwrap();
    node.remove().await;
}

async fn a_name_that_waits_for_somebody_is_taken(backend: Backend) {
    let node = mailing(backend).await.set("registration.require_verified_email=true").start().await;
    node.auth().await.register(registration(ADA, "ada")).await.unwrap();
    node.verify_email(&node.code_to(ADA).await).await.unwrap();
    node.auth().await.register(registration("grace@example.com", "countess")).await.unwrap();
    let token = node.login(ADA).await.access_token;
    assert_eq!(refusal(update(&node, &token, wanted(), &["username"]).await).1, "USERNAME_TAKEN");
    node.verify_email(&node.code_to("grace@example.com").await).await.unwrap();
    assert!(signs_in(&node, "countess", PASSWORD).await);
    node.remove().await;
}

async fn a_deleted_account_leaves_nothing_but_a_farewell(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let user = node.register_verified(ADA).await;
    let verify = node.code_to(ADA).await;
    let tokens = node.login(ADA).await;
    node.ask_reset(ADA).await.unwrap();
    let reset = node.code_to(ADA).await;
    delete(&node, &tokens.access_token).await.unwrap();
    assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Revoked);
    assert_eq!(reason(&delete(&node, &tokens.access_token).await.unwrap_err()), "ACCESS_TOKEN_INVALID");
    assert!(node.refresh(&tokens.refresh_token).await.is_err());
    for table in ["users", "sessions", "mailed_codes", "email_changes"] {
        assert_eq!(node.count(table).await, 0, "{table}");
    }
    assert!(!signs_in(&node, ADA, PASSWORD).await);
    assert_eq!(super::code_invalid(), refusal(node.verify_email(&verify).await));
    assert_eq!(super::code_invalid(), refusal(node.reset(&reset, NEW_PASSWORD).await));
    assert!(node.said_to(ADA).await.last() == Some(&Notice::AccountDeleted));
    assert_eq!(node.count("outbox_kept WHERE user_id IS NULL").await, 1, "the farewell is about nobody");
    let id = node.database.id(&user.id.parse().unwrap());
    let condition = format!("act = 'account.deleted' AND actor = 'user' AND actor_id = {id} AND subject_id = {id}");
    assert_eq!(node.events(&condition).await, 1);
    assert_eq!(node.count(&format!("data_keys WHERE owner_id = {id}")).await, 0);
    node.register(ADA).await;
    node.remove().await;
}

async fn the_last_administrator_stays(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let first = node.join("root", &["admin"], "").await.access_token;
    assert_eq!(refusal(delete(&node, &first).await), (Code::FailedPrecondition, "LAST_ADMINISTRATOR".into()));
    node.join("other", &["admin"], "").await;
    delete(&node, &first).await.unwrap();
    node.remove().await;
}

/// Ended by a node that this one has not heard of yet, so that the access token still opens the door.
async fn a_session_that_is_gone_changes_nothing(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let gone = (Code::Unauthenticated, "ACCESS_TOKEN_INVALID".to_owned());
    let ends = [
        ("a@example.com", "UPDATE sessions SET end_time = 1, end_reason = 'logout' WHERE end_time IS NULL"),
        ("b@example.com", "UPDATE users SET epoch = epoch + 1"),
        ("c@example.com", "UPDATE users SET state = 'suspended'"),
    ];
    for (email, end) in ends {
        let id = node.database.id(&node.register_verified(email).await.id.parse().unwrap());
        let token = node.login(email).await.access_token;
        let phone = |number: &str| bearer(&token, v1::ChangePhoneNumberRequest { phone_number: number.into() });
        let begun = node.account().await.change_phone_number(phone("+4930123456")).await.unwrap().into_inner();
        let code = node.code_to("+4930123456").await;
        node.database.execute(&format!("UPDATE users SET phone_number = '+4930777777' WHERE id = {id}")).await;
        node.database.execute(end).await;
        let state = async || {
            let mut state = String::new();
            for table in ["users", "email_changes", "mailed_codes", "challenges", "outbox_kept"] {
                state += &node.database.dump(table).await;
            }
            state
        };
        let before = state().await;
        assert_eq!(refusal(update(&node, &token, wanted(), &["display_name"]).await), gone, "{email}");
        assert_eq!(refusal(node.change_email(&token, "new@example.com").await), gone, "{email}");
        for number in ["+4930888888", ""] {
            let refused = node.account().await.change_phone_number(phone(number)).await;
            assert_eq!(refusal(refused), gone, "{email} {number:?}");
        }
        let request = v1::VerifyPhoneNumberRequest { verification_id: begun.verification_id, code };
        let refused = node.account().await.verify_phone_number(bearer(&token, request)).await;
        assert_eq!(refusal(refused), gone, "{email}");
        assert_eq!(refusal(delete(&node, &token).await), gone, "{email}");
        assert_eq!(state().await, before, "{email}");
    }
    node.remove().await;
}
