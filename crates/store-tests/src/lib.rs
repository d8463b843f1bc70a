//! One exercise suite that every store must pass.
//!
//! A test is an `async fn(World)` whose name is the sentence that it proves. [`every_test!`] is the list of all; a backend
//! turns it into tests of its own with [`suite!`], or runs them in one go with [`exercise`]. A [`World`] is a fresh store
//! behind a clock that only the test moves, with the words that tests are written in.

#![expect(missing_docs, reason = "the name of a test is the sentence that it proves")]
#![expect(clippy::missing_panics_doc, clippy::missing_errors_doc, reason = "a test fails by a panic")]

mod build;
mod differential;
mod history;
mod world;

pub mod cancel;
pub mod caps;
pub mod catalog;
pub mod claim_order;
pub mod create;
pub mod damage;
pub mod feed;
pub mod fence;
pub mod idempotency;
pub mod keys;
pub mod limits;
pub mod lists;
pub mod loss;
pub mod lost_replies;
pub mod output;
pub mod recovery;
pub mod release;
pub mod replicas;
pub mod report;
pub mod retention;
pub mod salvage;
pub mod serial;
pub mod sessions;
pub mod subjects;

pub use differential::compare;
pub use history::{Step, play, steps};
pub use world::{Built, HERE, Harm, Session, TENANT, World};

/// Calls `$callback!` with `topic: test test …;` for every topic.
#[macro_export]
macro_rules! every_test {
    ([$($callback:tt)+]) => {
        $($callback)+! {
            cancel:
                a_waiting_run_ends_at_once
                a_leased_run_is_asked_to_end_and_its_worker_named
                a_second_cancel_changes_nothing_and_a_terminal_run_refuses
                in_cancelling_a_completion_wins
                in_cancelling_a_failure_or_a_loss_ends_cancelled
                cancelling_a_parent_cancels_the_whole_family
                a_family_of_thousands_is_cancelled;
            caps:
                max_running_holds_over_claims_and_frees_with_the_lease
                a_freed_cap_names_the_ready_classes_of_its_queue
                a_paused_queue_gives_nothing_until_it_is_resumed
                a_rate_holds_in_every_window_and_says_when_to_come_back
                the_cap_holds_for_runs_claimed_at_their_creation;
            catalog:
                a_class_keeps_its_number_and_makes_its_queue
                a_policy_is_replaced_and_read_back
                what_was_said_of_a_policy_is_told_apart_from_the_defaults
                a_fresh_store_has_a_generation_and_nothing_else
                counts_follow_every_state
                the_pulse_is_since_the_last_commit
                the_observed_clock_never_goes_back;
            claim_order:
                the_best_rank_goes_first_over_all_classes
                equal_ranks_go_in_order_of_creation
                a_claim_takes_no_more_than_asked_and_names_what_is_exhausted
                a_session_with_another_home_takes_nothing
                a_draining_left_or_closed_session_takes_nothing
                a_polling_request_is_answered_once
                a_run_created_with_a_claim_does_not_overtake_what_waits
                new_runs_of_one_request_go_in_its_order
                nothing_is_claimed_across_namespaces
                a_run_created_with_a_claim_is_leased_in_one_step
                a_lease_carries_input_options_checkpoint_and_resume_data;
            create:
                a_run_is_read_back_as_it_was_made
                a_run_for_later_is_scheduled_and_a_held_one_held
                a_batch_is_all_or_nothing
                a_parent_must_exist_in_the_namespace
                a_chosen_id_may_be_repeated_and_not_reused
                a_creation_names_the_classes_that_became_ready;
            feed:
                every_step_of_a_life_is_told_once_and_in_order
                a_loss_and_its_retry_are_told_in_one_transaction
                a_reader_resumes_after_any_event_whatever_its_page
                a_reader_misses_nothing_that_is_committed_meanwhile
                a_reader_at_the_head_gets_only_what_comes
                the_newest_are_read_without_the_rest
                a_place_whose_events_were_deleted_is_a_gap
                places_are_never_used_twice_though_all_is_deleted
                a_place_that_never_was_is_a_gap
                what_was_refused_is_not_told
                each_edge_of_a_session_is_told_once
                a_new_start_of_a_name_ends_the_old_one_and_a_late_verdict_tells_nothing
                a_collected_worker_is_told
                a_pause_is_told_when_it_is_new
                the_server_tells_of_itself
                tenants_are_told_apart;
            fence:
                every_claim_raises_the_epoch
                a_report_of_an_old_epoch_changes_nothing
                a_report_of_another_incarnation_changes_nothing
                a_report_of_another_namespace_finds_no_run
                a_report_for_an_unknown_run_does_not_stop_the_others;
            idempotency:
                the_same_key_and_body_give_the_same_runs
                the_same_key_with_another_body_is_refused
                where_nothing_new_is_admitted_repetitions_get_their_answer
                a_key_is_forgotten_after_a_day
                namespaces_do_not_share_keys;
            keys:
                a_taken_key_is_refused_and_its_owner_named
                a_taken_key_returns_its_owner
                a_replaced_waiting_run_ends_superseded
                a_replaced_leased_run_is_cancelled_and_the_new_one_waits_for_it
                a_replacement_of_a_replacement_waits_for_the_same_lease
                a_key_is_free_when_its_run_has_ended;
            limits:
                a_start_or_claim_that_took_too_long_is_a_loss_and_queued
                work_without_progress_costs_an_attempt_and_is_tried_again_until_it_timed_out
                an_attempt_that_ran_too_long_ends_its_run_and_its_worker_is_told
                the_row_keeps_when_an_attempt_began_and_when_it_last_said_something
                a_declared_interval_is_kept;
            lists:
                a_page_is_newest_first_and_continues_without_gaps
                each_filter_finds_exactly_its_runs
                ids_are_found_by_their_ends
                other_namespaces_are_never_seen
                open_leases_are_paged_in_order_of_workers
                who_is_first_in_line_is_found_without_the_rest
                held_runs_are_found_behind_any_number_of_others
                a_run_that_is_cancelling_says_since_when;
            loss:
                the_first_loss_queues_again_at_once_at_the_same_rank
                losses_in_a_row_wait_and_then_quarantine
                a_verdict_whose_guard_moved_changes_nothing
                a_verdict_names_leases_and_leaves_the_others
                a_verdict_that_ends_the_session_stops_its_claims
                a_free_loss_costs_no_budget
                losses_never_use_the_attempts;
            lost_replies:
                a_creation_whose_reply_was_lost_is_not_made_twice
                an_end_whose_reply_was_lost_is_answered_ok_again
                a_torn_write_left_nothing
                a_polling_claim_whose_reply_was_lost_is_given_again;
            output:
                frames_are_stored_once_and_in_order
                a_gap_is_told_and_changes_nothing
                every_attempt_starts_with_one_marker
                the_current_attempt_is_where_its_marker_is
                pages_of_any_size_join_to_the_same_log
                a_channel_is_filtered_and_markers_stay
                a_log_over_its_limit_keeps_head_and_tail;
            recovery:
                a_recovery_is_measured_from_loss_to_catching_up
                progress_counts_from_the_old_maximum_on
                a_second_loss_closes_the_first_recovery
                a_loss_that_ends_its_run_is_over_at_once
                a_recovery_outlives_its_run;
            release:
                a_held_run_is_queued_with_data_for_its_next_attempt
                a_run_that_does_not_wait_refuses
                a_release_that_is_repeated_with_its_key_ends_no_later_wait
                a_hand_back_may_wait_or_hold_and_costs_nothing
                resume_data_outlives_a_loss_and_goes_with_the_hand_back
                a_scheduled_run_is_queued_when_it_is_due
                held_and_queued_runs_expire
                only_a_terminal_run_is_deleted_and_nothing_of_it_stays;
            replicas:
                a_seat_is_the_same_replica_again_and_the_earlier_process_is_told
                what_a_replica_tells_is_read_by_the_others
                the_sessions_of_a_replica_that_is_gone_are_taken_over_with_what_they_hold
                a_replica_that_wrote_meanwhile_loses_nothing
                two_that_take_over_at_once_do_not_both_get_a_session
                a_session_that_goes_from_hand_to_hand_is_armed_anew_only_twice
                a_process_takes_its_own_seats_sessions_over_page_by_page
                what_is_at_home_where_no_replica_is_is_anyones_to_take_and_of_a_replica_only_its_own;
            report:
                a_success_ends_the_run_with_its_result
                a_repeated_end_gets_the_first_answer
                a_repeated_loss_gets_the_first_answer_and_is_counted_once
                an_end_whose_frames_are_missing_is_a_gap
                failures_use_attempts_and_the_last_one_ends_it
                a_checkpoint_reaches_the_next_attempt
                any_statement_implies_the_start
                a_normal_life_leaves_its_history
                many_in_one_batch_change_as_each_alone_would;
            retention:
                an_ended_run_goes_after_its_time_and_others_stay
                old_rows_that_wait_do_not_hold_up_the_ones_behind_them
                output_goes_before_its_run_and_leaves_a_gap
                the_audit_finds_nothing_to_repair
                the_audit_counts_what_changes_behind_it
                a_worker_is_collected_when_nothing_belongs_to_it;
            salvage:
                a_success_after_the_loss_is_accepted_while_the_run_waits
                a_success_after_a_new_claim_is_fenced
                a_success_is_fenced_when_its_serial_key_has_moved_on
                missing_frames_travel_with_a_salvaged_end;
            serial:
                runs_of_one_key_never_run_at_once
                the_next_in_rank_order_follows_when_the_lease_closes
                a_better_rank_replaces_an_unclaimed_head
                a_cancelled_head_makes_room
                the_key_stays_taken_while_its_run_is_cancelling
                a_lost_run_keeps_its_place_in_line
                namespaces_do_not_share_serial_keys;
            sessions:
                a_name_keeps_its_row_and_counts_its_starts
                the_same_process_resumes
                a_name_with_an_open_session_is_refused
                a_takeover_names_the_replaced_incarnation
                each_home_has_a_higher_number
                an_old_incarnation_opens_no_session
                a_sign_of_life_is_kept
                workers_are_paged_by_name;
            subjects:
                a_life_goes_from_idle_over_queued_and_working_to_idle
                a_change_is_told_in_the_transaction_of_its_transition
                a_loss_queues_its_subject_and_a_failure_with_a_retry_too
                a_run_that_ends_lost_leaves_its_reason
                held_and_scheduled_runs_count_as_queued
                a_cancelled_run_works_until_its_worker_has_stopped
                a_run_moves_all_of_its_subjects_and_each_once
                runs_at_the_same_time_are_counted
                a_run_that_is_claimed_at_its_creation_works_at_once
                namespaces_do_not_share_subjects
                few_active_runs_are_shown_and_all_are_counted
                a_subject_is_forgotten_with_its_last_run
                the_audit_of_sound_subjects_finds_nothing;
        }
    };
}

/// Makes a module for each topic and a test for each sentence, over stores that `$factory` builds.
#[macro_export]
macro_rules! suite {
    ($factory:path) => {
        use $factory as fresh_store;
        $crate::every_test! { [$crate::suite_topics] }
    };
}

/// The part of [`suite!`] that is called back.
#[macro_export]
macro_rules! suite_topics {
    ($($topic:ident: $($test:ident)*;)*) => {$(
        mod $topic {
            $(#[test]
            fn $test() {
                $crate::World::run(&super::fresh_store, $crate::$topic::$test);
            })*
        }
    )*};
}

/// Runs every test over stores that `factory` builds.
pub fn exercise(factory: &dyn Fn(std::sync::Arc<outlive_core::clock::SimClock>) -> Built) {
    macro_rules! all {
        ($($topic:ident: $($test:ident)*;)*) => { $($(World::run(factory, $topic::$test);)*)* };
    }
    every_test! { [all] }
}

/// Makes a test for each sentence of [`damage`], over stores that `$factory` builds with a way past them.
#[macro_export]
macro_rules! damage_suite {
    ($factory:path) => {
        $crate::damage_suite! { [$factory]
            what_is_due_goes_on_beside_a_row_that_cannot_be_read
            what_nobody_took_in_time_ends_beside_a_row_that_cannot_be_read
            a_claim_passes_over_a_ready_row_that_cannot_be_read
            leases_are_listed_without_one_that_cannot_be_read
            a_session_opens_with_what_can_be_read
            sessions_are_taken_over_with_what_can_be_read
            a_verdict_takes_what_can_be_read
            the_audit_counts_what_it_cannot_read_and_leaves_the_counts
            what_is_past_its_retention_goes_beside_a_row_that_cannot_be_read
            who_asks_for_it_is_told_and_others_of_the_batch_are_not
        }
    };
    ([$factory:path] $($test:ident)*) => {$(
        #[test]
        fn $test() {
            $crate::World::run_past(&$factory, $crate::damage::$test);
        }
    )*};
}
