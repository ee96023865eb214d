//! Custom claims: where they come from, what goes before what, and when a change of them is said.

use std::{io::Write as _, sync::Arc};

use prost_types::{FieldMask, ListValue, Struct, Value as PbValue, value::Kind};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tonic::{Code, Status};
use vouchsafe::{
    pb::v1::{self, InactiveReason},
    verifier::{Rule, Verifier},
};

use super::{Admin, role};
use crate::{
    hostile::payload_of,
    rpc::on_both_databases,
    support::{
        Backend, PASSWORD, TestDatabase, TestNode, bearer,
        encryption::{private_file, wrapping_jwk},
        fields, login_request,
        outbox::{outbox_code, outbox_keep},
        reason, role_of,
        signin::{signin_recovery, signin_sent},
    },
};

on_both_databases!(
    the_user_goes_before_attributes_before_roles_before_the_audience,
    what_no_token_may_say_is_refused_where_it_is_written,
    nothing_is_left_out_in_silence,
    a_sign_in_that_is_refused_for_its_claims_changes_nothing,
    tokens_of_services_say_what_their_roles_say,
    imported_users_come_with_their_claims,
);

/// Where there is a hot state too.
mod forms {
    use super::a_change_is_in_the_next_token_and_of_a_user_refuses_those_before;

    crate::rpc::on_every_form!(a_change_is_in_the_next_token_and_of_a_user_refuses_those_before);
}

const FILE: &str = r#"
[attributes]
tenant = "tenant_id"
[audiences.billing.claims]
region = "eu"
tier = "audience"
tenant = "nobody"
[audiences.billing.attributes]
plan = "plan"
"#;

/// JSON as a message.
fn message(value: &Value) -> Struct {
    fn one(value: &Value) -> PbValue {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(value) => Kind::BoolValue(*value),
            Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
            Value::String(text) => Kind::StringValue(text.clone()),
            Value::Array(values) => Kind::ListValue(ListValue { values: values.iter().map(one).collect() }),
            Value::Object(_) => Kind::StructValue(message(value)),
        };
        PbValue { kind: Some(kind) }
    }
    let fields = value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), one(value))).collect();
    Struct { fields }
}

/// A file of claims. It must be kept as long as it is to be read.
fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// A node with a file of claims.
async fn node_with(backend: Backend, text: &str) -> TestNode {
    let claims = file(text);
    TestNode::builder(backend)
        .await
        .set("tokens.audiences=vouchsafe,billing,shop")
        .set(&format!("tokens.claims={}", claims.path().display()))
        .start()
        .await
}

/// What a token says beside what every token says.
fn custom(token: &str) -> Value {
    let ours = "acr amr aud auth_time client_id epoch exp iat iss jti permissions roles scope sid sub";
    let Value::Object(mut claims) = payload_of(token) else { panic!("no object") };
    claims.retain(|name, _| !ours.split(' ').any(|known| known == name));
    Value::Object(claims)
}

/// The same from everybody who verifies the token: `Verify`, and the verifier that services embed.
async fn verified(node: &TestNode, token: &str) -> Value {
    let said = custom(token);
    let claims = node.verify(token).await.claims.expect("it is active");
    assert_eq!(claims.custom, (said != json!({})).then(|| message(&said)));
    let verifier = Verifier::builder("https://issuer.test", ["vouchsafe"])
        .service_url(&format!("http://{}", node.grpc))
        .unwrap()
        .start()
        .await
        .unwrap();
    let principal = verifier.verify(token, &Rule::required()).await.unwrap();
    let embedded = serde_json::to_value(&principal.claims().custom).unwrap();
    assert_eq!(embedded, said);
    for (name, value) in said.as_object().unwrap() {
        assert_eq!(principal.custom(name), Some(value));
    }
    said
}

impl Admin {
    async fn say(&self, user: &str, claims: &Value) -> Result<v1::User, Status> {
        let user = v1::User { id: user.into(), custom_claims: Some(message(claims)), ..v1::User::default() };
        self.update(user, &["custom_claims"]).await
    }

    async fn keep(&self, user: &str, attributes: &Value) -> Result<v1::User, Status> {
        let user = v1::User { id: user.into(), attributes: Some(message(attributes)), ..v1::User::default() };
        self.update(user, &["attributes"]).await
    }

    async fn role_says(&self, node: &TestNode, name: &str, claims: &Value) -> Result<v1::Role, Status> {
        let role = v1::Role { custom_claims: Some(message(claims)), ..role_of(name, &[]) };
        let update_mask = Some(FieldMask { paths: vec!["custom_claims".into()] });
        let request = bearer(&self.token, v1::UpdateRoleRequest { role: Some(role), update_mask });
        Ok(node.roles().await.update_role(request).await?.into_inner().role.unwrap())
    }
}

async fn the_user_goes_before_attributes_before_roles_before_the_audience(backend: Backend) {
    let node = node_with(backend, FILE).await;
    let admin = Admin::of(&node).await;
    let request = v1::CreateUserRequest {
        email: "ada@example.com".into(),
        password: PASSWORD.into(),
        ..v1::CreateUserRequest::default()
    };
    let id = admin.create(request).await.unwrap().id;
    let login = async |audience: &str| {
        let audience = vec!["vouchsafe".to_owned(), audience.to_owned()];
        let request = v1::LoginRequest { audience, ..login_request("ada@example.com", PASSWORD) };
        verified(&node, &node.try_login(request).await.unwrap().access_token).await
    };
    assert_eq!(login("shop").await, json!({}));
    assert_eq!(login("billing").await, json!({ "region": "eu", "tier": "audience", "tenant": "nobody" }));

    role(&node, "clerk", &[]).await;
    role(&node, "zealot", &[]).await;
    admin.role_says(&node, "zealot", &json!({ "tier": "zealot", "desk": 5 })).await.unwrap();
    let clerk = admin.role_says(&node, "clerk", &json!({ "tier": "clerk", "tenant": "role", "floor": [1] })).await;
    assert_eq!(
        clerk.unwrap().custom_claims,
        Some(message(&json!({ "tier": "clerk", "tenant": "role", "floor": [1] })))
    );
    for name in ["zealot", "clerk"] {
        admin.assign(&id, name).await.unwrap();
    }
    let roles = json!({ "tier": "zealot", "desk": 5, "tenant": "role", "floor": [1] });
    assert_eq!(login("shop").await, roles, "the later name goes before");

    admin.keep(&id, &json!({ "tenant_id": 7, "plan": "gold", "secret": "kept" })).await.unwrap();
    assert_eq!(login("shop").await["tenant"], 7);
    let billing = json!({ "region": "eu", "tier": "zealot", "desk": 5, "tenant": 7, "floor": [1], "plan": "gold" });
    assert_eq!(login("billing").await, billing);

    let own = json!({ "tenant": { "id": "own", "since": 2.5 }, "plan": null });
    let user = admin.say(&id, &own).await.unwrap();
    assert_eq!(user.custom_claims, Some(message(&own)));
    assert_eq!(admin.get(&id).await.unwrap(), user);
    let all =
        json!({ "region": "eu", "tier": "zealot", "desk": 5, "tenant": own["tenant"], "floor": [1], "plan": null });
    assert_eq!(login("billing").await, all);

    assert_eq!(admin.say(&id, &json!({})).await.unwrap().custom_claims, None);
    assert_eq!(login("billing").await, billing);
    let column = "SELECT CAST(custom_claims IS NULL AS TEXT) FROM users WHERE email = 'ada@example.com'";
    assert!(["1", "true"].contains(&&*node.database.texts(column).await[0]));
    node.remove().await;
}

async fn a_change_is_in_the_next_token_and_of_a_user_refuses_those_before(backend: Backend) {
    let claims = file(FILE);
    let database = Arc::new(TestDatabase::migrated(backend).await);
    let start = async || {
        let setting = format!("tokens.claims={}", claims.path().display());
        let builder = TestNode::on(Arc::clone(&database)).set("tokens.audiences=vouchsafe,billing").set(&setting);
        Arc::new(builder.start().await)
    };
    // SQLite has one server.
    let first = start().await;
    let second = if backend == Backend::Sqlite { Arc::clone(&first) } else { start().await };
    let admin = Admin::of(&first).await;
    let id = first.register("ada@example.com").await.id;
    role(&first, "clerk", &[]).await;
    admin.assign(&id, "clerk").await.unwrap();
    let mut held = first.login("ada@example.com").await;
    let mut bystander = first.join("eve", &["clerk"], "").await;
    // Both have hot records by now, where there are any.
    for tokens in [&mut held, &mut bystander] {
        *tokens = second.refresh(&tokens.refresh_token).await.unwrap();
    }
    let before = custom(&held.access_token);
    assert_eq!(before, json!({}));

    // Of the user, and of an attribute that tokens say: like a change of roles.
    for change in ["claims", "attributes", "nothing"] {
        let seen = custom(&held.access_token);
        match change {
            "claims" => admin.say(&id, &json!({ "desk": 1 })).await.unwrap(),
            "attributes" => admin.keep(&id, &json!({ "tenant_id": "acme" })).await.unwrap(),
            _ => admin.keep(&id, &json!({ "tenant_id": "acme", "note": "tokens do not say this" })).await.unwrap(),
        };
        let expected = if change == "nothing" { InactiveReason::Unspecified } else { InactiveReason::Revoked };
        for node in [&first, &second] {
            assert_eq!(node.verify_strongly(&held.access_token).await, expected, "{change}");
        }
        assert_eq!(first.verify(&held.access_token).await.inactive_reason(), expected, "at once where it was changed");
        assert!(second.admits(&bystander.access_token).await, "nobody else's");
        held = second.refresh(&held.refresh_token).await.unwrap();
        let said = verified(&second, &held.access_token).await;
        assert_eq!(said == seen, change == "nothing", "{said}");
    }
    assert_eq!(custom(&held.access_token), json!({ "desk": 1, "tenant": "acme" }));
    assert_eq!(admin.say(&id, &json!({ "desk": 1 })).await.unwrap(), admin.get(&id).await.unwrap());
    assert!(first.admits(&held.access_token).await, "what is so already is no change");

    // Of a role: the next token says it, and those before live out.
    admin.role_says(&first, "clerk", &json!({ "floor": 3 })).await.unwrap();
    for tokens in [&mut held, &mut bystander] {
        assert!(second.admits(&tokens.access_token).await);
        *tokens = second.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(verified(&second, &tokens.access_token).await["floor"], 3);
    }
    assert_eq!(admin.acts_on(&first, &id).await, ["role.assigned", "user.updated", "user.updated", "user.updated"]);
    let detail = "SELECT CAST(detail AS TEXT) FROM audit_events WHERE act IN ('user.updated', 'role.updated')";
    let mut details: Vec<Value> =
        database.texts(detail).await.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    details.sort_by_key(Value::to_string);
    assert_eq!(
        details,
        [
            json!({ "role": "clerk", "permissions": [], "custom_claims": { "floor": 3 } }),
            json!({ "fields": ["attributes"] }),
            json!({ "fields": ["attributes"] }),
            json!({ "fields": ["custom_claims"] }),
        ]
    );
    let same = Arc::ptr_eq(&first, &second);
    if same {
        drop(second);
    } else {
        Arc::into_inner(second).unwrap().stop().await;
    }
    drop(database);
    Arc::into_inner(first).unwrap().remove().await;
}

async fn what_no_token_may_say_is_refused_where_it_is_written(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &[]).await;
    let id = admin.user("ada@example.com").await.id;
    let ours = node.login("root@example.com").await;
    let mut bad: Vec<Value> =
        payload_of(&ours.access_token).as_object().unwrap().keys().map(|k| json!({ k: 1 })).collect();
    for name in ["nbf", "permissions", "scope", "groups", "entitlements", "azp", "nonce", "cnf", "act", "may_act"] {
        bad.push(json!({ "fine": true, name: "x" }));
    }
    bad.extend([
        json!({ "a b": 1 }),
        json!({ "": 1 }),
        json!({ "a": "x".repeat(4096) }),
        json!({ "a": { "b": { "c": { "d": {} } } } }),
        json!({ "a": [[[[]]]] }),
        json!({ "a": "\0" }),
        json!({ "a": 9_007_199_254_740_994_u64 }),
    ]);
    for claims in &bad {
        let created = v1::CreateUserRequest {
            email: "b@example.com".into(),
            custom_claims: Some(message(claims)),
            ..v1::CreateUserRequest::default()
        };
        assert_eq!(fields(&admin.create(created).await.unwrap_err()), ["custom_claims"], "{claims}");
        assert_eq!(fields(&admin.say(&id, claims).await.unwrap_err()), ["user.custom_claims"], "{claims}");
        let refused = admin.role_says(&node, "clerk", claims).await.unwrap_err();
        assert_eq!(fields(&refused), ["role.custom_claims"], "{claims}");
        let new = v1::Role { custom_claims: Some(message(claims)), ..role_of("new", &[]) };
        let request = bearer(&admin.token, v1::CreateRoleRequest { role: Some(new) });
        assert_eq!(fields(&node.roles().await.create_role(request).await.unwrap_err()), ["role.custom_claims"]);
    }
    let text = admin.say(&id, &json!({ "iss": "https://evil.test" })).await.unwrap_err();
    assert!(text.message().contains("\"iss\", which is registered"), "{}", text.message());
    let deep = json!({ "a": { "b": { "c": [1] } } });
    assert_eq!(admin.say(&id, &deep).await.unwrap().custom_claims, Some(message(&deep)));
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users").await, 2);
    node.remove().await;
}

async fn nothing_is_left_out_in_silence(backend: Backend) {
    let node = node_with(backend, "[attributes]\ntenant = \"tenant_id\"\n").await;
    let admin = Admin::of(&node).await;
    let id = node.register("ada@example.com").await.id;
    for (name, claim) in [("one", "a"), ("two", "b"), ("three", "c")] {
        role(&node, name, &[]).await;
        let claims = if name == "three" { json!({}) } else { json!({ claim: "x".repeat(4_000) }) };
        admin.role_says(&node, name, &claims).await.unwrap();
    }
    let too_large = |status: Status| {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "CLAIMS_TOO_LARGE"));
    };
    for name in ["one", "two", "three"] {
        admin.assign(&id, name).await.unwrap();
    }
    let held = node.login("ada@example.com").await;
    let before = admin.get(&id).await.unwrap();
    too_large(admin.say(&id, &json!({ "c": "x".repeat(400) })).await.unwrap_err());
    assert_eq!(admin.get(&id).await.unwrap(), before, "nothing of it was done");
    assert!(node.admits(&held.access_token).await);
    too_large(
        admin
            .create(v1::CreateUserRequest {
                email: "b@example.com".into(),
                roles: vec!["one".into(), "two".into()],
                custom_claims: Some(message(&json!({ "c": "x".repeat(400) }))),
                ..v1::CreateUserRequest::default()
            })
            .await
            .unwrap_err(),
    );
    admin.unassign(&id, "two").await.unwrap();
    admin.say(&id, &json!({ "c": "x".repeat(400) })).await.unwrap();
    too_large(admin.assign(&id, "two").await.unwrap_err());
    let held = node.refresh(&held.refresh_token).await.unwrap();
    assert_eq!(custom(&held.access_token)["c"].as_str().unwrap().len(), 400);

    // What nobody can know when it is written: a role that others have. The token is refused whole, and nothing is burnt.
    admin.role_says(&node, "three", &json!({ "d": "x".repeat(4_000) })).await.unwrap();
    for _ in 0..3 {
        too_large(node.refresh(&held.refresh_token).await.unwrap_err());
    }
    too_large(node.try_login(login_request("ada@example.com", PASSWORD)).await.unwrap_err());
    admin.role_says(&node, "three", &json!({})).await.unwrap();
    let after = node.refresh(&held.refresh_token).await.unwrap();
    assert_eq!(custom(&after.access_token), custom(&held.access_token));
    // An attribute is the configuration's: the same.
    admin.keep(&id, &json!({ "tenant_id": "x".repeat(4_000) })).await.unwrap();
    too_large(node.refresh(&after.refresh_token).await.unwrap_err());
    admin.keep(&id, &json!({ "tenant_id": "acme" })).await.unwrap();
    let after = node.refresh(&after.refresh_token).await.unwrap();
    assert_eq!(custom(&after.access_token)["tenant"], "acme");
    node.remove().await;
}

/// What a sign-in may change, but for its counters.
async fn everything(node: &TestNode) -> Vec<String> {
    let mut all = Vec::new();
    for table in [
        "users",
        "sessions",
        "known_devices",
        "totp_factors",
        "recovery_codes",
        "challenges",
        "feed",
        "feed_head",
        "audit_events",
    ] {
        all.push(node.database.dump(table).await);
    }
    all
}

/// No session that nobody has the tokens of, none that made way for it, no code spent.
async fn a_sign_in_that_is_refused_for_its_claims_changes_nothing(backend: Backend) {
    const RECOVERY: &str = "0001-abcd-efgh-jkmn";
    let folder = tempfile::tempdir().unwrap();
    let keys = private_file(folder.path(), "keys.json", &json!({ "audiences": { "billing": wrapping_jwk() } }));
    let node = TestNode::builder(backend)
        .await
        .set("tokens.audiences=vouchsafe,billing")
        .set(&format!("tokens.encryption_keys={keys}"))
        .set("sessions.max_per_user=1")
        .set("notify.email=log")
        .set("login.codes=email")
        .start()
        .await;
    outbox_keep(&node.database).await;
    let admin = Admin::of(&node).await;
    for (name, claim) in [("one", "a"), ("two", "b"), ("three", "c")] {
        role(&node, name, &[]).await;
        let claims = if name == "three" { json!({}) } else { json!({ claim: "x".repeat(4_000) }) };
        admin.role_says(&node, name, &claims).await.unwrap();
    }
    let (ada, bob) = (node.register_verified("ada@example.com").await, node.register_verified("bob@example.com").await);
    for id in [&ada.id, &bob.id] {
        for name in ["one", "two", "three"] {
            admin.assign(id, name).await.unwrap();
        }
    }
    node.signin_give_totp(&bob, &[RECOVERY]).await;
    let held = node.login("ada@example.com").await;
    let by_mail = node.signin_send("ada@example.com", v1::CodeChannel::Email).await.unwrap().challenge_id;
    let code = outbox_code(&node.database, "ada@example.com").await;
    let by_factor = node.signin_challenge("bob@example.com").await.challenge_id;

    admin.role_says(&node, "three", &json!({ "c": "x".repeat(4_000) })).await.unwrap();
    let before = everything(&node).await;
    for _ in 0..2 {
        for refused in [
            node.try_login(login_request("ada@example.com", PASSWORD)).await,
            node.signin_finish(&by_mail, signin_sent(code.clone())).await,
            node.signin_finish(&by_factor, signin_recovery(RECOVERY)).await,
        ] {
            let status = refused.unwrap_err();
            assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "CLAIMS_TOO_LARGE"));
        }
        assert!(everything(&node).await == before, "it changed something");
    }
    assert!(node.admits(&held.access_token).await, "it made way for nobody");

    admin.role_says(&node, "three", &json!({})).await.unwrap();
    node.signin_finish(&by_factor, signin_recovery(RECOVERY)).await.unwrap();
    let next = node.signin_finish(&by_mail, signin_sent(code)).await.unwrap();
    assert!(node.admits(&next.access_token).await && !node.admits(&held.access_token).await, "now it did");

    // What a plain token has room for, an encrypted one may have none for.
    admin.say(&ada.id, &json!({ "c": "x".repeat(140) })).await.unwrap();
    for number in 0..12 {
        let name = format!("a-role-with-quite-a-long-name-that-every-token-says-{number:02}");
        role(&node, &name, &[]).await;
        admin.assign(&ada.id, &name).await.unwrap();
    }
    let held = node.login("ada@example.com").await;
    assert!(node.admits(&held.access_token).await);
    let before = everything(&node).await;
    let request = v1::LoginRequest { audience: vec!["billing".into()], ..login_request("ada@example.com", PASSWORD) };
    assert_eq!(reason(&node.try_login(request).await.unwrap_err()), "CLAIMS_TOO_LARGE");
    assert!(everything(&node).await == before, "it changed something");
    assert!(node.admits(&held.access_token).await);
    node.remove().await;
}

async fn tokens_of_services_say_what_their_roles_say(backend: Backend) {
    let node = node_with(backend, FILE).await;
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &[]).await;
    admin.role_says(&node, "clerk", &json!({ "tier": "clerk", "desk": 5 })).await.unwrap();
    let mut accounts =
        v1::service_account_admin_service_client::ServiceAccountAdminServiceClient::new(node.shared().await);
    let request = v1::CreateServiceAccountRequest {
        display_name: "Orders".into(),
        roles: vec!["clerk".into()],
        ..v1::CreateServiceAccountRequest::default()
    };
    let made = accounts.create_service_account(bearer(&admin.token, request)).await.unwrap().into_inner();
    let issue = async |audience: &[&str]| {
        let request = v1::IssueServiceTokenRequest {
            client_id: made.service_account.clone().unwrap().client_id,
            client_secret: made.client_secret.clone(),
            audience: audience.iter().map(|&name| name.to_owned()).collect(),
            ..v1::IssueServiceTokenRequest::default()
        };
        node.auth().await.issue_service_token(request).await.unwrap().into_inner().access_token
    };
    assert_eq!(verified(&node, &issue(&["vouchsafe"]).await).await, json!({ "tier": "clerk", "desk": 5 }));
    let to_billing = json!({ "tier": "clerk", "desk": 5, "region": "eu", "tenant": "nobody" });
    assert_eq!(verified(&node, &issue(&["vouchsafe", "billing"]).await).await, to_billing);
    node.remove().await;
}

async fn imported_users_come_with_their_claims(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &[]).await;
    admin.role_says(&node, "clerk", &json!({ "a": "x".repeat(4_000) })).await.unwrap();
    role(&node, "guard", &[]).await;
    admin.role_says(&node, "guard", &json!({ "b": "x".repeat(4_000) })).await.unwrap();
    let hash = node.database.texts("SELECT password_hash FROM users").await.swap_remove(0);
    let user = |name: &str, roles: &[&str], claims: Value| v1::ImportUser {
        email: format!("{name}@example.com"),
        password_hash: hash.clone(),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        custom_claims: Some(message(&claims)),
        ..v1::ImportUser::default()
    };
    let options =
        v1::ImportOptions { import_id: "6f2a4f7e-2f0d-4f4c-9a51-6f0a3f1c9b7e".to_owned(), validate_only: false };
    let messages = vec![
        v1::ImportUsersRequest { options: Some(options), ..v1::ImportUsersRequest::default() },
        v1::ImportUsersRequest {
            first_row: 1,
            users: vec![
                user("ada", &["clerk"], json!({ "tenant": 7 })),
                user("bob", &[], json!({ "iss": "x" })),
                user("carl", &["clerk", "guard"], json!({ "c": "x".repeat(400) })),
                user("dora", &[], json!({})),
            ],
            ..v1::ImportUsersRequest::default()
        },
    ];
    let mut client = v1::user_admin_service_client::UserAdminServiceClient::new(admin.channel.clone());
    let done = client.import_users(bearer(&admin.token, tokio_stream::iter(messages))).await.unwrap().into_inner();
    let refused: Vec<_> = done.errors.iter().map(|error| (error.row, error.field.as_str())).collect();
    assert_eq!((done.imported, refused), (2, vec![(2, "custom_claims"), (3, "custom_claims")]));
    let said = custom(&node.login("ada@example.com").await.access_token);
    assert_eq!((&said["tenant"], said["a"].as_str().map(str::len)), (&json!(7), Some(4_000)));
    assert_eq!(custom(&node.login("dora@example.com").await.access_token), json!({}));
    node.remove().await;
}
