//! The table of the refresh rules, row by row, with literal times.

use super::*;

const WINDOW: Duration = Duration::from_secs(10);
/// The HMAC key that every family here was made with.
const OLD_KEY: i64 = 1;
/// The HMAC key that signs at the moment of the decision.
const NEW_KEY: i64 = 2;

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

/// A family at generation 5, made at second 100, with nothing late behind it.
const fn at_five() -> Family {
    Family { generation: 5, made_at: at(100), key_id: OLD_KEY, late_streak: 0, late_now: false }
}

/// The same, after that many late generations in a row, the last of them 5 itself.
const fn late_at_five(streak: u8) -> Family {
    Family { late_streak: streak, late_now: true, ..at_five() }
}

fn present(family: &Family, generation: i64, arrived: Timestamp) -> Decision {
    decide(family, Presented { generation, arrived }, WINDOW, arrived, NEW_KEY)
}

/// What a rotation from `family` at `now` stores.
const fn successor(generation: i64, now: Timestamp, late_streak: u8) -> Family {
    Family { generation, made_at: now, key_id: NEW_KEY, late_streak, late_now: false }
}

#[test]
fn a_sign_in_hands_out_generation_0() {
    let family = Family::first(at(7), OLD_KEY);
    assert_eq!(family, Family { generation: 0, made_at: at(7), key_id: OLD_KEY, late_streak: 0, late_now: false });
    assert_eq!(present(&family, 0, at(8)), Decision::Rotate { next: successor(1, at(8), 0), state_lost: false });
}

#[test]
fn the_current_generation_rotates_however_old_it_is() {
    for now in [100, 101, 110, 111, 1_000_000] {
        assert_eq!(
            present(&at_five(), 5, at(now)),
            Decision::Rotate { next: successor(6, at(now), 0), state_lost: false },
            "at {now}"
        );
    }
}

#[test]
fn a_rotation_happens_at_the_moment_of_the_decision_not_of_the_arrival() {
    let presented = Presented { generation: 5, arrived: at(101) };
    assert_eq!(
        decide(&at_five(), presented, WINDOW, at(103), NEW_KEY),
        Decision::Rotate { next: successor(6, at(103), 0), state_lost: false }
    );
}

#[test]
fn a_newer_generation_rotates_from_itself_and_reports_lost_state() {
    for presented in [6, 7, 1_000] {
        assert_eq!(
            present(&at_five(), presented, at(200)),
            Decision::Rotate { next: successor(presented + 1, at(200), 0), state_lost: true },
            "presented {presented}"
        );
    }
}

#[test]
fn lost_state_takes_the_late_streak_with_it() {
    assert_eq!(
        present(&late_at_five(2), 6, at(200)),
        Decision::Rotate { next: successor(7, at(200), 0), state_lost: true }
    );
}

#[test]
fn the_last_generation_is_redelivered_up_to_exactly_the_end_of_the_window() {
    for arrived in [at(99), at(100), at(109), at(110)] {
        assert_eq!(present(&at_five(), 4, arrived), Decision::Redeliver, "arrived {arrived}");
    }
    let one_too_late = Timestamp::from_micros(110_000_001);
    assert!(matches!(present(&at_five(), 4, one_too_late), Decision::RedeliverLate { .. }));
}

#[test]
fn the_window_is_judged_by_the_arrival_not_by_the_decision() {
    let presented = Presented { generation: 4, arrived: at(109) };
    assert_eq!(decide(&at_five(), presented, WINDOW, at(150), NEW_KEY), Decision::Redeliver);
}

#[test]
fn a_window_of_nothing_still_redelivers_what_arrived_before_the_rotation() {
    let decide_at =
        |arrived| decide(&at_five(), Presented { generation: 4, arrived }, Duration::ZERO, at(120), NEW_KEY);
    assert_eq!(decide_at(at(100)), Decision::Redeliver);
    assert_eq!(decide_at(Timestamp::from_micros(100_000_001)), Decision::RedeliverLate { next: late_at_five(1) });
}

#[test]
fn a_late_redelivery_is_remembered_and_changes_nothing_else() {
    assert_eq!(present(&at_five(), 4, at(111)), Decision::RedeliverLate { next: late_at_five(1) });
}

#[test]
fn all_late_tries_at_one_generation_count_once() {
    for streak in [1, 2] {
        let family = late_at_five(streak);
        for arrived in [111, 112, 5_000] {
            assert_eq!(present(&family, 4, at(arrived)), Decision::Redeliver, "streak {streak}, arrived {arrived}");
        }
    }
}

#[test]
fn a_late_generation_passes_its_streak_to_the_next() {
    for streak in [1, 2] {
        assert_eq!(
            present(&late_at_five(streak), 5, at(111)),
            Decision::Rotate { next: successor(6, at(111), streak), state_lost: false }
        );
    }
}

#[test]
fn a_generation_that_was_not_late_ends_the_streak() {
    let on_time = Family { late_streak: 2, late_now: false, ..at_five() };
    assert_eq!(present(&on_time, 5, at(111)), Decision::Rotate { next: successor(6, at(111), 0), state_lost: false });
}

#[test]
fn late_at_a_second_generation_in_a_row_is_still_redelivered() {
    let after_one = Family { late_streak: 1, late_now: false, ..at_five() };
    assert_eq!(present(&after_one, 4, at(111)), Decision::RedeliverLate { next: late_at_five(2) });
}

#[test]
fn late_at_a_third_generation_in_a_row_is_a_replay() {
    let after_two = Family { late_streak: 2, late_now: false, ..at_five() };
    assert_eq!(present(&after_two, 4, at(111)), Decision::Replay);
    assert_eq!(present(&after_two, 4, at(110)), Decision::Redeliver, "within the window it is never one");
}

#[test]
fn an_older_generation_is_a_replay_from_the_moment_the_current_one_was_surely_made() {
    for generation in [0, 1, 2, 3] {
        for arrived in [at(100).plus(CLOCK_SKEW), at(101), at(100_000)] {
            assert_eq!(present(&at_five(), generation, arrived), Decision::Replay, "{generation} at {arrived}");
        }
    }
}

#[test]
fn an_older_generation_that_arrived_before_was_overtaken() {
    let perhaps_before = Timestamp::from_micros(at(100).plus(CLOCK_SKEW).as_micros() - 1);
    for arrived in [at(0), at(99), at(100), perhaps_before] {
        assert_eq!(present(&at_five(), 3, arrived), Decision::Redeliver, "two behind, arrived {arrived}");
        for generation in [0, 1, 2] {
            assert_eq!(present(&at_five(), generation, arrived), Decision::Overtaken, "{generation} at {arrived}");
        }
    }
}

#[test]
fn a_late_streak_neither_excuses_nor_condemns_an_overtaken_refresh() {
    for streak in [1, 2] {
        assert_eq!(present(&late_at_five(streak), 3, at(99)), Decision::Redeliver);
        assert_eq!(present(&late_at_five(streak), 2, at(99)), Decision::Overtaken);
        assert_eq!(present(&late_at_five(streak), 3, at(101)), Decision::Replay);
    }
}

#[test]
fn three_lost_answers_in_a_row_each_retried_too_late_end_in_a_replay() {
    let mut family = Family::first(at(0), OLD_KEY);
    let mut now = 0;
    for round in 1..=3 {
        now += 100;
        let generation = family.generation;
        let Decision::Rotate { next, .. } = present(&family, generation, at(now)) else { panic!("round {round}") };
        family = next;
        now += 11;
        match present(&family, generation, at(now)) {
            Decision::RedeliverLate { next } if round < 3 => family = next,
            Decision::Replay if round == 3 => return,
            other => panic!("round {round}: {other:?}"),
        }
    }
    unreachable!("the third round ends the session");
}

#[test]
fn two_places_that_keep_the_counter_know_the_larger_generation_together() {
    let (behind, ahead) = (at_five(), successor(6, at(120), 0));
    assert_eq!(behind.merged(ahead), ahead);
    assert_eq!(ahead.merged(behind), ahead);
    assert_eq!(ahead.merged(ahead), ahead);
}

#[test]
fn of_one_generation_made_twice_the_later_counts_and_no_lateness_is_forgotten() {
    let early = Family { late_streak: 2, late_now: true, ..at_five() };
    let later = Family { made_at: at(101), key_id: NEW_KEY, ..at_five() };
    let both = Family { late_streak: 2, late_now: true, ..later };
    assert_eq!(early.merged(later), both);
    assert_eq!(later.merged(early), both);
}
