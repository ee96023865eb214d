//! `ImportUsers`: a stream of rows, each stored once.

use tonic::Code;
use vouchsafe::pb::v1::{
    ImportError, ImportOptions, ImportUser, ImportUsersRequest, ImportUsersResponse,
    user_admin_service_client::UserAdminServiceClient,
};

use super::{Admin, give, role};
use crate::{
    rpc::on_both_databases,
    support::{Backend, PASSWORD, TestNode, bearer, login_request, reason, until},
};

const IMPORT: &str = "6f2a4f7e-2f0d-4f4c-9a51-6f0a3f1c9b7d";

fn begin(id: &str, validate_only: bool) -> ImportUsersRequest {
    let options = ImportOptions { import_id: id.to_owned(), validate_only };
    ImportUsersRequest { options: Some(options), ..ImportUsersRequest::default() }
}

fn rows(first_row: i64, users: Vec<ImportUser>) -> ImportUsersRequest {
    ImportUsersRequest { options: None, first_row, users }
}

fn somebody(name: &str) -> ImportUser {
    ImportUser { email: format!("{name}@example.com"), username: name.to_owned(), ..ImportUser::default() }
}

async fn send(admin: &Admin, messages: Vec<ImportUsersRequest>) -> Result<ImportUsersResponse, tonic::Status> {
    let mut client = UserAdminServiceClient::new(admin.channel.clone());
    let stream = bearer(&admin.token, tokio_stream::iter(messages));
    client.import_users(stream).await.map(tonic::Response::into_inner)
}

fn error(row: i64, field: &str, description: &str) -> ImportError {
    ImportError { row, field: field.into(), description: description.into() }
}

async fn imported_users_sign_in_with_the_passwords_they_had(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &["orders:read"]).await;
    let hash = node.database.texts("SELECT password_hash FROM users").await.swap_remove(0);
    let with_hash = |name: &str| ImportUser { password_hash: hash.clone(), ..somebody(name) };
    let ada = ImportUser { roles: vec!["clerk".into()], email_verified: true, ..with_hash("ada") };
    let bob = ImportUser { suspended: true, ..with_hash("bob") };
    let broken = ImportUser { email: "nobody".into(), password_hash: "$5$unknown".into(), ..somebody("x") };
    let messages =
        vec![begin(IMPORT, false), rows(1, vec![ada, bob, broken]), rows(4, vec![somebody("carl"), somebody("ada")])];
    let done = send(&admin, messages.clone()).await.unwrap();
    assert_eq!((done.imported, done.failed, done.next_row), (3, 2, 6));
    assert_eq!((done.errors[0].row, done.errors[0].field.as_str()), (3, "email"));
    assert_eq!(done.errors[1], error(5, "email", "belongs to another account"));

    let tokens = node.login("ada@example.com").await;
    let claims = node.verify(&tokens.access_token).await.claims.unwrap();
    assert_eq!(claims.roles, ["clerk"]);
    for name in ["bob", "carl"] {
        let refused = node.try_login(login_request(&format!("{name}@example.com"), PASSWORD)).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_CREDENTIALS", "{name}");
    }
    // The same once more, as after a broken connection: the answer speaks of the whole import.
    assert_eq!(send(&admin, messages).await.unwrap(), done);
    assert_eq!(send(&admin, vec![begin(IMPORT, false)]).await.unwrap(), done);
    assert_eq!(
        send(&admin, vec![begin(IMPORT, false), rows(9, vec![somebody("dora")])]).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    node.remove().await;
}

async fn a_large_message_is_taken_from_an_import_alone(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let wordy = |n: usize| ImportUser { display_name: "x".repeat(128), ..somebody(&format!("user-{n}")) };
    let done = send(&admin, vec![begin(IMPORT, false), rows(1, (0..1000).map(wordy).collect())]).await.unwrap();
    assert_eq!((done.imported, done.next_row), (1000, 1001));
    let too_many = send(&admin, vec![begin(IMPORT, false), rows(1001, (0..1001).map(wordy).collect())]).await;
    assert_eq!(reason(&too_many.unwrap_err()), "INVALID_ARGUMENT");
    let mut client = UserAdminServiceClient::new(admin.channel.clone());
    let large = vouchsafe::pb::v1::GetUserRequest {
        key: Some(vouchsafe::pb::v1::get_user_request::Key::Email("x".repeat(100_000))),
    };
    assert_eq!(client.get_user(bearer(&admin.token, large)).await.unwrap_err().code(), Code::OutOfRange);
    node.remove().await;
}

async fn a_rehearsal_finds_what_the_import_would(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let bad_role = ImportUser { roles: vec!["no such\0role".into()], ..somebody("eve") };
    let messages = |validate_only| {
        vec![
            begin(IMPORT, validate_only),
            rows(1, vec![somebody("ada"), somebody("root")]),
            rows(3, vec![bad_role.clone(), somebody("ADA")]),
        ]
    };
    let checked = send(&admin, messages(true)).await.unwrap();
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users").await, 1);
    let done = send(&admin, messages(false)).await.unwrap();
    assert_eq!(checked, done);
    assert_eq!((done.imported, done.failed, done.next_row), (1, 3, 5));
    let fields: Vec<_> = done.errors.iter().map(|error| (error.row, error.field.as_str())).collect();
    assert_eq!(fields, [(2, "email"), (3, "roles"), (4, "email")]);
    node.remove().await;
}

async fn a_stream_that_does_not_begin_as_it_should_is_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    for messages in [
        vec![],
        vec![rows(1, vec![somebody("ada")])],
        vec![begin("", false)],
        vec![begin(IMPORT, false), begin(IMPORT, false)],
        vec![begin(IMPORT, false), rows(0, vec![somebody("ada")])],
    ] {
        let refused = send(&admin, messages.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_ARGUMENT", "{messages:?}");
    }
    node.remove().await;
}

async fn an_importer_whose_role_is_taken_stores_nothing_more(backend: Backend) {
    let node = TestNode::start(backend).await;
    role(&node, "importer", &["users:import"]).await;
    let importer = Admin::with_role(&node, "importer@example.com", "importer").await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut client = UserAdminServiceClient::new(importer.channel.clone());
    let stream = bearer(&importer.token, tokio_stream::wrappers::ReceiverStream::new(receiver));
    let call = tokio::spawn(async move { client.import_users(stream).await });
    sender.send(begin(IMPORT, false)).await.unwrap();
    sender.send(rows(1, vec![somebody("ada")])).await.unwrap();
    until("the first row is stored", async || node.database.integer("SELECT COUNT(*) FROM users").await == 2).await;
    node.database.execute("DELETE FROM user_roles").await;
    sender.send(rows(2, vec![somebody("bob")])).await.unwrap();
    let refused = call.await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), "PERMISSION_DENIED");
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users").await, 2);
    give(&node, &importer.id, "importer").await;
    let done = send(&importer, vec![begin(IMPORT, false), rows(2, vec![somebody("bob")])]).await.unwrap();
    assert_eq!((done.imported, done.next_row), (2, 3));
    node.remove().await;
}

async fn a_stream_ends_with_the_session_of_its_token(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let session = node.login("root@example.com").await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut client = UserAdminServiceClient::new(admin.channel.clone());
    let stream = bearer(&session.access_token, tokio_stream::wrappers::ReceiverStream::new(receiver));
    let call = tokio::spawn(async move { client.import_users(stream).await });
    sender.send(begin(IMPORT, false)).await.unwrap();
    sender.send(rows(1, vec![somebody("ada")])).await.unwrap();
    until("the first row is stored", async || node.database.integer("SELECT COUNT(*) FROM users").await == 2).await;
    node.logout(&session.refresh_token).await.unwrap();
    sender.send(rows(2, vec![somebody("bob")])).await.unwrap();
    assert_eq!(reason(&call.await.unwrap().unwrap_err()), "ACCESS_TOKEN_INVALID");
    assert_eq!(node.database.integer("SELECT COUNT(*) FROM users").await, 2);
    node.remove().await;
}

on_both_databases!(
    a_stream_ends_with_the_session_of_its_token,
    imported_users_sign_in_with_the_passwords_they_had,
    a_large_message_is_taken_from_an_import_alone,
    a_rehearsal_finds_what_the_import_would,
    a_stream_that_does_not_begin_as_it_should_is_refused,
    an_importer_whose_role_is_taken_stores_nothing_more,
);
