//! The conformance suite of the hot state: one set of tests, run on every form of it, and what happens when servers fail.
//!
//! A test is a function of a [`world::World`]; `suite!` makes of it one test for each form, named after both.

mod failover;
mod faults;
mod feeds;
pub(crate) mod own;
mod values;
mod world;

macro_rules! suite {
    ($($file:ident { $($test:ident)* })*) => {
        suite!(@form redis Redis $($($file $test)*)*);
        suite!(@form redis_tls RedisTls $($($file $test)*)*);
        suite!(@form redis_unix RedisUnix $($($file $test)*)*);
        suite!(@form sentinel Sentinel $($($file $test)*)*);
        suite!(@form cluster Cluster $($($file $test)*)*);
        suite!(@form valkey Valkey $($($file $test)*)*);
    };
    (@form $name:ident $form:ident $($file:ident $test:ident)*) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $test() {
                    let world = super::world::World::of(super::world::Form::$form).await;
                    super::$file::$test(&world).await;
                }
            )*
        }
    };
}

suite! {
    values {
        nothing_is_there_at_first
        a_value_is_set_only_where_the_expected_one_is
        an_empty_value_is_not_an_absent_one
        of_50_at_once_exactly_one_wins_each_round
        a_value_vanishes_after_its_time
        values_are_any_bytes
        sessions_and_heads_do_not_meet
        the_same_outcome_twice_is_no_loss
    }
    feeds {
        entries_are_followed_in_the_order_of_their_pushes
        following_goes_on_where_it_was
        whatever_order_they_push_in_nothing_is_lost
        following_waits_and_wakes
        following_an_empty_feed_ends
        a_follower_that_is_dropped_disturbs_nobody
        two_incarnations_are_apart
        a_thousand_entries_at_a_time
    }
}
