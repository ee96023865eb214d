//! Service accounts as their administrators and they themselves meet them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use prost_types::FieldMask;
use tonic::{Code, Status, transport::Channel};
use vouchsafe::pb::v1::{self, InactiveReason, service_account_admin_service_client::ServiceAccountAdminServiceClient};

use super::{on_both_databases, on_shared_forms};
use crate::{
    hostile,
    support::{Backend, ManualClock, TestDatabase, TestNode, bearer, fields, reason, until},
};

on_both_databases!(
    a_service_account_lives_and_dies,
    whoever_is_not_known_is_told_nothing_else,
    a_kept_secret_ends_when_it_was_said,
    a_service_that_moves_to_another_secret_is_never_refused,
    a_creation_sent_again_gets_the_same_secret_which_is_nowhere_stored,
    fields_that_are_wrong_are_named,
    a_service_has_no_account_of_a_user_s_kind,
    a_service_manages_as_far_as_its_roles_and_scope_go,
    off_loopback_service_accounts_verify,
    a_service_token_is_revoked_by_whoever_holds_it,
    requests_for_tokens_are_counted,
);

mod shared {
    use super::{on_shared_forms, what_ends_a_service_account_s_tokens_ends_them_at_every_node};
    on_shared_forms!(what_ends_a_service_account_s_tokens_ends_them_at_every_node);
}

/// An administrator's access token.
pub(crate) async fn administrator(node: &TestNode) -> String {
    let id = node.register("root@example.com").await.id;
    let id = node.database.id(&id.parse().unwrap());
    let sql = format!("INSERT INTO user_roles (user_id, role, assign_time) VALUES ({id}, 'admin', 0)");
    assert_eq!(node.database.execute(&sql).await, 1);
    node.login("root@example.com").await.access_token
}

async fn role(node: &TestNode, name: &str, permissions: &str) {
    let sql = format!(
        "INSERT INTO roles (name, permissions, create_time, update_time) VALUES ('{name}', '{permissions}', 0, 0)"
    );
    assert_eq!(node.database.execute(&sql).await, 1);
}

async fn admin(node: &TestNode) -> ServiceAccountAdminServiceClient<Channel> {
    ServiceAccountAdminServiceClient::new(node.shared().await)
}

/// A service account with these roles and its secret.
pub(crate) async fn create(node: &TestNode, root: &str, roles: &[&str]) -> (v1::ServiceAccount, String) {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    let request = v1::CreateServiceAccountRequest { display_name: "Orders".into(), roles, ..Default::default() };
    let made = admin(node).await.create_service_account(bearer(root, request)).await.unwrap().into_inner();
    (made.service_account.unwrap(), made.client_secret)
}

fn ask(client_id: &str, client_secret: &str) -> v1::IssueServiceTokenRequest {
    v1::IssueServiceTokenRequest {
        client_id: client_id.into(),
        client_secret: client_secret.into(),
        ..Default::default()
    }
}

async fn issue(
    node: &TestNode,
    request: v1::IssueServiceTokenRequest,
) -> Result<v1::IssueServiceTokenResponse, Status> {
    Ok(node.auth().await.issue_service_token(request).await?.into_inner())
}

pub(super) async fn token(node: &TestNode, client_id: &str, secret: &str) -> String {
    issue(node, ask(client_id, secret)).await.unwrap().access_token
}

async fn rotate(node: &TestNode, root: &str, client_id: &str, keep: i64) -> String {
    let request = v1::RotateServiceAccountSecretRequest { client_id: client_id.into(), keep_previous_seconds: keep };
    admin(node).await.rotate_service_account_secret(bearer(root, request)).await.unwrap().into_inner().client_secret
}

async fn update(
    node: &TestNode,
    root: &str,
    account: v1::ServiceAccount,
    paths: &[&str],
) -> Result<v1::ServiceAccount, Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request =
        v1::UpdateServiceAccountRequest { service_account: Some(account), update_mask: Some(FieldMask { paths }) };
    let answer = admin(node).await.update_service_account(bearer(root, request)).await?;
    Ok(answer.into_inner().service_account.unwrap())
}

pub(super) async fn delete(node: &TestNode, root: &str, client_id: &str, etag: &str) -> Result<(), Status> {
    let request = v1::DeleteServiceAccountRequest { client_id: client_id.into(), etag: etag.into() };
    admin(node).await.delete_service_account(bearer(root, request)).await.map(|_| ())
}

#[track_caller]
fn assert_invalid_client<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "INVALID_CLIENT"), "{status:?}");
    status.message().to_owned()
}

async fn a_service_account_lives_and_dies(backend: Backend) {
    let node = TestNode::builder(backend).await.set("tokens.scopes=openid,orders:read,orders:write").start().await;
    let root = administrator(&node).await;
    role(&node, "reader", r#"["orders:read"]"#).await;
    let (account, secret) = create(&node, &root, &["reader"]).await;
    let id = account.client_id.as_str();
    assert!(id.starts_with("svc_") && secret.starts_with("vss_"), "{id} {secret}");
    let listed =
        admin(&node).await.list_service_accounts(bearer(&root, v1::ListServiceAccountsRequest::default())).await;
    assert_eq!(listed.unwrap().into_inner().service_accounts, std::slice::from_ref(&account));

    let scope = "openid orders:read orders:write".to_owned();
    let issued = issue(&node, v1::IssueServiceTokenRequest { scope, ..ask(id, &secret) }).await.unwrap();
    assert_eq!((issued.token_type.as_str(), issued.expires_in), ("Bearer", 300));
    assert_eq!(issued.scope, "openid orders:read", "what its roles do not hold it does not get");
    let claims = node.verify(&issued.access_token).await.claims.unwrap();
    assert_eq!((claims.subject.as_str(), claims.client_id.as_str()), (id, id));
    assert_eq!((claims.roles, claims.scope.as_str()), (vec!["reader".to_owned()], "openid orders:read"));
    assert_eq!((claims.session_id.as_str(), claims.auth_time, claims.acr.as_str()), ("", None, ""));
    assert_eq!(claims.expire_time, issued.access_token_expire_time);
    let payload = hostile::payload_of(&issued.access_token);
    for absent in ["sid", "auth_time", "amr", "acr"] {
        assert!(payload.get(absent).is_none(), "{payload}");
    }

    let renamed = v1::ServiceAccount { display_name: "Bills".into(), roles: vec!["x".into()], ..account.clone() };
    let renamed = update(&node, &root, renamed, &["display_name"]).await.unwrap();
    assert_eq!(
        (renamed.display_name.as_str(), &renamed.roles),
        ("Bills", &account.roles),
        "what the mask names, no more"
    );
    assert_ne!(renamed.etag, account.etag);
    let stale = update(&node, &root, account.clone(), &["display_name"]).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let stale = delete(&node, &root, id, &account.etag).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert!(node.verify(&issued.access_token).await.active);

    delete(&node, &root, id, &renamed.etag).await.unwrap();
    assert_eq!(node.verify(&issued.access_token).await.inactive_reason(), InactiveReason::Revoked);
    assert_invalid_client(issue(&node, ask(id, &secret)).await);
    let gone = delete(&node, &root, id, "").await.unwrap_err();
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::NotFound, "SERVICE_ACCOUNT_NOT_FOUND"));
    let get = v1::GetServiceAccountRequest { client_id: id.into() };
    let gone = admin(&node).await.get_service_account(bearer(&root, get)).await.unwrap_err();
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::NotFound, "SERVICE_ACCOUNT_NOT_FOUND"));
    node.remove().await;
}

async fn whoever_is_not_known_is_told_nothing_else(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let (other, other_secret) = create(&node, &root, &[]).await;
    let user = node.login("root@example.com").await;
    let id = account.client_id.as_str();
    let mut said = Vec::new();
    for (client_id, secret) in [
        (id, other_secret.as_str()),
        (&other.client_id, &secret),
        ("svc_01900000-0000-7000-8000-000000000001", &secret),
        ("svc_00000000-0000-0000-0000-000000000000", &secret),
        (&id.to_uppercase(), &secret),
        (&id[4..], &secret),
        ("root@example.com", &secret),
        (id, ""),
        (id, "x"),
        (id, &format!("{secret}=")),
        (id, &secret.to_uppercase()),
        (id, &secret[4..]),
        (id, &"A".repeat(60_000)),
        (id, &user.access_token),
        (id, &user.refresh_token),
        (id, crate::support::PASSWORD),
        (id, &token(&node, id, &secret).await),
    ] {
        said.push(assert_invalid_client(issue(&node, ask(client_id, secret)).await));
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
    let refused = node.events("act = 'service_token.refused'").await;
    assert_eq!(refused, 17);
    assert_eq!(node.events("act = 'service_token.refused' AND subject_id IS NULL").await, 5);
    token(&node, id, &secret).await;
    node.remove().await;
}

async fn a_kept_secret_ends_when_it_was_said(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(Arc::clone(&clock) as _).start().await;
    let root = administrator(&node).await;
    let (account, first) = create(&node, &root, &[]).await;
    let id = account.client_id.as_str();
    let second = rotate(&node, &root, id, 60).await;
    for secret in [&first, &second] {
        token(&node, id, secret).await;
    }
    clock.advance(Duration::from_mins(1));
    node.catch_up().await;
    assert_invalid_client(issue(&node, ask(id, &first)).await);
    token(&node, id, &second).await;
    node.remove().await;
}

async fn a_service_that_moves_to_another_secret_is_never_refused(backend: Backend) {
    let node = Arc::new(TestNode::start(backend).await);
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let id = account.client_id;
    let (secret, stop, issued) =
        (Arc::new(std::sync::Mutex::new(secret)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let services: Vec<_> = (0..4)
        .map(|_| {
            let (node, id) = (Arc::clone(&node), id.clone());
            let (secret, stop, issued) = (Arc::clone(&secret), Arc::clone(&stop), Arc::clone(&issued));
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    let secret = secret.lock().unwrap().clone();
                    token(&node, &id, &secret).await;
                    issued.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let next = rotate(&node, &root, &id, 3600).await;
        // The services go on with the old one for a while, and some time later all of them have the new one.
        let before = issued.load(SeqCst);
        until("tokens by the old secret", async || issued.load(SeqCst) > before + 8).await;
        *secret.lock().unwrap() = next;
        let before = issued.load(SeqCst);
        until("tokens by the new secret", async || issued.load(SeqCst) > before + 8).await;
    }
    stop.store(true, SeqCst);
    for service in services {
        service.await.unwrap();
    }
    assert_eq!(node.events("act = 'service_token.refused'").await, 0);
    assert!(node.events("act = 'service_token.issued'").await >= 80);
    Arc::into_inner(node).unwrap().remove().await;
}

async fn a_creation_sent_again_gets_the_same_secret_which_is_nowhere_stored(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = administrator(&node).await;
    let request = v1::CreateServiceAccountRequest {
        display_name: "Orders".into(),
        request_id: "6f1c2b9e-6b1f-4a53-9a57-0b6f5d1f3a10".into(),
        ..Default::default()
    };
    let create = async |request: &v1::CreateServiceAccountRequest| {
        admin(&node).await.create_service_account(bearer(&root, request.clone())).await.map(tonic::Response::into_inner)
    };
    let made = create(&request).await.unwrap();
    assert_eq!(create(&request).await.unwrap(), made);
    let other = v1::CreateServiceAccountRequest { display_name: "Bills".into(), ..request.clone() };
    let reused = create(&other).await.unwrap_err();
    assert_eq!((reused.code(), reason(&reused).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    let id = made.service_account.clone().unwrap().client_id;
    token(&node, &id, &made.client_secret).await;
    for table in ["service_accounts", "service_account_secrets", "create_requests", "audit_events", "feed"] {
        let dump = node.database.dump(table).await;
        assert!(!dump.contains(&made.client_secret[4..]) && !dump.contains(&made.client_secret[30..]), "{table}");
    }
    // Once it has been rotated away it is shown no more.
    rotate(&node, &root, &id, 0).await;
    let again = create(&request).await.unwrap();
    assert_eq!((again.service_account.unwrap().client_id, again.client_secret.as_str()), (id, ""));
    node.remove().await;
}

async fn fields_that_are_wrong_are_named(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let good = v1::CreateServiceAccountRequest { display_name: "Orders".into(), ..Default::default() };
    for (request, wrong) in [
        (v1::CreateServiceAccountRequest::default(), "display_name"),
        (v1::CreateServiceAccountRequest { display_name: "x".repeat(129), ..good.clone() }, "display_name"),
        (v1::CreateServiceAccountRequest { spiffe_id: "spiffe://Example.org/x".into(), ..good.clone() }, "spiffe_id"),
        (v1::CreateServiceAccountRequest { no_secret: true, ..good.clone() }, "spiffe_id"),
        (v1::CreateServiceAccountRequest { request_id: "x".into(), ..good.clone() }, "request_id"),
        (v1::CreateServiceAccountRequest { roles: (0..101).map(|i| i.to_string()).collect(), ..good.clone() }, "roles"),
    ] {
        let refused = admin(&node).await.create_service_account(bearer(&root, request)).await.unwrap_err();
        assert_eq!(fields(&refused), [wrong]);
    }
    for (paths, part) in
        [(&[][..], "is empty"), (&["display_name", "secrets"], "\"secrets\""), (&["client_id"], "\"client_id\"")]
    {
        let refused = update(&node, &root, account.clone(), paths).await.unwrap_err();
        assert_eq!(fields(&refused), ["update_mask"]);
        assert!(refused.message().contains(part), "{refused:?}");
    }
    let nameless = v1::ServiceAccount { display_name: String::new(), ..account.clone() };
    let refused = update(&node, &root, nameless.clone(), &["*"]).await.unwrap_err();
    assert_eq!(fields(&refused), ["service_account.display_name"]);
    update(&node, &root, nameless, &["spiffe_id", "roles"]).await.unwrap();
    for keep in [-1, 2_592_001, i64::MIN, i64::MAX] {
        let client_id = account.client_id.clone();
        let request = v1::RotateServiceAccountSecretRequest { client_id, keep_previous_seconds: keep };
        let refused = admin(&node).await.rotate_service_account_secret(bearer(&root, request)).await.unwrap_err();
        assert_eq!(fields(&refused), ["keep_previous_seconds"]);
    }
    rotate(&node, &root, &account.client_id, 2_592_000).await;
    assert_eq!(fields(&delete(&node, &root, "x", "").await.unwrap_err()), ["client_id"]);
    let list = v1::ListServiceAccountsRequest { page_size: -1, page_token: "x".into() };
    let refused = admin(&node).await.list_service_accounts(bearer(&root, list)).await.unwrap_err();
    assert_eq!(fields(&refused), ["page_size", "page_token"]);

    let known = ask(&account.client_id, &secret);
    assert_eq!(fields(&issue(&node, ask("", "")).await.unwrap_err()), ["client_id"]);
    assert_eq!(fields(&issue(&node, ask("", &secret)).await.unwrap_err()), ["client_id"]);
    let audience = vec!["nobody".to_owned()];
    let request = v1::IssueServiceTokenRequest { audience, scope: "nothing".into(), ..known };
    assert_eq!(fields(&issue(&node, request).await.unwrap_err()), ["audience", "scope"]);
    node.remove().await;
}

async fn a_service_has_no_account_of_a_user_s_kind(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &["admin"]).await;
    let token = token(&node, &account.client_id, &secret).await;
    let mut users = node.account().await;
    let refused = [
        users.get_account(bearer(&token, v1::GetAccountRequest {})).await.map(|_| ()),
        users.list_sessions(bearer(&token, v1::ListSessionsRequest::default())).await.map(|_| ()),
        users.revoke_other_sessions(bearer(&token, v1::RevokeOtherSessionsRequest {})).await.map(|_| ()),
    ];
    for refused in refused {
        let status = refused.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NOT_A_USER"));
    }
    node.remove().await;
}

async fn a_service_manages_as_far_as_its_roles_and_scope_go(backend: Backend) {
    let node = TestNode::builder(backend).await.set("tokens.scopes=service_accounts:read").start().await;
    let root = administrator(&node).await;
    role(&node, "warden", r#"["service_accounts:read", "service_accounts:write"]"#).await;
    let (warden, secret) = create(&node, &root, &["warden"]).await;
    let (strong, _) = create(&node, &root, &["admin"]).await;
    let full = token(&node, &warden.client_id, &secret).await;
    let (mine, _) = create(&node, &full, &[]).await;
    rotate(&node, &full, &mine.client_id, 0).await;
    let refused = update(
        &node,
        &full,
        v1::ServiceAccount { display_name: "x".into(), etag: String::new(), ..strong.clone() },
        &["display_name"],
    )
    .await
    .unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "EXCEEDS_OWN_PERMISSIONS"));
    let take = v1::ServiceAccount { roles: Vec::new(), ..warden.clone() };
    let refused = update(&node, &full, take, &["roles"]).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));

    let scope = "service_accounts:read".to_owned();
    let request = v1::IssueServiceTokenRequest { scope, ..ask(&warden.client_id, &secret) };
    let reading = issue(&node, request).await.unwrap().access_token;
    let get = v1::GetServiceAccountRequest { client_id: mine.client_id.clone() };
    admin(&node).await.get_service_account(bearer(&reading, get)).await.unwrap();
    let refused = delete(&node, &reading, &mine.client_id, "").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    delete(&node, &full, &mine.client_id, "").await.unwrap();
    let actor = node.database.id(&warden.client_id[4..].parse().unwrap());
    let deleted = format!("act = 'service_account.deleted' AND actor = 'service' AND actor_id = {actor}");
    assert_eq!(node.events(&deleted).await, 1);
    node.remove().await;
}

async fn off_loopback_service_accounts_verify(backend: Backend) {
    let node = TestNode::builder(backend)
        .await
        .set("grpc.listen=0.0.0.0:0")
        .set("grpc.allow_plaintext=true")
        .set("tokens.audiences=vouchsafe,orders")
        .start()
        .await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let id = account.client_id.as_str();
    let own = token(&node, id, &secret).await;
    let audience = vec!["orders".to_owned()];
    let elsewhere = issue(&node, v1::IssueServiceTokenRequest { audience, ..ask(id, &secret) }).await.unwrap();
    let verify = async |by: &str| {
        let question = v1::VerifyRequest { token: root.clone(), ..Default::default() };
        let question = if by.is_empty() { tonic::Request::new(question) } else { bearer(by, question) };
        let verified = node.auth().await.verify(question).await.map(|answer| answer.into_inner().active);
        let keys = bearer(by, v1::GetVerificationKeysRequest {});
        let keys = node.verifier().await.get_verification_keys(keys).await;
        assert_eq!(verified.is_ok(), keys.is_ok(), "{by}");
        verified.map_err(|status| (status.code(), reason(&status)))
    };
    let refused = |reason: &str| Err((Code::Unauthenticated, reason.to_owned()));
    assert_eq!(verify(&own).await, Ok(true));
    assert_eq!(verify("").await, refused("VERIFICATION_CLOSED"));
    assert_eq!(verify(&root).await, refused("VERIFICATION_CLOSED"), "a user is no service, whatever the roles");
    assert_eq!(verify(&elsewhere.access_token).await, refused("ACCESS_TOKEN_INVALID"), "not meant for Vouchsafe");
    for no_token in ["x", secret.as_str(), id] {
        assert_eq!(verify(no_token).await, refused("ACCESS_TOKEN_INVALID"));
    }
    delete(&node, &root, id, "").await.unwrap();
    assert_eq!(verify(&own).await, refused("ACCESS_TOKEN_INVALID"));
    node.remove().await;
}

async fn a_service_token_is_revoked_by_whoever_holds_it(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    let (one, other) =
        (token(&node, &account.client_id, &secret).await, token(&node, &account.client_id, &secret).await);
    for _ in 0..3 {
        node.revoke_token(&one).await.unwrap();
        assert_eq!(node.verify(&one).await.inactive_reason(), InactiveReason::Revoked);
    }
    assert!(node.verify(&other).await.active);
    assert_eq!(node.events("act = 'token.revoked' AND actor = 'service' AND session_id IS NULL").await, 1);
    node.remove().await;
}

async fn requests_for_tokens_are_counted(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = administrator(&node).await;
    let (account, secret) = create(&node, &root, &[]).await;
    token(&node, &account.client_id, &secret).await;
    assert_invalid_client(issue(&node, ask(&account.client_id, "x")).await);
    let scrape = crate::support::wire::get(node.http, "/metrics").await.1;
    for line in [
        "vouchsafe_service_tokens_total{outcome=\"ok\"} 1",
        "vouchsafe_service_tokens_total{outcome=\"invalid_client\"} 1",
        "vouchsafe_service_tokens_total{outcome=\"failed\"} 0",
    ] {
        assert!(scrape.lines().any(|l| l == line), "{line} in {scrape}");
    }
    node.remove().await;
}

async fn what_ends_a_service_account_s_tokens_ends_them_at_every_node(backend: Backend) {
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let (a, b) = (TestNode::on(database.clone()).start().await, TestNode::on(database).start().await);
    let root = administrator(&a).await;
    role(&a, "reader", r#"["orders:read"]"#).await;
    let dead_everywhere = async |token: &str, why: &str| {
        assert_eq!(a.verify(token).await.inactive_reason(), InactiveReason::Revoked, "{why}");
        until("the other node refuses it from memory", async || !b.verify(token).await.active).await;
        assert_eq!(b.verify(token).await.inactive_reason(), InactiveReason::Revoked, "{why}");
    };
    let (account, first) = create(&a, &root, &["reader"]).await;
    let id = account.client_id.as_str();
    let early = token(&b, id, &first).await;
    assert!(a.verify(&early).await.active && b.verify(&early).await.active);

    let second = rotate(&a, &root, id, 3600).await;
    assert!(b.verify(&early).await.active, "a secret that goes on takes no tokens along");
    let third = rotate(&a, &root, id, 0).await;
    dead_everywhere(&early, "rotated").await;
    for ended in [&first, &second] {
        assert_invalid_client(issue(&b, ask(id, ended)).await);
    }

    let late = token(&b, id, &third).await;
    assert!(a.verify(&late).await.active && b.verify(&late).await.active);
    let bare = v1::ServiceAccount { client_id: id.into(), ..Default::default() };
    update(&a, &root, bare, &["roles"]).await.unwrap();
    dead_everywhere(&late, "other roles").await;

    let last = token(&b, id, &third).await;
    assert_eq!(a.verify(&last).await.claims.unwrap().roles, [""; 0]);
    assert!(b.verify(&last).await.active);
    delete(&a, &root, id, "").await.unwrap();
    dead_everywhere(&last, "deleted").await;
    assert_invalid_client(issue(&b, ask(id, &third)).await);
    b.stop().await;
    a.remove().await;
}
