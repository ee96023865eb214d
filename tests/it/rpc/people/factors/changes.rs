//! Recovery codes, enrolments that come to nothing, and who may take factors away.

use std::collections::HashSet;

use tonic::Code;
use vouchsafe::domain::notice::Notice;

use super::{ADA, code_now, enrolled, refusal, remove_factors, told, told_of};
use crate::{
    rpc::{
        on_both_databases,
        revocation::{assert_alive, assert_dead},
    },
    support::{
        Backend, TestNode, fields,
        outbox::{outbox_is_to, outbox_keep, outbox_messages},
    },
};

on_both_databases!(
    no_program_of_before_starts_once_there_is_an_app,
    recovery_codes_are_replaced_and_only_their_hashes_kept,
    an_enrolment_that_was_not_confirmed_is_forgotten,
    only_an_administrator_who_may_takes_factors_away,
);

async fn recovery_codes_are_replaced_and_only_their_hashes_kept(backend: Backend) {
    let node = TestNode::builder(backend).await.set("notify.email=log").start().await;
    outbox_keep(&node.database).await;
    let (ada, first) = enrolled(&node, ADA).await;
    let (_, other) = enrolled(&node, "grace@example.com").await;
    let kept = node.database.dump("recovery_codes").await;
    let second = node.generate_recovery_codes(&ada.access_token).await.unwrap();
    let all: HashSet<_> = [&first, &other, &second].into_iter().flatten().collect();
    assert_eq!(all.len(), 30, "all different");
    for code in &all {
        let groups: Vec<_> = code.split('-').map(str::len).collect();
        assert!(groups == [4; 4] && !code.contains(['I', 'L', 'O', 'U']), "{code}");
    }
    assert_ne!(node.database.dump("recovery_codes").await, kept);
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM recovery_codes").await, 20);
    assert_eq!(node.factors_of(&ada.access_token).await, (true, 10));
    assert_eq!(node.events("act = 'recovery_codes.generated'").await, 1);
    assert_eq!(told_of(&node, ADA, &Notice::RecoveryCodesReplaced).await, 1);
    for table in ["recovery_codes", "audit_events", "outbox", "sessions", "users", "totp_factors"] {
        let dump = node.database.dump(table).await;
        for code in &all {
            assert!(!dump.contains(code.as_str()) && !dump.contains(&code.replace('-', "")), "{table}");
        }
    }
    assert_alive(&node, &ada).await;
    for _ in 0..6 {
        node.generate_recovery_codes(&ada.access_token).await.unwrap();
    }
    assert_eq!(told_of(&node, ADA, &Notice::RecoveryCodesReplaced).await, 5, "so many at once");
    node.database.execute("DELETE FROM recovery_codes").await;
    assert_eq!(node.factors_of(&ada.access_token).await, (true, 0));
    // Of one kind; the other is not kept away by it.
    node.database.execute("DELETE FROM totp_factors").await;
    let devices = async || {
        let messages = outbox_messages(&node.database).await;
        messages.iter().filter(|m| outbox_is_to(m, ADA) && matches!(m.notice, Notice::NewDevice { .. })).count()
    };
    let before = devices().await;
    node.login(ADA).await;
    assert_eq!(devices().await, before + 1);
    node.remove().await;
}

async fn an_enrolment_that_was_not_confirmed_is_forgotten(backend: Backend) {
    let node = TestNode::builder(backend).await.set("notify.email=log").start().await;
    outbox_keep(&node.database).await;
    node.register_verified(ADA).await;
    let (other, ada) = (node.login(ADA).await, node.login(ADA).await);
    let secret = node.totp_secret(&ada.access_token).await;
    let absent = told(Code::FailedPrecondition, "TOTP_NOT_ENROLLED");
    assert_eq!(refusal(node.generate_recovery_codes(&ada.access_token).await), absent);
    node.remove_totp(&ada.access_token).await.unwrap();
    assert_eq!(refusal(node.confirm_totp(&ada.access_token, &code_now(&secret).await).await), absent);
    assert_eq!(refusal(node.remove_totp(&ada.access_token).await), absent);
    assert_alive(&node, &ada).await;
    assert_alive(&node, &other).await;
    assert_eq!(node.events("act = 'totp.removed'").await, 1);
    assert_eq!(told_of(&node, ADA, &Notice::TotpRemoved).await, 0, "there was none");
    node.remove().await;
}

async fn only_an_administrator_who_may_takes_factors_away(backend: Backend) {
    let node = TestNode::start(backend).await;
    let role = async |name: &str, permissions: &[&str]| node.database.make_role(name, permissions).await;
    role("helpdesk", &["users:remove_factors"]).await;
    role("clerk", &["orders:read"]).await;
    role("reader", &["users:read", "users:write", "users:set_password"]).await;
    let helpdesk = node.join("helpdesk", &["helpdesk"], "").await.access_token;
    let reader = node.join("reader", &["reader"], "").await.access_token;
    let (ada, _) = enrolled(&node, ADA).await;
    let id = node.verify(&ada.access_token).await.claims.unwrap().subject;
    let denied = told(Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(refusal(remove_factors(&node, &reader, &id).await), denied);
    assert_eq!(refusal(remove_factors(&node, &ada.access_token, &id).await), denied, "not even the own");
    node.database.give_role(&id, "clerk").await;
    let exceeds = told(Code::PermissionDenied, "EXCEEDS_OWN_PERMISSIONS");
    assert_eq!(refusal(remove_factors(&node, &helpdesk, &id).await), exceeds);
    assert_eq!(fields(&remove_factors(&node, &helpdesk, "x").await.unwrap_err()), ["user_id"]);
    let nobody = "0198f0c2-0000-7000-8000-000000000000";
    assert_eq!(refusal(remove_factors(&node, &helpdesk, nobody).await), told(Code::NotFound, "USER_NOT_FOUND"));
    assert_eq!(node.factors_of(&ada.access_token).await, (true, 10));
    node.database.execute("DELETE FROM user_roles WHERE role = 'clerk'").await;
    remove_factors(&node, &helpdesk, &id).await.unwrap();
    assert_dead(&node, &ada).await;
    node.remove().await;
}

async fn no_program_of_before_starts_once_there_is_an_app(backend: Backend) {
    let node = TestNode::start(backend).await;
    let oldest = async || node.database.integer("SELECT oldest_reader FROM schema_compatibility").await;
    node.register_verified(ADA).await;
    let ada = node.login(ADA).await.access_token;
    let secret = node.totp_secret(&ada).await;
    assert_eq!(oldest().await, 1, "one that does not count yet bars nobody");
    node.confirm_totp(&ada, &code_now(&secret).await).await.unwrap();
    assert_eq!(oldest().await, 4, "the first that ask for second factors");
    // What is barred already stays so.
    node.database.execute("UPDATE schema_compatibility SET oldest_reader = 5").await;
    enrolled(&node, "grace@example.com").await;
    assert_eq!(oldest().await, 5);
    node.remove().await;
}
