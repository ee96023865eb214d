//! `CreateUser`, `GetUser`.

use prost_types::{ListValue, Struct, Value, value::Kind};
use tonic::Code;
use vouchsafe::pb::v1::{self, UserState, get_user_request::Key};

use super::{Admin, NOBODY, refusal, role};
use crate::{
    rpc::on_both_databases,
    support::{Backend, PASSWORD, TestNode, bearer, fields, login_request, reason},
};

on_both_databases!(
    a_user_is_created_with_everything_and_found_by_every_key,
    a_user_needs_no_more_than_an_address,
    what_cannot_be_created_is_refused_whole,
    a_hash_from_elsewhere_lets_its_owner_in,
    roles_and_passwords_take_more_than_creating,
);

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn structure(fields: &[(&str, Value)]) -> Struct {
    Struct { fields: fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect() }
}

fn request(email: &str) -> v1::CreateUserRequest {
    v1::CreateUserRequest { email: email.into(), ..Default::default() }
}

async fn a_user_is_created_with_everything_and_found_by_every_key(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &["orders:read"]).await;
    let list = ListValue { values: vec![value(Kind::NumberValue(-1.5)), value(Kind::NullValue(0))] };
    let attributes = structure(&[
        ("customer", value(Kind::StringValue("Ä-17".into()))),
        ("vip", value(Kind::BoolValue(true))),
        ("more", value(Kind::StructValue(structure(&[("list", value(Kind::ListValue(list)))])))),
    ]);
    let user = admin
        .create(v1::CreateUserRequest {
            username: "Ada".into(),
            password: PASSWORD.into(),
            display_name: "Ada Lovelace".into(),
            email_verified: true,
            roles: vec!["clerk".into(), "admin".into(), "clerk".into()],
            attributes: Some(attributes.clone()),
            ..request("Ada@Example.com")
        })
        .await
        .unwrap();
    assert_eq!((user.email.as_str(), user.username.as_str(), user.etag.as_str()), ("Ada@Example.com", "ada", "r1"));
    assert_eq!((user.display_name.as_str(), user.email_verified), ("Ada Lovelace", true));
    assert_eq!((user.state(), &user.roles[..]), (UserState::Active, &["admin".to_owned(), "clerk".into()][..]));
    assert_eq!(user.attributes, Some(attributes));
    assert_eq!(user.create_time, user.update_time);
    for key in [Key::UserId(user.id.clone()), Key::Email("ada@EXAMPLE.com".into()), Key::Username("ADA".into())] {
        assert_eq!(admin.find(key).await.unwrap(), user);
    }
    let tokens = node.login("ada").await;
    let claims = node.verify(&tokens.access_token).await.claims.unwrap();
    assert_eq!((claims.subject, claims.roles), (user.id.clone(), user.roles));
    let seen = node.account().await.get_account(bearer(&tokens.access_token, v1::GetAccountRequest {})).await.unwrap();
    assert_eq!(seen.into_inner().user.unwrap().attributes, user.attributes, "the owner sees them too");
    assert_eq!(admin.acts_on(&node, &user.id).await, ["role.assigned", "role.assigned", "user.created"]);

    for (key, field) in [
        (Key::UserId("x".into()), "user_id"),
        (Key::Email("x".into()), "email"),
        (Key::Username("x@".into()), "username"),
    ] {
        assert_eq!(fields(&admin.find(key).await.unwrap_err()), [field]);
    }
    let nothing = admin.client().get_user(admin.ask(v1::GetUserRequest { key: None })).await.unwrap_err();
    assert_eq!(fields(&nothing), ["user_id"]);
    for key in [Key::UserId(NOBODY.into()), Key::Email("grace@example.com".into()), Key::Username("grace".into())] {
        assert_eq!(refusal(admin.find(key).await), (Code::NotFound, "USER_NOT_FOUND".into()));
    }
    node.remove().await;
}

async fn a_user_needs_no_more_than_an_address(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let user = admin.user("ada@example.com").await;
    assert_eq!((user.username.as_str(), user.email_verified, user.roles.len()), ("", false, 0));
    assert_eq!(user.attributes, None);
    let refused = node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_CREDENTIALS", "there is no password");
    assert_eq!(admin.acts_on(&node, &user.id).await, ["user.created"]);
    node.remove().await;
}

async fn what_cannot_be_created_is_refused_whole(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let taken = v1::CreateUserRequest { username: "ada".into(), ..request("ada@example.com") };
    admin.create(taken).await.unwrap();
    let counts = async || {
        let mut counts = Vec::new();
        for table in ["users", "user_roles", "data_keys", "audit_events", "create_requests"] {
            counts.push(node.database.integer(&format!("SELECT COUNT(*) FROM {table}")).await);
        }
        counts
    };
    let before = counts().await;
    let id = || NOBODY.to_owned();
    for (bad, code, why) in [
        (request("ADA@example.com"), Code::AlreadyExists, "EMAIL_TAKEN"),
        (
            v1::CreateUserRequest { username: "ADA".into(), request_id: id(), ..request("b@example.com") },
            Code::AlreadyExists,
            "USERNAME_TAKEN",
        ),
        (
            v1::CreateUserRequest {
                roles: vec!["admin".into(), "nothing".into()],
                request_id: id(),
                ..request("b@example.com")
            },
            Code::NotFound,
            "ROLE_NOT_FOUND",
        ),
    ] {
        assert_eq!(refusal(admin.create(bad).await), (code, why.to_owned()));
    }
    let attributes = |value: Kind| Some(structure(&[("a", Value { kind: Some(value) })]));
    let with = |value| v1::CreateUserRequest { attributes: attributes(value), ..request("b@example.com") };
    for (bad, named) in [
        (
            v1::CreateUserRequest {
                email: "x".into(),
                username: "-".into(),
                password: "short".into(),
                password_hash: String::new(),
                display_name: "\u{7}".into(),
                email_verified: true,
                roles: vec!["No Role".into()],
                attributes: attributes(Kind::StringValue("x".repeat(4096))),
                request_id: "1".into(),
                custom_claims: Some(structure(&[("iss", Value { kind: Some(Kind::BoolValue(true)) })])),
            },
            &["email", "username", "password", "display_name", "roles", "attributes", "custom_claims", "request_id"][..],
        ),
        (
            v1::CreateUserRequest { password: PASSWORD.into(), password_hash: "x".into(), ..request("b@example.com") },
            &["password_hash"],
        ),
        (v1::CreateUserRequest { password_hash: "x".into(), ..request("b@example.com") }, &["password_hash"]),
        (v1::CreateUserRequest { roles: vec!["r".into(); 65], ..request("b@example.com") }, &["roles"]),
        (with(Kind::StringValue("a\0".into())), &["attributes"]),
        (with(Kind::NumberValue(f64::NAN)), &["attributes"]),
        (with(Kind::NumberValue(f64::INFINITY)), &["attributes"]),
    ] {
        assert_eq!(fields(&admin.create(bad).await.unwrap_err()), named);
    }
    assert_eq!(counts().await, before, "nothing is left behind");
    node.remove().await;
}

async fn a_hash_from_elsewhere_lets_its_owner_in(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let password_hash = node.database.texts("SELECT password_hash FROM users").await.swap_remove(0);
    assert!(password_hash.starts_with("$argon2id$"));
    admin.create(v1::CreateUserRequest { password_hash, ..request("ada@example.com") }).await.unwrap();
    node.login("ada@example.com").await;
    node.remove().await;
}

async fn roles_and_passwords_take_more_than_creating(backend: Backend) {
    let node = TestNode::start(backend).await;
    role(&node, "writer", &["users:write"]).await;
    role(&node, "giver", &["users:write", "roles:assign", "users:set_password"]).await;
    let writer = Admin::with_role(&node, "writer@example.com", "writer").await;
    let giver = Admin::with_role(&node, "giver@example.com", "giver").await;
    let with_role = |name: &str, role: &str| v1::CreateUserRequest { roles: vec![role.into()], ..request(name) };
    let with_password = |name: &str| v1::CreateUserRequest { password: PASSWORD.into(), ..request(name) };
    let password_hash = node.database.texts("SELECT password_hash FROM users LIMIT 1").await.swap_remove(0);
    let with_hash = v1::CreateUserRequest { password_hash, ..request("a@example.com") };

    writer.user("plain@example.com").await;
    for bad in [with_role("a@example.com", "writer"), with_password("a@example.com"), with_hash.clone()] {
        assert_eq!(refusal(writer.create(bad).await), (Code::PermissionDenied, "PERMISSION_DENIED".into()));
    }
    giver.create(with_role("b@example.com", "writer")).await.unwrap();
    giver.create(with_role("c@example.com", "giver")).await.unwrap();
    giver.create(with_password("d@example.com")).await.unwrap();
    giver.create(with_hash).await.unwrap();
    let refused = giver.create(with_role("e@example.com", "admin")).await;
    assert_eq!(refusal(refused), (Code::PermissionDenied, "EXCEEDS_OWN_PERMISSIONS".into()));
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users WHERE email LIKE 'e@%'").await, 0);
    node.remove().await;
}
