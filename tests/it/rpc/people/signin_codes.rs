//! `SendLoginCode`: signing in with a code that was sent.

use std::{sync::Arc, time::Duration};

use vouchsafe::{
    domain::{notice::Notice, time::Clock as _},
    pb::v1::{self, ChallengeFactor, CodeChannel, complete_challenge_response::Outcome},
};

use crate::{
    rpc::{on_both_databases, revocation},
    support::{
        Backend, ManualClock, PASSWORD, TestDatabase, TestNode, TestNodeBuilder, bearer, fields, login_request,
        outbox::{outbox_code, outbox_is_to, outbox_keep, outbox_messages},
        reason,
        signin::{signin_app, signin_recovery, signin_sent, signin_totp},
    },
};

on_both_databases!(
    a_mailed_code_signs_in_once,
    an_sms_code_signs_in_and_proves_no_address,
    a_second_factor_is_asked_for_after_a_code_as_well,
    whoever_reads_the_mail_takes_over_an_account_that_was_prepared,
    of_twenty_answers_at_once_one_wins,
    what_changes_meanwhile_ends_the_code,
    a_code_is_the_way_back_in_however_often_passwords_were_guessed_at,
    strangers_who_ask_for_messages_keep_no_owner_from_a_code,
    devices_cost_nothing_and_get_their_account_no_more_messages,
    messages_on_a_known_device_count_for_its_address,
    a_number_that_is_gone_ends_what_was_sent_there,
    what_is_not_sent_is_refused_whoever_asks,
    a_code_that_is_beyond_the_budget_is_not_sent_and_that_does_not_show,
);

async fn change(node: &TestNode, what: &str, user: &v1::User) {
    let id = node.database.id(&user.id.parse().unwrap());
    assert_eq!(node.database.execute(&format!("UPDATE users SET {what} WHERE id = {id}")).await, 1);
}

async fn account(node: &TestNode, tokens: &v1::TokenPair) -> v1::User {
    let request = bearer(&tokens.access_token, v1::GetAccountRequest {});
    node.account().await.get_account(request).await.unwrap().into_inner().user.unwrap()
}

async fn a_mailed_code_signs_in_once(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock)
        .await
        .set("tokens.audiences=vouchsafe,orders")
        .set("tokens.scopes=read");
    let node = node.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register("Ada@example.com").await;
    change(&node, "password_hash = NULL", &ada).await;
    let request = v1::SendLoginCodeRequest {
        identifier: "ada@EXAMPLE.com".into(),
        device: Some(v1::Device { name: "phone".into(), ..v1::Device::default() }),
        audience: vec!["vouchsafe".into(), "orders".into()],
        scope: "read".into(),
        ..v1::SendLoginCodeRequest::default()
    };
    let challenge = node.auth().await.send_login_code(request).await.unwrap().into_inner().challenge.unwrap();
    assert_eq!(challenge.factors, [i32::from(ChallengeFactor::OneTimeCode)]);
    assert_eq!(challenge.expire_time.unwrap().seconds, clock.now().as_seconds() + 600);
    let code = outbox_code(&node.database, "ada@example.com").await;
    assert!(code.len() == 8 && code.bytes().all(|b| b.is_ascii_digit()));
    assert!(!node.database.dump("challenges").await.contains(&code));
    let wrong = node.signin_answer(&challenge.challenge_id, signin_totp(&code)).await.unwrap_err();
    assert_eq!(reason(&wrong), "CODE_INVALID", "it is no code of an app");
    let typed = format!(" {} {}\n", &code[..4], &code[4..]);
    let tokens = node.signin_finish(&challenge.challenge_id, signin_sent(typed)).await.unwrap();
    assert_eq!(node.signin_said(&tokens).await, "otp aal1");
    let claims = node.verify(&tokens.access_token).await.claims.unwrap();
    assert_eq!((claims.audience.join(" ").as_str(), claims.scope.as_str()), ("vouchsafe orders", "read"));
    assert!(account(&node, &tokens).await.email_verified, "whoever reads the mail has the address");
    assert_eq!(node.sessions(&tokens.access_token).await[0].device_name, "phone");
    for act in ["login.code_requested", "email.verified", "login.succeeded"] {
        assert_eq!(node.events(&format!("act = '{act}'")).await, 1, "{act}");
    }
    let again = node.signin_answer(&challenge.challenge_id, signin_sent(code)).await.unwrap_err();
    assert_eq!(reason(&again), "CHALLENGE_INVALID");
    node.remove().await;
}

async fn an_sms_code_signs_in_and_proves_no_address(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register("ada@example.com").await;
    change(&node, "phone_number = '+4930123456'", &ada).await;
    let by_sms = async |node: &TestNode| {
        let challenge = node.signin_send("ada@example.com", CodeChannel::Sms).await.unwrap().challenge_id;
        let code = outbox_code(&node.database, "+4930123456").await;
        node.signin_finish(&challenge, signin_sent(code)).await
    };
    let tokens = by_sms(&node).await.unwrap();
    assert_eq!(node.signin_said(&tokens).await, "sms aal1");
    assert!(!account(&node, &tokens).await.email_verified);
    node.login("ada@example.com").await;

    // Where addresses must be verified, neither a password nor a number will do; the mail does.
    let database = Arc::clone(&node.database);
    node.stop().await;
    let node = TestNode::on(database).clock(clock.clone());
    let settings = ["notify.email=log", "notify.sms=log", "login.codes=email,sms"];
    let node = settings.into_iter().fold(node, TestNodeBuilder::set);
    let node = node.set("registration.require_verified_email=true").start().await;
    assert_eq!(reason(&by_sms(&node).await.unwrap_err()), "EMAIL_NOT_VERIFIED");
    let wrong = node.try_login(login_request("ada@example.com", "not the right password")).await.unwrap_err();
    assert_eq!(reason(&wrong), "INVALID_CREDENTIALS", "who does not know the password learns nothing");
    let refused = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&refused), "EMAIL_NOT_VERIFIED");
    assert_eq!(node.events("CAST(detail AS TEXT) LIKE '%email_not_verified%'").await, 2);
    let challenge = node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let code = outbox_code(&node.database, "ada@example.com").await;
    let tokens = node.signin_finish(&challenge, signin_sent(code)).await.unwrap();
    assert!(account(&node, &tokens).await.email_verified);
    node.remove().await;
}

async fn a_second_factor_is_asked_for_after_a_code_as_well(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register("ada@example.com").await;
    change(&node, "phone_number = '+4930123456', email_verified_time = 1", &ada).await;
    let seed = node.signin_give_totp(&ada, &["AAAA-AAAA-AAAA-AAAA"]).await;
    for (channel, to, recovery, said) in [
        (CodeChannel::Email, "ada@example.com", false, "otp+mfa aal1"),
        (CodeChannel::Sms, "+4930123456", true, "sms+mfa aal1"),
        (CodeChannel::Sms, "+4930123456", false, "sms+otp+mfa aal1"),
    ] {
        let first = node.signin_send("ada@example.com", channel).await.unwrap().challenge_id;
        let code = outbox_code(&node.database, to).await;
        let Outcome::Challenge(second) = node.signin_answer(&first, signin_sent(&code)).await.unwrap() else {
            panic!("signed in with a code alone")
        };
        let again = node.signin_answer(&first, signin_sent(&code)).await.unwrap_err();
        assert_eq!(reason(&again), "CHALLENGE_INVALID", "the first one is spent");
        let refused = node.signin_answer(&second.challenge_id, signin_sent(&code)).await.unwrap_err();
        assert_eq!(reason(&refused), "CODE_INVALID", "the code is no second factor");
        let answer =
            if recovery { signin_recovery("AAAA-AAAA-AAAA-AAAA") } else { signin_totp(signin_app(&seed, clock.now())) };
        let tokens = node.signin_finish(&second.challenge_id, answer).await.unwrap();
        assert_eq!(node.signin_said(&tokens).await, said);
        clock.advance(Duration::from_mins(1));
        node.catch_up().await;
    }
    node.remove().await;
}

async fn whoever_reads_the_mail_takes_over_an_account_that_was_prepared(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register("ada@example.com").await;
    let prepared = node.login("ada@example.com").await;
    change(&node, "phone_number = '+4930123456'", &ada).await;

    let challenge = node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let code = outbox_code(&node.database, "ada@example.com").await;
    let tokens = node.signin_finish(&challenge, signin_sent(code)).await.unwrap();
    let user = account(&node, &tokens).await;
    assert!(user.email_verified && !user.has_password && !user.totp_enrolled && user.phone_number.is_empty());
    assert_eq!(node.events("act = 'phone_number.changed'").await, 1);
    revocation::assert_dead(&node, &prepared).await;
    let refused = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    assert_ne!(tokens.known_device_secret, prepared.known_device_secret);
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM known_devices").await, 1, "the one of now");
    // Nor is a second factor got around, on whatever address.
    let carol = node.register("carol@example.com").await;
    let session = node.login("carol@example.com").await;
    let seed = node.signin_give_totp(&carol, &["AAAA-AAAA-AAAA-AAAA"]).await;
    let challenge = node.signin_send("carol@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let code = outbox_code(&node.database, "carol@example.com").await;
    let Outcome::Challenge(second) = node.signin_answer(&challenge, signin_sent(code)).await.unwrap() else {
        panic!("signed in with the mailbox alone")
    };
    node.signin_finish(&second.challenge_id, signin_totp(signin_app(&seed, clock.now()))).await.unwrap();
    let user = account(&node, &session).await;
    assert!(user.has_password && user.totp_enrolled && !user.email_verified, "all is as it was");
    // What was verified before is nobody's to take.
    let bob = node.register("bob@example.com").await;
    change(&node, "email_verified_time = 1", &bob).await;
    let session = node.login("bob@example.com").await;
    let challenge = node.signin_send("bob@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let code = outbox_code(&node.database, "bob@example.com").await;
    node.signin_finish(&challenge, signin_sent(code)).await.unwrap();
    revocation::assert_alive(&node, &session).await;
    node.login("bob@example.com").await;
    node.remove().await;
}

async fn of_twenty_answers_at_once_one_wins(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = Arc::new(TestNode::signin_builder(backend, &clock).await.start().await);
    outbox_keep(&node.database).await;
    node.register("ada@example.com").await;
    let challenge = node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let code = outbox_code(&node.database, "ada@example.com").await;
    let answers: Vec<_> = (0..20)
        .map(|_| {
            let (node, challenge, code) = (Arc::clone(&node), challenge.clone(), code.clone());
            tokio::spawn(async move { node.signin_finish(&challenge, signin_sent(code)).await })
        })
        .collect();
    let mut won = 0;
    for answer in answers {
        match answer.await.unwrap() {
            Ok(_) => won += 1,
            Err(status) => {
                assert!(matches!(&*reason(&status), "CHALLENGE_INVALID" | "TOO_MANY_ATTEMPTS"), "{status:?}");
            }
        }
    }
    assert_eq!((won, node.database.integer("SELECT COUNT(*) FROM sessions").await), (1, 1));
    Arc::into_inner(node).unwrap().remove().await;
}

async fn what_changes_meanwhile_ends_the_code(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register("ada@example.com").await;
    let bob = node.register("bob@example.com").await;
    for what in ["state = 'suspended'", "epoch = epoch + 1", "email = 'eve@example.com', email_key = 'eve@example.com'"]
    {
        let challenge = node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap().challenge_id;
        let code = outbox_code(&node.database, "ada@example.com").await;
        change(&node, what, &ada).await;
        let refused = node.signin_answer(&challenge, signin_sent(code)).await.unwrap_err();
        assert_eq!(reason(&refused), "CHALLENGE_INVALID", "{what}");
        change(&node, "state = 'active'", &ada).await;
    }
    // Another's code at this challenge, and this one ten minutes later.
    let mine = node.signin_send("bob@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let code = outbox_code(&node.database, "bob@example.com").await;
    let theirs = node.signin_send("eve@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let foreign = outbox_code(&node.database, "eve@example.com").await;
    assert_ne!(code, foreign);
    for (challenge, code) in [(&mine, &foreign), (&theirs, &code)] {
        let refused = node.signin_answer(challenge, signin_sent(code)).await.unwrap_err();
        assert_eq!(reason(&refused), "CODE_INVALID");
    }
    clock.advance(Duration::from_mins(10));
    node.catch_up().await;
    let refused = node.signin_answer(&mine, signin_sent(code)).await.unwrap_err();
    assert_eq!(reason(&refused), "CHALLENGE_INVALID");
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions").await, 0);
    drop(bob);
    node.remove().await;
}

async fn a_number_that_is_gone_ends_what_was_sent_there(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register_verified("ada@example.com").await;
    let number = "phone_number = '+4930123456'";
    for (what, good) in
        [("phone_number = NULL", false), ("phone_number = '+4930999999'", false), ("display_name = 'Ada'", true)]
    {
        change(&node, number, &ada).await;
        let challenge = node.signin_send("ada@example.com", CodeChannel::Sms).await.unwrap().challenge_id;
        let code = outbox_code(&node.database, "+4930123456").await;
        change(&node, what, &ada).await;
        match node.signin_finish(&challenge, signin_sent(code)).await {
            Ok(_) => assert!(good, "{what}"),
            Err(refused) => assert!(!good && reason(&refused) == "CHALLENGE_INVALID", "{what}: {refused:?}"),
        }
    }
    // A code by mail has nothing to do with it.
    let challenge = node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let code = outbox_code(&node.database, "ada@example.com").await;
    change(&node, "phone_number = NULL", &ada).await;
    node.signin_finish(&challenge, signin_sent(code)).await.unwrap();
    node.remove().await;
}

async fn what_is_not_sent_is_refused_whoever_asks(backend: Backend) {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    for (settings, email, sms) in [
        (&["notify.email=log", "notify.sms=log"][..], "", "DELIVERY_UNAVAILABLE"),
        (&["notify.email=off", "notify.sms=log", "login.codes=email,sms"], "DELIVERY_UNAVAILABLE", ""),
        (&["notify.email=log", "notify.sms=off", "login.codes=email,sms"], "", "DELIVERY_UNAVAILABLE"),
        (&["notify.email=log", "notify.sms=log", "login.codes="], "DELIVERY_UNAVAILABLE", "DELIVERY_UNAVAILABLE"),
    ] {
        let node = settings.iter().fold(TestNode::on(Arc::clone(&database)), |node, setting| node.set(setting));
        let node = node.start().await;
        for (channel, expected) in
            [(CodeChannel::Unspecified, email), (CodeChannel::Email, email), (CodeChannel::Sms, sms)]
        {
            let answer = node.signin_send("nobody@example.com", channel).await;
            let said = answer.map_or_else(|status| reason(&status), |_| String::new());
            assert_eq!(said, expected, "{settings:?} {channel:?}");
        }
        let request = v1::SendLoginCodeRequest {
            channel: 9,
            audience: vec!["billing".into()],
            scope: "x".into(),
            device: Some(v1::Device { name: "a\nb".into(), ..v1::Device::default() }),
            ..v1::SendLoginCodeRequest::default()
        };
        let refused = node.auth().await.send_login_code(request).await.unwrap_err();
        assert_eq!(fields(&refused), ["identifier", "channel", "device.name", "audience", "scope"]);
        node.stop().await;
    }
    database.remove().await;
}

async fn strangers_who_ask_for_messages_keep_no_owner_from_a_code(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.messages_per_recipient=3").start().await;
    outbox_keep(&node.database).await;
    node.register("ada@example.com").await;
    let secret = node.login("ada@example.com").await.known_device_secret;
    let reset = || async {
        let request = v1::RequestPasswordResetRequest { identifier: "ada@example.com".into() };
        node.auth().await.request_password_reset(request).await
    };
    while reset().await.is_ok() {}
    let verify = || async {
        let request = v1::SendEmailVerificationRequest { email: "ada@example.com".into() };
        node.auth().await.send_email_verification(request).await
    };
    while verify().await.is_ok() {}
    for sent in 1..=3 {
        node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap();
        assert_eq!(login_codes(&node).await, sent, "one kind does not use up another's");
    }
    let refused = node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS");

    // Otherwise whoever reads the mail would take the account over, and devices would be forgotten.
    node.database.execute("UPDATE users SET email_verified_time = 1").await;
    let on_device = |device_secret: &str| {
        let device = v1::Device { name: "laptop".into(), known_device_secret: device_secret.into() };
        v1::SendLoginCodeRequest {
            identifier: "ada@example.com".into(),
            device: Some(device),
            ..v1::SendLoginCodeRequest::default()
        }
    };
    let refused = node.auth().await.send_login_code(on_device("vds_not_hers")).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS");
    for sent in 4..=6 {
        let answer = node.auth().await.send_login_code(on_device(&secret)).await.unwrap().into_inner();
        assert_eq!(login_codes(&node).await, sent, "a known device has a budget of its own");
        let code = outbox_code(&node.database, "ada@example.com").await;
        if sent == 4 {
            node.signin_finish(&answer.challenge.unwrap().challenge_id, signin_sent(code)).await.unwrap();
        }
    }
    let refused = node.auth().await.send_login_code(on_device(&secret)).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS", "and no more than that");
    node.remove().await;
}

async fn devices_cost_nothing_and_get_their_account_no_more_messages(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.messages_per_recipient=3").start().await;
    outbox_keep(&node.database).await;
    // The one is signed in to by who prepared it under somebody else's address, the other by its owner.
    node.register("prepared@example.com").await;
    node.register_verified("ada@example.com").await;
    let codes_to = async |to: &str| {
        let messages = outbox_messages(&node.database).await.into_iter();
        messages.filter(|m| outbox_is_to(m, to) && matches!(m.notice, Notice::LoginCode { .. })).count()
    };
    for (identifier, verified) in [("prepared@example.com", false), ("ada@example.com", true)] {
        for _ in 0..4 {
            // As often as somebody signs in, there is one more.
            let known_device_secret = node.login(identifier).await.known_device_secret;
            for _ in 0..3 {
                let device =
                    Some(v1::Device { name: "laptop".into(), known_device_secret: known_device_secret.clone() });
                let identifier = identifier.to_owned();
                let request = v1::SendLoginCodeRequest { identifier, device, ..v1::SendLoginCodeRequest::default() };
                match node.auth().await.send_login_code(request).await {
                    Ok(_) => {}
                    Err(refused) => assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS"),
                }
            }
        }
        assert_eq!(codes_to(identifier).await, 3, "of twelve that were asked for");
        // What strangers ask for is another budget than that of an owner's devices, but for an address that is nobody's yet.
        let stranger = node.signin_send(identifier, CodeChannel::Email).await;
        assert_eq!((stranger.is_ok(), codes_to(identifier).await), (verified, if verified { 4 } else { 3 }));
    }
    node.remove().await;
}

async fn messages_on_a_known_device_count_for_its_address(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.address_failures=2").start().await;
    node.register_verified("ada@example.com").await;
    let known_device_secret = node.login("ada@example.com").await.known_device_secret;
    let send = async || {
        let device = Some(v1::Device { name: "laptop".into(), known_device_secret: known_device_secret.clone() });
        let identifier = "ada@example.com".to_owned();
        let request = v1::SendLoginCodeRequest { identifier, device, ..v1::SendLoginCodeRequest::default() };
        node.auth().await.send_login_code(request).await
    };
    // The registration asked for the first.
    send().await.unwrap();
    assert_eq!(reason(&send().await.unwrap_err()), "TOO_MANY_ATTEMPTS");
    node.remove().await;
}

/// How many codes to sign in with were sent to anybody.
async fn login_codes(node: &TestNode) -> usize {
    let messages = outbox_messages(&node.database).await;
    messages.iter().filter(|message| matches!(message.notice, Notice::LoginCode { .. })).count()
}

async fn a_code_is_the_way_back_in_however_often_passwords_were_guessed_at(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.account_failures=5").start().await;
    outbox_keep(&node.database).await;
    node.register("ada@example.com").await;
    let identifiers = ["ada@example.com", "nobody@example.com"];
    for identifier in identifiers {
        for _ in 0..5 {
            let wrong = node.try_login(login_request(identifier, "not the right password")).await.unwrap_err();
            assert_eq!(reason(&wrong), "INVALID_CREDENTIALS");
        }
        let refused = node.try_login(login_request(identifier, PASSWORD)).await.unwrap_err();
        assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS");
    }
    // Strangers guess at codes as well: that makes the owner wait, and never for long.
    for round in 0..3 {
        for identifier in identifiers {
            let challenge = node.signin_send(identifier, CodeChannel::Email).await.unwrap().challenge_id;
            for guess in 0..4 {
                let wrong = node.signin_answer(&challenge, signin_sent("not it")).await.unwrap_err();
                assert_eq!(reason(&wrong), "CODE_INVALID", "{identifier} {round} {guess}");
                if round > 0 || guess > 2 {
                    clock.advance(Duration::from_secs(10));
                    node.catch_up().await;
                }
            }
        }
    }
    let challenge = node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let code = outbox_code(&node.database, "ada@example.com").await;
    node.signin_finish(&challenge, signin_sent(code)).await.unwrap();
    let wrong = node.try_login(login_request("ada@example.com", "not the right password")).await.unwrap_err();
    assert_eq!(reason(&wrong), "INVALID_CREDENTIALS", "the owner is known by the code: passwords are looked at again");
    node.remove().await;
}

async fn a_code_that_is_beyond_the_budget_is_not_sent_and_that_does_not_show(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.messages_per_recipient=3").start().await;
    outbox_keep(&node.database).await;
    let request = v1::RegisterRequest {
        email: "ada@example.com".into(),
        username: "ada".into(),
        password: PASSWORD.into(),
        ..v1::RegisterRequest::default()
    };
    node.auth().await.register(request).await.unwrap();
    // The mail of the registration came out of another budget.
    for identifier in ["ada@example.com", "ada@example.com", "ada@example.com", "ada", "ada", "ada"] {
        node.signin_send(identifier, CodeChannel::Email).await.unwrap();
    }
    let messages = outbox_messages(&node.database).await;
    let (sent, to_nobody): (Vec<_>, Vec<_>) = messages.iter().partition(|message| message.to.channel() == "email");
    assert_eq!((sent.len(), to_nobody.len()), (4, 3), "by another name the same recipient gets no more");
    for identifier in ["ada@example.com", "ada"] {
        let refused = node.signin_send(identifier, CodeChannel::Email).await.unwrap_err();
        assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS");
    }
    node.remove().await;
}
