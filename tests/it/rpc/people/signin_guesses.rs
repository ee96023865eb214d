//! Guessing at challenges: in parallel, with new sign-ins in between, and by every door.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Status};
use vouchsafe::{
    domain::time::Clock as _,
    pb::v1::{self, CodeChannel, user_admin_service_client::UserAdminServiceClient},
};

use crate::{
    rpc::on_both_databases,
    support::{
        Backend, ManualClock, PASSWORD, TestNode, bearer, factors_codes, login_request,
        outbox::{outbox_code, outbox_keep},
        reason,
        signin::{signin_app, signin_other, signin_recovery, signin_sent, signin_totp},
        until,
    },
};

on_both_databases!(
    fifty_guesses_at_once_are_no_more_than_five,
    a_new_sign_in_gives_no_new_guesses_by_any_door,
    a_recovery_code_is_the_way_back_in_however_often_the_app_was_guessed_at,
    a_new_code_gives_no_new_guesses,
    a_right_password_alone_forgets_no_failure,
    nobody_can_tell_whether_there_is_an_account,
    an_administrator_lets_in_whoever_was_locked_out,
    a_right_current_password_forgets_no_failure_either,
    whoever_has_a_token_keeps_nobody_from_signing_in,
    what_could_not_be_looked_at_is_no_failure,
);

async fn fifty_guesses_at_once_are_no_more_than_five(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = Arc::new(TestNode::signin_builder(backend, &clock).await.start().await);
    outbox_keep(&node.database).await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    let totp = node.signin_challenge("ada@example.com").await.challenge_id;
    let sent = node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let (code, mailed) = (signin_app(&seed, clock.now()), outbox_code(&node.database, "ada@example.com").await);
    for (challenge, wrong, right) in [
        (&totp, signin_totp(signin_other(&code)), signin_totp(&code)),
        (&sent, signin_sent("not the code"), signin_sent(&mailed)),
    ] {
        let guesses: Vec<_> = (0..50)
            .map(|_| {
                let (node, challenge, wrong) = (Arc::clone(&node), challenge.clone(), wrong.clone());
                tokio::spawn(async move { reason(&node.signin_answer(&challenge, wrong).await.unwrap_err()) })
            })
            .collect();
        let mut looked_at = 0;
        for guess in guesses {
            match &*guess.await.unwrap() {
                "CODE_INVALID" => looked_at += 1,
                "CHALLENGE_INVALID" | "TOO_MANY_ATTEMPTS" => {}
                other => panic!("{other}"),
            }
        }
        assert_eq!(looked_at, 5);
        let refused = node.signin_answer(challenge, right).await.unwrap_err();
        assert_eq!(reason(&refused), "CHALLENGE_INVALID", "the right one comes too late");
    }
    assert_eq!(node.events("act = 'login.challenge_failed'").await, 10);
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions").await, 0);
    Arc::into_inner(node).unwrap().remove().await;
}

async fn a_new_sign_in_gives_no_new_guesses_by_any_door(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register("ada@example.com").await;
    // Otherwise whoever reads the mail would take the account over.
    node.database.execute("UPDATE users SET email_verified_time = 1").await;
    let seed = node.signin_give_totp(&ada, &["AAAA-AAAA-AAAA-AAAA"]).await;
    let right = || signin_app(&seed, clock.now());
    let first = node.signin_challenge("ada@example.com").await.challenge_id;
    for _ in 0..4 {
        let refused = node.signin_answer(&first, signin_totp(signin_other(&right()))).await.unwrap_err();
        assert_eq!(reason(&refused), "CODE_INVALID");
    }
    let second = node.signin_challenge("ada@example.com").await.challenge_id;
    let refused = node.signin_answer(&second, signin_totp(signin_other(&right()))).await.unwrap_err();
    assert_eq!(reason(&refused), "CODE_INVALID", "the fifth altogether");

    let third = node.signin_challenge("ada@example.com").await.challenge_id;
    node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap();
    let sent = node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    let mailed = signin_sent(outbox_code(&node.database, "ada@example.com").await);
    let v1::complete_challenge_response::Outcome::Challenge(fourth) = node.signin_answer(&sent, mailed).await.unwrap()
    else {
        panic!("there is a second factor")
    };
    for (door, challenge, answer) in [
        ("the same challenge", &second, signin_totp(right())),
        ("a new one after the password", &third, signin_totp(right())),
        ("one after a mailed code", &fourth.challenge_id, signin_totp(right())),
    ] {
        let refused: Status = node.signin_answer(challenge, answer).await.unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS"), "{door}");
    }
    // It slows whoever guesses, and keeps nobody out.
    clock.advance(Duration::from_secs(2));
    node.signin_finish(&third, signin_totp(right())).await.unwrap();
    // With every factor proved all is forgotten.
    let next = node.signin_challenge("ada@example.com").await.challenge_id;
    for _ in 0..5 {
        let refused = node.signin_answer(&next, signin_recovery("WRNG")).await.unwrap_err();
        assert_eq!(reason(&refused), "CODE_INVALID");
    }
    // Recovery codes are slowed as well.
    let next = node.signin_challenge("ada@example.com").await.challenge_id;
    let refused = node.signin_answer(&next, signin_recovery("AAAA-AAAA-AAAA-AAAA")).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS");
    node.remove().await;
}

async fn a_recovery_code_is_the_way_back_in_however_often_the_app_was_guessed_at(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.account_failures=5").start().await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &["AAAA-AAAA-AAAA-AAAA", "BBBB-BBBB-BBBB-BBBB"]).await;
    let right = || signin_totp(signin_app(&seed, clock.now()));
    // Whoever has the password guesses at the app, and at recovery codes, too.
    let challenge = async || node.signin_challenge("ada@example.com").await.challenge_id;
    let app = challenge().await;
    for _ in 0..5 {
        let wrong = signin_totp(signin_other(&signin_app(&seed, clock.now())));
        assert_eq!(reason(&node.signin_answer(&app, wrong).await.unwrap_err()), "CODE_INVALID");
    }
    for _ in 0..6 {
        let codes = challenge().await;
        for _ in 0..4 {
            assert_eq!(reason(&node.signin_answer(&codes, signin_recovery("WRNG")).await.unwrap_err()), "CODE_INVALID");
            // The longest that anybody waits here.
            clock.advance(Duration::from_secs(10));
            node.catch_up().await;
        }
    }
    let own = challenge().await;
    let refused = node.signin_answer(&own, right()).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS", "the app is at its cap");
    node.signin_finish(&own, signin_recovery("AAAA-AAAA-AAAA-AAAA")).await.unwrap();
    clock.advance(Duration::from_secs(30));
    node.catch_up().await;
    node.signin_finish(&challenge().await, right()).await.unwrap();
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM throttles").await, 0, "all is forgotten");
    node.remove().await;
}

async fn a_new_code_gives_no_new_guesses(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    node.register_verified("ada@example.com").await;
    let new = async || node.signin_send("ada@example.com", CodeChannel::Email).await.unwrap().challenge_id;
    for guesses in [3, 2] {
        let challenge = new().await;
        for _ in 0..guesses {
            let refused = node.signin_answer(&challenge, signin_sent("not it")).await.unwrap_err();
            assert_eq!(reason(&refused), "CODE_INVALID");
        }
    }
    let third = new().await;
    let code = outbox_code(&node.database, "ada@example.com").await;
    let too_many = async |after: &str| {
        let refused = node.signin_answer(&third, signin_sent(&code)).await.unwrap_err();
        assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS", "after {after}");
    };
    too_many("another code").await;
    node.login("ada@example.com").await;
    too_many("a sign-in by the password, which whoever guesses may know").await;
    clock.advance(Duration::from_secs(1));
    node.signin_finish(&third, signin_sent(&code)).await.unwrap();
    node.remove().await;
}

async fn a_right_password_alone_forgets_no_failure(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    let wrong = || node.try_login(login_request("ada@example.com", "not the right password"));
    for _ in 0..4 {
        assert_eq!(reason(&wrong().await.unwrap_err()), "INVALID_CREDENTIALS");
    }
    for _ in 0..3 {
        node.signin_challenge("ada@example.com").await;
    }
    assert_eq!(reason(&wrong().await.unwrap_err()), "INVALID_CREDENTIALS", "the fifth in a row");
    assert_eq!(reason(&wrong().await.unwrap_err()), "TOO_MANY_ATTEMPTS");
    let before = node.events("act = 'login.failed'").await;
    let refused = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS", "nor is the right one looked at");
    assert_eq!(node.events("act = 'login.failed'").await, before, "and no row is written");
    clock.advance(Duration::from_secs(2));
    let challenge = node.signin_challenge("ada@example.com").await.challenge_id;
    node.signin_finish(&challenge, signin_totp(signin_app(&seed, clock.now()))).await.unwrap();
    for _ in 0..5 {
        assert_eq!(reason(&wrong().await.unwrap_err()), "INVALID_CREDENTIALS", "all is forgotten");
    }
    node.remove().await;
}

async fn a_right_current_password_forgets_no_failure_either(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    node.register("ada@example.com").await;
    let token = node.login("ada@example.com").await.access_token;
    let change = async |current: &str| {
        // One that will not do, so that all goes on as before.
        let request = v1::ChangePasswordRequest { current_password: current.into(), new_password: "short".into() };
        node.account().await.change_password(bearer(&token, request)).await.unwrap_err()
    };
    for _ in 0..4 {
        assert_eq!(reason(&change("not the right password").await), "INVALID_CREDENTIALS");
    }
    for _ in 0..3 {
        assert_eq!(change(PASSWORD).await.code(), Code::InvalidArgument, "the right one costs no attempt");
    }
    assert_eq!(reason(&change("not the right password").await), "INVALID_CREDENTIALS", "the fifth in a row");
    assert_eq!(reason(&change("not the right password").await), "TOO_MANY_ATTEMPTS");
    node.remove().await;
}

/// A token of a session that used the second factor, in wrong hands: what is guessed at with it counts where it was signed in.
async fn whoever_has_a_token_keeps_nobody_from_signing_in(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.account_failures=45").start().await;
    let ada = node.register("ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    let sign_in = async || {
        clock.advance(Duration::from_secs(30));
        let challenge = node.signin_challenge("ada@example.com").await.challenge_id;
        node.signin_finish(&challenge, signin_totp(signin_app(&seed, clock.now()))).await
    };
    let stolen = sign_in().await.unwrap().access_token;
    let guess = async |token: &str| {
        let wrong = "not the right password".into();
        let request = v1::ChangePasswordRequest { current_password: wrong, new_password: "short".into() };
        reason(&node.account().await.change_password(bearer(token, request)).await.unwrap_err())
    };
    for _ in 0..10 {
        assert_eq!(guess(&stolen).await, "INVALID_CREDENTIALS");
        clock.advance(Duration::from_secs(16));
    }
    assert_eq!(guess(&stolen).await, "TOO_MANY_ATTEMPTS", "it is at its cap");
    let own = sign_in().await.unwrap().access_token;
    assert_eq!(guess(&own).await, "INVALID_CREDENTIALS", "which is its own");
    node.remove().await;
}

/// Each with a table away that it needs, more often than is free; and then rightly.
async fn what_could_not_be_looked_at_is_no_failure(backend: Backend) {
    const PHONE: &str = "+4930123456";
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let ada = node.register("ada@example.com").await;
    let mailed = outbox_code(&node.database, "ada@example.com").await;
    let seed = node.signin_give_totp(&ada, &[]).await;
    let challenge = node.signin_challenge("ada@example.com").await.challenge_id;
    node.register_verified("grace@example.com").await;
    let grace = node.login("grace@example.com").await.access_token;
    let app = factors_codes(&node.totp_secret(&grace).await, &[clock.now().as_seconds()]).await.swap_remove(0);
    let change = v1::ChangePhoneNumberRequest { phone_number: PHONE.into() };
    let change = node.account().await.change_phone_number(bearer(&grace, change)).await.unwrap().into_inner();
    let sent = outbox_code(&node.database, PHONE).await;
    let attempt = async |number: u32| -> Result<(), Status> {
        match number {
            0 => node.auth().await.verify_email(v1::VerifyEmailRequest { code: mailed.clone() }).await.map(drop),
            1 => node.signin_answer(&challenge, signin_totp(signin_app(&seed, clock.now()))).await.map(drop),
            2 => {
                let (verification_id, code) = (change.verification_id.clone(), sent.clone());
                let request = v1::VerifyPhoneNumberRequest { verification_id, code };
                node.account().await.verify_phone_number(bearer(&grace, request)).await.map(drop)
            }
            3 => node.confirm_totp(&grace, &app).await.map(drop),
            _ => {
                let (email, password) = ("eve@example.com".into(), PASSWORD.into());
                let request = v1::RegisterRequest { email, password, ..v1::RegisterRequest::default() };
                node.auth().await.register(request).await.map(drop)
            }
        }
    };
    for (number, table) in (0..).zip(["mailed_codes", "known_devices", "challenges", "recovery_codes", "data_keys"]) {
        node.database.execute(&format!("ALTER TABLE {table} RENAME TO away_{number}")).await;
        for _ in 0..6 {
            let code = attempt(number).await.unwrap_err().code();
            assert_ne!(code, Code::ResourceExhausted, "{number}");
            let given_back = async || node.database.integer("SELECT COUNT(*) FROM throttles").await == 0;
            until("the attempt is given back", given_back).await;
        }
        node.database.execute(&format!("ALTER TABLE away_{number} RENAME TO {table}")).await;
        attempt(number).await.unwrap();
    }
    node.remove().await;
}

async fn an_administrator_lets_in_whoever_was_locked_out(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.set("throttle.account_failures=5").start().await;
    node.database.make_role("helper", &["users:set_password", "users:remove_factors"]).await;
    let helper = node.join("helper", &["helper"], "").await.access_token;
    let request = v1::RegisterRequest {
        email: "ada@example.com".into(),
        username: "ada".into(),
        password: PASSWORD.into(),
        ..v1::RegisterRequest::default()
    };
    let ada = node.auth().await.register(request).await.unwrap().into_inner().user.unwrap();
    let lock_out = async || {
        for identifier in ["ada", "ada@example.com"] {
            for _ in 0..5 {
                let wrong = node.try_login(login_request(identifier, "not the right password")).await.unwrap_err();
                assert_eq!(reason(&wrong), "INVALID_CREDENTIALS");
            }
            let refused = node.try_login(login_request(identifier, PASSWORD)).await.unwrap_err();
            assert_eq!(reason(&refused), "TOO_MANY_ATTEMPTS", "{identifier}");
        }
    };
    let mut users = UserAdminServiceClient::new(node.shared().await);
    lock_out().await;
    let set =
        v1::SetUserPasswordRequest { user_id: ada.id.clone(), password: "paper tigers dislike heavy rain".into() };
    users.set_user_password(bearer(&helper, set)).await.unwrap();
    for identifier in ["ada", "ada@example.com"] {
        node.try_login(login_request(identifier, "paper tigers dislike heavy rain")).await.unwrap();
    }
    let seed = node.signin_give_totp(&ada, &[]).await;
    let challenge = node
        .signin_challenge_of(login_request("ada@example.com", "paper tigers dislike heavy rain"))
        .await
        .challenge_id;
    for _ in 0..5 {
        let wrong = signin_totp(signin_other(&signin_app(&seed, clock.now())));
        assert_eq!(reason(&node.signin_answer(&challenge, wrong).await.unwrap_err()), "CODE_INVALID");
    }
    lock_out().await;
    let remove = v1::RemoveUserFactorsRequest { user_id: ada.id.clone() };
    users.remove_user_factors(bearer(&helper, remove.clone())).await.unwrap();
    for identifier in ["ada", "ada@example.com"] {
        node.try_login(login_request(identifier, "paper tigers dislike heavy rain")).await.unwrap();
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM throttles").await, 0, "codes are forgotten, too");
    // Where there is no factor any more, what was guessed is forgotten all the same, and no session ends.
    let token = node.try_login(login_request("ada", "paper tigers dislike heavy rain")).await.unwrap().access_token;
    lock_out().await;
    users.remove_user_factors(bearer(&helper, remove)).await.unwrap();
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM throttles").await, 0);
    assert!(node.admits(&token).await);
    node.remove().await;
}

/// All that a caller can see of a refusal, but for its request id and its date.
fn seen(status: &Status) -> (Code, String, Vec<u8>) {
    (status.code(), status.message().to_owned(), status.details().to_vec())
}

async fn nobody_can_tell_whether_there_is_an_account(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::signin_builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    node.register("ada@example.com").await;
    let suspended = node.register("suspended@example.com").await;
    let passwordless = node.register("passwordless@example.com").await;
    let reachable = node.register("reachable@example.com").await;
    let change = async |what: &str, user: &v1::User| {
        let id = node.database.id(&user.id.parse().unwrap());
        assert_eq!(node.database.execute(&format!("UPDATE users SET {what} WHERE id = {id}")).await, 1);
    };
    change("state = 'suspended'", &suspended).await;
    change("password_hash = NULL", &passwordless).await;
    change("phone_number = '+4930123456'", &reachable).await;
    let rows = async || {
        let mut counts = Vec::new();
        for table in ["challenges", "outbox_kept", "audit_events", "throttles", "budgets"] {
            counts.push(node.database.integer(&format!("SELECT COUNT(*) FROM {table}")).await);
        }
        counts
    };
    for channel in [CodeChannel::Email, CodeChannel::Sms] {
        let mut answers = Vec::new();
        let counters = "SELECT CAST(COALESCE(SUM(failures), 0) AS BIGINT) FROM throttles";
        for identifier in [
            "ada@example.com",
            "nobody@example.com",
            "nobody",
            "suspended@example.com",
            "passwordless@example.com",
            "reachable@example.com",
            "neither address\nnor name",
        ] {
            node.database.execute("DELETE FROM budgets").await;
            let before = rows().await;
            let challenge = node.signin_send(identifier, channel).await.unwrap();
            let written: Vec<_> = rows().await.iter().zip(&before).map(|(after, before)| after - before).collect();
            assert_eq!(written[..3], [1, 1, 1], "{identifier}: a challenge, a message, an event");
            assert_eq!(
                written[3..],
                [0, 3],
                "{identifier}: the budgets of who is asked for, who it goes to, and everybody"
            );
            let (keys, failures) = (rows().await[3], node.database.integer(counters).await);
            let v1::Challenge { challenge_id, factors, expire_time } = challenge;
            assert!(challenge_id.len() == 47 && challenge_id.starts_with("vch_"));
            let mut refusals = Vec::new();
            for guess in 0..7 {
                let wrong = signin_sent(format!("not it {guess}"));
                refusals.push(seen(&node.signin_answer(&challenge_id, wrong).await.unwrap_err()));
            }
            let counted = (rows().await[3] - keys, node.database.integer(counters).await - failures);
            answers.push((identifier, (factors, expire_time, refusals, counted)));
            // The waits of the one channel are not those of the other.
            clock.advance(Duration::from_hours(24));
            node.catch_up().await;
        }
        for (identifier, (factors, _, refusals, counted)) in &answers {
            let (of_first, refused, counted_first) = (&answers[0].1.0, &answers[0].1.2, answers[0].1.3);
            assert_eq!((factors, refusals, *counted), (of_first, refused, counted_first), "{channel:?} {identifier}");
        }
        assert!(answers[0].1.3.1 > 0, "guesses are counted");
    }
    node.remove().await;
}
