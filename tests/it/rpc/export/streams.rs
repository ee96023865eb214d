//! When an export may begin, and when it must end.

use tonic::{Code, Status, Streaming};
use uuid::Uuid;
use vouchsafe::pb::v1::{self, personal_record::Record, user_admin_service_client::UserAdminServiceClient};

use super::{export_account, export_user};
use crate::support::{Backend, TestDatabase, TestNode, bearer, fields, reason, until};

const ADA: &str = "ada@example.com";
/// A moment that nobody here lives to see.
const LATER: i64 = 9_000_000_000_000_000;

/// So many sessions that an export is not through before somebody reads it: more than a connection takes in advance.
const MANY: i64 = 24_000;

/// Gives a user many sessions that have ended.
async fn fill(database: &TestDatabase, user: &str) {
    let id = database.id(&user.parse().unwrap());
    let (uuid, series) = if database.postgres_pool().is_some() {
        ("gen_random_uuid()", format!("generate_series(1, {MANY}) AS n"))
    } else {
        let numbers = format!(
            "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {MANY}) SELECT n FROM c)"
        );
        ("randomblob(16)", numbers)
    };
    let columns = "user_id, epoch, client_id, audience, scope, auth_time, amr, acr, device_name, user_agent, ip_address, \
                   create_time, last_used_time, absolute_expire_time, generation, generation_time, refresh_key, \
                   late_streak, late_now, end_time, end_reason";
    let filled = database
        .execute(&format!(
            "INSERT INTO sessions (id, {columns}) SELECT {uuid}, {columns} FROM (SELECT user_id, epoch, client_id, \
             audience, scope, auth_time, amr, acr, device_name, user_agent, ip_address, create_time, last_used_time, \
             absolute_expire_time, generation, generation_time, refresh_key, late_streak, late_now, create_time AS \
             end_time, 'logout' AS end_reason FROM sessions WHERE user_id = {id} LIMIT 1) AS one CROSS JOIN {series}"
        ))
        .await;
    assert_eq!(i64::try_from(filled).unwrap(), MANY);
}

/// Reads to the end, which must be an error.
async fn end_of<M>(mut stream: Streaming<M>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the export was told to its end"),
            Err(status) => return status,
        }
    }
}

fn refused<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().expect("it is refused");
    (status.code(), reason(&status))
}

pub(super) async fn an_export_takes_a_recent_sign_in(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.register(ADA).await;
    let tokens = node.login(ADA).await;
    node.database.execute("UPDATE sessions SET auth_time = 1").await;
    let long_ago = node.refresh(&tokens.refresh_token).await.unwrap().access_token;
    let expected = (Code::Unauthenticated, "REAUTHENTICATION_REQUIRED".to_owned());
    assert_eq!(refused(export_account(&node, &long_ago).await), expected);
    assert_eq!(node.events("act = 'account.exported'").await, 0);
    // With a factor that was not used it is not enough either that it was a moment ago.
    let recent = node.login(ADA).await.access_token;
    assert!(matches!(export_account(&node, &recent).await.unwrap().last(), Some(Record::End(_))));
    let (id, seed) = ("(SELECT id FROM users)", node.database.bytes("00"));
    node.database.execute(&format!("INSERT INTO totp_factors VALUES ({id}, {id}, {seed}, 1, 1, 0)")).await;
    assert_eq!(refused(export_account(&node, &recent).await), expected);
    assert_eq!(node.events("act = 'account.exported'").await, 1);
    node.remove().await;
}

pub(super) async fn an_export_ends_with_the_right_to_it(backend: Backend) {
    let node = TestNode::start(backend).await;
    node.database.make_role("helper", &["users:export"]).await;
    let ada = node.register(ADA).await;
    let tokens = node.login(ADA).await;
    fill(&node.database, &ada.id).await;
    let helper = node.register("helper@example.com").await;
    node.database.give_role(&helper.id, "helper").await;
    let helper_tokens = node.login("helper@example.com").await;
    let begin = async |token: &str| {
        let mut users = UserAdminServiceClient::new(node.channel().await);
        let request = bearer(token, v1::ExportUserRequest { user_id: ada.id.clone() });
        let mut stream = users.export_user(request).await.unwrap().into_inner();
        assert!(!stream.message().await.unwrap().unwrap().records.is_empty());
        stream
    };
    // The owner's token.
    let request = bearer(&tokens.access_token, v1::ExportAccountRequest {});
    let mut account = v1::account_service_client::AccountServiceClient::new(node.channel().await);
    let mut own = account.export_account(request).await.unwrap().into_inner();
    assert!(own.message().await.unwrap().is_some());
    node.logout(&tokens.refresh_token).await.unwrap();
    let status = end_of(own).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "ACCESS_TOKEN_INVALID"));

    // The permission, of which the token says nothing.
    let stream = begin(&helper_tokens.access_token).await;
    node.database.execute("DELETE FROM user_roles WHERE role = 'helper'").await;
    let status = end_of(stream).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));

    // The person.
    node.database.give_role(&helper.id, "helper").await;
    let stream = begin(&helper_tokens.access_token).await;
    node.database.execute(&format!("DELETE FROM users WHERE email = '{ADA}'")).await;
    let status = end_of(stream).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "USER_NOT_FOUND"));
    node.remove().await;
}

pub(super) async fn exports_of_one_account_come_one_by_one(backend: Backend) {
    let node = TestNode::start(backend).await;
    let ada = node.register(ADA).await;
    let token = node.login(ADA).await.access_token;
    fill(&node.database, &ada.id).await;
    let request = || bearer(&token, v1::ExportAccountRequest {});
    let mut first = node.account().await.export_account(request()).await.unwrap().into_inner();
    assert!(first.message().await.unwrap().is_some());
    assert_eq!(refused(export_account(&node, &token).await), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    assert_eq!(node.events("act = 'account.exported'").await, 1, "one that does not begin is none");
    // Whoever goes away makes room, and what was not read is read by nobody.
    drop(first);
    until("another export", || async { node.account().await.export_account(request()).await.is_ok() }).await;
    until("a whole export", || async {
        match export_account(&node, &token).await {
            Ok(records) => {
                assert!(matches!(records.last(), Some(Record::End(_))));
                let sessions = records.iter().filter(|record| matches!(record, Record::Session(_))).count();
                assert_eq!(i64::try_from(sessions).unwrap(), MANY + 1);
                true
            }
            Err(status) => {
                assert_eq!(reason(&status), "OVERLOADED");
                false
            }
        }
    })
    .await;
    node.remove().await;
}

/// Who has not proved that an address is theirs is not told what others left under it.
pub(super) async fn nobody_is_given_what_may_be_somebody_elses(backend: Backend) {
    let node = TestNode::start(backend).await;
    let ada = node.register(ADA).await;
    let token = node.login(ADA).await.access_token;
    let [registration, change] = [1, 2].map(|n| node.database.id(&Uuid::from_u128(n)));
    let other = node.database.id(&node.register("other@example.com").await.id.parse().unwrap());
    for sql in [
        format!(
            "INSERT INTO registrations VALUES ({registration}, '{ADA}', '{ADA}', 'owner', 'Owner', NULL, NULL, 1, {LATER})"
        ),
        format!(
            "INSERT INTO email_changes VALUES ({change}, {other}, 1, 'other@example.com', '{ADA}', '{ADA}', FALSE, FALSE, 1, {LATER})"
        ),
        format!(
            "INSERT INTO mailed_codes VALUES ({}, 'register', NULL, {registration}, NULL, 1, '{ADA}', 1, {LATER})",
            node.database.bytes("0102")
        ),
    ] {
        assert_eq!(node.database.execute(&sql).await, 1, "{sql}");
    }
    let others = |records: &[Record]| {
        let of_others = |record: &&Record| match record {
            Record::Registration(_) | Record::EmailChange(_) => true,
            // Her own is there besides, where mail is sent.
            Record::Code(code) => code.purpose == "register",
            _ => false,
        };
        records.iter().filter(of_others).count()
    };
    assert_eq!(others(&export_account(&node, &token).await.unwrap()), 0);
    let id = node.database.id(&ada.id.parse().unwrap());
    node.database.execute(&format!("UPDATE users SET email_verified_time = 1 WHERE id = {id}")).await;
    let records = export_account(&node, &token).await.unwrap();
    assert_eq!(others(&records), 3);
    let text = format!("{records:?}");
    assert!(!text.contains("Owner") && !text.contains("other@"), "{text}");
    node.remove().await;
}

/// Whoever hands out what is kept of people hands out nothing of those who may do more.
pub(super) async fn nobody_is_given_who_may_do_more(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.register("root@example.com").await;
    node.database.give_role(&root.id, "admin").await;
    node.database.make_role("desk", &["users:export"]).await;
    let helper = node.join("helper", &["desk"], "").await;
    let ada = node.register(ADA).await;
    let mut users = UserAdminServiceClient::new(node.shared().await);
    let mut export = async |user_id: &str| {
        let request = bearer(&helper.access_token, v1::ExportUserRequest { user_id: user_id.to_owned() });
        let mut stream = users.export_user(request).await?.into_inner();
        while stream.message().await?.is_some() {}
        Ok::<_, Status>(())
    };
    assert_eq!(refused(export(&root.id).await), (Code::PermissionDenied, "EXCEEDS_OWN_PERMISSIONS".to_owned()));
    assert_eq!(node.events("act = 'user.exported'").await, 0);
    export(&ada.id).await.unwrap();
    assert_eq!(node.events("act = 'user.exported'").await, 1);
    node.remove().await;
}

/// What happens while an export is read is not part of it.
pub(super) async fn an_export_ends_where_it_began(backend: Backend) {
    let node = TestNode::start(backend).await;
    let ada = node.register(ADA).await;
    let token = node.login(ADA).await.access_token;
    fill(&node.database, &ada.id).await;
    let one = "id = (SELECT MAX(id::text)::uuid FROM sessions)";
    let one = if node.database.postgres_pool().is_some() { one } else { "id = (SELECT MAX(id) FROM sessions)" };
    let later = format!("UPDATE sessions SET create_time = {LATER} WHERE {one}");
    assert_eq!(node.database.execute(&later).await, 1);
    let mut stream =
        node.account().await.export_account(bearer(&token, v1::ExportAccountRequest {})).await.unwrap().into_inner();
    let mut records: Vec<_> = stream.message().await.unwrap().unwrap().records;
    node.login(ADA).await;
    while let Some(message) = stream.message().await.unwrap() {
        records.extend(message.records);
    }
    let begin = match records.last().unwrap().record.as_ref().unwrap() {
        Record::End(end) => end.begin_time.unwrap(),
        other => panic!("{other:?}"),
    };
    let (mut events, mut sessions) = (0, 0);
    for record in records {
        match record.record.unwrap() {
            Record::Session(_) => sessions += 1,
            Record::Event(event) => {
                let time = event.time.unwrap();
                assert!((time.seconds, time.nanos) <= (begin.seconds, begin.nanos), "{event:?}");
                events += 1;
            }
            _ => {}
        }
    }
    assert_eq!(sessions, MANY, "all but one of later");
    assert!(events > 2 && node.events("act = 'login.succeeded'").await == 2);
    node.remove().await;
}

pub(super) async fn who_is_not_there_has_nothing(backend: Backend) {
    let node = TestNode::start(backend).await;
    let root = node.join("root", &["admin"], "").await.access_token;
    let unknown = "018bcfe5-6800-7000-8000-000000000001";
    assert_eq!(refused(export_user(&node, &root, unknown).await), (Code::NotFound, "USER_NOT_FOUND".to_owned()));
    assert_eq!(fields(&export_user(&node, &root, "ada").await.unwrap_err()), ["user_id"]);
    assert_eq!(node.events("act = 'user.exported'").await, 0);
    node.remove().await;
}
