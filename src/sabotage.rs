//! Faults that tests switch on, to show that they would be noticed. They exist only with the
//! feature `sabotage`. Without it, as in every release, `is_on` is the constant `false`, and the
//! compiler removes the faults.

/// A fault that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A sender does not wake a sleeping receiver.
    LostWake,
    /// An event of an earlier connection is treated as one of the present connection in its slot.
    StaleGeneration,
    /// Recovery begins one publication too late.
    OffsetOffByOne,
    /// Publications that do not fit into the spill vanish without a gap notice.
    DropOnSpill,
    /// A shard that finds a gap tells no subscriber.
    SkippedGap,
    /// Missed publications of a subscriber of the envelope are requested but not delivered.
    ForgottenMissed,
    /// The response to a plain WebSocket upgrade is sent before the subscriptions have begun.
    EarlyUpgrade,
    /// A shard without subscribers of a channel does not leave it.
    LeakedInterest,
    /// Commands are carried out even if their client has not read its answers.
    UnboundReplies,
    /// The outbox of a socket without room may have as much as that of any other socket.
    PatientOutbox,
    /// Shared frames stay charged when no outbox contains them any more.
    ForgottenRelease,
    /// A shard returns more memory for outboxes than it has leased.
    LeaseTwiceGivenBack,
    /// A channel begins again in an epoch whose offsets have been used.
    RepeatedEpoch,
    /// Channels beyond the limit of the node are granted.
    UnboundedChannels,
    /// Idempotency keys beyond the limit of the node are stored.
    UnboundedKeys,
    /// A publication that is dropped stays charged.
    ForgottenCharge,
    /// Parsing a client's bytes panics.
    PanicInParse,
    /// A turn panics.
    PanicInTurn,
    /// One publication in 10,000 is not delivered.
    DroppedRead,
    /// Two consecutive publications of a channel are occasionally swapped.
    SwappedReads,
    /// Another server process behind the same address goes unnoticed.
    SkippedFence,
    /// The remaining entries of an ended epoch are not read.
    ForsakenEpoch,
    /// A hole in the numbers of a stream goes unnoticed.
    IgnoredHole,
    /// A publisher keeps its name after a batch with an unknown result.
    ReusedNumber,
    /// A batch that may be in the stream is accepted again when Redis has forgotten its publisher.
    ForgottenPublisher,
    /// A command is carried out before earlier publications of the client have their answers.
    OvertakingCommand,
    /// A publication is acknowledged before it is in the stream.
    EarlyAcknowledgement,
    /// Messages of Sentinels are ignored after the start.
    DeafToSentinels,
    /// The answers of a broadcast are in another order than its channels.
    SwappedAnswers,
    /// The replies of a batch are in another order than its commands.
    SwappedReplies,
    /// Entries of an ingest stream that can't be published are dropped instead of being set aside.
    LostLetter,
    /// The part of a durable history that Redis keeps is not found.
    SkippedOlder,
    /// A connection that has ended still counts for its subnet.
    LeakedSubnet,
    /// A send for which the kernel had no memory is not tried again.
    ForgottenRetry,
    /// Connections that lead to different servers go unnoticed.
    UnnoticedServers,
    /// The loss of channels' positions in Redis goes unnoticed.
    LostPlace,
    /// New channels have the same incarnation as forgotten ones.
    ReusedGeneration,
    /// The position that Redis predicts for a new channel is not the one with which it begins.
    FalseForetelling,
    /// A server that has lost entries after they were read goes unnoticed.
    IgnoredSetback,
    /// A reader that sees the same position twice does not report it.
    IgnoredRepeat,
    /// The positions of channels expire by the clock of Redis.
    ExpiringPlaces,
    /// A request waits for Redis without a limit.
    EndlessPatience,
    /// Each request of a client may wait for Redis for the full time, one after another.
    PatienceForEach,
}

#[cfg(feature = "sabotage")]
impl Fault {
    /// Returns the fault that the environment variable `CORECAST_FAULT` names, for tests of whole
    /// processes.
    pub fn from_environment() -> Option<Fault> {
        match std::env::var("CORECAST_FAULT").ok()?.as_str() {
            "panic_in_parse" => Some(Fault::PanicInParse),
            "panic_in_turn" => Some(Fault::PanicInTurn),
            "unbound_replies" => Some(Fault::UnboundReplies),
            "skipped_gap" => Some(Fault::SkippedGap),
            "forgotten_missed" => Some(Fault::ForgottenMissed),
            "dropped_read" => Some(Fault::DroppedRead),
            "swapped_reads" => Some(Fault::SwappedReads),
            "skipped_fence" => Some(Fault::SkippedFence),
            "ignored_hole" => Some(Fault::IgnoredHole),
            "reused_number" => Some(Fault::ReusedNumber),
            "early_acknowledgement" => Some(Fault::EarlyAcknowledgement),
            "unnoticed_servers" => Some(Fault::UnnoticedServers),
            "lost_place" => Some(Fault::LostPlace),
            "reused_generation" => Some(Fault::ReusedGeneration),
            "false_foretelling" => Some(Fault::FalseForetelling),
            "ignored_setback" => Some(Fault::IgnoredSetback),
            "ignored_repeat" => Some(Fault::IgnoredRepeat),
            "expiring_places" => Some(Fault::ExpiringPlaces),
            "deaf_to_sentinels" => Some(Fault::DeafToSentinels),
            "swapped_answers" => Some(Fault::SwappedAnswers),
            "swapped_replies" => Some(Fault::SwappedReplies),
            "lost_letter" => Some(Fault::LostLetter),
            "skipped_older" => Some(Fault::SkippedOlder),
            _ => None,
        }
    }
}

/// Whether a fault is switched on in this thread.
#[macro_export]
macro_rules! sabotage {
    ($fault:ident) => {
        $crate::sabotage::is_on($crate::sabotage::Fault::$fault)
    };
}

#[cfg(not(feature = "sabotage"))]
#[doc(hidden)]
#[inline]
pub const fn is_on(_fault: Fault) -> bool {
    false
}

#[cfg(feature = "sabotage")]
mod switch {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Switches a fault on in this thread, or all faults off with `None`.
    pub fn switch_on(fault: Option<Fault>) {
        FAULT.with(|cell| cell.set(fault));
    }

    #[doc(hidden)]
    pub fn is_on(fault: Fault) -> bool {
        FAULT.with(Cell::get) == Some(fault)
    }
}

#[cfg(feature = "sabotage")]
pub use switch::{is_on, switch_on};
