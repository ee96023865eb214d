//! Who may call what: every RPC of every service, as the compiled protos list them, by every kind of caller. What is expected
//! follows from the options of the proto alone, so that a new RPC is in the matrix as soon as it is in a proto.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, MethodDescriptor};
use serde_json::json;
use tonic::{Code, Status, client::Grpc, metadata::MetadataValue};
use tonic_prost::ProstCodec;
use uuid::Uuid;
use vouchsafe::{
    crypto::{SystemEntropy, machine_date},
    domain::{id::TokenId, secret::random},
    pb::{FILE_DESCRIPTOR_SET, v1},
};

use super::on_both_databases;
use crate::{
    hostile::payload_of,
    support::{Backend, PASSWORD, TestNode, login_request, reason},
};

on_both_databases!(every_caller_gets_through_to_what_the_protos_say_and_to_nothing_else);

/// How a call is refused before its handler is asked; the handler of a change asks once more and says the same.
const REFUSALS: [&str; 5] =
    ["ACCESS_TOKEN_MISSING", "ACCESS_TOKEN_INVALID", "VERIFICATION_CLOSED", "PERMISSION_DENIED", "NOT_A_USER"];

/// An RPC, and what its proto asks for.
struct Rpc {
    path: String,
    access: i32,
    permission: String,
}

/// Every RPC of our own package.
fn rpcs() -> Vec<Rpc> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let [access, permission] =
        ["access", "permission"].map(|name| pool.get_extension_by_name(&format!("vouchsafe.v1.{name}")).unwrap());
    let rpc = |method: MethodDescriptor| {
        let options = method.options();
        Rpc {
            path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            access: options.get_extension(&access).as_enum_number().unwrap(),
            permission: options.get_extension(&permission).as_str().unwrap().to_owned(),
        }
    };
    let services = pool.services().filter(|service| service.package_name() == "vouchsafe.v1");
    services.flat_map(|service| service.methods().map(rpc).collect::<Vec<_>>()).collect()
}

/// What a caller is to the server.
enum Standing {
    /// Nobody: refused for this reason wherever somebody is wanted.
    Nobody(&'static str),
    /// A user who may do this; `*` is everything.
    User(Vec<String>),
    /// A service account that may.
    Service(Vec<String>),
}

struct Caller {
    name: String,
    token: Option<String>,
    standing: Standing,
}

/// How the call must be refused; `None`: it reaches its handler.
fn refusal(rpc: &Rpc, standing: &Standing) -> Option<(Code, &'static str)> {
    let access = v1::Access::try_from(rpc.access).unwrap();
    let is_open = match access {
        v1::Access::Unspecified => panic!("{} has no policy", rpc.path),
        // The listener is bound to loopback.
        v1::Access::Open | v1::Access::Verifier => true,
        v1::Access::Account | v1::Access::Permission => false,
    };
    let may = |held: &[String]| held.iter().any(|held| held == "*" || *held == rpc.permission);
    match standing {
        _ if is_open => None,
        Standing::Nobody(reason) => Some((Code::Unauthenticated, reason)),
        Standing::User(_) if access == v1::Access::Account => None,
        Standing::Service(_) if access == v1::Access::Account => Some((Code::PermissionDenied, "NOT_A_USER")),
        Standing::User(held) | Standing::Service(held) if may(held) => None,
        Standing::User(_) | Standing::Service(_) => Some((Code::PermissionDenied, "PERMISSION_DENIED")),
    }
}

fn holding(permissions: &[&str]) -> Vec<String> {
    permissions.iter().map(|&text| text.to_owned()).collect()
}

/// Everybody there is.
async fn callers(node: &TestNode) -> Vec<Caller> {
    node.database.make_role("lesser", &["users:read", "roles:read"]).await;
    let access = async |name: &str, roles: &[&str], scope: &str| node.join(name, roles, scope).await.access_token;
    let v1::TokenPair { access_token: ordinary, refresh_token, .. } = node.join("ordinary", &[], "").await;
    let everything = || Standing::User(holding(&["*"]));
    let lesser = || holding(&["users:read", "roles:read"]);
    let table = [
        ("anonymous", None, Standing::Nobody("ACCESS_TOKEN_MISSING")),
        ("empty token", Some(String::new()), Standing::Nobody("ACCESS_TOKEN_INVALID")),
        ("refresh token", Some(refresh_token), Standing::Nobody("ACCESS_TOKEN_INVALID")),
        ("garbage", Some("x".to_owned()), Standing::Nobody("ACCESS_TOKEN_INVALID")),
        ("for another audience", Some(elsewhere(node).await), Standing::Nobody("ACCESS_TOKEN_INVALID")),
        ("suspended", Some(suspended(node).await), Standing::Nobody("ACCESS_TOKEN_INVALID")),
        ("ordinary user", Some(ordinary.clone()), Standing::User(Vec::new())),
        ("service account", Some(service(node, &ordinary, &[]).await), Standing::Service(Vec::new())),
        ("service with a role", Some(service(node, &ordinary, &["lesser"]).await), Standing::Service(lesser())),
        ("lesser administrator", Some(access("lesser", &["lesser"], "").await), Standing::User(lesser())),
        (
            "limited by scope",
            Some(access("limited", &["admin"], "openid users:read").await),
            Standing::User(holding(&["users:read"])),
        ),
        // Its token has no scope, and yet there is nothing that it was asked for.
        (
            "limited to what is not held",
            Some(access("unheld", &["lesser"], "users:write").await),
            Standing::User(Vec::new()),
        ),
        ("limited by a word", Some(access("word", &["admin"], "openid").await), everything()),
        ("administrator", Some(access("admin", &["admin"], "").await), everything()),
    ];
    let mut callers: Vec<_> =
        table.into_iter().map(|(name, token, standing)| Caller { name: name.into(), token, standing }).collect();
    // Each permission opens its own doors, and no other.
    for (n, permission) in vouchsafe::grpc::permissions().enumerate() {
        node.database.make_role(&format!("only{n}"), &[permission]).await;
        let token = access(&format!("only{n}"), &[&format!("only{n}")], "").await;
        let standing = Standing::User(holding(&[permission]));
        callers.push(Caller { name: format!("only {permission}"), token: Some(token), standing });
    }
    callers
}

/// An administrator's token that is meant for another service alone.
async fn elsewhere(node: &TestNode) -> String {
    let user = node.register("elsewhere@example.com").await;
    node.database.give_role(&user.id, "admin").await;
    let audience = vec!["https://api.example.com".to_owned()];
    let request = v1::LoginRequest { audience, ..login_request("elsewhere@example.com", PASSWORD) };
    node.try_login(request).await.unwrap().access_token
}

/// The token of an administrator who was suspended.
async fn suspended(node: &TestNode) -> String {
    let token = node.join("suspended", &["admin"], "").await.access_token;
    let (user, now) = (payload_of(&token)["sub"].as_str().unwrap().to_owned(), machine_date().as_micros());
    let id = node.database.id(&user.parse().unwrap());
    for sql in [
        format!("UPDATE users SET state = 'suspended', epoch = epoch + 1 WHERE id = {id}"),
        "UPDATE feed_head SET number = number + 1".to_owned(),
    ] {
        assert_eq!(node.database.execute(&sql).await, 1);
    }
    let epoch = node.database.integer(&format!("SELECT epoch FROM users WHERE id = {id}")).await;
    let revocation = json!({ "kind": "user", "user": user, "epoch": epoch, "spared": null });
    let sql = format!(
        "INSERT INTO feed (number, revocation, time, expire_time) \
         SELECT number, '{revocation}', {now}, {} FROM feed_head",
        now + 3_600_000_000
    );
    assert_eq!(node.database.execute(&sql).await, 1);
    node.catch_up().await;
    token
}

/// An id that nobody has.
fn new_uuid() -> Uuid {
    *TokenId::new(machine_date(), &random(&SystemEntropy)).as_uuid()
}

/// The token of a service account, signed with the server's own key.
async fn service(node: &TestNode, genuine: &str, roles: &[&str]) -> String {
    let uuid = new_uuid();
    let id = node.database.id(&uuid);
    let columns = "id, display_name, epoch, revision, create_time, update_time";
    let sql = format!("INSERT INTO service_accounts ({columns}) VALUES ({id}, 'robot', 0, 1, 0, 0)");
    assert_eq!(node.database.execute(&sql).await, 1);
    for role in roles {
        let columns = "service_account_id, role, assign_time";
        let sql = format!("INSERT INTO service_account_roles ({columns}) VALUES ({id}, '{role}', 0)");
        assert_eq!(node.database.execute(&sql).await, 1);
    }
    let mut claims = payload_of(genuine);
    for claim in ["sid", "auth_time", "amr", "acr"] {
        claims.as_object_mut().unwrap().remove(claim);
    }
    claims["sub"] = json!(format!("svc_{uuid}"));
    claims["jti"] = json!(new_uuid());
    node.signing_key().await.sign("at+jwt", &claims).unwrap()
}

/// Calls an RPC with an empty message, whatever it streams. Whether it has an answer.
async fn call(node: &TestNode, path: &str, token: Option<&str>) -> Result<(), Status> {
    let mut client = Grpc::new(node.shared().await);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    if let Some(token) = token {
        let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    client.server_streaming::<(), (), _>(request, path.parse().unwrap(), ProstCodec::default()).await.map(|_| ())
}

async fn every_caller_gets_through_to_what_the_protos_say_and_to_nothing_else(backend: Backend) {
    let node = TestNode::builder(backend)
        .await
        .set("tokens.scopes=openid,users:read,users:write")
        .set("tokens.audiences=vouchsafe,https://api.example.com")
        .start()
        .await;
    let (mut rpcs, callers) = (rpcs(), callers(&node).await);
    // After it the caller is nobody.
    rpcs.sort_by_key(|rpc| rpc.path.ends_with("/DeleteAccount"));
    let listed: BTreeSet<_> = rpcs.iter().map(|rpc| rpc.path.as_str()).collect();
    assert!(listed.iter().all(|path| vouchsafe::grpc::paths().any(|served| served == *path)));
    let asked: BTreeSet<_> = rpcs.iter().map(|rpc| rpc.permission.as_str()).filter(|text| !text.is_empty()).collect();
    assert!(asked.into_iter().eq(vouchsafe::grpc::permissions()));
    let (mut passed, mut refused) = (0, 0);
    for caller in &callers {
        for rpc in &rpcs {
            let what = format!("{} by {}", rpc.path, caller.name);
            let answer = call(&node, &rpc.path, caller.token.as_deref()).await;
            match (refusal(rpc, &caller.standing), answer) {
                (None, Ok(())) => passed += 1,
                // Past the door: an empty message is not what most of them want, and some are yet to be served.
                (None, Err(status)) => {
                    let fault = [Code::Internal, Code::Unknown, Code::Unavailable].contains(&status.code());
                    assert!(!fault && !REFUSALS.contains(&&*reason(&status)), "{what}: {status:?}");
                    passed += 1;
                }
                (Some(expected), Err(status)) => {
                    assert_eq!((status.code(), &*reason(&status)), expected, "{what}");
                    refused += 1;
                }
                (Some(expected), Ok(())) => panic!("{what} is not refused: {expected:?}"),
            }
        }
    }
    assert_eq!(passed + refused, callers.len() * rpcs.len());
    assert!(rpcs.len() > 35 && passed > 200 && refused > 200, "{} RPCs, {passed}, {refused}", rpcs.len());
    node.remove().await;
}
