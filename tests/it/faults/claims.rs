//! Custom claims with the database away (R6): the hot record says what the row said, and no more once that was changed.

use std::io::Write as _;

use prost_types::{FieldMask, Struct, Value as PbValue, value::Kind};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use vouchsafe::pb::v1::{
    self, role_admin_service_client::RoleAdminServiceClient, user_admin_service_client::UserAdminServiceClient,
};

use super::world::{Node, Path, World, ends};
use crate::{
    hostile::payload_of,
    process::proxy::Link,
    support::{bearer, role_of},
};

/// An object of texts as a message.
#[expect(clippy::unnecessary_wraps, reason = "as it goes into a message")]
fn texts(members: &[(&str, &str)]) -> Option<Struct> {
    let value = |text: &str| PbValue { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = members.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
    Some(Struct { fields })
}

#[expect(clippy::unnecessary_wraps, reason = "as it goes into a message")]
fn mask(field: &str) -> Option<FieldMask> {
    Some(FieldMask { paths: vec![field.to_owned()] })
}

/// What a token says by these claims.
fn said(tokens: &v1::TokenPair) -> Value {
    let claims = payload_of(&tokens.access_token);
    json!([claims["desk"], claims["tenant"], claims["floor"]])
}

impl Node {
    /// Goes on with one session by its record, and not with the other.
    async fn carries_only(&self, own: &mut v1::TokenPair, other: &v1::TokenPair) {
        self.until_path(own, Path::Grace).await;
        self.assert_unavailable(other).await;
    }

    async fn say(&self, admin: &v1::TokenPair, user: &v1::User, field: &str) {
        let request = v1::UpdateUserRequest { user: Some(user.clone()), update_mask: mask(field) };
        let mut users = UserAdminServiceClient::new(self.client.channel.clone());
        ends(users.update_user(bearer(&admin.access_token, request))).await.unwrap();
    }

    async fn role_says(&self, admin: &v1::TokenPair, role: &str, floor: &str) {
        let role = v1::Role { custom_claims: texts(&[("floor", floor)]), ..role_of(role, &[]) };
        let request = v1::UpdateRoleRequest { role: Some(role), update_mask: mask("custom_claims") };
        let mut roles = RoleAdminServiceClient::new(self.client.channel.clone());
        ends(roles.update_role(bearer(&admin.access_token, request))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_tokens_say_what_they_said_and_no_session_goes_on_whose_claims_were_changed() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"[attributes]\ntenant = \"tenant_id\"\n").unwrap();
    let world = World::with(&[("tokens.claims", &file.path().display().to_string())]).await;
    let [a, b] = &world.nodes;
    world.place.database.make_role("clerk", &[]).await;
    let root = a.client.register("root@example.com").await.unwrap();
    world.place.database.give_role(&root.id, "admin").await;
    let admin = a.client.login("root@example.com").await.unwrap();
    let ada = a.client.register("ada@example.com").await.unwrap();
    world.place.database.give_role(&ada.id, "clerk").await;
    a.role_says(&admin, "clerk", "three").await;
    let mut untouched = world.join("eve@example.com").await;
    let user = |claims, attributes| v1::User {
        id: ada.id.clone(),
        custom_claims: texts(claims),
        attributes: texts(attributes),
        ..v1::User::default()
    };
    let attributes = [("tenant_id", "acme-tenant"), ("note", "unsaid-note")];
    b.say(&admin, &user(&[("desk", "one")], &[]), "custom_claims").await;
    b.say(&admin, &user(&[], &attributes), "attributes").await;
    let mut held = a.client.login("ada@example.com").await.unwrap();
    world.warm(&mut held).await;
    let everything = json!(["one", "acme-tenant", "three"]);
    assert_eq!(said(&held), everything);

    // What no token says is not in Redis.
    let keys: Vec<String> = world.redis.ask(&["KEYS", "*"]).await.unwrap();
    let mut kept = Vec::new();
    for key in &keys {
        if let Ok(value) = world.redis.ask::<Vec<u8>>(&["GET", key]).await {
            kept.extend(value);
        }
    }
    let has = |text: &str| kept.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has("acme-tenant") && !has("unsaid-note"));

    world.database_link(Link::Cut);
    for node in [a, b] {
        node.until_path(&mut held, Path::Grace).await;
        assert_eq!(said(&held), everything);
    }
    world.database_link(Link::Up);

    for (change, now) in [
        ("custom_claims", json!(["two", "acme-tenant", "three"])),
        ("attributes", json!(["two", "other-tenant", "three"])),
        ("role", json!(["two", "other-tenant", "four"])),
    ] {
        for tokens in [&mut held, &mut untouched] {
            for node in [a, b] {
                node.until_refreshed(tokens).await;
            }
            world.warm(tokens).await;
        }
        match change {
            "custom_claims" => a.say(&admin, &user(&[("desk", "two")], &[]), change).await,
            "attributes" => b.say(&admin, &user(&[], &[("tenant_id", "other-tenant")]), change).await,
            _ => a.role_says(&admin, "clerk", "four").await,
        }
        world.database_link(Link::Cut);
        for node in [a, b] {
            node.assert_unavailable(&held).await;
            node.until_path(&mut untouched, Path::Grace).await;
            node.assert_unavailable(&held).await;
        }
        world.database_link(Link::Up);
        for node in [a, b] {
            node.until_refreshed(&mut held).await;
            assert_eq!(said(&held), now, "after a change of {change}");
            node.until_refreshed(&mut untouched).await;
        }
    }
    world.remove().await;
}

/// Nodes of two files of claims: a record has the attributes that the tokens of its maker say. At another node it says nothing of others,
/// and a token without them would be one that leaves out what it promises.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_no_token_leaves_out_what_another_file_of_claims_says() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"[attributes]\ndesk = \"desk_id\"\n").unwrap();
    let world = World::with(&[("tokens.claims", &file.path().display().to_string())]).await;
    let a = &world.nodes[0];
    let root = a.client.register("root@example.com").await.unwrap();
    world.place.database.give_role(&root.id, "admin").await;
    let admin = a.client.login("root@example.com").await.unwrap();
    let mut held = Vec::new();
    for email in ["ada@example.com", "eve@example.com"] {
        let id = a.client.register(email).await.unwrap().id;
        let attributes = texts(&[("desk_id", "one"), ("tenant_id", "acme")]);
        a.say(&admin, &v1::User { id, attributes, ..v1::User::default() }, "attributes").await;
        held.push(a.client.login(email).await.unwrap());
    }
    let [ada, eve] = &mut held[..] else { unreachable!() };
    // Read once, at the start.
    std::fs::write(file.path(), "[attributes]\ndesk = \"desk_id\"\ntenant = \"tenant_id\"\n").unwrap();
    let c = Node::start(&world.place, &world.redis).await;
    a.until_path(ada, Path::Hot).await;
    c.until_path(eve, Path::Hot).await;
    assert_eq!((said(ada), said(eve)), (json!(["one", null, null]), json!(["one", "acme", null])));

    world.database_link(Link::Cut);
    c.database.set(Link::Cut);
    a.carries_only(ada, eve).await;
    assert_eq!(said(ada), json!(["one", null, null]));
    c.carries_only(eve, ada).await;
    assert_eq!(said(eve), json!(["one", "acme", null]));
    world.database_link(Link::Up);
    c.database.set(Link::Up);
    for tokens in [ada, eve] {
        c.until_refreshed(tokens).await;
        assert_eq!(said(tokens), json!(["one", "acme", null]));
    }
    c.server.stop().await;
    world.remove().await;
}
