//! The app is oathtool, by the real time: a code is good once, whatever it was used for.

use vouchsafe::{crypto::machine_date, pb::v1::ChallengeFactor};

use super::{ADA, refusal, told};
use crate::{
    rpc::on_both_databases,
    support::{
        Backend, TestNode, factors_oathtool,
        signin::{signin_other, signin_totp},
    },
};

on_both_databases!(a_code_of_oathtool_is_good_once);

async fn a_code_of_oathtool_is_good_once(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register_verified(ADA).await;
    let token = node.login(ADA).await.access_token;
    let secret = node.totp_secret(&token).await;
    let wrong = told(tonic::Code::Unauthenticated, "CODE_INVALID");
    let first = factors_oathtool(&secret, None).await;
    assert!(first.len() == 6 && first.bytes().all(|byte| byte.is_ascii_digit()), "{first}");
    assert_eq!(refusal(node.confirm_totp(&token, &signin_other(&first)).await), wrong);
    assert_eq!(node.confirm_totp(&token, &first).await.unwrap().len(), 10);

    let challenge = node.signin_challenge(ADA).await;
    assert!(challenge.factors.contains(&ChallengeFactor::Totp.into()));
    let replay = node.signin_answer(&challenge.challenge_id, signin_totp(&first)).await;
    assert_eq!(refusal(replay), wrong, "it confirmed the app, and is used up");
    // As an app shows it whose clock is a step ahead: later than the one before, and still good for at least that step.
    let next = factors_oathtool(&secret, Some(machine_date().as_seconds() + 30)).await;
    let tokens = node.signin_finish(&challenge.challenge_id, signin_totp(&next)).await.unwrap();
    assert_eq!(node.signin_said(&tokens).await, "pwd+otp+mfa aal2");

    let again = node.signin_challenge(ADA).await.challenge_id;
    for spent in [&next, &first] {
        assert_eq!(refusal(node.signin_answer(&again, signin_totp(spent)).await), wrong, "a replay");
    }
    assert_eq!(node.events("act = 'login.succeeded'").await, 2, "the first was before there was an app");
    node.remove().await;
}
