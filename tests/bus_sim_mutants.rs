//! Shows that the simulation of the bus notices errors: with each built-in fault it fails within a
//! bounded number of schedules, and without a fault it passes.
#![cfg(feature = "sabotage")]

#[path = "bus_sim/mod.rs"]
#[allow(dead_code, reason = "what shows a failure again is for the random schedules")]
mod bus_sim;
#[path = "sim/mod.rs"]
#[allow(dead_code, reason = "parts of it that are for single nodes")]
mod sim;
mod sabotaged;

use bus_sim::rested::{
    play_forgotten_publisher, play_generations, play_setback, play_unread_end, play_written_place,
};
use bus_sim::schedule::play;
use corecast::sabotage::Fault;
use sabotaged::{check_noticed, check_noticed_within, check_passes, check_passes_of};

#[test]
fn schedules_without_a_fault_pass() {
    check_passes(play);
}

#[test]
fn losses_while_everybody_rests_pass() {
    check_passes_of(100, play_written_place);
    check_passes_of(100, play_setback);
    check_passes_of(100, play_generations);
    check_passes_of(100, play_unread_end);
    check_passes_of(100, play_forgotten_publisher);
}

#[test]
fn a_place_that_is_lost_unnoticed_is_noticed() {
    check_noticed(play, Fault::LostPlace);
}

#[test]
fn a_generation_that_is_used_twice_is_noticed() {
    check_noticed(play_generations, Fault::ReusedGeneration);
}

#[test]
fn a_place_that_is_foretold_and_not_kept_is_noticed() {
    check_noticed(play, Fault::FalseForetelling);
}

#[test]
fn an_epoch_that_is_left_unread_is_noticed() {
    check_noticed(play_unread_end, Fault::ForsakenEpoch);
}

#[test]
fn a_batch_that_is_taken_again_without_its_publisher_is_noticed() {
    check_noticed(play_forgotten_publisher, Fault::ForgottenPublisher);
}

#[test]
fn a_server_that_went_back_unnoticed_is_noticed() {
    check_noticed(play_setback, Fault::IgnoredSetback);
}

#[test]
fn a_place_that_is_given_again_unnoticed_is_noticed() {
    check_noticed(play_written_place, Fault::IgnoredRepeat);
}

#[test]
fn a_publication_that_is_not_delivered_is_noticed() {
    check_noticed(play, Fault::DroppedRead);
}

#[test]
fn publications_that_change_places_are_noticed() {
    check_noticed(play, Fault::SwappedReads);
}

#[test]
fn another_server_that_goes_unnoticed_is_noticed() {
    check_noticed(play, Fault::SkippedFence);
}

#[test]
fn a_hole_that_goes_unnoticed_is_noticed() {
    check_noticed(play, Fault::IgnoredHole);
}

#[test]
fn a_number_that_is_used_twice_is_noticed() {
    check_noticed(play, Fault::ReusedNumber);
}

#[test]
fn an_acknowledgement_that_comes_too_early_is_noticed() {
    check_noticed(play, Fault::EarlyAcknowledgement);
}

#[test]
fn connections_that_lead_to_different_servers_are_noticed() {
    check_noticed(play, Fault::UnnoticedServers);
}

#[test]
fn a_subscribe_that_is_not_answered_in_time_is_noticed() {
    check_noticed(play, Fault::EndlessPatience);
}

#[test]
fn subscribes_that_wait_one_after_another_are_noticed() {
    check_noticed_within(20_000, play, Fault::PatienceForEach);
}

#[test]
fn a_command_that_overtakes_publications_is_noticed() {
    check_noticed(play, Fault::OvertakingCommand);
}
