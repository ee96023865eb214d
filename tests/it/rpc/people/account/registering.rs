//! `Register`, `SendEmailVerification`, and `VerifyEmail` of what was registered.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Request};
use vouchsafe::{
    crypto::monotonic_now,
    domain::notice::Notice,
    pb::v1::{self, user_admin_service_client::UserAdminServiceClient},
};

use super::{ADA, NEW_PASSWORD, at_once, code_invalid, mailing, refusal, registration, remove, signs_in};
use crate::{
    rpc::on_both_databases,
    support::{Backend, ManualClock, TestNode, bearer, fields},
};

on_both_databases!(
    an_account_exists_at_once_and_its_address_is_verified_by_mail,
    an_account_without_a_password_needs_mail,
    every_bad_field_is_named_with_the_password,
    where_addresses_must_be_verified_an_account_begins_with_its_code,
    nobody_learns_from_a_registration_whether_an_address_is_taken,
    what_an_owner_is_told_goes_with_the_account,
    no_answer_that_must_tell_nothing_comes_before_its_time,
    a_name_is_reserved_for_a_day,
    a_name_is_reserved_from_administrators_too,
    a_prepared_registration_is_of_no_use_to_whoever_prepared_it,
    a_registration_between_makes_nobody_s_password_the_account_s,
    of_two_registrations_for_a_name_or_an_address_the_faster_one_wins,
    a_code_makes_one_account_whoever_uses_it_at_once,
    a_code_ends_with_its_time,
    a_message_says_nothing_that_a_caller_sent,
    what_comes_to_nothing_uses_up_no_mail,
);

async fn an_account_exists_at_once_and_its_address_is_verified_by_mail(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let request = v1::RegisterRequest { locale: "PT-br".into(), ..registration(ADA, "ada") };
    let user = node.auth().await.register(request).await.unwrap().into_inner().user.unwrap();
    assert_eq!((user.locale.as_str(), user.email_verified, user.has_password), ("pt-BR", false, true));
    let token = node.login("ada").await.access_token;
    let first = node.code_to(ADA).await;
    assert!(first.starts_with("vev_") && first.len() == 47);
    node.send_verification("ADA@example.com").await.unwrap();
    let second = node.code_to(ADA).await;
    assert_ne!(first, second);
    // The one before is good as well: mails overtake each other.
    assert!(!node.verify_email(&first).await.unwrap());
    assert!(node.own(&token).await.email_verified);
    for used in [&first, &second] {
        assert_eq!(refusal(node.verify_email(used).await), code_invalid());
    }
    assert_eq!((node.events("act = 'email.verified'").await, node.events("act = 'code.refused'").await), (1, 2));
    // Verified, and unknown: nobody is told anything, and the answer is the same.
    for email in [ADA, "nobody@example.com"] {
        let before = (node.said_to_nobody().await, node.count("mailed_codes").await);
        node.send_verification(email).await.unwrap();
        assert_eq!((node.said_to_nobody().await, node.count("mailed_codes").await), (before.0 + 1, before.1 + 1));
    }
    assert_eq!(node.said_to(ADA).await.len(), 2);
    for bad in ["a@x.example,b@y.example", "a@x.example\nb@y.example", "a@x.example\0", "a@x.example b@y.example", ""] {
        assert_eq!(fields(&node.send_verification(bad).await.unwrap_err()), ["email"], "{bad:?}");
    }
    node.remove().await;
}

async fn an_account_without_a_password_needs_mail(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let passwordless =
        |email: &str| v1::RegisterRequest { passwordless: true, password: String::new(), ..registration(email, "") };
    let user = node.auth().await.register(passwordless(ADA)).await.unwrap().into_inner().user.unwrap();
    assert!(!user.has_password);
    assert!(!signs_in(&node, ADA, NEW_PASSWORD).await);
    let both = v1::RegisterRequest { password: NEW_PASSWORD.into(), ..passwordless("grace@example.com") };
    assert_eq!(fields(&node.auth().await.register(both).await.unwrap_err()), ["password"]);
    node.remove().await;

    let node = TestNode::builder(backend).await.set("notify.email=off").start().await;
    let unavailable = (Code::FailedPrecondition, "DELIVERY_UNAVAILABLE".to_owned());
    assert_eq!(refusal(node.auth().await.register(passwordless(ADA)).await), unavailable);
    assert_eq!(node.count("users").await, 0);
    node.register(ADA).await;
    let token = node.login(ADA).await.access_token;
    assert_eq!(refusal(node.send_verification(ADA).await), unavailable);
    assert_eq!(refusal(node.ask_reset(ADA).await), unavailable);
    assert_eq!(refusal(node.change_email(&token, "new@example.com").await), unavailable);
    assert_eq!((node.count("outbox").await, node.count("mailed_codes").await), (0, 0));
    node.remove().await;
}

async fn every_bad_field_is_named_with_the_password(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let request = v1::RegisterRequest {
        email: "a@x,b@y".into(),
        username: "-".into(),
        password: "too short".into(),
        display_name: "a\nb".into(),
        passwordless: false,
        locale: "../de".into(),
    };
    let refused = node.auth().await.register(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["email", "username", "password", "display_name", "locale"]);
    node.remove().await;
}

async fn where_addresses_must_be_verified_an_account_begins_with_its_code(backend: Backend) {
    let node = mailing(backend).await.set("registration.require_verified_email=true").start().await;
    let request = v1::RegisterRequest { display_name: "Ada".into(), locale: "de".into(), ..registration(ADA, "ada") };
    let told = node.auth().await.register(request).await.unwrap().into_inner().user.unwrap();
    assert_eq!((told.email_verified, told.has_password, node.count("users").await), (false, true, 0));
    assert!(!signs_in(&node, ADA, crate::support::PASSWORD).await);
    node.send_verification(ADA).await.unwrap();
    assert_eq!(node.said_to(ADA).await.len(), 2);
    assert!(!node.verify_email(&node.code_to(ADA).await).await.unwrap());
    let user = node.own(&node.login("ada").await.access_token).await;
    assert_eq!((&user.id, user.email_verified, user.locale.as_str()), (&told.id, true, "de"));
    assert_eq!(user.display_name, "Ada");
    assert_eq!((node.count("registrations").await, node.count("mailed_codes").await), (0, 0), "it is an account now");
    assert_eq!((node.events("act = 'user.registered'").await, node.events("act = 'email.verified'").await), (1, 1));
    node.remove().await;
}

async fn nobody_learns_from_a_registration_whether_an_address_is_taken(backend: Backend) {
    let node = mailing(backend).await.set("registration.require_verified_email=true").start().await;
    node.auth().await.register(registration(ADA, "ada")).await.unwrap();
    node.verify_email(&node.code_to(ADA).await).await.unwrap();
    let ask = async |email: &str, name: &str| {
        let before =
            (node.count("registrations").await, node.count("mailed_codes").await, node.count("outbox_kept").await);
        let user = node.auth().await.register(registration(email, name)).await.unwrap().into_inner().user.unwrap();
        let after =
            (node.count("registrations").await, node.count("mailed_codes").await, node.count("outbox_kept").await);
        assert_eq!(after, (before.0 + 1, before.1 + 1, before.2 + 1), "{email}");
        let blank = |user: v1::User| v1::User {
            id: String::new(),
            email: String::new(),
            username: String::new(),
            create_time: None,
            update_time: None,
            ..user
        };
        blank(user)
    };
    assert_eq!(ask(ADA, "first").await, ask("nobody@example.com", "second").await);
    // Nor by what is reserved.
    for (email, name) in [(ADA, "second"), ("other@example.com", "first"), ("other@example.com", "ada")] {
        let refused = node.auth().await.register(registration(email, name)).await;
        assert_eq!(refusal(refused), (Code::AlreadyExists, "USERNAME_TAKEN".into()));
    }
    assert!(node.said_to(ADA).await.last() == Some(&Notice::AlreadyRegistered));
    // Nothing leads to what was registered for an address that has an account.
    node.send_verification(ADA).await.unwrap();
    assert_eq!((node.said_to(ADA).await.len(), node.count("users").await), (2, 1));
    node.remove().await;
}

/// That it comes at a full step is a matter of the function that waits for one; here, that all of them wait. None can come too early
/// by chance: nothing sleeps for less than it is told to.
async fn no_answer_that_must_tell_nothing_comes_before_its_time(backend: Backend) {
    let step = Duration::from_millis(20);
    let node =
        mailing(backend).await.set("registration.require_verified_email=true").set("login.codes=email").start().await;
    node.auth().await.register(registration(ADA, "ada")).await.unwrap();
    node.verify_email(&node.code_to(ADA).await).await.unwrap();
    for email in [ADA, "nobody@example.com"] {
        let began = monotonic_now();
        node.ask_reset(email).await.unwrap();
        let asked = monotonic_now();
        node.send_verification(email).await.unwrap();
        let verified = monotonic_now();
        node.signin_send(email, v1::CodeChannel::Email).await.unwrap();
        let sent = monotonic_now();
        node.auth().await.register(registration(email, "")).await.unwrap();
        let registered = monotonic_now();
        // An error as well.
        node.signin_send(email, v1::CodeChannel::Sms).await.unwrap_err();
        let refused = monotonic_now();
        for (before, after) in
            [(began, asked), (asked, verified), (verified, sent), (sent, registered), (registered, refused)]
        {
            assert!(after.duration_since(before) >= step, "{email}");
        }
    }
    node.remove().await;
}

async fn what_an_owner_is_told_goes_with_the_account(backend: Backend) {
    let node = mailing(backend).await.set("registration.require_verified_email=true").start().await;
    let mut about = Vec::new();
    for (email, name) in [(ADA, "ada"), ("grace@example.com", "grace")] {
        node.auth().await.register(registration(email, name)).await.unwrap();
        node.verify_email(&node.code_to(email).await).await.unwrap();
        let id = node.own(&node.login(name).await.access_token).await.id;
        about.push(node.database.id(&id.parse().unwrap()));
    }
    // By one who registers with her address, and by one who wants to have it.
    node.auth().await.register(registration(ADA, "other")).await.unwrap();
    let grace = node.login("grace").await.access_token;
    node.change_email(&grace, ADA).await.unwrap();
    let told = node.said_to(ADA).await;
    assert_eq!(told.iter().filter(|notice| **notice == Notice::AlreadyRegistered).count(), 2);
    // Her verification was a registration's, and there are no news of her but these two.
    let kept = format!("SELECT COUNT(*) FROM outbox_kept WHERE user_id = {}", about[0]);
    assert_eq!(node.database.integer(&kept).await, 2, "what is about her goes with her");
    let codes = format!("SELECT COUNT(*) FROM mailed_codes WHERE user_id = {}", about[0]);
    assert_eq!(node.database.integer(&codes).await, 0, "but no code is hers");
    node.remove().await;
}

async fn a_name_is_reserved_for_a_day(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let builder = mailing(backend).await.clock(clock.clone());
    let node = builder.set("registration.require_verified_email=true").start().await;
    node.auth().await.register(registration(ADA, "ada")).await.unwrap();
    let other = || registration("grace@example.com", "ada");
    assert_eq!(refusal(node.auth().await.register(other()).await).1, "USERNAME_TAKEN");
    clock.advance(Duration::from_hours(24));
    node.auth().await.register(other()).await.unwrap();
    assert_eq!(node.database.texts("SELECT email FROM registrations").await, ["grace@example.com"]);
    node.remove().await;
}

async fn a_name_is_reserved_from_administrators_too(backend: Backend) {
    let node = mailing(backend).await.set("registration.require_verified_email=true").start().await;
    node.auth().await.register(registration("root@example.com", "root")).await.unwrap();
    node.verify_email(&node.code_to("root@example.com").await).await.unwrap();
    assert_eq!(
        node.database
            .execute("INSERT INTO user_roles (user_id, role, assign_time) SELECT id, 'admin', 0 FROM users")
            .await,
        1
    );
    let root = node.login("root").await.access_token;
    node.auth().await.register(registration(ADA, "ada")).await.unwrap();
    let mut users = UserAdminServiceClient::new(node.shared().await);
    let create = |username: &str| v1::CreateUserRequest {
        email: "grace@example.com".into(),
        username: username.into(),
        password: NEW_PASSWORD.into(),
        request_id: uuid::Uuid::from_u128(7 + username.len() as u128).to_string(),
        ..v1::CreateUserRequest::default()
    };
    let taken = (Code::AlreadyExists, "USERNAME_TAKEN".to_owned());
    assert_eq!(refusal(users.create_user(bearer(&root, create("ada"))).await), taken);
    let grace = users.create_user(bearer(&root, create("grace"))).await.unwrap().into_inner().user.unwrap();
    let update_mask = Some(prost_types::FieldMask { paths: vec!["username".into()] });
    let user = Some(v1::User { username: "ada".into(), ..grace });
    let update = v1::UpdateUserRequest { user, update_mask };
    assert_eq!(refusal(users.update_user(bearer(&root, update)).await), taken);
    // So it is there for whom it is kept.
    node.verify_email(&node.code_to(ADA).await).await.unwrap();
    assert!(signs_in(&node, "ada", crate::support::PASSWORD).await);
    node.remove().await;
}

async fn a_prepared_registration_is_of_no_use_to_whoever_prepared_it(backend: Backend) {
    let node = mailing(backend).await.set("registration.require_verified_email=true").start().await;
    node.auth().await.register(registration(ADA, "mallory")).await.unwrap();
    let owner = v1::RegisterRequest { password: NEW_PASSWORD.into(), ..registration(ADA, "ada") };
    node.auth().await.register(owner).await.unwrap();
    let prepared: Vec<_> = node.said_to(ADA).await;
    assert_eq!(prepared.len(), 2);
    node.verify_email(&node.code_to(ADA).await).await.unwrap();
    // Which of the two passwords is the owner's, nobody can tell.
    for identifier in [ADA, "ada", "mallory"] {
        for password in [crate::support::PASSWORD, NEW_PASSWORD] {
            assert!(!signs_in(&node, identifier, password).await);
        }
    }
    node.ask_reset(ADA).await.unwrap();
    node.reset(&node.code_to(ADA).await, NEW_PASSWORD).await.unwrap();
    assert!(signs_in(&node, "ada", NEW_PASSWORD).await && !signs_in(&node, "mallory", NEW_PASSWORD).await);
    let Notice::VerifyEmail { code } = &prepared[0] else { panic!() };
    assert_eq!(refusal(node.verify_email(code).await), code_invalid());
    assert_eq!((node.count("users").await, node.count("registrations").await), (1, 0));
    node.remove().await;
}

async fn a_registration_between_makes_nobody_s_password_the_account_s(backend: Backend) {
    const MALLORY_S: &str = "wholly different staple of mine";
    let clock = Arc::new(ManualClock::new());
    let builder = mailing(backend).await.clock(clock.clone());
    let node = builder.set("registration.require_verified_email=true").start().await;
    let ada_s = crate::support::PASSWORD;
    for (email, expired) in [(ADA, false), ("grace@example.com", true)] {
        let name = email.split_once('@').unwrap().0;
        node.auth().await.register(registration(email, name)).await.unwrap();
        clock.advance(Duration::from_hours(1));
        let other = v1::RegisterRequest { password: MALLORY_S.into(), ..registration(email, &format!("{name}-x")) };
        node.auth().await.register(other).await.unwrap();
        if expired {
            // Of what waited only the stranger's does.
            clock.advance(Duration::from_hours(23));
        }
        // The owner asks again, and gets the code of the newest.
        node.send_verification(email).await.unwrap();
        node.verify_email(&node.code_to(email).await).await.unwrap();
        for password in [ada_s, MALLORY_S] {
            assert!(!signs_in(&node, email, password).await, "{email}");
        }
        node.ask_reset(email).await.unwrap();
        node.reset(&node.code_to(email).await, ada_s).await.unwrap();
        assert!(signs_in(&node, email, ada_s).await && !signs_in(&node, email, MALLORY_S).await);
    }
    assert_eq!((node.count("users").await, node.count("registrations").await), (2, 0));
    node.remove().await;
}

async fn of_two_registrations_for_a_name_or_an_address_the_faster_one_wins(backend: Backend) {
    let node = mailing(backend).await.set("registration.require_verified_email=true").start().await;
    for (email, name, why) in [("one@example.com", "one", "EMAIL_TAKEN"), ("two@example.com", "two", "USERNAME_TAKEN")]
    {
        node.auth().await.register(registration(email, name)).await.unwrap();
        let code = node.code_to(email).await;
        // An administrator was faster.
        let id = node.database.id(&uuid::Uuid::from_u128(email.len() as u128 + u128::from(name.as_bytes()[0])));
        let address = if why == "EMAIL_TAKEN" { email } else { "faster@example.com" };
        let columns = "id, email, email_key, username, display_name, state, epoch, create_time, update_time";
        let username = if why == "EMAIL_TAKEN" { "faster" } else { name };
        let values = format!("{id}, '{address}', '{address}', '{username}', '', 'active', 1, 0, 0");
        node.database.execute(&format!("INSERT INTO users ({columns}) VALUES ({values})")).await;
        assert_eq!(refusal(node.verify_email(&code).await), (Code::AlreadyExists, why.into()));
        assert_eq!(refusal(node.verify_email(&code).await), code_invalid());
    }
    assert_eq!((node.count("registrations").await, node.count("users").await), (0, 2));
    node.remove().await;
}

async fn a_code_makes_one_account_whoever_uses_it_at_once(backend: Backend) {
    let node = Arc::new(mailing(backend).await.set("registration.require_verified_email=true").start().await);
    node.auth().await.register(registration(ADA, "ada")).await.unwrap();
    let code = node.code_to(ADA).await;
    let use_it = |node: Arc<TestNode>, _| {
        let code = code.clone();
        async move { node.verify_email(&code).await.map(|_| ()) }
    };
    assert_eq!(at_once(&node, use_it).await.len(), 1);
    assert_eq!((node.events("act = 'user.registered'").await, node.count("users").await), (1, 1));
    remove(node).await;
}

async fn a_code_ends_with_its_time(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = mailing(backend).await.clock(clock.clone()).start().await;
    node.register(ADA).await;
    let code = node.code_to(ADA).await;
    clock.advance(Duration::from_hours(24) - Duration::from_secs(1));
    node.register("grace@example.com").await;
    let other = node.code_to("grace@example.com").await;
    clock.advance(Duration::from_secs(1));
    assert_eq!(refusal(node.verify_email(&code).await), code_invalid());
    clock.advance(Duration::from_hours(23));
    assert!(!node.verify_email(&other).await.unwrap());
    // One that is of no purpose here, and none at all.
    node.ask_reset(ADA).await.unwrap();
    let reset = node.code_to(ADA).await;
    for bad in [reset.as_str(), &reset.replace("vpr_", "vev_"), "vev_", "' OR 1=1 --"] {
        assert_eq!(refusal(node.verify_email(bad).await), code_invalid(), "{bad}");
    }
    assert_eq!(fields(&node.verify_email("").await.unwrap_err()), ["code"]);
    assert_eq!(fields(&node.verify_email(&"x".repeat(300)).await.unwrap_err()), ["code"]);
    node.reset(&reset, NEW_PASSWORD).await.unwrap();
    node.remove().await;
}

async fn a_message_says_nothing_that_a_caller_sent(backend: Backend) {
    let node = mailing(backend).await.start().await;
    node.register(ADA).await;
    let mut request = Request::new(v1::RequestPasswordResetRequest { identifier: ADA.into() });
    for name in ["host", "x-forwarded-host", "forwarded", "referer", "origin"] {
        request.metadata_mut().insert(name, "evil.example".parse().unwrap());
    }
    node.auth().await.request_password_reset(request).await.unwrap();
    let said = node.said_to(ADA).await;
    let text = serde_json::to_string(said.last().unwrap()).unwrap();
    assert!(text.contains("vpr_") && !text.contains("evil"), "a message is a kind and a code");
    node.remove().await;
}

async fn what_comes_to_nothing_uses_up_no_mail(backend: Backend) {
    for required in [false, true] {
        let required = format!("registration.require_verified_email={required}");
        let node = mailing(backend).await.set("throttle.messages_per_recipient=3").set(&required).start().await;
        node.auth().await.register(registration("grace@example.com", "grace")).await.unwrap();
        for _ in 0..5 {
            assert_eq!(refusal(node.auth().await.register(registration(ADA, "grace")).await).1, "USERNAME_TAKEN");
        }
        node.auth().await.register(registration(ADA, "ada")).await.unwrap();
        assert_eq!(node.said_to(ADA).await.len(), 1, "{required}");
        node.remove().await;
    }
}
