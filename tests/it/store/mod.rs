//! The conformance suite of the durable store: one set of tests, run on every adapter.
//!
//! A test is a function of a [`world::World`]; `suite!` makes of it one test for each adapter, named after both. A
//! function that is not in the list below is dead code, which the lints refuse.

mod accounts;
mod audit;
mod audit_chain;
mod audit_tampering;
mod cancellation;
mod challenges;
mod families;
mod feed;
mod imports;
mod keys;
mod outbox;
mod passwords;
mod refresh;
mod refresh_races;
mod roles;
mod schema;
mod seals;
mod service_accounts;
mod sessions;
mod throttle;
mod trail;
mod user_admin;
mod world;

macro_rules! suite {
    ($($file:ident { $($test:ident)* })*) => {
        suite!(@adapter sqlite Sqlite $($($file $test)*)*);
        suite!(@adapter postgres Postgres $($($file $test)*)*);
        suite!(@adapter pgbouncer PgBouncer $($($file $test)*)*);
    };
    (@adapter $adapter:ident $backend:ident $($file:ident $test:ident)*) => {
        mod $adapter {
            $(
                #[test]
                fn $test() {
                    super::world::run(crate::support::Backend::$backend, super::$file::$test);
                }
            )*
        }
    };
}

suite! {
    accounts {
        an_account_is_found_again_as_it_was_created
        an_account_needs_neither_user_name_nor_roles
        get_user_lists_roles_in_order
        an_unknown_id_is_nobody
        create_user_reports_taken_email
        create_user_reports_taken_user_name
        of_50_creations_of_one_address_exactly_one_succeeds
        of_50_creations_of_one_user_name_exactly_one_succeeds
        concurrent_creations_of_different_accounts_all_succeed
        an_account_with_an_unknown_role_leaves_nothing_behind
        credentials_are_found_by_address_user_name_and_id
        credentials_say_that_an_account_is_suspended_or_has_no_password
        a_word_that_no_version_writes_is_a_corrupt_row_and_not_a_missing_one
    }
    audit {
        an_event_says_who_did_what_to_whom
        a_failed_sign_in_is_recorded_as_a_failure
        every_actor_has_a_word
        every_act_that_names_a_session_is_found_by_it
        who_was_deleted_by_an_older_version_is_listed
        the_whole_life_of_an_account_is_in_the_trail_once
        personal_data_is_sealed_under_the_key_of_its_owner
        an_event_without_personal_data_seals_none
        nothing_personal_is_kept_of_an_erased_user
        an_effect_whose_event_fails_does_not_happen
        whoever_listens_hears_of_events_once_they_are_committed
        failures_that_are_only_counted_write_no_row
    }
    trail {
        events_are_listed_by_every_condition
        what_is_personal_opens_while_its_key_is_there
        what_older_versions_sealed_opens_until_whoever_acted_is_gone
        whoever_follows_the_lanes_is_told_everything_once
    }
    audit_chain {
        a_trail_that_nobody_touched_is_sound
        every_change_of_a_row_is_found_at_its_place
        what_was_removed_inserted_or_moved_is_found
        a_row_that_was_made_illegible_hides_no_other
        nobody_without_the_key_writes_a_lane_anew
        a_lane_that_was_emptied_is_not_a_new_one
        a_lane_whose_base_is_called_its_head_is_not_whole
        a_lane_that_is_gone_is_missed
        a_checkpoint_finds_what_the_trail_alone_cannot
        a_check_goes_on_where_it_stopped
        imports_are_chained
        writers_at_once_leave_no_gap
        more_writers_than_lanes_all_get_one
        events_of_older_versions_are_taken_in
        no_trail_is_begun_with_another_key
        what_is_too_old_is_removed_from_the_beginning
        what_was_tampered_with_is_not_removed
        a_check_and_a_removal_at_once_find_nothing
        whoever_looks_at_the_trail_needs_no_clock
    }
    audit_tampering {
        a_row_behind_the_head_keeps_nobody_from_recording
        rows_at_any_height_keep_nobody_from_recording
        a_head_that_was_moved_keeps_nobody_from_recording
        half_a_place_blocks_nothing
        a_lane_that_cannot_be_read_goes_on
        without_a_lane_events_are_recorded_without_a_place
        a_gap_hides_nothing_behind_it
        what_a_checkpoint_names_is_compared_or_told
        what_was_removed_for_its_age_is_told_to_be_not_compared
    }
    cancellation {
        a_caller_who_goes_away_leaves_no_half_effect
        a_task_that_is_aborted_does_not_take_its_transaction_along
        a_closed_store_is_unavailable_and_not_empty
        closing_waits_for_what_is_under_way
    }
    challenges {
        of_50_wrong_answers_at_once_five_are_looked_at
        of_20_right_answers_at_once_one_begins_a_session
        nobody_s_challenge_has_no_right_answer
        a_challenge_is_answered_by_its_kind_and_its_user_alone
        no_session_begins_without_a_factor_that_came_meanwhile
        only_second_factors_give_way_to_newer_ones
        a_second_factor_gives_way_to_those_of_its_place_alone
        expired_challenges_are_forgotten
    }
    families {
        rows_are_read_as_a_refresh_would_find_them
        a_connection_that_was_held_and_has_ended_costs_no_reading
        a_user_s_new_epoch_ends_every_session_but_the_spared_one
        a_damaged_row_harms_no_other
        rows_go_forward_only
        of_writers_at_once_the_furthest_remains
    }
    feed {
        a_new_feed_is_empty
        fifty_revocations_at_once_get_the_numbers_1_to_50
        a_reader_never_sees_a_gap_below_the_head
        the_feed_is_read_page_by_page
        a_revocation_that_failed_leaves_no_number
        an_entry_lives_as_long_as_the_longest_access_token_and_a_margin
        purging_keeps_the_head_and_the_numbers
        an_access_token_is_revoked_once_by_however_many
        a_token_of_an_ended_session_is_revoked_already
        a_longer_life_of_tokens_prolongs_the_life_of_retired_keys
    }
    imports {
        imported_users_are_as_they_were_sent
        a_row_that_cannot_be_stored_does_not_hold_up_the_others
        rows_that_were_handled_are_passed_over
        of_streams_that_send_the_same_rows_at_once_one_stores_them
        a_rehearsal_says_what_would_happen_and_stores_nothing
        nobody_gives_by_import_what_they_do_not_hold
        an_import_belongs_to_whoever_began_it
        an_import_that_nobody_goes_on_with_is_forgotten
    }
    keys {
        the_first_signing_key_signs_at_once
        a_successor_is_published_one_lead_before_the_period_ends
        a_rotation_by_order_does_not_wait_until_it_is_due
        a_change_of_algorithm_is_due_at_once
        of_20_nodes_that_find_a_signing_key_due_one_publishes
        a_key_is_deleted_when_its_last_token_has_expired
        a_revoked_key_is_gone_and_another_signs_at_once
        a_revoked_key_gives_way_to_the_next_one
        a_revoked_successor_is_replaced_without_a_gap
        a_revoked_key_between_two_leaves_no_gap
        a_retired_key_can_be_revoked_and_an_unknown_one_cannot
        nothing_brings_a_revoked_key_back
        a_revoked_key_is_remembered_for_ever
        refresh_keys_are_numbered_and_sealed_for_their_number
        of_20_nodes_that_find_a_refresh_key_due_one_publishes
        twenty_orders_at_once_are_twenty_refresh_keys_with_consecutive_numbers
    }
    outbox {
        of_workers_at_once_each_message_has_one
        a_message_is_its_taker_s_until_the_lease_ends
        a_message_that_was_put_off_comes_when_it_is_due
        what_was_taken_and_not_tried_is_given_back
        a_clock_that_was_ahead_keeps_no_message_back
        what_was_never_tried_comes_before_what_failed
        any_number_of_expired_messages_is_deleted
        only_what_is_of_use_and_of_its_channel_is_taken
        a_message_that_was_given_up_is_kept_tried_again_or_dropped
    }
    passwords {
        a_password_change_ends_every_other_session
        a_password_change_with_an_old_epoch_changes_nothing
        a_password_change_from_a_session_that_is_not_alive_changes_nothing
        a_password_change_of_a_suspended_account_changes_nothing
        former_passwords_are_kept_up_to_the_number_that_is_asked_for
        a_password_change_forgets_the_devices_of_all_other_sessions
        of_20_password_changes_at_once_exactly_one_is_done
        a_sign_in_with_the_old_password_does_not_outlive_the_change
        the_spared_session_refreshes_through_a_password_change
        a_rehash_replaces_the_hash_and_nothing_else
    }
    refresh {
        the_current_generation_rotates
        a_lost_answer_is_given_again_bit_for_bit
        a_late_redelivery_counts_and_is_audited_once_per_generation
        late_at_three_generations_in_a_row_is_a_replay
        a_replay_ends_that_session_only
        an_overtaken_refresh_does_nothing
        a_newer_generation_than_the_row_knows_goes_on_and_is_audited
        a_session_that_never_was_is_unknown
        an_idle_session_expires_at_the_moment_the_policy_says
        a_busy_session_expires_in_the_end
        a_suspended_user_refreshes_nothing
        a_change_of_roles_is_in_the_next_refresh
        a_replay_that_nobody_waits_for_is_no_verdict
        the_hot_counter_counts_where_the_row_is_behind_it
    }
    refresh_races {
        fifty_callers_at_once_get_one_successor
        a_hundred_callers_at_once_get_one_successor
        of_50_replays_at_once_one_is_the_verdict
        of_50_late_redeliveries_at_once_one_counts
        nothing_is_granted_after_a_logout_was_acknowledged
        nothing_is_granted_after_a_password_change_was_acknowledged
    }
    roles {
        a_role_is_kept_as_it_was_created
        roles_are_listed_in_the_order_of_their_bytes
        nobody_gives_a_role_what_they_do_not_hold
        nobody_takes_from_a_role_what_they_do_not_hold
        a_token_s_limit_is_a_limit_here_too
        who_lacks_the_permission_or_is_suspended_changes_nothing
        the_built_in_role_stays_as_it_is
        a_change_of_what_a_role_allows_is_in_the_feed
        what_is_so_already_is_not_changed_again
        a_change_of_a_role_that_was_changed_meanwhile_is_refused
        a_role_that_was_made_again_is_another
        a_role_that_somebody_has_is_not_deleted
        of_20_changes_of_one_revision_exactly_one_is_made
        of_20_creations_of_one_role_exactly_one_succeeds
        a_role_is_given_or_deleted_and_never_both
        what_was_taken_from_a_role_its_holder_does_not_put_back
        a_scope_is_found_by_its_session
    }
    schema {
        a_database_without_schema_is_sent_to_migrate
        a_schema_for_newer_programs_asks_for_one
        a_newer_schema_that_this_program_can_read_is_welcome
        a_half_done_schema_is_sent_to_migrate_or_to_its_backup
        a_migration_in_another_form_is_refused
        migrating_again_changes_nothing
        nodes_that_migrate_at_once_do_it_once
        a_database_that_is_not_there_is_unavailable
    }
    seals {
        every_column_that_may_be_sealed_is_known
        every_place_that_is_sealed_for_is_known
        rows_are_sealed_anew_batch_by_batch
        once_a_row_is_sealed_anew_no_program_of_before_starts
        of_walks_at_once_each_row_is_sealed_anew_by_one
        a_row_that_was_changed_meanwhile_stays_as_it_is
        each_column_is_sealed_anew_for_its_own_rows
    }
    service_accounts {
        a_service_account_is_found_again_as_it_was_created
        service_accounts_are_listed_oldest_first_page_by_page
        a_service_is_known_by_a_secret_of_its_own_alone
        a_service_is_known_by_its_certificate
        a_spiffe_id_is_one_account_s
        a_rotated_secret_goes_on_for_as_long_as_asked_and_never_a_third
        a_rotation_without_grace_ends_secrets_and_tokens
        of_20_rotations_at_once_two_secrets_are_left
        a_change_of_roles_refuses_tokens_and_no_other_does
        a_deleted_service_account_leaves_no_way_in
        a_change_by_a_stale_revision_changes_nothing
        nobody_manages_more_than_they_hold
        of_20_creations_by_one_request_one_is_made
        a_service_token_is_revoked_once_by_however_many
    }
    sessions {
        a_session_begins_as_sign_in_fixed_it
        no_session_begins_for_whom_it_must_not
        the_trail_tells_which_sessions_there_were
        sessions_are_listed_newest_first_page_by_page
        only_live_sessions_are_listed
        an_expired_session_is_not_listed
        ending_a_session_revokes_its_tokens_once
        only_its_owner_ends_a_session_from_a_list
        of_20_ends_of_one_session_exactly_one_is_the_end
        ending_the_other_sessions_spares_one_and_the_password
        ending_the_other_sessions_from_one_that_is_not_alive_changes_nothing
        a_session_is_forgotten_after_its_end
        a_session_that_nobody_uses_is_forgotten_before_it_would_have_expired
        the_reason_of_an_end_is_kept
    }
    throttle {
        a_few_attempts_are_free_and_then_each_waits_longer
        at_the_cap_nothing_is_looked_at_until_it_is_forgotten_or_long_ago
        of_100_attempts_at_once_on_two_nodes_only_the_free_ones_are_let_through
        an_attempt_that_is_given_back_is_free_again
        what_is_counted_without_a_reservation_waits_too
        a_clock_set_back_gives_no_attempt_and_no_wait_of_years
        counters_that_are_over_are_deleted_and_no_others
        a_budget_is_spent_and_fills_again
        of_50_messages_at_once_on_two_nodes_the_burst_is_sent
        a_recipient_s_own_budget_shows_nowhere_else
        what_is_refused_is_not_spent
    }
    user_admin {
        whoever_lacks_the_permission_changes_nothing
        of_administrators_who_remove_each_other_one_remains
        a_creation_is_known_again_for_a_day
        roles_given_and_taken_at_once_end_no_session
    }
}
