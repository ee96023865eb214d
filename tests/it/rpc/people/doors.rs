//! The other doors: an account that is suspended or locked at each of them, and what is good at one door at all the others.

use std::sync::Arc;

use tonic::{Code, Status};
use vouchsafe::{
    domain::time::Clock as _,
    pb::v1::{self, CodeChannel, InactiveReason, user_admin_service_client::UserAdminServiceClient},
};

use super::account::{NEW_PASSWORD, code_invalid, refusal, signs_in};
use crate::{
    rpc::{
        on_both_databases,
        service_accounts::{administrator, create},
    },
    support::{
        Backend, ManualClock, PASSWORD, TestNode, TestNodeBuilder, bearer, forwarded, login_request,
        outbox::outbox_keep,
        reason,
        signin::{signin_app, signin_other, signin_recovery, signin_sent, signin_totp},
    },
};

on_both_databases!(
    a_suspended_account_gets_in_by_no_door,
    a_locked_account_opens_to_its_owner_alone,
    a_reset_unlocks_no_second_factor,
    a_handle_of_a_challenge_is_no_token_at_any_door,
    a_code_of_one_purpose_is_none_of_another,
);

const ADA: &str = "ada@example.com";
const BOB: &str = "bob@example.com";
const MALLORY: &str = "mallory@example.com";
const PHONE: &str = "+4930123456";

async fn builder(backend: Backend, clock: &Arc<ManualClock>) -> TestNodeBuilder {
    let settings = ["notify.email=log", "notify.sms=log", "login.codes=email,sms"];
    let node = TestNode::builder(backend).await.clock(clock.clone());
    settings.into_iter().fold(node, TestNodeBuilder::set)
}

fn invalid(reason: &str) -> (Code, String) {
    (Code::Unauthenticated, reason.to_owned())
}

/// A sign-in with the right password, on the device with this secret and from this address.
fn on(identifier: &str, device: &str, from: &str) -> tonic::Request<v1::LoginRequest> {
    let device = Some(v1::Device { known_device_secret: device.into(), ..Default::default() });
    forwarded(from, v1::LoginRequest { device, ..login_request(identifier, PASSWORD) })
}

async fn change_phone(node: &TestNode, token: &str, number: &str) -> String {
    let request = bearer(token, v1::ChangePhoneNumberRequest { phone_number: number.into() });
    node.account().await.change_phone_number(request).await.unwrap().into_inner().verification_id
}

async fn verify_phone(node: &TestNode, token: &str, id: &str, code: &str) -> Result<(), Status> {
    let request = v1::VerifyPhoneNumberRequest { verification_id: id.into(), code: code.into() };
    node.account().await.verify_phone_number(bearer(token, request)).await.map(|_| ())
}

/// Gives an account a phone as its owner would.
async fn give_phone(node: &TestNode, token: &str, number: &str) {
    let id = change_phone(node, token, number).await;
    verify_phone(node, token, &id, &node.code_to(number).await).await.unwrap();
}

async fn a_suspended_account_gets_in_by_no_door(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let root = administrator(&node).await;
    let (ada, bob) = (node.register_verified(ADA).await, node.register_verified(BOB).await);
    let sessions = [node.login(ADA).await, node.login(BOB).await];
    give_phone(&node, &sessions[0].access_token, PHONE).await;
    let seed = node.signin_give_totp(&bob, &["AAAA-AAAA-AAAA-AAAA"]).await;
    // What was opened before.
    let mailed = node.signin_send(ADA, CodeChannel::Email).await.unwrap().challenge_id;
    let mailed_code = node.code_to(ADA).await;
    let texted = node.signin_send(ADA, CodeChannel::Sms).await.unwrap().challenge_id;
    let texted_code = node.code_to(PHONE).await;
    node.ask_reset(ADA).await.unwrap();
    let reset = node.code_to(ADA).await;
    let second = node.signin_challenge(BOB).await.challenge_id;
    let through_old_doors = async || {
        for (door, challenge, answer) in [
            ("a code by mail", &mailed, signin_sent(&mailed_code)),
            ("a code by SMS", &texted, signin_sent(&texted_code)),
            ("a code of the app", &second, signin_totp(signin_app(&seed, clock.now()))),
            ("a recovery code", &second, signin_recovery("AAAA-AAAA-AAAA-AAAA")),
        ] {
            assert_eq!(refusal(node.signin_answer(challenge, answer).await), invalid("CHALLENGE_INVALID"), "{door}");
        }
        assert_eq!(refusal(node.reset(&reset, NEW_PASSWORD).await), code_invalid());
        for tokens in &sessions {
            assert_eq!(refusal(node.refresh(&tokens.refresh_token).await), invalid("SESSION_REVOKED"));
            assert_eq!(node.verify_strongly(&tokens.access_token).await, InactiveReason::Revoked);
            assert!(!node.admits(&tokens.access_token).await);
        }
    };
    let mut users = UserAdminServiceClient::new(node.shared().await);
    for user in [&ada, &bob] {
        let suspend = v1::SuspendUserRequest { user_id: user.id.clone() };
        users.suspend_user(bearer(&root, suspend)).await.unwrap();
    }
    through_old_doors().await;
    // What would be opened now.
    for (identifier, tokens) in [(ADA, &sessions[0]), (BOB, &sessions[1])] {
        for device in ["", &tokens.known_device_secret] {
            let refused = node.auth().await.login(on(identifier, device, "")).await;
            assert_eq!(refusal(refused), invalid("INVALID_CREDENTIALS"), "{identifier} {device}");
        }
    }
    let told = [node.said_to(ADA).await.len(), node.said_to(PHONE).await.len()];
    for channel in [CodeChannel::Email, CodeChannel::Sms] {
        let challenge = node.signin_send(ADA, channel).await.unwrap().challenge_id;
        assert_eq!(refusal(node.signin_answer(&challenge, signin_sent(&mailed_code)).await), code_invalid());
    }
    node.ask_reset(ADA).await.unwrap();
    assert_eq!([node.said_to(ADA).await.len(), node.said_to(PHONE).await.len()], told);
    // A person is no service, whatever is taken for its name and its secret.
    for client in [ADA.to_owned(), ada.id.clone(), format!("svc_{}", ada.id)] {
        for secret in [PASSWORD, &reset, &sessions[0].known_device_secret, &sessions[0].access_token] {
            let refused = node.ask_as_client(&client, secret, "").await;
            assert_eq!(refusal(refused), invalid("INVALID_CLIENT"), "{client}");
        }
    }
    for user in [&ada, &bob] {
        let reactivate = v1::ReactivateUserRequest { user_id: user.id.clone() };
        users.reactivate_user(bearer(&root, reactivate)).await.unwrap();
    }
    through_old_doors().await;
    assert!(signs_in(&node, ADA, PASSWORD).await);
    let second = node.signin_challenge(BOB).await.challenge_id;
    node.signin_finish(&second, signin_totp(signin_app(&seed, clock.now()))).await.unwrap();
    node.remove().await;
}

async fn a_locked_account_opens_to_its_owner_alone(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = builder(backend, &clock).await.set("throttle.account_failures=5");
    let node = node.set("grpc.trusted_proxies=127.0.0.0/8").start().await;
    outbox_keep(&node.database).await;
    let request = v1::RegisterRequest {
        email: ADA.into(),
        username: "ada".into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    let ada = node.auth().await.register(request).await.unwrap().into_inner().user.unwrap();
    node.register(MALLORY).await;
    node.database.execute("UPDATE users SET email_verified_time = 1").await;
    let mut tokens = node.login(ADA).await;
    let mallory_s = node.login(MALLORY).await.known_device_secret;
    for identifier in [ADA, "ada"] {
        for _ in 0..5 {
            assert!(!signs_in(&node, identifier, "not the right password").await);
        }
    }
    let is_locked = async |after: &str| {
        for identifier in [ADA, "ada", " ADA@Example.com", "Ada "] {
            for (device, from) in [("", ""), ("", "203.0.113.7"), (&*mallory_s, ""), ("vds_x", "2001:db8::1")] {
                let refused = node.auth().await.login(on(identifier, device, from)).await;
                let expected = (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS".to_owned());
                assert_eq!(refusal(refused), expected, "{identifier:?} from {from:?} after {after}");
            }
        }
    };
    is_locked("guesses").await;
    // Whoever is in stays in, and that opens nothing to others.
    tokens = node.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(node.own(&tokens.access_token).await.id, ada.id);
    is_locked("a refresh").await;
    let short = v1::ChangePasswordRequest { current_password: PASSWORD.into(), new_password: "short".into() };
    let refused = node.account().await.change_password(bearer(&tokens.access_token, short)).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    is_locked("the right password at a change of it").await;
    node.ask_reset(ADA).await.unwrap();
    node.send_verification(ADA).await.unwrap();
    is_locked("a request for a reset").await;
    let sent = node.signin_send(ADA, CodeChannel::Email).await.unwrap().challenge_id;
    assert_eq!(refusal(node.signin_answer(&sent, signin_sent("not it")).await), code_invalid());
    for guess in ["vpr_wrong", "vev_wrong"] {
        assert_eq!(refusal(node.reset(guess, NEW_PASSWORD).await), code_invalid());
        assert_eq!(refusal(node.verify_email(guess).await), code_invalid());
    }
    is_locked("guesses at codes").await;
    for client in [ADA.to_owned(), format!("svc_{}", ada.id)] {
        assert_eq!(refusal(node.ask_as_client(&client, PASSWORD, "").await), invalid("INVALID_CLIENT"));
    }
    is_locked("the door of services").await;

    // Whoever reads the mail is its owner: a reset opens it at once, by whichever name.
    node.ask_reset("ada").await.unwrap();
    node.reset(&node.code_to(ADA).await, NEW_PASSWORD).await.unwrap();
    for identifier in [ADA, "ada"] {
        assert!(signs_in(&node, identifier, NEW_PASSWORD).await && !signs_in(&node, identifier, PASSWORD).await);
    }
    node.remove().await;
}

async fn a_reset_unlocks_no_second_factor(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = builder(backend, &clock).await.set("throttle.account_failures=5").start().await;
    outbox_keep(&node.database).await;
    let bob = node.register_verified(BOB).await;
    let seed = node.signin_give_totp(&bob, &["AAAA-AAAA-AAAA-AAAA"]).await;
    let right = || signin_app(&seed, clock.now());
    let stranger_s = node.signin_challenge(BOB).await.challenge_id;
    for _ in 0..5 {
        let wrong = node.signin_answer(&stranger_s, signin_totp(signin_other(&right()))).await;
        assert_eq!(refusal(wrong), code_invalid());
    }
    node.ask_reset(BOB).await.unwrap();
    node.reset(&node.code_to(BOB).await, NEW_PASSWORD).await.unwrap();
    let by_password = node.signin_challenge_of(login_request(BOB, NEW_PASSWORD)).await.challenge_id;
    let sent = node.signin_send(BOB, CodeChannel::Email).await.unwrap().challenge_id;
    let code = signin_sent(node.code_to(BOB).await);
    let v1::complete_challenge_response::Outcome::Challenge(by_mail) = node.signin_answer(&sent, code).await.unwrap()
    else {
        panic!("there is a second factor")
    };
    for challenge in [&by_password, &by_mail.challenge_id] {
        let refused = node.signin_answer(challenge, signin_totp(right())).await;
        assert_eq!(refusal(refused), (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS".into()));
    }
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM sessions").await, 0);
    // The way out that is left: nobody guesses 80 bits.
    node.signin_finish(&by_password, signin_recovery("AAAA-AAAA-AAAA-AAAA")).await.unwrap();
    node.remove().await;
}

async fn a_handle_of_a_challenge_is_no_token_at_any_door(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    let root = administrator(&node).await;
    let (service, _) = create(&node, &root, &[]).await;
    node.register_verified(ADA).await;
    let bob = node.register_verified(BOB).await;
    node.register_verified(MALLORY).await;
    let ada_s = node.login(ADA).await;
    give_phone(&node, &ada_s.access_token, PHONE).await;
    let seed = node.signin_give_totp(&bob, &[]).await;
    let second = node.signin_challenge(BOB).await.challenge_id;
    let mailed = node.signin_send(ADA, CodeChannel::Email).await.unwrap().challenge_id;
    let mailed_code = node.code_to(ADA).await;
    let texted = node.signin_send(ADA, CodeChannel::Sms).await.unwrap().challenge_id;
    let texted_code = node.code_to(PHONE).await;
    let phone = change_phone(&node, &ada_s.access_token, "+4930777777").await;
    let phone_code = node.code_to("+4930777777").await;
    for (kind, handle) in
        [("second factor", &second), ("code by mail", &mailed), ("code by SMS", &texted), ("phone number", &phone)]
    {
        assert_eq!(node.verify(handle).await.inactive_reason(), InactiveReason::Malformed, "{kind}");
        assert!(!node.admits(handle).await, "{kind}");
        assert_eq!(refusal(node.refresh(handle).await), invalid("REFRESH_TOKEN_INVALID"), "{kind}");
        node.logout(handle).await.unwrap();
        node.revoke_token(handle).await.unwrap();
        let revoke = v1::RevokeSessionRequest { session_id: handle.clone() };
        let refused = node.account().await.revoke_session(bearer(&ada_s.access_token, revoke)).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{kind}: no name of a session");
        assert_eq!(refusal(node.verify_email(handle).await), code_invalid(), "{kind}");
        assert_eq!(refusal(node.reset(handle, NEW_PASSWORD).await), code_invalid(), "{kind}");
        let refused = node.ask_as_client(&service.client_id, handle, "").await;
        assert_eq!(refusal(refused), invalid("INVALID_CLIENT"), "{kind}");
        assert!(!signs_in(&node, MALLORY, handle).await, "{kind}");
        let given = node.auth().await.login(on(MALLORY, handle, "")).await.unwrap().into_inner().outcome.unwrap();
        let v1::login_response::Outcome::Tokens(given) = given else { panic!("a challenge") };
        assert_ne!(given.known_device_secret, *handle, "{kind}");
    }
    // Each with its own right code, at the other's door.
    let refused = node.signin_answer(&phone, signin_sent(&phone_code)).await;
    assert_eq!(refusal(refused), invalid("CHALLENGE_INVALID"));
    for (handle, code) in [(&mailed, &mailed_code), (&texted, &texted_code)] {
        let refused = verify_phone(&node, &ada_s.access_token, handle, code).await;
        assert_eq!(refusal(refused), invalid("CHALLENGE_INVALID"));
    }
    for (handle, code) in [(&mailed, &texted_code), (&texted, &mailed_code), (&second, &mailed_code)] {
        assert_eq!(refusal(node.signin_answer(handle, signin_sent(code)).await), code_invalid());
    }
    // Nothing of it was used up, and nobody was signed out.
    node.signin_finish(&texted, signin_sent(&texted_code)).await.unwrap();
    node.signin_finish(&mailed, signin_sent(&mailed_code)).await.unwrap();
    node.signin_finish(&second, signin_totp(signin_app(&seed, clock.now()))).await.unwrap();
    verify_phone(&node, &ada_s.access_token, &phone, &phone_code).await.unwrap();
    node.refresh(&ada_s.refresh_token).await.unwrap();
    node.remove().await;
}

async fn a_code_of_one_purpose_is_none_of_another(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = builder(backend, &clock).await.start().await;
    outbox_keep(&node.database).await;
    node.register(ADA).await;
    let verify = node.code_to(ADA).await;
    node.ask_reset(ADA).await.unwrap();
    let reset = node.code_to(ADA).await;
    let sent = node.signin_send(ADA, CodeChannel::Email).await.unwrap().challenge_id;
    let digits = node.code_to(ADA).await;
    for wrong in [verify.clone(), verify.replace("vev_", "vpr_"), digits.clone(), format!("vpr_{digits}")] {
        assert_eq!(refusal(node.reset(&wrong, NEW_PASSWORD).await), code_invalid(), "{wrong}");
    }
    for wrong in [reset.clone(), reset.replace("vpr_", "vev_"), digits.clone(), format!("vev_{digits}")] {
        assert_eq!(refusal(node.verify_email(&wrong).await), code_invalid(), "{wrong}");
    }
    for wrong in [&verify, &reset] {
        assert_eq!(refusal(node.signin_answer(&sent, signin_sent(wrong)).await), code_invalid(), "{wrong}");
        assert!(!signs_in(&node, ADA, wrong).await);
    }
    // Each is as good as it was at its own door.
    assert!(!node.verify_email(&verify).await.unwrap());
    let tokens = node.signin_finish(&sent, signin_sent(&digits)).await.unwrap();
    assert_eq!(node.own(&tokens.access_token).await.email, ADA);
    node.reset(&reset, NEW_PASSWORD).await.unwrap();
    assert!(signs_in(&node, ADA, NEW_PASSWORD).await);
    assert_eq!(reason(&node.refresh(&tokens.refresh_token).await.unwrap_err()), "SESSION_REVOKED");
    node.remove().await;
}
