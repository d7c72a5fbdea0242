//! Faults built in on purpose. With the feature `sabotage`, a test switches one of them on and
//! shows that it is caught; without it, which is how the server ships, the question is the constant
//! false and the fault is not there.

/// The faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A sender does not wake a sleeping receiver.
    LostWake,
    /// An event for a slot's last tenant is taken for its present one's.
    StaleGeneration,
    /// Recovery begins one publication too late.
    OffsetOffByOne,
    /// Publications that do not fit the spill vanish.
    DropOnSpill,
    /// A shard that finds a gap tells nobody.
    SkippedGap,
    /// What a subscriber of the envelope has missed is asked for and not handed over.
    ForgottenMissed,
    /// Plain WebSocket is upgraded before its channels are subscribed.
    EarlyUpgrade,
    /// A shard without subscribers stays interested.
    LeakedInterest,
    /// Commands are carried out however much waits for their client.
    UnboundReplies,
    /// Shared frames stay charged when no outbox holds them any more.
    ForgottenRelease,
    /// A shard gives back more memory for outboxes than it had leased.
    LeaseTwiceGivenBack,
    /// A channel begins again in the epoch in which its offsets have been used.
    RepeatedEpoch,
    /// Channels beyond the node's bound are granted.
    UnboundedChannels,
    /// A publication that is dropped stays charged.
    ForgottenCharge,
    /// Parsing a client's bytes panics.
    PanicInParse,
    /// A turn panics.
    PanicInTurn,
    /// One publication in 10,000 is not delivered.
    DroppedRead,
    /// Two publications that follow each other in a channel change places now and then.
    SwappedReads,
    /// Another server process behind the same address goes unnoticed.
    SkippedFence,
    /// What an epoch had that is over is not read any more.
    ForsakenEpoch,
    /// A hole in the numbers of a stream goes unnoticed.
    IgnoredHole,
    /// A publisher goes on under its name after a batch whose fate is unknown.
    ReusedNumber,
    /// A batch that may have been taken is taken again where its publisher is not known any more.
    ForgottenPublisher,
    /// A command is carried out before the publications before it are answered.
    OvertakingCommand,
    /// A publication is acknowledged before it is in the stream.
    EarlyAcknowledgement,
    /// What Sentinels say after the start goes unheard.
    DeafToSentinels,
    /// The answers of a broadcast stand in another order than its channels.
    SwappedAnswers,
    /// What can't be published of an ingest stream is dropped.
    LostLetter,
    /// What Redis keeps of a durable history is not found.
    SkippedOlder,
    /// A connection that has ended still counts for its subnet.
    LeakedSubnet,
    /// A socket that the kernel had no memory for is not tried again.
    ForgottenRetry,
    /// Connections that lead to different servers go unnoticed.
    UnnoticedServers,
    /// The place of a channel that is lost goes unnoticed.
    LostPlace,
    /// Channels that begin anew have the incarnation of those that were forgotten.
    ReusedGeneration,
    /// Whoever has not been published to is foretold another place than it begins with.
    FalseForetelling,
    /// A server that has gone back behind what was read goes unnoticed.
    IgnoredSetback,
    /// A reader that sees a place given twice keeps it to itself.
    IgnoredRepeat,
    /// Where channels stand expires by the clock of Redis.
    ExpiringPlaces,
    /// Whoever asks for a channel waits for Redis as long as that takes.
    EndlessPatience,
    /// Each of a client's requests waits for Redis anew, one after another.
    PatienceForEach,
}

#[cfg(feature = "sabotage")]
impl Fault {
    /// The fault that the environment variable `CORECAST_FAULT` names, for whole processes.
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

    /// Switches one fault on in this thread, or all off.
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
