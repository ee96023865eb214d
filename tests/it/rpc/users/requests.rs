//! Creations that are asked for again.

use std::{sync::Arc, time::Duration};

use tokio::sync::Barrier;
use tonic::Code;
use vouchsafe::pb::v1;

use super::{Admin, refusal};
use crate::{
    rpc::on_both_databases,
    support::{Backend, ManualClock, PASSWORD, TestNode},
};

on_both_databases!(
    a_request_that_is_sent_again_gets_the_same_user,
    a_request_id_stands_for_a_day,
    of_many_who_send_one_request_at_once_all_get_one_user,
);

const REQUEST: &str = "6f2a4f7e-2f0d-4f4c-9a51-6f0a3f1c9b7d";

fn request() -> v1::CreateUserRequest {
    v1::CreateUserRequest {
        email: "ada@example.com".into(),
        password: PASSWORD.into(),
        request_id: REQUEST.into(),
        ..Default::default()
    }
}

async fn a_request_that_is_sent_again_gets_the_same_user(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let made = admin.create(request()).await.unwrap();
    assert_eq!(admin.create(request()).await.unwrap(), made);
    let other_password = v1::CreateUserRequest { password: format!("{PASSWORD}!"), ..request() };
    assert_eq!(admin.create(other_password).await.unwrap(), made, "the password is not compared");
    node.login("ada@example.com").await;
    let renamed = v1::User { display_name: "Ada".into(), ..made.clone() };
    let renamed = admin.update(renamed, &["display_name"]).await.unwrap();
    assert_eq!(admin.create(request()).await.unwrap(), renamed, "as it is now");

    for other in [
        v1::CreateUserRequest { email: "ADA@example.com".into(), ..request() },
        v1::CreateUserRequest { username: "ada".into(), ..request() },
        v1::CreateUserRequest { password: String::new(), ..request() },
        v1::CreateUserRequest { display_name: "Ada".into(), ..request() },
        v1::CreateUserRequest { email_verified: true, ..request() },
        v1::CreateUserRequest { roles: vec!["admin".into()], ..request() },
    ] {
        assert_eq!(refusal(admin.create(other).await), (Code::AlreadyExists, "REQUEST_ID_REUSED".into()));
    }
    let colleague = Admin::with_role(&node, "colleague@example.com", "admin").await;
    assert_eq!(refusal(colleague.create(request()).await).1, "EMAIL_TAKEN", "ids are everybody's own");
    assert!(!node.database.dump("create_requests").await.contains("ada@"), "nothing of it is kept");

    admin.delete(&made.id, "").await.unwrap();
    assert_eq!(refusal(admin.create(request()).await), (Code::NotFound, "USER_NOT_FOUND".into()));
    assert_eq!(node.events("act = 'user.created'").await, 1);
    node.remove().await;
}

async fn a_request_id_stands_for_a_day(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(clock.clone()).start().await;
    let mut admin = Admin::of(&node).await;
    let made = admin.create(request()).await.unwrap();
    for (after, answer) in [(Duration::from_hours(24), Some(&made)), (Duration::from_secs(1), None)] {
        clock.advance(after);
        node.catch_up().await;
        admin.token = node.login("root@example.com").await.access_token;
        let again = admin.create(request()).await;
        match answer {
            Some(made) => assert_eq!(again.unwrap(), *made),
            None => assert_eq!(refusal(again).1, "EMAIL_TAKEN", "forgotten"),
        }
    }
    node.remove().await;
}

async fn of_many_who_send_one_request_at_once_all_get_one_user(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    for round in 0..10 {
        let request = v1::CreateUserRequest {
            email: format!("user{round}@example.com"),
            request_id: uuid::Uuid::from_u128(round).to_string(),
            ..Default::default()
        };
        let start = Arc::new(Barrier::new(10));
        let callers: Vec<_> = (0..10)
            .map(|_| {
                let (admin, start, request) = (admin.clone(), start.clone(), request.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    admin.create(request).await.unwrap()
                })
            })
            .collect();
        let mut made = Vec::new();
        for caller in callers {
            made.push(caller.await.unwrap());
        }
        assert!(made.iter().all(|user| *user == made[0]));
    }
    assert_eq!(node.events("act = 'user.created'").await, 10);
    node.remove().await;
}
