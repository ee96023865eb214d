//! `ChangePhoneNumber` and `VerifyPhoneNumber`.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Status};
use vouchsafe::{domain::notice::Notice, pb::v1};

use super::{ADA, at_once, mailing, refusal, remove};
use crate::{
    rpc::on_both_databases,
    support::{Backend, ManualClock, TestNode, bearer, fields, reason},
};

on_both_databases!(
    a_number_is_the_account_s_when_its_code_came_back,
    a_code_of_a_phone_may_be_guessed_at_five_times,
    parallel_guesses_count_like_those_one_after_the_other,
    a_verification_is_its_owner_s,
    a_verification_ends_after_ten_minutes,
    a_number_takes_a_way_to_send_sms,
    whoever_can_be_sent_no_more_is_told_so,
);

const NUMBER: &str = "+4930123456";

async fn change(node: &TestNode, token: &str, number: &str) -> Result<v1::ChangePhoneNumberResponse, Status> {
    let request = v1::ChangePhoneNumberRequest { phone_number: number.into() };
    Ok(node.account().await.change_phone_number(bearer(token, request)).await?.into_inner())
}

async fn verify(node: &TestNode, token: &str, id: &str, code: &str) -> Result<(), Status> {
    let request = v1::VerifyPhoneNumberRequest { verification_id: id.into(), code: code.into() };
    node.account().await.verify_phone_number(bearer(token, request)).await.map(|_| ())
}

fn challenge_invalid() -> (Code, String) {
    (Code::Unauthenticated, "CHALLENGE_INVALID".into())
}

/// Another code than this one.
fn wrong(code: &str) -> String {
    let last = if code.ends_with('7') { '8' } else { '7' };
    format!("{}{last}", &code[..7])
}

async fn a_number_is_the_account_s_when_its_code_came_back(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let token = node.verified(ADA).await.access_token;
    assert_eq!(fields(&change(&node, &token, "030123456").await.unwrap_err()), ["phone_number"]);
    let begun = change(&node, &token, "+49 (30) 12-34.56").await.unwrap();
    assert!(begun.verification_id.starts_with("vch_") && begun.verification_id.len() == 47);
    let code = node.code_to(NUMBER).await;
    assert_eq!(code.len(), 8);
    assert_eq!(node.own(&token).await.phone_number, "");
    assert_eq!(fields(&verify(&node, &token, "", "").await.unwrap_err()), ["verification_id", "code"]);
    verify(&node, &token, &begun.verification_id, &code).await.unwrap();
    assert_eq!(node.own(&token).await.phone_number, NUMBER);
    assert!(node.said_to(ADA).await.last() == Some(&Notice::PhoneChanged));
    assert_eq!(refusal(verify(&node, &token, &begun.verification_id, &code).await), challenge_invalid());
    // One begun later is in place of one begun before; a removal ends it, and is done at once.
    let before = change(&node, &token, "+4930999999").await.unwrap();
    let old = node.code_to("+4930999999").await;
    let after = change(&node, &token, "+4930888888").await.unwrap();
    assert_eq!(refusal(verify(&node, &token, &before.verification_id, &old).await), challenge_invalid());
    let removed = change(&node, &token, "").await.unwrap();
    assert_eq!((removed.verification_id.as_str(), removed.expire_time), ("", None));
    assert_eq!(node.own(&token).await.phone_number, "");
    let code = node.code_to("+4930888888").await;
    assert_eq!(refusal(verify(&node, &token, &after.verification_id, &code).await), challenge_invalid());
    change(&node, &token, "").await.unwrap();
    assert_eq!(node.events("act = 'phone_number.changed'").await, 2, "what was not there was not removed");
    assert_eq!(node.count("challenges").await, 0);
    node.remove().await;
}

async fn a_code_of_a_phone_may_be_guessed_at_five_times(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let token = node.verified(ADA).await.access_token;
    let id = change(&node, &token, NUMBER).await.unwrap().verification_id;
    let code = node.code_to(NUMBER).await;
    for _ in 0..4 {
        assert_eq!(refusal(verify(&node, &token, &id, &wrong(&code)).await).1, "CODE_INVALID");
    }
    assert_eq!(refusal(verify(&node, &token, "vch_unknown", &code).await), challenge_invalid());
    verify(&node, &token, &id, &code).await.unwrap();
    let id = change(&node, &token, "+4930777777").await.unwrap().verification_id;
    let code = node.code_to("+4930777777").await;
    for _ in 0..5 {
        assert_eq!(refusal(verify(&node, &token, &id, &wrong(&code)).await).1, "CODE_INVALID");
    }
    let reason = reason(&verify(&node, &token, &id, &code).await.unwrap_err());
    assert!(["CHALLENGE_INVALID", "TOO_MANY_ATTEMPTS"].contains(&&*reason), "{reason}");
    assert_eq!(node.own(&token).await.phone_number, NUMBER);
    node.remove().await;
}

async fn parallel_guesses_count_like_those_one_after_the_other(backend: Backend) {
    let node = Arc::new(mailing(backend).await.start().await);
    let token = node.verified(ADA).await.access_token;
    let id = change(&node, &token, NUMBER).await.unwrap().verification_id;
    let code = node.code_to(NUMBER).await;
    let guess = |node: Arc<TestNode>, _| {
        let (token, id, code) = (token.clone(), id.clone(), wrong(&code));
        async move {
            match verify(&node, &token, &id, &code).await {
                // Nobody looked at the code any more.
                Err(status) if reason(&status) == "CHALLENGE_INVALID" => Ok(()),
                other => other,
            }
        }
    };
    at_once(&node, guess).await;
    assert_eq!(node.database.integer("SELECT failures FROM challenges").await, 5);
    let refused = verify(&node, &token, &id, &code).await.unwrap_err();
    assert!(["CHALLENGE_INVALID", "TOO_MANY_ATTEMPTS"].contains(&&*reason(&refused)), "{refused:?}");
    assert_eq!(node.own(&token).await.phone_number, "");
    remove(node).await;
}

async fn a_verification_is_its_owner_s(backend: Backend) {
    let node = mailing(backend).await.start().await;
    let token = node.verified(ADA).await.access_token;
    let mallory = node.verified("mallory@example.com").await.access_token;
    let id = change(&node, &token, NUMBER).await.unwrap().verification_id;
    let code = node.code_to(NUMBER).await;
    assert_eq!(refusal(verify(&node, &mallory, &id, &code).await), challenge_invalid());
    assert_eq!((node.own(&token).await.phone_number, node.own(&mallory).await.phone_number), Default::default());
    verify(&node, &token, &id, &code).await.unwrap();
    node.remove().await;
}

async fn a_verification_ends_after_ten_minutes(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = mailing(backend).await.clock(clock.clone()).set("tokens.access_ttl=1h").start().await;
    let token = node.verified(ADA).await.access_token;
    let begun = change(&node, &token, NUMBER).await.unwrap();
    let code = node.code_to(NUMBER).await;
    clock.advance(Duration::from_mins(10));
    node.catch_up().await;
    assert_eq!(refusal(verify(&node, &token, &begun.verification_id, &code).await), challenge_invalid());
    node.remove().await;
}

async fn a_number_takes_a_way_to_send_sms(backend: Backend) {
    let node = mailing(backend).await.set("notify.sms=off").start().await;
    let token = node.verified(ADA).await.access_token;
    let refused = change(&node, &token, NUMBER).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "DELIVERY_UNAVAILABLE".into()));
    change(&node, &token, "").await.unwrap();
    node.remove().await;
}

async fn whoever_can_be_sent_no_more_is_told_so(backend: Backend) {
    let node = mailing(backend).await.set("throttle.messages_per_recipient=3").start().await;
    let token = node.verified(ADA).await.access_token;
    for _ in 0..3 {
        change(&node, &token, NUMBER).await.unwrap();
    }
    let refused = change(&node, &token, NUMBER).await;
    assert_eq!(refusal(refused), (Code::ResourceExhausted, "TOO_MANY_ATTEMPTS".into()));
    change(&node, &token, "+4930888888").await.unwrap();
    node.remove().await;
}
