//! `ListSessions`: what the owner sees of each.

use std::{sync::Arc, time::Duration};

use vouchsafe::{domain::time::Clock as _, pb::v1};

use super::on_both_databases;
use crate::support::{Backend, ManualClock, PASSWORD, TestNode, bearer, fields, login_request};

on_both_databases!(
    two_devices_are_listed_newest_first_and_the_current_one_is_marked,
    sessions_are_paged_without_gap_or_repetition,
    a_session_that_expired_or_was_cut_off_is_not_listed,
);

const MINUTE: Duration = Duration::from_mins(1);

async fn two_devices_are_listed_newest_first_and_the_current_one_is_marked(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(clock.clone()).start().await;
    let start = clock.now().as_seconds();
    node.register("ada@example.com").await;
    node.register("grace@example.com").await;
    node.login("grace@example.com").await;
    let from = async |name: &str| {
        let device = Some(v1::Device { name: name.into(), ..v1::Device::default() });
        node.try_login(v1::LoginRequest { device, ..login_request("ada@example.com", PASSWORD) }).await.unwrap()
    };
    let laptop = from("laptop").await;
    clock.advance(MINUTE);
    let phone = from("phone").await;
    clock.advance(19 * MINUTE);
    node.catch_up().await;
    let laptop = node.refresh(&laptop.refresh_token).await.unwrap();

    let sessions = node.sessions(&laptop.access_token).await;
    let summary: Vec<_> = sessions.iter().map(|s| (s.device_name.as_str(), s.id.as_str(), s.current)).collect();
    assert_eq!(summary, [("phone", &*phone.session_id, false), ("laptop", &*laptop.session_id, true)]);
    let seconds = |time: &Option<prost_types::Timestamp>| (time.unwrap().seconds - start, time.unwrap().nanos);
    let [phone, laptop] = &sessions[..] else { panic!("two sessions") };
    assert_eq!((seconds(&phone.create_time), seconds(&laptop.create_time)), ((60, 0), (0, 0)));
    assert_eq!(seconds(&phone.last_used_time), (60, 0), "not before it began");
    assert_eq!(seconds(&laptop.last_used_time), (15 * 60, 0), "refreshed five minutes after the quarter");
    assert_eq!(seconds(&laptop.expire_time), (15 * 60 + 30 * 24 * 3600, 0), "counted from the rounded time");
    assert_eq!(laptop.ip_address, "127.0.0.1");
    assert!(laptop.user_agent.starts_with("tonic/"), "{}", laptop.user_agent);
    node.remove().await;
}

async fn sessions_are_paged_without_gap_or_repetition(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend).await.clock(clock.clone()).start().await;
    node.register("ada@example.com").await;
    let mut ids = Vec::new();
    let mut token = String::new();
    for _ in 0..21 {
        let tokens = node.login("ada@example.com").await;
        ids.insert(0, tokens.session_id);
        token = tokens.access_token;
        clock.advance(Duration::from_secs(1));
    }
    let page = async |page_size: i32, page_token: &str| {
        let request = v1::ListSessionsRequest { page_size, page_token: page_token.into() };
        Ok::<_, tonic::Status>(node.account().await.list_sessions(bearer(&token, request)).await?.into_inner())
    };
    let first = page(0, "").await.unwrap();
    assert_eq!((first.sessions.len(), first.next_page_token.is_empty()), (20, false), "20 by default");
    for size in [1, 7, 20, 21, 100] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let answer = page(size, &next).await.unwrap();
            assert!((1..=size).contains(&i32::try_from(answer.sessions.len()).unwrap()), "no page is empty");
            seen.extend(answer.sessions.into_iter().map(|s| s.id));
            next = answer.next_page_token;
            if next.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ids, "by {size}");
    }
    assert_eq!(fields(&page(-1, "").await.unwrap_err()), ["page_size"]);
    assert_eq!(fields(&page(-1, "nonsense").await.unwrap_err()), ["page_size", "page_token"]);
    assert_eq!(page(1_000_000, "").await.unwrap().sessions.len(), ids.len(), "more than the most is the most");
    node.remove().await;
}

async fn a_session_that_expired_or_was_cut_off_is_not_listed(backend: Backend) {
    let clock = Arc::new(ManualClock::new());
    let node = TestNode::builder(backend)
        .await
        .clock(clock.clone())
        .set("sessions.idle_timeout=10m")
        .set("sessions.absolute_timeout=1h")
        .start()
        .await;
    node.register("ada@example.com").await;
    let idle = node.login("ada@example.com").await;
    let logged_out = node.login("ada@example.com").await;
    node.logout(&logged_out.refresh_token).await.unwrap();
    clock.advance(9 * MINUTE);
    node.catch_up().await;
    let current = node.login("ada@example.com").await;
    let listed = async || node.sessions(&current.access_token).await.into_iter().map(|s| s.id).collect::<Vec<_>>();
    assert_eq!(listed().await, [current.session_id.clone(), idle.session_id.clone()]);
    clock.advance(MINUTE);
    node.catch_up().await;
    assert_eq!(listed().await, std::slice::from_ref(&current.session_id), "idle for exactly ten minutes");
    node.remove().await;
}
