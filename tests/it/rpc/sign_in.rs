//! Register, log in, verify, refresh, log out.

use super::on_both_databases;
use crate::support::{Backend, TestNode, bearer, reason};
use vouchsafe::pb::v1;

on_both_databases!(a_user_signs_in_stays_and_leaves);

async fn a_user_signs_in_stays_and_leaves(backend: Backend) {
    let node = TestNode::start(backend).await;
    let user = node.register("Ada@example.com").await;
    let tokens = node.login("ada@EXAMPLE.com").await;
    let verified = node.verify(&tokens.access_token).await;
    assert!(verified.active);
    let claims = verified.claims.unwrap();
    assert_eq!((claims.subject, claims.session_id), (user.id.clone(), tokens.session_id.clone()));

    let request = bearer(&tokens.access_token, v1::GetAccountRequest {});
    let account = node.account().await.get_account(request).await.unwrap().into_inner().user.unwrap();
    assert_eq!(account.email, "Ada@example.com");

    let renewed = node.refresh(&tokens.refresh_token).await.unwrap();
    assert_ne!(renewed.refresh_token, tokens.refresh_token);
    let request = v1::LogoutRequest { refresh_token: renewed.refresh_token.clone() };
    node.auth().await.logout(request).await.unwrap();
    for token in [&tokens.access_token, &renewed.access_token] {
        let verified = node.verify(token).await;
        assert_eq!((verified.active, verified.inactive_reason()), (false, v1::InactiveReason::Revoked));
    }
    let refused = node.refresh(&renewed.refresh_token).await.unwrap_err();
    assert_eq!(reason(&refused), "SESSION_REVOKED");
    node.remove().await;
}
