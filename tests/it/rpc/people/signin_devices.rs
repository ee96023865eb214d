//! Known devices, and how many sessions there may be.

use std::{sync::Arc, time::Duration};

use tonic::Status;
use vouchsafe::{
    domain::{notice::Notice, time::Clock as _},
    pb::v1,
};

use crate::{
    rpc::{on_both_databases, revocation},
    support::{
        Backend, ManualClock, PASSWORD, TestNode, login_request,
        outbox::{outbox_is_to, outbox_keep, outbox_messages},
        reason,
        signin::{signin_app, signin_other, signin_totp},
    },
};

on_both_databases!(
    a_device_is_known_from_its_first_sign_in_on,
    strangers_have_nobody_told_and_a_thief_not_often,
    a_device_secret_is_its_users_alone,
    a_known_device_is_known_after_the_second_factor_too,
    a_known_device_is_not_slowed_by_strangers,
    nor_is_it_by_strangers_who_have_the_password,
    a_known_device_at_its_cap_is_like_any_other,
    twenty_devices_are_known_and_no_more,
    the_session_not_used_for_longest_gives_way,
    where_none_gives_way_the_sign_in_is_refused,
    sign_ins_at_once_never_exceed_the_limit,
);

fn on(secret: &str, name: &str, identifier: &str) -> v1::LoginRequest {
    let device = v1::Device { name: name.to_owned(), known_device_secret: secret.to_owned() };
    v1::LoginRequest { device: Some(device), ..login_request(identifier, PASSWORD) }
}

/// What this address was told of new devices.
async fn told(node: &TestNode, to: &str) -> Vec<(String, String)> {
    let mut told = outbox_messages(&node.database).await;
    told.retain(|message| outbox_is_to(message, to));
    let news = told.into_iter().filter_map(|message| match message.notice {
        Notice::NewDevice { device, ip_address, time: _ } => Some((device, ip_address)),
        _ => None,
    });
    news.collect()
}

async fn a_device_is_known_from_its_first_sign_in_on(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    node.register_verified("ada@example.com").await;
    let laptop = node.try_login(on("", "laptop", "ada@example.com")).await.unwrap();
    let secret = &laptop.known_device_secret;
    assert!(secret.starts_with("vds_") && secret.len() == 47);
    assert!(!node.database.dump("known_devices").await.contains(&secret[4..]));
    assert_eq!(told(&node, "ada@example.com").await, [], "the very first is no news");
    assert_eq!(node.refresh(&laptop.refresh_token).await.unwrap().known_device_secret, "");

    clock.advance(Duration::from_secs(1));
    let again = node.try_login(on(secret, "laptop", "ada@example.com")).await.unwrap();
    assert_eq!(again.known_device_secret, *secret);
    assert_eq!(told(&node, "ada@example.com").await, []);
    let used = node.database.integer("SELECT last_used_time FROM known_devices").await;
    assert_eq!(used, clock.now().as_micros());
    let phone = node.try_login(on("", "phone", "ada@example.com")).await.unwrap();
    assert_ne!(phone.known_device_secret, *secret);
    let news = [("phone".to_owned(), "127.0.0.1".to_owned())];
    assert_eq!(told(&node, "ada@example.com").await, news);
    for known in [secret, &phone.known_device_secret] {
        assert_eq!(node.try_login(on(known, "x", "ada@example.com")).await.unwrap().known_device_secret, *known);
    }
    assert_eq!(told(&node, "ada@example.com").await, news, "once");
    let devices = "SELECT COUNT(DISTINCT device_id) FROM sessions WHERE device_id IN (SELECT id FROM known_devices)";
    assert_eq!(node.database.integer(devices).await, 2);
    // Only a sign-in that is complete is news, and a wrong password makes no device known.
    let wrong = v1::LoginRequest { password: "not the right password".into(), ..on("", "z", "ada@example.com") };
    node.try_login(wrong).await.unwrap_err();
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM known_devices").await, 2);
    assert_eq!(told(&node, "ada@example.com").await, news);
    node.remove().await;
}

async fn strangers_have_nobody_told_and_a_thief_not_often(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.messages_per_recipient=3").start().await;
    outbox_keep(&node.database).await;
    // Under an address that nobody has proved to be theirs.
    node.register("ada@example.com").await;
    for _ in 0..3 {
        node.login("ada@example.com").await;
    }
    assert_eq!(told(&node, "ada@example.com").await, []);
    node.register_verified("bob@example.com").await;
    for _ in 0..6 {
        // All are signed in, as if each were told.
        node.login("bob@example.com").await;
    }
    assert_eq!(told(&node, "bob@example.com").await.len(), 3, "and not of the very first");
    // Codes come out of another budget: nobody keeps the one away with the other.
    node.signin_send("bob@example.com", v1::CodeChannel::Email).await.unwrap();
    let mut to_bob = outbox_messages(&node.database).await.into_iter().filter(|m| outbox_is_to(m, "bob@example.com"));
    assert!(to_bob.next_back().is_some_and(|message| matches!(message.notice, Notice::LoginCode { .. })));
    clock.advance(Duration::from_mins(20));
    node.catch_up().await;
    node.login("bob@example.com").await;
    assert_eq!(told(&node, "bob@example.com").await.len(), 4);
    node.remove().await;
}

async fn a_device_secret_is_its_users_alone(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    node.register_verified("ada@example.com").await;
    node.register_verified("bob@example.com").await;
    node.login("ada@example.com").await;
    let theirs = node.login("bob@example.com").await.known_device_secret;
    for foreign in [theirs.as_str(), "vds_", "x", &"A".repeat(10_000), "vds_\u{0}"] {
        let given = node.try_login(on(foreign, "d", "ada@example.com")).await.unwrap().known_device_secret;
        assert!(given != foreign && given.len() == 47);
    }
    assert_eq!(told(&node, "ada@example.com").await.len(), 5);
    let still = node.try_login(on(&theirs, "d", "bob@example.com")).await.unwrap();
    assert_eq!(still.known_device_secret, theirs);
    node.remove().await;
}

async fn a_known_device_is_known_after_the_second_factor_too(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register_verified("ada@example.com").await;
    let secret = node.login("ada@example.com").await.known_device_secret;
    let seed = node.signin_give_totp(&ada, &[]).await;
    for (presented, news) in [(secret.as_str(), 0), ("", 1)] {
        clock.advance(Duration::from_secs(30));
        node.catch_up().await;
        let challenge = node.signin_challenge_of(on(presented, "d", "ada@example.com")).await.challenge_id;
        assert!(!node.database.dump("challenges").await.contains(&secret[4..]));
        let code = signin_totp(signin_app(&seed, clock.now()));
        let tokens = node.signin_finish(&challenge, code).await.unwrap();
        assert_eq!(tokens.known_device_secret == secret, news == 0);
        assert_eq!(told(&node, "ada@example.com").await.len(), news);
    }
    // Forgotten meanwhile: it becomes known anew.
    clock.advance(Duration::from_secs(30));
    node.catch_up().await;
    let challenge = node.signin_challenge_of(on(&secret, "d", "ada@example.com")).await.challenge_id;
    node.database.execute("DELETE FROM known_devices").await;
    let tokens = node.signin_finish(&challenge, signin_totp(signin_app(&seed, clock.now()))).await.unwrap();
    assert!(tokens.known_device_secret != secret && tokens.known_device_secret.len() == 47);
    node.remove().await;
}

async fn a_known_device_is_not_slowed_by_strangers(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    node.register("ada@example.com").await;
    let secret = node.login("ada@example.com").await.known_device_secret;
    let stranger = || node.try_login(login_request("ada@example.com", "not the right password"));
    while reason(&stranger().await.unwrap_err()) != "TOO_MANY_ATTEMPTS" {}
    let elsewhere = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&elsewhere), "TOO_MANY_ATTEMPTS");
    node.try_login(on(&secret, "laptop", "ada@example.com")).await.unwrap();
    // The owner is known by that, and may sign in elsewhere, too.
    node.login("ada@example.com").await;
    node.remove().await;
}

async fn nor_is_it_by_strangers_who_have_the_password(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.account_failures=5").start().await;
    let ada = node.register("ada@example.com").await;
    let secret = node.login("ada@example.com").await.known_device_secret;
    let seed = node.signin_give_totp(&ada, &[]).await;
    let right = || signin_totp(signin_app(&seed, clock.now()));
    let stranger = node.signin_challenge("ada@example.com").await.challenge_id;
    for _ in 0..5 {
        let wrong = signin_totp(signin_other(&signin_app(&seed, clock.now())));
        assert_eq!(reason(&node.signin_answer(&stranger, wrong).await.unwrap_err()), "CODE_INVALID");
    }
    let elsewhere = node.signin_challenge("ada@example.com").await.challenge_id;
    let refused = node.signin_answer(&elsewhere, right()).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS", "the account's codes are at their cap");
    let here = node.signin_challenge_of(on(&secret, "laptop", "ada@example.com")).await.challenge_id;
    node.signin_finish(&here, right()).await.unwrap();
    // The owner is known by that, and may sign in elsewhere, too.
    clock.advance(Duration::from_secs(30));
    node.catch_up().await;
    let elsewhere = node.signin_challenge("ada@example.com").await.challenge_id;
    node.signin_finish(&elsewhere, right()).await.unwrap();
    node.remove().await;
}

async fn a_known_device_at_its_cap_is_like_any_other(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.account_failures=5").start().await;
    node.register("ada@example.com").await;
    let secret = node.login("ada@example.com").await.known_device_secret;
    let wrong = async || {
        let guess =
            v1::LoginRequest { password: "not the right password".into(), ..on(&secret, "d", "ada@example.com") };
        reason(&node.try_login(guess).await.unwrap_err())
    };
    let at_cap = async || {
        for wait in [0, 0, 0, 0, 0, 1, 2, 4, 8, 16] {
            clock.advance(Duration::from_secs(wait));
            node.catch_up().await;
            assert_eq!(wrong().await, "INVALID_CREDENTIALS");
        }
    };
    at_cap().await;
    let tokens = node.try_login(on(&secret, "d", "ada@example.com")).await.unwrap();
    assert_eq!(tokens.known_device_secret, secret, "it is hers as before");
    at_cap().await;
    for _ in 0..5 {
        assert_eq!(wrong().await, "INVALID_CREDENTIALS", "counted where strangers are");
    }
    for device in [secret.as_str(), ""] {
        let refused = node.try_login(on(device, "d", "ada@example.com")).await.unwrap_err();
        assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS", "and no more than theirs");
    }
    node.remove().await;
}

async fn twenty_devices_are_known_and_no_more(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    node.register("ada@example.com").await;
    let mut secrets = Vec::new();
    for _ in 0..20 {
        clock.advance(Duration::from_millis(1));
        secrets.push(node.login("ada@example.com").await.known_device_secret);
    }
    let sign_in = async |secret: &str| {
        clock.advance(Duration::from_millis(1));
        node.try_login(on(secret, "d", "ada@example.com")).await.unwrap().known_device_secret
    };
    assert_eq!(sign_in(&secrets[0]).await, secrets[0]);
    let another = sign_in("").await;
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM known_devices").await, 20);
    assert_eq!(sign_in(&secrets[0]).await, secrets[0], "used lately");
    assert_eq!(sign_in(&another).await, another);
    assert_ne!(sign_in(&secrets[1]).await, secrets[1], "not used for the longest time");
    node.remove().await;
}

async fn the_session_not_used_for_longest_gives_way(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("sessions.max_per_user=3").start().await;
    node.register("ada@example.com").await;
    node.register("bob@example.com").await;
    let bob = node.login("bob@example.com").await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        clock.advance(Duration::from_secs(1));
        sessions.push(node.login("ada@example.com").await);
    }
    clock.advance(Duration::from_secs(1));
    sessions[0] = node.refresh(&sessions[0].refresh_token).await.unwrap();
    let fourth = node.login("ada@example.com").await;
    revocation::assert_dead(&node, &sessions[1]).await;
    for alive in [&sessions[0], &sessions[2], &fourth, &bob] {
        revocation::assert_alive(&node, alive).await;
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions WHERE end_reason = 'evicted'").await, 1);
    assert_eq!(node.events("act = 'session.ended' AND CAST(detail AS TEXT) LIKE '%evicted%'").await, 1);

    // Where the limit is lowered, the next sign-in ends all that are too many.
    let database = Arc::clone(&node.database);
    node.stop().await;
    let node = TestNode::on(database).clock(clock.clone()).set("sessions.max_per_user=1").start().await;
    let last = node.login("ada@example.com").await;
    assert_eq!(node.sessions(&last.access_token).await.len(), 1);
    revocation::assert_alive(&node, &last).await;
    node.remove().await;
}

async fn where_none_gives_way_the_sign_in_is_refused(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock)
        .await
        .set("sessions.max_per_user=2")
        .set("sessions.at_limit=refuse")
        .set("sessions.idle_timeout=1h")
        .start()
        .await;
    let ada = node.register("ada@example.com").await;
    let first = node.login("ada@example.com").await;
    let second = node.login("ada@example.com").await;
    let devices = "SELECT COUNT(*) FROM known_devices";
    let before = node.database.integer(devices).await;
    let refused = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (tonic::Code::FailedPrecondition, "TOO_MANY_SESSIONS"));
    assert_eq!(node.database.integer(devices).await, before, "nothing of it is done");
    let wrong = node.try_login(login_request("ada@example.com", "not the right password")).await.unwrap_err();
    assert_eq!(reason(&wrong), "INVALID_CREDENTIALS", "only who knows the password is told");

    let seed = node.signin_give_totp(&ada, &[]).await;
    let challenge = node.signin_challenge("ada@example.com").await.challenge_id;
    let code = signin_app(&seed, clock.now());
    let refused = node.signin_answer(&challenge, signin_totp(&code)).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_SESSIONS");
    node.logout(&second.refresh_token).await.unwrap();
    node.signin_finish(&challenge, signin_totp(&code)).await.unwrap();
    revocation::assert_alive(&node, &first).await;
    // What has expired does not count.
    clock.advance(Duration::from_hours(1));
    node.catch_up().await;
    let challenge = node.signin_challenge("ada@example.com").await.challenge_id;
    node.signin_finish(&challenge, signin_totp(signin_app(&seed, clock.now()))).await.unwrap();
    node.remove().await;
}

/// Signs in, and again when told that too many do at this moment.
async fn persistently(node: &TestNode) -> Result<v1::TokenPair, Status> {
    loop {
        match node.try_login(login_request("ada@example.com", PASSWORD)).await {
            Err(status) if reason(&status) == "TOO_MANY_ATTEMPTS" => {}
            answer => return answer,
        }
    }
}

async fn sign_ins_at_once_never_exceed_the_limit(backend: Backend) {
    for at_limit in ["evict_oldest", "refuse"] {
        let node = TestNode::builder(backend).await.set("sessions.max_per_user=5");
        let node = Arc::new(node.set(&format!("sessions.at_limit={at_limit}")).start().await);
        node.register("ada@example.com").await;
        let sign_ins: Vec<_> = (0..20)
            .map(|_| {
                let node = Arc::clone(&node);
                tokio::spawn(async move { persistently(&node).await })
            })
            .collect();
        let (mut begun, mut refused) = (Vec::new(), 0);
        for sign_in in sign_ins {
            match sign_in.await.unwrap() {
                Ok(tokens) => begun.push(tokens),
                Err(status) => {
                    assert_eq!(reason(&status), "TOO_MANY_SESSIONS");
                    refused += 1;
                }
            }
        }
        let expected = if at_limit == "refuse" { (5, 15) } else { (20, 0) };
        assert_eq!((begun.len(), refused), expected, "{at_limit}");
        let live = node.database.integer("SELECT COUNT(*) FROM sessions WHERE end_time IS NULL").await;
        assert_eq!(live, 5, "{at_limit}");
        let mut admitted = 0;
        for tokens in &begun {
            admitted += usize::from(node.admits(&tokens.access_token).await);
        }
        assert_eq!(admitted, 5, "{at_limit}");
        Arc::into_inner(node).unwrap().remove().await;
    }
}
