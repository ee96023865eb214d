//! `ListUsers`.

use std::collections::BTreeSet;

use prost_types::{Struct, Timestamp, Value, value::Kind};
use tonic::Status;
use vouchsafe::pb::v1::{self, UserFilter, UserState};

use super::{Admin, role};
use crate::{
    rpc::on_both_databases,
    support::{Backend, TestNode, fields},
};

on_both_databases!(
    each_filter_has_its_order_and_its_users,
    a_user_who_stays_comes_once_whoever_comes_and_goes,
    what_is_asked_for_wrongly_is_refused,
    a_page_is_no_larger_than_a_client_takes,
);

/// A page of users as a filter has them.
async fn page(admin: &Admin, filter: &UserFilter, size: i32, token: &str) -> Result<v1::ListUsersResponse, Status> {
    let filter = (*filter != UserFilter::default()).then(|| filter.clone());
    admin.page(v1::ListUsersRequest { page_size: size, page_token: token.into(), filter }).await
}

/// All of them, by pages of one size.
async fn all(admin: &Admin, filter: &UserFilter, size: i32) -> Vec<v1::User> {
    let (mut users, mut token) = (Vec::new(), String::new());
    loop {
        let page = page(admin, filter, size, &token).await.unwrap();
        assert!(page.users.len() <= usize::try_from(size).unwrap());
        assert!(page.next_page_token.is_empty() || !page.users.is_empty());
        users.extend(page.users);
        token = page.next_page_token;
        if token.is_empty() {
            return users;
        }
    }
}

/// Whether a user of a case belongs to it.
type Keep<'a> = Box<dyn Fn(&v1::User) -> bool + 'a>;

/// Thirty users of all sorts beside the administrator, in the order of their creation.
async fn crowd(node: &TestNode, admin: &Admin) -> Vec<v1::User> {
    role(node, "clerk", &["orders:read"]).await;
    role(node, "rare", &[]).await;
    let mut ids = vec![admin.id.clone()];
    for number in 0..30 {
        // So that no two orders are the same.
        let (first, second) = (number * 7 % 30, number * 11 % 30);
        let user = v1::CreateUserRequest {
            email: format!("{}{first:02}@example.com", if number % 2 == 0 { "Even" } else { "odd_" }),
            username: if number % 3 == 0 { String::new() } else { format!("n{}.{second:02}", number % 2) },
            roles: if number % 5 == 0 { vec!["clerk".into()] } else { Vec::new() },
            ..Default::default()
        };
        ids.push(admin.create(user).await.unwrap().id);
        if number % 4 == 0 {
            admin.suspend(&ids[number + 1]).await.unwrap();
        }
    }
    admin.assign(&ids[17], "rare").await.unwrap();
    let mut users = Vec::new();
    for id in &ids {
        users.push(admin.get(id).await.unwrap());
    }
    users
}

async fn each_filter_has_its_order_and_its_users(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let users = crowd(&node, &admin).await;
    let created = |n: usize| users[n].create_time;
    let moment = |user: &v1::User| user.create_time.map(|t| (t.seconds, t.nanos)).unwrap();
    let any = UserFilter::default();
    let suspended = UserState::Suspended.into();
    let is_suspended = |user: &v1::User| user.state() == UserState::Suspended;
    let has = |user: &v1::User, role: &str| user.roles.iter().any(|held| held == role);
    let cases: Vec<(UserFilter, Keep)> = vec![
        (any.clone(), Box::new(|_| true)),
        (UserFilter { state: suspended, ..any.clone() }, Box::new(is_suspended)),
        (UserFilter { state: UserState::Active.into(), ..any.clone() }, Box::new(|user| !is_suspended(user))),
        (UserFilter { role: "clerk".into(), ..any.clone() }, Box::new(|user| has(user, "clerk"))),
        (UserFilter { role: "rare".into(), ..any.clone() }, Box::new(|user| has(user, "rare"))),
        (UserFilter { role: "nothing".into(), ..any.clone() }, Box::new(|_| false)),
        (
            UserFilter { role: "clerk".into(), state: suspended, ..any.clone() },
            Box::new(|user| has(user, "clerk") && is_suspended(user)),
        ),
        (
            UserFilter { email_prefix: "EVEN".into(), ..any.clone() },
            Box::new(|user| user.email.to_lowercase().starts_with("even")),
        ),
        (UserFilter { email_prefix: "odd_".into(), ..any.clone() }, Box::new(|user| user.email.starts_with("odd_"))),
        (
            UserFilter { email_prefix: "even".into(), role: "clerk".into(), state: suspended, ..any.clone() },
            Box::new(|user| user.email.starts_with("Even") && has(user, "clerk") && is_suspended(user)),
        ),
        (
            UserFilter { email_prefix: "even".into(), username_prefix: "n0".into(), ..any.clone() },
            Box::new(|user| user.email.starts_with("Even") && user.username.starts_with("n0")),
        ),
        (
            UserFilter { username_prefix: "N1.".into(), ..any.clone() },
            Box::new(|user| user.username.starts_with("n1.")),
        ),
        (
            UserFilter { username_prefix: "n".into(), state: suspended, ..any.clone() },
            Box::new(|user| user.username.starts_with('n') && is_suspended(user)),
        ),
        (
            UserFilter { created_since: created(9), created_before: created(20), ..any.clone() },
            Box::new(|user| (moment(&users[9])..moment(&users[20])).contains(&moment(user))),
        ),
        (
            UserFilter { created_since: created(9), state: suspended, ..any.clone() },
            Box::new(|user| moment(user) >= moment(&users[9]) && is_suspended(user)),
        ),
        (
            UserFilter { created_before: created(9), role: "clerk".into(), ..any.clone() },
            Box::new(|user| moment(user) < moment(&users[9]) && has(user, "clerk")),
        ),
        // No character but itself.
        (UserFilter { email_prefix: "%".into(), ..any.clone() }, Box::new(|_| false)),
        (UserFilter { email_prefix: "odd%".into(), ..any.clone() }, Box::new(|_| false)),
        (UserFilter { email_prefix: "eve_".into(), ..any.clone() }, Box::new(|_| false)),
        (UserFilter { username_prefix: "n_.".into(), ..any.clone() }, Box::new(|_| false)),
        (UserFilter { username_prefix: "\\".into(), ..any.clone() }, Box::new(|_| false)),
    ];
    for (filter, keep) in cases {
        let mut expected: Vec<_> = users.iter().filter(|user| keep(user)).cloned().collect();
        if !filter.email_prefix.is_empty() {
            expected.sort_by_key(|user| user.email.to_lowercase());
        } else if !filter.username_prefix.is_empty() {
            expected.sort_by_key(|user| user.username.clone());
        } else if filter.role.is_empty() {
            expected.sort_by_key(|user| (moment(user), user.id.clone()));
        } else {
            expected.sort_by_key(|user| user.id.clone());
        }
        for size in [1, 3, 31, 1000] {
            assert_eq!(all(&admin, &filter, size).await, expected, "{filter:?} by {size}");
        }
    }
    let first = page(&admin, &any, 0, "").await.unwrap();
    assert_eq!((first.users.len(), first.next_page_token.is_empty()), (20, false), "20 by default");
    assert_eq!(page(&admin, &any, i32::MAX, "").await.unwrap().users.len(), users.len());
    node.remove().await;
}

async fn a_user_who_stays_comes_once_whoever_comes_and_goes(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    role(&node, "clerk", &["orders:read"]).await;
    let create = async |name: String| {
        let request = v1::CreateUserRequest {
            email: format!("u{name}@example.com"),
            username: format!("u{name}"),
            roles: vec!["clerk".into()],
            ..Default::default()
        };
        admin.create(request).await.unwrap().id
    };
    for (turn, filter) in [
        UserFilter { role: "clerk".into(), ..Default::default() },
        UserFilter { email_prefix: "u".into(), ..Default::default() },
        UserFilter { username_prefix: "u".into(), ..Default::default() },
        UserFilter::default(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut here = Vec::new();
        for number in 0..24 {
            here.push(create(format!("{turn}.{:02}", number * 7 % 24)).await);
        }
        let (mut seen, mut token, mut left) = (Vec::new(), String::new(), BTreeSet::new());
        for number in 0.. {
            let page = page(&admin, &filter, 4, &token).await.unwrap();
            seen.extend(page.users.into_iter().map(|user| user.id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
            if number < 6 {
                // The last one of the page among them, from which the next begins.
                for id in [seen.last().unwrap().clone(), here[number * 3].clone()] {
                    if id != admin.id && left.insert(id.clone()) {
                        admin.delete(&id, "").await.unwrap();
                    }
                }
                // Before the place and behind it.
                create(format!("{turn}.00.{number}")).await;
                create(format!("{turn}.99.{number}")).await;
            }
        }
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "nobody comes twice: {filter:?}");
        for id in here.iter().filter(|id| !left.contains(*id)) {
            assert!(seen.contains(id), "nobody is missed: {filter:?}");
        }
    }
    node.remove().await;
}

async fn what_is_asked_for_wrongly_is_refused(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    for number in 0..3 {
        admin.user(&format!("u{number}@example.com")).await;
    }
    let any = UserFilter::default();
    let by_email = UserFilter { email_prefix: "u".into(), ..any.clone() };
    let token = page(&admin, &by_email, 1, "").await.unwrap().next_page_token;
    page(&admin, &by_email, 2, &token).await.unwrap();
    for other in [any.clone(), UserFilter { email_prefix: "u1".into(), ..any.clone() }] {
        assert_eq!(fields(&page(&admin, &other, 1, &token).await.unwrap_err()), ["page_token"]);
    }
    let token = page(&admin, &any, 1, "").await.unwrap().next_page_token;
    let suspended = UserFilter { state: UserState::Suspended.into(), ..any.clone() };
    assert_eq!(fields(&page(&admin, &suspended, 1, &token).await.unwrap_err()), ["page_token"]);
    assert_eq!(fields(&page(&admin, &any, -1, "nonsense").await.unwrap_err()), ["page_size", "page_token"]);
    let nonsense = UserFilter {
        email_prefix: "ä".into(),
        username_prefix: "a b".into(),
        state: 17,
        role: "No".into(),
        created_since: Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
        created_before: Some(Timestamp { seconds: 0, nanos: -1 }),
    };
    let named = ["email_prefix", "username_prefix", "state", "role", "created_since", "created_before"];
    let refused = fields(&page(&admin, &nonsense, 0, "").await.unwrap_err());
    assert_eq!(refused, named.map(|name| format!("filter.{name}")));
    node.remove().await;
}

/// Small values are larger on the wire than in the JSON that is bounded.
async fn a_page_is_no_larger_than_a_client_takes(backend: Backend) {
    let node = TestNode::start(backend).await;
    let admin = Admin::of(&node).await;
    let number = Value { kind: Some(Kind::NumberValue(1.0)) };
    let list = Kind::ListValue(prost_types::ListValue { values: vec![number; 1000] });
    let attributes = Struct { fields: [("a".to_owned(), Value { kind: Some(list) })].into() };
    let user = admin
        .create(v1::CreateUserRequest {
            email: "u0@example.com".into(),
            attributes: Some(attributes),
            ..Default::default()
        })
        .await
        .unwrap();
    let id = node.database.id(&user.id.parse().unwrap());
    for number in 1..400_u128 {
        let other = node.database.id(&uuid::Uuid::from_u128(number));
        let sql = format!(
            "INSERT INTO users (id, email, email_key, display_name, state, epoch, attributes, create_time, update_time) \
             SELECT {other}, 'u{number}@example.com', 'u{number}@example.com', '', 'active', 1, attributes, {number}, 0 \
             FROM users WHERE id = {id}"
        );
        assert_eq!(node.database.execute(&sql).await, 1);
    }
    let first = page(&admin, &UserFilter::default(), 1000, "").await.unwrap();
    assert!(!first.next_page_token.is_empty() && first.users.len() > 100, "{}", first.users.len());
    assert_eq!(all(&admin, &UserFilter::default(), 1000).await.len(), 401);
    node.remove().await;
}
