//! What a response changes, by clocks that are set; and what is done after a stream has ended.

use std::sync::Arc;

use super::*;
use crate::{
    pb::v1::{self, revocation::Revoked},
    verifier::{
        Denied, Inactive, Rule,
        testing::{NOW, SESSION, Surroundings},
    },
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn most(longest: Duration) -> Duration {
    longest
}

fn refused() -> End {
    End::Refused(Status::unavailable("the node stops"))
}

fn broken() -> End {
    let mut status = Status::unavailable("broken pipe");
    status.set_source(Arc::new(std::io::Error::other("broken pipe")));
    End::Refused(status)
}

#[test]
fn a_connection_over_which_the_issuer_spoke_is_kept_for_a_while() {
    let mut course = Course::default();
    let reconnects: Vec<_> = (0..8).map(|_| course.after(&refused(), false, false, most).0).collect();
    assert_eq!(reconnects, [false, false, false, true, false, false, false, true]);
    for dead in [broken(), End::Idle, End::Refused(Status::deadline_exceeded("no answer"))] {
        assert!(Course::default().after(&dead, true, true, most).0, "{dead}");
    }
    assert!(!Course::default().after(&End::Closed, true, true, most).0);
}

#[test]
fn a_planned_stop_brings_nobody_back_at_one_moment_unless_there_is_a_hurry() {
    let pause = |end: End, lasted, is_young| Course::default().after(&end, lasted, is_young, most).1;
    assert_eq!((pause(refused(), true, true), pause(End::Closed, true, true)), (POLITE, POLITE));
    assert_eq!(pause(refused(), true, false), ms(300), "stale soon");
    assert_eq!(pause(broken(), true, true), ms(300), "killed");
    assert_eq!(pause(refused(), false, true), ms(300), "it never was any good");
    assert_eq!(pause(End::Leapt, true, true), ms(300), "the issuer has nothing to do with it");
    assert_eq!(Course::default().after(&refused(), true, true, |_| Duration::ZERO).1, ms(100));
}

#[test]
fn streams_that_bring_nothing_are_tried_ever_more_seldom() {
    let mut course = Course::default();
    let pauses: Vec<_> = (0..7).map(|_| course.after(&End::Idle, false, false, most).1.as_millis()).collect();
    assert_eq!(pauses, [300, 500, 900, 1_700, 3_300, 5_000, 5_000]);
    assert_eq!(course.after(&broken(), true, false, most).1, ms(300));
}

const HOUR: i64 = 3_600;

/// The issuer says that this is complete so many seconds after every token has begun.
fn complete(seconds: i64, revocations: Vec<v1::Revocation>) -> WatchRevocationsResponse {
    let now = Some(prost_types::Timestamp { seconds: NOW.as_seconds() + seconds, nanos: 0 });
    WatchRevocationsResponse { revocations, cursor: "c".into(), complete_time: now, server_time: now }
}

/// The session of every token, for seven minutes.
fn session() -> v1::Revocation {
    let expire_time = Some(prost_types::Timestamp { seconds: NOW.as_seconds() + 420, nanos: 0 });
    v1::Revocation { revoked: Some(Revoked::SessionId(SESSION.into())), expire_time }
}

fn hear(around: &Surroundings, response: WatchRevocationsResponse) -> bool {
    let shared = &around.verifier.shared;
    Stream::new(shared, shared.now(), monotonic_now()).respond(response)
}

fn check(around: &Surroundings, token: &str) -> Result<(), Denied> {
    around.verifier.verify_now(token, &Rule::required()).map(|_| ())
}

#[tokio::test]
async fn a_clock_set_forward_and_back_makes_no_revoked_token_good() {
    let around = Surroundings::listening().await;
    let token = around.token("", &[]);
    assert!(hear(&around, complete(0, vec![])));
    assert_eq!(check(&around, &token), Ok(()));
    assert!(hear(&around, complete(1, vec![session()])));
    let revoked = Err(Denied::Inactive(Inactive::Revoked));
    assert_eq!(check(&around, &token), revoked);
    around.set_clock(HOUR);
    around.verifier.shared.purge();
    around.set_clock(2);
    assert_eq!(check(&around, &token), revoked);
    // Forgotten once it has expired by every clock.
    assert!(hear(&around, complete(421, vec![])));
    around.verifier.shared.purge();
    assert_eq!(around.verifier.revocations().len(), 1);
    around.set_clock(421);
    around.verifier.shared.purge();
    assert!(around.verifier.revocations().is_empty());
}

#[tokio::test]
async fn a_clock_that_is_behind_takes_no_expired_token_for_a_good_one() {
    let around = Surroundings::listening().await;
    let token = around.token("", &[]);
    around.set_clock(10);
    assert!(hear(&around, complete(10, vec![])));
    let principal = around.verifier.verify_now(&token, &Rule::required()).unwrap();
    // Ten minutes are over by the issuer, which has forgotten what it revoked meanwhile.
    assert!(hear(&around, complete(610, vec![])));
    let expired = Denied::Inactive(Inactive::Expired);
    assert_eq!(check(&around, &token), Err(expired.clone()));
    assert_eq!(around.verifier.recheck(&principal, &Rule::required()), Err(expired.clone()));
    assert_eq!(around.verifier.ended(&principal, &Rule::required()).await, expired);
}

#[tokio::test]
async fn nothing_is_forgotten_before_the_issuer_has_said_what_time_it_is() {
    let around = Surroundings::listening().await;
    around.revoke();
    around.set_clock(HOUR);
    around.verifier.shared.purge();
    assert_eq!(around.verifier.revocations().len(), 1);
    assert!(hear(&around, complete(HOUR, vec![])));
    around.verifier.shared.purge();
    assert!(around.verifier.revocations().is_empty());
}

#[tokio::test]
async fn what_lay_in_a_buffer_while_the_machine_slept_does_not_vouch_for_the_list() {
    let around = Surroundings::listening().await;
    let shared = &around.verifier.shared;
    let mut stream = Stream::new(shared, shared.now(), monotonic_now());
    assert!(stream.respond(complete(0, vec![])));
    assert!(around.verifier.is_ready());
    around.set_clock(HOUR);
    assert!(!around.verifier.is_ready(), "an hour has passed by the date");
    assert!(!stream.respond(complete(1, vec![session()])), "the list is asked for anew");
    assert!(!around.verifier.is_ready());
    assert_eq!(around.verifier.revocations().len(), 1, "what it says is taken in");
    assert!(hear(&around, complete(HOUR, vec![])));
    assert!(around.verifier.is_ready());
}
