//! A role's definition is changed and then the database goes away (R6): no hot record made before speaks for a holder's row.

use serde_json::Value;
use tonic::Status;
use vouchsafe::pb::v1::{self, role_admin_service_client::RoleAdminServiceClient};

use super::world::{Node, Path, World, ends};
use crate::{
    hostile::payload_of,
    process::proxy::Link,
    support::{bearer, role_of},
};

/// What a token says the roles allow.
fn permissions(tokens: &v1::TokenPair) -> Vec<Value> {
    payload_of(&tokens.access_token)["permissions"].as_array().cloned().unwrap_or_default()
}

impl World {
    /// A user who has signed in with a role.
    async fn join_as(&self, email: &str, role: &str) -> v1::TokenPair {
        let user = self.nodes[0].client.register(email).await.unwrap();
        self.place.database.give_role(&user.id, role).await;
        self.nodes[0].client.login(email).await.unwrap()
    }
}

impl Node {
    async fn redefine(&self, admin: &v1::TokenPair, role: &str, permissions: &[&str]) -> Result<(), Status> {
        let update_mask = Some(prost_types::FieldMask { paths: vec!["permissions".into()] });
        let request = v1::UpdateRoleRequest { role: Some(role_of(role, permissions)), update_mask };
        let mut roles = RoleAdminServiceClient::new(self.client.channel.clone());
        ends(roles.update_role(bearer(&admin.access_token, request))).await.map(|_| ())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_no_session_goes_on_whose_role_was_changed() {
    let world = World::with(&[("tokens.permissions", "true")]).await;
    let [a, b] = &world.nodes;
    world.place.database.make_role("clerk", &["orders:read"]).await;
    world.place.database.make_role("guard", &["doors:open"]).await;
    let admin = world.join_as("root@example.com", "admin").await;
    let mut changed = world.join_as("ada@example.com", "clerk").await;
    let mut untouched = world.join_as("eve@example.com", "guard").await;
    for round in 0..3 {
        for tokens in [&mut changed, &mut untouched] {
            world.warm(tokens).await;
        }
        let (node, allowed) = (&world.nodes[round % 2], format!("orders:act{round}"));
        node.redefine(&admin, "clerk", &[&allowed]).await.unwrap();
        world.database_link(Link::Cut);
        for _ in 0..5 {
            for node in [a, b] {
                node.assert_unavailable(&changed).await;
            }
        }
        for node in [a, b] {
            node.until_path(&mut untouched, Path::Grace).await;
            assert_eq!(permissions(&untouched), ["doors:open"]);
            node.assert_unavailable(&changed).await;
        }
        world.database_link(Link::Up);
        for node in [a, b] {
            node.until_refreshed(&mut changed).await;
            assert_eq!(permissions(&changed), [allowed.as_str()]);
            node.until_refreshed(&mut untouched).await;
        }
        // With a record of after the change it is carried again.
        world.warm(&mut changed).await;
        world.database_link(Link::Cut);
        a.until_path(&mut changed, Path::Grace).await;
        assert_eq!(permissions(&changed), [allowed.as_str()]);
        world.database_link(Link::Up);
        b.until_refreshed(&mut changed).await;
    }
    world.remove().await;
}
