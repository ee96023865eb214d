//! The second factor: what a sign-in with one is, and what ends it on its way.

use std::{sync::Arc, time::Duration};

use vouchsafe::{
    domain::{
        notice::Notice,
        time::{Clock as _, Timestamp},
    },
    pb::v1::{self, ChallengeFactor},
};

use crate::{
    rpc::on_both_databases,
    support::{
        Backend, ManualClock, PASSWORD, TestNode, bearer, forwarded, login_request,
        outbox::{outbox_keep, outbox_messages},
        reason,
        signin::{signin_app, signin_other, signin_recovery, signin_sent, signin_totp},
    },
};

on_both_databases!(
    the_second_factor_makes_the_session_that_was_asked_for,
    a_recovery_code_is_good_once_however_it_is_typed,
    a_code_of_the_app_is_good_once_over_all_challenges,
    of_one_code_at_two_challenges_at_once_one_wins,
    a_code_of_another_account_or_another_kind_is_wrong,
    what_changes_meanwhile_ends_the_challenge,
    a_challenge_lasts_ten_minutes,
    the_oldest_of_many_challenges_gives_way,
    whoever_has_the_password_pushes_out_no_challenge_of_the_owner,
    an_answer_without_its_parts_is_refused_by_name,
);

async fn the_second_factor_makes_the_session_that_was_asked_for(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock)
        .await
        .set("tokens.audiences=vouchsafe,orders")
        .set("tokens.scopes=read,write");
    let node = node.start().await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    let request = v1::LoginRequest {
        audience: vec!["orders".into()],
        scope: "write read".into(),
        device: Some(v1::Device { name: "Ada's laptop".into(), ..v1::Device::default() }),
        ..login_request("ada@example.com", PASSWORD)
    };
    let challenge = node.signin_challenge_of(request).await;
    assert!(challenge.challenge_id.starts_with("vch_") && challenge.challenge_id.len() == 47);
    assert_eq!(challenge.factors, [i32::from(ChallengeFactor::Totp)], "there are no recovery codes");
    assert_eq!(challenge.expire_time.unwrap().seconds, clock.now().as_seconds() + 600);
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions").await, 0);
    assert_eq!(node.events("act = 'login.challenged'").await, 1);
    assert_eq!(node.events("act = 'login.succeeded'").await, 0);
    // Nothing that was typed, and no secret, can be read in the row.
    let row = node.database.dump("challenges").await;
    for secret in [&challenge.challenge_id[4..], "ada@example.com", "laptop", PASSWORD] {
        assert!(!row.contains(secret), "{secret}");
    }

    clock.advance(Duration::from_mins(2));
    node.catch_up().await;
    let code = signin_app(&seed, clock.now());
    let tokens = node.signin_finish(&challenge.challenge_id, signin_totp(&code)).await.unwrap();
    let claims = node.verify(&tokens.access_token).await.claims.unwrap();
    assert_eq!((claims.amr.join("+").as_str(), claims.acr.as_str()), ("pwd+otp+mfa", "aal2"));
    assert_eq!((claims.audience.as_slice(), claims.scope.as_str()), (&["orders".to_owned()][..], "write read"));
    assert_eq!(claims.auth_time.unwrap().seconds, clock.now().as_seconds(), "the last factor counts");
    assert_eq!(claims.subject, ada.id);
    let names = node.database.texts("SELECT device_name FROM sessions").await;
    assert_eq!(names, ["Ada's laptop"]);
    assert_eq!(node.events("act = 'login.succeeded'").await, 1);
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM challenges").await, 0);
    let again = node.signin_answer(&challenge.challenge_id, signin_totp(&code)).await.unwrap_err();
    assert_eq!(reason(&again), "CHALLENGE_INVALID");
    let renewed = node.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(node.signin_said(&renewed).await, "pwd+otp+mfa aal2");
    assert_eq!(renewed.known_device_secret, "", "only a sign-in gives one");
    node.remove().await;
}

async fn a_recovery_code_is_good_once_however_it_is_typed(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register_verified("ada@example.com").await;
    node.signin_give_totp(&ada, &["ABCD-EFGH-JKMN-PQRS", "0000-1111-2222-3333"]).await;
    let challenge = node.signin_challenge("ada@example.com").await;
    let both = [ChallengeFactor::Totp, ChallengeFactor::RecoveryCode].map(i32::from);
    assert_eq!(challenge.factors, both);
    let typed = signin_recovery(" abcd efgh-jkmn pqrs");
    let tokens = node.signin_finish(&challenge.challenge_id, typed.clone()).await.unwrap();
    assert_eq!(node.signin_said(&tokens).await, "pwd+mfa aal2");
    assert_eq!(node.events("act = 'recovery_code.used'").await, 1);
    let mut news: Vec<_> = outbox_messages(&node.database).await.into_iter().map(|message| message.notice).collect();
    news.retain(|notice| !matches!(notice, Notice::VerifyEmail { .. }));
    assert!(news == [Notice::RecoveryCodeUsed { left: 1 }], "and none of the first device");

    let challenge = node.signin_challenge("ada@example.com").await;
    assert_eq!(challenge.factors, both, "one is left");
    let used = node.signin_answer(&challenge.challenge_id, typed).await.unwrap_err();
    assert_eq!(reason(&used), "CODE_INVALID");
    node.signin_finish(&challenge.challenge_id, signin_recovery("0000111122223333")).await.unwrap();
    assert_eq!(node.signin_challenge("ada@example.com").await.factors, [i32::from(ChallengeFactor::Totp)]);
    node.remove().await;
}

async fn a_code_of_the_app_is_good_once_over_all_challenges(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    // So that it can be set back without preceding the keys.
    clock.advance(Duration::from_mins(5));
    node.catch_up().await;
    let at = |offset: i64| Timestamp::from_seconds(clock.now().as_seconds() + offset);
    let (before, now, after) = (signin_app(&seed, at(-30)), signin_app(&seed, at(0)), signin_app(&seed, at(30)));
    let answer = async |code: &String| {
        let challenge = node.signin_challenge("ada@example.com").await;
        node.signin_finish(&challenge.challenge_id, signin_totp(code)).await.map(|_| ())
    };
    answer(&now).await.unwrap();
    for spent in [&now, &before] {
        assert_eq!(reason(&answer(spent).await.unwrap_err()), "CODE_INVALID");
    }
    answer(&after).await.unwrap();
    // The clock is set back: what was spent stays so.
    clock.set(at(-30));
    node.catch_up().await;
    for spent in [&now, &before] {
        assert_eq!(reason(&answer(spent).await.unwrap_err()), "CODE_INVALID");
    }
    node.remove().await;
}

async fn of_one_code_at_two_challenges_at_once_one_wins(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = Arc::new(TestNode::signin_builder(backend, &clock).await.start().await);
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    for round in 0..10 {
        clock.advance(Duration::from_secs(30));
        node.catch_up().await;
        let code = signin_app(&seed, clock.now());
        let first = node.signin_challenge("ada@example.com").await.challenge_id;
        let second = node.signin_challenge("ada@example.com").await.challenge_id;
        let answers: Vec<_> = [&first, &first, &second, &second]
            .map(|challenge| {
                let (node, challenge, code) = (Arc::clone(&node), challenge.clone(), code.clone());
                tokio::spawn(async move { node.signin_finish(&challenge, signin_totp(code)).await })
            })
            .into();
        let mut won = 0;
        for answer in answers {
            match answer.await.unwrap() {
                Ok(_) => won += 1,
                Err(status) => {
                    let expected = ["CODE_INVALID", "CHALLENGE_INVALID", "TOO_MANY_ATTEMPTS"];
                    assert!(expected.contains(&&*reason(&status)), "{status:?}");
                }
            }
        }
        assert_eq!(won, 1, "round {round}");
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions").await, 10);
    Arc::into_inner(node).unwrap().remove().await;
}

async fn a_code_of_another_account_or_another_kind_is_wrong(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let (ada, bob) = (node.register("ada@example.com").await, node.register("bob@example.com").await);
    node.signin_give_totp(&ada, &["AAAA-AAAA-AAAA-AAAA"]).await;
    let seed = node.signin_give_totp(&bob, &["BBBB-BBBB-BBBB-BBBB"]).await;
    let challenge = node.signin_challenge("ada@example.com").await.challenge_id;
    let code = signin_app(&seed, clock.now());
    for (what, foreign) in [
        ("code of another app", signin_totp(&code)),
        ("recovery code of another account", signin_recovery("BBBB-BBBB-BBBB-BBBB")),
        ("recovery code as a code of the app", signin_totp("AAAA-AAAA-AAAA-AAAA")),
        ("recovery code as a code that was sent", signin_sent("AAAA-AAAA-AAAA-AAAA")),
    ] {
        let refused = node.signin_answer(&challenge, foreign).await.unwrap_err();
        assert_eq!(reason(&refused), "CODE_INVALID", "{what}");
    }
    // None of it is used up.
    let challenge = node.signin_challenge("bob@example.com").await.challenge_id;
    node.signin_finish(&challenge, signin_totp(&code)).await.unwrap();
    let challenge = node.signin_challenge("bob@example.com").await.challenge_id;
    node.signin_finish(&challenge, signin_recovery("BBBB-BBBB-BBBB-BBBB")).await.unwrap();
    node.remove().await;
}

async fn what_changes_meanwhile_ends_the_challenge(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("passwords.history=0").start().await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &["AAAA-AAAA-AAAA-AAAA"]).await;
    let challenge = node.signin_challenge("ada@example.com").await.challenge_id;
    let session = node.signin_finish(&challenge, signin_recovery("AAAA-AAAA-AAAA-AAAA")).await.unwrap();
    let id = node.database.id(&ada.id.parse().unwrap());
    let refused = async |challenge: &str| {
        let code = signin_app(&seed, clock.now());
        reason(&node.signin_answer(challenge, signin_totp(code)).await.unwrap_err())
    };
    let first = node.signin_challenge("ada@example.com").await.challenge_id;
    node.change_password(&session.access_token, PASSWORD, "another horse battery staple").await.unwrap();
    assert_eq!(refused(&first).await, "CHALLENGE_INVALID", "the password was changed");
    node.change_password(&session.access_token, "another horse battery staple", PASSWORD).await.unwrap();

    let second = node.signin_challenge("ada@example.com").await.challenge_id;
    node.database.execute(&format!("UPDATE users SET state = 'suspended' WHERE id = {id}")).await;
    assert_eq!(refused(&second).await, "CHALLENGE_INVALID", "suspended, and nothing else");
    node.database.execute(&format!("UPDATE users SET state = 'active' WHERE id = {id}")).await;

    let third = node.signin_challenge("ada@example.com").await.challenge_id;
    node.database.execute(&format!("UPDATE users SET epoch = epoch + 1 WHERE id = {id}")).await;
    assert_eq!(refused(&third).await, "CHALLENGE_INVALID", "everything was ended");

    // The app was replaced: its code is not good, and a recovery code of before neither.
    let fourth = node.signin_challenge("ada@example.com").await.challenge_id;
    node.database.execute("DELETE FROM totp_factors").await;
    node.database.execute("DELETE FROM recovery_codes").await;
    assert_eq!(refused(&fourth).await, "CODE_INVALID");
    let answer = node.signin_answer(&fourth, signin_recovery("AAAA-AAAA-AAAA-AAAA")).await;
    assert_eq!(reason(&answer.unwrap_err()), "CODE_INVALID");
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions WHERE end_time IS NULL").await, 1);
    node.remove().await;
}

async fn a_challenge_lasts_ten_minutes(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    let early = node.signin_challenge("ada@example.com").await.challenge_id;
    clock.advance(Duration::from_micros(1));
    let late = node.signin_challenge("ada@example.com").await.challenge_id;
    clock.advance(Duration::from_mins(10) - Duration::from_micros(1));
    node.catch_up().await;
    let code = signin_app(&seed, clock.now());
    let expired = node.signin_answer(&early, signin_totp(&code)).await.unwrap_err();
    assert_eq!(reason(&expired), "CHALLENGE_INVALID", "to the microsecond");
    node.signin_finish(&late, signin_totp(&code)).await.unwrap();
    node.remove().await;
}

async fn the_oldest_of_many_challenges_gives_way(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    let mut challenges = Vec::new();
    for _ in 0..11 {
        clock.advance(Duration::from_millis(1));
        challenges.push(node.signin_challenge("ada@example.com").await.challenge_id);
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM challenges").await, 10);
    let code = signin_app(&seed, clock.now());
    let wrong = signin_other(&code);
    let mut said = Vec::new();
    for challenge in [&challenges[0], &challenges[1], &challenges[10]] {
        said.push(reason(&node.signin_answer(challenge, signin_totp(&wrong)).await.unwrap_err()));
    }
    assert_eq!(said, ["CHALLENGE_INVALID", "CODE_INVALID", "CODE_INVALID"]);
    node.signin_finish(&challenges[1], signin_totp(&code)).await.unwrap();
    node.remove().await;
}

async fn whoever_has_the_password_pushes_out_no_challenge_of_the_owner(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("grpc.trusted_proxies=127.0.0.0/8").start().await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    let begin = async |from: &str| {
        clock.advance(Duration::from_millis(1));
        node.signin_challenge_of(forwarded(from, login_request("ada@example.com", PASSWORD))).await.challenge_id
    };
    let owner = begin("192.0.2.9").await;
    let thief = begin("2001:db8::1").await;
    for host in 2..12 {
        begin(&format!("2001:db8::{host:x}")).await;
    }
    let code = signin_app(&seed, clock.now());
    let gone = node.signin_answer(&thief, signin_totp(&code)).await.unwrap_err();
    assert_eq!(reason(&gone), "CHALLENGE_INVALID", "the addresses of one network are one place");
    node.signin_finish(&owner, signin_totp(&code)).await.unwrap();
    node.remove().await;
}

async fn an_answer_without_its_parts_is_refused_by_name(backend: Backend) {
    let node = TestNode::start(backend).await;
    let ask = async |challenge_id: &str, response| {
        let request = v1::CompleteChallengeRequest { challenge_id: challenge_id.into(), response };
        crate::support::fields(&node.auth().await.complete_challenge(request).await.unwrap_err())
    };
    assert_eq!(ask("", None).await, ["challenge_id", "response"]);
    assert_eq!(ask("vch_x", Some(signin_totp(""))).await, ["totp_code"]);
    assert_eq!(ask("vch_x", Some(signin_recovery(""))).await, ["recovery_code"]);
    assert_eq!(ask("", Some(signin_sent("1"))).await, ["challenge_id"]);
    let request =
        bearer("x", v1::CompleteChallengeRequest { challenge_id: "vch_x".into(), response: Some(signin_sent("1")) });
    let unknown = node.auth().await.complete_challenge(request).await.unwrap_err();
    assert_eq!(reason(&unknown), "CHALLENGE_INVALID");
    node.remove().await;
}
