use proptest::prelude::*;

use super::*;
use crate::domain::challenge::CHALLENGE_LIFE;

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_few_are_free_then_waits_double_up_to_a_quarter_of_an_hour_and_at_the_cap_it_is_over() {
    let steps = Steps::identifier(40);
    assert!((0..5).all(|failures| steps.wait(failures).is_zero()));
    assert_eq!([5, 6, 7, 14].map(|failures| steps.wait(failures)), [secs(1), secs(2), secs(4), secs(512)]);
    assert!((15..40).all(|failures| steps.wait(failures) == LONGEST_WAIT));
    assert_eq!([40, 41, u32::MAX].map(|failures| steps.wait(failures)), [QUIET; 3]);
    assert_eq!(steps.retry_after(40, at(0), at(1)), Some(LONGEST_WAIT), "nobody is told to come back in a month");
    assert_eq!(steps.retry_after(40, at(0), at(0).plus(QUIET)), None);
    assert_eq!(Steps::identifier(5).wait(5), QUIET);
    assert_eq!(Steps::DEVICE.wait(10), QUIET);
    let told = |failures| Steps::DEVICE.retry_after(failures, at(0), at(0)).unwrap_or_default();
    assert!((0..10).all(|failures| !Steps::DEVICE.is_of_cap(told(failures))) && Steps::DEVICE.is_of_cap(told(10)));
    assert!(!Steps::CODE.is_of_cap(LONGEST_WAIT));
    assert_eq!([4, 5, 8, 9, 1_000].map(|n| Steps::CODE.wait(n)), [0, 1, 8, 10, 10].map(secs));
    assert!(Steps::CODE.wait(u32::MAX) < CHALLENGE_LIFE, "an owner can wait for it");
    assert_eq!([19, 20, 26, 1_000].map(|n| Steps::CLIENT.wait(n)), [secs(0), secs(1), secs(60), secs(60)]);
}

#[test]
fn no_account_is_guessed_at_more_than_a_hundred_times_in_a_row() {
    for cap in Steps::CAPS {
        let most = |steps: Steps| steps.cap.unwrap();
        let (names, codes) = (NAMES * most(Steps::identifier(cap)), most(Steps::account(cap)));
        assert!(names + codes <= 100 && codes >= 5 && codes <= cap, "{cap}: {names} + {codes}");
    }
    assert_eq!([40, 45, 20].map(Steps::account), [20, 10, 20].map(Steps::capped));
}

#[test]
fn the_waits_that_the_database_is_given_are_those() {
    for steps in [Steps::identifier(40), Steps::account(45), Steps::DEVICE, Steps::CODE] {
        let waits = steps.waits();
        if let Some(cap) = steps.cap {
            assert_eq!(waits.len(), 1 + usize::try_from(cap).unwrap());
        }
        assert_eq!(waits.last(), Some(&micros(steps.wait(u32::MAX))), "beyond its end it is as at the end");
        for (failures, wait) in (0..).zip(waits) {
            assert_eq!(wait, micros(steps.wait(failures)), "{failures}");
        }
    }
}

#[test]
fn an_address_is_one_of_ipv4_or_a_prefix_of_ipv6() {
    let network = |text: &str| network_of(text.parse().unwrap());
    assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::"));
    assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    let others = ["2001:db8:1:2::1", "2001:db8:1:3::1", "192.0.2.1", "192.0.2.2", "c000:201::"];
    for (index, other) in others.iter().enumerate() {
        assert!(others[..index].iter().all(|before| network(before) != network(other)), "{other}");
    }
}

#[test]
fn thirty_a_minute_are_thirty_at_once_and_one_each_two_seconds() {
    let rate = Rate::per_minute(30).unwrap();
    let spent = rate.spend(Spent::default(), 29, at(1_000));
    assert_eq!(rate.retry_after(spent, at(1_000)), None);
    let spent = rate.spend(spent, 1, at(1_000));
    assert_eq!(rate.retry_after(spent, at(1_000)), Some(secs(2)));
    assert_eq!(rate.retry_after(spent, at(1_001)), Some(secs(1)));
    assert_eq!(rate.retry_after(spent, at(1_002)), None);
    assert_eq!(Rate::per_minute(0), None);
    let (hourly, mut spent) = (Rate::per_hour(10, 5), Spent::default());
    for _ in 0..5 {
        assert_eq!(hourly.retry_after(spent, at(0)), None);
        spent = hourly.spend(spent, 1, at(0));
    }
    assert_eq!(hourly.retry_after(spent, at(0)), Some(Duration::from_mins(6)));
}

#[test]
fn a_clock_set_back_by_years_costs_a_wait_and_gives_no_guess() {
    let (wrong, right) = (at(2_000_000_000), at(1_800_000_000));
    assert_eq!(Steps::identifier(40).retry_after(7, wrong, right), Some(secs(4)));
    let rate = Rate::per_minute(30).unwrap();
    let full = rate.spend(Spent::default(), 30, wrong);
    assert_eq!(rate.retry_after(full, right), Some(secs(2)), "as if it were just full");
}

/// What one target goes through: attempts at these distances, all of them wrong. How many were looked at.
fn looked_at(steps: Steps, distances: &[u64]) -> u32 {
    let (mut now, mut failures, mut last) = (at(1_800_000_000), 0, at(0));
    for distance in distances {
        now = now.plus(secs(*distance));
        if failures == 0 || steps.retry_after(failures, last, now).is_none() {
            (failures, last) = (failures + 1, now);
        }
    }
    failures
}

proptest! {
    #[test]
    fn waits_grow_and_are_never_unbounded(cap in Steps::CAPS, failures in 0_u32..200, elapsed in 0_u64..10_000_000) {
        for steps in [Steps::identifier(cap), Steps::account(cap), Steps::DEVICE, Steps::CLIENT] {
            prop_assert!(steps.wait(failures) <= steps.wait(failures + 1));
            let told = steps.retry_after(failures, at(0), at(i64::try_from(elapsed).unwrap()));
            prop_assert!(told.is_none_or(|wait| !wait.is_zero() && wait <= LONGEST_WAIT));
            prop_assert!(steps.wait(failures) <= QUIET);
        }
    }

    #[test]
    fn whatever_the_times_no_more_than_the_cap_are_looked_at(
        cap in Steps::CAPS,
        // All of it within the month after which it is forgotten.
        distances in prop::collection::vec(prop_oneof![0_u64..5, 0_u64..2_000, 0_u64..8_640], 0..300),
    ) {
        prop_assert!(looked_at(Steps::identifier(cap), &distances) <= cap);
    }

    #[test]
    fn no_more_than_the_rate_and_its_burst_in_any_time(
        number in 1_u32..1_000,
        distances in prop::collection::vec(0_u64..3_000_000, 1..300),
    ) {
        let rate = Rate::per_minute(number).unwrap();
        let (begin, mut now, mut spent, mut taken) = (at(1_800_000_000), at(1_800_000_000), Spent::default(), 0_i64);
        for distance in distances {
            now = now.plus(Duration::from_micros(distance));
            match rate.retry_after(spent, now) {
                None => { spent = rate.spend(spent, 1, now); taken += 1; }
                Some(wait) => prop_assert!(wait <= LONGEST_WAIT + secs(60)),
            }
        }
        let elapsed = micros(now.since(begin));
        prop_assert!(taken <= i64::from(number) + elapsed / rate.each() + 1, "{taken}");
    }

    #[test]
    fn what_is_spent_in_parts_is_spent(number in 1_u32..1_000, parts in prop::collection::vec(0_u32..50, 1..20)) {
        let (rate, now) = (Rate::per_minute(number).unwrap(), at(1_800_000_000));
        let bit_by_bit = parts.iter().fold(Spent::default(), |spent, part| rate.spend(spent, *part, now));
        prop_assert_eq!(bit_by_bit, rate.spend(Spent::default(), parts.iter().sum(), now));
        prop_assert!(rate.retry_after(bit_by_bit, now).is_none_or(|wait| wait <= LONGEST_WAIT + secs(60)));
    }
}
