//! `RoleAdminService` as an administrator meets it.

use tonic::{Code, Status};
use vouchsafe::pb::v1;

use super::on_both_databases;
use crate::support::{Backend, TestNode, bearer, fields, reason, role_of};

on_both_databases!(
    a_role_is_created_changed_and_deleted,
    nobody_gives_away_or_takes_what_they_do_not_hold,
    what_is_malformed_is_named_field_by_field,
    roles_are_listed_page_by_page,
);

async fn create(node: &TestNode, token: &str, role: v1::Role) -> Result<v1::Role, Status> {
    let request = bearer(token, v1::CreateRoleRequest { role: Some(role) });
    Ok(node.roles().await.create_role(request).await?.into_inner().role.unwrap())
}

async fn update(node: &TestNode, token: &str, role: v1::Role, paths: &[&str]) -> Result<v1::Role, Status> {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = bearer(token, v1::UpdateRoleRequest { role: Some(role), update_mask });
    Ok(node.roles().await.update_role(request).await?.into_inner().role.unwrap())
}

async fn get(node: &TestNode, token: &str, name: &str) -> Result<v1::Role, Status> {
    let request = bearer(token, v1::GetRoleRequest { name: name.into() });
    Ok(node.roles().await.get_role(request).await?.into_inner().role.unwrap())
}

async fn delete(node: &TestNode, token: &str, name: &str, etag: &str) -> Result<(), Status> {
    let request = bearer(token, v1::DeleteRoleRequest { name: name.into(), etag: etag.into() });
    node.roles().await.delete_role(request).await.map(|_| ())
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

fn told(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

async fn a_role_is_created_changed_and_deleted(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = node.join("root", &["admin"], "").await.access_token;
    let wanted =
        v1::Role { description: " Takes orders. ".into(), ..role_of("clerk", &["orders:write", "orders:read"]) };
    let role = create(&node, &admin, v1::Role { built_in: true, etag: "r7".into(), ..wanted.clone() }).await.unwrap();
    assert_eq!((role.name.as_str(), role.description.as_str(), role.built_in), ("clerk", "Takes orders.", false));
    assert_eq!(role.permissions, ["orders:read", "orders:write"], "a set, in order");
    assert_eq!(role.create_time, role.update_time);
    assert_eq!(get(&node, &admin, "clerk").await.unwrap(), role);
    assert_eq!(refusal(create(&node, &admin, wanted).await), told(Code::AlreadyExists, "ROLE_EXISTS"));

    // Only what the mask names is read.
    let change = v1::Role { description: "Nobody reads this.".into(), ..role_of("clerk", &["orders:read"]) };
    let changed = update(&node, &admin, change.clone(), &["permissions"]).await.unwrap();
    assert_eq!((changed.description.as_str(), changed.permissions.len()), ("Takes orders.", 1));
    assert_ne!(changed.etag, role.etag);
    assert!(changed.update_time.unwrap().seconds >= changed.create_time.unwrap().seconds);
    let stale = v1::Role { etag: role.etag.clone(), ..change.clone() };
    let mismatch = told(Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(refusal(update(&node, &admin, stale, &["description"]).await), mismatch);
    assert_eq!(refusal(delete(&node, &admin, "clerk", "nonsense").await), mismatch);
    let fresh = v1::Role { etag: changed.etag, ..change };
    let described = update(&node, &admin, fresh, &["description", "permissions"]).await.unwrap();
    assert_eq!(described.description, "Nobody reads this.");

    let holder = node.register("bob@example.com").await;
    node.database.give_role(&holder.id, "clerk").await;
    assert_eq!(refusal(delete(&node, &admin, "clerk", "").await), told(Code::FailedPrecondition, "ROLE_IN_USE"));
    node.database.execute("DELETE FROM user_roles WHERE role = 'clerk'").await;
    delete(&node, &admin, "clerk", &described.etag).await.unwrap();
    let gone = told(Code::NotFound, "ROLE_NOT_FOUND");
    assert_eq!(refusal(get(&node, &admin, "clerk").await), gone);
    assert_eq!(refusal(delete(&node, &admin, "clerk", "").await), gone);
    assert_eq!(refusal(update(&node, &admin, role_of("clerk", &[]), &["permissions"]).await), gone);

    let built_in = told(Code::FailedPrecondition, "ROLE_BUILT_IN");
    let its_own = get(&node, &admin, "admin").await.unwrap();
    assert!(its_own.built_in && its_own.create_time.is_none() && its_own.update_time.is_none());
    assert_eq!(refusal(delete(&node, &admin, "admin", "").await), built_in);
    assert_eq!(refusal(update(&node, &admin, role_of("admin", &[]), &["permissions"]).await), built_in);
    for (act, count) in [("role.created", 1), ("role.updated", 2), ("role.deleted", 1)] {
        assert_eq!(node.events(&format!("act = '{act}' AND actor = 'user'")).await, count, "{act}");
    }
    node.remove().await;
}

async fn nobody_gives_away_or_takes_what_they_do_not_hold(backend: Backend) {
    let node = TestNode::builder(backend).await.set("tokens.scopes=openid,roles:write,orders:read").start().await;
    node.database.make_role("keeper", &["roles:write", "roles:read", "orders:read"]).await;
    node.database.make_role("mighty", &["*"]).await;
    node.database.make_role("clerk", &["orders:read", "orders:write"]).await;
    let keeper = node.join("keeper", &["keeper"], "").await.access_token;
    let limited = node.join("limited", &["admin"], "openid roles:write").await.access_token;
    let exceeds = told(Code::PermissionDenied, "EXCEEDS_OWN_PERMISSIONS");
    for token in [&keeper, &limited] {
        for permissions in [&["orders:write"][..], &["*"], &["roles:write", "orders:write"]] {
            assert_eq!(refusal(create(&node, token, role_of("new", permissions)).await), exceeds);
        }
        for role in ["clerk", "mighty"] {
            assert_eq!(refusal(update(&node, token, role_of(role, &[]), &["permissions"]).await), exceeds);
            assert_eq!(refusal(update(&node, token, role_of(role, &[]), &["description"]).await), exceeds);
            assert_eq!(refusal(delete(&node, token, role, "").await), exceeds);
        }
    }
    let raised = role_of("keeper", &["roles:write", "roles:read", "orders:read", "*"]);
    assert_eq!(refusal(update(&node, &keeper, raised, &["permissions"]).await), exceeds, "nor oneself");
    create(&node, &keeper, role_of("reader", &["orders:read"])).await.unwrap();
    create(&node, &limited, role_of("nothing", &[])).await.unwrap();
    assert_eq!(refusal(get(&node, &limited, "clerk").await), told(Code::PermissionDenied, "PERMISSION_DENIED"));
    let down = role_of("keeper", &["roles:read", "orders:read"]);
    update(&node, &keeper, down, &["permissions"]).await.unwrap();
    let denied = told(Code::PermissionDenied, "PERMISSION_DENIED");
    assert_eq!(refusal(delete(&node, &keeper, "reader", "").await), denied, "gone at once, with the same token");
    get(&node, &keeper, "reader").await.unwrap();
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM roles").await, 6);
    node.remove().await;
}

async fn what_is_malformed_is_named_field_by_field(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = node.join("root", &["admin"], "").await.access_token;
    let long = "x".repeat(129);
    let bad = v1::Role { description: long, ..role_of("Clerk", &["orders"]) };
    let status = create(&node, &admin, bad.clone()).await.unwrap_err();
    assert_eq!(fields(&status), ["role.name", "role.description", "role.permissions"]);
    assert_eq!(
        fields(
            &node.roles().await.create_role(bearer(&admin, v1::CreateRoleRequest { role: None })).await.unwrap_err()
        ),
        ["role.name"]
    );
    let status = update(&node, &admin, bad, &["description", "permissions", "name"]).await.unwrap_err();
    assert_eq!(fields(&status), ["role.name", "role.description", "role.permissions", "update_mask"]);
    for paths in [&[][..], &["*"], &["built_in"], &["role.permissions"]] {
        let status = update(&node, &admin, role_of("clerk", &[]), paths).await.unwrap_err();
        assert_eq!(fields(&status), ["update_mask"], "{paths:?}");
    }
    assert_eq!(fields(&get(&node, &admin, "").await.unwrap_err()), ["name"]);
    assert_eq!(fields(&delete(&node, &admin, "a b", "").await.unwrap_err()), ["name"]);

    let permissions: Vec<_> = (0..201).map(|n| format!("orders:act{n:03}")).collect();
    let permissions: Vec<_> = permissions.iter().map(String::as_str).collect();
    let status = create(&node, &admin, role_of("clerk", &permissions)).await.unwrap_err();
    assert_eq!(fields(&status), ["role.permissions"]);
    let role = create(&node, &admin, role_of("clerk", &permissions[1..])).await.unwrap();
    assert_eq!(role.permissions, permissions[1..]);
    node.remove().await;
}

async fn roles_are_listed_page_by_page(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = node.join("root", &["admin"], "").await.access_token;
    let names = ["a", "a-b", "a.b", "a_b", "aa", "admin", "b", "zz"];
    for name in names.iter().filter(|name| **name != "admin") {
        create(&node, &admin, role_of(name, &[])).await.unwrap();
    }
    let list = async |page_size: i32, page_token: &str| {
        let request = bearer(&admin, v1::ListRolesRequest { page_size, page_token: page_token.into() });
        let page = node.roles().await.list_roles(request).await?.into_inner();
        let names: Vec<_> = page.roles.into_iter().map(|role| role.name).collect();
        Ok::<_, Status>((names, page.next_page_token))
    };
    assert_eq!(list(0, "").await.unwrap(), (names.map(str::to_owned).to_vec(), String::new()));
    for size in [1, 3, 4, 8] {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let (page, next) = list(size, &token).await.unwrap();
            assert!(i32::try_from(page.len()).unwrap() <= size);
            all.extend(page);
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(all, names, "pages of {size}");
    }
    assert_eq!(fields(&list(-1, "no token").await.unwrap_err()), ["page_size", "page_token"]);
    node.remove().await;
}
