//! `RequestPasswordReset` and `ResetPassword`.

use std::{sync::Arc, time::Duration};

use tonic::Code;
use vouchsafe::{
    domain::notice::Notice,
    pb::v1::{self, InactiveReason},
};

use super::{
    ADA, NEW_PASSWORD, at_once, break_forgetting, code_invalid, mailing, mend_forgetting, refusal, registration,
    remove, signs_in,
};
use crate::{
    rpc::on_both_databases,
    support::{Backend, ManualClock, PASSWORD, TestNode, bearer, fields, reason},
};

on_both_databases!(
    a_reset_sets_the_password_and_ends_everything_that_was_open,
    nobody_learns_from_a_reset_whether_there_is_an_account,
    a_password_that_will_not_do_leaves_the_code_good,
    a_code_sets_one_password_whoever_uses_it_at_once,
    a_code_is_good_for_nothing_after_what_it_is_bound_to_has_changed,
    the_newest_three_codes_are_good,
    a_code_ends_after_half_an_hour,
    a_reset_keeps_the_second_factor,
    a_first_proof_of_the_address_takes_away_a_phone_number,
    a_suspended_account_is_not_reset,
    a_reset_is_done_with_all_that_goes_with_it_or_not_at_all,
    what_is_done_is_not_called_undone_because_a_failure_is_remembered,
);

async fn a_reset_sets_the_password_and_ends_everything_that_was_open(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let user = node.auth().await.register(registration(ADA, "ada")).await.unwrap().into_inner().user.unwrap();
    let verify = node.code_to(ADA).await;
    let tokens = node.login(ADA).await;
    let id = node.database.id(&user.id.parse().unwrap());
    for sql in [
        format!(
            "INSERT INTO known_devices (id, user_id, secret_hash, create_time, last_used_time) VALUES ({id}, {id}, {}, 0, 0)",
            node.database.bytes("00")
        ),
        format!(
            "INSERT INTO challenges (handle_hash, kind, user_id, epoch, pending, failures, create_time, expire_time) \
             VALUES ({}, 'login_code', {id}, 1, '{{}}', 0, 0, 9000000000000000)",
            node.database.bytes("00")
        ),
    ] {
        assert_eq!(node.database.execute(&sql).await, 1);
    }
    node.ask_reset("ADA").await.unwrap();
    let code = node.code_to(ADA).await;
    assert!(code.starts_with("vpr_") && code.len() == 47);
    node.reset(&code, NEW_PASSWORD).await.unwrap();
    assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Revoked);
    assert_eq!(reason(&node.refresh(&tokens.refresh_token).await.unwrap_err()), "SESSION_REVOKED");
    for table in ["known_devices", "challenges", "mailed_codes"] {
        assert_eq!(node.count(table).await, 0, "{table}");
    }
    assert!(!signs_in(&node, ADA, PASSWORD).await && signs_in(&node, ADA, NEW_PASSWORD).await);
    for used in [&code, &verify] {
        assert_eq!(refusal(node.reset(used, PASSWORD).await), code_invalid());
    }
    assert_eq!(refusal(node.verify_email(&verify).await), code_invalid());
    assert!(node.said_to(ADA).await.contains(&Notice::PasswordChanged));
    let acts = format!("SELECT act FROM audit_events WHERE subject_id = {id} ORDER BY time, id");
    let own = node.database.texts(&acts).await;
    for act in ["password.reset_requested", "password.reset", "email.verified"] {
        assert_eq!(own.iter().filter(|there| *there == act).count(), 1, "{act} in {own:?}");
    }
    node.remove().await;
}

async fn nobody_learns_from_a_reset_whether_there_is_an_account(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.auth().await.register(registration(ADA, "ada")).await.unwrap();
    for (identifier, told) in [("ada", 1), ("nobody", 0), ("nobody@example.com", 0), ("no name at all", 0)] {
        let rows = async || {
            [
                node.count("mailed_codes").await,
                node.count("outbox_kept").await,
                node.events("act = 'password.reset_requested'").await,
            ]
        };
        let (before, said) = (rows().await, node.said_to(ADA).await.len());
        node.ask_reset(identifier).await.unwrap();
        assert_eq!(rows().await, before.map(|count| count + 1), "{identifier}");
        assert_eq!(node.said_to(ADA).await.len() - said, told, "{identifier}");
    }
    assert_eq!(fields(&node.ask_reset("").await.unwrap_err()), ["identifier"]);
    assert_eq!(fields(&node.ask_reset(&"x".repeat(1025)).await.unwrap_err()), ["identifier"]);
    // More than one address is nobody's.
    for bad in ["ada@example.com,mallory@example.com", "ada@example.com\nmallory@example.com", "ada@example.com\0"] {
        let before = node.said_to(ADA).await.len();
        node.ask_reset(bad).await.unwrap();
        assert_eq!(node.said_to(ADA).await.len(), before, "{bad:?}");
        assert!(node.said_to("mallory@example.com").await.is_empty());
    }
    node.remove().await;
}

async fn a_password_that_will_not_do_leaves_the_code_good(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.register(ADA).await;
    node.ask_reset(ADA).await.unwrap();
    let code = node.code_to(ADA).await;
    for bad in ["", "too short", &"x".repeat(1025)] {
        assert_eq!(fields(&node.reset(&code, bad).await.unwrap_err()), ["new_password"]);
    }
    assert_eq!(fields(&node.reset("", "").await.unwrap_err()), ["code", "new_password"]);
    // The password is not looked at before the code.
    assert_eq!(refusal(node.reset("vpr_x", "too short").await), code_invalid());
    node.reset(&code, NEW_PASSWORD).await.unwrap();
    node.remove().await;
}

async fn a_code_sets_one_password_whoever_uses_it_at_once(backend: Backend) {
    let node = Arc::new(mailing(backend).await.start().await);
    let id = node.register(ADA).await.id;
    node.ask_reset(ADA).await.unwrap();
    let code = node.code_to(ADA).await;
    let password = |n: usize| format!("{NEW_PASSWORD} {n}");
    let use_it = |node: Arc<TestNode>, n| {
        let (code, password) = (code.clone(), password(n));
        async move { node.reset(&code, &password).await }
    };
    let done = at_once(&node, use_it).await;
    assert_eq!((done.len(), node.events("act = 'password.reset'").await), (1, 1));
    let id = node.database.id(&id.parse().unwrap());
    assert_eq!(node.database.integer(&format!("SELECT epoch FROM users WHERE id = {id}")).await, 2);
    assert!(signs_in(&node, ADA, &password(done[0])).await && !signs_in(&node, ADA, &password(done[0] + 1)).await);
    remove(node).await;
}

async fn a_code_is_good_for_nothing_after_what_it_is_bound_to_has_changed(backend: Backend) {
    let node = mailing(backend).await.set("passwords.history=0").start().await;
    let id = node.register(ADA).await.id;
    let code = async || {
        node.ask_reset(ADA).await.unwrap();
        node.code_to(ADA).await
    };
    // An older one, after a newer one was used.
    let (older, newer) = (code().await, code().await);
    node.reset(&newer, NEW_PASSWORD).await.unwrap();
    assert_eq!(refusal(node.reset(&older, PASSWORD).await), code_invalid());
    // After the password was changed by its owner.
    let before = code().await;
    let token = node.try_login(crate::support::login_request(ADA, NEW_PASSWORD)).await.unwrap().access_token;
    node.change_password(&token, NEW_PASSWORD, PASSWORD).await.unwrap();
    assert_eq!(refusal(node.reset(&before, NEW_PASSWORD).await), code_invalid());
    // After an administrator gave the account another address.
    let before = code().await;
    let id = node.database.id(&id.parse().unwrap());
    let set = "email = 'grace@example.com', email_key = 'grace@example.com'";
    assert_eq!(node.database.execute(&format!("UPDATE users SET {set} WHERE id = {id}")).await, 1);
    assert_eq!(refusal(node.reset(&before, NEW_PASSWORD).await), code_invalid());
    // It was somebody else's, whatever is done with it.
    node.register("mallory@example.com").await;
    node.ask_reset("mallory@example.com").await.unwrap();
    node.reset(&node.code_to("mallory@example.com").await, NEW_PASSWORD).await.unwrap();
    assert!(signs_in(&node, "mallory@example.com", NEW_PASSWORD).await);
    assert!(signs_in(&node, "grace@example.com", PASSWORD).await);
    node.remove().await;
}

async fn the_newest_three_codes_are_good(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = mailing(backend).await.clock(clock.clone()).start().await;
    node.register(ADA).await;
    let mut codes = Vec::new();
    for _ in 0..4 {
        clock.advance(Duration::from_mins(5));
        node.ask_reset(ADA).await.unwrap();
        codes.push(node.code_to(ADA).await);
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM mailed_codes WHERE purpose = 'reset'").await, 3);
    assert_eq!(refusal(node.reset(&codes[0], NEW_PASSWORD).await), code_invalid());
    node.reset(&codes[1], NEW_PASSWORD).await.unwrap();
    // One before was used: what came after it is good for nothing.
    for later in &codes[2..] {
        assert_eq!(refusal(node.reset(later, PASSWORD).await), code_invalid());
    }
    assert!(signs_in(&node, ADA, NEW_PASSWORD).await);
    node.remove().await;
}

async fn a_code_ends_after_half_an_hour(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = mailing(backend).await.clock(clock.clone()).start().await;
    node.register(ADA).await;
    node.ask_reset(ADA).await.unwrap();
    let code = node.code_to(ADA).await;
    clock.advance(Duration::from_mins(30));
    assert_eq!(refusal(node.reset(&code, NEW_PASSWORD).await), code_invalid());
    clock.set(vouchsafe::domain::time::Clock::now(&*clock).minus(Duration::from_secs(1)));
    node.reset(&code, NEW_PASSWORD).await.unwrap();
    node.remove().await;
}

async fn a_reset_keeps_the_second_factor(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let user = node.register(ADA).await;
    let id = node.database.id(&user.id.parse().unwrap());
    let columns = "user_id, id, seed_sealed, create_time, confirm_time, last_step";
    let values = format!("{id}, {id}, {}, 0, 0, 0", node.database.bytes("00"));
    assert_eq!(node.database.execute(&format!("INSERT INTO totp_factors ({columns}) VALUES ({values})")).await, 1);
    node.ask_reset(ADA).await.unwrap();
    node.reset(&node.code_to(ADA).await, NEW_PASSWORD).await.unwrap();
    let confirmed = "SELECT COUNT(*) FROM totp_factors WHERE confirm_time IS NOT NULL";
    assert_eq!(node.database.integer(confirmed).await, 1);
    node.remove().await;
}

async fn a_first_proof_of_the_address_takes_away_a_phone_number(backend: Backend) {
    let node = mailing(backend).await.start().await;
    // Of two, the number of one was there before its owner had proved the address: perhaps whoever prepared the account has it.
    let prepared = node.register(ADA).await;
    let owned = node.register_verified("grace@example.com").await;
    for user in [prepared, owned] {
        let id = node.database.id(&user.id.parse().unwrap());
        let sql = format!("UPDATE users SET phone_number = '+4930123456' WHERE id = {id}");
        assert_eq!(node.database.execute(&sql).await, 1);
    }
    for (email, number) in [(ADA, ""), ("grace@example.com", "+4930123456")] {
        node.ask_reset(email).await.unwrap();
        node.reset(&node.code_to(email).await, NEW_PASSWORD).await.unwrap();
        let login = crate::support::login_request(email, NEW_PASSWORD);
        let user = node.own(&node.try_login(login).await.unwrap().access_token).await;
        assert_eq!((user.phone_number.as_str(), user.email_verified), (number, true), "{email}");
        // It is in the trail, once, and only of whom it was taken from.
        assert_eq!(node.events("act = 'phone_number.changed'").await, 1, "{email}");
    }
    // Where there was none, none was taken away.
    node.register("bob@example.com").await;
    node.ask_reset("bob@example.com").await.unwrap();
    node.reset(&node.code_to("bob@example.com").await, NEW_PASSWORD).await.unwrap();
    assert_eq!(node.events("act = 'phone_number.changed'").await, 1);
    node.remove().await;
}

async fn a_suspended_account_is_not_reset(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let root = node.join("root", &["admin"], "").await;
    let user = node.register(ADA).await;
    node.ask_reset(ADA).await.unwrap();
    let before = node.code_to(ADA).await;
    let mut admin = v1::user_admin_service_client::UserAdminServiceClient::new(node.shared().await);
    let token = root.access_token;
    let request = v1::SuspendUserRequest { user_id: user.id.clone() };
    admin.suspend_user(crate::support::bearer(&token, request)).await.unwrap();
    let said = node.said_to(ADA).await.len();
    node.ask_reset(ADA).await.unwrap();
    node.send_verification(ADA).await.unwrap();
    assert_eq!(node.said_to(ADA).await.len(), said, "nobody is told anything");
    assert_eq!(refusal(node.reset(&before, NEW_PASSWORD).await), code_invalid());
    let request = v1::ReactivateUserRequest { user_id: user.id };
    admin.reactivate_user(crate::support::bearer(&token, request)).await.unwrap();
    assert!(signs_in(&node, ADA, PASSWORD).await);
    node.remove().await;
}

async fn a_reset_is_done_with_all_that_goes_with_it_or_not_at_all(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.auth().await.register(registration(ADA, "ada")).await.unwrap();
    for identifier in [ADA, "ada"] {
        for _ in 0..2 {
            assert!(!signs_in(&node, identifier, NEW_PASSWORD).await);
        }
    }
    node.ask_reset(ADA).await.unwrap();
    let code = node.code_to(ADA).await;
    let said = node.said_to(ADA).await.len();
    break_forgetting(&node.database, 2).await;
    assert_eq!(refusal(node.reset(&code, NEW_PASSWORD).await), (Code::Internal, "INTERNAL".into()));
    mend_forgetting(&node.database).await;
    assert_eq!((node.events("act = 'password.reset'").await, node.said_to(ADA).await.len()), (0, said));
    // The code is as good as before, and the failures are forgotten with it.
    node.reset(&code, NEW_PASSWORD).await.unwrap();
    assert_eq!(node.count("throttles").await, 0);
    assert!(signs_in(&node, "ada", NEW_PASSWORD).await);
    node.remove().await;
}

async fn what_is_done_is_not_called_undone_because_a_failure_is_remembered(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.register(ADA).await;
    let token = node.login(ADA).await.access_token;
    // What was admitted counts as a failure until it is forgotten, and that is refused.
    break_forgetting(&node.database, 1).await;
    assert!(!node.verify_email(&node.code_to(ADA).await).await.unwrap());
    let change = v1::ChangePhoneNumberRequest { phone_number: "+4930123456".into() };
    let id =
        node.account().await.change_phone_number(bearer(&token, change)).await.unwrap().into_inner().verification_id;
    let code = node.code_to("+4930123456").await;
    let verify = v1::VerifyPhoneNumberRequest { verification_id: id, code };
    node.account().await.verify_phone_number(bearer(&token, verify)).await.unwrap();
    let user = node.own(&token).await;
    assert_eq!((user.email_verified, user.phone_number.as_str()), (true, "+4930123456"));
    assert!(node.count("throttles").await > 0, "nothing was forgotten");
    node.remove().await;
}
